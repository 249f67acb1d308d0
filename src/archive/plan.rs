//! What has to be done: a merge of the walk with what the set's latest point, and the point to stand on, have.
//!
//! Pure: it opens nothing, and its inputs and its output are sorted streams. The latest point (the reference) says what
//! is unchanged and carried, and of which origin; the base says what need not be recorded because it says the same. For
//! an incremental the two are one; a full one has no base.
//!
//! A directory's origin names a version of its whole subtree. That cannot be told before the subtree was walked, and is
//! left to `directories`.

use std::collections::{HashMap, VecDeque};
use std::iter::Peekable;

use super::links::{Linked, LinkedBefore, Links};
use super::walk::{Seen, Sighting};
use crate::base::{Key, Origin, Result};
use crate::format::{Entry, EntryFlags, FileType, Metadata, Section};
use crate::manifest::Found;

/// One thing to do, in the order of keys.
#[derive(Debug)]
pub enum Step<P> {
    /// The file is unchanged, and the base says so: there is nothing to record.
    Keep(Seen<P>),
    /// Record this entry, whose origin is known, unless the base says the same. Not opened.
    Inherit(Inherit),
    /// Open the file and see.
    Observe(Box<Observe<P>>),
    /// Record that the base's entry in this section is no more. `is_change`: the reference had it.
    Tombstone {
        key: Key,
        section: Section,
        excluded: bool,
        is_change: bool,
    },
    /// The reference had it and nothing is to be recorded of its end, but what is above it changes.
    Forget { key: Key },
    /// Tell of this. `is_partial`: something was carried or left out because it could not be read.
    Warn {
        key: Key,
        message: String,
        is_partial: bool,
    },
}

/// An entry that is taken over from the reference.
#[derive(Debug)]
pub struct Inherit {
    pub key: Key,
    pub entry: Box<Entry>,
    pub base: Option<Based>,
    /// Is this another version than the reference's?
    pub is_change: bool,
    /// The device that it was seen on; None if it was not seen.
    pub device: Option<u64>,
    /// Is it one more link to a file that was met already?
    pub repeats: bool,
}

/// A file that has to be opened.
#[derive(Debug)]
pub struct Observe<P> {
    pub seen: Seen<P>,
    /// What the reference has at the key, of whatever type.
    pub before: Option<Found>,
    pub base: Option<Based>,
    pub linked: Linked,
}

/// What the base says of a key, as far as recording depends on it.
#[derive(Debug, Clone)]
pub struct Based {
    pub origin: Origin,
    pub group: Option<Origin>,
    pub flags: EntryFlags,
    /// A directory's, to tell a change of its own from one below it.
    pub metadata: Option<Box<Metadata>>,
}

/// What reference and base have at one key.
type Before = (Option<Found>, Option<(Section, Based)>);

impl Based {
    fn of(known: &Found) -> Self {
        let is_directory = known.entry.metadata.file_type == FileType::Directory;
        Self {
            origin: known.origin,
            group: known.entry.group,
            flags: known.entry.flags,
            metadata: is_directory.then(|| Box::new(known.entry.metadata.clone())),
        }
    }

    /// Does the base say all that recording `entry` would?
    pub fn says(&self, entry: &Entry) -> bool {
        let comparable = |flags: EntryFlags| EntryFlags {
            changed_below: false,
            ..flags
        };
        entry.origin == Some(self.origin)
            && entry.group == self.group
            && comparable(entry.flags) == comparable(self.flags)
    }
}

/// The point that decides what is recorded.
#[derive(Debug)]
pub enum Base<B> {
    /// None: everything is recorded.
    Nothing,
    /// The reference itself.
    Reference,
    /// Another one: its entries.
    Other(B),
}

/// What becomes of the reference's entries that the walk does not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Gone,
    Carried,
    Excluded,
}

/// The merge. See the module.
pub struct Plan<S: Iterator, R: Iterator, B: Iterator, P> {
    sightings: Peekable<S>,
    reference: Peekable<R>,
    base: Base<Peekable<B>>,
    /// Every file is opened, changed or not.
    reads_everything: bool,
    /// By what the keys below a directory begin with.
    fates: HashMap<Vec<u8>, Fate>,
    links: Links,
    steps: VecDeque<Step<P>>,
}

impl<S, R, B, P> Plan<S, R, B, P>
where
    S: Iterator<Item = Result<Sighting<P>>>,
    R: Iterator<Item = Result<Found>>,
    B: Iterator<Item = Result<Found>>,
{
    /// The plan for what `sightings` see, given the entries of the reference and of the base. `linked_before` are the
    /// reference's files with several links.
    pub fn new(
        sightings: S,
        reference: R,
        base: Base<B>,
        reads_everything: bool,
        linked_before: LinkedBefore,
    ) -> Self {
        Self {
            sightings: sightings.peekable(),
            reference: reference.peekable(),
            base: match base {
                Base::Nothing => Base::Nothing,
                Base::Reference => Base::Reference,
                Base::Other(entries) => Base::Other(entries.peekable()),
            },
            reads_everything,
            fates: HashMap::new(),
            links: Links::new(linked_before),
            steps: VecDeque::new(),
        }
    }

    /// Plans what the next key needs; false if there is no more.
    fn advance(&mut self) -> Result<bool> {
        let Some(key) = self.next_key()? else {
            return Ok(false);
        };
        let seen_here = matches!(
            self.sightings.peek(),
            Some(Ok(sighting)) if sighting_key(sighting) == &key
        );
        let sighting = if seen_here {
            self.sightings.next().transpose()?
        } else {
            None
        };
        match sighting {
            // These say something of what is below the key, whose own entry has passed.
            Some(Sighting::Unlisted { key, problem }) => {
                self.fates.insert(key.descendants_prefix(), Fate::Carried);
                self.warn(key, problem, true);
            }
            Some(Sighting::ExcludedBelow { key }) => {
                self.fates.insert(key.descendants_prefix(), Fate::Excluded);
            }
            Some(Sighting::Vanished { key }) => {
                self.warn(key, "it vanished while the backup ran".to_string(), false);
            }
            Some(Sighting::Unreadable { key, problem }) => {
                let (before, based) = self.take(&key)?;
                self.warn(key.clone(), problem, true);
                self.plan_unseen(key, before, based, Some(Fate::Carried));
            }
            Some(Sighting::Excluded { key }) => {
                let (before, based) = self.take(&key)?;
                self.plan_unseen(key, before, based, Some(Fate::Excluded));
            }
            Some(Sighting::Entry(seen)) => {
                let (before, based) = self.take(&seen.key)?;
                self.plan_seen(seen, before, based);
            }
            None => {
                let (before, based) = self.take(&key)?;
                self.plan_unseen(key, before, based, None);
            }
        }
        Ok(true)
    }

    /// The lowest key that any of the streams has next. What only says something of others' keys comes first.
    fn next_key(&mut self) -> Result<Option<Key>> {
        if let Some(Ok(
            sighting @ (Sighting::Unlisted { .. }
            | Sighting::ExcludedBelow { .. }
            | Sighting::Vanished { .. }),
        )) = self.sightings.peek()
        {
            return Ok(Some(sighting_key(sighting).clone()));
        }
        let seen = peek_key(&mut self.sightings, sighting_key)?;
        let before = peek_key(&mut self.reference, |known| &known.key)?;
        let based = match &mut self.base {
            Base::Other(base) => peek_key(base, |known| &known.key)?,
            Base::Nothing | Base::Reference => None,
        };
        Ok([seen, before, based].into_iter().flatten().min())
    }

    /// Takes what reference and base have at `key`.
    fn take(&mut self, key: &Key) -> Result<Before> {
        let before = take_at(&mut self.reference, key)?;
        let with_section = |known: &Found| {
            let section = known.entry.metadata.file_type.section();
            (section, Based::of(known))
        };
        let based = match &mut self.base {
            Base::Nothing => None,
            Base::Reference => before.as_ref().map(with_section),
            Base::Other(base) => take_at(base, key)?.as_ref().map(with_section),
        };
        Ok((before, based))
    }

    fn plan_seen(
        &mut self,
        mut seen: Seen<P>,
        before: Option<Found>,
        based: Option<(Section, Based)>,
    ) {
        let section = seen.status.file_type.section();
        let base = self.same_section(&seen.key, section, based, before.is_some());
        let is_linked = seen.status.links > 1 && !seen.status.is_directory();
        let is_known = !self.reads_everything
            && before.as_ref().is_some_and(|before| {
                // All links of a file share one version, whatever tells it from the one before.
                is_unchanged(&seen, before)
                    && (!is_linked || seen.status.equals(&before.entry.metadata))
            });
        let mut linked = Linked::Alone;
        if is_linked {
            let before = before.as_ref().filter(|_| is_known);
            (linked, seen.repeats) = self
                .links
                .place(&seen.status, before, self.reads_everything);
        }
        let step = match before {
            Some(before) if is_known && !matches!(linked, Linked::Follows { .. }) => {
                inherit(seen, before, base, &linked)
            }
            before => Step::Observe(Box::new(Observe {
                seen,
                before,
                base,
                linked,
            })),
        };
        self.steps.push_back(step);
    }

    /// What the base says of the entry in `section`; what it says in the other one is to be no more.
    fn same_section(
        &mut self,
        key: &Key,
        section: Section,
        based: Option<(Section, Based)>,
        is_change: bool,
    ) -> Option<Based> {
        let (based_section, based) = based?;
        if based_section == section {
            return Some(based);
        }
        self.steps.push_back(Step::Tombstone {
            key: key.clone(),
            section: based_section,
            excluded: false,
            is_change,
        });
        None
    }

    /// Plans for what the walk did not see. `fate` is the key's own, if it has one.
    fn plan_unseen(
        &mut self,
        key: Key,
        before: Option<Found>,
        based: Option<(Section, Based)>,
        fate: Option<Fate>,
    ) {
        let is_own = fate.is_some();
        let fate = fate.unwrap_or_else(|| self.fate_of(&key));
        let was_directory = before
            .as_ref()
            .is_some_and(|before| before.entry.metadata.file_type == FileType::Directory)
            || matches!(based, Some((Section::Directories, _)));
        if is_own && was_directory {
            self.fates.insert(key.descendants_prefix(), fate);
        }
        let is_change = before.is_some();
        match (fate, before) {
            (Fate::Carried, Some(before)) => {
                let section = before.entry.metadata.file_type.section();
                let base = self.same_section(&key, section, based, false);
                let inherit = Inherit {
                    key,
                    entry: carried(before),
                    base,
                    is_change: false,
                    device: None,
                    repeats: false,
                };
                self.steps.push_back(Step::Inherit(inherit));
            }
            _ => {
                if let Some((section, _)) = based {
                    self.steps.push_back(Step::Tombstone {
                        key,
                        section,
                        excluded: fate == Fate::Excluded,
                        is_change,
                    });
                } else if is_change {
                    // Only the reference had it: nothing to record, yet what is above it changes.
                    self.steps.push_back(Step::Forget { key });
                }
            }
        }
    }

    /// What becomes of an entry that was not seen, by the deepest directory above it that has a say.
    fn fate_of(&self, key: &Key) -> Fate {
        if self.fates.is_empty() {
            return Fate::Gone;
        }
        let mut above = key.parent();
        while let Some(directory) = above {
            if let Some(fate) = self.fates.get(&directory.descendants_prefix()) {
                return *fate;
            }
            above = directory.parent();
        }
        Fate::Gone
    }

    fn warn(&mut self, key: Key, message: String, is_partial: bool) {
        self.steps.push_back(Step::Warn {
            key,
            message,
            is_partial,
        });
    }
}

impl<S, R, B, P> Iterator for Plan<S, R, B, P>
where
    S: Iterator<Item = Result<Sighting<P>>>,
    R: Iterator<Item = Result<Found>>,
    B: Iterator<Item = Result<Found>>,
{
    type Item = Result<Step<P>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(step) = self.steps.pop_front() {
                return Some(Ok(step));
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Is this the version that `before` is, and one that need not be read again?
fn is_unchanged<P>(seen: &Seen<P>, before: &Found) -> bool {
    let flags = before.entry.flags;
    seen.status.is_version(&before.entry.metadata) && !flags.unsettled && !flags.changed_while_read
}

/// The step for a file that is unchanged.
fn inherit<P>(seen: Seen<P>, before: Found, base: Option<Based>, linked: &Linked) -> Step<P> {
    let is_directory = seen.status.is_directory();
    // What moves without the ctime (blocks, when the file system lays a file out anew) makes a version of its own.
    let is_change = !seen.status.equals(&before.entry.metadata);
    let mut entry = before.entry;
    entry.flags.carried = false;
    entry.origin = Some(before.origin);
    if let Linked::Joins(joined) = linked {
        entry.group = Some(joined.group);
    }
    if is_change {
        seen.status.update(&mut entry.metadata);
        entry.origin = None;
    } else if !is_directory && base.as_ref().is_some_and(|base| base.says(&entry)) {
        return Step::Keep(seen);
    }
    Step::Inherit(Inherit {
        key: seen.key,
        entry,
        base,
        is_change,
        device: Some(seen.status.device),
        repeats: seen.repeats,
    })
}

/// The entry that stands for a file that could not be read. It leaves its group, whose other members may have changed.
pub fn carried(before: Found) -> Box<Entry> {
    let mut entry = before.entry;
    entry.origin = Some(before.origin);
    entry.flags.carried = true;
    entry.group = None;
    entry
}

fn sighting_key<P>(sighting: &Sighting<P>) -> &Key {
    match sighting {
        Sighting::Entry(seen) => &seen.key,
        Sighting::Unreadable { key, .. }
        | Sighting::Unlisted { key, .. }
        | Sighting::Excluded { key }
        | Sighting::ExcludedBelow { key }
        | Sighting::Vanished { key } => key,
    }
}

/// The key of what comes next. An error that comes next is taken and returned.
fn peek_key<T>(
    stream: &mut Peekable<impl Iterator<Item = Result<T>>>,
    key: impl Fn(&T) -> &Key,
) -> Result<Option<Key>> {
    match stream.peek() {
        None => Ok(None),
        Some(Ok(item)) => Ok(Some(key(item).clone())),
        Some(Err(_)) => match stream.next() {
            Some(Err(error)) => Err(error),
            _ => Ok(None),
        },
    }
}

fn take_at(
    stream: &mut Peekable<impl Iterator<Item = Result<Found>>>,
    key: &Key,
) -> Result<Option<Found>> {
    match stream.peek() {
        Some(Ok(known)) if known.key == *key => stream.next().transpose(),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests;
