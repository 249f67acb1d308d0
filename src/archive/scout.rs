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

use super::handle::Place;
use super::level::{Arrival, Below, Level};
use super::status::Status;
use super::walk::WalkOptions;
use crate::base::Key;

/// Threads. They wait for the disk most of the time, so that there may be more than processors.
const SCOUTS: usize = 8;

/// Directories that were listed and are not entered yet: each holds a file handle.
const LISTINGS_MAX: usize = 64;

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
    back: HashMap<Vec<u8>, Arrival>,
    /// Files that were looked at in those that are back.
    looked: usize,
    is_over: bool,
}

impl Scouts {
    /// Scouts for a walk that leaves out what `options` say. Where the system has no threads to give, there are fewer.
    pub fn new(options: WalkOptions) -> Self {
        let shared = Arc::new(Shared {
            options,
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

    /// Has a directory listed, unless the walk comes to it first.
    pub fn send(&self, errand: Errand) {
        if !self.threads.is_empty() {
            self.shared.send(vec![errand]);
        }
    }

    /// What a scout found in the directory `key`; None if none has been there, and none will.
    pub fn take(&self, key: &Key) -> Option<Arrival> {
        let place = key.descendants_prefix();
        let mut board = self.shared.board();
        if board.ahead.remove(&place).is_some() {
            return None;
        }
        while board.under_way.contains(&place) {
            board = wait(&self.shared.is_back, board);
        }
        let arrival = board.back.remove(&place)?;
        board.looked -= looked_in(&arrival);
        drop(board);
        self.shared.may_go.notify_one();
        Some(arrival)
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
            let Some((place, errand)) = board.next() else {
                board = wait(&self.may_go, board);
                continue;
            };
            board.under_way.insert(place.clone());
            let has_more = board.has_next();
            drop(board);
            if has_more {
                self.may_go.notify_one();
            }
            let back = UnderWay {
                shared: self,
                place,
            };
            let (arrival, errands) = self.scout(errand);
            self.send(errands);
            back.bring(arrival);
            board = self.board();
        }
    }

    /// Lists a directory and looks at what is in it; and what may be scouted next.
    fn scout(&self, errand: Errand) -> (Arrival, Vec<Errand>) {
        let mut arrival = Level::arrive(&errand.key, &errand.place, errand.below, &self.options);
        let errands = match &mut arrival {
            Arrival::Open(level) => {
                level.look_ahead(LOOKED_IN_ONE_MAX);
                self.errands(level)
            }
            _ => Vec::new(),
        };
        (arrival, errands)
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
    fn bring(self, arrival: Arrival) {
        let mut board = self.shared.board();
        board.looked += looked_in(&arrival);
        board.back.insert(self.place.clone(), arrival);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.shared.board().under_way.remove(&self.place);
        self.shared.is_back.notify_one();
    }
}

impl Board {
    fn has_next(&self) -> bool {
        !self.ahead.is_empty()
            && self.back.len() + self.under_way.len() < LISTINGS_MAX
            && self.looked < LOOKED_MAX
    }

    /// The errand that the walk will need first, while there is room for what it brings back.
    fn next(&mut self) -> Option<(Vec<u8>, Errand)> {
        if self.has_next() {
            self.ahead.pop_first()
        } else {
            None
        }
    }
}

fn looked_in(arrival: &Arrival) -> usize {
    match arrival {
        Arrival::Open(level) => level.looked().len(),
        _ => 0,
    }
}

fn wait<'a>(changed: &Condvar, board: MutexGuard<'a, Board>) -> MutexGuard<'a, Board> {
    changed.wait(board).unwrap_or_else(PoisonError::into_inner)
}
