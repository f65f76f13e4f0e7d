//! A call that has its place.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    LogError,
    shared::{
        clock::AlarmKey,
        core::{Core, Deadline},
        event::{Outcome, Place},
    },
};

/// A call on a [`SharedLog`](crate::SharedLog): it has its place among all calls. A future, and
/// [`Pending::wait`] for callers that block.
///
/// Nothing is written before somebody polls, waits for or drops this call or one beside it. So
/// `log.append(payload).wait()` writes on its caller's own thread if the log is idle. Dropping a call does
/// not undo it.
///
/// ```
/// use tinyraftplus_log::{LogOptions, MemLog, SharedLog};
///
/// let log = SharedLog::new(MemLog::new(LogOptions::default())?);
/// let (first, second) = (log.append("a"), log.append("b"));
/// assert_eq!(second.wait()?.get(), 1);
/// assert_eq!(first.wait()?.get(), 0);
/// # Ok::<(), tinyraftplus_log::LogError>(())
/// ```
#[must_use = "an append is done when this resolves"]
pub struct Pending<T> {
    core: Arc<Core>,
    stage: Stage,
    finish: fn(&Arc<Core>, Outcome) -> T,
}

enum Stage {
    /// It waits to be told.
    Placed { place: Place, deadline: Option<Deadline>, alarm: Option<AlarmKey> },
    /// It is known already.
    Known(Result<Outcome, LogError>),
    /// The result was given.
    Over,
}

impl<T> Pending<T> {
    pub(crate) fn new(
        core: &Arc<Core>,
        place: Result<Place, LogError>,
        deadline: Option<Deadline>,
        finish: fn(&Arc<Core>, Outcome) -> T,
    ) -> Self {
        let stage = match place {
            Ok(place) => Stage::Placed { place, deadline, alarm: None },
            Err(error) => Stage::Known(Err(error)),
        };
        Self { core: Arc::clone(core), stage, finish }
    }

    pub(crate) fn known(
        core: &Arc<Core>,
        result: Result<Outcome, LogError>,
        finish: fn(&Arc<Core>, Outcome) -> T,
    ) -> Self {
        Self { core: Arc::clone(core), stage: Stage::Known(result), finish }
    }

    /// Waits until the call is done. Not for async code: it blocks the thread, or uses it to write.
    ///
    /// # Errors
    ///
    /// As the call says.
    pub fn wait(mut self) -> Result<T, LogError> {
        let result = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Placed { place, deadline, alarm } => {
                self.core.clock.cancel(alarm);
                self.core.wait(&place, deadline)
            }
            Stage::Known(result) => result,
            Stage::Over => Err(LogError::Closed),
        };
        result.map(|outcome| (self.finish)(&self.core, outcome))
    }
}

/// After its result it stays pending.
impl<T> Future for Pending<T> {
    type Output = Result<T, LogError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let result = match &mut this.stage {
            Stage::Placed { place, deadline, alarm } => {
                let Some(result) = this.core.poll(place, context.waker()) else {
                    if let (None, Some(deadline)) = (&alarm, *deadline) {
                        *alarm = this.core.set_alarm(place, deadline);
                    }
                    return Poll::Pending;
                };
                this.core.clock.cancel(alarm.take());
                result
            }
            Stage::Known(_) => match std::mem::replace(&mut this.stage, Stage::Over) {
                Stage::Known(result) => result,
                Stage::Placed { .. } | Stage::Over => return Poll::Pending,
            },
            Stage::Over => return Poll::Pending,
        };
        this.stage = Stage::Over;
        Poll::Ready(result.map(|outcome| (this.finish)(&this.core, outcome)))
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Placed { place, alarm, .. } => {
                self.core.clock.cancel(alarm);
                self.core.give_up(&place);
            }
            Stage::Known(_) | Stage::Over => {}
        }
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.stage {
            Stage::Placed { .. } => "Pending(waiting)",
            Stage::Known(_) => "Pending(known)",
            Stage::Over => "Pending(over)",
        })
    }
}
