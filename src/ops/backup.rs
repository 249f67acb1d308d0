//! Backing up: from options to a committed point.
//!
//! The order of writes is what keeps a repository whole whenever this ends: a lease, packs, their index, the run, older
//! runs merged into one where it makes one too many, and the point, which is the commit. What failed or was interrupted leaves its uploads behind, indexed, for the next one.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jiff::Timestamp;

use crate::archive::{
    Base, ChunkStore, Clock, Cutting, DryStore, Excludes, Frames, Identity, LinkedBefore,
    OwnerNames, Place, Plan, Recorder, Reference, Sighting, Sources, Step, Totals, Walk,
    WalkOptions, Workshop, interrupted, run,
};
use crate::base::{Error, ErrorKind, Event, Key, Monitor, PointId, Result};
use crate::fetch::Fetcher;
use crate::format::{Features, Figures, Moment, PathMapping, Point, PointKind, RunReference};
use crate::manifest::{Chain, RunWriter};
use crate::repo::{Lease, PackWriter, Repository, UploadFigures, commit, new_point_id, roll_up};

use super::merging::runs_below;
use super::standing::{Standing, stand};

/// Bytes of manifests that are kept in memory.
const FETCHER_BYTES: u64 = 64 << 20;

/// Frames that wait to be sealed, for each worker.
const FRAMES_QUEUED: usize = 4;

/// What to back up, and how.
pub struct BackupOptions {
    /// Full, incremental or differential. With nothing to stand on, either of the latter becomes full.
    pub kind: PointKind,
    /// Put every chunk anew.
    pub reupload: bool,
    pub labels: BTreeMap<String, String>,
    pub host: String,
    /// The set's name; made from the recorded paths if absent.
    pub set: Option<String>,
    pub user: String,
    /// Stand on this point, and not on the set's latest.
    pub parent: Option<PointId>,
    /// What to back up: absolute paths.
    pub paths: Vec<PathBuf>,
    /// The path that the one source is recorded as.
    pub recorded_as: Option<PathBuf>,
    /// Globs as gitignore(5) has them, relative to each source.
    pub excludes: Vec<String>,
    pub exclude_caches: bool,
    pub one_file_system: bool,
    /// Write nothing, and tell what would be done.
    pub dry_run: bool,
    /// Directories that are never entered: the repository's own.
    pub never: Vec<PathBuf>,
    pub names: Box<dyn OwnerNames>,
    pub clock: Clock,
    /// The local time's distance from UTC in seconds, positive to the east.
    pub offset_seconds: i32,
    /// Threads that read and seal.
    pub workers: usize,
    /// Count what is ahead, for a progress line.
    pub estimates: bool,
    /// Note each entry that is new, changed or gone.
    pub tells_changes: bool,
}

/// What a backup did, or would do.
#[derive(Debug)]
pub struct BackupReport {
    /// The committed point; None for a dry run.
    pub point: Option<Point>,
    /// The kind that it was in the end.
    pub kind: PointKind,
    /// What it stands on.
    pub parent: Option<PointId>,
    /// The set that it belongs to.
    pub set: String,
    pub figures: Figures,
    pub warnings: u64,
    /// Was something carried or left out because it could not be read?
    pub partial: bool,
}

/// Backs up. Warnings go to the monitor, and into the point.
///
/// # Errors
/// Usage, for options that contradict one another or name nothing; interrupted, if the monitor says so; those of the
/// repository. A file's own trouble is none.
pub fn backup(
    repository: &Arc<Repository>,
    options: &BackupOptions,
    monitor: &dyn Monitor,
) -> Result<BackupReport> {
    let start = (options.clock)();
    let sources = Sources::resolve(&options.paths, options.recorded_as.as_deref())?;
    let walk_options = walk_options(options)?;
    check_sources(&sources, &walk_options.never)?;
    let mut standing = stand(repository, options, &sources, monitor)?;
    let lease = match options.dry_run {
        true => None,
        false => Some(Lease::acquire(
            repository,
            standing.base.as_ref().map(|point| point.id),
        )?),
    };
    let attempt = |standing: &Standing, notice: Option<&str>| {
        let job = Job {
            repository,
            options,
            monitor,
            sources: &sources,
            walk_options: walk_options.clone(),
            standing,
            notice,
        };
        if options.dry_run {
            job.run_dry(start)
        } else {
            job.run(moment(start, options))
        }
    };
    let report = match attempt(&standing, None) {
        Err(error) if is_of_reference(&error, &standing) => {
            let notice = do_without_reference(error, &mut standing)?;
            attempt(&standing, Some(&notice))
        }
        report => report,
    };
    drop(lease);
    report
}

/// Is it the point that this backup is compared with that is damaged, or was a part of it lost?
fn is_of_reference(error: &Error, standing: &Standing) -> bool {
    standing.reference.is_some() && matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Missing)
}

/// A full backup needs no other point: one that cannot be read must not keep a set from ever being backed up again.
/// Gives what is to be told of it.
fn do_without_reference(error: Error, standing: &mut Standing) -> Result<String> {
    let Some(reference) = standing.reference.take() else {
        return Err(error);
    };
    if standing.base.is_some() {
        return Err(error.context(format_args!(
            "point {} cannot be compared with (a backup with --full does without it)",
            reference.id
        )));
    }
    Ok(format!(
        "point {} cannot be compared with, and of what cannot be read now nothing is carried: {error}",
        reference.id
    ))
}

/// A backup whose options were checked.
struct Job<'a> {
    repository: &'a Arc<Repository>,
    options: &'a BackupOptions,
    monitor: &'a dyn Monitor,
    sources: &'a Sources,
    walk_options: WalkOptions,
    standing: &'a Standing,
    /// A warning that is of no one file.
    notice: Option<&'a str>,
}

impl Job<'_> {
    fn run(&self, start: Moment) -> Result<BackupReport> {
        let writer = PackWriter::create(Arc::clone(self.repository), self.options.reupload)?;
        let archived = self.archive(&writer);
        // Whatever became of it, what was uploaded is indexed: the next backup finds it.
        let uploaded = writer.finish();
        let (recorder, read_bytes) = archived?;
        let uploaded = uploaded?;
        if self.monitor.is_interrupted() {
            return Err(interrupted());
        }
        let (own_run, totals) = recorder.finish()?;
        let mut figures = figures(&totals, &uploaded, read_bytes);
        figures.stored_bytes += own_run.length;
        let mut runs = vec![own_run];
        if let Some(base) = &self.standing.base {
            let (below, merged_bytes) = runs_below(self.repository, base, self.monitor)?;
            runs.extend(below);
            figures.stored_bytes += merged_bytes;
        }
        let end = moment((self.options.clock)(), self.options);
        figures.duration_seconds = end.time.duration_since(start.time).as_secs_f64().max(0.0);
        let point = self.point(runs, start, end, &totals, figures)?;
        commit(self.repository, &point)?;
        if self.standing.is_roll_up_due {
            self.roll_up();
        }
        Ok(BackupReport {
            kind: point.kind,
            parent: point.parent,
            set: point.set.clone(),
            point: Some(point),
            figures,
            warnings: totals.warnings,
            partial: totals.is_partial,
        })
    }

    /// Rolls headers up. The point is committed: a failure costs later readers some time and nobody anything else.
    fn roll_up(&self) {
        if let Err(error) = roll_up(self.repository) {
            log::info!("the headers of points are not rolled up: {error}");
        }
    }

    fn run_dry(&self, start: crate::base::Timestamp) -> Result<BackupReport> {
        let store = DryStore::open(self.repository, self.options.reupload)?;
        let (recorder, read_bytes) = self.archive(&store)?;
        let totals = recorder.abandon()?;
        let mut figures = figures(&totals, &store.figures(), read_bytes);
        let start = moment(start, self.options).time;
        let end = moment((self.options.clock)(), self.options).time;
        figures.duration_seconds = end.duration_since(start).as_secs_f64().max(0.0);
        Ok(BackupReport {
            point: None,
            kind: self.standing.kind,
            parent: self.standing.base.as_ref().map(|point| point.id),
            set: self.standing.set.clone(),
            figures,
            warnings: totals.warnings,
            partial: totals.is_partial,
        })
    }

    /// Walks, reads and records everything; gives what is recorded and how many bytes were read.
    fn archive(&self, store: &dyn ChunkStore) -> Result<(Recorder<'_>, u64)> {
        let reference = self.open(self.standing.reference.as_deref())?;
        let base = match (&self.standing.base, &self.standing.reference) {
            (None, _) => None,
            (Some(base), Some(latest)) if base.id == latest.id => reference.clone(),
            (Some(base), _) => self.open(Some(base))?,
        };
        let config = self.repository.config();
        let seal = self.repository.seal();
        let queued = self.options.workers * FRAMES_QUEUED;
        let frames = Frames::new(store, seal, config.compression, queued);
        let cutting = Cutting::new(&config.chunking, seal.chunking_seed())?;
        let read_bytes = AtomicU64::new(0);
        let workshop = Workshop {
            frames: &frames,
            cutting: &cutting,
            monitor: self.monitor,
            clock: self.options.clock,
            frame_bytes: config.chunking.frame_bytes as usize,
            workers: self.options.workers.max(1),
            read_bytes: &read_bytes,
        };
        let filters = !self.standing.kind.is_base();
        let mut recorder = Recorder::new(
            RunWriter::create(self.repository, filters)?,
            reference.clone(),
            &*self.options.names,
            self.monitor,
            self.options.tells_changes,
        );
        if let Some(notice) = self.notice {
            recorder.warn(&Key::root(), notice, false)?;
        }
        let steps = self.plan(reference.as_ref(), base.as_ref())?;
        self.while_counting(|| run(&workshop, steps, &mut recorder))?;
        Ok((recorder, read_bytes.into_inner()))
    }

    /// The steps: the walk merged with the points that it is compared with.
    fn plan(
        &self,
        reference: Option<&Reference>,
        base: Option<&Reference>,
    ) -> Result<impl Iterator<Item = Result<Step<Place>>>> {
        let root = Key::root();
        let entries = |point: Option<&Reference>| {
            let entries = point.map(|point| point.chain.entries(&root));
            entries.into_iter().flatten()
        };
        let base = match (base, &self.standing.base, &self.standing.reference) {
            (None, ..) => Base::Nothing,
            (_, Some(base), Some(latest)) if base.id == latest.id => Base::Reference,
            (base, ..) => Base::Other(entries(base)),
        };
        Ok(Plan::new(
            Walk::new(self.sources, self.walk_options.clone())?,
            entries(reference),
            base,
            self.standing.kind == PointKind::Full,
            linked_before(reference)?,
        ))
    }

    /// The chain of a point, for reading.
    fn open(&self, point: Option<&Point>) -> Result<Option<Reference>> {
        let Some(point) = point else {
            return Ok(None);
        };
        let fetcher = Fetcher::new(Arc::clone(self.repository), FETCHER_BYTES);
        let chain = Chain::open(&fetcher, point)?;
        Ok(Some(Reference { chain, fetcher }))
    }

    /// Does `work`, and beside it tells the monitor what is ahead, if that is wanted.
    fn while_counting<T>(&self, work: impl FnOnce() -> T) -> T {
        if !self.options.estimates {
            return work();
        }
        if let Some(latest) = &self.standing.reference {
            self.monitor.event(Event::Expected {
                files: latest.figures.files,
                bytes: latest.figures.bytes,
            });
            return work();
        }
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| self.count_ahead(&is_done));
            let result = work();
            is_done.store(true, Ordering::Relaxed);
            result
        })
    }

    /// Walks the sources once more, for their number and size only.
    fn count_ahead(&self, is_done: &AtomicBool) {
        const TOLD_AT_ONCE: u64 = 256;
        let Ok(walk) = Walk::new(self.sources, self.walk_options.clone()) else {
            return;
        };
        let (mut files, mut bytes) = (0, 0);
        for sighting in walk {
            if is_done.load(Ordering::Relaxed) {
                return;
            }
            if let Ok(Sighting::Entry(seen)) = sighting
                && !seen.status.is_directory()
            {
                files += 1;
                bytes += seen.status.content_bytes();
            }
            if files == TOLD_AT_ONCE {
                self.monitor.event(Event::Expected { files, bytes });
                (files, bytes) = (0, 0);
            }
        }
        self.monitor.event(Event::Expected { files, bytes });
    }

    fn point(
        &self,
        runs: Vec<RunReference>,
        start: Moment,
        end: Moment,
        totals: &Totals,
        figures: Figures,
    ) -> Result<Point> {
        let id = new_point_id(end.time.as_second(), self.standing.newest.as_ref())?;
        let base = self.standing.base.as_deref();
        let mut lineage = vec![id];
        lineage.extend(base.into_iter().flat_map(|base| &base.lineage));
        let named = self.sources.named();
        Ok(Point {
            id,
            features: Features::default(),
            kind: self.standing.kind,
            parent: base.map(|base| base.id),
            base: base.map_or(id, |base| base.base),
            lineage,
            sequence: self.standing.sequence,
            runs,
            host: self.options.host.clone(),
            set: self.standing.set.clone(),
            user: self.options.user.clone(),
            sources: named.iter().map(|source| source.live.clone()).collect(),
            mapping: named
                .iter()
                .filter(|source| source.live != source.recorded)
                .map(|source| PathMapping {
                    live: source.live.clone(),
                    recorded: source.recorded.clone(),
                })
                .collect(),
            excludes: self.options.excludes.clone(),
            labels: self.options.labels.clone(),
            start,
            end,
            partial: totals.is_partial,
            warnings: totals.warnings,
            figures,
        })
    }
}

fn is_one_of(path: &Path, identities: &[Identity]) -> bool {
    path.symlink_metadata()
        .is_ok_and(|stat| identities.contains(&identity(&stat)))
}

fn identity(stat: &Metadata) -> Identity {
    Identity {
        device: stat.dev(),
        inode: stat.ino(),
    }
}

fn walk_options(options: &BackupOptions) -> Result<WalkOptions> {
    let identities = options
        .never
        .iter()
        .filter_map(|path| Some(identity(&std::fs::metadata(path).ok()?)));
    Ok(WalkOptions {
        excludes: Excludes::new(&options.excludes)?,
        exclude_caches: options.exclude_caches,
        one_file_system: options.one_file_system,
        never: identities.collect(),
    })
}

/// One source that is missing is a warning; if all of them are, nothing would be backed up. One that lies in what is
/// `never` entered would be an empty point that looks like a backup.
fn check_sources(sources: &Sources, never: &[Identity]) -> Result<()> {
    for source in sources.named() {
        if source.live.ancestors().any(|path| is_one_of(path, never)) {
            let message = format!(
                "cannot back up {}: it is the repository itself, or lies in it",
                source.live.display()
            );
            return Err(Error::new(ErrorKind::Usage, message));
        }
    }
    let mut problem = None;
    for source in sources.named() {
        match source.live.symlink_metadata() {
            // Beyond PATH_MAX only the walk can tell.
            Ok(_) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => return Ok(()),
            Err(error) => problem = Some((source, error)),
        }
    }
    match problem {
        None => Ok(()),
        Some((source, error)) => {
            let action = format!("back up {}", source.live.display());
            Err(Error::io(action, error).with_kind(ErrorKind::Usage))
        }
    }
}

/// The reference's files with several links, if it has any: a link that is new or was moved is then known by them.
fn linked_before(reference: Option<&Reference>) -> Result<LinkedBefore> {
    let mut linked = LinkedBefore::default();
    let Some(reference) = reference else {
        return Ok(linked);
    };
    let runs = reference.chain.runs();
    if runs.iter().any(|run| run.counts().linked > 0) {
        for found in reference.chain.entries(&Key::root()) {
            linked.learn(&found?);
        }
    }
    Ok(linked)
}

fn figures(totals: &Totals, uploaded: &UploadFigures, read_bytes: u64) -> Figures {
    Figures {
        read_bytes,
        newly_uploaded_bytes: uploaded.newly_uploaded_bytes,
        newly_uploaded_stored_bytes: uploaded.newly_uploaded_stored_bytes,
        reuploaded_bytes: uploaded.reuploaded_bytes,
        reuploaded_stored_bytes: uploaded.reuploaded_stored_bytes,
        stored_bytes: uploaded.stored_bytes,
        ..totals.figures
    }
}

fn moment(time: crate::base::Timestamp, options: &BackupOptions) -> Moment {
    let nanoseconds = i32::try_from(time.nanoseconds).unwrap_or(0);
    Moment {
        // A clock beyond year 9999 is no clock.
        time: Timestamp::new(time.seconds, nanoseconds).unwrap_or_default(),
        offset_seconds: options.offset_seconds,
    }
}
