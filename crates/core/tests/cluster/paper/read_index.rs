//! Thesis, section 6.4, and Raft section 8: reads without an entry of their own.
//!
//! Steps 4 and 5, the waiting for the state machine and the answer, are in `crates/replica/tests/paper.rs`.

use super::{accepted, at, said, vote, win, write_all};
use crate::harness::{Cluster, id};
use tinyraftplus_core::{EntryBody, Input, MessageBody, Resolution, Role, Seq, Term, Ticket};

fn answer(cluster: &Cluster, read: Ticket) -> Option<u64> {
    match cluster.answer(read) {
        Some(Resolution::ReadAt { end }) => Some(end.get()),
        None | Some(_) => None,
    }
}

const fn answered(round: u64) -> MessageBody<String> {
    MessageBody::Accepted {
        matched: Seq::ZERO,
        round,
        priority: 0,
        promise: std::time::Duration::ZERO,
    }
}

/// Rounds in what the leader has sent, which is thrown away.
fn rounds(cluster: &mut Cluster) -> Vec<u64> {
    let sent = said(cluster, 1).into_iter();
    sent.map(|letter| {
        let MessageBody::Append { round, .. } = letter.message.body else {
            panic!("{letter:?}");
        };
        round
    })
    .collect()
}

/// Raft section 8 and thesis 6.4: each leader begins his term with an entry without content, and commits it, and with
/// it everything before. Fails if `lead` appends nothing.
#[test]
fn a_term_begins_with_an_entry_without_content() {
    let mut cluster = Cluster::formed(3);
    cluster.preset_log(id(1), &[1, 1]);
    cluster.preset_log(id(2), &[1, 1]);
    win(&mut cluster, 1);
    let entries = &cluster.node(id(1)).view.entries;
    assert_eq!((entries[2].id, &entries[2].body), (at(2, 2), &EntryBody::Noop));
    cluster.settle();
    assert_eq!(cluster.core(id(1)).committed(), Seq::new(3));
}

/// Thesis 6.4, step 1: a leader that has committed nothing in his term waits with reads until he has: before, he does
/// not know what his predecessors have committed. Fails if `confirm_reads` does not look at the term.
#[test]
fn step_1_waits_for_a_commit_of_this_term() {
    let mut cluster = Cluster::formed(3);
    cluster.preset_log(id(1), &[1, 1]);
    win(&mut cluster, 1);
    cluster.flying.clear();
    let read = cluster.read(id(1));
    assert_eq!(rounds(&mut cluster), [], "not even begun");
    cluster.inject(id(2), id(1), 2, accepted(2));
    assert_eq!(rounds(&mut cluster), [], "term 1 is on a majority, and not committed by that");
    cluster.inject(id(2), id(1), 2, accepted(3));
    cluster.flying.clear();
    cluster.inject(id(2), id(1), 2, answered(1));
    assert_eq!(answer(&cluster, read), Some(3));
}

/// Thesis 6.4, step 2: what is committed when the round begins is what the read must see: no less than when it was
/// asked for, and no more is waited for. Fails if `confirm_reads` takes the commit at the round's end, or the log's
/// end.
#[test]
fn step_2_remembers_the_commit_index() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.propose(id(1), &["a"]);
    let read = cluster.read(id(1));
    cluster.flying.clear();
    cluster.persist(id(1));
    cluster.inject(id(3), id(1), 1, accepted(2));
    assert_eq!(cluster.core(id(1)).committed(), Seq::new(2));
    cluster.inject(id(2), id(1), 1, answered(1));
    assert_eq!(answer(&cluster, read), Some(1));
    let next = cluster.read(id(1));
    cluster.inject(id(2), id(1), 1, answered(2));
    assert_eq!(answer(&cluster, next), Some(2));
}

/// Thesis 6.4, step 3: a new round of heartbeats goes out, and a majority, he himself among them, must answer that one.
/// An answer to any message that left before the read came may be older than another leader. A departure: the round
/// is a number in each append, so entries that leave after the read are as good as heartbeats, and refusals as good
/// as acknowledgements: both come from who takes him for the leader of this term. Fails if `read` begins no round, or
/// `confirm_reads` does not compare rounds, or asks for fewer.
#[test]
fn step_3_asks_a_majority_once_more() {
    let mut cluster = Cluster::formed(5);
    cluster.elect(id(1));
    cluster.settle();
    let read = cluster.read(id(1));
    assert_eq!(rounds(&mut cluster), [1, 1, 1, 1], "to everybody, at once");
    for (from, round) in [(2, 0), (3, 0), (4, 0), (5, 0), (2, 1), (2, 1)] {
        cluster.inject(id(from), id(1), 1, answered(round));
        assert_eq!(cluster.answer(read), None);
    }
    let no = MessageBody::Rejected { prev: Some(at(1, 7)), hint: None, round: 1 };
    cluster.inject(id(4), id(1), 1, no);
    assert_eq!(answer(&cluster, read), Some(1));
    // Entries carry the round too.
    let read = cluster.read(id(1));
    cluster.flying.clear();
    cluster.propose(id(1), &["a"]);
    cluster.deliver_all(id(1), id(2));
    cluster.deliver_all(id(1), id(3));
    for node in 2..=3 {
        write_all(&mut cluster, node);
        cluster.deliver_all(id(node), id(1));
    }
    assert_eq!(answer(&cluster, read), Some(1));
}

/// Thesis 6.4, step 3: who has been succeeded gets no majority, and the read is refused when he learns of it. Fails if
/// `step_down` drops the reads.
#[test]
fn step_3_fails_where_there_is_another_leader() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    cluster.partition(&[&[2, 3]]);
    cluster.elect(id(2));
    cluster.propose(id(2), &["a"]);
    cluster.settle();
    let read = cluster.read(id(1));
    cluster.heal();
    assert_eq!(cluster.core(id(1)).role(), Role::Leader, "as far as it knows");
    assert!(cluster.until(50, |cluster| cluster.answer(read).is_some()));
    assert!(matches!(cluster.answer(read), Some(Resolution::Refused(_))));
}

/// Thesis 6.4: a lone server is a majority of itself, and reads at once. Fails if `read` waits for somebody.
#[test]
fn step_3_needs_nobody_where_nobody_else_is() {
    let mut cluster = Cluster::formed(1);
    cluster.elect(id(1));
    let read = cluster.read(id(1));
    assert_eq!(answer(&cluster, read), Some(1));
}

/// Thesis 6.4: one round of heartbeats serves all reads that have piled up: those that come while one is under way
/// share the next. Fails if each read begins a round, or joins the one that began before it.
#[test]
fn reads_that_pile_up_share_a_round() {
    let mut cluster = Cluster::formed(3);
    cluster.elect(id(1));
    let first = cluster.read(id(1));
    let more: Vec<_> = (0..100).map(|_| cluster.read(id(1))).collect();
    assert_eq!(rounds(&mut cluster), [1, 1]);
    cluster.inject(id(2), id(1), 1, answered(1));
    assert_eq!(answer(&cluster, first), Some(1));
    assert!(more.iter().all(|&read| cluster.answer(read).is_none()), "they came after round 1");
    assert_eq!(rounds(&mut cluster), [2, 2]);
    cluster.inject(id(2), id(1), 1, answered(2));
    assert!(more.iter().all(|&read| answer(&cluster, read) == Some(1)));
}

/// Thesis 6.4: what confirms a read is never an answer from another term, although rounds begin anew in each. Fails if
/// `peer` does not compare the term.
#[test]
fn an_answer_of_another_term_confirms_nothing() {
    let mut cluster = Cluster::formed(3);
    for term in [1, 3] {
        win(&mut cluster, 1);
        cluster.settle();
        for _ in 0..2 {
            cluster.read(id(1));
            cluster.settle();
        }
        assert_eq!(cluster.core(id(1)).term(), Term::new(term));
        if term == 1 {
            cluster.inject(id(3), id(1), 2, vote(None));
            write_all(&mut cluster, 1);
            cluster.flying.clear();
        }
    }
    let read = cluster.read(id(1));
    cluster.flying.clear();
    cluster.inject(id(2), id(1), 1, answered(3));
    cluster.step(id(1), Input::Wake);
    assert_eq!(cluster.answer(read), None);
    cluster.inject(id(2), id(1), 3, answered(3));
    assert!(cluster.answer(read).is_some());
}
