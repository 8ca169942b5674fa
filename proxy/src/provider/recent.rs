//! A bounded map whose entries expire.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// A map whose entries expire after a fixed time. If it is full, the oldest entry is removed. No operation looks at more
/// entries than it removes.
pub(super) struct Recent<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// By number, and so by age.
    order: BTreeMap<u64, K>,
    next: u64,
    lasts: Duration,
    bound: usize,
}

struct Entry<V> {
    number: u64,
    kept: Instant,
    value: V,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    /// For at most `bound` entries.
    pub(super) fn new(lasts: Duration, bound: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: BTreeMap::new(),
            next: 0,
            lasts,
            bound,
        }
    }

    /// Keeps a value; an older one of the same key is forgotten.
    pub(super) fn keep(&mut self, key: K, value: V, now: Instant) {
        self.forget(&key);
        while let Some((_, oldest)) = self.order.first_key_value() {
            let has_ended = self
                .entries
                .get(oldest)
                .is_none_or(|entry| self.has_ended(entry, now));
            if !has_ended && self.entries.len() < self.bound {
                break;
            }
            if let Some((_, oldest)) = self.order.pop_first() {
                self.entries.remove(&oldest);
            }
        }
        let number = self.next;
        self.next += 1;
        self.order.insert(number, key.clone());
        self.entries.insert(
            key,
            Entry {
                number,
                kept: now,
                value,
            },
        );
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &K, now: Instant) -> Option<&V> {
        let entry = self.entries.get(key)?;
        (!self.has_ended(entry, now)).then_some(&entry.value)
    }

    /// Takes the value of a key out.
    pub(super) fn take(&mut self, key: &K, now: Instant) -> Option<V> {
        let entry = self.remove(key)?;
        (!self.has_ended(&entry, now)).then_some(entry.value)
    }

    /// Forgets a key.
    pub(super) fn forget(&mut self, key: &K) {
        self.remove(key);
    }

    fn remove(&mut self, key: &K) -> Option<Entry<V>> {
        let entry = self.entries.remove(key)?;
        self.order.remove(&entry.number);
        Some(entry)
    }

    fn has_ended(&self, entry: &Entry<V>, now: Instant) -> bool {
        now.saturating_duration_since(entry.kept) >= self.lasts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_secs(10);

    #[test]
    fn the_oldest_makes_room_and_what_has_ended_is_not_kept() {
        let start = Instant::now();
        let mut recent = Recent::new(LASTS, 3);
        for (n, key) in (0..).zip(["a", "b", "a", "c", "d"]) {
            recent.keep(key, n, start);
        }
        // "a" was kept again, so that "b" was the oldest.
        let kept = ["a", "b", "c", "d"].map(|key| recent.get(&key, start).copied());
        assert_eq!(kept, [Some(2), None, Some(3), Some(4)]);
        assert_eq!(recent.get(&"a", start + LASTS), None);
        recent.keep("e", 5, start + LASTS);
        assert_eq!((recent.entries.len(), recent.order.len()), (1, 1));
    }

    #[test]
    fn a_value_is_taken_once_and_never_after_its_end() {
        let start = Instant::now();
        let mut recent = Recent::new(LASTS, 3);
        recent.keep("a", 1, start);
        assert_eq!(recent.take(&"a", start), Some(1));
        assert_eq!(recent.take(&"a", start), None);
        recent.keep("a", 2, start);
        recent.forget(&"a");
        recent.keep("b", 3, start);
        assert_eq!(recent.take(&"b", start + LASTS), None);
        assert!(recent.entries.is_empty() && recent.order.is_empty());
    }

    #[test]
    fn ten_times_as_many_as_it_holds_are_kept_in_a_moment() {
        const BOUND: usize = 16_384;
        let start = Instant::now();
        let mut recent = Recent::new(LASTS, BOUND);
        for n in 0..10 * BOUND {
            recent.keep(n, n, start);
        }
        assert_eq!((recent.entries.len(), recent.order.len()), (BOUND, BOUND));
        assert_eq!(recent.get(&(9 * BOUND), start), Some(&(9 * BOUND)));
        assert_eq!(recent.get(&(9 * BOUND - 1), start), None);
        // With a search for the oldest at each step this takes minutes.
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
}
