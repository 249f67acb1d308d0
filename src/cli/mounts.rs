//! `bygone mounts`: lists what is mounted, and what each mount has done.

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use super::context::Context;
use super::outcome::Outcome;
use super::output::{local_time, size, table, text_of};
use crate::base::Result;
use crate::fuse::{Figures, MountRecord, figures, own_mounts, source_parts};

/// What stands where nothing is known.
const UNKNOWN: &str = "-";

/// List what is mounted, from which repository and since when, and what each mount has done
///
/// A mount of another user, and one whose process is dead or hangs, is listed without what it has done.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bygone mounts
  bygone mounts --json | jq -r '.[].mount_point'

JSON: an array of objects with
  mount_point    the folder
  repository     where the repository is; null if it is not known
  repository_id  the repository's id
  point          the id of the point that it shows; null if it shows all
and, each null if it is not known
  process        the process that serves it
  since          when it was mounted, in RFC 3339
  requests       requests of the kernel
  hits           pieces that were in memory when they were needed
  bytes          of files that readers were given
  errors         requests that failed")]
pub struct Arguments {}

/// A mount, with `--json`.
#[derive(Serialize)]
struct MountObject<'a> {
    mount_point: &'a Path,
    repository: Option<&'a str>,
    repository_id: &'a str,
    point: Option<&'a str>,
    process: Option<u32>,
    since: Option<Timestamp>,
    requests: Option<u64>,
    hits: Option<u64>,
    bytes: Option<u64>,
    errors: Option<u64>,
}

/// Prints the list.
pub fn run(Arguments {}: &Arguments, context: &Context) -> Result<Outcome> {
    let records = own_mounts()?;
    let told: Vec<(String, Option<Figures>)> = records
        .iter()
        .map(|record| {
            let source = record.source.to_string_lossy().into_owned();
            (source, figures(record))
        })
        .collect();
    let objects: Vec<MountObject<'_>> = records
        .iter()
        .zip(&told)
        .map(|(record, (source, figures))| object(record, source, figures.as_ref()))
        .collect();
    if context.json() {
        context.output().document(&objects)?;
    } else if !objects.is_empty() {
        print_table(&objects, context)?;
    } else if !context.quiet() {
        context.output().line("Nothing is mounted.")?;
    }
    Ok(Outcome::Done)
}

fn object<'a>(
    record: &'a MountRecord,
    source: &'a str,
    figures: Option<&'a Figures>,
) -> MountObject<'a> {
    let (repository_id, point) = source_parts(source).unwrap_or((source, None));
    let since = figures.and_then(|figures| i64::try_from(figures.since).ok());
    MountObject {
        mount_point: &record.place,
        repository: figures.map(|figures| &figures.repository[..]),
        repository_id,
        point,
        process: figures.map(|figures| figures.process),
        since: since.and_then(|since| Timestamp::from_second(since).ok()),
        requests: figures.map(|figures| figures.requests),
        hits: figures.map(|figures| figures.hits),
        bytes: figures.map(|figures| figures.bytes),
        errors: figures.map(|figures| figures.errors),
    }
}

fn print_table(objects: &[MountObject<'_>], context: &Context) -> Result<()> {
    let mut table = table(
        &[
            "MOUNT POINT",
            "REPOSITORY",
            "POINT",
            "SINCE",
            "REQUESTS",
            "HITS",
            "BYTES",
            "ERRORS",
        ],
        &[4, 5, 6, 7],
    );
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned());
    let number = |number: Option<u64>| or_unknown(number.map(|number| number.to_string()));
    for object in objects {
        let repository = object.repository.unwrap_or(object.repository_id);
        table.add_row([
            text_of(object.mount_point.as_os_str().as_encoded_bytes()),
            text_of(repository.as_bytes()),
            text_of(object.point.unwrap_or("all").as_bytes()),
            or_unknown(object.since.map(local_time)),
            number(object.requests),
            number(object.hits),
            or_unknown(object.bytes.map(size)),
            number(object.errors),
        ]);
    }
    context
        .output()
        .table(table, &["HITS", "SINCE", "POINT", "ERRORS", "REQUESTS"])
}
