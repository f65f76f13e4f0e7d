//! A switchboard for the nodes of one process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{Inbox, Message, NodeId, Transport};

/// Joins nodes of one process. Clones are the same switchboard.
///
/// Links can be cut and healed, for demonstrations and tests.
#[derive(Clone, Default)]
pub struct InProcess {
    board: Arc<Board>,
}

#[derive(Default)]
struct Board {
    lines: RwLock<Lines>,
    endpoints: AtomicU64,
    delivered: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Lines {
    /// Each with the number of the endpoint that attached it.
    inboxes: BTreeMap<NodeId, (u64, Arc<dyn Inbox>)>,
    /// From, to.
    cut: BTreeSet<(NodeId, NodeId)>,
}

impl InProcess {
    /// A switchboard without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The transport of one node. Of several nodes of one name the one that was opened last gets the messages.
    pub fn endpoint(&self, id: NodeId) -> Endpoint {
        let number = self.board.endpoints.fetch_add(1, Ordering::Relaxed);
        Endpoint { id, number, board: Arc::clone(&self.board) }
    }

    /// Drops everything between two nodes from now on, in both directions.
    pub fn cut(&self, a: NodeId, b: NodeId) {
        self.board.write().cut.extend([(a, b), (b, a)]);
    }

    /// Delivers between two nodes again.
    pub fn heal(&self, a: NodeId, b: NodeId) {
        let mut lines = self.board.write();
        lines.cut.remove(&(a, b));
        lines.cut.remove(&(b, a));
    }

    /// Delivers between all nodes again.
    pub fn heal_all(&self) {
        self.board.write().cut.clear();
    }

    /// How many messages were delivered.
    pub fn delivered(&self) -> u64 {
        self.board.delivered.load(Ordering::Relaxed)
    }

    /// How many messages were dropped: the link was cut, or the receiver absent or full.
    pub fn dropped(&self) -> u64 {
        self.board.dropped.load(Ordering::Relaxed)
    }
}

impl Board {
    // A panic elsewhere leaves nothing half done in here.
    fn read(&self) -> RwLockReadGuard<'_, Lines> {
        self.lines.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Lines> {
        self.lines.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One node's place at the switchboard.
pub struct Endpoint {
    id: NodeId,
    number: u64,
    board: Arc<Board>,
}

impl Transport for Endpoint {
    fn send(&self, to: NodeId, message: Message) {
        let inbox = {
            let lines = self.board.read();
            let inbox = lines.inboxes.get(&to).filter(|_| !lines.cut.contains(&(self.id, to)));
            inbox.map(|(_, inbox)| Arc::clone(inbox))
        };
        let is_delivered = inbox.is_some_and(|inbox| inbox.deliver(self.id, message));
        let count = if is_delivered { &self.board.delivered } else { &self.board.dropped };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn attach(&self, inbox: Arc<dyn Inbox>) {
        let before = self.board.write().inboxes.insert(self.id, (self.number, inbox));
        // Not under the lock: what it drops with it is not ours.
        drop(before);
    }

    fn detach(&self) {
        let mut lines = self.board.write();
        // Another node of this name may have taken the place: it must not go deaf.
        let is_own = lines.inboxes.get(&self.id).is_some_and(|(number, _)| *number == self.number);
        let inbox = if is_own { lines.inboxes.remove(&self.id) } else { None };
        drop(lines);
        drop(inbox);
    }
}

/// A node that ended without closing leaves nothing behind either.
impl Drop for Endpoint {
    fn drop(&mut self) {
        self.detach();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use tinyraftplus_replica::ReadIndex;

    /// Keeps what it is given, up to a limit.
    struct Kept(Mutex<Vec<(NodeId, u64)>>, usize);

    impl Inbox for Kept {
        fn deliver(&self, from: NodeId, message: Message) -> bool {
            let mut kept = self.0.lock().unwrap();
            let has_room = kept.len() < self.1;
            if let (true, Message::ReadIndex(index)) = (has_room, message) {
                kept.push((from, index.number));
            }
            has_room
        }

        fn id(&self) -> NodeId {
            NodeId::from(2)
        }
    }

    fn message(number: u64) -> Message {
        let from = tinyraftplus_core::Identity::new(1);
        Message::ReadIndex(ReadIndex { from, incarnation: 1, number })
    }

    #[test]
    fn what_is_cut_absent_or_full_is_dropped_and_counted() {
        let (a, b) = (NodeId::from(1), NodeId::from(2));
        let net = InProcess::new();
        let (from, to) = (net.endpoint(a), net.endpoint(b));
        from.send(b, message(1));
        let inbox = Arc::new(Kept(Mutex::new(Vec::new()), 2));
        to.attach(Arc::clone(&inbox) as Arc<dyn Inbox>);
        from.send(b, message(2));
        net.cut(b, a);
        from.send(b, message(3));
        net.heal(a, b);
        from.send(b, message(4));
        from.send(b, message(5));
        assert_eq!(*inbox.0.lock().unwrap(), [(a, 2), (a, 4)]);
        to.detach();
        from.send(b, message(6));
        assert_eq!((net.delivered(), net.dropped()), (2, 4));
    }
    /// A node is opened while an old one of its name is still closing. Fails if `detach` takes away whatever
    /// is there, or `drop` does nothing.
    #[test]
    fn closing_an_old_node_does_not_detach_the_new_one() {
        let (a, b) = (NodeId::from(1), NodeId::from(2));
        let net = InProcess::new();
        let (from, old, new) = (net.endpoint(a), net.endpoint(b), net.endpoint(b));
        let inbox = Arc::new(Kept(Mutex::new(Vec::new()), 9));
        old.attach(Arc::clone(&inbox) as Arc<dyn Inbox>);
        new.attach(Arc::clone(&inbox) as Arc<dyn Inbox>);
        old.detach();
        drop(old);
        from.send(b, message(1));
        assert_eq!(*inbox.0.lock().unwrap(), [(a, 1)]);
        drop(new);
        from.send(b, message(2));
        assert_eq!((Arc::strong_count(&inbox), net.dropped()), (1, 1));
    }
}
