//! What a run did, in numbers: a simulator that does nothing finds nothing.

use std::ops::AddAssign;

/// What a number counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Work: events, messages, calls.
    Work,
    /// A kind of fault. All of them must happen in a thousand seeds.
    Fault,
    /// Something that a node, a client or a log comes to only by faults or bad luck. All of them must happen in
    /// a thousand seeds.
    Transition,
}

/// A number of [`Counts`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Count {
    /// What it counts, in words.
    pub name: &'static str,
    /// What kind of thing that is.
    pub kind: Kind,
    /// How often that was.
    pub value: u64,
}

macro_rules! counts {
    ($($kind:ident { $($(#[$doc:meta])* $field:ident: $label:literal,)* })*) => {
        /// What happened in a run, or in many.
        #[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
        pub struct Counts {
            $($($(#[$doc])* pub $field: u64,)*)*
        }

        impl Counts {
            /// Each number with its name.
            pub fn list(&self) -> Vec<Count> {
                vec![$($(Count { name: $label, kind: Kind::$kind, value: self.$field },)*)*]
            }
        }

        impl AddAssign for Counts {
            fn add_assign(&mut self, other: Self) {
                $($(self.$field += other.$field;)*)*
            }
        }
    };
}

impl Counts {
    /// The faults and transitions that never happened.
    pub fn unreached(&self) -> Vec<&'static str> {
        let never = |count: &Count| count.kind != Kind::Work && count.value == 0;
        self.list().into_iter().filter(never).map(|count| count.name).collect()
    }

    /// Whether that ever happened.
    pub(crate) fn reached(&self, name: &str) -> bool {
        self.list().iter().any(|count| count.name == name && count.value > 0)
    }

    /// Whether any fault happened at all.
    pub fn saw_a_fault(&self) -> bool {
        self.list().iter().any(|count| count.kind == Kind::Fault && count.value > 0)
    }
}

counts! {
    Work {
        /// Events.
        steps: "steps",
        /// Simulated time, in milliseconds.
        millis: "simulated milliseconds",
        /// Entries committed.
        committed: "entries committed",
        /// Entries committed before the faults ended.
        committed_safety: "entries committed under faults",
        /// Terms with a leader.
        leaders: "leaders elected",
        /// Appends made.
        appends: "appends",
        /// Appends acknowledged.
        acknowledged: "appends acknowledged",
        /// Appends refused.
        refused: "appends refused",
        /// Appends with an unknown outcome.
        unknown: "appends unknown",
        /// Appends whose node died first.
        lost: "appends lost with their node",
        /// Reads made.
        reads: "reads",
        /// Reads answered.
        reads_answered: "reads answered",
        /// Starts, the first ones included.
        starts: "starts",
        /// Groups written.
        groups: "groups written",
        /// Writes in them.
        writes: "writes",
        /// Messages sent.
        sent: "messages sent",
    }
    Fault {
        /// Two sides that could not talk.
        splits: "partitions with two sides",
        /// Partitions between members that come and members that go.
        split_changes: "partitions in the middle of a change",
        /// Links of which one direction was cut.
        one_way_cuts: "one-way partitions",
        /// Leaders cut off from everybody.
        isolated_leaders: "leaders cut off",
        /// Leaders that heard nobody.
        deaf_leaders: "leaders that hear nobody",
        /// Leaders whom nobody heard.
        mute_leaders: "leaders that nobody hears",
        /// Links that held everything back.
        clogs: "clogged links",
        /// Messages lost.
        dropped: "messages dropped",
        /// Messages that arrived twice.
        duplicated: "messages duplicated",
        /// Messages that took long.
        delayed: "messages delayed",
        /// Messages that overtook an earlier one on the same link.
        reordered: "messages reordered",
        /// Processes that stood still for a while.
        pauses: "pauses",
        /// Processes killed.
        kills: "processes killed",
        /// Power losses.
        power_losses: "power losses",
        /// Leaders that died.
        dead_leaders: "leaders that die",
        /// All nodes lost power at once.
        blackouts: "blackouts",
        /// Proper restarts.
        restarts: "proper restarts",
        /// Nodes that died while a group was being written.
        crashed_writing: "crashes in a write",
        /// Nodes that died while they opened their log.
        crashed_opening: "crashes in recovery",
        /// Nodes that died just when something about a snapshot was done.
        crashed_keeping: "crashes about a snapshot",
        /// Snapshots that could not be written, read or received.
        snapshot_failures: "failures about a snapshot",
        /// Sectors that a power loss took back.
        sectors_lost: "sectors lost",
        /// Syncs that failed.
        sync_failures: "sync failures",
        /// Reads of the log that failed.
        read_failures: "reads of a log that fail",
        /// Writes refused for lack of space.
        full: "writes refused by a full disk",
        /// Writes reported as stalled.
        stalls: "stalls reported",
        /// Reads of a log that took very long.
        slow_reads: "reads of a log that take very long",
        /// Disks lost.
        wipes: "disks wiped",
        /// Wishes for other members or rules.
        change_orders: "changes of members asked for",
        /// Wishes that another node leads.
        hand_overs: "orders to hand over",
        /// Wishes that a node does not lead.
        step_downs: "orders to step down",
        /// Wishes that a node campaigns.
        campaign_orders: "orders to campaign",
        /// Wishes that a node sits still.
        sit_stills: "orders to sit still",
        /// Appends whose beginning came first.
        alive: "appends whose beginning comes first",
        /// Nodes whose clock runs fast or slow.
        drifting: "clocks that run fast or slow",
        /// Nodes that are slower than others.
        slow_nodes: "slow machines",
    }
    Transition {
        /// Clusters that formed.
        formed: "clusters formed",
        /// Rounds of asking whether an election could be won.
        pre_campaigns: "pre-vote campaigns",
        /// Pre-votes refused.
        pre_votes_refused: "pre-votes refused",
        /// Elections that a node stood for.
        campaigns: "campaigns",
        /// .. and won.
        won: "elections won",
        /// .. and another node won, or a newer term came.
        election_lost: "elections lost to another",
        /// .. and nobody won in time.
        undecided: "elections without a winner",
        /// Votes refused.
        votes_refused: "votes refused",
        /// Leaders that learned of a newer term.
        deposed: "leaders deposed by a newer term",
        /// Leaders that gave up because too few answered.
        abandoned: "leaders without a quorum",
        /// Leaders that gave up because their disk had stalled.
        yielded: "leaders that yield for a slow disk",
        /// Candidates that found a leader.
        joined: "candidates that follow another",
        /// Appends that did not fit the follower's log.
        misfits: "appends that do not fit",
        /// Appends of a term that was over.
        outdated: "appends of a past term",
        /// Appends that were sent again.
        repeated: "appends repeated",
        /// Suffixes that were cut off because they contradicted the leader's log.
        conflicts: "conflicting suffixes cut",
        /// Entries of earlier terms that were committed by one of the leader's own.
        inherited: "entries of earlier terms committed",
        /// Leaders that committed what was not yet on their own disk.
        ahead_of_disk: "commits ahead of the leader's disk",
        /// Batches looked for in a log, for a peer that lags behind.
        looked_up: "entries read from the log for a peer",
        /// Entries read from a log for the state machine.
        replayed: "entries read from the log for the state machine",
        /// Groups of several writes.
        grouped: "groups of several writes",
        /// Groups that recovery cut off.
        torn: "torn groups cut by recovery",
        /// Terms and votes that were found only in what was cut.
        rescued: "votes rescued from a torn group",
        /// Segments that logs began.
        segments: "segments begun",
        /// Batches of several entries acknowledged.
        batches: "batches acknowledged",
        /// Appends acknowledged by a node that does not lead.
        through_follower: "appends acknowledged by a follower",
        /// Calls forwarded again.
        forwards_repeated: "forwarded calls repeated",
        /// Questions about forwarded calls.
        inquiries: "inquiries about forwarded calls",
        /// Answers that a forwarded call is surely not in a log.
        absent: "forwarded calls found absent",
        /// Answers that nobody knows what became of a forwarded call.
        forgotten: "forwarded calls forgotten",
        /// Calls that could not go to the next leader any more.
        overtaken: "appends overtaken",
        /// Calls refused because too much was under way.
        busy: "calls refused as busy",
        /// Calls refused because there was no leader.
        leaderless: "calls refused without a leader",
        /// Calls refused at their deadline.
        late: "calls refused at their deadline",
        /// Calls ended because their node stopped.
        stopped: "calls ended by a stop",
        /// Reads that the leader answered.
        read_on_leader: "reads confirmed on the leader",
        /// Reads that another node answered, which had asked the leader.
        read_on_follower: "reads confirmed on a follower",
        /// Reads that asked nobody.
        read_locally: "reads answered locally",
        /// Questions to the leader that were asked again.
        reads_repeated: "reads asked again",
        /// Wishes for other members that came true.
        changes_done: "changes of members done",
        /// .. that did not, for the leader could not, or would not.
        changes_refused: "changes of members refused",
        /// .. of which nobody knows what became.
        changes_unknown: "changes of members unknown",
        /// .. that came while another of the same node was under way.
        changes_one_by_one: "changes of members refused beside another",
        /// .. that a node was asked for which is no member.
        asked_strangers: "changes of members asked of a removed node",
        /// Joint configurations committed.
        joints: "joint configurations committed",
        /// .. and left.
        joints_left: "joint configurations left",
        /// .. and left by another leader than the one that entered it.
        left_by_another: "joint configurations left by another leader",
        /// Configurations that were cut off before they were committed.
        changes_cut: "configurations taken back",
        /// Leaders elected while their configuration was joint.
        won_joint: "elections won between two memberships",
        /// Reads that a leader answered while its configuration was joint.
        read_joint: "reads confirmed between two memberships",
        /// Members added to stay.
        members_added: "members added",
        /// Learners that became voters.
        promoted: "learners promoted",
        /// Voters that became learners.
        demoted: "voters that become learners",
        /// Members removed.
        members_removed: "members removed",
        /// Leaders that were no voters any more when their change was over.
        leaders_removed: "leaders removed",
        /// Members that got another label.
        relabelled: "members with another label",
        /// Changes of the rules.
        rules_changed: "changes of rules",
        /// .. to rules of the user's own.
        custom_rules: "changes to custom rules",
        /// Members bound to a new log in place of one that was lost.
        readmitted: "wiped nodes readmitted",
        /// .. several at once.
        readmitted_at_once: "several wiped nodes readmitted at once",
        /// Founders that were absent and are bound to their logs.
        absent_bound: "absent founders bound",
        /// Nodes that learned that they are no members any more.
        told_removed: "nodes told that they were removed",
        /// Transfers that a leader began.
        transfers: "transfers begun",
        /// .. and the other leads.
        transferred: "transfers that succeed",
        /// .. and it does not.
        not_transferred: "transfers that fail",
        /// Reads that a leader answered while it held a lease.
        leased: "reads answered by a lease",
        /// Reads that a leader with leases answered after asking, because its lease was in doubt.
        in_doubt: "reads confirmed while a lease is in doubt",
        /// Snapshots of a state machine.
        snapshots: "snapshots taken",
        /// Logs that began anew after one of another node.
        installed: "snapshots installed",
        /// State machines restored, by those and at starts.
        restored: "state machines restored",
        /// Snapshots received in part, and then gone on with.
        resumed: "transfers of a snapshot resumed",
        /// Times that old entries were dropped.
        compactions: "logs compacted",
        /// Peers to which a snapshot was offered.
        offered: "snapshots offered",
        /// Clients whose entry may lie under a snapshot.
        under_snapshot: "appends unknown under a snapshot",
        /// Nodes that came back with an empty disk, and were told so.
        recognised: "wiped nodes recognised",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happened_is_named() {
        let mut counts = Counts::default();
        assert!(!counts.saw_a_fault());
        counts.steps += 1;
        let faults = counts.list().iter().filter(|count| count.kind == Kind::Fault).count();
        let all = counts.unreached().len();
        counts.kills += 1;
        counts += counts;
        assert_eq!((counts.kills, counts.unreached().len()), (2, all - 1));
        assert!(counts.saw_a_fault() && faults > 20);
        assert!(!counts.unreached().contains(&"steps"), "work is not something to be reached");
    }
}
