//! Whether the store answers: told once when it stops, and once when it answers again.
//!
//! A store that is late where the cache has an answer is *late*: it is asked all the same for what the cache lacks. One
//! that could not be reached, with all the patience that its connection has, is *gone*: until it answers again nobody else
//! waits for so long, and it is asked by a thread of its own every few seconds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::base::{Error, ErrorKind, Result};
use crate::format::CONFIG_NAME;
use crate::store::Store;

/// So long a question is spared that can be answered from the cache, once the store was late.
const SPARED: Duration = Duration::from_secs(5);

/// So often a store that is gone is asked whether it is back.
const ASKED_EVERY: Duration = Duration::from_secs(2);

/// The state of a store's answers.
#[derive(Debug, Default)]
pub(super) struct Outage {
    silence: Mutex<Option<Silence>>,
}

#[derive(Debug, Clone, Copy)]
struct Silence {
    /// When it last did not answer.
    last: Instant,
    is_gone: bool,
}

impl Outage {
    /// Did it not answer just now?
    pub(super) fn is_recent(&self) -> bool {
        self.lock()
            .is_some_and(|silence| silence.is_gone || silence.last.elapsed() < SPARED)
    }

    /// Fails at once if the store is gone: somebody has waited for it long enough.
    ///
    /// # Errors
    /// Unreachable.
    pub(super) fn check(&self, store: &dyn Store) -> Result<()> {
        match *self.lock() {
            Some(Silence { is_gone: true, .. }) => Err(Error::new(
                ErrorKind::Unreachable,
                format!(
                    "{} does not answer, and the cache does not have this; it is asked again every few seconds",
                    store.location()
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Takes note of an answer, or of its lack.
    pub(super) fn note<T>(self: &Arc<Self>, store: &Arc<dyn Store>, result: &Result<T>) {
        match result {
            Err(error) if error.kind() == ErrorKind::Unreachable => {
                if !self.silent(store, error, true) {
                    self.watch(store);
                }
            }
            _ => self.answered(store),
        }
    }

    /// It is late.
    pub(super) fn late(&self, store: &Arc<dyn Store>, error: &Error) {
        self.silent(store, error, false);
    }

    /// Returns whether it was gone already.
    fn silent(&self, store: &Arc<dyn Store>, error: &Error, is_gone: bool) -> bool {
        let mut silence = self.lock();
        let before = *silence;
        let was_gone = before.is_some_and(|before| before.is_gone);
        *silence = Some(Silence {
            last: Instant::now(),
            is_gone: is_gone || was_gone,
        });
        drop(silence);
        if before.is_none() {
            let location = store.location();
            log::warn!("{location} does not answer; what the cache has can be read: {error}");
        }
        was_gone
    }

    fn answered(&self, store: &Arc<dyn Store>) {
        if self.lock().take().is_some() {
            log::warn!("{} answers again", store.location());
        }
    }

    /// Asks until it answers, or nobody wants to know any more.
    fn watch(self: &Arc<Self>, store: &Arc<dyn Store>) {
        let (outage, store) = (Arc::downgrade(self), Arc::clone(store));
        let watch = move || {
            loop {
                thread::sleep(ASKED_EVERY);
                let Some(outage) = outage.upgrade() else {
                    return;
                };
                if outage.lock().is_none() {
                    return;
                }
                match store.get(CONFIG_NAME) {
                    Err(error) if error.kind() == ErrorKind::Unreachable => {}
                    _ => return outage.answered(&store),
                }
            }
        };
        let started = thread::Builder::new()
            .name("bygone-watch".to_owned())
            .spawn(watch);
        if let Err(error) = started {
            // Then everybody asks for himself.
            log::warn!("cannot start a thread: {error}");
            *self.lock() = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Silence>> {
        self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
