//! What differs between two points, or between a point and the file system as it is now.
//!
//! What lies above the paths that were backed up is no part of either, and is not compared.

mod live;
mod text;

use std::sync::Arc;

use super::recorded::RecordedSources;
use crate::base::{Error, ErrorKind, Key, Result};
use crate::fetch::Fetcher;
use crate::format::{Entry, FileType, Point};
use crate::manifest::{Aspect, Chains, Changes, Difference, Differences};

pub use live::{LiveOptions, compare_live};
pub use text::{Side, TextDifference, text_difference};

/// How a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Added,
    Removed,
    /// It is of the same type, and something of it differs.
    Changed,
    /// It is of another type.
    Type,
}

impl ChangeKind {
    /// The word that people and programs read.
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
            Self::Type => "type",
        }
    }
}

/// A path that differs. One of `old` and `new` is there at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathDifference {
    pub key: Key,
    pub old: Option<Box<Entry>>,
    /// Of a file that is not in the repository, the metadata alone.
    pub new: Option<Box<Entry>>,
    /// What differs, if both are there.
    pub changes: Changes,
}

impl PathDifference {
    /// How it differs.
    pub fn kind(&self) -> ChangeKind {
        match (&self.old, &self.new) {
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Removed,
            _ if self.changes.has(Aspect::Type) => ChangeKind::Type,
            _ => ChangeKind::Changed,
        }
    }
}

impl From<Difference> for PathDifference {
    fn from(difference: Difference) -> Self {
        Self {
            key: difference.key,
            old: difference.old.map(|found| found.entry),
            new: difference.new.map(|found| found.entry),
            changes: difference.changes,
        }
    }
}

/// Gives what differs between two points, at `below` and below it, to `emit`, in order of keys.
///
/// # Errors
/// Usage, if neither point has `below`; whatever `emit` fails with; and those of reading the chains.
pub fn compare_points(
    fetcher: &Arc<Fetcher>,
    old: &Point,
    new: &Point,
    below: &Key,
    emit: &mut dyn FnMut(PathDifference) -> Result<()>,
) -> Result<()> {
    let mut chains = Chains::new(fetcher);
    let sources = RecordedSources::of([old, new])?;
    let (old, new) = (chains.open(old)?, chains.open(new)?);
    if !below.is_root() && old.lookup(below)?.is_none() && new.lookup(below)?.is_none() {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("neither point has {below}"),
        ));
    }
    for difference in Differences::between(fetcher, &old, &new, below) {
        let difference = difference?;
        if !sources.lie_below(&difference.key) {
            emit(difference.into())?;
        }
    }
    Ok(())
}

/// Sums of what differs, for a summary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DifferenceFigures {
    pub added: KindFigures,
    pub removed: KindFigures,
    pub changed: KindFigures,
    pub of_another_type: KindFigures,
}

/// Sums over the paths that differ in one way. Bytes are files' sizes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KindFigures {
    /// Paths that are no directory, on the newer side if they are on both.
    pub files: u64,
    pub directories: u64,
    pub old_bytes: u64,
    pub new_bytes: u64,
}

impl DifferenceFigures {
    /// With one path more.
    pub fn add(&mut self, difference: &PathDifference) {
        let figures = match difference.kind() {
            ChangeKind::Added => &mut self.added,
            ChangeKind::Removed => &mut self.removed,
            ChangeKind::Changed => &mut self.changed,
            ChangeKind::Type => &mut self.of_another_type,
        };
        let newest = difference.new.as_ref().or(difference.old.as_ref());
        match newest.map(|entry| entry.metadata.file_type) {
            Some(FileType::Directory) => figures.directories += 1,
            _ => figures.files += 1,
        }
        figures.old_bytes += file_bytes(difference.old.as_deref());
        figures.new_bytes += file_bytes(difference.new.as_deref());
    }

    /// Does anything differ?
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn file_bytes(entry: Option<&Entry>) -> u64 {
    match entry {
        Some(entry) if entry.metadata.file_type == FileType::Regular => entry.metadata.size,
        _ => 0,
    }
}
