//! Threads for the requests that must wait: made when there is need, up to a bound, and ended when there is none.
//!
//! Jobs begin in the order in which they come. Deliberately not here: who comes here. A job that nobody can do, since no
//! thread can be had at all, is done by the thread that brought it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use log::warn;
use rustix::process::{Resource, getrlimit};

use super::near::Usual;

/// Threads at most: so many fetches from a distant store may be under way at a time.
const THREADS_MAX: usize = 64;

/// Each may have a file of the repository open, beside those that are kept open: of the descriptors that the process may
/// have, the pool takes this part.
const DESCRIPTORS_PARTS: u64 = 4;

/// How long a thread waits for its next job before it ends.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// A request that waits, with its reply. It must not panic.
type Job = Box<dyn FnOnce() + Send>;

/// The pool. Dropped, it ends when its last job does.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads_max: usize,
    usual: Usual,
}

#[derive(Default)]
struct Shared {
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

impl Pool {
    /// A pool without a thread. Its threads will run where this one may.
    pub(super) fn new() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let threads = (descriptors / DESCRIPTORS_PARTS).clamp(1, THREADS_MAX as u64);
        Self {
            shared: Arc::default(),
            threads_max: threads as usize,
            usual: Usual::of_this_thread(),
        }
    }

    /// Has a thread of the pool do `job`, now or when one is free.
    pub(super) fn run(&self, job: Job) {
        let mut state = self.shared.lock();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() {
            drop(state);
            self.shared.brought.notify_one();
            return;
        }
        if state.threads == self.threads_max {
            return;
        }
        state.threads += 1;
        drop(state);
        if let Err(error) = self.start() {
            let mut state = self.shared.lock();
            state.threads -= 1;
            if state.threads > 0 {
                return;
            }
            let job = state.jobs.pop_front();
            drop(state);
            warn!("no thread can be had to wait for the store: {error}");
            if let Some(job) = job {
                job();
            }
        }
    }

    fn start(&self) -> std::io::Result<()> {
        let (shared, usual) = (Arc::clone(&self.shared), self.usual);
        let builder = thread::Builder::new().name("bygone-wait".to_owned());
        let started = builder.spawn(move || {
            // The thread that starts it may be bound to a reader's processor.
            usual.restore();
            shared.work();
        });
        started.map(drop)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.brought.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A job is done without the lock, so that what it guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each thread does until it has been idle for too long.
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
                state = self.lock();
                continue;
            }
            if state.is_closed {
                break;
            }
            state.idle += 1;
            let (woken, waited) = self
                .brought
                .wait_timeout(state, IDLE_MAX)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.jobs.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::{bounded, unbounded};

    #[test]
    fn jobs_wait_side_by_side_and_no_more_of_them_than_there_may_be_threads() {
        let pool = Pool::new();
        let (entering, entered) = unbounded();
        let (going, go) = bounded::<()>(0);
        for number in 0..pool.threads_max + 5 {
            let (entering, go) = (entering.clone(), go.clone());
            pool.run(Box::new(move || {
                entering.send(number).unwrap();
                let _gone = go.recv();
            }));
        }
        let first: Vec<usize> = entered.iter().take(pool.threads_max).collect();
        assert_eq!(first.len(), pool.threads_max);
        assert!(entered.is_empty() && pool.shared.lock().jobs.len() == 5);
        drop(going);
        assert_eq!(entered.iter().take(5).count(), 5);
    }

    #[test]
    fn a_thread_that_is_idle_takes_the_next_job_and_all_end_with_the_pool() {
        let pool = Pool::new();
        let (sender, receiver) = unbounded();
        for _ in 0..20 {
            let sender = sender.clone();
            pool.run(Box::new(move || {
                sender.send(thread::current().id()).unwrap()
            }));
            receiver.recv().unwrap();
            while pool.shared.lock().idle == 0 {
                thread::yield_now();
            }
        }
        assert_eq!(pool.shared.lock().threads, 1);
        let shared = Arc::clone(&pool.shared);
        drop(pool);
        while shared.lock().threads > 0 {
            thread::yield_now();
        }
    }
}
