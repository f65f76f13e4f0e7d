//! Clusters of cores, driven by hand: every message, write and deadline happens when a test says so.
//!
//! One binary, so that the harness is compiled once:
//!
//! * `harness`: nodes with disks, letters between them, and what is checked after every step;
//! * `random`: seeded runs of everything that can go wrong, then healing and progress;
//! * `paper`: the Raft paper and the thesis, sentence by sentence;
//! * `scripts`: the golden scripts in `tests/scripts`;
//! * the rest: the named scenarios, by the part of the protocol that they attack.

#[cfg(test)]
mod check;
#[cfg(test)]
mod elections;
#[cfg(test)]
mod flow;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod membership;
#[cfg(test)]
mod newcomers;
#[cfg(test)]
mod paper;
#[cfg(test)]
mod priorities;
#[cfg(test)]
mod random;
#[cfg(test)]
mod reads;
#[cfg(test)]
mod replication;
#[cfg(test)]
mod scripts;
#[cfg(test)]
mod show;
#[cfg(test)]
mod snapshots;
#[cfg(test)]
mod space;
#[cfg(test)]
mod steering;
#[cfg(test)]
mod strangers;
#[cfg(test)]
mod transfers;
#[cfg(test)]
mod usurpers;
