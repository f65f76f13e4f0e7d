//! How long calls take, and what is appended.

use bytes::Bytes;
use hdrhistogram::Histogram;
use std::time::Duration;

/// Percentiles that are shown.
pub(crate) const QUANTILES: [(&str, f64); 5] =
    [("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99), ("p999_us", 0.999), ("max_us", 1.0)];

pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}

pub(crate) fn record(latency: &mut Histogram<u64>, took: Duration) {
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    // The histogram grows with what it is given, up to half of all numbers there are: 292 years.
    let _ = latency.record(nanos);
}

/// In microseconds.
pub(crate) fn quantiles(latency: &Histogram<u64>) -> [f64; 5] {
    QUANTILES.map(|(_, quantile)| {
        Duration::from_nanos(latency.value_at_quantile(quantile)).as_secs_f64() * 1e6
    })
}

/// Bytes that no disk compresses away.
pub(crate) fn payload(len: usize) -> Bytes {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(len)
    .collect()
}
