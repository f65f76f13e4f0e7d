//! Which files there are, as the process sees it and as it would be found after a power failure.
//!
//! What was done since the directory was last synced is remembered in order. Each of these happened or not when
//! the power fails, but none without what it builds on: of `a` renamed to `b` and then to `c`, one name is left
//! and never two; and a name that was taken from one file and given to another always is one of the two.

use std::collections::{BTreeMap, BTreeSet};

use super::Doubt;

#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    /// Which name is which file.
    seen: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    /// Since the last sync.
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Create { name: String, number: u64 },
    Remove { name: String },
    Rename { from: String, to: String },
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Create { name, number } => {
                names.insert(name.clone(), *number);
            }
            Self::Remove { name } => {
                names.remove(name);
            }
            Self::Rename { from, to } => {
                if let Some(number) = names.remove(from) {
                    names.insert(to.clone(), number);
                }
            }
        }
    }

    /// The name to tell it by, and another that it touches.
    fn names(&self) -> (&String, Option<&String>) {
        match self {
            Self::Create { name, .. } | Self::Remove { name } => (name, None),
            Self::Rename { from, to } => (to, Some(from)),
        }
    }
}

impl Directory {
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.seen.get(name).copied()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.seen.keys().cloned().collect()
    }

    /// The files, in the order of their names.
    pub(super) fn files(&self) -> impl Iterator<Item = (&String, u64)> {
        self.seen.iter().map(|(name, number)| (name, *number))
    }

    pub(super) fn create(&mut self, name: &str, number: u64) {
        self.change(Change::Create { name: name.to_owned(), number });
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.change(Change::Remove { name: name.to_owned() });
    }

    /// A file that has the new name loses it.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        if from != to {
            self.change(Change::Rename { from: from.to_owned(), to: to.to_owned() });
        }
    }

    pub(super) fn sync(&mut self) {
        self.durable = self.seen.clone();
        self.changes.clear();
    }

    /// The power fails.
    pub(super) fn lose(&mut self, choose: &mut impl FnMut(&Doubt, u64) -> u64) {
        let mut undone = BTreeSet::new();
        for change in std::mem::take(&mut self.changes) {
            let (name, other) = change.names();
            // Asked even where the answer changes nothing, so that which questions there are does not depend on
            // the answers.
            let happens = choose(&Doubt::Entry { file: name.clone() }, 2) > 0;
            if happens && !undone.contains(name) && other.is_none_or(|name| !undone.contains(name))
            {
                change.apply(&mut self.durable);
            } else {
                undone.extend([name.clone()].into_iter().chain(other.cloned()));
            }
        }
        self.seen = self.durable.clone();
    }

    /// Every file that has a name, or may have one after a power failure.
    pub(super) fn linked(&self) -> BTreeSet<u64> {
        let created = self.changes.iter().filter_map(|change| match change {
            Change::Create { number, .. } => Some(*number),
            Change::Remove { .. } | Change::Rename { .. } => None,
        });
        self.seen.values().chain(self.durable.values()).copied().chain(created).collect()
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.changes.push(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way in which a power failure can end.
    fn outcomes(directory: &Directory) -> BTreeSet<Vec<(String, u64)>> {
        let count = directory.changes.len();
        (0..1_u32 << count)
            .map(|bits| {
                let (mut copy, mut asked) = (directory.clone(), 0);
                copy.lose(&mut |_, _| {
                    asked += 1;
                    u64::from(bits >> (asked - 1) & 1)
                });
                assert_eq!(asked, count);
                copy.seen.into_iter().collect()
            })
            .collect()
    }

    fn expect(directory: &Directory, expected: &[&[(&str, u64)]]) {
        let expected = expected
            .iter()
            .map(|files| files.iter().map(|&(name, number)| (name.to_owned(), number)).collect());
        assert_eq!(outcomes(directory), expected.collect());
    }

    fn durable(files: &[(&str, u64)]) -> Directory {
        let mut directory = Directory::default();
        for &(name, number) in files {
            directory.create(name, number);
        }
        directory.sync();
        directory
    }

    /// Fails if renames are remembered by name and not in order: then a crash leaves both `a` and `c`.
    #[test]
    fn a_chain_of_renames_leaves_one_name() {
        let mut directory = durable(&[("a", 1)]);
        directory.rename("a", "b");
        directory.rename("b", "c");
        assert_eq!(directory.names(), ["c"]);
        expect(&directory, &[&[("a", 1)], &[("b", 1)], &[("c", 1)]]);
        directory.rename("c", "a");
        expect(&directory, &[&[("a", 1)], &[("b", 1)], &[("c", 1)]]);
        directory.sync();
        expect(&directory, &[&[("a", 1)]]);
    }

    /// Fails if a change can happen without the one that it builds on.
    #[test]
    fn a_name_taken_over_is_never_missing() {
        let mut directory = durable(&[("new", 2), ("x", 1)]);
        directory.rename("new", "x");
        expect(&directory, &[&[("new", 2), ("x", 1)], &[("x", 2)]]);
        // The next one may take the name that was given up only if it was.
        directory.create("new", 3);
        expect(&directory, &[&[("new", 2), ("x", 1)], &[("x", 2)], &[("new", 3), ("x", 2)]]);
        directory.rename("x", "x");
        assert_eq!(directory.names(), ["new", "x"]);
    }

    #[test]
    fn created_and_removed_in_any_combination() {
        let mut directory = durable(&[("old", 1)]);
        directory.create("one", 2);
        directory.remove("old");
        expect(&directory, &[&[("old", 1)], &[], &[("old", 1), ("one", 2)], &[("one", 2)]]);
        directory.remove("one");
        assert_eq!(directory.linked(), [1, 2].into(), "a crash may bring both back");
        expect(&directory, &[&[("old", 1)], &[], &[("old", 1), ("one", 2)], &[("one", 2)]]);
    }
}
