//! Whether the store answers: told once when it stops, and once when it answers again.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::{Error, ErrorKind, Result};

/// So long a question is spared that can be answered from the cache, once the store did not answer.
const SPARED: Duration = Duration::from_secs(5);

/// The state of a store's answers.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// When it last did not answer, if it has not since.
    silent: Mutex<Option<Instant>>,
}

impl Outage {
    /// Did it not answer just now?
    pub(super) fn is_recent(&self) -> bool {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.is_some_and(|since| since.elapsed() < SPARED)
    }

    /// Takes note of an answer, or of its lack.
    pub(super) fn note<T>(&self, location: &str, result: &Result<T>) {
        match result {
            Err(error) if error.kind() == ErrorKind::Unreachable => self.silent(location, error),
            _ => self.answered(location),
        }
    }

    /// It does not answer.
    pub(super) fn silent(&self, location: &str, error: &Error) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if silent.replace(Instant::now()).is_none() {
            log::warn!("{location} does not answer; what the cache has can be read: {error}");
        }
    }

    fn answered(&self, location: &str) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if silent.take().is_some() {
            log::warn!("{location} answers again");
        }
    }
}
