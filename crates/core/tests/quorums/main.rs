//! Quorum rules: what they refuse, what they survive, and that the check is right about all of it.

#[cfg(test)]
mod agreed;
#[cfg(test)]
mod dumb;
#[cfg(test)]
mod given;
#[cfg(test)]
mod proof;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod tables;
#[cfg(test)]
mod words;
