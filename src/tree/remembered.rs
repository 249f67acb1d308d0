//! What was worked out lately and may be of use again: bounded in bytes, and sharded so that threads seldom meet.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, Mutex};

use crate::fetch::SegmentedCache;

use super::lock;

/// Few, so that each has room for the extent lists of a file of many terabytes.
const SHARDS: usize = 4;

/// Memory that each value takes beside its own, in bytes: its place in a hash table and a list, its key and its counts.
const OVERHEAD_BYTES: u64 = 128;

/// A cache whose values can be made again at any time.
pub(super) struct Remembered<K: Hash + Eq, V> {
    shards: [Mutex<SegmentedCache<K, Arc<V>>>; SHARDS],
    hasher: RandomState,
}

impl<K: Hash + Eq, V> Remembered<K, V> {
    /// A cache of at most `bytes_max` bytes.
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            shards: std::array::from_fn(|_| {
                Mutex::new(SegmentedCache::new(bytes_max / SHARDS as u64))
            }),
            hasher: RandomState::new(),
        }
    }

    /// The value of `key`, if it is remembered.
    pub(super) fn get(&self, key: &K) -> Option<Arc<V>> {
        self.with_shard(key, |shard| shard.get(key))
    }

    /// The value of `key`, which is not remembered any longer.
    pub(super) fn take(&self, key: &K) -> Option<Arc<V>> {
        self.with_shard(key, |shard| shard.remove(key))
    }

    /// Remembers a value that takes `bytes` of its own in memory.
    pub(super) fn insert(&self, key: K, value: Arc<V>, bytes: u64) {
        let place = self.place(&key);
        let mut shard = lock(&self.shards[place]);
        let leaving = shard.insert(key, value, bytes + OVERHEAD_BYTES);
        drop(shard);
        drop(leaving);
    }

    fn with_shard<T>(&self, key: &K, work: impl FnOnce(&mut SegmentedCache<K, Arc<V>>) -> T) -> T {
        let shard = &self.shards[self.place(key)];
        work(&mut lock(shard))
    }

    fn place(&self, key: &K) -> usize {
        self.hasher.hash_one(key) as usize % SHARDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_gone_and_what_is_not_asked_for_leaves_in_time() {
        let remembered = Remembered::new(40_000);
        remembered.insert(1, Arc::new("one"), 10);
        assert_eq!(remembered.get(&1).as_deref(), Some(&"one"));
        assert_eq!(remembered.take(&1).as_deref(), Some(&"one"));
        assert_eq!(remembered.get(&1), None);
        for key in 0..10_000 {
            remembered.insert(key, Arc::new("many"), 10);
        }
        let kept = (0..10_000).filter(|key| remembered.get(key).is_some());
        assert!(kept.count() <= 40_000 / 138);
    }
}
