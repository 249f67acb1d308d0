//! Scouts: threads that list directories, and look at what is in them, ahead of the walk.
//!
//! A walk on its own waits for the disk at every step: of a tree that is not in memory, eight scouts bring what one
//! would take more than twice as long for. They go where the walk will go next, in its order, and no further than
//! `LISTINGS_MAX` directories and `LOOKED_MAX` files ahead; what they have not begun, the walk does itself.
//!
//! Scouts see what the walk would see, by the same code (`Level::arrive`), a little earlier. They go nowhere that it
//! would not go without a second thought: not to another device, not to what is excluded or named apart.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::process::{Resource, getrlimit};

use super::handle::Place;
use super::level::{Arrival, Below, Level};
use super::status::Status;
use super::walk::WalkOptions;
use crate::base::Key;

/// Threads. They wait for the disk most of the time, so that there may be more than processors.
const SCOUTS: usize = 8;

/// Directories that were listed and are not entered yet: each holds a file handle.
const LISTINGS_MAX: usize = 192;

/// Files that were looked at in them.
const LOOKED_MAX: usize = 32 << 10;

/// Files that are looked at in one directory; the walk looks at the rest.
const LOOKED_IN_ONE_MAX: usize = 8 << 10;

/// Deeper directories are left to the walk, since each level that waits for a scout is held open.
const DEPTH_MAX: usize = 64;

/// A directory that a scout may list.
#[derive(Debug)]
pub struct Errand {
    pub key: Key,
    pub place: Place,
    pub below: Below,
}

/// The scouts of one walk.
#[derive(Debug)]
pub struct Scouts {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    options: WalkOptions,
    /// Directories that may be listed ahead.
    listings_max: usize,
    board: Mutex<Board>,
    /// There may be an errand to do.
    may_go: Condvar,
    /// A scout is back; the walk may be waiting for it.
    is_back: Condvar,
}

/// Which directory is how far. Each is known by what the keys below it begin with, which sorts as the walk goes.
#[derive(Debug, Default)]
struct Board {
    ahead: BTreeMap<Vec<u8>, Errand>,
    under_way: HashSet<Vec<u8>>,
    back: HashMap<Vec<u8>, Level>,
    /// Files that were looked at in those that are back.
    looked: usize,
    is_over: bool,
}

impl Scouts {
    /// Scouts for a walk that leaves out what `options` say. Where the system has no threads to give, there are fewer.
    pub fn new(options: WalkOptions) -> Self {
        let shared = Arc::new(Shared {
            options,
            listings_max: listings_max(),
            board: Mutex::default(),
            may_go: Condvar::new(),
            is_back: Condvar::new(),
        });
        let threads = (0..SCOUTS)
            .map_while(|_| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name("scout".to_string())
                    .spawn(move || shared.work())
                    .ok()
            })
            .collect();
        Self { shared, threads }
    }

    /// Nobody, for tests of what happens between one look of the walk and the next.
    #[cfg(test)]
    pub fn none(options: WalkOptions) -> Self {
        let mut scouts = Self::new(options);
        scouts.shared.board().is_over = true;
        scouts.shared.may_go.notify_all();
        for thread in scouts.threads.drain(..) {
            drop(thread.join());
        }
        scouts
    }

    /// Has a directory listed, unless the walk comes to it first.
    pub fn send(&self, errand: Errand) {
        if !self.threads.is_empty() {
            self.shared.send(vec![errand]);
        }
    }

    /// What a scout found in the directory `key`; None if none has been there, and none will.
    pub fn take(&self, key: &Key) -> Option<Level> {
        let place = key.descendants_prefix();
        let mut board = self.shared.board();
        if board.ahead.remove(&place).is_some() {
            return None;
        }
        while board.under_way.contains(&place) {
            board = wait(&self.shared.is_back, board);
        }
        let level = board.back.remove(&place)?;
        board.looked -= level.looked().len();
        drop(board);
        self.shared.may_go.notify_one();
        Some(level)
    }
}

impl Drop for Scouts {
    fn drop(&mut self) {
        self.shared.board().is_over = true;
        self.shared.may_go.notify_all();
        for thread in self.threads.drain(..) {
            // One that panicked has said so; what it had not done, nobody waits for any more.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, errands: Vec<Errand>) {
        let errands = errands
            .into_iter()
            .filter(|errand| errand.key.components().count() <= DEPTH_MAX)
            .map(|errand| (errand.key.descendants_prefix(), errand));
        let mut board = self.board();
        board.ahead.extend(errands);
        drop(board);
        self.may_go.notify_one();
    }

    fn work(&self) {
        let mut board = self.board();
        while !board.is_over {
            let Some((place, errand)) = board.next(self.listings_max) else {
                board = wait(&self.may_go, board);
                continue;
            };
            board.under_way.insert(place.clone());
            let has_more = board.has_next(self.listings_max);
            drop(board);
            if has_more {
                self.may_go.notify_one();
            }
            let back = UnderWay {
                shared: self,
                place,
            };
            match self.scout(errand) {
                Some((level, errands)) => {
                    self.send(errands);
                    back.bring(level);
                }
                // Before the board is locked again, which this does too.
                None => drop(back),
            }
            board = self.board();
        }
    }

    /// Lists a directory and looks at what is in it; and what may be scouted next. Whatever goes wrong is for the
    /// walk to find, a moment later, when more files may be opened.
    fn scout(&self, errand: Errand) -> Option<(Level, Vec<Errand>)> {
        match Level::arrive(&errand.key, &errand.place, errand.below, &self.options) {
            Arrival::Open(mut level) => {
                level.look_ahead(LOOKED_IN_ONE_MAX);
                let errands = self.errands(&level);
                Some((level, errands))
            }
            Arrival::Hidden(_) | Arrival::Failed(..) => None,
        }
    }

    /// The directories that a level which was looked at has.
    fn errands(&self, level: &Level) -> Vec<Errand> {
        let directories = level.looked().filter_map(|(name, status)| {
            let status = status.as_ref().ok()?;
            status.is_directory().then_some((name, status))
        });
        directories
            .filter_map(|(name, status)| errand(level, name, status, &self.options))
            .collect()
    }
}

/// The errand for the directory `name` in `level`, if it is one that a scout may do.
pub fn errand(
    level: &Level,
    name: &[u8],
    status: &Status,
    options: &WalkOptions,
) -> Option<Errand> {
    let is_plain = level.scope.is_some()
        && status.device == level.identity.device
        && level.child_node(name).is_none()
        && !options.never.contains(&status.identity());
    if !is_plain {
        return None;
    }
    let path = level.path_of(name);
    if !options.excludes.is_empty() && options.excludes.match_path(&path, true) {
        return None;
    }
    Some(Errand {
        key: level.key.child(name).ok()?,
        place: level.place_of(name)?,
        below: Below::new(name, None, status, level.scope, None, path),
    })
}

/// A directory that a scout is in. Should the scout panic, the walk hears that it has to go there itself.
struct UnderWay<'a> {
    shared: &'a Shared,
    place: Vec<u8>,
}

impl UnderWay<'_> {
    fn bring(self, level: Level) {
        let mut board = self.shared.board();
        board.looked += level.looked().len();
        board.back.insert(self.place.clone(), level);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.shared.board().under_way.remove(&self.place);
        self.shared.is_back.notify_one();
    }
}

impl Board {
    fn has_next(&self, listings_max: usize) -> bool {
        !self.ahead.is_empty()
            && self.back.len() + self.under_way.len() < listings_max
            && self.looked < LOOKED_MAX
    }

    /// The errand that the walk will need first, while there is room for what it brings back.
    fn next(&mut self, listings_max: usize) -> Option<(Vec<u8>, Errand)> {
        if self.has_next(listings_max) {
            self.ahead.pop_first()
        } else {
            None
        }
    }
}

/// An eighth of the files that may be open: the rest is for the walk, for those who read, and for the store.
fn listings_max() -> usize {
    let open_files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    LISTINGS_MAX.min(usize::try_from(open_files / 8).unwrap_or(usize::MAX))
}

fn wait<'a>(changed: &Condvar, board: MutexGuard<'a, Board>) -> MutexGuard<'a, Board> {
    changed.wait(board).unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::excludes::Excludes;
    use super::super::level::Scope;
    use super::*;

    fn key(path: &str) -> Key {
        Key::from_path(path.as_bytes()).unwrap()
    }

    /// A folder `a` with a file, and folders `b` to go on to and `left-out` not to.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a/b/deeper", "a/left-out/deeper"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("a/file"), "content").unwrap();
        folder
    }

    fn options(never: &[Status]) -> WalkOptions {
        WalkOptions {
            excludes: Excludes::new(&["left-out".to_string()]).unwrap(),
            exclude_caches: false,
            markers: Vec::new(),
            one_file_system: false,
            never: never.iter().map(Status::identity).collect(),
        }
    }

    fn errand_to(folder: &std::path::Path, name: &str) -> Errand {
        let place = Place::of_path(&folder.join(name)).unwrap();
        let status = Status::of(&*place.directory, name.as_bytes()).unwrap();
        let device = status.device;
        let below = Below::new(
            name.as_bytes(),
            None,
            &status,
            Some(Scope { device }),
            None,
            name.as_bytes().to_vec(),
        );
        let key = key(name);
        Errand { key, place, below }
    }

    /// What a scout brings from `path`, once the scouts have had time for it; None if none goes there.
    fn brought(scouts: &Scouts, path: &str) -> Option<Level> {
        let place = key(path).descendants_prefix();
        while scouts.shared.board().ahead.contains_key(&place) {
            std::thread::yield_now();
        }
        scouts.take(&key(path))
    }

    #[test]
    fn scouts_bring_what_is_there_and_go_on_to_what_is_below() {
        let folder = folder();
        let scouts = Scouts::new(options(&[]));
        scouts.send(errand_to(folder.path(), "a"));
        let level = brought(&scouts, "a").expect("a scout was sent there");
        let handle = level.handle.clone().unwrap();
        let names: Vec<_> = level.looked().map(|(name, _)| name).collect();
        assert_eq!(names, [&b"b"[..], b"file", b"left-out"]);
        for (name, status) in level.looked() {
            assert_eq!(*status, Status::of(&*handle, name));
        }
        let below = brought(&scouts, "a/b").expect("a scout goes on to what is below");
        assert_eq!(below.looked().len(), 1);
        assert!(brought(&scouts, "a/left-out").is_none());
        assert!(brought(&scouts, "a").is_none(), "it is brought once");
        assert_eq!(
            scouts.shared.board().looked,
            0,
            "what was taken counts no more"
        );
    }

    #[test]
    fn what_goes_wrong_is_left_for_the_walk_to_find() {
        let folder = folder();
        let errand = errand_to(folder.path(), "a");
        let replaced = folder.path().join("a");
        std::fs::rename(&replaced, folder.path().join("moved")).unwrap();
        std::fs::create_dir(&replaced).unwrap();
        let scouts = Scouts::new(options(&[]));
        scouts.send(errand);
        assert!(brought(&scouts, "a").is_none());
    }

    #[test]
    fn no_errand_leads_to_what_the_walk_must_think_about() {
        let folder = folder();
        let errand_to_a = errand_to(folder.path(), "a");
        let place = errand_to_a.place.clone();
        let arrival = Level::arrive(&key("a"), &place, errand_to_a.below, &options(&[]));
        let Arrival::Open(level) = arrival else {
            panic!("it can be listed: {arrival:?}");
        };
        let status = Status::of(level.handle.as_deref().unwrap(), b"b").unwrap();
        let is_sent = |status: &Status, never: &[Status]| {
            errand(&level, b"b", status, &options(never)).is_some()
        };
        assert!(is_sent(&status, &[]));
        assert!(!is_sent(&status, std::slice::from_ref(&status)));
        let elsewhere = Status {
            device: status.device + 1,
            ..status.clone()
        };
        assert!(!is_sent(&elsewhere, &[]));
        assert!(errand(&level, b"left-out", &status, &options(&[])).is_none());
    }
}
