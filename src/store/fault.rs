//! A decorator that fails, or kills the process, at one chosen operation: for tests of what survives.
//!
//! Operations that change the store (puts and deletions) and those that read are counted apart, each from 1, in the
//! order in which they begin.

use std::ops::Range;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::{Error, ErrorKind, Result};

use super::{Body, Listed, LocalStore, Store};

/// Which operations are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operations {
    /// Puts and deletions.
    Changes,
    /// Gets of every kind and listings.
    Reads,
}

/// When in the chosen operation it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the store is asked.
    Before,
    /// Of a put to a local store, when the bytes are written and have no name yet; else as before.
    During,
    /// When the store has done it, and before the caller hears of it.
    After,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The process ends at once, as by `kill -9`: nothing is dropped, flushed or told.
    Abort,
    /// This operation fails, with an error of this kind.
    Fail(ErrorKind),
    /// This operation and all later ones of its sort fail: a disk that is full stays full.
    FailFromThenOn(ErrorKind),
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultPlan {
    pub operations: Operations,
    /// The number of the operation, counted from 1.
    pub at: u64,
    pub moment: Moment,
    pub effect: Effect,
}

impl FaultPlan {
    /// The fault that ends the process at the change number `at`.
    pub fn abort(moment: Moment, at: u64) -> Self {
        Self {
            operations: Operations::Changes,
            at,
            moment,
            effect: Effect::Abort,
        }
    }

    /// The fault that makes the change number `at` fail.
    pub fn fail(moment: Moment, at: u64, kind: ErrorKind) -> Self {
        Self {
            operations: Operations::Changes,
            at,
            moment,
            effect: Effect::Fail(kind),
        }
    }

    fn strikes(&self, operations: Operations, number: u64, moment: Moment) -> bool {
        let is_reached = match self.effect {
            Effect::FailFromThenOn(_) => number >= self.at,
            Effect::Abort | Effect::Fail(_) => number == self.at,
        };
        is_reached && operations == self.operations && moment == self.moment
    }

    /// Ends the process, or says how the operation on `name` fails.
    fn strike(&self, name: &str) -> Error {
        match self.effect {
            Effect::Abort => std::process::abort(),
            Effect::Fail(kind) | Effect::FailFromThenOn(kind) => {
                Error::new(kind, format!("{name}: a test made this fail"))
            }
        }
    }
}

impl FromStr for FaultPlan {
    type Err = Error;

    /// Reads `abort-before:N`, `abort-during:N` or `abort-after:N`, of changes: what tests of the binary need.
    fn from_str(text: &str) -> Result<Self> {
        parse_plan(text).ok_or_else(|| {
            Error::new(
                ErrorKind::Usage,
                format!("{text:?} is not a fault: expected abort-before:N, abort-during:N or abort-after:N"),
            )
        })
    }
}

fn parse_plan(text: &str) -> Option<FaultPlan> {
    let (moment, at) = text.strip_prefix("abort-")?.split_once(':')?;
    let moment = match moment {
        "before" => Moment::Before,
        "during" => Moment::During,
        "after" => Moment::After,
        _ => return None,
    };
    Some(FaultPlan::abort(moment, at.parse().ok()?))
}

/// The object whose put is to be struck in its middle.
type Marked = Arc<Mutex<Option<String>>>;

/// Another store, with a fault.
pub struct Fault {
    inner: Arc<dyn Store>,
    plan: FaultPlan,
    changes: AtomicU64,
    reads: AtomicU64,
    marked: Marked,
    /// Does `inner` call back in the middle of a put?
    has_middle: bool,
}

impl Fault {
    /// `inner` with the fault of `plan`.
    pub fn new(inner: Arc<dyn Store>, plan: FaultPlan) -> Self {
        Self {
            inner,
            plan,
            changes: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            marked: Marked::default(),
            has_middle: false,
        }
    }

    /// A local store with the fault of `plan`, which can strike in the middle of a put, too.
    pub fn over_local(mut inner: LocalStore, plan: FaultPlan) -> Self {
        let marked = Marked::default();
        let seen = Arc::clone(&marked);
        inner.set_before_publish(Box::new(move |name| {
            let marked = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match marked.as_deref() == Some(name) {
                true => Err(plan.strike(name)),
                false => Ok(()),
            }
        }));
        Self {
            marked,
            has_middle: true,
            ..Self::new(Arc::new(inner), plan)
        }
    }

    /// How many changes have begun so far.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// How many reads have begun so far.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    /// Counts one operation on `name`, does it, and strikes where the plan says so.
    fn act<T>(
        &self,
        operations: Operations,
        name: &str,
        has_middle: bool,
        operation: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let counter = match operations {
            Operations::Changes => &self.changes,
            Operations::Reads => &self.reads,
        };
        let number = counter.fetch_add(1, Ordering::SeqCst) + 1;
        let strikes = |moment| self.plan.strikes(operations, number, moment);
        if strikes(Moment::During) && has_middle {
            let mut marked = self.marked.lock().unwrap_or_else(PoisonError::into_inner);
            *marked = Some(name.to_owned());
        } else if strikes(Moment::Before) || strikes(Moment::During) {
            return Err(self.plan.strike(name));
        }
        let done = operation()?;
        match strikes(Moment::After) {
            true => Err(self.plan.strike(name)),
            false => Ok(done),
        }
    }

    fn read<T>(&self, name: &str, operation: impl FnOnce() -> Result<T>) -> Result<T> {
        self.act(Operations::Reads, name, false, operation)
    }
}

impl Store for Fault {
    fn get(&self, name: &str) -> Result<Vec<u8>> {
        self.read(name, || self.inner.get(name))
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        self.read(name, || self.inner.get_range(name, range))
    }

    fn get_tail(&self, name: &str, length: u64) -> Result<(Vec<u8>, u64)> {
        self.read(name, || self.inner.get_tail(name, length))
    }

    fn put_new(&self, name: &str, body: Body<'_>) -> Result<()> {
        self.act(Operations::Changes, name, self.has_middle, || {
            self.inner.put_new(name, body)
        })
    }

    fn list(&self, prefix: &str, from: &str) -> Result<Vec<Listed>> {
        self.read(prefix, || self.inner.list(prefix, from))
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.act(Operations::Changes, name, false, || self.inner.delete(name))
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

#[cfg(test)]
mod tests {
    use super::super::MemoryStore;
    use super::*;

    const KINDS: [ErrorKind; 6] = [
        ErrorKind::Failed,
        ErrorKind::Exists,
        ErrorKind::Denied,
        ErrorKind::Unreachable,
        ErrorKind::Missing,
        ErrorKind::Full,
    ];

    fn put(store: &dyn Store, name: &str) -> Result<()> {
        store.put_new(name, Body::Bytes(&[b"content"]))
    }

    /// Three puts and a deletion; which of them failed, and what is there afterwards.
    fn run(store: &dyn Store, inner: &dyn Store) -> (Vec<usize>, Vec<String>) {
        let results = [
            put(store, "points/a"),
            put(store, "points/b"),
            store.delete("points/a"),
            put(store, "points/c"),
        ];
        let failed = (1..).zip(&results).filter(|(_, result)| result.is_err());
        let failed = failed.map(|(number, _)| number).collect();
        let listed = inner.list("", "").unwrap();
        (
            failed,
            listed.into_iter().map(|listed| listed.name).collect(),
        )
    }

    #[test]
    fn each_kind_of_failure_strikes_the_chosen_change_and_no_other() {
        for kind in KINDS {
            let memory = Arc::new(MemoryStore::new());
            let fault = Fault::new(memory.clone(), FaultPlan::fail(Moment::Before, 2, kind));
            let (failed, names) = run(&fault, &*memory);
            assert_eq!((failed, names), (vec![2], vec!["points/c".to_owned()]));
            assert_eq!(fault.changes(), 4);
            let memory = Arc::new(MemoryStore::new());
            let fault = Fault::new(memory.clone(), FaultPlan::fail(Moment::After, 2, kind));
            let (failed, names) = run(&fault, &*memory);
            assert_eq!(failed, [2]);
            assert_eq!(names, ["points/b", "points/c"]);
            let error = Fault::new(memory, FaultPlan::fail(Moment::Before, 1, kind));
            assert_eq!(put(&error, "points/d").unwrap_err().kind(), kind);
        }
    }

    #[test]
    fn a_put_that_fails_in_its_middle_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let local = LocalStore::create(folder.path()).unwrap();
        let plan = FaultPlan::fail(Moment::During, 2, ErrorKind::Full);
        let fault = Fault::over_local(local, plan);
        let inner = LocalStore::open(folder.path()).unwrap();
        let (failed, names) = run(&fault, &inner);
        assert_eq!((failed, names), (vec![2], vec!["points/c".to_owned()]));
        let lock_only = std::fs::read_dir(folder.path().join("tmp"))
            .unwrap()
            .count();
        assert_eq!(lock_only, 1);
    }

    #[test]
    fn reads_are_counted_apart_and_may_fail_from_then_on() {
        let memory = Arc::new(MemoryStore::new());
        put(&*memory, "points/a").unwrap();
        let fault = Fault::new(
            memory,
            FaultPlan {
                operations: Operations::Reads,
                at: 3,
                moment: Moment::Before,
                effect: Effect::FailFromThenOn(ErrorKind::Unreachable),
            },
        );
        put(&fault, "points/b").unwrap();
        assert!(fault.get("points/a").is_ok());
        assert!(fault.list("points/", "").is_ok());
        assert!(fault.get_range("points/a", 0..1).is_err());
        assert!(fault.get_tail("points/a", 1).is_err());
        put(&fault, "points/c").unwrap();
        assert_eq!((fault.changes(), fault.reads()), (2, 4));
    }

    #[test]
    fn plans_read_from_text() {
        let plan: FaultPlan = "abort-during:7".parse().unwrap();
        assert_eq!(plan, FaultPlan::abort(Moment::During, 7));
        for text in [
            "",
            "abort-during",
            "abort-never:1",
            "abort-after:x",
            "fail-before:1",
        ] {
            assert_eq!(
                text.parse::<FaultPlan>().unwrap_err().kind(),
                ErrorKind::Usage
            );
        }
    }
}
