//! The memory cache: shards of a segmented LRU, and one fetch per key however many ask at once.
//!
//! Whoever asks first for what is not kept leads its fetch; all others follow and wait for the leader's outcome. A
//! leader may lead several fetches, but must complete them all before it follows any: this is what rules deadlock
//! out. A leader that is dropped before it completed (a panic) fails its followers instead of leaving them waiting.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::base::{Error, ErrorKind, Result};

use super::segmented::SegmentedCache;

/// Room that a shard should have at least: the largest frame, so that each can be kept.
const SHARD_BYTES_MIN: u64 = 32 << 20;

/// Shards at most. A lock is held for some 100 ns, so that few shards serve many threads.
const SHARDS_MAX: u64 = 16;

/// What the cache was asked and has, since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct MemoryCounters {
    pub(super) hits: u64,
    pub(super) misses: u64,
    /// Kept now.
    pub(super) bytes: u64,
    /// The most that were ever kept at a time, over all shards.
    pub(super) bytes_peak: u64,
    /// The limit.
    pub(super) bytes_max: u64,
}

/// The cache itself. Values are cheap to clone.
pub(super) struct Memory<K: Hash + Eq, V> {
    shards: Box<[Mutex<Shard<K, V>>]>,
    hasher: RandomState,
    bytes_max: u64,
    /// What all shards keep together: each changes it with its own lock held, by what it took and let go.
    bytes: AtomicU64,
    bytes_peak: AtomicU64,
}

struct Shard<K: Hash + Eq, V> {
    cache: SegmentedCache<K, V>,
    flights: HashMap<K, Arc<Flight<V>>>,
    hits: u64,
    misses: u64,
}

/// What has become of a key that was asked for.
pub(super) enum Claim<'a, K: Hash + Eq + Clone, V: Clone + Weigh> {
    /// It is kept.
    Ready(V),
    /// The caller fetches it, and completes this.
    Lead(Lead<'a, K, V>),
    /// Another one fetches it: wait for this.
    Follow(Arc<Flight<V>>),
}

/// A fetch under way.
pub(super) struct Flight<V> {
    outcome: Mutex<Option<Outcome<V>>>,
    landed: Condvar,
}

/// A fetch's end. Errors cannot be cloned, so that followers get the leader's kind and message.
type Outcome<V> = std::result::Result<V, (ErrorKind, String)>;

/// The duty to end a fetch.
pub(super) struct Lead<'a, K: Hash + Eq + Clone, V: Clone + Weigh> {
    memory: &'a Memory<K, V>,
    key: K,
    flight: Arc<Flight<V>>,
    completed: bool,
}

/// Locks what a panicking thread may have left: all that these locks guard is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the cache keeps: it is weighed in bytes.
pub(super) trait Weigh {
    /// What it takes in memory, in bytes.
    fn weight(&self) -> u64;
}

impl<K: Hash + Eq + Clone, V: Clone + Weigh> Memory<K, V> {
    /// A cache of at most `bytes_max` bytes of values.
    pub(super) fn new(bytes_max: u64) -> Self {
        let shards = (bytes_max / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        let shard = || {
            Mutex::new(Shard {
                cache: SegmentedCache::new(bytes_max / shards),
                flights: HashMap::new(),
                hits: 0,
                misses: 0,
            })
        };
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            hasher: RandomState::new(),
            bytes_max,
            bytes: AtomicU64::new(0),
            bytes_peak: AtomicU64::new(0),
        }
    }

    /// The value of `key`, if it is kept.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        let mut shard = self.shard(key);
        let value = shard.cache.get(key)?;
        shard.hits += 1;
        Some(value)
    }

    /// The value of `key`, or the duty to fetch it, or the fetch to wait for.
    pub(super) fn claim(&self, key: &K) -> Claim<'_, K, V> {
        let mut shard = self.shard(key);
        if let Some(value) = shard.cache.get(key) {
            shard.hits += 1;
            return Claim::Ready(value);
        }
        if let Some(flight) = shard.flights.get(key).map(Arc::clone) {
            shard.hits += 1;
            return Claim::Follow(flight);
        }
        shard.misses += 1;
        let flight = Arc::new(Flight {
            outcome: Mutex::new(None),
            landed: Condvar::new(),
        });
        shard.flights.insert(key.clone(), Arc::clone(&flight));
        Claim::Lead(Lead {
            memory: self,
            key: key.clone(),
            flight,
            completed: false,
        })
    }

    /// Is the value of `key` kept, or on its way? Asking does not count as use.
    pub(super) fn is_known(&self, key: &K) -> bool {
        let shard = self.shard(key);
        shard.cache.contains(key) || shard.flights.contains_key(key)
    }

    /// The value of `key`, or the fetch to wait for. None if there is neither: the caller has no duty then, and keeps
    /// nothing.
    pub(super) fn look(&self, key: &K) -> Option<Claim<'_, K, V>> {
        let mut shard = self.shard(key);
        let found = match shard.cache.get(key) {
            Some(value) => Some(Claim::Ready(value)),
            None => shard.flights.get(key).map(Arc::clone).map(Claim::Follow),
        };
        match found {
            Some(_) => shard.hits += 1,
            None => shard.misses += 1,
        }
        found
    }

    /// No longer keeps the value of `key`: it turned out to be wrong.
    pub(super) fn forget(&self, key: &K) {
        let mut shard = self.shard(key);
        let before = shard.cache.bytes();
        let left = shard.cache.remove(key);
        self.count(before, shard.cache.bytes());
        drop(shard);
        drop(left);
    }

    /// What was asked and is kept, over all shards.
    pub(super) fn counters(&self) -> MemoryCounters {
        let mut counters = MemoryCounters {
            bytes: self.bytes.load(Ordering::Relaxed),
            bytes_peak: self.bytes_peak.load(Ordering::Relaxed),
            bytes_max: self.bytes_max,
            ..MemoryCounters::default()
        };
        for shard in &self.shards {
            let shard = lock(shard);
            counters.hits += shard.hits;
            counters.misses += shard.misses;
        }
        counters
    }

    /// A shard that kept `before` bytes keeps `after` now.
    fn count(&self, before: u64, after: u64) {
        let change = after.wrapping_sub(before);
        let bytes = self.bytes.fetch_add(change, Ordering::Relaxed);
        self.bytes_peak
            .fetch_max(bytes.wrapping_add(change), Ordering::Relaxed);
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, Shard<K, V>> {
        if let [only] = &self.shards[..] {
            return lock(only);
        }
        let place = self.hasher.hash_one(key) % self.shards.len() as u64;
        lock(&self.shards[place as usize])
    }
}

impl<V: Clone> Flight<V> {
    /// Waits for the leader's outcome.
    pub(super) fn wait(&self) -> Result<V> {
        let mut outcome = lock(&self.outcome);
        loop {
            match &*outcome {
                Some(outcome) => return told(outcome),
                None => {
                    outcome = self
                        .landed
                        .wait(outcome)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// The same until `deadline`; None if it has no outcome by then.
    pub(super) fn wait_until(&self, deadline: Instant) -> Option<Result<V>> {
        let mut outcome = lock(&self.outcome);
        while outcome.is_none() {
            let left = deadline.checked_duration_since(Instant::now())?;
            outcome = self
                .landed
                .wait_timeout(outcome, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        outcome.as_ref().map(told)
    }
}

/// An outcome as those get it who followed.
fn told<V: Clone>(outcome: &Outcome<V>) -> Result<V> {
    match outcome {
        Ok(value) => Ok(value.clone()),
        Err((kind, message)) => Err(Error::new(*kind, message.clone())),
    }
}

impl<K: Hash + Eq + Clone, V: Clone + Weigh> Lead<'_, K, V> {
    /// Ends the fetch: keeps a value, and tells the followers.
    pub(super) fn complete(mut self, fetched: &Result<V>) {
        let outcome = match fetched {
            Ok(value) => Ok(value.clone()),
            Err(error) => Err((error.kind(), error.to_string())),
        };
        self.land(outcome);
    }

    fn land(&mut self, outcome: Outcome<V>) {
        self.completed = true;
        let leaving = {
            let mut shard = self.memory.shard(&self.key);
            shard.flights.remove(&self.key);
            match &outcome {
                Ok(value) => {
                    let bytes = value.weight();
                    let before = shard.cache.bytes();
                    let leaving = shard.cache.insert(self.key.clone(), value.clone(), bytes);
                    self.memory.count(before, shard.cache.bytes());
                    leaving
                }
                Err(_) => Vec::new(),
            }
        };
        // Freed here, without the lock: half a megabyte goes back to the system.
        drop(leaving);
        *lock(&self.flight.outcome) = Some(outcome);
        self.flight.landed.notify_all();
    }
}

impl<K: Hash + Eq + Clone, V: Clone + Weigh> Drop for Lead<'_, K, V> {
    fn drop(&mut self) {
        if !self.completed {
            let given_up = (ErrorKind::Failed, "a fetch was given up".to_owned());
            self.land(Err(given_up));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    impl Weigh for u64 {
        fn weight(&self) -> u64 {
            8
        }
    }

    fn fetch(
        memory: &Memory<u64, u64>,
        key: u64,
        load: impl FnOnce() -> Result<u64>,
    ) -> Result<u64> {
        match memory.claim(&key) {
            Claim::Ready(value) => Ok(value),
            Claim::Follow(flight) => flight.wait(),
            Claim::Lead(lead) => {
                let loaded = load();
                lead.complete(&loaded);
                loaded
            }
        }
    }

    #[test]
    fn many_who_ask_at_once_cause_one_fetch() {
        let memory = Memory::new(1 << 20);
        let loads = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for key in 0..100 {
                        let value = fetch(&memory, key, || {
                            loads.fetch_add(1, Ordering::Relaxed);
                            thread::yield_now();
                            Ok(key * 2)
                        });
                        assert_eq!(value.unwrap(), key * 2);
                    }
                });
            }
        });
        assert_eq!(loads.load(Ordering::Relaxed), 100);
        let counters = memory.counters();
        assert_eq!((counters.hits, counters.misses), (700, 100));
        assert_eq!(counters.bytes, 800);
    }

    #[test]
    fn a_failure_reaches_the_followers_and_is_not_kept() {
        let memory: Memory<u64, u64> = Memory::new(1 << 20);
        let Claim::Lead(lead) = memory.claim(&1) else {
            panic!("nobody asked before")
        };
        let Claim::Follow(flight) = memory.claim(&1) else {
            panic!("a fetch is under way")
        };
        lead.complete(&Err(Error::missing("pack 1")));
        let error = flight.wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Missing);
        assert_eq!(error.to_string(), "pack 1 is missing");
        assert_eq!(fetch(&memory, 1, || Ok(5)).unwrap(), 5);
    }

    #[test]
    fn a_leader_that_panics_leaves_nobody_waiting() {
        let memory: Memory<u64, u64> = Memory::new(1 << 20);
        let claim = memory.claim(&1);
        let Claim::Follow(flight) = memory.claim(&1) else {
            panic!("a fetch is under way")
        };
        drop(claim);
        assert_eq!(flight.wait().unwrap_err().kind(), ErrorKind::Failed);
    }

    /// A value of so many MiB.
    #[derive(Clone)]
    struct Mebibytes(u64);

    impl Weigh for Mebibytes {
        fn weight(&self) -> u64 {
            self.0 << 20
        }
    }

    #[test]
    fn what_is_kept_and_the_most_that_was_are_counted_over_all_shards() {
        let memory: Memory<u64, Mebibytes> = Memory::new(64 << 20);
        assert_eq!(memory.shards.len(), 2);
        let keep = |key, mebibytes| {
            let Claim::Lead(lead) = memory.claim(&key) else {
                panic!("each key is new")
            };
            lead.complete(&Ok(Mebibytes(mebibytes)));
        };
        for key in 0..40 {
            keep(key, 8);
            let counters = memory.counters();
            let shards = memory.shards.iter();
            let kept: u64 = shards.map(|shard| lock(shard).cache.bytes()).sum();
            assert_eq!(counters.bytes, kept);
            assert!(counters.bytes_peak >= kept && counters.bytes_peak <= counters.bytes_max);
        }
        keep(40, 25);
        let counters = memory.counters();
        assert!(counters.bytes < counters.bytes_peak && counters.bytes_peak == 64 << 20);
    }

    #[test]
    fn every_shard_can_keep_the_largest_frame() {
        for bytes_max in [1, 31 << 20, 64 << 20, 100 << 20, 8 << 30] {
            let memory: Memory<u64, u64> = Memory::new(bytes_max);
            let shards = memory.shards.len() as u64;
            assert!(shards == 1 || bytes_max / shards >= SHARD_BYTES_MIN);
        }
    }
}
