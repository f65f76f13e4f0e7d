//! Figure 2 of the Raft paper, and what of Ongaro's thesis is built here, a test for each sentence.
//!
//! Each test says in our words which sentence it is about and where that stands, and which protection, when
//! removed, makes it fail. Where this implementation departs from the paper, the test shows what it does
//! instead, and says why the paper's rule follows from it.
//!
//! Figure 2: `state`, `append_entries`, `request_vote`, `servers` (rules for all, followers and candidates) and
//! `leaders`. Thesis: `pre_vote` (9.6), `check_quorum` (6.2, 4.2.3), `read_index` (6.4; paper, section 8),
//! `joint` (4; paper, section 6), `transfer` (3.10).
//! What needs a state machine is in `crates/replica/tests/paper.rs`.

mod append_entries;
mod check_quorum;
mod joint;
mod leaders;
mod pre_vote;
mod read_index;
mod request_vote;
mod servers;
mod state;
mod transfer;

use crate::harness::{Cluster, Letter, id};
use std::time::Duration;
use tinyraftplus_core::{Entry, EntryId, MessageBody, Role, Seq, Term};

const fn at(term: u64, seq: u64) -> EntryId {
    EntryId::new(Term::new(term), Seq::new(seq))
}

const fn vote(last: Option<EntryId>) -> MessageBody<String> {
    MessageBody::Vote { last, transfer: false }
}

fn append(
    prev: Option<EntryId>,
    entries: Vec<Entry<String>>,
    committed: u64,
) -> MessageBody<String> {
    MessageBody::Append { prev, entries, committed: Seq::new(committed), round: 0 }
}

fn heartbeat(prev: Option<EntryId>, committed: u64) -> MessageBody<String> {
    append(prev, Vec::new(), committed)
}

const fn accepted(matched: u64) -> MessageBody<String> {
    crate::harness::accepted(Seq::new(matched), 0)
}

/// The log of a node, durable or not.
fn log(cluster: &Cluster, node: u64) -> Vec<EntryId> {
    cluster.node(id(node)).view.entries.iter().map(|entry| entry.id).collect()
}

/// All writes of a node reach its disk.
fn write_all(cluster: &mut Cluster, node: u64) {
    while cluster.persist(id(node)) {}
}

/// What a node has sent, which never arrives.
fn said(cluster: &mut Cluster, node: u64) -> Vec<Letter> {
    cluster.take_sent_by(id(node)).into()
}

/// What a node has sent to another; nothing that it has sent arrives.
fn said_to(cluster: &mut Cluster, node: u64, to: u64) -> Vec<MessageBody<String>> {
    let letters = said(cluster, node).into_iter().filter(|letter| letter.to == id(to));
    letters.map(|letter| letter.message.body).collect()
}

/// The entries in what a node has sent to another, message by message, with the entry before them.
fn appends_to(cluster: &mut Cluster, node: u64, to: u64) -> Vec<(Option<EntryId>, Vec<EntryId>)> {
    let bodies = said_to(cluster, node, to).into_iter();
    let append = |body| {
        let MessageBody::Append { prev, entries, .. } = body else {
            return None;
        };
        Some((prev, entries.iter().map(|entry| entry.id).collect()))
    };
    bodies.filter_map(append).collect()
}

fn pass(cluster: &mut Cluster, millis: u64) {
    cluster.now = cluster.now + Duration::from_millis(millis);
}

/// Lets a node wait until it asks for votes, and all others say that they would vote for it. Now it is a
/// candidate of the next term, and its vote for itself is on its way to its disk.
fn stand(cluster: &mut Cluster, node: u64) {
    cluster.wake(id(node));
    cluster.flying.clear();
    would_vote(cluster, node);
    assert_eq!(cluster.core(id(node)).role(), Role::Candidate);
}

/// All others say that they would vote for a node that asked.
fn would_vote(cluster: &mut Cluster, node: u64) {
    let next = cluster.core(id(node)).term().get() + 1;
    for other in others(cluster, node) {
        let granted = MessageBody::PreVoteReply { granted: true };
        cluster.inject(id(other), id(node), next, granted);
    }
    assert_eq!(cluster.core(id(node)).term().get(), next);
}

/// Makes a node a leader that has written its first entry; what it has sent is still on its way.
fn win(cluster: &mut Cluster, node: u64) {
    stand(cluster, node);
    write_all(cluster, node);
    cluster.flying.clear();
    let term = cluster.core(id(node)).term().get();
    for other in others(cluster, node) {
        let granted = MessageBody::VoteReply { granted: true };
        cluster.inject(id(other), id(node), term, granted);
    }
    assert_eq!(cluster.core(id(node)).role(), Role::Leader);
    write_all(cluster, node);
}

fn others(cluster: &Cluster, node: u64) -> Vec<u64> {
    (1..=cluster.nodes.len() as u64).filter(|&other| other != node).collect()
}
