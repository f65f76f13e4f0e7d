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
