//! `bygone diff`: compares two points, or a point with the file system.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::arguments::PointFilterArguments;
use super::context::Context;
use super::entry_fields::{PathFields, append_path, key_of};
use super::ls::type_word;
use super::outcome::Outcome;
use super::output::{counted, of_two, size};
use super::terminal::Paint;
use crate::base::{Error, ErrorKind, Key, Result};
use crate::fetch::Fetcher;
use crate::format::{Entry, FileType};
use crate::manifest::Aspect;
use crate::ops::difference::{
    ChangeKind, DifferenceFigures, KindFigures, LiveOptions, PathDifference, Side, TextDifference,
    compare_live, compare_points, text_difference,
};

/// Bytes of memory for pieces of runs, and for chunks whose text is compared.
const MEMORY_BYTES: u64 = 64 << 20;

/// Show what differs between two restore points, or between one and the files as they are now
///
/// Each path that was added, removed or changed is told, and of what changed, what: content, mode, owner, time (of
/// modification), xattr, flags (of chattr). Only what the two points do not share is read. What a file system does by
/// itself (change times, inode numbers, allocation) is no difference. Exit codes are those of diff(1): 0 if nothing
/// differs, 1 if something does, 2 and above if it failed.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "bygone diff [OPTIONS] A B [PATH]\n       bygone diff [OPTIONS] POINT --live [PATH]",
    after_help = "Examples:
  bygone diff latest~1 latest
  bygone diff yesterday latest /home/me --stat
  bygone diff 1f3a9c2e latest /etc --content | less
  bygone diff latest --live /etc
  bygone diff latest~7 latest --json | jq -r 'select(.change == \"removed\") | .path'

JSON: one object a line, with
  path                from the root; bytes that are not UTF-8 are replaced
  path_hex            the path's bytes, where it is not UTF-8
  change              added, removed, changed or type (it is of another type)
  what                of content, mode, owner, time, xattr, flags and type, what changed
  old_size, new_size  bytes; null on the side that does not have it
  old_type, new_type  file, directory, symlink, ...; null likewise
  diff                with --content: the unified diff, or null
With --stat, one object with added, removed, changed and type; each has files, directories, old_bytes
and new_bytes."
)]
pub struct Arguments {
    /// The older point: an id, a short id, latest, latest~N, a time or K=V
    #[arg(value_name = "A")]
    old: String,

    /// The newer point, and what to compare, from the root; with --live the latter only
    #[arg(value_names = ["B", "PATH"], num_args = 0..=2)]
    rest: Vec<PathBuf>,

    /// Compare with the file system as it is now, at the paths that the point records
    #[arg(long)]
    live: bool,

    /// Tell sums only
    #[arg(long)]
    stat: bool,

    /// Show what differs in text files, as unified diffs
    #[arg(long, conflicts_with = "stat")]
    content: bool,

    /// With --live, stay on the file system of each path that was backed up
    #[arg(long, requires = "live", help_heading = "What to leave out")]
    one_file_system: bool,

    /// With --live, leave out what lies in directories that a CACHEDIR.TAG marks as caches
    #[arg(long, requires = "live", help_heading = "What to leave out")]
    exclude_caches: bool,

    /// With --live, leave out what lies in directories that have a file of this name; may be given several times
    #[arg(
        long,
        value_name = "NAME",
        requires = "live",
        help_heading = "What to leave out"
    )]
    exclude_if_present: Vec<OsString>,

    #[command(flatten)]
    filter: PointFilterArguments,
}

impl Arguments {
    /// Is there a line that shows progress meanwhile?
    pub(super) fn shows_progress(&self) -> bool {
        self.live
    }
}

/// What is compared.
enum Compared<'a> {
    Points(&'a str, &'a str),
    Live(&'a str),
}

/// Prints what differs.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Outcome> {
    let (compared, path) = compared(arguments)?;
    let below = key_of(path)?;
    let repository = context.open_repository()?;
    let fetcher = Fetcher::new(Arc::clone(&repository), MEMORY_BYTES);
    let point = |text| context.point(&repository, text, &arguments.filter);
    let mut telling = Telling {
        arguments,
        context,
        fetcher: &fetcher,
        figures: DifferenceFigures::default(),
    };
    let warnings = match compared {
        Compared::Points(old, new) => {
            let (old, new) = (point(old)?, point(new)?);
            compare_points(&fetcher, &old, &new, &below, &mut |difference| {
                telling.tell(&difference)
            })?;
            0
        }
        Compared::Live(old) => {
            let point = point(old)?;
            let names = arguments.exclude_if_present.iter();
            let options = LiveOptions {
                exclude_caches: arguments.exclude_caches,
                exclude_if_present: names.map(|name| name.as_bytes().to_vec()).collect(),
                one_file_system: arguments.one_file_system,
                never: Vec::from_iter(context.repository_place()?.folder().map(Path::to_owned)),
            };
            let monitor = context.monitor()?;
            let tell = &mut |difference| monitor.beside_the_line(|| telling.tell(&difference));
            compare_live(&fetcher, &point, &below, &options, &monitor, tell)?
        }
    };
    telling.finish()?;
    Ok(match (warnings, telling.figures.is_empty()) {
        (0, true) => Outcome::Done,
        (0, false) => Outcome::Differs,
        _ => Outcome::Warnings,
    })
}

fn compared(arguments: &Arguments) -> Result<(Compared<'_>, &Path)> {
    let usage = |message| Err(Error::new(ErrorKind::Usage, message));
    let root = Path::new("/");
    match (arguments.live, &arguments.rest[..]) {
        (true, []) => Ok((Compared::Live(&arguments.old), root)),
        (true, [path]) => Ok((Compared::Live(&arguments.old), path)),
        (true, _) => usage("--live compares one point: name it, and at most one PATH"),
        (false, []) => usage("one point alone cannot be compared: name another, or give --live"),
        (false, [new, path @ ..]) => {
            let Some(new) = new.to_str() else {
                return usage("the name of the newer point is no text");
            };
            let path = path.first().map_or(root, PathBuf::as_path);
            Ok((Compared::Points(&arguments.old, new), path))
        }
    }
}

/// Tells differences as they come.
struct Telling<'a> {
    arguments: &'a Arguments,
    context: &'a Context,
    fetcher: &'a Fetcher,
    figures: DifferenceFigures,
}

impl Telling<'_> {
    fn tell(&mut self, difference: &PathDifference) -> Result<()> {
        self.figures.add(difference);
        if self.arguments.stat {
            return Ok(());
        }
        let text = match self.arguments.content {
            true => self.text(difference)?,
            false => TextDifference::None,
        };
        if self.context.json() {
            self.print_object(difference, &text)
        } else {
            self.print_line(difference, &text)
        }
    }

    /// How its text differs, if that can be.
    fn text(&self, difference: &PathDifference) -> Result<TextDifference> {
        let is_same =
            difference.kind() == ChangeKind::Changed && !difference.changes.has(Aspect::Content);
        let is_file = |entry: &Entry| entry.metadata.file_type == FileType::Regular;
        let entries = [&difference.old, &difference.new];
        if is_same || !entries.iter().any(|it| it.as_deref().is_some_and(is_file)) {
            return Ok(TextDifference::None);
        }
        let live = Path::new("/").join(path_of(&difference.key));
        let [old, new] = entries.map(|entry| entry.as_deref().filter(|entry| is_file(entry)));
        let stored = |entry| Side::Stored(entry);
        let old = old.map_or(Side::Absent, stored);
        let new = match new {
            Some(_) if self.arguments.live => Side::Live(&live),
            new => new.map_or(Side::Absent, stored),
        };
        text_difference(self.fetcher, &difference.key, old, new)
    }

    fn print_line(&self, difference: &PathDifference, text: &TextDifference) -> Result<()> {
        let output = self.context.output();
        let kind = difference.kind();
        let word = format!("{:<9}", kind.word());
        let word = match kind {
            ChangeKind::Added => output.painted(Paint::Good, &word),
            ChangeKind::Removed => output.painted(Paint::Bad, &word),
            ChangeKind::Changed | ChangeKind::Type => word,
        };
        let mut line = word.into_bytes();
        append_path(output, &difference.key, &mut line);
        let newest = difference.new.as_deref().or(difference.old.as_deref());
        let is_directory =
            newest.is_some_and(|entry| entry.metadata.file_type == FileType::Directory);
        if is_directory && !difference.key.is_root() {
            line.push(b'/');
        }
        let details = details(difference);
        if !details.is_empty() {
            line.extend_from_slice(format!("  {details}").as_bytes());
        }
        line.push(b'\n');
        match text {
            TextDifference::None => {}
            TextDifference::Unified(unified) => {
                line.extend_from_slice(&output.painted_diff(unified))
            }
            TextDifference::Binary => line.extend_from_slice(b"(not text)\n"),
            TextDifference::TooLarge => line.extend_from_slice(b"(too large to show)\n"),
        }
        output.bytes(&line)
    }

    fn print_object(&self, difference: &PathDifference, text: &TextDifference) -> Result<()> {
        let size = |entry: &Option<Box<Entry>>| entry.as_ref().map(|entry| entry.metadata.size);
        let file_type = |entry: &Option<Box<Entry>>| {
            let metadata = entry.as_ref().map(|entry| &entry.metadata);
            metadata.map(|metadata| type_word(metadata.file_type))
        };
        let unified = match text {
            TextDifference::Unified(unified) => Some(String::from_utf8_lossy(unified).into_owned()),
            _ => None,
        };
        self.context.output().object(&DifferenceObject {
            path: PathFields::from(&difference.key),
            change: difference.kind().word(),
            what: difference.changes.iter().map(Aspect::word).collect(),
            old_size: size(&difference.old),
            new_size: size(&difference.new),
            old_type: file_type(&difference.old),
            new_type: file_type(&difference.new),
            diff: self.arguments.content.then_some(unified),
        })
    }

    /// Tells the sums, if they were asked for.
    fn finish(&self) -> Result<()> {
        if !self.arguments.stat {
            return Ok(());
        }
        let figures = &self.figures;
        let sums = [
            (ChangeKind::Added, &figures.added),
            (ChangeKind::Removed, &figures.removed),
            (ChangeKind::Changed, &figures.changed),
            (ChangeKind::Type, &figures.of_another_type),
        ];
        let output = self.context.output();
        if self.context.json() {
            return output.object(&StatObject::from(figures));
        }
        for (kind, sum) in sums {
            if *sum != KindFigures::default() {
                output.line(format_args!("{:<9}{}", kind.word(), sum_text(kind, sum)))?;
            }
        }
        Ok(())
    }
}

fn path_of(key: &Key) -> PathBuf {
    PathBuf::from(OsString::from_vec(key.to_path()))
}

/// What changed, and sizes, for people.
fn details(difference: &PathDifference) -> String {
    let file_size = |entry: &Option<Box<Entry>>| {
        let metadata = entry.as_ref().map(|entry| &entry.metadata);
        let file = metadata.filter(|metadata| metadata.file_type == FileType::Regular);
        file.map(|metadata| size(metadata.size))
    };
    let sizes = (file_size(&difference.old), file_size(&difference.new));
    match (difference.kind(), &difference.old, &difference.new) {
        (ChangeKind::Type, Some(old), Some(new)) => {
            let word = |entry: &Entry| type_word(entry.metadata.file_type);
            format!("{} -> {}", word(old), word(new))
        }
        (ChangeKind::Changed, ..) => {
            let words: Vec<_> = difference.changes.iter().map(Aspect::word).collect();
            let words = words.join(", ");
            match sizes {
                (Some(old), Some(new)) if difference.changes.has(Aspect::Content) => {
                    format!("{words}  {old} -> {new}")
                }
                _ => words,
            }
        }
        _ => sizes.1.or(sizes.0).unwrap_or_default(),
    }
}

fn sum_text(kind: ChangeKind, sum: &KindFigures) -> String {
    let files = counted(sum.files, "file");
    let directories = of_two(sum.directories, "directory", "directories");
    let bytes = match kind {
        ChangeKind::Added => size(sum.new_bytes),
        ChangeKind::Removed => size(sum.old_bytes),
        _ => format!("{} -> {}", size(sum.old_bytes), size(sum.new_bytes)),
    };
    format!("{files}, {directories}, {bytes}")
}

/// A difference as JSON shows it.
#[derive(Serialize)]
struct DifferenceObject {
    #[serde(flatten)]
    path: PathFields,
    change: &'static str,
    what: Vec<&'static str>,
    old_size: Option<u64>,
    new_size: Option<u64>,
    old_type: Option<&'static str>,
    new_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<Option<String>>,
}

/// Sums as JSON shows them.
#[derive(Serialize)]
struct StatObject {
    added: SumObject,
    removed: SumObject,
    changed: SumObject,
    #[serde(rename = "type")]
    of_another_type: SumObject,
}

#[derive(Serialize)]
struct SumObject {
    files: u64,
    directories: u64,
    old_bytes: u64,
    new_bytes: u64,
}

impl From<&DifferenceFigures> for StatObject {
    fn from(figures: &DifferenceFigures) -> Self {
        let sum = |sum: &KindFigures| SumObject {
            files: sum.files,
            directories: sum.directories,
            old_bytes: sum.old_bytes,
            new_bytes: sum.new_bytes,
        };
        Self {
            added: sum(&figures.added),
            removed: sum(&figures.removed),
            changed: sum(&figures.changed),
            of_another_type: sum(&figures.of_another_type),
        }
    }
}
