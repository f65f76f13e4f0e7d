//! What the `tinyraftplus` binary can do that its tests and the fuzz targets call, too. Not a library for
//! anybody else: it changes as the binary does.
#![forbid(unsafe_code)]

pub mod import_js;
