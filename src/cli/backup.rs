//! `bygone backup`: makes a restore point.

use std::collections::BTreeMap;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::arguments::{PointFilterArguments, parse_label, parse_name};
use super::context::Context;
use super::outcome::Outcome;
use super::output::{counted, local_time, of_two, size, text_of};
use super::point_object::{PointObject, committed, point_fields};
use crate::archive::OwnerNames;
use crate::base::{Error, PointId, Result, Timestamp};
use crate::format::{Figures, Point, PointKind};
use crate::ops::backup::{BackupOptions, BackupReport, backup};
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

GLOB is as in a .gitignore file, relative to each PATH: '*.o' leaves out such files anywhere, '/target' only directly \
in PATH, 'build/' only directories; '!keep.o' takes back. What PATH names is backed up even where a GLOB matches it.

A file that cannot be read keeps the entry of the latest point, marked as carried. That, and whatever else was left \
out, is a warning, and the exit code is 3: the point is committed. `bygone show` lists its warnings. The repository \
itself is never backed up.

With --full, a latest point that is damaged is a warning, too, and is done without.

A chain of incremental points may be of any length: now and then a backup merges the manifests of those before it, so \
that a point stands on at most 24 of them, and is read about as fast as a full one. No point, old or new, shows \
anything else for it.

JSON: an object of
", point_fields!(), "
With --dry-run: dry_run (true), kind, parent, set, and the figures of these."))]
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

    /// The set that the point belongs to, instead of one named after the paths
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

    /// Stay on the file system of each PATH
    #[arg(long, help_heading = "What to leave out")]
    one_file_system: bool,

    /// Read everything, tell what would be stored, and write nothing; -v names each entry
    #[arg(long)]
    dry_run: bool,

    /// What to back up: files and directories
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

/// Backs up and prints a summary.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Outcome> {
    let repository = context.open_repository()?;
    let options = options(arguments, &repository, context)?;
    let monitor = context.monitor()?;
    let report = backup(&repository, &options, &monitor)?;
    monitor.finish();
    print(&report, &options, context)?;
    Ok(match report.warnings {
        0 => Outcome::Done,
        _ => Outcome::Warnings,
    })
}

fn options(
    arguments: &Arguments,
    repository: &Repository,
    context: &Context,
) -> Result<BackupOptions> {
    let host = match &arguments.host {
        Some(host) => host.clone(),
        None => this_host(),
    };
    let now = context.now();
    Ok(BackupOptions {
        kind: kind(arguments),
        reupload: arguments.reupload,
        labels: arguments.label.iter().cloned().collect::<BTreeMap<_, _>>(),
        parent: parent(arguments, &host, repository, context)?,
        host,
        set: arguments.set.clone(),
        user: this_user(),
        paths: arguments
            .paths
            .iter()
            .map(|path| absolute(path))
            .collect::<Result<_>>()?,
        recorded_as: arguments.recorded_as.as_deref().map(absolute).transpose()?,
        excludes: excludes(arguments)?,
        exclude_caches: arguments.exclude_caches,
        one_file_system: arguments.one_file_system,
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

/// `path` from the root; a slash at its end, which follows a symlink there, stays.
fn absolute(path: &Path) -> Result<PathBuf> {
    let mut absolute = std::path::absolute(path)
        .map_err(|error| Error::io(format!("find {}", path.display()), error))?
        .into_os_string()
        .into_vec();
    if path.as_os_str().as_bytes().ends_with(b"/") && !absolute.ends_with(b"/") {
        absolute.push(b'/');
    }
    Ok(PathBuf::from(std::ffi::OsString::from_vec(absolute)))
}

/// The globs that were given, and those in files, in this order.
fn excludes(arguments: &Arguments) -> Result<Vec<String>> {
    let mut excludes = arguments.exclude.clone();
    for file in &arguments.exclude_from {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Error::io(format!("read {}", file.display()), error))?;
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

/// What a dry run would have done.
#[derive(Serialize)]
struct DryRun<'a> {
    dry_run: bool,
    kind: &'static str,
    parent: Option<PointId>,
    set: &'a str,
    partial: bool,
    warnings: u64,
    #[serde(flatten)]
    figures: Figures,
}

fn print(report: &BackupReport, options: &BackupOptions, context: &Context) -> Result<()> {
    let output = context.output();
    if context.json() {
        return match &report.point {
            Some(point) => output.document(&PointObject::from(point)),
            None => output.document(&DryRun {
                dry_run: true,
                kind: report.kind.word(),
                parent: report.parent,
                set: &report.set,
                partial: report.partial,
                warnings: report.warnings,
                figures: report.figures,
            }),
        };
    }
    if context.quiet() {
        return Ok(());
    }
    output.line(heading(report, options))?;
    for line in summary(report) {
        output.line(format_args!("  {line}"))?;
    }
    Ok(())
}

fn heading(report: &BackupReport, options: &BackupOptions) -> String {
    let kind = report.kind.word();
    let because = match report.kind == options.kind {
        true => "",
        false => ", as there is no point of its set to stand on",
    };
    match &report.point {
        Some(point) => committed_line(point, kind, because),
        None => format!("Dry run: it would be {kind}{because}. Nothing was written."),
    }
}

fn committed_line(point: &Point, kind: &str, because: &str) -> String {
    let stands_on = match point.parent {
        Some(parent) => format!(" on {parent}"),
        None => String::new(),
    };
    format!(
        "Committed point {}, {}: {kind}{stands_on}{because}.",
        point.id,
        text_of(local_time(committed(point)).as_bytes()),
    )
}

fn summary(report: &BackupReport) -> Vec<String> {
    let figures = &report.figures;
    let mut lines = vec![
        format!(
            "{} in {} and {}; {} recorded",
            size(figures.bytes),
            counted(figures.files, "file"),
            of_two(figures.directories, "directory", "directories"),
            of_two(figures.entries_recorded, "entry", "entries"),
        ),
        format!("{} read from the source", size(figures.read_bytes)),
        format!(
            "{} newly uploaded, {} stored",
            size(figures.newly_uploaded_bytes),
            size(figures.newly_uploaded_stored_bytes)
        ),
    ];
    if figures.reuploaded_bytes > 0 {
        lines.push(format!(
            "{} re-uploaded, {} stored",
            size(figures.reuploaded_bytes),
            size(figures.reuploaded_stored_bytes)
        ));
    }
    if report.point.is_some() {
        lines.push(format!(
            "{} added to the repository in {:.1} s",
            size(figures.stored_bytes),
            figures.duration_seconds
        ));
    }
    if report.warnings > 0 {
        lines.push(match report.partial {
            true => format!(
                "{}; what could not be read was carried from the point before, or left out",
                counted(report.warnings, "warning")
            ),
            false => counted(report.warnings, "warning"),
        });
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_and_keep_a_slash_that_follows_a_symlink() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute(Path::new("a/./b")).unwrap(), here.join("a/b"));
        assert_eq!(
            absolute(Path::new("/a/")).unwrap().as_os_str().as_bytes(),
            b"/a/"
        );
        assert_eq!(absolute(Path::new("/")).unwrap(), Path::new("/"));
    }
}
