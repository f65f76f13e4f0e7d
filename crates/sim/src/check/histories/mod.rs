//! Histories known to be good or bad: the checks must tell them apart, or all their silence means nothing. Each
//! check has at least one that it must not like, beside one that is all but the same and must pass.

mod calls;
mod cluster;
mod logs;
mod members;
mod worlds;
