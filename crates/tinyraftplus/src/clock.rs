//! The clock, and the driver's one alarm.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tinyraftplus_core::Time;
use tokio::time::{Instant, Sleep};

/// Turns the clock into the replica's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Time {
        Time::ZERO + self.0.elapsed()
    }

    /// When that was: a time that has passed.
    pub(crate) fn past(self, time: Time) -> Instant {
        self.0.checked_add(time.since(Time::ZERO)).unwrap_or(self.0)
    }

    fn instant(self, time: Time) -> Instant {
        // Past the end of the clock is as good as never; a day is often enough to look.
        let after = time.since(Time::ZERO).min(self.0.elapsed() + Duration::from_hours(24));
        self.0 + after
    }
}

/// Wakes the driver. A deadline that moves away is not followed until the alarm goes off: most deadlines move away all
/// the time, and to set an alarm costs more than one that goes off in vain every millisecond.
pub(crate) struct Alarm {
    clock: Clock,
    sleep: Pin<Box<Sleep>>,
    at: Time,
}

impl Alarm {
    pub(crate) fn new(clock: Clock) -> Self {
        let sleep = Box::pin(tokio::time::sleep_until(clock.0));
        Self { clock, sleep, at: Time::ZERO }
    }

    /// Ready once that time has come.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>, time: Time) -> Poll<()> {
        if time < self.at {
            self.set(time);
        }
        while self.sleep.as_mut().poll(context).is_ready() {
            if self.clock.now() >= time {
                return Poll::Ready(());
            }
            self.set(time);
        }
        Poll::Pending
    }

    fn set(&mut self, time: Time) {
        self.at = time;
        self.sleep.as_mut().reset(self.clock.instant(time));
    }
}
