//! What a restore did, counted by all who do it, and the errors that it went on after.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::base::{Error, ErrorKind, Event, Monitor, Result};

/// What a restore did; what a dry run would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// Files whose content was written, hard links not counted.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Directories that were made.
    pub directories: u64,
    /// Symlinks, devices, fifos and sockets that were made.
    pub others: u64,
    /// Hard links that were made to files that are counted.
    pub links: u64,
    /// Things that were there already as the point has them, directories not counted.
    pub unchanged: u64,
    /// Those that had the content, and were given other metadata.
    pub metadata: u64,
    /// Things left as they were because of what to do on a conflict, with all below them.
    pub skipped: u64,
    /// Things that were restored under another name.
    pub renamed: u64,
    /// Things that the point does not have and that were taken away.
    pub deleted: u64,
    /// Files that were read back and are as the point has them.
    pub verified: u64,
    /// Things that could not be restored, or not in full.
    pub errors: u64,
}

/// Counts while the work goes on. Any thread may use it.
pub(super) struct Tally<'a> {
    monitor: &'a dyn Monitor,
    counts: [AtomicU64; COUNTS],
    /// This process may not give files to others.
    keeps_owner: AtomicU64,
    /// Something happened after which nothing else can go well.
    is_over: AtomicBool,
}

/// What is counted, in the order of the report.
#[derive(Debug, Clone, Copy)]
pub(super) enum Count {
    Files,
    Bytes,
    Directories,
    Others,
    Links,
    Unchanged,
    Metadata,
    Skipped,
    Renamed,
    Deleted,
    Verified,
    Errors,
}

const COUNTS: usize = Count::Errors as usize + 1;

impl<'a> Tally<'a> {
    pub(super) fn new(monitor: &'a dyn Monitor) -> Self {
        Self {
            monitor,
            counts: Default::default(),
            keeps_owner: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    pub(super) fn add(&self, count: Count, more: u64) {
        self.counts[count as usize].fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self, count: Count) -> u64 {
        self.counts[count as usize].load(Ordering::Relaxed)
    }

    /// Something about `path` went wrong, and the work goes on; unless it is that the disk is full or the store does not
    /// answer, which all that follows would meet too.
    ///
    /// # Errors
    /// Then `error` itself.
    pub(super) fn failed(&self, path: &Path, error: Error) -> Result<()> {
        if matches!(
            error.kind(),
            ErrorKind::Full | ErrorKind::Unreachable | ErrorKind::Interrupted
        ) {
            self.is_over.store(true, Ordering::Relaxed);
            return Err(error);
        }
        self.complain(path, &error.to_string());
        Ok(())
    }

    /// Something about `path` went wrong, and the work goes on.
    pub(super) fn complain(&self, path: &Path, problem: &str) {
        self.add(Count::Errors, 1);
        self.monitor.event(Event::Warning(Some(path), problem));
    }

    /// The owner of one thing more could not be set.
    pub(super) fn keeps_owner(&self) {
        self.keeps_owner.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn monitor(&self) -> &'a dyn Monitor {
        self.monitor
    }

    /// # Errors
    /// Interrupted, once the monitor asks for an end.
    pub(super) fn go_on(&self) -> Result<()> {
        if self.monitor.is_interrupted() || self.is_over.load(Ordering::Relaxed) {
            return Err(Error::new(
                ErrorKind::Interrupted,
                "interrupted: the same command goes on where this one stopped",
            ));
        }
        Ok(())
    }

    /// The figures, at the end.
    pub(super) fn finish(&self) -> RestoreReport {
        let kept = self.keeps_owner.load(Ordering::Relaxed);
        if kept > 0 {
            self.add(Count::Errors, kept);
            let problem = format!(
                "{kept} could not be given to their owners, which takes root's rights; --no-owner leaves them as they are"
            );
            self.monitor.event(Event::Warning(None, &problem));
        }
        RestoreReport {
            files: self.get(Count::Files),
            bytes: self.get(Count::Bytes),
            directories: self.get(Count::Directories),
            others: self.get(Count::Others),
            links: self.get(Count::Links),
            unchanged: self.get(Count::Unchanged),
            metadata: self.get(Count::Metadata),
            skipped: self.get(Count::Skipped),
            renamed: self.get(Count::Renamed),
            deleted: self.get(Count::Deleted),
            verified: self.get(Count::Verified),
            errors: self.get(Count::Errors),
        }
    }
}
