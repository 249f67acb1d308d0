//! Threads that ask a distant store, so that whoever waits for one can cease to.
//!
//! Made when there is need, up to a bound, and kept: one more than are at work, which is made by one of them. A thread of a
//! mount that serves may be bound to a processor, and what it started would be too. Jobs begin in the order in which they
//! come.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What is to be done.
type Job = Box<dyn FnOnce() + Send>;

/// The crew. Dropped, it ends when its last job does; those that wait are not begun any more.
pub(super) struct Crew {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    threads_max: usize,
    state: Mutex<State>,
    brought: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    is_closed: bool,
}

impl Crew {
    /// A crew of one thread that will be `threads_max` at most.
    pub(super) fn new(name: &'static str, threads_max: usize) -> Self {
        let shared = Arc::new(Shared {
            name,
            threads_max,
            state: Mutex::default(),
            brought: Condvar::new(),
        });
        shared.grow(&mut shared.lock());
        Self { shared }
    }

    /// Has a thread do `job`, now or when one is free.
    pub(super) fn run(&self, job: Job) {
        let mut state = self.shared.lock();
        // Only if the system had no thread to give before.
        if state.threads == 0 {
            self.shared.grow(&mut state);
        }
        if state.threads == 0 {
            drop(state);
            job();
            return;
        }
        state.jobs.push_back(job);
        drop(state);
        self.shared.brought.notify_one();
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_closed = true;
        let left = std::mem::take(&mut state.jobs);
        drop(state);
        self.shared.brought.notify_all();
        // Without the lock: a job may be the last to hold who knows what.
        drop(left);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A job is done without the lock, so that what it guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One thread more, if there may be and the system has one.
    fn grow(self: &Arc<Self>, state: &mut State) {
        if state.threads == self.threads_max {
            return;
        }
        let shared = Arc::clone(self);
        let started = thread::Builder::new()
            .name(self.name.to_owned())
            .spawn(move || shared.work());
        match started {
            Ok(_) => state.threads += 1,
            Err(error) => log::warn!("no thread can be had to ask the store: {error}"),
        }
    }

    /// What each thread does until the crew is dropped.
    fn work(self: &Arc<Self>) {
        let mut state = self.lock();
        while !state.is_closed {
            if let Some(job) = state.jobs.pop_front() {
                if state.idle == 0 {
                    self.grow(&mut state);
                }
                drop(state);
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    log::error!(
                        "asking the store failed by an error in bygone itself: please report it"
                    );
                }
                state = self.lock();
                continue;
            }
            state.idle += 1;
            state = self
                .brought
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
        state.threads -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::{bounded, unbounded};

    #[test]
    fn jobs_are_done_side_by_side_by_no_more_threads_than_there_may_be() {
        let crew = Crew::new("test", 4);
        let (entering, entered) = unbounded();
        let (going, go) = bounded::<()>(0);
        for number in 0..7 {
            let (entering, go) = (entering.clone(), go.clone());
            crew.run(Box::new(move || {
                entering.send(number).unwrap();
                let _gone = go.recv();
            }));
        }
        assert_eq!(entered.iter().take(4).max(), Some(3));
        assert!(entered.is_empty() && crew.shared.lock().jobs.len() == 3);
        drop(going);
        assert_eq!(entered.iter().take(3).count(), 3);
    }

    #[test]
    fn a_panic_ends_its_job_only_and_all_threads_end_with_the_crew() {
        let crew = Crew::new("test", 2);
        let (sender, receiver) = bounded(1);
        crew.run(Box::new(|| panic!("on purpose")));
        crew.run(Box::new(move || sender.send(()).unwrap()));
        receiver.recv().unwrap();
        let shared = Arc::clone(&crew.shared);
        drop(crew);
        while shared.lock().threads > 0 {
            thread::yield_now();
        }
    }
}
