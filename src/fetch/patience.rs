//! For how long a thread waits for a distant store: whoever asks a mount is to hear of a failure while it still cares.
//!
//! A request of a mount may have to fetch several things one after the other, so that what it has is a moment by which all
//! must be done, and it belongs to the thread that works on it.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long a fetch may take where nobody said so.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

thread_local! {
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Does `work`, which waits for no store any longer at `deadline`.
pub fn by_deadline<T>(deadline: Instant, work: impl FnOnce() -> T) -> T {
    /// Gives back what was there, after a panic too.
    struct Back(Option<Instant>);
    impl Drop for Back {
        fn drop(&mut self) {
            DEADLINE.set(self.0);
        }
    }
    let _back = Back(DEADLINE.replace(Some(deadline)));
    work()
}

/// Until when this thread waits, if it was told.
pub(super) fn deadline() -> Option<Instant> {
    DEADLINE.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_holds_for_the_work_it_was_given_for() {
        let (near, far) = (Instant::now(), Instant::now() + DEFAULT_TIMEOUT);
        assert_eq!(deadline(), None);
        by_deadline(far, || {
            assert_eq!(deadline(), Some(far));
            by_deadline(near, || assert_eq!(deadline(), Some(near)));
            assert_eq!(deadline(), Some(far));
        });
        assert_eq!(deadline(), None);
    }
}
