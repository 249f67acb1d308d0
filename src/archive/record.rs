//! What the point records: entries with their origins and groups, in the order of keys, and the figures of it all.
//!
//! An entry that is equal to the reference's, in metadata and content, keeps that one's origin, so that points share
//! what they have in common. What the base says already is not recorded.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::compare::{same_content, same_metadata};
use super::directories::Directories;
use super::links::{Joined, Linked};
use super::plan::{Based, Inherit, Observe, carried};
use super::sources::Sources;
use super::status::{Details, Identity, Status};
use super::walk::Seen;
use crate::base::{Error, ErrorKind, Event, Key, Monitor, Origin, Result, Timestamp};
use crate::fetch::Fetcher;
use crate::format::run::Owner;
use crate::format::{Content, Entry, EntryFlags, Figures, FileType, Record, RunReference, Section};
use crate::manifest::{Chain, Found, RunWriter};

/// A file whose ctime is within so many seconds of its reading may change again without its ctime telling.
const SETTLING_SECONDS: i64 = 60;

/// Names of users and groups.
pub trait OwnerNames: Send + Sync {
    /// A user's name, if it has one.
    fn user(&self, id: u32) -> Option<Vec<u8>>;
    /// A group's name, if it has one.
    fn group(&self, id: u32) -> Option<Vec<u8>>;
}

/// What opening a file, and reading it, gave.
#[derive(Debug)]
pub struct Observation {
    pub status: Status,
    pub details: Details,
    pub content: Content,
    pub content_hash: Option<[u8; 32]>,
    /// What the extents are, if they are in lists.
    pub shape: Option<[u8; 32]>,
    pub changed_while_read: bool,
    /// When it was read.
    pub read_at: Timestamp,
}

/// The point that a backup compares with.
#[derive(Clone)]
pub struct Reference {
    pub chain: Chain,
    pub fetcher: Arc<Fetcher>,
}

/// Records a point's entries. See the module.
pub struct Recorder<'a> {
    writer: RunWriter<'a>,
    directories: Directories,
    reference: Option<Reference>,
    names: &'a dyn OwnerNames,
    monitor: &'a dyn Monitor,
    /// Entries of files of which more links are to come, by the file.
    leaders: HashMap<Identity, Entry>,
    devices: Vec<u64>,
    users: HashSet<u32>,
    groups: HashSet<u32>,
    totals: Totals,
    sources: &'a Sources,
    tells_changes: bool,
    has_changes: bool,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    pub figures: Figures,
    pub warnings: u64,
    /// Was something carried or left out because it could not be read?
    pub is_partial: bool,
}

impl<'a> Recorder<'a> {
    /// Nothing recorded yet of these sources. `tells_changes`: the monitor gets a note for each entry that is new, changed or gone.
    pub fn new(
        writer: RunWriter<'a>,
        reference: Option<Reference>,
        names: &'a dyn OwnerNames,
        sources: &'a Sources,
        monitor: &'a dyn Monitor,
        tells_changes: bool,
    ) -> Self {
        Self {
            writer,
            sources,
            directories: Directories::new(),
            reference,
            names,
            monitor,
            leaders: HashMap::new(),
            devices: Vec::new(),
            users: HashSet::new(),
            groups: HashSet::new(),
            totals: Totals::default(),
            tells_changes,
            has_changes: false,
        }
    }

    /// Is anything recorded that is another version than the reference's, or of which the reference knows nothing?
    pub fn has_changes(&self) -> bool {
        self.has_changes
    }

    /// A file that is unchanged, and that the base has.
    pub fn keep<P>(&mut self, seen: &Seen<P>) {
        let status = &seen.status;
        self.count(status.file_type, status.size, seen.repeats);
    }

    /// An entry that is taken over from the reference.
    ///
    /// # Errors
    /// Those of temporary files and of sealing.
    pub fn inherit(&mut self, mut inherit: Inherit) -> Result<()> {
        if let Some(device) = inherit.device {
            inherit.entry.metadata.device = self.device(device);
        }
        if inherit.is_change {
            self.change(&inherit.key);
        }
        let metadata = &inherit.entry.metadata;
        self.count(metadata.file_type, metadata.size, inherit.repeats);
        self.record(&inherit.key, *inherit.entry, inherit.base.as_ref())
    }

    /// What the base has in a section and is no more.
    ///
    /// # Errors
    /// Those of temporary files and of sealing.
    pub fn tombstone(
        &mut self,
        key: &Key,
        section: Section,
        excluded: bool,
        is_change: bool,
    ) -> Result<()> {
        if is_change {
            self.change(key);
            self.tell(
                key,
                if excluded {
                    "is left out from now on"
                } else {
                    "is gone"
                },
            );
        }
        match section {
            Section::Directories => self.directories.tombstone(key, excluded),
            Section::Files => {
                let record = Record::Tombstone { excluded };
                self.writer.append(key, section, &record).map(drop)
            }
        }
    }

    /// Something of this key changed that needs no record of its own.
    pub fn change(&mut self, key: &Key) {
        // What lies above sources is not what was to be backed up: its other entries come and go.
        self.has_changes = self.has_changes || !self.sources.lie_below(key);
        self.directories.change(key);
    }

    /// Tells of something, and lists it in the run.
    ///
    /// # Errors
    /// Those of temporary files and of sealing.
    pub fn warn(&mut self, key: &Key, message: &str, is_partial: bool) -> Result<()> {
        let path = key.to_path();
        let mut absolute = vec![b'/'];
        absolute.extend_from_slice(&path);
        let absolute = PathBuf::from(std::ffi::OsString::from_vec(absolute));
        self.monitor.event(Event::Warning(Some(&absolute), message));
        self.totals.warnings += 1;
        self.totals.is_partial |= is_partial;
        self.writer.warning(&path, message)
    }

    /// A file that was opened and, where it has content, read.
    ///
    /// # Errors
    /// Those of the reference, of temporary files and of sealing.
    pub fn observed<P>(&mut self, file: Observe<P>, observation: Observation) -> Result<()> {
        if observation.changed_while_read {
            let message = "it changed while it was read, twice: it is kept as it was read last";
            self.warn(&file.seen.key, message, false)?;
        }
        let shape = observation.shape;
        let identity = observation.status.identity();
        let mut entry = self.entry_of(observation);
        entry.metadata.device = self.device(file.seen.status.device);
        let same = self.same_before(&file, &entry, shape)?;
        entry.origin = same.map(|before| before.origin);
        if entry.metadata.links > 1 && entry.metadata.file_type != FileType::Directory {
            entry.group = Some(self.group_of(&file.linked, same, &entry, shape)?);
        }
        // Another file may have taken its name since it was seen: what that holds is not its other links'.
        if file.linked.leads() == Some(identity) {
            self.leaders.insert(identity, entry.clone());
        }
        self.conclude(&file.seen, entry, file.base.as_ref())
    }

    /// One more link to a file that was read before, or that the reference has; false if that is not known here, and
    /// the file has to be read.
    ///
    /// # Errors
    /// Those of the reference, of temporary files and of sealing.
    pub fn linked<P>(&mut self, file: &Observe<P>) -> Result<bool> {
        let entry = match file.linked {
            Linked::Alone | Linked::Leads(..) => None,
            Linked::Follows { leader, is_last } if is_last => self.leaders.remove(&leader),
            Linked::Follows { leader, .. } => self.leaders.get(&leader).cloned(),
            Linked::Joins(joined) => self.joined_entry(&joined)?,
        };
        let Some(mut entry) = entry else {
            return Ok(false);
        };
        entry.metadata.device = self.device(file.seen.status.device);
        let same = self.same_before(file, &entry, None)?;
        entry.origin = same.map(|before| before.origin);
        self.conclude(&file.seen, entry, file.base.as_ref())?;
        Ok(true)
    }

    /// A file that could not be read, for a reason; or that is gone, if there is none.
    ///
    /// # Errors
    /// Those of temporary files and of sealing.
    pub fn failed<P>(&mut self, file: Observe<P>, problem: Option<&str>) -> Result<()> {
        let key = &file.seen.key;
        match problem {
            Some(problem) => self.warn(key, problem, true)?,
            None => self.warn(key, "it vanished while the backup ran", false)?,
        }
        let section = file.seen.status.file_type.section();
        let before = file
            .before
            .filter(|before| before.entry.metadata.file_type.section() == section);
        match before {
            // What lies below a directory was seen, or is carried: it must not lose its parent.
            Some(before) if problem.is_some() || section == Section::Directories => {
                self.inherit(Inherit {
                    key: file.seen.key,
                    entry: carried(before),
                    base: file.base,
                    is_change: false,
                    device: None,
                    repeats: false,
                })
            }
            None if section == Section::Directories => {
                let entry = entry_with(file.seen.status.with_details(Details::default()));
                self.conclude(&file.seen, entry, None)
            }
            before => {
                if file.base.is_some() {
                    self.tombstone(&file.seen.key, section, false, before.is_some())?;
                } else if before.is_some() {
                    self.change(&file.seen.key);
                }
                Ok(())
            }
        }
    }

    /// Records the directories, and writes the run.
    ///
    /// # Errors
    /// Those of temporary files, of sealing and of the store.
    pub fn finish(mut self) -> Result<(RunReference, Totals)> {
        let directories = std::mem::replace(&mut self.directories, Directories::new());
        directories.finish(|key, record| {
            if let Record::Entry(entry) = record {
                self.learn_owners(entry);
            }
            self.writer
                .append(key, Section::Directories, record)
                .map(drop)
        })?;
        let counts = self.writer.counts();
        self.totals.figures.entries_recorded = counts.directories + counts.files;
        Ok((self.writer.finish()?, self.totals))
    }

    /// The same without writing anything: what a dry run tells.
    ///
    /// # Errors
    /// Those of temporary files.
    pub fn abandon(self) -> Result<Totals> {
        let mut totals = self.totals;
        totals.figures.entries_recorded = self.writer.counts().files;
        self.directories.finish(|_, _| {
            totals.figures.entries_recorded += 1;
            Ok(())
        })?;
        Ok(totals)
    }

    fn entry_of(&self, observation: Observation) -> Entry {
        let seconds = observation.read_at.seconds - observation.status.ctime.seconds;
        let mut entry = entry_with(observation.status.with_details(observation.details));
        entry.flags = EntryFlags {
            changed_while_read: observation.changed_while_read,
            unsettled: seconds.abs() <= SETTLING_SECONDS,
            carried: false,
            changed_below: false,
        };
        entry.content = observation.content;
        entry.content_hash = observation.content_hash;
        entry
    }

    /// What the reference has at the key, if `entry` is equal to it.
    fn same_before<'f, P>(
        &self,
        file: &'f Observe<P>,
        entry: &Entry,
        shape: Option<[u8; 32]>,
    ) -> Result<Option<&'f Found>> {
        let (Some(before), Some(reference)) = (&file.before, &self.reference) else {
            return Ok(None);
        };
        let is_same = same_metadata(&before.entry.metadata, &entry.metadata)
            && same_content(
                &reference.fetcher,
                &before.entry.content,
                &entry.content,
                shape,
            )?;
        Ok(is_same.then_some(before))
    }

    /// The group of a file that was read and has several links; it begins one unless it is what the reference has.
    fn group_of(
        &self,
        linked: &Linked,
        same: Option<&Found>,
        entry: &Entry,
        shape: Option<[u8; 32]>,
    ) -> Result<Origin> {
        if let Some(before) = same {
            return Ok(before.entry.group.unwrap_or(before.origin));
        }
        let candidate = match linked {
            Linked::Leads(_, Some(joined)) => self.joined_entry(joined)?.zip(Some(joined)),
            _ => None,
        };
        if let (Some((known, joined)), Some(reference)) = (candidate, &self.reference) {
            let is_same = same_metadata(&known.metadata, &entry.metadata)
                && same_content(&reference.fetcher, &known.content, &entry.content, shape)?;
            if is_same {
                return Ok(joined.group);
            }
        }
        Ok(Origin {
            run: self.writer.id(),
            row: self.writer.next_row(Section::Files),
        })
    }

    /// The reference's entry of a file with several links, as a member of its group.
    fn joined_entry(&self, joined: &Joined) -> Result<Option<Entry>> {
        let Some(reference) = &self.reference else {
            return Ok(None);
        };
        let found = reference
            .chain
            .row(joined.run, Section::Files, joined.row)?;
        Ok(found.map(|found| {
            let mut entry = *found.entry;
            entry.group = Some(joined.group);
            entry.flags = EntryFlags::default();
            entry
        }))
    }

    fn conclude<P>(&mut self, seen: &Seen<P>, entry: Entry, base: Option<&Based>) -> Result<()> {
        if entry.origin.is_none() {
            self.change(&seen.key);
            self.tell(&seen.key, "is new or changed");
        }
        self.count(entry.metadata.file_type, entry.metadata.size, seen.repeats);
        self.record(&seen.key, entry, base)
    }

    /// Records an entry unless the base says the same. One that no run can hold is left out with a warning.
    fn record(&mut self, key: &Key, entry: Entry, base: Option<&Based>) -> Result<()> {
        let recorded = match entry.metadata.file_type.section() {
            Section::Directories => self.directories.entry(key, &entry, base),
            Section::Files if base.is_some_and(|base| base.says(&entry)) => return Ok(()),
            Section::Files => {
                self.learn_owners(&entry);
                let record = Record::Entry(Box::new(entry));
                self.writer.append(key, Section::Files, &record).map(drop)
            }
        };
        match recorded {
            Err(error) if error.kind() == ErrorKind::Usage => {
                self.warn(key, &format!("it is left out: {error}"), true)
            }
            recorded => recorded,
        }
    }

    fn tell(&self, key: &Key, what: &str) {
        if self.tells_changes {
            self.monitor.event(Event::Note(&format!("{key} {what}")));
        }
    }

    fn learn_owners(&mut self, entry: &Entry) {
        let (uid, gid) = (entry.metadata.uid, entry.metadata.gid);
        if self.users.insert(uid)
            && let Some(name) = self.names.user(uid)
        {
            self.writer.owner(&Owner::User { id: uid, name });
        }
        if self.groups.insert(gid)
            && let Some(name) = self.names.group(gid)
        {
            self.writer.owner(&Owner::Group { id: gid, name });
        }
    }

    fn count(&mut self, file_type: FileType, size: u64, repeats: bool) {
        let figures = &mut self.totals.figures;
        figures.entries += 1;
        if file_type == FileType::Directory {
            figures.directories += 1;
            return;
        }
        figures.files += 1;
        let bytes = if file_type == FileType::Regular {
            size
        } else {
            0
        };
        if !repeats {
            figures.bytes += bytes;
        }
        self.monitor.event(Event::Done { files: 1, bytes });
    }

    /// The ordinal of a device in this run.
    fn device(&mut self, device: u64) -> u32 {
        let place = self.devices.iter().position(|known| *known == device);
        let ordinal = place.unwrap_or_else(|| {
            self.devices.push(device);
            self.devices.len() - 1
        });
        u32::try_from(ordinal).unwrap_or(u32::MAX)
    }
}

fn entry_with(metadata: crate::format::Metadata) -> Entry {
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

/// The error of an operation that a signal ended.
pub fn interrupted() -> Error {
    Error::new(
        ErrorKind::Interrupted,
        "interrupted: nothing was committed, and what was uploaded will be found again",
    )
}

/// The absolute path of a key.
pub fn path_of(key: &Key) -> PathBuf {
    let mut path = vec![b'/'];
    path.extend_from_slice(&key.to_path());
    PathBuf::from(OsString::from_vec(path))
}
