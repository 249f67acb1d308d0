//! Who may wait for the store.
//!
//! A mount's requests are served by a few threads, which must never all wait: what is in memory is to be had however
//! long the store takes. So of such a group at most so many wait at a time. Where one more would have to, the fetch
//! fails with `WouldWait`; nothing has changed by it, and whoever asked asks again on a thread that belongs to no group.
//! Those wait as they like.
//!
//! Invariant: nothing waits for the store, or for a thread that may, without having asked here first.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::{Error, ErrorKind, Result};

/// How many threads of a group may wait at a time.
#[derive(Debug)]
pub struct WaitLimit {
    places: AtomicUsize,
}

/// What a thread does for its group just now.
struct Turn {
    limit: Arc<WaitLimit>,
    /// It may wait until its turn ends.
    has_place: bool,
}

thread_local! {
    static TURN: RefCell<Option<Turn>> = const { RefCell::new(None) };
}

impl WaitLimit {
    /// A group of which at most `waiting_max` threads wait at a time.
    pub fn new(waiting_max: usize) -> Arc<Self> {
        Arc::new(Self {
            places: AtomicUsize::new(waiting_max),
        })
    }

    /// Does `work` as one of the group. Whether it may wait is settled when it first would, for as long as it lasts.
    pub fn within<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        /// Ends the turn, after a panic too.
        struct End;
        impl Drop for End {
            fn drop(&mut self) {
                TURN.set(None);
            }
        }
        let _end = End;
        TURN.set(Some(Turn {
            limit: Arc::clone(self),
            has_place: false,
        }));
        work()
    }

    fn take_place(&self) -> bool {
        let taken = self
            .places
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |places| {
                places.checked_sub(1)
            });
        taken.is_ok()
    }
}

impl Turn {
    fn may_wait(&mut self) -> bool {
        self.has_place = self.has_place || self.limit.take_place();
        self.has_place
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.has_place {
            self.limit.places.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// May this thread wait for the store?
pub fn may_wait() -> bool {
    TURN.with_borrow_mut(|turn| turn.as_mut().is_none_or(Turn::may_wait))
}

/// Fails with `WouldWait` where this thread may not wait for `what`.
pub(crate) fn check_may_wait(what: impl fmt::Display) -> Result<()> {
    match may_wait() {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::WouldWait,
            format!("{what} is not in memory, and too many wait for the store"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::thread;

    #[test]
    fn so_many_of_a_group_may_wait_and_all_who_belong_to_none() {
        let limit = WaitLimit::new(2);
        let (taken, done) = (Barrier::new(3), Barrier::new(3));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    limit.within(|| {
                        assert!(may_wait() && may_wait());
                        taken.wait();
                        done.wait();
                    });
                });
            }
            taken.wait();
            assert!(may_wait());
            limit.within(|| {
                let error = check_may_wait("it").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::WouldWait);
            });
            done.wait();
        });
        assert_eq!(limit.places.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_panic_gives_the_place_back() {
        let limit = WaitLimit::new(1);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            limit.within(|| {
                assert!(may_wait());
                panic!("a test")
            })
        }));
        assert!(panicked.is_err());
        limit.within(|| assert!(may_wait()));
    }
}
