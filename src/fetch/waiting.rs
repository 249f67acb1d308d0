//! Who may wait for the store.
//!
//! A mount's requests are served by a few threads, which must never all wait: what is in memory is to be had however
//! long the store takes. So of such a group at most so many wait at a time. Where one more would have to, the fetch
//! fails with `WouldWait`; nothing has changed by it, and whoever asked asks again on a thread that belongs to no group.
//! Those wait as they like.
//!
//! A group has one thread more than places. While the store is fast, that one rests, and takes up its work only when all
//! others wait for long: more threads than processors at work, and requests that go from one to the other, made a
//! sequential read take a fifth longer.
//!
//! Invariant: nothing waits for the store, or for a thread that may, without having asked here first.

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::base::{Error, ErrorKind, Result};

/// So long a wait is short. A local disk and a processor need less for the largest read, even if other programs take their
/// turns; with 5 ms, these were taken for a slow store, and many readers got half as much.
const SHORT: Duration = Duration::from_millis(20);

/// A group of threads, and how many of them may wait at a time.
#[derive(Debug)]
pub struct WaitLimit {
    state: Mutex<State>,
    /// For the one that rests.
    changed: Condvar,
    is_one_resting: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// How many more may wait.
    places: usize,
    /// Since when there is no place left.
    full_since: Option<Instant>,
    /// How often the last place was taken.
    fillings: u64,
    /// All places were held for long, and no short wait has ended since.
    waits_are_long: bool,
    waits_are_always_long: bool,
    members: usize,
    /// A member has ended: the group has no more to do.
    is_ending: bool,
    /// The one that rests looks only when it is told to.
    is_asleep: bool,
}

/// Membership of a group; it ends with the thread.
struct Member(Arc<WaitLimit>);

/// What a thread does for its group just now.
struct Turn {
    limit: Arc<WaitLimit>,
    /// Since when it may wait, until its turn ends.
    place: Option<Instant>,
}

thread_local! {
    static MEMBER: RefCell<Option<Member>> = const { RefCell::new(None) };
    static TURN: RefCell<Option<Turn>> = const { RefCell::new(None) };
}

impl WaitLimit {
    /// A group of which at most `waiting_max` threads wait at a time. Where waits are always long, as for a distant
    /// store, none ever rests.
    pub fn new(waiting_max: usize, waits_are_always_long: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                places: waiting_max,
                full_since: None,
                fillings: 0,
                waits_are_long: waits_are_always_long,
                waits_are_always_long,
                members: 0,
                is_ending: false,
                is_asleep: false,
            }),
            changed: Condvar::new(),
            is_one_resting: AtomicBool::new(false),
        })
    }

    /// Does `work` as one of the group, of which this thread is a member from then on. Whether it may wait is settled
    /// when it first would, for as long as it lasts.
    pub fn within<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        /// Ends the turn, after a panic too.
        struct End;
        impl Drop for End {
            fn drop(&mut self) {
                TURN.set(None);
            }
        }
        if MEMBER.with_borrow(Option::is_none) {
            self.lock().members += 1;
            MEMBER.set(Some(Member(Arc::clone(self))));
        }
        let _end = End;
        TURN.set(Some(Turn {
            limit: Arc::clone(self),
            place: None,
        }));
        work()
    }

    /// Rests until there is need: until all others have waited for long, or the group ends. Returns at once if another
    /// one rests, if there is need already, or if there is no other one yet.
    pub fn rest(&self) {
        if self.is_one_resting.load(Ordering::Relaxed)
            || self.is_one_resting.swap(true, Ordering::Relaxed)
        {
            return;
        }
        let mut state = self.lock();
        let mut seen = None;
        while state.members > 1 && !state.is_needed() {
            let left = match state.full_since {
                Some(since) => SHORT.saturating_sub(since.elapsed()),
                None => SHORT,
            };
            // As long as the last place is taken now and then, it looks by itself; to be told each time costs more.
            state.is_asleep = state.full_since.is_none() && seen == Some(state.fillings);
            seen = Some(state.fillings);
            state = match state.is_asleep {
                true => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                false => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.is_asleep = false;
        }
        drop(state);
        self.is_one_resting.store(false, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_place(&self) -> bool {
        let mut state = self.lock();
        if state.places == 0 {
            return false;
        }
        state.places -= 1;
        if state.places == 0 {
            state.full_since = Some(Instant::now());
            state.fillings += 1;
            if state.is_asleep {
                self.changed.notify_one();
            }
        }
        true
    }

    fn give_place_back(&self, taken: Instant) {
        let mut state = self.lock();
        state.places += 1;
        state.full_since = None;
        // Never the other way: one that waited for long may have waited for a processor.
        if taken.elapsed() < SHORT && !state.waits_are_always_long {
            state.waits_are_long = false;
        }
    }
}

impl State {
    /// Must the one that rests take up its work?
    fn is_needed(&mut self) -> bool {
        let is_long = self
            .full_since
            .is_some_and(|since| since.elapsed() >= SHORT);
        self.waits_are_long |= is_long;
        self.waits_are_long || self.is_ending
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.0.lock().is_ending = true;
        self.0.changed.notify_all();
    }
}

impl Turn {
    fn may_wait(&mut self) -> bool {
        if self.place.is_none() && self.limit.take_place() {
            self.place = Some(Instant::now());
        }
        self.place.is_some()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(taken) = self.place {
            self.limit.give_place_back(taken);
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

    /// What nothing here takes, unless it hangs.
    const HANGS: Duration = Duration::from_secs(60);

    fn wait_until(limit: &WaitLimit, is_so: impl Fn(&State) -> bool) {
        let start = Instant::now();
        while !is_so(&limit.lock()) {
            assert!(start.elapsed() < HANGS);
            thread::yield_now();
        }
    }

    #[test]
    fn so_many_of_a_group_may_wait_and_all_who_belong_to_none() {
        let limit = WaitLimit::new(2, false);
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
        assert_eq!(limit.lock().places, 2);
    }

    #[test]
    fn a_panic_gives_the_place_back() {
        let limit = WaitLimit::new(1, false);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            limit.within(|| {
                assert!(may_wait());
                panic!("a test")
            })
        }));
        assert!(panicked.is_err());
        limit.within(|| assert!(may_wait()));
    }

    #[test]
    fn one_rests_until_all_others_wait_for_long() {
        let limit = WaitLimit::new(1, false);
        limit.within(|| ());
        limit.rest();
        thread::scope(|scope| {
            let resting = scope.spawn(|| {
                limit.within(|| ());
                limit.rest();
                assert!(limit.lock().waits_are_long);
                limit.rest();
            });
            wait_until(&limit, |state| state.members == 2);
            let is_resting = || limit.is_one_resting.load(Ordering::Relaxed);
            while !is_resting() {
                thread::yield_now();
            }
            limit.rest();
            limit.within(|| {
                assert!(may_wait());
                let start = Instant::now();
                while !resting.is_finished() {
                    assert!(start.elapsed() < HANGS);
                    thread::yield_now();
                }
            });
            assert!(limit.lock().waits_are_long);
            // A short one ends it, unless this thread has to wait for a processor then.
            let start = Instant::now();
            while limit.lock().waits_are_long {
                assert!(start.elapsed() < HANGS);
                limit.within(|| assert!(may_wait()));
            }
        });
    }

    #[test]
    fn one_that_rests_is_woken_at_the_end() {
        let limit = WaitLimit::new(1, false);
        let resting = {
            let limit = Arc::clone(&limit);
            thread::spawn(move || {
                limit.within(|| ());
                wait_until(&limit, |state| state.members == 2);
                limit.rest();
            })
        };
        let other = Arc::clone(&limit);
        let ending = thread::spawn(move || {
            other.within(|| ());
            wait_until(&other, |state| state.is_asleep);
        });
        ending.join().unwrap();
        resting.join().unwrap();
    }
}
