//! `bygone find`: looks for files in all points at once.

use std::sync::Arc;

use clap::ValueEnum;
use regex::bytes::Regex;
use serde::Serialize;

use super::arguments::{SetFilterArguments, parse_size};
use super::context::Context;
use super::entry_fields::{PathFields, append_path, hash_text};
use super::ls::{local_minute, rfc3339, type_word};
use super::outcome::Outcome;
use super::output::size;
use super::points::worst;
use crate::base::{Error, ErrorKind, PointId, Result, Timestamp};
use crate::fetch::Fetcher;
use crate::format::{FileType, Point};
use crate::ops::find::{FindOptions, Globs, Match, SizeTest, find};
use crate::ops::parse_beginning;
use crate::ops::select::{PointSpec, select};
use crate::repo::Catalogue;

/// Bytes of memory for pieces of runs: what is read ahead of some 50 full points at once.
const MEMORY_BYTES: u64 = 128 << 20;

/// Look for files in all restore points at once
///
/// Each match is told once a version, with the first and the last point that show it. GLOB matches names, as in
/// gitignore(5); without one, everything matches. Of several options all must hold; of several GLOBs, one must.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bygone find 'letter*.odt'
  bygone find --iname '*.jpg' --size +10M --newer 2026-01-01
  bygone find '*.conf' --path '/etc/**' --point latest~30..latest
  bygone find --type f --json | jq -r 'select(.points == 1) | .path'

JSON: one object a line, with
  path         from the root; bytes that are not UTF-8 are replaced
  path_hex     the path's bytes, where it is not UTF-8
  type         file, directory, symlink, fifo, socket, character device or block device
  size         bytes
  mtime        when it was modified, as RFC 3339 with nanoseconds
  hash         BLAKE3 of the content, where it is recorded (files of several chunks), else null
  first, last  ids of the first and of the last point that show this version
  points       how many do")]
pub struct Arguments {
    /// Names to look for; a later one that begins with ! takes back
    #[arg(value_name = "GLOB")]
    names: Vec<String>,

    /// A name, whatever its case; may be given several times
    #[arg(long, value_name = "GLOB", help_heading = "What to look for")]
    iname: Vec<String>,

    /// A whole path: /etc/*.conf, /home/**; may be given several times
    #[arg(long, value_name = "GLOB", help_heading = "What to look for")]
    path: Vec<String>,

    /// A regular expression that matches somewhere in the whole path
    #[arg(long, value_name = "RE", help_heading = "What to look for")]
    regex: Option<String>,

    /// A file, directory, symlink, or another type by its letter; several with commas
    #[arg(
        long = "type",
        value_name = "TYPE",
        value_delimiter = ',',
        help_heading = "What to look for"
    )]
    types: Vec<TypeLetter>,

    /// Files of more than N bytes; -N: less, N: just that; with units: +10M, -4KiB
    #[arg(
        long,
        value_name = "+N",
        value_parser = parse_size_test,
        allow_hyphen_values = true,
        help_heading = "What to look for"
    )]
    size: Option<SizeTest>,

    /// Modified after this time; a day alone means its beginning
    #[arg(long, value_name = "T", help_heading = "What to look for")]
    newer: Option<String>,

    /// Only in the points from P to Q; P.., ..Q and one point alone do as well
    #[arg(long, value_name = "P..Q", help_heading = "Which points")]
    point: Option<String>,

    #[command(flatten)]
    filter: SetFilterArguments,
}

/// A type as find(1) names it.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum TypeLetter {
    /// Files
    F,
    /// Directories
    D,
    /// Symlinks
    L,
    /// Fifos
    P,
    /// Sockets
    S,
    /// Character devices
    C,
    /// Block devices
    B,
}

impl From<TypeLetter> for FileType {
    fn from(letter: TypeLetter) -> Self {
        match letter {
            TypeLetter::F => Self::Regular,
            TypeLetter::D => Self::Directory,
            TypeLetter::L => Self::Symlink,
            TypeLetter::P => Self::Fifo,
            TypeLetter::S => Self::Socket,
            TypeLetter::C => Self::CharacterDevice,
            TypeLetter::B => Self::BlockDevice,
        }
    }
}

fn parse_size_test(text: &str) -> std::result::Result<SizeTest, String> {
    let (test, size): (fn(u64) -> SizeTest, &str) = match text.split_at_checked(1) {
        Some(("+", size)) => (SizeTest::Over, size),
        Some(("-", size)) => (SizeTest::Under, size),
        _ => (SizeTest::Is, text),
    };
    // A number may have a sign of its own, which would be one too many.
    if size.starts_with(['+', '-']) {
        return Err("expected one sign at most".to_owned());
    }
    parse_size(size).map(test)
}

/// Prints what is found.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Outcome> {
    let options = options(arguments, context)?;
    let repository = context.open_repository()?;
    let catalogue = Catalogue::load(&repository)?;
    let points = points(arguments, &catalogue, context)?;
    let fetcher = Fetcher::new(Arc::clone(&repository), MEMORY_BYTES);
    find(
        &fetcher,
        &points,
        &options,
        &mut |found| match context.json() {
            true => print_object(found, context),
            false => print_line(found, context),
        },
    )?;
    Ok(worst(&catalogue))
}

fn options(arguments: &Arguments, context: &Context) -> Result<FindOptions> {
    let some = |globs: &[String]| (!globs.is_empty()).then(|| globs.to_vec());
    let of_names = |globs: &[String], is_any_case| {
        let globs = some(globs).map(|globs| Globs::of_names(&globs, is_any_case));
        globs.transpose()
    };
    let regex = arguments.regex.as_deref().map(|regex| {
        Regex::new(regex).map_err(|error| {
            let message = format!("{regex:?} is no regular expression: {error}");
            Error::new(ErrorKind::Usage, message)
        })
    });
    let newer = arguments.newer.as_deref().map(|text| {
        let time = parse_beginning(text, &context.now());
        time.ok_or_else(|| Error::new(ErrorKind::Usage, format!("{text:?} is no time")))
    });
    Ok(FindOptions {
        names: of_names(&arguments.names, false)?,
        names_of_any_case: of_names(&arguments.iname, true)?,
        paths: some(&arguments.path)
            .map(|globs| Globs::of_paths(&globs))
            .transpose()?,
        regex: regex.transpose()?,
        types: arguments
            .types
            .iter()
            .copied()
            .map(FileType::from)
            .collect(),
        size: arguments.size,
        newer: newer.transpose()?.map(|time| Timestamp {
            seconds: time.as_second(),
            nanoseconds: time.subsec_nanosecond().unsigned_abs(),
        }),
    })
}

/// The points to look into, oldest first.
fn points(
    arguments: &Arguments,
    catalogue: &Catalogue,
    context: &Context,
) -> Result<Vec<Arc<Point>>> {
    let filter = arguments.filter.to_filter();
    let mut points = catalogue.points();
    points.retain(|point| filter.matches(point));
    let Some(range) = &arguments.point else {
        return Ok(points);
    };
    let id = |text: &str| -> Result<Option<PointId>> {
        if text.is_empty() {
            return Ok(None);
        }
        let spec = PointSpec::parse(text, &|| context.now());
        Ok(Some(select(&spec, catalogue, &filter)?.id))
    };
    let (first, last) = match range.split_once("..") {
        Some((first, last)) => (id(first)?, id(last)?),
        None => (id(range)?, id(range)?),
    };
    if let (Some(first), Some(last)) = (first, last)
        && first > last
    {
        let message = format!("{range}: {first} is newer than {last}; turn them round");
        return Err(Error::new(ErrorKind::Usage, message));
    }
    points.retain(|point| {
        first.is_none_or(|first| point.id >= first) && last.is_none_or(|last| point.id <= last)
    });
    Ok(points)
}

fn print_line(found: &Match<'_>, context: &Context) -> Result<()> {
    let metadata = &found.entry.metadata;
    let size = match metadata.file_type {
        FileType::Regular => size(metadata.size),
        _ => String::new(),
    };
    let mut line = format!(
        "{size:>10}  {}  {} .. {}  ",
        local_minute(&metadata.mtime),
        found.first.id,
        found.last.id
    )
    .into_bytes();
    append_path(context.output(), found.key, &mut line);
    if metadata.file_type == FileType::Directory && !found.key.is_root() {
        line.push(b'/');
    }
    line.push(b'\n');
    context.output().bytes(&line)
}

fn print_object(found: &Match<'_>, context: &Context) -> Result<()> {
    let metadata = &found.entry.metadata;
    context.output().object(&MatchObject {
        path: PathFields::from(found.key),
        file_type: type_word(metadata.file_type),
        size: metadata.size,
        mtime: rfc3339(&metadata.mtime),
        hash: hash_text(found.entry),
        first: found.first.id,
        last: found.last.id,
        points: found.points,
    })
}

/// A version as JSON shows it.
#[derive(Serialize)]
struct MatchObject {
    #[serde(flatten)]
    path: PathFields,
    #[serde(rename = "type")]
    file_type: &'static str,
    size: u64,
    mtime: String,
    hash: Option<String>,
    first: PointId,
    last: PointId,
    points: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_to_compare_with_are_signed_as_those_of_find() {
        assert_eq!(parse_size_test("+10"), Ok(SizeTest::Over(10)));
        assert_eq!(parse_size_test("-4KiB"), Ok(SizeTest::Under(4096)));
        assert_eq!(parse_size_test("7"), Ok(SizeTest::Is(7)));
        for text in ["", "+", "-x", "++1"] {
            assert!(parse_size_test(text).is_err(), "{text}");
        }
    }
}
