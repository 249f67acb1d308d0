//! `bygone show`: everything about one point, its chain drawn.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::arguments::PointFilterArguments;
use super::context::Context;
use super::ls::hex_unless_utf8;
use super::outcome::Outcome;
use super::output::{counted, local_time, of_two, size, text_of};
use super::point_object::{PointObject, committed, point_fields};
use super::points::{joined_labels, joined_paths};
use crate::base::{PointId, Result};
use crate::fetch::Fetcher;
use crate::format::Point;
use crate::manifest::Run;
use crate::repo::{Catalogue, Repository};

/// Bytes of memory for pieces of the point's run.
const MEMORY_BYTES: u64 = 4 << 20;

/// Show everything about one restore point
///
/// What was backed up, when, how long it took and what it brought; what the backup warned of; the chain that it
/// stands on, itself first; and the manifests in which its entries are recorded.
#[derive(Debug, clap::Args)]
#[command(after_help = concat!("Examples:
  bygone show latest
  bygone show 1f3a9c2e
  bygone show why=upgrade --json | jq .chain

JSON: an object with
", point_fields!(), "
  warning_list                   the warnings: objects with path, path_hex where it is not UTF-8,
                                 and message
  excludes                       patterns of what was left out
  sources                        where the paths were read
  runs_bytes                     the sizes of its manifests, as runs has them"))]
pub struct Arguments {
    /// The point: an id, a short id, latest, latest~N, a time or K=V
    #[arg(value_name = "POINT")]
    point: String,

    #[command(flatten)]
    filter: PointFilterArguments,
}

/// Prints the point.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Outcome> {
    let repository = context.open_repository()?;
    let point = context.point(&repository, &arguments.point, &arguments.filter)?;
    let warnings = warnings(&repository, &point)?;
    if context.json() {
        context.output().document(&Shown {
            point: PointObject::from(&*point),
            warning_list: warnings.iter().map(WarningObject::from).collect(),
            excludes: &point.excludes,
            sources: point
                .sources
                .iter()
                .map(|path| path.to_string_lossy().into_owned())
                .collect(),
            runs_bytes: point.runs.iter().map(|run| run.length).collect(),
        })?;
        return Ok(Outcome::Done);
    }
    let output = context.output();
    for (name, value) in lines(&point) {
        if !value.is_empty() {
            output.line(format_args!("{name:<12}{value}"))?;
        }
    }
    for (path, message) in &warnings {
        output.line(format_args!(
            "{:<12}/{}: {}",
            "",
            text_of(path),
            text_of(message.as_bytes())
        ))?;
    }
    let catalogue = Catalogue::load(&repository)?;
    let points: BTreeMap<PointId, Arc<Point>> = catalogue
        .points()
        .into_iter()
        .map(|point| (point.id, point))
        .collect();
    output.line("\nChain")?;
    for line in drawn_chain(&point, &points) {
        output.line(line)?;
    }
    output.line("\nManifests, newest first")?;
    for run in &point.runs {
        output.line(format_args!("  {}  {:>10}", run.id, size(run.length)))?;
    }
    Ok(Outcome::Done)
}

/// What the backup warned of: paths from the root, and messages.
fn warnings(repository: &Arc<Repository>, point: &Point) -> Result<Vec<(Vec<u8>, String)>> {
    match point.runs.first() {
        Some(newest) if point.warnings > 0 => {
            let fetcher = Fetcher::new(Arc::clone(repository), MEMORY_BYTES);
            Run::open(&fetcher, newest)?.warnings()
        }
        _ => Ok(Vec::new()),
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    point: PointObject<'a>,
    warning_list: Vec<WarningObject>,
    excludes: &'a [String],
    sources: Vec<String>,
    runs_bytes: Vec<u64>,
}

#[derive(Serialize)]
struct WarningObject {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    message: String,
}

impl From<&(Vec<u8>, String)> for WarningObject {
    fn from((path, message): &(Vec<u8>, String)) -> Self {
        Self {
            path: format!("/{}", String::from_utf8_lossy(path)),
            path_hex: hex_unless_utf8(path),
            message: message.clone(),
        }
    }
}

/// The point's properties, by name; those without a value are left out.
fn lines(point: &Point) -> Vec<(&'static str, String)> {
    let figures = &point.figures;
    let sources: Vec<_> = point
        .mapping
        .iter()
        .map(|mapping| text_of(mapping.live.as_os_str().as_encoded_bytes()))
        .collect();
    vec![
        ("Point", point.id.to_string()),
        ("Time", local_time(committed(point))),
        ("Kind", point.kind.word().to_owned()),
        ("Host", text_of(point.host.as_bytes())),
        (
            "Set",
            format!(
                "{} (number {})",
                text_of(point.set.as_bytes()),
                point.sequence
            ),
        ),
        ("User", text_of(point.user.as_bytes())),
        ("Paths", joined_paths(point, usize::MAX)),
        ("Read from", sources.join(" ")),
        ("Labels", joined_labels(point)),
        ("Excludes", text_of(point.excludes.join(" ").as_bytes())),
        (
            "Entries",
            format!(
                "{}: {}, {}",
                figures.entries,
                counted(figures.files, "file"),
                of_two(figures.directories, "directory", "directories")
            ),
        ),
        ("Size", size(figures.bytes)),
        (
            "Recorded",
            of_two(figures.entries_recorded, "entry", "entries"),
        ),
        ("Read", size(figures.read_bytes)),
        (
            "New data",
            stored(
                figures.newly_uploaded_bytes,
                figures.newly_uploaded_stored_bytes,
            ),
        ),
        (
            "Re-uploaded",
            match figures.reuploaded_bytes {
                0 => String::new(),
                bytes => stored(bytes, figures.reuploaded_stored_bytes),
            },
        ),
        ("Stored", format!("{} in all", size(figures.stored_bytes))),
        ("Duration", format!("{:.1} s", figures.duration_seconds)),
        (
            "State",
            if point.partial {
                "partial: something could not be read, and was carried or left out".to_owned()
            } else {
                "complete".to_owned()
            },
        ),
        ("Warnings", point.warnings.to_string()),
    ]
}

fn stored(plain: u64, stored: u64) -> String {
    format!("{}, stored as {}", size(plain), size(stored))
}

/// The chain from the point down to its base, as lines.
fn drawn_chain(point: &Point, points: &BTreeMap<PointId, Arc<Point>>) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, id) in point.lineage.iter().enumerate() {
        if index > 0 {
            lines.push("  │".to_owned());
        }
        let is_base = index + 1 == point.lineage.len();
        let sign = if is_base { '◆' } else { '●' };
        let details = match points.get(id) {
            Some(member) => format!(
                "{:<12}  {}  {} recorded",
                member.kind.word(),
                local_time(committed(member)),
                member.figures.entries_recorded
            ),
            None => "not in the repository; nothing that is shown here needs it".to_owned(),
        };
        lines.push(format!("  {sign} {id}  {details}"));
    }
    lines
}
