//! A map that holds so many entries and no more: the oldest makes room.

use std::collections::HashMap;
use std::hash::Hash;

const NONE: u32 = u32::MAX;

/// A map with a fixed capacity whose entries know their age. [`Bounded::insert`] makes an entry the newest.
pub(crate) struct Bounded<K, V> {
    index: HashMap<K, u32>,
    slots: Vec<Slot<K, V>>,
    free: Vec<u32>,
    oldest: u32,
    newest: u32,
    capacity: usize,
}

struct Slot<K, V> {
    entry: Option<(K, V)>,
    older: u32,
    newer: u32,
}

impl<K: Hash + Eq + Clone, V> Bounded<K, V> {
    /// An empty map for `capacity` entries, at least one. It takes memory as it fills.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            index: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            capacity: capacity.clamp(1, NONE as usize),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let slot = self.slots.get(*self.index.get(key)? as usize)?;
        slot.entry.as_ref().map(|(_, value)| value)
    }

    /// The value of `key`, made the newest entry.
    pub(crate) fn touch(&mut self, key: &K) -> Option<&mut V> {
        let at = *self.index.get(key)?;
        if at != self.newest {
            self.unlink(at);
            self.link(at);
        }
        let slot = self.slots.get_mut(at as usize)?;
        slot.entry.as_mut().map(|(_, value)| value)
    }

    /// Inserts or replaces. Gives back the entry that had to make room.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        if let Some(old) = self.touch(&key) {
            *old = value;
            return None;
        }
        let evicted = if self.len() >= self.capacity {
            self.pop_oldest()
        } else {
            None
        };
        let entry = Some((key.clone(), value));
        let at = match self.free.pop() {
            Some(at) => {
                if let Some(slot) = self.slots.get_mut(at as usize) {
                    slot.entry = entry;
                }
                at
            }
            None => {
                // The capacity keeps the number of slots below u32::MAX.
                let at = u32::try_from(self.slots.len()).unwrap_or(NONE - 1);
                self.slots.push(Slot {
                    entry,
                    older: NONE,
                    newer: NONE,
                });
                at
            }
        };
        self.link(at);
        self.index.insert(key, at);
        evicted
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.index.remove(key)?;
        self.unlink(at);
        self.free.push(at);
        let slot = self.slots.get_mut(at as usize)?;
        slot.entry.take().map(|(_, value)| value)
    }

    /// Every entry, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.slots
            .iter()
            .filter_map(|slot| slot.entry.as_ref().map(|(key, value)| (key, value)))
    }

    pub(crate) fn oldest(&self) -> Option<(&K, &V)> {
        let slot = self.slots.get(self.oldest as usize)?;
        slot.entry.as_ref().map(|(key, value)| (key, value))
    }

    pub(crate) fn pop_oldest(&mut self) -> Option<(K, V)> {
        let at = self.oldest;
        let entry = self.slots.get_mut(at as usize)?.entry.take()?;
        self.index.remove(&entry.0);
        self.unlink(at);
        self.free.push(at);
        Some(entry)
    }

    fn link(&mut self, at: u32) {
        let newest = self.newest;
        if let Some(slot) = self.slots.get_mut(at as usize) {
            slot.older = newest;
            slot.newer = NONE;
        }
        match self.slots.get_mut(newest as usize) {
            Some(slot) => slot.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
    }

    fn unlink(&mut self, at: u32) {
        let Some(slot) = self.slots.get(at as usize) else {
            return;
        };
        let (older, newer) = (slot.older, slot.newer);
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn the_oldest_entry_makes_room() {
        let mut map = Bounded::new(2);
        assert_eq!(map.insert("a", 1), None);
        assert_eq!(map.insert("b", 2), None);
        assert_eq!(map.touch(&"a"), Some(&mut 1));
        assert_eq!(map.insert("c", 3), Some(("b", 2)));
        assert_eq!(
            (map.get(&"a"), map.get(&"b"), map.get(&"c")),
            (Some(&1), None, Some(&3))
        );
    }

    #[test]
    fn fuzz_finds_it_to_be_a_queue_with_a_bound() {
        bolero::check!().with_type::<Vec<(u8, u8)>>().for_each(|script| {
            let mut map = Bounded::new(5);
            let mut model: VecDeque<(u8, u8)> = VecDeque::new();
            for (action, key) in script {
                let key = key % 9;
                match action % 4 {
                    0 => {
                        assert_eq!(
                            map.remove(&key),
                            model
                                .iter()
                                .position(|(k, _)| *k == key)
                                .and_then(|at| model.remove(at))
                                .map(|(_, v)| v)
                        );
                    }
                    1 => assert_eq!(map.pop_oldest(), model.pop_front()),
                    _ => {
                        model.retain(|(k, _)| *k != key);
                        let evicted = (model.len() == 5).then(|| model.pop_front()).flatten();
                        model.push_back((key, *action));
                        assert_eq!(map.insert(key, *action), evicted);
                    }
                }
                assert_eq!(map.len(), model.len());
                assert_eq!(map.oldest().map(|(k, v)| (*k, *v)), model.front().copied());
                assert!(model.iter().all(|(k, v)| map.get(k) == Some(v)));
            }
        });
    }
}
