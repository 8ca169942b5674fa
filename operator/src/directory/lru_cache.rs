//! A bounded map that evicts the least recently used entry.

use std::collections::HashMap;
use std::hash::Hash;

#[derive(Debug)]
pub(super) struct LruCache<K, V> {
    capacity: usize,
    /// Counts uses.
    clock: u64,
    entries: HashMap<K, (u64, V)>,
}

impl<K: Clone + Eq + Hash, V> LruCache<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            clock: 0,
            entries: HashMap::new(),
        }
    }

    /// Looks an entry up, and counts that as a use.
    pub(super) fn get(&mut self, key: &K) -> Option<&V> {
        let (used, value) = self.entries.get_mut(key)?;
        self.clock += 1;
        *used = self.clock;
        Some(value)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&key) {
            let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.entries.remove(&oldest);
            }
        }
        self.clock += 1;
        self.entries.insert(key, (self.clock, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_entry_is_evicted() {
        let mut cache = LruCache::new(2);
        cache.insert("a", 1);
        cache.insert("b", 2);
        assert_eq!(cache.get(&"a"), Some(&1));
        cache.insert("c", 3);
        assert_eq!(cache.get(&"b"), None);
        assert_eq!(
            (cache.get(&"a").copied(), cache.get(&"c").copied()),
            (Some(1), Some(3))
        );
        assert_eq!(cache.entries.len(), 2);
    }
}
