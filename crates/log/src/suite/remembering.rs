//! What a node must never forget: its identity, its vote, its configuration.

use std::sync::Arc;

use tinyraftplus_core::{Configurations, Identity, Member, NodeId, QuorumRule, Seq, Term};

use super::{
    Make,
    case::{Case, append, hard, trim_to},
    model::entry,
};
use crate::{LogError, Reset, Write};

/// Terms never go down, and a vote is final within its term.
pub(super) fn hard_state_never_goes_back(make: &Make<'_>) {
    let mut case = Case::new(make);
    let store = |hard| Write { hard_state: Some(hard), ..Write::default() };
    case.one(store(hard(3, None)), "after term 3");
    case.one(store(hard(3, Some(7))), "after a vote in term 3");
    case.restart();
    for worse in [hard(2, None), hard(2, Some(7)), hard(3, None), hard(3, Some(8)), hard(0, None)] {
        case.refuses(
            &[store(worse)],
            &format!("WrongTerm for {worse:?} after a vote in term 3"),
            |error| matches!(error, LogError::WrongTerm { .. }),
        );
    }
    case.one(store(hard(3, Some(7))), "after the same vote again");
    case.one(store(hard(4, Some(u128::MAX))), "after a vote in term 4");
    case.add(["a", "b"], "after entries that follow a vote");
    case.keep(None, "after all entries were trimmed");
    case.restart();
    case.one(
        Write {
            reset: Some(Reset { start: Seq::new(9), before: Term::new(2) }),
            ..Write::default()
        },
        "after a reset",
    );
    case.restart();
    let within = [store(hard(5, None)), store(hard(6, Some(1))), append(vec![entry(9, 6, "x")])];
    case.group(&within, "after two terms in one group");
    case.restart();
    case.refuses(
        &[store(hard(8, Some(2))), store(hard(7, None))],
        "WrongTerm for a group whose second term is lower",
        |error| matches!(error, LogError::WrongTerm { .. }),
    );
    case.one(store(hard(u64::MAX, Some(1))), "after the last term there is");
    case.restart();
}

pub(super) fn a_configuration_is_kept(make: &Make<'_>) {
    let mut case = Case::new(make);
    let some = |count: u64| {
        let members = (1..=count)
            .map(|n| Member::voter(NodeId::from(n), Identity::new(u128::from(n) << 64 | 5)))
            .collect();
        let configuration = Configurations::found(members, QuorumRule::Majority, Seq::ZERO);
        Some(Arc::new(configuration.expect("these members fit together")))
    };
    let store = |count| Write { configuration: some(count), ..Write::default() };
    case.one(store(1), "after a configuration of one member, in an empty log");
    case.restart();
    case.one(
        Write { hard_state: Some(hard(1, Some(3))), append: vec![entry(0, 1, "a")], ..store(15) },
        "after a configuration of 15 members with a vote and an entry",
    );
    case.add(["b"], "after an entry that follows a configuration");
    case.restart();
    case.keep(None, "after all entries were trimmed");
    case.restart();
    let reset = Some(Reset { start: Seq::new(7), before: Term::new(1) });
    case.one(Write { reset, ..store(3) }, "after a reset with a configuration");
    case.one(Write { reset, ..Write::default() }, "after a reset without one");
    case.restart();
    case.group(&[store(4), trim_to(7), store(5)], "after two configurations in one group");
    case.restart();
    case.refuses(
        &[store(2), append(vec![entry(3, 1, "x")])],
        "WrongSeq for a group with a configuration",
        |error| matches!(error, LogError::WrongSeq { .. }),
    );
    case.restart();
}

/// Two logs are never taken for each other.
pub(super) fn an_identity_is_kept(make: &Make<'_>) {
    let mut case = Case::new(make);
    let other = Case::new(make);
    assert!(
        case.identity() != other.identity(),
        "expected two logs to have different identities, found {} twice",
        case.identity()
    );
    case.restart();
    case.add(["a"], "after an entry");
    case.keep(None, "after a trim");
    case.restart();
}
