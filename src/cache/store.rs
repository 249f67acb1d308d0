//! The store that readers see: another store, behind its cache.

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, bounded};

use super::ahead::Ahead;
use super::kept::{Ask, Cache, Came, Clock};
use super::kinds::{KEYS_PREFIX, Kind, is_listing_kept, kind_of};
use super::outage::Outage;
use super::pins::{Pin, Pinning};
use super::{CacheFolder, CacheOptions, folder_of};
use crate::base::{Error, ErrorKind, PointId, Result};
use crate::format::{CATALOGUE_PREFIX, CONFIG_NAME, POINTS_PREFIX};
use crate::store::{Body, Listed, Store};

/// So long the store is waited for where the cache has an answer of an earlier day.
const WAIT_MAX: Duration = Duration::from_secs(3);

/// So many passwords' keys are asked for ahead: most repositories have one or two.
const KEYS_AHEAD_MAX: usize = 2;

/// Names that come with one request: object stores give a thousand.
const PAGE_NAMES: usize = 1000;

/// Larger objects that this process puts are not kept: what of them is read will be.
const PUT_KEPT_BYTES_MAX: u64 = 8 << 20;

/// A store behind a cache on disk. Any thread may use it.
pub struct CachedStore {
    inner: Arc<dyn Store>,
    cache: Cache,
    outage: Arc<Outage>,
    /// Was asked ahead already?
    is_ahead: AtomicBool,
    keys_ahead: Ahead<Vec<u8>>,
    listings_ahead: Ahead<Vec<Listed>>,
    /// Prefixes of which it was noted what this process asked first.
    noted: Mutex<Vec<String>>,
}

impl CachedStore {
    /// `inner` behind the cache that `options` name.
    ///
    /// # Errors
    /// Denied, full or failed, if there can be no cache at its place. A damaged one is no error.
    pub fn open(inner: Arc<dyn Store>, options: &CacheOptions) -> Result<Self> {
        Self::with_clock(inner, options, Box::new(now))
    }

    /// Like `open`, for tests that tell what time it is: milliseconds since 1970.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn with_clock(inner: Arc<dyn Store>, options: &CacheOptions, now: Clock) -> Result<Self> {
        let location = inner.location();
        let folder = folder_of(&options.directory, &location);
        Ok(Self {
            cache: Cache::open(folder, &location, options.bytes_max, now)?,
            inner,
            outage: Arc::default(),
            is_ahead: AtomicBool::new(false),
            keys_ahead: Ahead::default(),
            listings_ahead: Ahead::default(),
            noted: Mutex::default(),
        })
    }

    /// The folder of this repository's cache.
    pub fn folder(&self) -> &CacheFolder {
        &self.cache.folder
    }

    /// What the cache may take of the disk, in bytes.
    pub fn bytes_max(&self) -> u64 {
        self.cache.bytes_max()
    }

    /// Begins to keep all that is read from now on, for a path of a point; goes on with a pin that is there.
    ///
    /// # Errors
    /// Full, denied or failed, if it cannot be written down.
    pub fn pin(&self, point: &PointId, path: &[u8]) -> Result<Pinning<'_>> {
        Pinning::begin(&self.cache, point, path)
    }

    /// All pins, oldest first.
    ///
    /// # Errors
    /// Corrupt or failed, if the index cannot be read.
    pub fn pins(&self) -> Result<Vec<Pin>> {
        let pins = self.cache.attempt(|open| open.pins())?;
        Ok(pins.unwrap_or_default())
    }

    /// Gives up the pin of a path, or all of a point, and returns how many there were.
    ///
    /// # Errors
    /// Full, denied or failed, if it cannot be written down.
    pub fn unpin(&self, point: &PointId, path: Option<&[u8]>) -> Result<u64> {
        let count = self.cache.attempt(|open| open.unpin(point, path))?;
        Ok(count.unwrap_or_default())
    }

    /// Asks the store for what the cache lacks; not, if it is gone.
    fn ask<T>(&self, request: impl FnOnce(&dyn Store) -> Result<T>) -> Result<T> {
        self.outage.check(&*self.inner)?;
        self.ask_anyway(request)
    }

    /// Asks the store, whether it answered lately or not.
    fn ask_anyway<T>(&self, request: impl FnOnce(&dyn Store) -> Result<T>) -> Result<T> {
        let result = request(&*self.inner);
        if !is_unreachable(&result) || !self.cache.is_empty() {
            self.outage.note(&self.inner, &result);
        }
        result
    }

    /// Asks the store on a thread of its own.
    fn start_asking<T: Send + 'static>(
        &self,
        request: impl FnOnce(&dyn Store) -> Result<T> + Send + 'static,
    ) -> Result<Receiver<Result<T>>> {
        let (sender, receiver) = bounded(1);
        let (inner, outage) = (Arc::clone(&self.inner), Arc::clone(&self.outage));
        let is_empty = self.cache.is_empty();
        let ask = move || {
            let result = request(&*inner);
            if !is_unreachable(&result) || !is_empty {
                outage.note(&inner, &result);
            }
            // Nobody listens any more if the answer took too long.
            let _too_late = sender.send(result);
        };
        std::thread::Builder::new()
            .name("bygone-ask".to_owned())
            .spawn(ask)
            .map_err(|error| Error::io("start a thread", error))?;
        Ok(receiver)
    }

    /// The answer that is on its way, or what is known if it does not come soon.
    fn answer_or_known<T>(&self, answer: &Receiver<Result<T>>, known: T) -> Result<T> {
        match answer.recv_timeout(WAIT_MAX) {
            Ok(Err(error)) if error.kind() == ErrorKind::Unreachable => Ok(known),
            Ok(result) => result,
            Err(_) => {
                let error = Error::new(
                    ErrorKind::Unreachable,
                    format!("no answer came within {} s", WAIT_MAX.as_secs()),
                );
                self.outage.late(&self.inner, &error);
                Ok(known)
            }
        }
    }

    /// Asks what will be asked next: for roll-ups by whoever knows nothing yet, else as far as the last process is a guide.
    fn look_ahead(&self) {
        if self.is_ahead.swap(true, Ordering::Relaxed) || self.outage.is_recent() {
            return;
        }
        let keys = self
            .cache
            .with(|open| open.kept_names(KEYS_PREFIX, KEYS_AHEAD_MAX));
        for name in keys.unwrap_or_default() {
            let asked = name.clone();
            if let Ok(answer) = self.start_asking(move |store| store.get(&asked)) {
                self.keys_ahead.asked(&name, "", answer);
            }
        }
        for prefix in [CATALOGUE_PREFIX, POINTS_PREFIX] {
            let from = match self.cache.with(|open| open.asked(prefix)).flatten() {
                Some(from) => from,
                // All points may be many requests, and where there are roll-ups nobody asks for all.
                None if prefix == CATALOGUE_PREFIX => String::new(),
                None => continue,
            };
            let asked = from.clone();
            if let Ok(answer) = self.start_asking(move |store| store.list(prefix, &asked)) {
                self.listings_ahead.asked(prefix, &from, answer);
            }
        }
    }

    fn get_changing(&self, name: &str) -> Result<Vec<u8>> {
        let known = self.cache.read(name, &Ask::Whole).map(|(bytes, _)| bytes);
        let result = match (known.clone(), self.keys_ahead.take(name, "")) {
            (None, _) => {
                if name == CONFIG_NAME {
                    self.look_ahead();
                }
                self.ask(|store| store.get(name))
            }
            (Some(known), Some(question)) => self.answer_or_known(&question.answer, known),
            (Some(known), None) if self.outage.is_recent() => Ok(known),
            (Some(known), None) => {
                let asked = name.to_owned();
                let answer = self.start_asking(move |store| store.get(&asked))?;
                if name == CONFIG_NAME {
                    self.look_ahead();
                }
                self.answer_or_known(&answer, known)
            }
        };
        match &result {
            Ok(bytes) if known.as_ref() == Some(bytes) => {}
            Ok(bytes) => {
                self.cache.forget(name);
                self.keep(name, 0, bytes, Some(bytes.len() as u64));
            }
            Err(error) if error.kind() == ErrorKind::Missing => drop(self.cache.forget(name)),
            Err(_) => {}
        }
        result
    }

    /// What the store says of a listing, or what is known of it if it does not answer.
    fn list_kept(&self, prefix: &str, from: &str) -> Result<Vec<Listed>> {
        let known = self.cache.with(|open| open.known_listing(prefix, from));
        let question = self.listings_ahead.take(prefix, from);
        let result = match (known.flatten(), question) {
            (Some(known), Some(question)) => self
                .answer_or_known(&question.answer, known)
                .map(|listed| from_on(listed, from)),
            (None, Some(question)) => match question.answer.recv() {
                Ok(Ok(listed)) => Ok(from_on(listed, from)),
                // What went wrong then may go well now, and if not, is told.
                _ => self.ask(|store| store.list(prefix, from)),
            },
            (None, None) => self.ask(|store| store.list(prefix, from)),
            (Some(known), None) if self.outage.is_recent() => Ok(known),
            (Some(known), None) => {
                let asked = (prefix.to_owned(), from.to_owned());
                let answer = self.start_asking(move |store| store.list(&asked.0, &asked.1))?;
                self.answer_or_known(&answer, known)
            }
        };
        if let Ok(listed) = &result {
            self.cache.with(|open| open.learn(prefix, from, listed));
            self.learn_asked(prefix, from, listed.len());
        }
        result
    }

    /// Notes what this process asked first, for the next one to ask ahead; not all points, if they are many requests.
    fn learn_asked(&self, prefix: &str, from: &str, count: usize) {
        let is_worth_it = match prefix {
            CATALOGUE_PREFIX => true,
            POINTS_PREFIX => !from.is_empty() || count < PAGE_NAMES,
            _ => false,
        };
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if is_worth_it && !noted.iter().any(|it| it == prefix) {
            noted.push(prefix.to_owned());
            self.cache.with(|open| open.learn_asked(prefix, from));
        }
    }

    fn keep(&self, name: &str, start: u64, bytes: &[u8], length: Option<u64>) {
        self.cache.keep(&Came {
            name,
            start,
            bytes,
            length,
            is_metadata: kind_of(name) != Kind::Data,
        });
    }

    /// Fetches what the cache lacks of a range, and puts the rest to it.
    fn complete(&self, name: &str, range: &Range<u64>) -> Result<Vec<u8>> {
        let gap = self.cache.lacking(name, range);
        let fetched = self.ask(|store| store.get_range(name, gap.clone()))?;
        self.keep(name, gap.start, &fetched, None);
        if gap == *range {
            return Ok(fetched);
        }
        let kept = |part: Range<u64>| match part.is_empty() {
            true => Some(Vec::new()),
            false => self
                .cache
                .read(name, &Ask::Range(part))
                .map(|(bytes, _)| bytes),
        };
        match (kept(range.start..gap.start), kept(gap.end..range.end)) {
            (Some(mut bytes), Some(behind)) => {
                bytes.extend_from_slice(&fetched);
                bytes.extend_from_slice(&behind);
                Ok(bytes)
            }
            // It was evicted meanwhile.
            _ => self.ask(|store| store.get_range(name, range.clone())),
        }
    }

    /// Keeps what this process has just put, if it is small: it is likely to be read soon.
    fn keep_put(&self, name: &str, body: &Body<'_>) {
        let Ok(length) = body.length() else {
            return;
        };
        if is_in_kept_listing(name) {
            self.cache.with(|open| open.learn_name(name, length));
        }
        if kind_of(name) != Kind::Metadata || length > PUT_KEPT_BYTES_MAX {
            return;
        }
        let bytes = match body {
            Body::Bytes(pieces) => Some(pieces.concat()),
            Body::Shared(pieces) => Some(pieces.concat()),
            Body::File(file) => {
                let mut bytes = vec![0; length as usize];
                file.read_exact_at(&mut bytes, 0).is_ok().then_some(bytes)
            }
        };
        if let Some(bytes) = bytes {
            self.keep(name, 0, &bytes, Some(length));
        }
    }
}

impl Store for CachedStore {
    fn get(&self, name: &str) -> Result<Vec<u8>> {
        let kind = kind_of(name);
        if kind == Kind::Changing {
            return self.get_changing(name);
        }
        if kind.is_lasting()
            && let Some((bytes, _)) = self.cache.read(name, &Ask::Whole)
        {
            return Ok(bytes);
        }
        let bytes = self.ask(|store| store.get(name))?;
        if kind.is_lasting() {
            self.keep(name, 0, &bytes, Some(bytes.len() as u64));
        }
        Ok(bytes)
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        match self.get_range_nearby(name, range.clone()) {
            Some(bytes) => Ok(bytes),
            None if is_range_kept(name, &range) => self.complete(name, &range),
            None => self.ask(|store| store.get_range(name, range)),
        }
    }

    fn get_tail(&self, name: &str, length: u64) -> Result<(Vec<u8>, u64)> {
        let is_lasting = kind_of(name).is_lasting();
        if is_lasting && let Some((bytes, Some(whole))) = self.cache.read(name, &Ask::Tail(length))
        {
            return Ok((bytes, whole));
        }
        let (bytes, whole) = self.ask(|store| store.get_tail(name, length))?;
        if is_lasting && let Some(start) = whole.checked_sub(bytes.len() as u64) {
            self.keep(name, start, &bytes, Some(whole));
        }
        Ok((bytes, whole))
    }

    fn put_new(&self, name: &str, body: Body<'_>) -> Result<()> {
        self.ask_anyway(|store| store.put_new(name, body))?;
        self.keep_put(name, &body);
        Ok(())
    }

    fn list(&self, prefix: &str, from: &str) -> Result<Vec<Listed>> {
        if !is_listing_kept(prefix) {
            return self.ask(|store| store.list(prefix, from));
        }
        self.list_kept(prefix, from)
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.ask_anyway(|store| store.delete(name))?;
        self.cache.forget(name);
        if is_in_kept_listing(name) {
            self.cache.with(|open| open.forget_name(name));
        }
        Ok(())
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn is_distant(&self) -> bool {
        self.inner.is_distant()
    }

    fn get_range_nearby(&self, name: &str, range: Range<u64>) -> Option<Vec<u8>> {
        if !is_range_kept(name, &range) {
            return None;
        }
        let (bytes, _) = self.cache.read(name, &Ask::Range(range))?;
        Some(bytes)
    }

    fn disbelieve(&self, name: &str) -> bool {
        let inner = self.inner.disbelieve(name);
        let had = self.cache.forget(name);
        if had {
            log::warn!("what the cache had of {name} was not what it must be, and is dropped");
        }
        had || inner
    }
}

/// Did the store not answer? Where nothing is kept there is nothing to go on with, and this failure says it all.
fn is_unreachable<T>(result: &Result<T>) -> bool {
    matches!(result, Err(error) if error.kind() == ErrorKind::Unreachable)
}

/// Can a range of an object be kept?
fn is_range_kept(name: &str, range: &Range<u64>) -> bool {
    kind_of(name).is_lasting() && !range.is_empty()
}

/// What a listing has from a name on.
fn from_on(mut listed: Vec<Listed>, from: &str) -> Vec<Listed> {
    listed.retain(|it| *it.name >= *from);
    listed
}

/// Does it lie in a folder whose listing is kept?
fn is_in_kept_listing(name: &str) -> bool {
    name.rfind('/')
        .is_some_and(|slash| is_listing_kept(&name[..=slash]))
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}
