//! A bound on bytes a second, held over all that share it.
//!
//! Whoever moved bytes asks how long to wait before it moves more. What was moved is never taken back, so that a large
//! piece is paid for by the wait after it; over a second or more the rate holds exactly.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How much may be moved at once after a silence, as time at the full rate.
const BURST: Duration = Duration::from_millis(100);

/// One rate.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: NonZeroU64,
    /// When all that was moved so far will have been paid for.
    paid_at: Mutex<Option<Instant>>,
}

/// What may go up and come down, each over all connections together. Copies share their bounds.
#[derive(Debug, Clone, Default)]
pub struct Rates {
    pub upload: Option<Arc<Pace>>,
    pub download: Option<Arc<Pace>>,
}

impl Pace {
    /// A bound of so many bytes a second.
    pub fn new(bytes_per_second: NonZeroU64) -> Self {
        Self {
            bytes_per_second,
            paid_at: Mutex::new(None),
        }
    }

    /// Counts `bytes` as moved at `now`, and returns how long to wait before more are.
    pub fn charge(&self, bytes: u64, now: Instant) -> Duration {
        let cost = bytes as f64 / self.bytes_per_second.get() as f64;
        let cost = Duration::try_from_secs_f64(cost).unwrap_or(Duration::MAX);
        let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let from = paid_at.map_or(earliest, |paid_at| paid_at.max(earliest));
        let until = from.checked_add(cost).unwrap_or(from);
        *paid_at = Some(until);
        until.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(bytes_per_second: u64) -> Pace {
        Pace::new(NonZeroU64::new(bytes_per_second).unwrap())
    }

    #[test]
    fn all_that_share_a_pace_wait_for_one_another() {
        let (pace, now) = (pace(1000), Instant::now());
        let first = pace.charge(1100, now);
        let second = pace.charge(1000, now);
        assert_eq!(
            (first, second),
            (Duration::from_secs(1), Duration::from_secs(2))
        );
        assert_eq!(pace.charge(0, now + first), Duration::from_secs(1));
        assert_eq!(pace.charge(0, now + second), Duration::ZERO);
    }

    #[test]
    fn silence_saves_up_no_more_than_a_burst() {
        let (pace, now) = (pace(1000), Instant::now());
        pace.charge(100, now);
        let later = now + Duration::from_secs(3600);
        assert_eq!(pace.charge(100, later), Duration::ZERO);
        assert_eq!(pace.charge(1000, later), Duration::from_secs(1));
    }
}
