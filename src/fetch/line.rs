//! The line to a distant store: what a request waits for its answer, and how many bytes a second come, as measured on
//! what is fetched anyway. From both follows how many bytes to have under way so that the line is never idle.
//!
//! Measured as congestion control by bottleneck bandwidth does it (Cardwell and others, "BBR", ACM Queue 14(5), 2016):
//! the delay is the shortest seen of late, the rate the highest, and twice their product keeps the line full while it
//! finds out whether there is more. Answers that come at once come from a cache: they say nothing of the line, but that it
//! is not asked just now, for which reading ahead would be in the way.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A request that took no longer was answered nearby: no network has so short a delay that reading ahead pays.
const NEARBY: Duration = Duration::from_millis(4);

/// What comes from nearby comes at this rate at least, in bytes a second: a long request to a cache on a slow disk takes
/// longer than a short one.
const NEARBY_RATE: u64 = 256 << 20;

/// After so many requests one after the other that were answered nearby, the line counts as not asked.
const NEARBY_COUNT: u32 = 16;

/// How long what was measured is believed.
const BELIEVED_FOR: Duration = Duration::from_secs(10);

/// What is had ahead, in products of delay and rate: two, as above, and two more, since what is read is decompressed in
/// larger pieces than the line brings.
const AHEAD_PRODUCTS: f64 = 4.0;

/// Bytes ahead at least, as long as little is known of the line: twice what one of 20 MB/s brings in a delay of 40 ms.
const AHEAD_BYTES_MIN: u64 = 2 << 20;

/// Bytes ahead at most, whatever the line can do: what a seek throws away.
const AHEAD_BYTES_MAX: u64 = 16 << 20;

/// The part of the memory cache that may be ahead, so that what is there outlives it.
const MEMORY_PARTS: u64 = 4;

/// What is measured.
#[derive(Debug)]
pub(super) struct Line {
    state: Mutex<State>,
    ahead_bytes_max: u64,
    ahead_plain_bytes_max: u64,
}

#[derive(Debug)]
struct State {
    /// Seconds; the shortest.
    delay: Extreme,
    /// Bytes a second; the highest.
    rate: Extreme,
    delivered_bytes: u64,
    /// So many more answers from nearby, and the line counts as not asked.
    nearby_left: u32,
}

/// The best of what was measured in this period and the one before.
#[derive(Debug, Default)]
struct Extreme {
    now: Option<f64>,
    before: Option<f64>,
    begun: Option<Instant>,
}

/// A request under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    at: Instant,
    delivered_bytes: u64,
}

impl Line {
    /// A line of which nothing is known yet, that brings things to a memory cache of so many bytes.
    pub(super) fn new(memory_bytes: u64) -> Self {
        Self {
            state: Mutex::new(State {
                delay: Extreme::default(),
                rate: Extreme::default(),
                delivered_bytes: 0,
                nearby_left: NEARBY_COUNT,
            }),
            ahead_bytes_max: (memory_bytes / MEMORY_PARTS).min(AHEAD_BYTES_MAX),
            ahead_plain_bytes_max: memory_bytes / MEMORY_PARTS,
        }
    }

    /// A request begins.
    pub(super) fn begin(&self, now: Instant) -> Begun {
        Begun {
            at: now,
            delivered_bytes: self.lock().delivered_bytes,
        }
    }

    /// A request ended well and brought so many bytes.
    pub(super) fn end(&self, begun: Begun, now: Instant, bytes: u64) {
        let took = now.saturating_duration_since(begun.at);
        let mut state = self.lock();
        if took < NEARBY + Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / NEARBY_RATE) {
            state.nearby_left = state.nearby_left.saturating_sub(1);
            return;
        }
        state.nearby_left = NEARBY_COUNT;
        state.delivered_bytes += bytes;
        // Those of other requests that came meanwhile shared the line with these. Without its own, since requests end in
        // bursts, and one too many would tell of a line that is not there.
        let others = state.delivered_bytes - begun.delivered_bytes - bytes;
        let delivered = others.max(bytes);
        let seconds = took.as_secs_f64();
        state.delay.take(now, seconds, f64::min);
        state.rate.take(now, delivered as f64 / seconds, f64::max);
    }

    /// Is it asked at all of late? Else what is fetched comes from nearby.
    pub(super) fn is_asked(&self) -> bool {
        self.lock().nearby_left > 0
    }

    /// How many bytes a reader should have ahead.
    pub(super) fn ahead_bytes(&self) -> u64 {
        let state = self.lock();
        let product =
            state.delay.best(f64::min).unwrap_or(0.0) * state.rate.best(f64::max).unwrap_or(0.0);
        let wished = (product * AHEAD_PRODUCTS) as u64;
        wished.max(AHEAD_BYTES_MIN).min(self.ahead_bytes_max)
    }

    /// How many bytes all readers together may have under way ahead.
    pub(super) fn ahead_bytes_max(&self) -> u64 {
        self.ahead_bytes_max
    }

    /// How many plain bytes one reader may have ahead.
    pub(super) fn ahead_plain_bytes_max(&self) -> u64 {
        self.ahead_plain_bytes_max
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Extreme {
    fn take(&mut self, now: Instant, value: f64, better: fn(f64, f64) -> f64) {
        let begun = *self.begun.get_or_insert(now);
        if now.saturating_duration_since(begun) >= BELIEVED_FOR {
            self.before = self.now.take();
            self.begun = Some(now);
        }
        self.now = Some(self.now.map_or(value, |best| better(best, value)));
    }

    fn best(&self, better: fn(f64, f64) -> f64) -> Option<f64> {
        match (self.now, self.before) {
            (Some(now), Some(before)) => Some(better(now, before)),
            (now, before) => now.or(before),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY_BYTES: u64 = 64 << 20;

    /// Has `count` requests of `bytes` under way at a time over a line with this delay and this rate, for a while.
    fn run(line: &Line, delay: Duration, rate: u64, bytes: u64, count: usize) {
        let start = Instant::now();
        let transfer = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let mut free = start;
        let mut under_way: Vec<(Instant, Begun)> = Vec::new();
        let mut now = start;
        for _ in 0..100 {
            while under_way.len() < count {
                let ready = (now + delay).max(free) + transfer;
                free = ready;
                under_way.push((ready, line.begin(now)));
            }
            let (ready, begun) = under_way.remove(0);
            now = ready;
            line.end(begun, now, bytes);
        }
    }

    #[test]
    fn what_is_ahead_keeps_a_line_full_and_no_more_than_memory_allows() {
        let line = Line::new(MEMORY_BYTES);
        assert_eq!(line.ahead_bytes(), AHEAD_BYTES_MIN);
        run(&line, Duration::from_millis(40), 20_000_000, 256 << 10, 8);
        let ahead = line.ahead_bytes();
        assert!((1_600_000..4_800_000).contains(&ahead), "{ahead}");
        run(
            &line,
            Duration::from_millis(200),
            1_000_000_000,
            4 << 20,
            16,
        );
        assert_eq!(line.ahead_bytes(), MEMORY_BYTES / MEMORY_PARTS);
        assert_eq!(Line::new(1 << 20).ahead_bytes(), 1 << 18);
    }

    #[test]
    fn answers_from_nearby_say_nothing_of_the_line_but_that_it_is_not_asked() {
        let line = Line::new(MEMORY_BYTES);
        run(&line, Duration::from_millis(40), 20_000_000, 256 << 10, 8);
        let ahead = line.ahead_bytes();
        assert!(line.is_asked());
        run(
            &line,
            Duration::from_micros(100),
            1_000_000_000,
            256 << 10,
            1,
        );
        assert!(!line.is_asked());
        assert_eq!(line.ahead_bytes(), ahead);
        run(&line, Duration::from_millis(3), 400_000_000, 1 << 20, 1);
        assert!(!line.is_asked(), "a disk");
        run(&line, Duration::from_millis(40), 20_000_000, 256 << 10, 1);
        assert!(line.is_asked());
    }

    #[test]
    fn what_was_measured_long_ago_is_forgotten() {
        let mut delay = Extreme::default();
        let start = Instant::now();
        for (second, value) in [(0, 1.0), (1, 3.0), (12, 5.0), (30, 6.0), (45, 7.0)] {
            delay.take(start + Duration::from_secs(second), value, f64::min);
        }
        assert_eq!(delay.best(f64::min), Some(6.0));
    }
}
