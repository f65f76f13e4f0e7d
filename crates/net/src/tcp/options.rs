//! Limits of a TCP transport.

use std::time::Duration;

/// Limits of a [`TcpTransport`](super::TcpTransport).
///
/// | option | default |
/// | --- | --- |
/// | `cluster` | "" |
/// | `handshake_timeout` | 3 s, from the first step to the proof |
/// | `ping_interval` | 500 ms |
/// | `silence_timeout` | 2 s |
/// | `retry_min`, `retry_max` | 50 ms, 2 s |
/// | `message_bytes_max` | 64 MiB |
/// | `queue_bytes_max` | 32 MiB a lane and peer |
/// | `handshakes_max` | 64 |
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TcpOptions {
    /// The name of the cluster: nodes of another one are refused. For clusters that share a key.
    pub cluster: String,
    /// How long it may take to connect, or to prove the key.
    pub handshake_timeout: Duration,
    /// How often a connection is tried while nothing else is said.
    pub ping_interval: Duration,
    /// After so long without a word a connection is given up: the peer may be gone without a trace.
    pub silence_timeout: Duration,
    /// How long to wait before a connection is made again; doubled each time it fails, and each wait is cut short at random
    /// by up to half.
    pub retry_min: Duration,
    /// The longest of these waits.
    pub retry_max: Duration,
    /// The largest message, with all of its entries. It must be more than the largest batch.
    pub message_bytes_max: usize,
    /// How many bytes of messages may wait for each peer in each of the three lanes. A message that is alone may be larger.
    pub queue_bytes_max: usize,
    /// How many connections may be without a proof at once. With one more, the oldest ends.
    pub handshakes_max: usize,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            cluster: String::new(),
            handshake_timeout: Duration::from_secs(3),
            ping_interval: Duration::from_millis(500),
            silence_timeout: Duration::from_secs(2),
            retry_min: Duration::from_millis(50),
            retry_max: Duration::from_secs(2),
            message_bytes_max: 64 << 20,
            queue_bytes_max: 32 << 20,
            handshakes_max: 64,
        }
    }
}

impl TcpOptions {
    /// The longest name of a cluster.
    const CLUSTER_BYTES_MAX: usize = 255;

    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.cluster.len() > Self::CLUSTER_BYTES_MAX {
            return Err("the name of a cluster has at most 255 bytes");
        }
        let times = [self.handshake_timeout, self.ping_interval, self.retry_min];
        if times.iter().any(Duration::is_zero) {
            return Err("handshake_timeout, ping_interval and retry_min must not be zero");
        }
        if self.silence_timeout < self.ping_interval * 2 {
            return Err("silence_timeout must be at least twice ping_interval");
        }
        if self.retry_max < self.retry_min {
            return Err("retry_max must not be less than retry_min");
        }
        if u32::try_from(self.message_bytes_max).is_err() || self.message_bytes_max == 0 {
            return Err("message_bytes_max must be between 1 byte and 4 GiB");
        }
        if self.queue_bytes_max == 0 || self.handshakes_max == 0 {
            return Err("queue_bytes_max and handshakes_max must not be zero");
        }
        Ok(())
    }
}
