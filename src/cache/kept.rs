//! The cache itself: what is kept of objects, found and added, from any thread.
//!
//! Nothing here fails a reader. What goes wrong is told in the log, once where it would go wrong each time, and looks like
//! something that is not kept. The lock is held for the index alone, never while bytes are read or written.

use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use super::database::{Database, KeptObject};
use super::files::{Files, ObjectNumber, read_range};
use super::folder::CacheFolder;
use super::pins::PinState;
use super::schema::{check_index, open_index};
use crate::base::{Error, ErrorKind, Result};
use crate::store::WHOLE_BYTES_MAX;

/// Objects whose ranges and files are at hand.
const HELD_MAX: NonZeroUsize = NonZeroUsize::new(128).expect("it is not zero");

/// A range's time of use is moved once it is so old, in milliseconds: to know it better would cost a write for each read.
const USE_GRAIN: i64 = 10_000;

/// So many moved times are written together at the latest.
const TOUCHED_MAX: usize = 512;

/// So often a cache is begun anew before it is given up.
const BEGINNINGS_MAX: u32 = 3;

/// The time now, in milliseconds since 1970.
pub(super) type Clock = Box<dyn Fn() -> i64 + Send + Sync>;

/// The cache of one repository.
pub(super) struct Cache {
    pub(super) folder: CacheFolder,
    location: String,
    bytes_max: u64,
    now: Clock,
    state: Mutex<State>,
}

/// None once the cache was given up.
struct State {
    open: Option<Open>,
    beginnings: u32,
    was_told: bool,
}

/// An open index with its files.
pub(super) struct Open {
    pub(super) database: Database,
    pub(super) files: Files,
    held: LruCache<String, Held>,
    touched: Vec<(ObjectNumber, u64, i64)>,
    pub(super) pin: PinState,
    /// Until then nothing can be evicted: all is pinned.
    pub(super) is_stuck_until: i64,
}

/// What this process remembers of an object.
struct Held {
    object: KeptObject,
    file: Option<Arc<File>>,
}

/// What is asked of an object.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Range(Range<u64>),
    /// At most so many of the last bytes.
    Tail(u64),
    Whole,
}

/// Bytes to keep, from `start` on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Came<'a> {
    pub(super) name: &'a str,
    pub(super) start: u64,
    pub(super) bytes: &'a [u8],
    /// Bytes of the whole object, if known.
    pub(super) length: Option<u64>,
    pub(super) is_metadata: bool,
}

impl Cache {
    /// Opens the cache in `folder`, or begins it.
    ///
    /// # Errors
    /// Denied, full or failed, if there can be none.
    pub(super) fn open(
        folder: CacheFolder,
        location: &str,
        bytes_max: Option<u64>,
        now: Clock,
    ) -> Result<Self> {
        folder.make()?;
        let open = match Open::in_folder(&folder, location) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                log::warn!("{error}; the cache is begun anew");
                Open::anew(&folder, location)?
            }
            result => result?,
        };
        let kept = open.database.totals().map_or(0, |totals| totals.bytes());
        Ok(Self {
            bytes_max: bytes_max.unwrap_or_else(|| folder.default_bytes_max(kept)),
            folder,
            location: location.to_owned(),
            now,
            state: Mutex::new(State {
                open: Some(open),
                beginnings: 0,
                was_told: false,
            }),
        })
    }

    /// What it may take, in bytes.
    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    pub(super) fn now(&self) -> i64 {
        (self.now)()
    }

    /// Is nothing kept?
    pub(super) fn is_empty(&self) -> bool {
        self.with(|open| open.database.totals())
            .is_none_or(|totals| totals.bytes() == 0)
    }

    /// What was asked for and the object's length if that is known; None, if it is not kept.
    pub(super) fn read(&self, name: &str, ask: &Ask) -> Option<(Vec<u8>, Option<u64>)> {
        let now = self.now();
        let found = self.with(|open| open.find(name, ask, now))??;
        match read_range(&found.file, &found.range) {
            Ok(bytes) => Some((bytes, found.length)),
            Err(error) => {
                log::warn!("{name} cannot be read from the cache: {error}; it is fetched anew");
                self.forget(name);
                None
            }
        }
    }

    /// What must be fetched of a range, from the first byte that lacks to the last.
    pub(super) fn lacking(&self, name: &str, range: &Range<u64>) -> Range<u64> {
        let gaps = self.with(|open| {
            let held = open.held(name)?;
            Ok(held.map_or_else(Vec::new, |held| held.object.ranges.gaps(range)))
        });
        match gaps.as_deref() {
            Some([first, .., last]) => first.start..last.end,
            Some([only]) => only.clone(),
            _ => range.clone(),
        }
    }

    /// Keeps bytes that came from the store, if there is room.
    pub(super) fn keep(&self, came: &Came<'_>) {
        if came.bytes.is_empty() {
            return;
        }
        let kept = match self.try_keep(came) {
            Err(error) if error.kind() == ErrorKind::Full => {
                let wanted = came.bytes.len() as u64 * 2;
                self.with(|open| open.evict(wanted));
                self.try_keep(came)
            }
            result => result,
        };
        match kept {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Full => {
                self.tell_once(&error);
                self.with(|open| {
                    open.pin.fail(error);
                    Ok(())
                });
            }
            Err(error) => self.settle(error),
        }
    }

    fn try_keep(&self, came: &Came<'_>) -> Result<()> {
        let now = self.now();
        let length = came.bytes.len() as u64;
        let Some((number, file)) = self.attempt(|open| {
            open.make_room(length, self.bytes_max, now)?;
            let number = open.database.number(came.name, came.length)?;
            Ok((number, open.file(came.name, number)?))
        })?
        else {
            return Ok(());
        };
        file.write_all_at(came.bytes, came.start)
            .map_err(|error| Error::io(format!("keep {} in the cache", came.name), error))?;
        self.attempt(|open| open.add(came, number, now))?;
        Ok(())
    }

    /// Gives all up that is kept of an object. Returns whether anything was.
    pub(super) fn forget(&self, name: &str) -> bool {
        let number = self.with(|open| {
            open.held.pop(name);
            let number = open.database.remove_object(name)?;
            number.map_or(Ok(()), |number| open.files.remove(number))?;
            Ok(number)
        });
        number.flatten().is_some()
    }

    /// Does `work`, or nothing if the cache was given up or fails.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Open) -> Result<T>) -> Option<T> {
        match self.attempt(work) {
            Ok(done) => done,
            Err(error) => {
                self.settle(error);
                None
            }
        }
    }

    /// Does `work`; None if the cache was given up.
    ///
    /// # Errors
    /// Those of `work`.
    pub(super) fn attempt<T>(
        &self,
        work: impl FnOnce(&mut Open) -> Result<T>,
    ) -> Result<Option<T>> {
        self.lock().open.as_mut().map(work).transpose()
    }

    /// Does what a failure asks for: what is damaged, or was taken away, is begun anew.
    fn settle(&self, error: Error) {
        if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Missing) {
            return self.tell_once(&error);
        }
        let mut state = self.lock();
        if state.open.is_none() {
            return;
        }
        log::warn!("{error}; the cache is opened anew");
        state.open = None;
        state.beginnings += 1;
        if state.beginnings > BEGINNINGS_MAX {
            log::warn!("the cache is damaged time and again: this process goes on without it");
            return;
        }
        match Open::anew(&self.folder, &self.location) {
            Ok(open) => state.open = Some(open),
            Err(error) => log::warn!("{error}: this process goes on without its cache"),
        }
    }

    fn tell_once(&self, error: &Error) {
        let was_told = std::mem::replace(&mut self.lock().was_told, true);
        match was_told {
            true => log::debug!("{error}"),
            false => log::warn!("{error}; what cannot be kept is fetched each time"),
        }
    }

    /// Nothing leaves the state half changed: the index has transactions, and what is remembered follows it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.with(Open::flush);
    }
}

/// Where bytes are that are kept.
struct Found {
    file: Arc<File>,
    range: Range<u64>,
    length: Option<u64>,
}

impl Open {
    fn in_folder(folder: &CacheFolder, location: &str) -> Result<Self> {
        let database = open_index(&folder.index(), location)?;
        let files = Files::open(folder.objects(&database.about("generation")?))?;
        Ok(Self::with(database, files))
    }

    pub(super) fn with(database: Database, files: Files) -> Self {
        Self {
            database,
            files,
            held: LruCache::new(HELD_MAX),
            touched: Vec::new(),
            pin: PinState::default(),
            is_stuck_until: i64::MIN,
        }
    }

    /// Opens the index if it is whole, and begins it anew if not. Another process may be about the same.
    fn anew(folder: &CacheFolder, location: &str) -> Result<Self> {
        folder.make()?;
        let _lock = folder.lock()?;
        let opened = Self::in_folder(folder, location).and_then(|open| {
            check_index(&open.database.connection)?;
            open.database.totals()?;
            Ok(open)
        });
        match opened {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                folder.empty()?;
                Self::in_folder(folder, location)
            }
            result => result,
        }
    }

    fn find(&mut self, name: &str, ask: &Ask, now: i64) -> Result<Option<Found>> {
        let Some(held) = self.held(name)? else {
            return Ok(None);
        };
        let KeptObject { number, length, .. } = held.object;
        let range = match (ask, length) {
            (Ask::Range(range), _) => range.clone(),
            (Ask::Tail(bytes), Some(length)) => length.saturating_sub(*bytes)..length,
            (Ask::Whole, Some(length)) if length <= WHOLE_BYTES_MAX => 0..length,
            _ => return Ok(None),
        };
        if range.is_empty() {
            return Ok(None);
        }
        let Some(covering) = held.object.ranges.covering(&range) else {
            return Ok(None);
        };
        let mut touched = Vec::new();
        for (start, used) in covering {
            if now.saturating_sub(used) >= USE_GRAIN {
                held.object.ranges.touch(start, now);
                touched.push((number, start, now));
            }
        }
        self.touched.extend(touched);
        self.pin.add(number, &range);
        let file = self.file(name, number)?;
        if self.touched.len() >= TOUCHED_MAX || self.pin.is_due() {
            self.flush()?;
        }
        Ok(Some(Found {
            file,
            range,
            length,
        }))
    }

    /// Notes that bytes are in the object's file.
    fn add(&mut self, came: &Came<'_>, number: ObjectNumber, now: i64) -> Result<()> {
        let Came { start, bytes, .. } = *came;
        let added = self
            .database
            .add_ranges(number, start, bytes, came.is_metadata, now)?;
        if let Some(held) = self.held(came.name)? {
            held.object.length = held.object.length.or(came.length);
            for range in added {
                held.object.ranges.insert(range, now);
            }
        }
        self.pin.add(number, &(start..start + bytes.len() as u64));
        match self.pin.is_due() {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// What is known of an object, as of now. None, if nothing is kept of it.
    fn held(&mut self, name: &str) -> Result<Option<&mut Held>> {
        if self.database.has_changed()? {
            self.held.clear();
        }
        if !self.held.contains(name) {
            let Some(object) = self.database.object(name)? else {
                return Ok(None);
            };
            self.held.put(name.to_owned(), Held { object, file: None });
        }
        Ok(self.held.get_mut(name))
    }

    /// The file of an object that is known by now.
    fn file(&mut self, name: &str, number: ObjectNumber) -> Result<Arc<File>> {
        let file = self.held(name)?.and_then(|held| held.file.clone());
        if let Some(file) = file {
            return Ok(file);
        }
        let file = Arc::new(self.files.file(number)?);
        if let Some(held) = self.held(name)? {
            held.file = Some(Arc::clone(&file));
        }
        Ok(file)
    }

    /// No longer remembers that this range is kept.
    pub(super) fn let_go(&mut self, number: ObjectNumber, start: u64) {
        let held = self.held.iter_mut();
        for (_, held) in held.filter(|(_, held)| held.object.number == number) {
            held.object.ranges.remove(start);
        }
    }

    /// No longer remembers anything of an object.
    pub(super) fn let_object_go(&mut self, number: ObjectNumber) {
        let mut held = self.held.iter();
        let found = held.find(|(_, held)| held.object.number == number);
        if let Some(name) = found.map(|(name, _)| name.clone()) {
            self.held.pop(&name);
        }
    }

    /// Writes what was used and pinned since it was last written.
    pub(super) fn flush(&mut self) -> Result<()> {
        let touched = std::mem::take(&mut self.touched);
        if !touched.is_empty() {
            self.database.touch(&touched)?;
        }
        self.flush_pinned()
    }
}
