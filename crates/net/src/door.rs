//! Connections that have not proved anything yet: few of them, and none for long.

use std::collections::VecDeque;

use tokio::task::{AbortHandle, JoinSet};

/// So many at once. With one more the oldest is put out, so that whoever opens connections and says nothing keeps nobody
/// out who proves what he is at once.
pub(crate) struct Door {
    waiting: JoinSet<()>,
    order: VecDeque<AbortHandle>,
    count_max: usize,
}

impl Door {
    pub(crate) fn new(count_max: usize) -> Self {
        Self { waiting: JoinSet::new(), order: VecDeque::new(), count_max }
    }

    /// Runs this until it ends by itself or is the oldest of too many.
    pub(crate) fn open(&mut self, greet: impl Future<Output = ()> + Send + 'static) {
        while self.waiting.try_join_next().is_some() {}
        self.order.retain(|greeting| !greeting.is_finished());
        while self.order.len() >= self.count_max {
            if let Some(oldest) = self.order.pop_front() {
                oldest.abort();
            }
        }
        self.order.push_back(self.waiting.spawn(greet));
    }
}
