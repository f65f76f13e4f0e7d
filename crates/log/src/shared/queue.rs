//! The calls that wait, in the order in which they came, cut into the groups that will be written.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use tinyraftplus_core::Seq;

use crate::{
    LogError, Write,
    num::u64_of,
    shared::event::{Event, Place},
};

/// What a call costs beside its payloads: in a group on disk, and here.
const CALL_BYTES: u64 = 1 << 10;
/// What an entry costs beside its payload.
const ENTRY_BYTES: u64 = 32;

/// What a call wants.
#[derive(Debug)]
pub(crate) enum What {
    /// Add an entry, if it comes here.
    Append { at: Option<Seq>, payload: Bytes },
    /// Add entries, all or none, if they come here.
    Batch { at: Option<Seq>, payloads: Vec<Bytes> },
    /// Keep the entries up to here.
    Trim(Option<Seq>),
    /// Drop the entries before here.
    Compact(Seq),
    /// Write what a transaction did.
    Commit(Box<Write>),
    /// Begin a transaction.
    Txn,
    /// Close the log.
    Close,
}

/// A call that waits.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) index: usize,
    pub(crate) what: What,
}

/// Calls that are written together.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) event: Arc<Event>,
    pub(crate) calls: Vec<Call>,
    bytes: u64,
}

/// The calls that wait.
///
/// Invariant: no group is empty, and a call that begins a transaction or closes the log is alone in its own.
#[derive(Debug)]
pub(crate) struct Queue {
    groups: VecDeque<Group>,
    /// What all of them cost.
    bytes: u64,
    bytes_max: u64,
    group_bytes_max: u64,
}

impl What {
    /// How many bytes of payload, and how many entries.
    fn size(&self) -> (u64, u64) {
        match self {
            Self::Append { payload, .. } => (u64_of(payload.len()), 1),
            Self::Batch { payloads, .. } => {
                (payloads.iter().map(|payload| u64_of(payload.len())).sum(), u64_of(payloads.len()))
            }
            Self::Commit(write) => (
                write.append.iter().map(|entry| u64_of(entry.payload.len())).sum(),
                u64_of(write.append.len()),
            ),
            Self::Trim(_) | Self::Compact(_) | Self::Txn | Self::Close => (0, 0),
        }
    }

    /// What it takes in a group, as [`crate::Log::group_bytes_max`] counts it, and in the queue.
    pub(crate) fn bytes(&self) -> u64 {
        let (bytes, entries) = self.size();
        group_bytes(bytes, entries)
    }

    const fn is_alone(&self) -> bool {
        match self {
            Self::Txn | Self::Close => true,
            Self::Append { .. }
            | Self::Batch { .. }
            | Self::Trim(_)
            | Self::Compact(_)
            | Self::Commit(_) => false,
        }
    }
}

/// What one write with these payloads takes in a group.
pub(crate) const fn group_bytes(bytes: u64, entries: u64) -> u64 {
    bytes.saturating_add(entries.saturating_mul(ENTRY_BYTES)).saturating_add(CALL_BYTES)
}

impl Group {
    fn new(event: Arc<Event>) -> Self {
        Self { event, calls: Vec::new(), bytes: 0 }
    }

    fn is_alone(&self) -> bool {
        self.calls.iter().any(|call| call.what.is_alone())
    }

    /// Whether it is a transaction that waits.
    pub(crate) fn is_txn(&self) -> bool {
        self.calls.iter().any(|call| matches!(call.what, What::Txn))
    }

    pub(crate) fn is_close(&self) -> bool {
        self.calls.iter().any(|call| matches!(call.what, What::Close))
    }

    fn has_room(&self, bytes: u64, bytes_max: u64) -> bool {
        !self.is_alone() && self.bytes.saturating_add(bytes) <= bytes_max
    }
}

impl Queue {
    pub(crate) const fn new(bytes_max: u64, group_bytes_max: u64) -> Self {
        Self { groups: VecDeque::new(), bytes: 0, bytes_max, group_bytes_max }
    }

    /// A call takes its place: behind all others, or before them if it ends the transaction for which they
    /// wait.
    ///
    /// One call is taken however large it is, if no other waits: its size was judged before.
    pub(crate) fn push(&mut self, what: What) -> Result<Place, LogError> {
        let bytes = what.bytes();
        let is_first = matches!(what, What::Commit(_));
        if self.bytes.saturating_add(bytes) > self.bytes_max
            && !self.groups.is_empty()
            && !is_first
            && !matches!(what, What::Close)
        {
            return Err(LogError::Busy { queued: self.bytes, limit: self.bytes_max });
        }
        let neighbour = if is_first { self.groups.front() } else { self.groups.back() };
        let joins = !what.is_alone()
            && neighbour.is_some_and(|group| group.has_room(bytes, self.group_bytes_max));
        if !joins {
            let group = Group::new(Arc::default());
            if is_first { self.groups.push_front(group) } else { self.groups.push_back(group) }
        }
        let group = if is_first { self.groups.front_mut() } else { self.groups.back_mut() };
        let group = group.expect("one was there or was made");
        let index = group.event.told().open();
        let at = if is_first { 0 } else { group.calls.len() };
        group.calls.insert(at, Call { index, what });
        group.bytes = group.bytes.saturating_add(bytes);
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(Place { event: Arc::clone(&group.event), index })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// How many calls the next group has, if others may still join it; none if there is no group.
    pub(crate) fn joinable(&self) -> Option<usize> {
        match self.groups.front() {
            None => Some(0),
            Some(group) if self.groups.len() == 1 && !group.is_alone() => Some(group.calls.len()),
            Some(_) => None,
        }
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter()
    }

    pub(crate) fn pop(&mut self) -> Option<Group> {
        let group = self.groups.pop_front()?;
        self.bytes = self.bytes.saturating_sub(group.bytes);
        Some(group)
    }

    /// The next group, if it is a transaction.
    pub(crate) fn pop_txn(&mut self) -> Option<Group> {
        if self.groups.front()?.is_txn() { self.pop() } else { None }
    }

    /// Takes a call out, if it still waits. Closing can't be taken back.
    pub(crate) fn remove(&mut self, place: &Place) -> bool {
        let found = self.groups.iter().enumerate().find_map(|(at, group)| {
            let here = Arc::ptr_eq(&group.event, &place.event) && !group.is_close();
            let call = group.calls.iter().position(|call| call.index == place.index)?;
            here.then_some((at, call))
        });
        let Some((at, call)) = found else { return false };
        let Some(group) = self.groups.get_mut(at) else { return false };
        let bytes = group.calls.remove(call).what.bytes();
        group.bytes = group.bytes.saturating_sub(bytes);
        self.bytes = self.bytes.saturating_sub(bytes);
        if group.calls.is_empty() {
            self.groups.remove(at);
        }
        true
    }
}
