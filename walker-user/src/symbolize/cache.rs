//! A map of bounded size that forgets what was not asked for lately.
//!
//! Entries are in two generations. What is used moves to the young one; when that is full, the old
//! one is dropped and the young one takes its place. That keeps what is in use as well as an exact
//! order would, without a list to maintain.

use std::{collections::HashMap, hash::Hash, mem};

/// A map that holds at most as many entries as it was told.
///
/// Addresses and files are chosen by the processes that are sampled, so the hash is a keyed one.
#[derive(Debug)]
pub struct Cache<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Eq + Hash, V> Cache<K, V> {
    /// A cache for `capacity` entries, at least two.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            half: (capacity / 2).max(1),
        }
    }

    /// The value of `key`, which becomes young again.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.insert(key, value);
        }
        self.young.get(key)
    }

    /// Adds or replaces an entry.
    pub fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Cache;

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let mut cache = Cache::new(8);
        for key in 0..100 {
            cache.insert(key, key * 10);
            assert_eq!(cache.get(&0), Some(&0), "after {key}");
        }
        assert_eq!(cache.get(&50), None);
        assert_eq!(cache.get(&99), Some(&990));
    }

    #[test]
    fn the_latest_value_counts() {
        let mut cache = Cache::new(2);
        cache.insert(1, 'a');
        cache.insert(2, 'b');
        cache.insert(1, 'c');
        assert_eq!(cache.get(&1), Some(&'c'));
        cache.insert(1, 'd');
        assert_eq!(cache.get(&1), Some(&'d'));
    }

    proptest! {
        #[test]
        fn it_never_grows_past_its_capacity_nor_lies(
            capacity in 0..20_usize,
            steps in prop::collection::vec((0..40_u8, any::<Option<u16>>()), 0..400),
        ) {
            let mut cache = Cache::new(capacity);
            let mut all = std::collections::HashMap::new();
            for (key, value) in steps {
                match value {
                    Some(value) => {
                        cache.insert(key, value);
                        all.insert(key, value);
                        prop_assert_eq!(cache.get(&key), Some(&value));
                    }
                    None => if let Some(value) = cache.get(&key) {
                        prop_assert_eq!(Some(value), all.get(&key));
                    },
                }
                prop_assert!(cache.len() <= capacity.max(2));
            }
        }
    }
}
