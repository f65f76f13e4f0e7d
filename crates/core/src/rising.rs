//! A map for keys that rise.

use alloc::collections::{VecDeque, vec_deque};

/// A map whose keys mostly come in rising order and mostly leave in that order, like numbers of calls under way: in order in
/// one piece of memory, so that neither costs a search or an allocation. Any other order is as right, and costs a search and
/// the moving of what lies between there and the nearer end.
#[derive(Clone, Debug)]
pub struct Rising<K, V> {
    items: VecDeque<(K, V)>,
}

impl<K, V> Default for Rising<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> Rising<K, V> {
    /// Nothing.
    pub const fn new() -> Self {
        Self { items: VecDeque::new() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The one with the lowest key.
    pub fn first(&self) -> Option<&(K, V)> {
        self.items.front()
    }

    /// Takes the one with the lowest key.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        self.items.pop_front()
    }

    /// Keeps those for which this is true, asked in order.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.items.retain_mut(|(key, value)| keep(key, value));
    }
}

impl<K: Ord, V> Rising<K, V> {
    /// Puts it in, and returns what had that key.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(at) => self.items.get_mut(at).map(|item| core::mem::replace(&mut item.1, value)),
            Err(at) if at == self.items.len() => {
                self.items.push_back((key, value));
                None
            }
            Err(at) => {
                self.items.insert(at, (key, value));
                None
            }
        }
    }

    /// Takes it out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.find(key).ok()?;
        self.items.remove(at).map(|(_, value)| value)
    }

    /// What has that key.
    pub fn get(&self, key: &K) -> Option<&V> {
        let at = self.find(key).ok()?;
        self.items.get(at).map(|(_, value)| value)
    }

    /// What has that key, to change it.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = self.find(key).ok()?;
        self.items.get_mut(at).map(|(_, value)| value)
    }

    /// Whether something has that key.
    pub fn contains_key(&self, key: &K) -> bool {
        self.find(key).is_ok()
    }

    /// The first whose key is not lower.
    pub fn at_least(&self, key: &K) -> Option<&(K, V)> {
        let (Ok(at) | Err(at)) = self.find(key);
        self.items.get(at)
    }

    /// The last whose key is not higher, to change it.
    pub fn at_most(&mut self, key: &K) -> Option<&mut (K, V)> {
        let at = match self.find(key) {
            Ok(at) => at,
            Err(at) => at.checked_sub(1)?,
        };
        self.items.get_mut(at)
    }

    /// Where it is, or where it belongs.
    fn find(&self, key: &K) -> Result<usize, usize> {
        match (self.items.front(), self.items.back()) {
            (_, Some((last, _))) if last < key => Err(self.items.len()),
            (Some((first, _)), _) if first == key => Ok(0),
            _ => self.items.binary_search_by(|(other, _)| other.cmp(key)),
        }
    }
}

impl<K, V> IntoIterator for Rising<K, V> {
    type Item = (K, V);
    type IntoIter = vec_deque::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Identity, rng::Rng};
    use alloc::{collections::BTreeMap, vec::Vec};

    /// Against the map of the standard library, keys in and out of order.
    #[test]
    fn it_is_a_map() {
        let mut rng = Rng::new(3, Identity::new(1));
        for round in 0..200_u64 {
            let (mut rising, mut map) = (Rising::new(), BTreeMap::new());
            let mut newest = 0;
            for step in 0..200 {
                newest += rng.below(3);
                let key = if rng.below(4) == 0 { rng.below(newest + 2) } else { newest };
                match rng.below(6) {
                    0..=2 => assert_eq!(rising.insert(key, step), map.insert(key, step)),
                    3 => assert_eq!(rising.remove(&key), map.remove(&key)),
                    4 => assert_eq!(rising.pop_first(), map.pop_first()),
                    _ => {
                        rising.retain(|_, value| *value % 7 != 0);
                        map.retain(|_, value| *value % 7 != 0);
                    }
                }
                let low = rng.below(newest + 2);
                assert_eq!(rising.get(&low), map.get(&low));
                assert_eq!(rising.get_mut(&low), map.get_mut(&low));
                assert_eq!(rising.contains_key(&low), map.contains_key(&low));
                let pair = |(key, value): (&u64, &i32)| (*key, *value);
                assert_eq!(rising.first().copied(), map.first_key_value().map(pair));
                assert_eq!(rising.at_least(&low).copied(), map.range(low..).next().map(pair));
                assert_eq!(rising.at_most(&low).copied(), map.range(..=low).next_back().map(pair));
                assert_eq!(rising.len(), map.len(), "round {round}");
                assert_eq!(rising.is_empty(), map.is_empty());
            }
            assert_eq!(rising.into_iter().collect::<Vec<_>>(), map.into_iter().collect::<Vec<_>>());
        }
    }
}
