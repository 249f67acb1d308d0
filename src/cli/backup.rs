//! `bygone backup`: makes a restore point.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::builder::{OsStringValueParser, TypedValueParser};

use super::arguments::{PointFilterArguments, parse_label, parse_name};
use super::backup_input::{Input, NamedArguments, absolute};
use super::backup_report::print;
use super::config::{ConfiguredSet, LeaveOut};
use super::context::Context;
use super::outcome::Outcome;
use super::point_object::point_fields;
use crate::archive::OwnerNames;
use crate::base::{Error, ErrorKind, PointId, Result, Timestamp};
use crate::format::PointKind;
use crate::ops::backup::{BackupOptions, backup, backup_stream};
use crate::repo::Repository;

/// Back files up and commit a restore point
///
/// What changed since the latest point of the same host and set is read and stored; of everything else the point
/// keeps what is stored already. Paths in a point are absolute as in the source, and what lies above them appears, too.
#[derive(Debug, clap::Args)]
#[command(after_help = concat!("Examples:
  bygone backup /home /etc
  bygone backup --full --label why=upgrade / --one-file-system --exclude-caches
  bygone backup --exclude '*.o' --exclude /target ~/src
  bygone backup --as /srv/data /srv/.snapshots/1/snapshot
  bygone backup --set laptop
  find . -newer stamp -print0 | bygone backup --files-from0 - --set recent
  bygone backup --stdin-name /db.sql --stdin-from-command -- pg_dump -h db shop

GLOB is as in a .gitignore file, relative to each PATH: '*.o' leaves out such files anywhere, '/target' only directly \
in PATH, 'build/' only directories; '!keep.o' takes back. What PATH names is backed up even where a GLOB matches it.

A file that cannot be read keeps the entry of the latest point, marked as carried. That, and whatever else was left \
out, is a warning, and the exit code is 3: the point is committed. `bygone show` lists its warnings. The repository \
itself is never backed up.

A stream is read to its end, and becomes the one file of its point, for its owner only. If the command of \
--stdin-from-command cannot be run, or fails, nothing is committed: whoever pipes into --stdin cannot tell that. A stream \
that brings what the latest point has is no new version of the file, and keeps its times.

Without PATH, --set NAME backs up the paths that the configuration has in [set.NAME], and takes what to leave out, \
labels and the repository from there; see bygone-config(5). What [backup] there leaves out is left out of every backup \
of paths.

Of several lists of --files-from, and PATHs, all are backed up; the set is then named after the lists.

With --full, a latest point that is damaged is a warning, too, and is done without.

A chain of incremental points may be of any length: now and then a backup merges the manifests of those before it, so \
that a point stands on at most 24 of them, and is read about as fast as a full one. No point, old or new, shows \
anything else for it.

JSON: an object of
", point_fields!(), "
Without a point, for --dry-run or --skip-if-unchanged: dry_run, unchanged_since (the id of the latest point if nothing \
differs from it, or null), kind, parent, set, partial, warnings, and the figures of these."))]
pub struct Arguments {
    /// Read every file and record every entry
    #[arg(long, group = "kind", help_heading = "Kind")]
    full: bool,

    /// Record what differs from the latest point of the set (the default)
    #[arg(long, group = "kind", help_heading = "Kind")]
    incremental: bool,

    /// Record what differs from the latest full point of the set
    #[arg(long, group = "kind", help_heading = "Kind")]
    differential: bool,

    /// Upload all that is read again, also what the repository has: with --full, damaged content heals
    #[arg(long, help_heading = "Kind")]
    reupload: bool,

    /// Stand on this point, not on the latest of the set
    #[arg(long, value_name = "POINT", help_heading = "Kind")]
    parent: Option<String>,

    /// Label the point; may be given several times
    #[arg(long, value_name = "K=V", value_parser = parse_label, help_heading = "Name")]
    label: Vec<(String, String)>,

    /// The host's name, instead of this machine's
    #[arg(long, value_name = "NAME", value_parser = parse_name, help_heading = "Name")]
    host: Option<String>,

    /// The set that the point belongs to, instead of one named after the paths; without PATH, one that is configured
    #[arg(long, value_name = "NAME", value_parser = parse_name, help_heading = "Name")]
    set: Option<String>,

    /// Record the one PATH, say a file system's snapshot, as this path
    #[arg(long = "as", value_name = "PATH", help_heading = "Name")]
    recorded_as: Option<PathBuf>,

    /// Leave out what matches; may be given several times
    #[arg(long, value_name = "GLOB", help_heading = "What to leave out")]
    exclude: Vec<String>,

    /// Leave out what matches a line of this file; may be given several times
    #[arg(long, value_name = "FILE", help_heading = "What to leave out")]
    exclude_from: Vec<PathBuf>,

    /// Leave out what lies in directories that a CACHEDIR.TAG marks as caches
    #[arg(long, help_heading = "What to leave out")]
    exclude_caches: bool,

    /// Leave out what lies in directories that have a file of this name; may be given several times
    #[arg(long, value_name = "NAME", value_parser = OsStringValueParser::new().try_map(parse_marker), help_heading = "What to leave out")]
    exclude_if_present: Vec<OsString>,

    /// Stay on the file system of each PATH
    #[arg(long, help_heading = "What to leave out")]
    one_file_system: bool,

    #[command(flatten)]
    named: NamedArguments,

    /// Make no point if nothing differs from the latest one of the set
    #[arg(long)]
    skip_if_unchanged: bool,

    /// Read everything, tell what would be stored, and write nothing; -v names each entry
    #[arg(long)]
    dry_run: bool,
}

impl Arguments {
    /// The set that the configuration is to describe, as nothing else says what to back up.
    pub(super) fn configured_set(&self) -> Option<&str> {
        self.set.as_deref().filter(|_| self.named.is_empty())
    }

    /// What was typed of what is left out.
    fn leave_out(&self) -> LeaveOut {
        LeaveOut {
            exclude: self.exclude.clone(),
            exclude_from: self.exclude_from.clone(),
            exclude_if_present: self.exclude_if_present.clone(),
            exclude_caches: self.exclude_caches.then_some(true),
            one_file_system: self.one_file_system.then_some(true),
        }
    }
}

/// Backs up and prints a summary.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Outcome> {
    let configured = match arguments.configured_set() {
        Some(name) => Some(context.config().set(name)?),
        None => None,
    };
    let input = Input::of(&arguments.named, configured)?;
    let mut leave_out = LeaveOut::default();
    if matches!(input, Input::Paths { .. }) {
        leave_out = context.config().backup.clone();
    }
    if let Some(set) = configured {
        leave_out = leave_out.and(set.leave_out.clone());
    }
    let leave_out = leave_out.and(arguments.leave_out());
    let excludes = excludes(&leave_out)?;
    let repository = context.open_repository()?;
    let mut options = options(arguments, configured, &repository, context)?;
    options.excludes = excludes;
    options.exclude_caches = leave_out.exclude_caches.unwrap_or_default();
    options.one_file_system = leave_out.one_file_system.unwrap_or_default();
    options.exclude_if_present = leave_out
        .exclude_if_present
        .into_iter()
        .map(OsString::into_vec)
        .collect();
    let monitor = context.monitor()?;
    let report = match input {
        Input::Paths { paths, lists } => {
            options.set = options.set.or(lists);
            options.paths = paths;
            backup(&repository, &options, &monitor)
        }
        Input::Stream(source) => backup_stream(&repository, &options, source.start()?, &monitor),
    };
    let report = report.map_err(|error| explained(error, &repository))?;
    monitor.finish();
    print(&report, &options, context)?;
    Ok(match report.warnings {
        0 => Outcome::Done,
        _ => Outcome::Warnings,
    })
}

/// Says what becomes of a backup for which there is no room.
fn explained(error: Error, repository: &Repository) -> Error {
    if error.kind() != ErrorKind::Full {
        return error;
    }
    Error::new(
        ErrorKind::Full,
        format!(
            "{}: {error}; nothing was committed, and when there is room, what was stored by now will be found again",
            repository.store().location()
        ),
    )
}

/// The options, but for what is backed up and what is left out.
fn options(
    arguments: &Arguments,
    configured: Option<&ConfiguredSet>,
    repository: &Repository,
    context: &Context,
) -> Result<BackupOptions> {
    let host = arguments.host.as_ref();
    let host = host.or(configured.and_then(|set| set.host.as_ref()));
    let host = host.map_or_else(this_host, Clone::clone);
    let labels = configured.map_or(&[][..], |set| &set.labels);
    let now = context.now();
    Ok(BackupOptions {
        kind: kind(arguments),
        reupload: arguments.reupload,
        labels: labels.iter().chain(&arguments.label).cloned().collect(),
        parent: parent(arguments, &host, repository, context)?,
        host,
        set: arguments.set.clone(),
        user: this_user(),
        paths: Vec::new(),
        recorded_as: arguments.recorded_as.as_deref().map(absolute).transpose()?,
        excludes: Vec::new(),
        exclude_caches: false,
        exclude_if_present: Vec::new(),
        one_file_system: false,
        skip_if_unchanged: arguments.skip_if_unchanged
            || configured.is_some_and(|set| set.skip_if_unchanged),
        dry_run: arguments.dry_run,
        never: Vec::from_iter(context.repository_place()?.folder().map(Path::to_owned)),
        names: Box::new(SystemNames),
        clock,
        offset_seconds: now.offset().seconds(),
        workers: std::thread::available_parallelism().map_or(1, usize::from),
        estimates: super::progress::is_shown(context.output()),
        tells_changes: context.verbose() > 0,
    })
}

fn kind(arguments: &Arguments) -> PointKind {
    if arguments.full {
        PointKind::Full
    } else if arguments.differential {
        PointKind::Differential
    } else {
        PointKind::Incremental
    }
}

/// The point that was named to stand on, among those of the host and set.
fn parent(
    arguments: &Arguments,
    host: &str,
    repository: &Repository,
    context: &Context,
) -> Result<Option<PointId>> {
    let Some(text) = &arguments.parent else {
        return Ok(None);
    };
    let filter = PointFilterArguments {
        host: Some(host.to_owned()),
        set: arguments.set.clone(),
        ..PointFilterArguments::default()
    };
    let point = context.point(repository, text, &filter)?;
    Ok(Some(point.id))
}

/// A name that marks a directory.
///
/// # Errors
/// Says what was expected.
pub(super) fn parse_marker(name: OsString) -> std::result::Result<OsString, String> {
    match name.as_bytes() {
        b"" | b"." | b".." => Err("expected the name of a file, such as .nobackup".to_owned()),
        bytes if bytes.contains(&b'/') => {
            Err("expected the name of a file, without a slash".to_owned())
        }
        _ => Ok(name),
    }
}

/// The globs that were given, and those in files, in this order.
fn excludes(leave_out: &LeaveOut) -> Result<Vec<String>> {
    let mut excludes = leave_out.exclude.clone();
    for file in &leave_out.exclude_from {
        let text = std::fs::read_to_string(file).map_err(|error| {
            Error::io(format!("read the globs in {}", file.display()), error)
                .with_kind(ErrorKind::Usage)
        })?;
        excludes.extend(text.lines().map(str::to_owned));
    }
    // What says nothing need not stand in every point.
    excludes.retain(|line| !line.trim().is_empty() && !line.starts_with('#'));
    Ok(excludes)
}

/// The name of this machine.
pub(super) fn this_host() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The name of the user whose process this is.
pub(super) fn this_user() -> String {
    let user = uzers::get_effective_uid();
    uzers::get_user_by_uid(user).map_or_else(
        || user.to_string(),
        |user| user.name().to_string_lossy().into_owned(),
    )
}

fn clock() -> Timestamp {
    // A clock before 1970 is no clock.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        nanoseconds: now.subsec_nanos(),
    }
}

/// Names as this machine's user database has them.
struct SystemNames;

impl OwnerNames for SystemNames {
    fn user(&self, id: u32) -> Option<Vec<u8>> {
        uzers::get_user_by_uid(id).map(|user| user.name().as_bytes().to_vec())
    }

    fn group(&self, id: u32) -> Option<Vec<u8>> {
        uzers::get_group_by_gid(id).map(|group| group.name().as_bytes().to_vec())
    }
}
