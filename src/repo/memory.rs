//! What a client remembers of a repository, by the place where it found it: its id, whether it is encrypted, and the
//! newest point of each set that it saw there.
//!
//! Encryption keeps whoever runs the store from changing an object; nothing in the store can keep them from showing an
//! old state of all of it, or another repository. Who has been there before can tell. A sequence counts the points of a
//! set, so that one that is lower than was seen before, with the point that had it gone, is the past. It is told until
//! there are more points than before.
//!
//! Invariant: a file is replaced as a whole or stays. Two commands at once may lose what one of them saw, and no more.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::observed::{Newest, Seen};
use super::repository::{Closed, Repository};
use crate::base::{Error, ErrorKind, KeyId, PointId, RepositoryId, Result};

/// A file that is longer was written by nobody who remembers: that would be a hundred thousand sets.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What is remembered of one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The place, for whoever looks at the file.
    location: String,
    repository: RepositoryId,
    encrypted: bool,
    /// The key that a password opened last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<KeyId>,
    /// In order of hosts and names.
    #[serde(default)]
    sets: Vec<SetMemory>,
}

/// The newest point of one set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SetMemory {
    host: String,
    set: String,
    sequence: u64,
    point: PointId,
}

/// What a person should know before they trust what a store shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// The place holds another repository than before.
    AnotherRepository {
        location: String,
        was: RepositoryId,
        is: RepositoryId,
    },
    /// A set is at an older state than before.
    GoneBack {
        location: String,
        host: String,
        set: String,
        was: u64,
        point: PointId,
        is: Option<u64>,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnotherRepository { location, was, is } => write!(
                f,
                "{location} is another repository than when it was last used here: {is}, and it was {was}; if you did \
                 not replace it, somebody else did"
            ),
            Self::GoneBack {
                location,
                host,
                set,
                was,
                point,
                is,
            } => {
                write!(
                    f,
                    "the repository at {location} has gone back: set {set} of host {host} was at number {was}, point \
                     {point}, which is not there any more, and is "
                )?;
                match is {
                    Some(is) => write!(f, "at number {is}"),
                    None => f.write_str("gone"),
                }?;
                f.write_str("; if nobody deleted points, it was put back to an older state")
            }
        }
    }
}

impl Memory {
    /// What a file remembers; None if there is no such file.
    ///
    /// # Errors
    /// Corrupt, if it is no memory; and those of the system.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        let text = match fs::metadata(path) {
            Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
                return Err(Error::corrupt(path.display(), "it is too long"));
            }
            Ok(_) => fs::read(path),
            Err(error) => Err(error),
        };
        match text {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| Error::corrupt(path.display(), error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("read {}", path.display()), error)),
        }
    }

    /// Puts it into a file, in the place of what was there.
    ///
    /// # Errors
    /// Those of the system; what was there then still is.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| {
            let problem = format!("cannot write {}: {error}", path.display());
            Error::new(ErrorKind::Failed, problem)
        })?;
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&temporary)
            .and_then(|mut file| {
                file.write_all(&text)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&temporary, path));
        written.map_err(|error| {
            // It may never have been made.
            drop(fs::remove_file(&temporary));
            Error::io(format!("write {}", path.display()), error)
        })
    }

    /// The key that a password opened last, which is the first to try.
    pub fn key(&self) -> Option<KeyId> {
        self.key
    }

    /// Is the repository at this place the one that it was? To be asked before a password is given, or anything done.
    ///
    /// # Errors
    /// Corrupt, if it was encrypted and is not any more: whoever took the encryption away wants to read what comes.
    pub fn check(&self, closed: &Closed) -> Result<Option<Warning>> {
        let config = closed.config();
        let location = closed.store().location();
        if self.encrypted && !config.seal.is_encrypted() {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!(
                    "the repository at {location} was encrypted when it was last used here, and its config now says \
                     that it is not: somebody has replaced it"
                ),
            ));
        }
        let is_other = self.repository != config.repository;
        Ok(is_other.then_some(Warning::AnotherRepository {
            location,
            was: self.repository,
            is: config.repository,
        }))
    }

    /// What is to be remembered of an open repository, given what was before; and what is wrong with what was seen.
    pub fn learn(before: Option<&Self>, repository: &Repository) -> (Self, Vec<Warning>) {
        let location = repository.store().location();
        let seen = repository.observed().so_far();
        let known = before
            .filter(|memory| memory.repository == repository.id())
            .map(|memory| memory.sets.as_slice())
            .unwrap_or_default();
        let warnings = gone_back(known, repository, &seen);
        let mut newest = seen.newest;
        for set in known {
            let name = (set.host.clone(), set.set.clone());
            let remembered = Newest {
                sequence: set.sequence,
                point: set.point,
            };
            let found = newest.entry(name).or_insert(remembered);
            if found.sequence <= remembered.sequence {
                *found = remembered;
            }
        }
        let sets = newest
            .into_iter()
            .map(|((host, set), newest)| SetMemory {
                host,
                set,
                sequence: newest.sequence,
                point: newest.point,
            })
            .collect();
        let learned = Self {
            location,
            repository: repository.id(),
            encrypted: repository.seal().is_encrypted(),
            key: repository.key(),
            sets,
        };
        (learned, warnings)
    }
}

/// What is wrong with what was seen of a repository, given what it was said to have been remembered of it. Tells each
/// set once, so that whoever stays may ask again and again.
pub fn warnings(repository: &Repository) -> Vec<Warning> {
    let observed = repository.observed();
    match observed.remembered() {
        Some(memory) if memory.repository == repository.id() => {
            gone_back(&memory.sets, repository, &observed.so_far())
        }
        _ => Vec::new(),
    }
}

/// The sets that have gone back, but for those of which it was told.
fn gone_back(known: &[SetMemory], repository: &Repository, seen: &Seen) -> Vec<Warning> {
    let location = repository.store().location();
    known
        .iter()
        .filter_map(|set| set.gone_back(&location, seen))
        .filter(|warning| match warning {
            Warning::GoneBack { host, set, .. } => repository.observed().tells_first(host, set),
            Warning::AnotherRepository { .. } => true,
        })
        .collect()
}

impl SetMemory {
    /// Is the set at an older state than this, as far as was seen? Only a listing of all points tells.
    fn gone_back(&self, location: &str, seen: &Seen) -> Option<Warning> {
        let is_listed = seen.listed.as_ref()?.binary_search(&self.point).is_ok();
        let name = (self.host.clone(), self.set.clone());
        let is = seen.newest.get(&name).map(|newest| newest.sequence);
        if is_listed || is.is_some_and(|is| is > self.sequence) {
            return None;
        }
        Some(Warning::GoneBack {
            location: location.to_owned(),
            host: self.host.clone(),
            set: self.set.clone(),
            was: self.sequence,
            point: self.point,
            is,
        })
    }
}

#[cfg(test)]
mod tests {

    use std::sync::Arc;

    use super::*;

    use crate::format::{CONFIG_NAME, KeyDescription, Point, point_name};
    use crate::repo::{Catalogue, Encryption, InitOptions, commit};
    use crate::seal::{Derivation, Password};
    use crate::store::{MemoryStore, Store};

    fn point(set: &str, sequence: u64) -> Point {
        let id = PointId {
            seconds: sequence as i64,
            random: set.len() as u32,
        };
        Point {
            sequence,
            set: set.into(),
            ..Point::sample(id)
        }
    }

    fn open(store: &Arc<MemoryStore>) -> Arc<Repository> {
        Repository::open(store.clone()).unwrap()
    }

    fn with_points(sequences: &[u64]) -> Arc<MemoryStore> {
        let store = Arc::new(MemoryStore::new());
        let repository = Repository::init(store.clone(), &InitOptions::default()).unwrap();
        for sequence in sequences {
            commit(&repository, &point("home", *sequence)).unwrap();
        }
        store
    }

    /// What is learned by whoever lists all points.
    fn learn(before: Option<&Memory>, store: &Arc<MemoryStore>) -> (Memory, Vec<Warning>) {
        let repository = open(store);
        Catalogue::load(&repository).unwrap();
        Memory::learn(before, &repository)
    }

    fn lose(store: &MemoryStore, sequence: u64) {
        store.lose(&point_name(&point("home", sequence).id));
    }

    #[test]
    fn a_set_that_has_gone_back_is_told_until_it_has_more_points_than_before() {
        let store = with_points(&[1, 2, 3]);
        let (memory, warnings) = learn(None, &store);
        assert!(warnings.is_empty());
        assert_eq!(memory.sets[0].sequence, 3);
        lose(&store, 3);
        for _ in 0..2 {
            let (again, warnings) = learn(Some(&memory), &store);
            assert_eq!(again, memory, "the newest is not forgotten");
            let text = warnings[0].to_string();
            assert!(
                text.contains("number 3") && text.contains("number 2"),
                "{text}"
            );
        }
        commit(&open(&store), &point("home", 4)).unwrap();
        let (memory, warnings) = learn(Some(&memory), &store);
        assert!(warnings.is_empty());
        assert_eq!(memory.sets[0].sequence, 4);
    }

    #[test]
    fn another_point_of_the_same_number_is_no_way_to_hide_that_one_is_gone() {
        let store = with_points(&[1, 2]);
        let (memory, _) = learn(None, &store);
        lose(&store, 2);
        let mut other = point("home", 2);
        other.id.random = 77;
        other.base = other.id;
        other.lineage = vec![other.id];
        commit(&open(&store), &other).unwrap();
        assert_eq!(learn(Some(&memory), &store).1.len(), 1);
    }

    #[test]
    fn a_point_in_the_middle_may_go_and_other_sets_are_looked_at_by_themselves() {
        let store = with_points(&[1, 2, 3]);
        commit(&open(&store), &point("etc", 9)).unwrap();
        let (memory, _) = learn(None, &store);
        lose(&store, 2);
        assert!(learn(Some(&memory), &store).1.is_empty());
        lose(&store, 3);
        assert_eq!(learn(Some(&memory), &store).1.len(), 1);
    }

    #[test]
    fn who_has_listed_nothing_says_nothing_and_forgets_nothing() {
        let store = with_points(&[1, 2]);
        let (memory, _) = learn(None, &store);
        lose(&store, 2);
        let (learned, warnings) = Memory::learn(Some(&memory), &open(&store));
        assert!(warnings.is_empty());
        assert_eq!(learned, memory);
    }

    #[test]
    fn who_stays_is_told_once_as_soon_as_all_points_were_listed() {
        let store = with_points(&[1, 2]);
        let (memory, _) = learn(None, &store);
        let repository = open(&store);
        repository.observed().remembers(memory.clone());
        let mut catalogue = Catalogue::load(&repository).unwrap();
        assert!(super::warnings(&repository).is_empty());
        lose(&store, 2);
        catalogue.refresh(&repository).unwrap();
        assert!(super::warnings(&repository).is_empty());
        catalogue.refresh_all(&repository).unwrap();
        assert_eq!(super::warnings(&repository).len(), 1);
        catalogue.refresh_all(&repository).unwrap();
        assert!(super::warnings(&repository).is_empty());
        assert!(Memory::learn(Some(&memory), &repository).1.is_empty());
    }

    #[test]
    fn another_repository_is_told_and_remembered_from_then_on() {
        let (memory, _) = learn(None, &with_points(&[5]));
        let other = with_points(&[1]);
        let closed = Closed::read(other.clone()).unwrap();
        let warning = memory.check(&closed).unwrap().expect("it is another one");
        assert!(warning.to_string().contains("another repository"));
        let (memory, warnings) = learn(Some(&memory), &other);
        assert!(warnings.is_empty());
        assert!(memory.check(&closed).unwrap().is_none());
    }

    #[test]
    fn encryption_that_was_turned_off_is_refused() {
        let store = Arc::new(MemoryStore::new());
        let options = InitOptions {
            encryption: Some(Encryption {
                password: Password::new(b"x".to_vec()).unwrap(),
                derivation: Derivation {
                    memory_kib: 8,
                    passes: 1,
                    lanes: 1,
                },
                is_padded: false,
                description: KeyDescription {
                    created: jiff::Timestamp::UNIX_EPOCH,
                    host: String::new(),
                    user: String::new(),
                    label: None,
                },
            }),
            ..InitOptions::default()
        };
        let repository = Repository::init(store.clone(), &options).unwrap();
        let (memory, _) = Memory::learn(None, &repository);
        assert!(memory.key().is_some());
        let closed = Closed::read(store.clone()).unwrap();
        assert_eq!(memory.check(&closed).unwrap(), None);
        let plain = with_points(&[]).get(CONFIG_NAME).unwrap();
        store.damage(CONFIG_NAME, &plain);
        let refused = memory.check(&Closed::read(store).unwrap()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_memory_comes_back_from_its_file_and_nonsense_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        assert_eq!(Memory::load(&path).unwrap(), None);
        let (memory, _) = learn(None, &with_points(&[1]));
        memory.save(&path).unwrap();
        memory.save(&path).unwrap();
        assert_eq!(Memory::load(&path).unwrap(), Some(memory));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::write(&path, b"{").unwrap();
        assert_eq!(Memory::load(&path).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
