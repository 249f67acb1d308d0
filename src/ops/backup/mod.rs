//! Backing up: from options to a committed point.
//!
//! The order of writes is what keeps a repository whole whenever this ends: a lease, packs, their index, the run, older
//! runs merged into one where it makes one too many, and the point, which is the commit. What failed or was interrupted leaves its uploads behind, indexed, for the next one.

mod job;

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use crate::archive::{Clock, Excludes, Identity, OwnerNames, Sources, Stream, WalkOptions};
use crate::base::{Error, ErrorKind, Monitor, PointId, Result};
use crate::format::{Figures, Moment, Point, PointKind};
use crate::repo::{Lease, Repository};

use self::job::{Input, Job, StreamInput};
use super::standing::{Standing, stand};

/// Bytes of all sources' paths together: they stand in the header of the point, which whoever lists points reads.
const PATHS_BYTES_MAX: usize = 4 << 20;

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
    /// Names of files that mark a directory whose content is left out.
    pub exclude_if_present: Vec<Vec<u8>>,
    pub one_file_system: bool,
    /// Make no point if nothing differs from the latest one.
    pub skip_if_unchanged: bool,
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
    /// The committed point; None for a dry run, and where nothing had changed.
    pub point: Option<Point>,
    /// The point that nothing differs from, which is why there is no new one.
    pub unchanged_since: Option<PointId>,
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
    let sources = Sources::resolve(&options.paths, options.recorded_as.as_deref())?;
    let walk_options = walk_options(options)?;
    check_sources(&sources, &walk_options.never)?;
    let input = Input::Tree(&walk_options);
    backup_input(repository, options, &sources, input, monitor)
}

/// Backs `stream` up as the one file that the point has; the options' paths, and what they leave out, do not count.
///
/// # Errors
/// Those of `backup`; the stream cannot be read, or is not whole.
pub fn backup_stream(
    repository: &Arc<Repository>,
    options: &BackupOptions,
    stream: Stream,
    monitor: &dyn Monitor,
) -> Result<BackupReport> {
    let sources = Sources::of_stream(&stream.path);
    let stream = StreamInput::new(stream);
    let input = Input::Stream(&stream);
    backup_input(repository, options, &sources, input, monitor)
}

fn backup_input(
    repository: &Arc<Repository>,
    options: &BackupOptions,
    sources: &Sources,
    input: Input<'_>,
    monitor: &dyn Monitor,
) -> Result<BackupReport> {
    let start = (options.clock)();
    let mut standing = stand(repository, options, sources, monitor)?;
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
            sources,
            input,
            standing,
            notice,
        };
        if options.dry_run {
            job.run_dry(moment(start, options))
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
        markers: options.exclude_if_present.clone(),
        one_file_system: options.one_file_system,
        never: identities.collect(),
    })
}

/// One source that is missing is a warning; if all of them are, nothing would be backed up. One that lies in what is
/// `never` entered would be an empty point that looks like a backup.
fn check_sources(sources: &Sources, never: &[Identity]) -> Result<()> {
    let paths = sources.named().iter();
    let bytes: usize = paths.map(|source| source.recorded.as_os_str().len()).sum();
    if bytes > PATHS_BYTES_MAX {
        let message = format!(
            "{} paths are too many for one point: name the directories that they lie in",
            sources.named().len()
        );
        return Err(Error::new(ErrorKind::Usage, message));
    }
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

fn moment(time: crate::base::Timestamp, options: &BackupOptions) -> Moment {
    let nanoseconds = i32::try_from(time.nanoseconds).unwrap_or(0);
    Moment {
        // A clock beyond year 9999 is no clock.
        time: Timestamp::new(time.seconds, nanoseconds).unwrap_or_default(),
        offset_seconds: options.offset_seconds,
    }
}
