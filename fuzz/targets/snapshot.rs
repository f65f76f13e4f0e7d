#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tinyraftplus_fuzz::snapshot(bytes));
