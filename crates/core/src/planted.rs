//! Bugs on purpose, so that the simulator can be tested: a checker that never finds anything is worth nothing.
//!
//! They exist only in a build with `--cfg planted` (see `docs/testing.md`); in any other, [`is`] is constant
//! and nothing of them is left.

macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident: $name:literal,)*) => {
        /// A protection that can be taken away.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[non_exhaustive]
        pub enum Bug {
            $($(#[$doc])* $bug,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$bug,)*];

            /// What it is called on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$bug => $name,)* }
            }
        }
    };
}

bugs! {
    /// A vote is not stored: after a restart the node may vote again in the same term.
    ForgetVote: "forget-vote",
    /// An entry of an earlier term is committed by counting its copies (Raft section 5.4.2).
    CommitOldTerm: "commit-old-term",
    /// A follower acknowledges entries before they are durable.
    AckBeforeSync: "ack-before-sync",
    /// One vote less than a quorum is enough.
    ShortQuorum: "short-quorum",
    /// A conflicting suffix is kept when the leader's entries are written.
    KeepConflict: "keep-conflict",
    /// A read is served without asking whether this node still leads.
    UnconfirmedRead: "unconfirmed-read",
    /// A read joins the round of questions that is under way, which began before it.
    JoinRound: "join-round",
    /// A leader serves reads before an entry of its own term is committed.
    ReadBeforeOwnCommit: "read-before-own-commit",
    /// An answer to an append of an older term counts in the present one.
    StaleReply: "stale-reply",
    /// A vote is forgotten when the leader changes, not when the term does.
    ClearVote: "clear-vote",
    /// A vote is granted to a candidate whose log lacks entries.
    VoteForAnyLog: "vote-for-any-log",
    /// A new term is not stored.
    ForgetTerm: "forget-term",
    /// A node that lost its disk takes part under its name.
    TrustWiped: "trust-wiped",
    /// A late copy of an append cuts off what came after its entries.
    TruncateLate: "truncate-late",
    /// A follower commits all that the leader has, as far as its own log goes, proven equal or not.
    CommitPastVerified: "commit-past-verified",
    /// What is durable does not look at trims under way.
    AckAfterTrim: "ack-after-trim",
    /// Acknowledgements that wait for the disk survive a change of the term.
    StaleAcknowledgement: "stale-acknowledgement",
    /// Entries are applied before they are durable here.
    ApplyPastDurable: "apply-past-durable",
    /// A batch is cut in two where a message would be too large.
    SplitBatch: "split-batch",
    /// A node whose pre-vote is refused does not learn of a newer term.
    DeafPreVote: "deaf-pre-vote",
    /// A message is filled with whatever entries lie at its positions by now.
    FillBlindly: "fill-blindly",
    /// A leader accepts a forwarded call again that the network delivers twice.
    ForwardTwice: "forward-twice",
    /// A leader says that a forwarded call is absent which it has only not seen yet.
    AbsentTooEarly: "absent-too-early",
    /// A call that a leader may have forgotten goes to the next one.
    RetryUnknown: "retry-unknown",
    /// A call whose time is up is said to have had no effect, wherever it is.
    RefuseSent: "refuse-sent",
    /// A call goes to a newer leader although a later one went there before.
    Overtake: "overtake",
    /// A read is answered before what it must see is applied.
    ServeEarly: "serve-early",
    /// While one membership replaces another, only a quorum of the new one commits.
    CommitInNewHalf: "commit-in-new-half",
    /// While one membership replaces another, only a quorum of the new one elects.
    ElectInNewHalf: "elect-in-new-half",
    /// While one membership replaces another, a read is confirmed in the new one only.
    ConfirmInNewHalf: "confirm-in-new-half",
    /// A leader changes members before an entry of its own term is committed (Ongaro 2015).
    ChangeBeforeOwnCommit: "change-before-own-commit",
    /// The next configuration does not wait until the one before is committed.
    OverlapChanges: "overlap-changes",
    /// Learners count in quorums.
    CountLearners: "count-learners",
    /// A name is bound to another log without a joint configuration.
    BindAtOnce: "bind-at-once",
    /// A leader that is no voter any more counts itself in place of one.
    CountRemovedLeader: "count-removed-leader",
    /// A trim does not bring the configuration before it back.
    KeepConfiguration: "keep-configuration",
    /// A joint configuration is never left.
    StayJoint: "stay-joint",
    /// A node that lost its disk gets no place any more.
    ForgetNewcomers: "forget-newcomers",
    /// A leader that is no voter any more leads on.
    LeadUnnamed: "lead-unnamed",
    /// A lease is counted from when the answer came, as if clocks were perfect.
    LongLease: "long-lease",
    /// A lease is used on although a successor was told to campaign.
    LeaseInTransfer: "lease-in-transfer",
    /// A node votes although it has promised a leader not to.
    BreakPromise: "break-promise",
    /// A node that restarts does not wait until what it may have promised is over.
    ForgetPromise: "forget-promise",
    /// A wish to campaign counts in whatever term it arrives.
    LateTimeoutNow: "late-timeout-now",
    /// A node that was told to sit still campaigns.
    CampaignPaused: "campaign-paused",
    /// A leader never hands over to a voter of a higher priority.
    IgnorePriority: "ignore-priority",
    /// A log that begins after a snapshot keeps the members that it knew before.
    KeepMembers: "keep-members",
    /// A snapshot counts when half of it has come.
    InstallHalf: "install-half",
    /// Entries go that a member needs and that no snapshot stands for.
    CompactTooFar: "compact-too-far",
    /// A snapshot goes on with the chunks of another.
    ResumeAnother: "resume-another",
}

#[cfg(planted)]
static ACTIVE: core::sync::atomic::AtomicU8 = core::sync::atomic::AtomicU8::new(u8::MAX);

/// Takes that protection away, in the whole process, from now on; `None` gives all of them back.
#[cfg(planted)]
pub fn plant(bug: Option<Bug>) {
    ACTIVE.store(bug.map_or(u8::MAX, |bug| bug as u8), core::sync::atomic::Ordering::SeqCst);
}

/// Whether that protection was taken away.
#[cfg(planted)]
pub fn is(bug: Bug) -> bool {
    ACTIVE.load(core::sync::atomic::Ordering::Relaxed) == bug as u8
}

/// Whether that protection was taken away: never, in this build.
#[cfg(not(planted))]
pub const fn is(_bug: Bug) -> bool {
    false
}
