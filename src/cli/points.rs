//! `bygone points`: lists points, newest first.

use std::path::PathBuf;
use std::sync::Arc;

use super::arguments::SetFilterArguments;
use super::context::Context;
use super::entry_fields::key_of;
use super::outcome::Outcome;
use super::output::{local_time, size, table, text_of};
use super::point_object::{PointObject, committed, point_fields};
use crate::base::{ErrorKind, Result};
use crate::fetch::Fetcher;
use crate::format::Point;
use crate::ops::history::points_that_differ;
use crate::repo::{Catalogue, recorded_paths};

/// Bytes of memory for pieces of runs.
const MEMORY_BYTES: u64 = 16 << 20;

/// Paths of a point that the table shows at most: a list may have named thousands.
const PATHS_MAX: usize = 8;

/// List restore points, newest first
///
/// CHAIN is the number of points that a point's chain has, itself and its base among them; NEW DATA is the content
/// that its backup brought and the repository had not had. With --path, only the points are listed in which that path, or
/// anything below it, differs from the point before. A point that cannot be read is told of, and the exit code is then 20.
#[derive(Debug, clap::Args)]
#[command(after_help = concat!("Examples:
  bygone points
  bygone points --host moon --label why=upgrade
  bygone points --path /home/me/letter.txt
  bygone points --json | jq -r '.[0].id'

JSON: an array, newest first, of objects with
", point_fields!()))]
pub struct Arguments {
    /// Only points in which this path, or what lies below it, differs from the point before
    #[arg(long, value_name = "PATH", help_heading = "Which points")]
    path: Option<PathBuf>,

    #[command(flatten)]
    filter: SetFilterArguments,
}

/// Prints the list. Points that cannot be read are told of, and the rest is listed.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Outcome> {
    let repository = context.open_repository()?;
    let catalogue = Catalogue::load(&repository)?;
    let filter = arguments.filter.to_filter();
    let mut points = catalogue.points();
    points.retain(|point| filter.matches(point));
    if let Some(path) = &arguments.path {
        let fetcher = Fetcher::new(Arc::clone(&repository), MEMORY_BYTES);
        let differing = points_that_differ(&fetcher, &points, &key_of(path)?)?;
        points.retain(|point| differing.contains(&point.id));
    }
    points.reverse();
    if context.json() {
        let objects: Vec<_> = points
            .iter()
            .map(|point| PointObject::from(&**point))
            .collect();
        context.output().document(&objects)?;
    } else {
        print_table(&points, context)?;
    }
    Ok(worst(&catalogue))
}

fn print_table(points: &[Arc<Point>], context: &Context) -> Result<()> {
    let output = context.output();
    if points.is_empty() {
        return if context.quiet() {
            Ok(())
        } else {
            output.line("No points.")
        };
    }
    let mut table = table(
        &[
            "ID", "TIME", "KIND", "CHAIN", "HOST", "PATHS", "LABELS", "FILES", "SIZE", "NEW DATA",
        ],
        &[3, 7, 8, 9],
    );
    for point in points {
        table.add_row([
            point.id.to_string(),
            local_time(committed(point)),
            point.kind.word().to_owned(),
            point.lineage.len().to_string(),
            text_of(point.host.as_bytes()),
            joined_paths(point, PATHS_MAX),
            joined_labels(point),
            point.figures.files.to_string(),
            size(point.figures.bytes),
            size(point.figures.newly_uploaded_bytes),
        ]);
    }
    output.table(
        table,
        &[
            "CHAIN", "FILES", "TIME", "HOST", "KIND", "NEW DATA", "LABELS",
        ],
    )
}

/// The paths in a point, for people: all of them, or the first so many where there are more.
pub(super) fn joined_paths(point: &Point, paths_max: usize) -> String {
    let mut paths: Vec<_> = recorded_paths(point)
        .take(paths_max)
        .map(|path| text_of(path.as_os_str().as_encoded_bytes()))
        .collect();
    match point.sources.len().saturating_sub(paths.len()) {
        0 => {}
        more => paths.push(format!("and {more} more")),
    }
    paths.join(" ")
}

/// The labels of a point, for people.
pub(super) fn joined_labels(point: &Point) -> String {
    let labels: Vec<_> = point
        .labels
        .iter()
        .map(|(key, value)| text_of(format!("{key}={value}").as_bytes()))
        .collect();
    labels.join(" ")
}

/// How a listing ends in which some points could not be read. The log names them.
pub(super) fn worst(catalogue: &Catalogue) -> Outcome {
    let mut outcome = Outcome::Done;
    for (_, error) in catalogue.damaged() {
        if error.kind() == ErrorKind::Corrupt {
            return Outcome::Damage;
        }
        outcome = Outcome::Warnings;
    }
    outcome
}
