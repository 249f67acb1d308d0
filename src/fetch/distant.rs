//! Asking a distant store: how a thread waits for it, and no longer than it may.
//!
//! A request is made by a thread of a crew, and whoever needs it waits for the answer until its deadline. So a mount lives
//! while the store is silent: each question fails in time, and the crew's threads come back when the store does. Where
//! everything of late came from nearby (a cache), that is asked first, on the thread itself: a hand-over costs more. So it is
//! where there is no time for the store.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};

use crate::base::{Error, ErrorKind, Result};
use crate::repo::Repository;

use super::crew::Crew;
use super::line::Line;
use super::patience::deadline;

/// Requests under way for those who wait. As many as a mount has threads that may wait.
const ASKING_THREADS_MAX: usize = 64;

/// Requests under way for what is fetched ahead.
const AHEAD_THREADS_MAX: usize = 16;

/// A distant store, and who asks it.
pub(super) struct Distant {
    repository: Arc<Repository>,
    pub(super) line: Line,
    timeout: Duration,
    asking: Crew,
    ahead: Crew,
}

thread_local! {
    /// This thread asks for what nobody waits for yet.
    static IS_AHEAD: Cell<bool> = const { Cell::new(false) };
}

impl Distant {
    /// The repository's store, from which fetches bring things to a memory cache of so many bytes.
    pub(super) fn new(repository: &Arc<Repository>, memory_bytes: u64, timeout: Duration) -> Self {
        Self {
            repository: Arc::clone(repository),
            line: Line::new(memory_bytes),
            timeout,
            asking: Crew::new("bygone-ask", ASKING_THREADS_MAX),
            ahead: Crew::new("bygone-fetch", AHEAD_THREADS_MAX),
        }
    }

    /// Until when this thread waits.
    pub(super) fn deadline(&self) -> Instant {
        deadline().unwrap_or_else(|| Instant::now() + self.timeout)
    }

    /// Has a thread do `job` that nobody waits for.
    pub(super) fn later(&self, job: impl FnOnce() + Send + 'static) {
        self.ahead.run(Box::new(|| {
            IS_AHEAD.set(true);
            job();
        }));
    }

    /// A range of an object.
    ///
    /// # Errors
    /// Unreachable, if it did not come in time; else those of the store.
    pub(super) fn get_range(self: &Arc<Self>, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        if IS_AHEAD.get() {
            return self.measured(name, range);
        }
        if (!self.line.is_asked() || self.deadline() <= Instant::now())
            && let Some(bytes) = self.nearby(name, &range)
        {
            return Ok(bytes);
        }
        let (distant, named) = (Arc::downgrade(self), name.to_owned());
        self.ask(name, move || match distant.upgrade() {
            Some(distant) => distant.measured(&named, range),
            None => Err(ended(&named)),
        })
    }

    /// What `ask` gets, which is called on a thread of its own and not waited for any longer than this one may wait.
    ///
    /// # Errors
    /// Unreachable, if it did not end in time; else those of `ask`.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        what: &str,
        ask: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = bounded(1);
        let is_wanted = Arc::new(());
        let wanted = Arc::downgrade(&is_wanted);
        self.asking.run(Box::new(move || {
            // Whoever asked may have given up while this waited for its turn.
            if wanted.upgrade().is_some() {
                // Or it gives up now; a cache below has kept what came.
                let _nobody_waits = sender.send(ask());
            }
        }));
        match receiver.recv_deadline(self.deadline()) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(too_late(what)),
            Err(RecvTimeoutError::Disconnected) => Err(ended(what)),
        }
    }

    /// A range that is to be had without the network: here, since a hand-over costs more than that.
    fn nearby(&self, name: &str, range: &Range<u64>) -> Option<Vec<u8>> {
        let begun = self.line.begin(Instant::now());
        let store = self.repository.store();
        let bytes = store.get_range_nearby(name, range.clone())?;
        self.line.end(begun, Instant::now(), bytes.len() as u64);
        Some(bytes)
    }

    fn measured(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let begun = self.line.begin(Instant::now());
        let bytes = self.repository.store().get_range(name, range)?;
        self.line.end(begun, Instant::now(), bytes.len() as u64);
        Ok(bytes)
    }
}

/// The failure of a fetch whose thread ended first, by an error in bygone itself.
fn ended(what: &str) -> Error {
    Error::new(
        ErrorKind::Failed,
        format!("cannot read {what}: who asked for it ended"),
    )
}

/// The failure of a fetch that did not end in time.
pub(super) fn too_late(what: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::Unreachable,
        format!(
            "{what} did not come in time: the store does not answer, or is too slow for --timeout"
        ),
    )
}
