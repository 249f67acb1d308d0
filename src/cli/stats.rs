//! `bygone stats`: how much there is, and how much room it takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::arguments::PointFilterArguments;
use super::context::Context;
use super::outcome::Outcome;
use super::output::{counted, size, table};
use super::points::worst;
use crate::base::{Error, ErrorKind, Result};
use crate::fetch::Fetcher;
use crate::ops::stats::{ObjectStats, Stats, stats_of_point, stats_of_repository};
use crate::repo::Catalogue;

/// Bytes of memory for pieces of runs: each is read about once.
const MEMORY_BYTES: u64 = 16 << 20;

/// Show how much there is, and how much room it takes
///
/// Plain bytes are those of all files, in each point that has them; unique ones those of the chunks that they come to,
/// each once; stored ones what lies in the repository. Of one POINT, they are what it would be alone: its manifests, and
/// the parts of packs that hold its content.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bygone stats
  bygone stats latest
  bygone stats --json | jq .total_ratio

JSON: an object with
  points               how many it is about
  plain_bytes          the sum of the sizes of all files, over all points
  unique_bytes         the plain bytes of all chunks, each once
  chunks               how many these are
  content_bytes        the same as they are stored
  stored_bytes         all that is stored for it
  deduplication_ratio  plain_bytes for each of unique_bytes; null if there are none, as for the others
  compression_ratio    unique_bytes for each of content_bytes
  total_ratio          plain_bytes for each of stored_bytes
  objects              by kind (packs, manifests, index, points, ...): an object of count and bytes; of
                       a point, those that it needs, whole")]
pub struct Arguments {
    /// The point: an id, a short id, latest, latest~N, a time or K=V
    #[arg(value_name = "POINT")]
    point: Option<String>,

    #[command(flatten)]
    filter: PointFilterArguments,
}

/// Prints the figures.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Outcome> {
    let repository = context.open_repository()?;
    let monitor = context.monitor()?;
    let (stats, outcome) = match &arguments.point {
        Some(point) => {
            let point = context.point(&repository, point, &arguments.filter)?;
            let fetcher = Fetcher::new(Arc::clone(&repository), MEMORY_BYTES);
            (stats_of_point(&fetcher, &point, &monitor)?, Outcome::Done)
        }
        None => {
            if !arguments.filter.to_filter().is_empty() {
                let message = "what narrows the points is of use with a POINT alone: name one";
                return Err(Error::new(ErrorKind::Usage, message));
            }
            let catalogue = Catalogue::load(&repository)?;
            let stats = stats_of_repository(&repository, &catalogue.points(), &monitor)?;
            (stats, worst(&catalogue))
        }
    };
    monitor.finish();
    print(&stats, context)?;
    Ok(outcome)
}

fn print(stats: &Stats, context: &Context) -> Result<()> {
    let output = context.output();
    if context.json() {
        return output.document(&StatsObject::from(stats));
    }
    let times = |ratio: Option<f64>| ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}x"));
    let of_unique = match stats.deduplication() {
        Some(_) => format!("in {}", counted(stats.chunks, "chunk")),
        None => String::new(),
    };
    for (name, bytes, note) in [
        (
            "Plain",
            stats.plain_bytes,
            format!("in {}", counted(stats.points, "point")),
        ),
        ("Unique", stats.unique_bytes, of_unique),
        ("Stored", stats.stored_bytes, String::new()),
    ] {
        let line = format!("{name:<16}{:>10}  {note}", size(bytes));
        output.line(line.trim_end())?;
    }
    for (name, ratio) in [
        ("Deduplication", stats.deduplication()),
        ("Compression", stats.compression()),
        ("Together", stats.total()),
    ] {
        let line = format!("{name:<16}{:>10}", times(ratio));
        output.line(line.trim_end())?;
    }
    output.line("")?;
    let mut table = table(&["OBJECTS", "COUNT", "SIZE"], &[1, 2]);
    for (kind, objects) in &stats.objects {
        table.add_row([kind.clone(), objects.count.to_string(), size(objects.bytes)]);
    }
    output.table(table, &[])
}

/// The figures as JSON shows them.
#[derive(Serialize)]
struct StatsObject<'a> {
    points: u64,
    plain_bytes: u64,
    unique_bytes: u64,
    chunks: u64,
    content_bytes: u64,
    stored_bytes: u64,
    deduplication_ratio: Option<f64>,
    compression_ratio: Option<f64>,
    total_ratio: Option<f64>,
    objects: BTreeMap<&'a str, ObjectsObject>,
}

#[derive(Serialize)]
struct ObjectsObject {
    count: u64,
    bytes: u64,
}

impl<'a> From<&'a Stats> for StatsObject<'a> {
    fn from(stats: &'a Stats) -> Self {
        let objects = |stats: &ObjectStats| ObjectsObject {
            count: stats.count,
            bytes: stats.bytes,
        };
        let by_kind = stats.objects.iter();
        Self {
            points: stats.points,
            plain_bytes: stats.plain_bytes,
            unique_bytes: stats.unique_bytes,
            chunks: stats.chunks,
            content_bytes: stats.content_bytes,
            stored_bytes: stats.stored_bytes,
            deduplication_ratio: stats.deduplication(),
            compression_ratio: stats.compression(),
            total_ratio: stats.total(),
            objects: by_kind
                .map(|(kind, of_kind)| (&kind[..], objects(of_kind)))
                .collect(),
        }
    }
}
