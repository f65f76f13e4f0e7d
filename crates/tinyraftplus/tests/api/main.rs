//! What users are promised of a node, call by call.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks at what it is about")]

mod calls;
mod common;
mod entries;
mod events;
mod machines;
mod options;
mod seed_node;
mod snapshots;
mod wire;
