//! What differs between a point and the file system as it is now, at the paths that the point records.
//!
//! The walk of a backup meets the point's entries. A file whose status is the recorded one is the same; of others the
//! details are looked at, and bytes are read and held against the ids of the recorded chunks: none of them is fetched.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::iter::Peekable;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::super::recorded::{RecordedSources, is_within};
use super::PathDifference;
use crate::archive::{Excludes, Identity, Seen, Sighting, Sources, Walk, WalkOptions, open_seen};
use crate::base::{Error, ErrorKind, Event, Key, Monitor, Result};
use crate::fetch::Fetcher;
use crate::format::{Content, Entry, EntryFlags, Extent, Metadata, Point, decode_extents};
use crate::manifest::{Aspect, Chain, Changes, Found};

/// What a comparison leaves out beside the point's own excludes.
#[derive(Debug, Clone, Default)]
pub struct LiveOptions {
    /// What lies in directories that are marked as caches.
    pub exclude_caches: bool,
    /// Directories that have an entry of one of these names.
    pub exclude_if_present: Vec<Vec<u8>>,
    /// Other file systems than that of each source.
    pub one_file_system: bool,
    /// Directories that no backup enters: the repository's own.
    pub never: Vec<PathBuf>,
}

/// Gives what differs at `below` and below it to `emit`: `old` is the point's, `new` what is there now. What cannot be
/// read is a warning to the monitor, and is not compared. Returns how many warnings there were.
///
/// # Errors
/// Usage, if nothing is at `below` or the point is not of it; interrupted; whatever `emit` fails with; and those of reading the chain.
pub fn compare_live(
    fetcher: &Arc<Fetcher>,
    point: &Point,
    below: &Key,
    options: &LiveOptions,
    monitor: &dyn Monitor,
    emit: &mut dyn FnMut(PathDifference) -> Result<()>,
) -> Result<u64> {
    let chain = Chain::open(fetcher, point)?;
    if chain.lookup(below)?.is_none() && live_path(below).symlink_metadata().is_err() {
        return Err(usage(format!(
            "neither the point nor the file system has {below}"
        )));
    }
    let options = WalkOptions {
        excludes: Excludes::new(&point.excludes)?,
        exclude_caches: options.exclude_caches,
        markers: options.exclude_if_present.clone(),
        one_file_system: options.one_file_system,
        never: options
            .never
            .iter()
            .filter_map(|path| identity(path))
            .collect(),
    };
    let mut scopes = Vec::new();
    for source in RecordedSources::of([point])?.outermost() {
        if is_within(&source, below) {
            scopes.push((source.clone(), source));
        } else if is_within(below, &source) {
            scopes.push((source, below.clone()));
        }
    }
    if scopes.is_empty() {
        return Err(usage(format!("the point is not of {below}")));
    }
    let mut warnings = 0;
    for (source, scope) in scopes {
        // Globs are relative to the source, so that where there are some all of it is walked.
        let walked = if options.excludes.is_empty() {
            &scope
        } else {
            &source
        };
        let mut comparison = Comparison {
            fetcher,
            monitor,
            live: sightings(walked, &scope, &options)?,
            recorded: chain.entries(&scope).peekable(),
            passed_over: Vec::new(),
            warnings: 0,
            emit,
        };
        comparison.run()?;
        warnings += comparison.warnings;
    }
    Ok(warnings)
}

fn usage(message: String) -> Error {
    Error::new(ErrorKind::Usage, message)
}

fn identity(path: &Path) -> Option<Identity> {
    let stat = std::fs::metadata(path).ok()?;
    Some(Identity {
        device: stat.dev(),
        inode: stat.ino(),
    })
}

type Sightings = Peekable<Box<dyn Iterator<Item = Result<Sighting>>>>;

/// What the walk of `walked` sees at `scope` and below it; nothing if it is not there.
fn sightings(walked: &Key, scope: &Key, options: &WalkOptions) -> Result<Sightings> {
    let path = live_path(walked);
    let nothing: Box<dyn Iterator<Item = Result<Sighting>>> = Box::new(std::iter::empty());
    let is_gone = path
        .symlink_metadata()
        .is_err_and(|error| matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)));
    if is_gone {
        return Ok(nothing.peekable());
    }
    let sources = Sources::resolve(std::slice::from_ref(&path), Some(&path))?;
    let scope = scope.clone();
    let walk = Walk::new(&sources, options.clone())?;
    let walk: Box<dyn Iterator<Item = Result<Sighting>>> = Box::new(walk.filter(move |sighting| {
        let seen = sighting.as_ref();
        seen.map_or(true, |sighting| is_within(key_of(sighting), &scope))
    }));
    Ok(walk.peekable())
}

/// A recorded path in the file system.
fn live_path(key: &Key) -> PathBuf {
    let path = key.to_path();
    Path::new("/").join(std::ffi::OsStr::from_bytes(&path))
}

fn key_of(sighting: &Sighting) -> &Key {
    match sighting {
        Sighting::Entry(seen) => &seen.key,
        Sighting::Unreadable { key, .. }
        | Sighting::Unlisted { key, .. }
        | Sighting::Excluded { key }
        | Sighting::ExcludedBelow { key }
        | Sighting::Vanished { key } => key,
    }
}

/// The merge of what is recorded with what is there.
struct Comparison<'a, R: Iterator<Item = Result<Found>>> {
    fetcher: &'a Fetcher,
    monitor: &'a dyn Monitor,
    live: Sightings,
    recorded: Peekable<R>,
    /// Of what keys begin so nothing is known: it could not be seen, or is left out on purpose.
    passed_over: Vec<Vec<u8>>,
    warnings: u64,
    emit: &'a mut dyn FnMut(PathDifference) -> Result<()>,
}

impl<R: Iterator<Item = Result<Found>>> Comparison<'_, R> {
    fn run(&mut self) -> Result<()> {
        loop {
            if self.monitor.is_interrupted() {
                return Err(Error::new(
                    ErrorKind::Interrupted,
                    "the comparison was interrupted",
                ));
            }
            let live = match self.live.peek() {
                Some(Ok(sighting)) => Some(key_of(sighting)),
                Some(Err(_)) => return self.live.next().map_or(Ok(()), |failed| failed.map(drop)),
                None => None,
            };
            let recorded = match self.recorded.peek() {
                Some(Ok(found)) => Some(&found.key),
                Some(Err(_)) => {
                    return self
                        .recorded
                        .next()
                        .map_or(Ok(()), |failed| failed.map(drop));
                }
                None => None,
            };
            let (takes_live, takes_recorded) = match (live, recorded) {
                (None, None) => return Ok(()),
                (Some(live), Some(recorded)) => (live <= recorded, recorded <= live),
                (live, recorded) => (live.is_some(), recorded.is_some()),
            };
            let found = self.recorded.next_if(|_| takes_recorded).transpose()?;
            match self.live.next_if(|_| takes_live).transpose()? {
                Some(sighting) => self.meet(sighting, found)?,
                None => found.map_or(Ok(()), |found| self.removed(found))?,
            }
        }
    }

    /// Something was seen at a key, or could not be, and `found` is what is recorded there.
    fn meet(&mut self, sighting: Sighting, found: Option<Found>) -> Result<()> {
        match sighting {
            Sighting::Entry(seen) => self.compare(&seen, found),
            Sighting::Vanished { .. } => found.map_or(Ok(()), |found| self.removed(found)),
            Sighting::Unreadable { key, problem } | Sighting::Unlisted { key, problem } => {
                self.passed_over.push(key.descendants_prefix());
                self.warn(&key, &problem);
                Ok(())
            }
            Sighting::Excluded { key } | Sighting::ExcludedBelow { key } => {
                self.passed_over.push(key.descendants_prefix());
                Ok(())
            }
        }
    }

    fn removed(&mut self, found: Found) -> Result<()> {
        let key = found.key.as_bytes();
        // Every prefix has a whole name at its end, the root's apart, below which all is.
        if self
            .passed_over
            .iter()
            .any(|prefix| key.starts_with(prefix))
        {
            return Ok(());
        }
        (self.emit)(PathDifference {
            key: found.key,
            old: Some(found.entry),
            new: None,
            changes: Changes::default(),
        })
    }

    fn compare(&mut self, seen: &Seen, found: Option<Found>) -> Result<()> {
        let Some(Found { key, entry, .. }) = found else {
            return (self.emit)(PathDifference {
                key: seen.key.clone(),
                old: None,
                new: Some(Box::new(entry_of(
                    seen.status.with_details(Default::default()),
                ))),
                changes: Changes::default(),
            });
        };
        let flags = entry.flags;
        let is_known = !flags.unsettled && !flags.changed_while_read && !flags.carried;
        if is_known && seen.status.is_version(&entry.metadata) {
            return Ok(());
        }
        let opened = match open_seen(&seen.place, seen.status.file_type) {
            Ok(opened) => opened,
            Err(None) => {
                return (self.emit)(PathDifference {
                    key,
                    old: Some(entry),
                    new: None,
                    changes: Changes::default(),
                });
            }
            Err(Some(problem)) => {
                self.warn(&key, &problem);
                return Ok(());
            }
        };
        let metadata = opened.status.with_details(opened.details);
        let mut changes = Changes::of_metadata(&entry.metadata, &metadata);
        if !changes.has(Aspect::Type) {
            match self.is_same_content(&entry, &metadata, opened.file.map(File::from)) {
                Ok(is_same) => changes.add_if(Aspect::Content, !is_same),
                Err(error) => {
                    self.warn(&key, &error.to_string());
                    return Ok(());
                }
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        (self.emit)(PathDifference {
            key,
            old: Some(entry),
            new: Some(Box::new(entry_of(metadata))),
            changes,
        })
    }

    /// The two are of one type.
    fn is_same_content(&self, old: &Entry, new: &Metadata, file: Option<File>) -> Result<bool> {
        let recorded = &old.metadata;
        if (&recorded.target, recorded.rdev) != (&new.target, new.rdev) {
            return Ok(false);
        }
        let Some(mut file) = file else {
            return Ok(true);
        };
        if recorded.size != new.size {
            return Ok(false);
        }
        match &old.content {
            Content::Nothing => Ok(true),
            Content::Inline(inline) => {
                let mut bytes = vec![0; inline.len()];
                Ok(fill(&mut file, &mut bytes)? && bytes == *inline)
            }
            Content::Extents(extents) => self.is_same_bytes(&mut file, extents),
            Content::Lists(lists) => {
                for list in lists {
                    let encoded = self.fetcher.extent_list(&list.chunk)?;
                    if !self.is_same_bytes(&mut file, &decode_extents(&encoded, list.span)?)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    /// Does the file go on with these extents? It stands behind them then.
    fn is_same_bytes(&self, file: &mut File, extents: &[Extent]) -> Result<bool> {
        let seal = self.fetcher.repository().seal();
        let mut bytes = Vec::new();
        for extent in extents {
            let is_same = match extent {
                Extent::Chunk(place) => {
                    bytes.resize(place.length as usize, 0);
                    fill(file, &mut bytes)? && seal.chunk_id(&bytes) == place.id
                }
                Extent::Hole(length) | Extent::Zeros(length) => has_zeros(file, *length)?,
            };
            if !is_same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn warn(&mut self, key: &Key, problem: &str) {
        self.warnings += 1;
        self.monitor
            .event(Event::Warning(Some(&live_path(key)), problem));
    }
}

/// A file of the file system as an entry without content.
fn entry_of(metadata: Metadata) -> Entry {
    Entry {
        metadata,
        origin: None,
        group: None,
        flags: EntryFlags::default(),
        content_hash: None,
        content: Content::Nothing,
        unknown: Vec::new(),
    }
}

/// Fills `bytes` with what comes next; false if the file ends before.
fn fill(file: &mut File, bytes: &mut [u8]) -> Result<bool> {
    match file.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(Error::io("read it", error)),
    }
}

/// Bytes that are looked at together.
const ZEROS_BYTES: u64 = 1 << 20;

/// Is all that comes next, so many bytes, zeros? Holes are passed over.
fn has_zeros(file: &mut File, length: u64) -> Result<bool> {
    let in_file = |error| Error::io("read it", error);
    let mut place = file.stream_position().map_err(in_file)?;
    let end = place.saturating_add(length);
    let mut bytes = Vec::new();
    while place < end {
        match rustix::fs::seek(&*file, rustix::fs::SeekFrom::Data(place)) {
            Ok(data) if data < end => place = data,
            Ok(_) | Err(Errno::NXIO) => break,
            // A file system that knows no holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {}
            Err(problem) => return Err(in_file(problem.into())),
        }
        bytes.resize((end - place).min(ZEROS_BYTES) as usize, 0);
        file.seek(SeekFrom::Start(place)).map_err(in_file)?;
        if !fill(file, &mut bytes)? || bytes.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        place += bytes.len() as u64;
    }
    file.seek(SeekFrom::Start(end)).map_err(in_file)?;
    Ok(true)
}
