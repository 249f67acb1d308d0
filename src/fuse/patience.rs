//! How long a request may keep whoever asks waiting, where the repository is distant.
//!
//! One read(2) may be several requests: the kernel reads ahead, and what that did not bring it asks for again, a page at a
//! time. To whoever waits it is one wait. So a read of what has just failed since the store did not answer has no time of its
//! own: it gets what is in memory, or fails at once.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::{Error, ErrorKind};
use crate::tree::NodeId;

/// What is asked for again within this belongs to the read that failed. The kernel asks at once; a machine with other things
/// to do lets it, and all who wait for the same page, have their turn within this. For so long a store that is back is not
/// noticed where reads have just failed.
const SAME_READ: Duration = Duration::from_secs(1);

/// Failures that are remembered: as many as requests that the kernel has under way at a time.
const FAILURES_MAX: usize = 512;

/// The patience of a mount's requests. Any thread may use it.
pub(super) struct Patience {
    timeout: Duration,
    /// Oldest first.
    failures: Mutex<VecDeque<Failure>>,
}

/// A read that ended because the store did not answer.
struct Failure {
    node: NodeId,
    /// Bytes of the file.
    range: Range<u64>,
    at: Instant,
}

impl Patience {
    /// Each may wait for `timeout`.
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            failures: Mutex::default(),
        }
    }

    /// Until when a request that comes now may wait. `reads` is the file and the place where it reads, if it does.
    pub(super) fn deadline(&self, reads: Option<(NodeId, u64)>) -> Instant {
        let now = Instant::now();
        match reads {
            Some((node, offset)) if self.has_failed(node, offset, now) => now,
            _ => now + self.timeout,
        }
    }

    /// Takes note that a read of `size` bytes ended with `error`.
    pub(super) fn failed(&self, node: NodeId, offset: u64, size: u32, error: &Error) {
        if error.kind() != ErrorKind::Unreachable {
            return;
        }
        let at = Instant::now();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        while failures.front().is_some_and(|first| {
            failures.len() >= FAILURES_MAX || at.duration_since(first.at) >= SAME_READ
        }) {
            failures.pop_front();
        }
        failures.push_back(Failure {
            node,
            range: offset..offset.saturating_add(u64::from(size)),
            at,
        });
    }

    fn has_failed(&self, node: NodeId, offset: u64, now: Instant) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.iter().any(|failure| {
            failure.node == node
                && failure.range.contains(&offset)
                && now.saturating_duration_since(failure.at) < SAME_READ
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);
    const FILE: NodeId = NodeId(7);

    fn unreachable() -> Error {
        Error::new(ErrorKind::Unreachable, "no answer")
    }

    /// Has a read there time of its own?
    fn may_wait(patience: &Patience, node: NodeId, offset: u64) -> bool {
        patience.deadline(Some((node, offset))) > Instant::now()
    }

    #[test]
    fn what_has_just_failed_is_not_waited_for_again() {
        let patience = Patience::new(TIMEOUT);
        assert!(may_wait(&patience, FILE, 4096));
        patience.failed(FILE, 4096, 8192, &unreachable());
        assert!(!may_wait(&patience, FILE, 4096) && !may_wait(&patience, FILE, 12287));
        assert!(may_wait(&patience, FILE, 0) && may_wait(&patience, FILE, 12288));
        assert!(may_wait(&patience, NodeId(8), 4096));
        assert!(patience.deadline(None) > Instant::now());
        // What failed for another reason says nothing of the store.
        patience.failed(FILE, 0, 4096, &Error::corrupt("a pack", "damaged"));
        assert!(may_wait(&patience, FILE, 0));
    }

    #[test]
    fn a_failure_is_forgotten_soon_and_few_are_remembered() {
        let patience = Patience::new(TIMEOUT);
        patience.failed(FILE, 0, 4096, &unreachable());
        let later = Instant::now() + SAME_READ;
        assert!(!patience.has_failed(FILE, 0, later));
        for number in 0..2 * FAILURES_MAX as u64 {
            patience.failed(NodeId(number), 0, 4096, &unreachable());
        }
        assert_eq!(patience.failures.lock().unwrap().len(), FAILURES_MAX);
    }
}
