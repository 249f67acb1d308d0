//! A decorator that asks again when another store could not be reached.
//!
//! Invariants: only what may heal is repeated (Unreachable); what was refused, is missing or is damaged never is. The
//! waits between grow and are drawn at random, so that many clients of one server do not come back at the same
//! instant. A put that is repeated may find its own object there, since only the answer to it was lost: that is told
//! from another's object by its bytes.
//!
//! It does not resume what came in part: the store itself does, which knows how far it was.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::base::{Error, ErrorKind, Result};

use super::{Body, Listed, Store};

/// How much of an object is compared to tell it from another of the same name and length.
const COMPARED_BYTES: u64 = 64 << 10;

/// After so long somebody who watches should hear why nothing goes on.
const TOLD_AFTER: Duration = Duration::from_secs(10);

/// How long to go on.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a request that reads: with the last attempt, no more than the 30 s after which a mount gives a read up.
    pub read: Duration,
    /// For one that changes the store: a backup of hours outlives an outage of minutes.
    pub change: Duration,
    /// For any, until the store has answered for the first time: a mistyped address should be told soon.
    pub first: Duration,
    /// The wait after the first failure.
    pub wait_first: Duration,
    /// The longest wait.
    pub wait_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            read: Duration::from_secs(20),
            change: Duration::from_secs(5 * 60),
            first: Duration::from_secs(5),
            wait_first: Duration::from_millis(100),
            wait_max: Duration::from_secs(10),
        }
    }
}

/// Another store, asked until it answers or patience ends.
pub struct Retrying {
    inner: Arc<dyn Store>,
    patience: Patience,
    /// Has the store ever answered anything?
    has_answered: AtomicBool,
    /// Has patience ended, and has the store not answered since? Then a request is tried once: whoever is offline need
    /// not wait for each of them.
    is_down: AtomicBool,
}

impl Retrying {
    /// `inner`, asked again as `patience` says.
    pub fn new(inner: Arc<dyn Store>, patience: Patience) -> Self {
        Self {
            inner,
            patience,
            has_answered: AtomicBool::new(false),
            is_down: AtomicBool::new(false),
        }
    }

    /// Does `operation` until it succeeds, fails for good, or has been tried for `limit`. It is told how often it was
    /// tried before.
    fn retry<T>(&self, limit: Duration, mut operation: impl FnMut(u32) -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        let mut wait = self.patience.wait_first;
        let mut has_warned = false;
        for tried in 0.. {
            let error = match operation(tried) {
                Err(error) if error.kind() == ErrorKind::Unreachable => error,
                result => {
                    self.has_answered.store(true, Ordering::Relaxed);
                    self.is_down.store(false, Ordering::Relaxed);
                    return result;
                }
            };
            let pause = jittered(wait);
            let elapsed = begun.elapsed();
            if !self.may_go_on(elapsed + pause, limit, tried) {
                self.is_down.store(true, Ordering::Relaxed);
                return Err(told_with_count(error, tried + 1));
            }
            if !has_warned && elapsed > TOLD_AFTER {
                has_warned = true;
                log::warn!("{error}; going on trying for {} s", limit.as_secs());
            } else {
                log::info!("{error}; asking again in {} ms", pause.as_millis());
            }
            std::thread::sleep(pause);
            wait = (wait * 2).min(self.patience.wait_max);
        }
        unreachable!("the loop above ends by returning")
    }

    fn may_go_on(&self, elapsed: Duration, limit: Duration, tried: u32) -> bool {
        if self.is_down.load(Ordering::Relaxed) {
            return false;
        }
        match self.has_answered.load(Ordering::Relaxed) {
            true => elapsed <= limit,
            // At least twice: the first connection may be the one that is lost.
            false => elapsed <= self.patience.first || (tried == 0 && elapsed <= limit),
        }
    }

    /// Does an `operation` that reads until it succeeds or patience ends.
    ///
    /// # Errors
    /// Those of the operation.
    pub(super) fn read<T>(&self, mut operation: impl FnMut() -> Result<T>) -> Result<T> {
        self.retry(self.patience.read, |_| operation())
    }

    /// Is the object of this name what `body` is? Its length and its last bytes tell.
    fn is_ours(&self, name: &str, body: Body<'_>) -> Result<bool> {
        let failed = |error| Error::io(format_args!("write {name}"), error);
        let expected = body.length().map_err(failed)?;
        let found = self
            .inner
            .get_tail(name, COMPARED_BYTES.min(expected.max(1)));
        let (tail, length) = found.map_err(|error| match error.kind() {
            // First it exists and then it does not: one of these answers is wrong, and another attempt tells which.
            ErrorKind::Missing => error.with_kind(ErrorKind::Unreachable),
            _ => error,
        })?;
        Ok(length == expected && tail == body.tail(tail.len()).map_err(failed)?)
    }
}

impl Store for Retrying {
    fn get(&self, name: &str) -> Result<Vec<u8>> {
        self.read(|| self.inner.get(name))
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        self.read(|| self.inner.get_range(name, range.clone()))
    }

    fn get_tail(&self, name: &str, length: u64) -> Result<(Vec<u8>, u64)> {
        self.read(|| self.inner.get_tail(name, length))
    }

    fn put_new(&self, name: &str, body: Body<'_>) -> Result<()> {
        self.retry(self.patience.change, |tried| {
            match self.inner.put_new(name, body) {
                Err(error) if error.kind() == ErrorKind::Exists && tried > 0 => {
                    match self.is_ours(name, body)? {
                        true => Ok(()),
                        false => Err(error),
                    }
                }
                result => result,
            }
        })
    }

    fn list(&self, prefix: &str, from: &str) -> Result<Vec<Listed>> {
        self.read(|| self.inner.list(prefix, from))
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.retry(self.patience.change, |_| self.inner.delete(name))
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn is_distant(&self) -> bool {
        self.inner.is_distant()
    }

    fn get_range_nearby(&self, name: &str, range: Range<u64>) -> Option<Vec<u8>> {
        self.inner.get_range_nearby(name, range)
    }

    fn disbelieve(&self, name: &str) -> bool {
        self.inner.disbelieve(name)
    }
}

/// Between a half and all of `wait`, at random.
fn jittered(wait: Duration) -> Duration {
    // Without randomness all of it is waited: that is no reason to fail.
    let share = getrandom::u32().map_or(1.0, |number| f64::from(number) / f64::from(u32::MAX));
    wait.mul_f64(0.5 + share / 2.0)
}

/// The error, saying that it was not for want of trying.
fn told_with_count(error: Error, tried: u32) -> Error {
    let kind = error.kind();
    match tried {
        1 => error,
        _ => Error::new(kind, format!("{error} (tried {tried} times)")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Effect, Fault, FaultPlan, MemoryStore, Moment, Operations, Recording};
    use super::*;

    /// Gives up soon, so that tests do.
    const HASTY: Patience = Patience {
        read: Duration::from_millis(40),
        change: Duration::from_millis(40),
        first: Duration::from_millis(40),
        wait_first: Duration::from_millis(1),
        wait_max: Duration::from_millis(10),
    };

    fn faulty(memory: &Arc<MemoryStore>, plan: FaultPlan) -> (Arc<Recording>, Retrying) {
        let fault = Fault::new(memory.clone(), plan);
        let recording = Arc::new(Recording::new(Arc::new(fault)));
        let retrying = Retrying::new(recording.clone(), HASTY);
        (recording, retrying)
    }

    #[test]
    fn one_failure_is_not_heard_of() {
        let memory = Arc::new(MemoryStore::new());
        let plan = FaultPlan::fail(Moment::Before, 1, ErrorKind::Unreachable);
        let (recording, store) = faulty(&memory, plan);
        store.put_new("points/a", Body::Bytes(&[b"a"])).unwrap();
        assert_eq!(recording.take().len(), 2);
        let plan = FaultPlan {
            operations: Operations::Reads,
            ..plan
        };
        let (recording, store) = faulty(&memory, plan);
        assert_eq!(store.get("points/a").unwrap(), b"a");
        assert_eq!(recording.take().len(), 2);
    }

    #[test]
    fn what_cannot_heal_is_asked_once() {
        for kind in [ErrorKind::Denied, ErrorKind::Full, ErrorKind::Failed] {
            let memory = Arc::new(MemoryStore::new());
            let (recording, store) = faulty(&memory, FaultPlan::fail(Moment::Before, 1, kind));
            let error = store.put_new("points/a", Body::Bytes(&[b"a"])).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert_eq!(recording.take().len(), 1);
        }
    }

    #[test]
    fn patience_ends() {
        let memory = Arc::new(MemoryStore::new());
        let plan = FaultPlan {
            operations: Operations::Reads,
            at: 1,
            moment: Moment::Before,
            effect: Effect::FailFromThenOn(ErrorKind::Unreachable),
        };
        let (recording, store) = faulty(&memory, plan);
        let begun = Instant::now();
        let error = store.list("points/", "").unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(error.kind(), ErrorKind::Unreachable);
        let asked = recording.take().len();
        assert!(asked > 2, "{asked}");
        assert!(error.to_string().contains("times"), "{error}");
    }

    #[test]
    fn a_store_that_is_down_is_asked_once_a_request_until_it_answers() {
        let memory = Arc::new(MemoryStore::new());
        memory.put_new("points/a", Body::Bytes(&[b"a"])).unwrap();
        let (recording, store) =
            faulty(&memory, FaultPlan::fail(Moment::Before, 0, ErrorKind::Full));
        store.is_down.store(true, Ordering::Relaxed);
        store.get("points/a").unwrap();
        assert!(!store.is_down.load(Ordering::Relaxed));
        assert_eq!(recording.take().len(), 1);
        let never = FaultPlan {
            operations: Operations::Reads,
            at: 1,
            moment: Moment::Before,
            effect: Effect::FailFromThenOn(ErrorKind::Unreachable),
        };
        let (recording, store) = faulty(&memory, never);
        store.get("points/a").unwrap_err();
        assert!(recording.take().len() > 1);
        store.get("points/a").unwrap_err();
        assert_eq!(recording.take().len(), 1);
    }

    #[test]
    fn a_put_whose_answer_was_lost_finds_its_own_object() {
        let bytes: Vec<u8> = (0..200_000_u32)
            .map(|number| (number % 251) as u8)
            .collect();
        for length in [0, 1, 1000, 200_000] {
            let memory = Arc::new(MemoryStore::new());
            let plan = FaultPlan::fail(Moment::After, 1, ErrorKind::Unreachable);
            let (_, store) = faulty(&memory, plan);
            let (front, back) = bytes[..length].split_at(length / 3);
            store
                .put_new("points/a", Body::Bytes(&[front, back]))
                .unwrap();
            assert!(memory.objects()["points/a"][..] == bytes[..length]);
        }
    }

    #[test]
    fn a_put_that_is_repeated_never_takes_anothers_object_for_its_own() {
        let memory = Arc::new(MemoryStore::new());
        memory
            .put_new("points/a", Body::Bytes(&[b"others"]))
            .unwrap();
        let plan = FaultPlan::fail(Moment::Before, 1, ErrorKind::Unreachable);
        let (_, store) = faulty(&memory, plan);
        for body in [b"mine!!".as_slice(), b"mine", b"longer than that"] {
            let error = store.put_new("points/a", Body::Bytes(&[body])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Exists);
        }
    }

    #[test]
    fn waits_are_drawn_at_random_and_bounded() {
        let wait = Duration::from_secs(1);
        let mut drawn = Vec::new();
        for _ in 0..50 {
            let pause = jittered(wait);
            assert!(pause >= wait / 2 && pause <= wait, "{pause:?}");
            drawn.push(pause);
        }
        drawn.dedup();
        assert!(drawn.len() > 10);
    }
}
