//! A store behind a network: each request waits out a delay, all of them share what comes through in a second, and the line
//! can be cut. Counts requests, and how many had to wait for one another.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bygone::base::{Error, ErrorKind, Result};
use bygone::store::{Body, Listed, Store};

/// Another store at the end of a line.
pub struct Distant {
    inner: Arc<dyn Store>,
    delay: Duration,
    bytes_per_second: u64,
    state: Mutex<State>,
    mended: Condvar,
}

#[derive(Default)]
struct State {
    /// When the line will have brought all that was asked for so far.
    free: Option<Instant>,
    is_cut: bool,
    traffic: Traffic,
    /// The most rounds that a request had behind it which has ended.
    rounds_ended: u64,
    /// How often the traffic was taken.
    taken: u64,
}

/// What went over the line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    pub requests: u64,
    pub bytes: u64,
    /// Requests of which each began when the one before had ended.
    pub rounds: u64,
    /// Requests under way at a time, at most.
    pub together: u64,
    under_way: u64,
}

impl Distant {
    /// `inner`, so far away.
    pub fn new(inner: Arc<dyn Store>, delay: Duration, bytes_per_second: u64) -> Self {
        Self {
            inner,
            delay,
            bytes_per_second,
            state: Mutex::default(),
            mended: Condvar::new(),
        }
    }

    /// What went over the line since the last call of this.
    pub fn take(&self) -> Traffic {
        let mut state = self.state.lock().unwrap();
        state.rounds_ended = 0;
        state.taken += 1;
        let under_way = state.traffic.under_way;
        std::mem::replace(
            &mut state.traffic,
            Traffic {
                under_way,
                ..Traffic::default()
            },
        )
    }

    /// Cuts the line: whoever asks waits until it is mended.
    pub fn cut(&self) {
        self.state.lock().unwrap().is_cut = true;
    }

    /// Mends it. Those who wait get an error, as from a connection that was lost.
    pub fn mend(&self) {
        self.state.lock().unwrap().is_cut = false;
        self.mended.notify_all();
    }

    fn ask<T>(&self, ask: impl FnOnce() -> Result<T>, bytes: impl Fn(&T) -> u64) -> Result<T> {
        let (round, taken) = {
            let mut state = self.state.lock().unwrap();
            state.traffic.requests += 1;
            state.traffic.under_way += 1;
            state.traffic.together = state.traffic.together.max(state.traffic.under_way);
            if state.is_cut {
                while state.is_cut {
                    state = self.mended.wait(state).unwrap();
                }
                state.traffic.under_way -= 1;
                return Err(Error::new(ErrorKind::Unreachable, "the line was cut"));
            }
            let round = state.rounds_ended + 1;
            state.traffic.rounds = state.traffic.rounds.max(round);
            (round, state.taken)
        };
        let answer = ask();
        let length = answer.as_ref().map_or(0, bytes);
        let transfer = Duration::from_secs_f64(length as f64 / self.bytes_per_second as f64);
        let arrives = {
            let mut state = self.state.lock().unwrap();
            let now = Instant::now();
            let begins = state.free.map_or(now, |free| free.max(now));
            state.free = Some(begins + transfer);
            state.traffic.bytes += length;
            begins + transfer + self.delay
        };
        thread::sleep(arrives.saturating_duration_since(Instant::now()));
        let mut state = self.state.lock().unwrap();
        state.traffic.under_way -= 1;
        // What was under way when the traffic was taken is the first round of what came since.
        let round = if taken == state.taken { round } else { 1 };
        state.rounds_ended = state.rounds_ended.max(round);
        answer
    }
}

impl Store for Distant {
    fn get(&self, name: &str) -> Result<Vec<u8>> {
        self.ask(|| self.inner.get(name), |bytes| bytes.len() as u64)
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        self.ask(
            || self.inner.get_range(name, range),
            |bytes| bytes.len() as u64,
        )
    }

    fn get_tail(&self, name: &str, length: u64) -> Result<(Vec<u8>, u64)> {
        self.ask(
            || self.inner.get_tail(name, length),
            |(bytes, _)| bytes.len() as u64,
        )
    }

    fn put_new(&self, name: &str, body: Body<'_>) -> Result<()> {
        self.inner.put_new(name, body)
    }

    fn list(&self, prefix: &str, from: &str) -> Result<Vec<Listed>> {
        self.ask(|| self.inner.list(prefix, from), |_| 0)
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.inner.delete(name)
    }

    fn location(&self) -> String {
        format!("{}, far away", self.inner.location())
    }

    fn is_distant(&self) -> bool {
        true
    }
}
