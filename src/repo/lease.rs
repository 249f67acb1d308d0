//! The lease of a running backup: written before anything else, kept fresh by new ones, taken away at the end.
//!
//! Objects never change, so that a lease is refreshed by writing another one that names it, and then deleting it.
//! Where nothing may be deleted, old leases stay, and whoever reads them goes by their times.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;

use crate::base::{Error, ErrorKind, LeaseId, PointId, Result};
use crate::format::{Features, LEASES_PREFIX, LeaseKind, LeaseRecord, lease_name};
use crate::store::Body;

use super::Repository;
use super::repository::random_bytes;

/// How often a lease is renewed: often enough that a few failures in a row do not make it look dead after half an
/// hour.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// A lease that is kept fresh for as long as this lives.
pub struct Lease {
    held: Arc<Held>,
    /// Dropping it ends the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Held {
    repository: Arc<Repository>,
    current: Mutex<LeaseRecord>,
}

impl Lease {
    /// Writes the lease of a backup that stands on `parent`.
    ///
    /// # Errors
    /// Failed, if the repository may not be written or no thread can be started; and those of the store.
    pub fn acquire(repository: &Arc<Repository>, parent: Option<PointId>) -> Result<Self> {
        Self::acquire_for(repository, parent, REFRESH_INTERVAL)
    }

    fn acquire_for(
        repository: &Arc<Repository>,
        parent: Option<PointId>,
        interval: Duration,
    ) -> Result<Self> {
        repository.check_writable()?;
        let record = first_record(parent)?;
        let held = Arc::new(Held {
            repository: Arc::clone(repository),
            current: Mutex::new(record.clone()),
        });
        held.put(&record)?;
        let (stop, stopped) = channel();
        let mut lease = Self {
            held: Arc::clone(&held),
            stop: Some(stop),
            thread: None,
        };
        let refresh = move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                if let Err(error) = held.refresh() {
                    log::warn!("cannot refresh the lease: {error}");
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("lease".to_owned())
            .spawn(refresh)
            .map_err(|error| Error::io("start a thread", error))?;
        lease.thread = Some(thread);
        Ok(lease)
    }

    /// The id of the lease as it is now.
    pub fn id(&self) -> LeaseId {
        self.held.current().id
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::warn!("the thread that refreshes the lease has panicked");
        }
        self.held.delete(&self.id());
    }
}

impl Held {
    fn current(&self) -> LeaseRecord {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    fn put(&self, record: &LeaseRecord) -> Result<()> {
        let bytes = record.encode(self.repository.seal())?;
        self.repository
            .store()
            .put_new(&lease_name(&record.id), Body::Bytes(&[&bytes]))
    }

    fn refresh(&self) -> Result<()> {
        let old = self.current();
        let new = LeaseRecord {
            id: LeaseId(random_bytes()?),
            refreshed: Timestamp::now(),
            replaces: Some(old.id),
            ..old.clone()
        };
        self.put(&new)?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = new;
        self.delete(&old.id);
        Ok(())
    }

    fn delete(&self, id: &LeaseId) {
        if let Err(error) = self.repository.store().delete(&lease_name(id)) {
            log::debug!("a lease stays behind: {error}");
        }
    }
}

/// All leases that can be read, however old.
///
/// # Errors
/// Those of the store, and of a damaged lease: who must heed leases must not overlook one.
pub fn leases(repository: &Repository) -> Result<Vec<LeaseRecord>> {
    let mut leases = Vec::new();
    for listed in repository.store().list(LEASES_PREFIX, "")? {
        let Ok(id) = listed.name[LEASES_PREFIX.len()..].parse::<LeaseId>() else {
            log::warn!("{} is no lease", listed.name);
            continue;
        };
        match repository.store().get(&listed.name) {
            Ok(bytes) => leases.push(LeaseRecord::decode(repository.seal(), &id, &bytes)?),
            Err(error) if error.kind() == ErrorKind::Missing => {}
            Err(error) => return Err(error),
        }
    }
    Ok(leases)
}

/// The lease of a backup that begins now, in this process.
fn first_record(parent: Option<PointId>) -> Result<LeaseRecord> {
    let now = Timestamp::now();
    Ok(LeaseRecord {
        id: LeaseId(random_bytes()?),
        features: Features::default(),
        kind: LeaseKind::Backup,
        host: host(),
        process: std::process::id(),
        parent,
        began: now,
        refreshed: now,
        replaces: None,
    })
}

/// The host's name, for whoever wonders whose lease it is.
fn host() -> String {
    let names = rustix::system::uname();
    names.nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::InitOptions;
    use super::*;
    use crate::store::MemoryStore;

    #[test]
    fn a_lease_is_there_while_it_is_held_and_renews_itself() {
        let store = Arc::new(MemoryStore::new());
        let repository = Repository::init(store, &InitOptions::default()).unwrap();
        let parent = PointId {
            seconds: 1,
            random: 2,
        };
        let lease =
            Lease::acquire_for(&repository, Some(parent), Duration::from_millis(5)).unwrap();
        let first = lease.id();
        while lease.id() == first {
            std::thread::yield_now();
        }
        let found = leases(&repository).unwrap();
        assert!((1..=2).contains(&found.len()));
        assert!(found.iter().all(|found| found.parent == Some(parent)));
        drop(lease);
        assert!(leases(&repository).unwrap().is_empty());
    }

    #[test]
    fn a_store_that_deletes_nothing_is_good_enough() {
        let store = Arc::new(MemoryStore::append_only());
        let repository = Repository::init(store, &InitOptions::default()).unwrap();
        drop(Lease::acquire(&repository, None).unwrap());
        assert_eq!(leases(&repository).unwrap().len(), 1);
    }
}
