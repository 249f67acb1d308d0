//! `bygone restore`: puts back what a point has.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;
use serde::Serialize;

use super::arguments::PointFilterArguments;
use super::context::Context;
use super::outcome::Outcome;
use super::output::{counted, of_two, size};
use crate::base::{Error, ErrorKind, Key, PointId, Result};
use crate::format::Point;
use crate::ops::restore::{OnConflict, RestoreOptions, RestoreReport, restore};
use crate::repo::Repository;

/// Put files back as a restore point has them
///
/// Each PATH lands under DIR by its whole path; POINT:PATH makes PATH the root, so that what is in it lands in DIR itself.
/// With --in-place, everything goes where the point recorded it. Content, holes, hard links, owners, modes, times to the
/// nanosecond, extended attributes and ACLs are restored, and what is right already is not written again: after an
/// interruption the same command goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bygone restore latest --target /tmp/out
  bygone restore latest /home/me/letter.txt --in-place
  bygone restore 2026-11-20:/home/me --target /tmp/me --exclude '*.iso'
  bygone restore latest~1 /etc --in-place --delete --dry-run -v

A file appears under its name only once it is whole; until then it has a name of the kind .bygone-0123456789abcdef.part \
beside it. No symlink below DIR is followed. What cannot be restored is a warning, all else goes on, and the exit code is \
then 3.

What --on-conflict says of something that is there already:
  if-changed  replace it, unless type, size and modification time (a symlink's target, a device's number) are the
              point's; then only its metadata is corrected
  overwrite   replace it
  skip        leave it
  if-newer    replace it if the point's was modified later
  rename      leave it, and restore beside it, as NAME.restored-POINT
A directory that is in a file's place makes way if it is empty, or with --delete. Those that are there keep their metadata
with skip and rename, and with if-newer if they are newer.

GLOB is as in a .gitignore file, relative to each PATH. --delete leaves what a GLOB keeps from being restored.

JSON: an object of
  point        the point's id
  dry_run      true if nothing was done
  files        files whose content was written
  bytes        their bytes
  directories  directories that were made
  others       symlinks, devices, fifos and sockets that were made
  links        hard links that were made to other files restored
  unchanged    what was there already, directories not counted
  metadata     what had the content, and was given other metadata
  skipped      what was left as it was, because of --on-conflict
  renamed      what was restored under another name
  deleted      what was taken away
  verified     files that were read back and found right
  errors       what could not be restored, or not in full")]
pub struct Arguments {
    /// The point: an id, a short id, latest, latest~N, a time or K=V; POINT:PATH makes PATH the root
    #[arg(value_name = "POINT")]
    point: String,

    /// What to restore, from the root of the point; all of it by default
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,

    /// Restore under this directory, which is made if it is not there
    #[arg(long, value_name = "DIR", required_unless_present = "in_place")]
    target: Option<PathBuf>,

    /// Restore to the paths that the point recorded
    #[arg(long, conflicts_with = "target")]
    in_place: bool,

    /// What to do where something stands already
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Rule::IfChanged)]
    on_conflict: Rule,

    /// Take away what the point does not have, below what is restored
    #[arg(long)]
    delete: bool,

    /// Tell what would be done, and do nothing; -v names each thing
    #[arg(long)]
    dry_run: bool,

    /// Read every file back and hold it against the point
    #[arg(long)]
    verify: bool,

    /// Restore only what matches, or lies below; may be given several times
    #[arg(long, value_name = "GLOB", help_heading = "What to restore")]
    include: Vec<String>,

    /// Leave out what matches; may be given several times
    #[arg(long, value_name = "GLOB", help_heading = "What to restore")]
    exclude: Vec<String>,

    /// Make holes of zeros, too, not only of the source's holes
    #[arg(long)]
    sparse: bool,

    /// Leave files to whoever restores them
    #[arg(long)]
    no_owner: bool,

    #[command(flatten)]
    filter: PointFilterArguments,
}

/// `--on-conflict` as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Rule {
    Overwrite,
    Skip,
    IfNewer,
    IfChanged,
    Rename,
}

/// Restores and prints a summary.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Outcome> {
    let repository = context.open_repository()?;
    let (point, subtree) =
        point_and_subtree(context, &repository, &arguments.point, &arguments.filter)?;
    let options = options(arguments, subtree, context)?;
    refuse_repository(&options, context)?;
    let monitor = context.monitor()?;
    let report = restore(&repository, &point, &options, &monitor);
    monitor.finish();
    let report = report?;
    print(&report, point.id, options.dry_run, context)?;
    Ok(match report.errors {
        0 => Outcome::Done,
        _ => Outcome::Warnings,
    })
}

/// The point that POINT or POINT:PATH means, and PATH, or else the root.
pub(super) fn point_and_subtree(
    context: &Context,
    repository: &Repository,
    text: &str,
    filter: &PointFilterArguments,
) -> Result<(Arc<Point>, Key)> {
    // A time has colons, too, but none before a slash; a label may have anything.
    let (name, path) = match text.split_once(":/") {
        Some((name, path)) if !name.contains('=') => (name, path),
        _ => match context.point(repository, text, filter) {
            Err(error) if error.kind() == ErrorKind::Usage => match text.rsplit_once(':') {
                Some((name, path)) => {
                    let point = context.point(repository, name, filter);
                    let point = point.map_err(|_| error)?;
                    return Ok((point, Key::from_path(path.as_bytes())?));
                }
                None => return Err(error),
            },
            point => return Ok((point?, Key::root())),
        },
    };
    let point = context.point(repository, name, filter)?;
    Ok((point, Key::from_path(path.as_bytes())?))
}

fn options(arguments: &Arguments, subtree: Key, context: &Context) -> Result<RestoreOptions> {
    Ok(RestoreOptions {
        subtree,
        paths: arguments
            .paths
            .iter()
            .map(|path| Key::from_path(path.as_bytes()))
            .collect::<Result<_>>()?,
        target: arguments.target.as_deref().map(absolute).transpose()?,
        dry_run: arguments.dry_run,
        on_conflict: match arguments.on_conflict {
            Rule::Overwrite => OnConflict::Overwrite,
            Rule::Skip => OnConflict::Skip,
            Rule::IfNewer => OnConflict::IfNewer,
            Rule::IfChanged => OnConflict::IfChanged,
            Rule::Rename => OnConflict::Rename,
        },
        delete: arguments.delete,
        verify: arguments.verify,
        include: arguments.include.clone(),
        exclude: arguments.exclude.clone(),
        sparse: arguments.sparse,
        owner: !arguments.no_owner,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        tells_each: context.verbose() > 0,
    })
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| Error::io(format!("find {}", path.display()), error))
}

/// Files put into the repository would look like objects of it.
fn refuse_repository(options: &RestoreOptions, context: &Context) -> Result<()> {
    let (Some(target), Some(folder)) = (&options.target, context.repository_place()?.folder())
    else {
        return Ok(());
    };
    let (Ok(target), Ok(folder)) = (target.canonicalize(), folder.canonicalize()) else {
        return Ok(());
    };
    if target.starts_with(&folder) {
        return Err(Error::new(
            ErrorKind::Usage,
            format!(
                "{} is in the repository itself: choose another --target",
                target.display()
            ),
        ));
    }
    Ok(())
}

/// The report as JSON shows it.
#[derive(Serialize)]
struct ReportObject {
    point: PointId,
    dry_run: bool,
    files: u64,
    bytes: u64,
    directories: u64,
    others: u64,
    links: u64,
    unchanged: u64,
    metadata: u64,
    skipped: u64,
    renamed: u64,
    deleted: u64,
    verified: u64,
    errors: u64,
}

fn print(report: &RestoreReport, point: PointId, dry_run: bool, context: &Context) -> Result<()> {
    let output = context.output();
    if context.json() {
        return output.document(&ReportObject {
            point,
            dry_run,
            files: report.files,
            bytes: report.bytes,
            directories: report.directories,
            others: report.others,
            links: report.links,
            unchanged: report.unchanged,
            metadata: report.metadata,
            skipped: report.skipped,
            renamed: report.renamed,
            deleted: report.deleted,
            verified: report.verified,
            errors: report.errors,
        });
    }
    if context.quiet() {
        return Ok(());
    }
    output.line(match dry_run {
        true => format!("Dry run: this would be restored of point {point}. Nothing was written."),
        false => format!("Restored from point {point}."),
    })?;
    for line in summary(report) {
        output.line(format_args!("  {line}"))?;
    }
    Ok(())
}

fn summary(report: &RestoreReport) -> Vec<String> {
    let mut lines = vec![format!(
        "{} in {}, {}",
        size(report.bytes),
        counted(report.files, "file"),
        of_two(report.directories, "new directory", "new directories"),
    )];
    let thing = |count| of_two(count, "thing", "things");
    let more = [
        (
            report.others,
            format!("{} of other types", thing(report.others)),
        ),
        (report.links, counted(report.links, "hard link")),
        (
            report.unchanged,
            format!("{} right already", thing(report.unchanged)),
        ),
        (
            report.metadata,
            format!("{} given other metadata only", thing(report.metadata)),
        ),
        (
            report.skipped,
            format!("{} left as they were", thing(report.skipped)),
        ),
        (
            report.renamed,
            format!("{} restored under another name", thing(report.renamed)),
        ),
        (report.deleted, format!("{} deleted", thing(report.deleted))),
        (
            report.verified,
            format!(
                "{} read back and verified",
                counted(report.verified, "file")
            ),
        ),
        (report.errors, counted(report.errors, "error")),
    ];
    let more = more.into_iter().filter(|(count, _)| *count > 0);
    lines.extend(more.map(|(_, line)| line));
    lines
}
