//! A point as JSON shows it: the fields that programs may rely on.

use std::collections::BTreeMap;

use jiff::tz::{Offset, TimeZone};
use serde::Serialize;

use crate::base::{PointId, RunId};
use crate::format::{Moment, Point};
use crate::repo::recorded_paths;

/// What the man pages and `--help` say of a point's fields.
macro_rules! point_fields {
    () => {
        "  id                             the point's id, its directory in a mount
  time                           when it was committed, as RFC 3339
  kind                           full, incremental, differential or synthetic
  parent                         the point that it stands on, or null
  base                           the full or synthetic point that its chain ends in
  chain                          ids of points: itself, its parent, down to its base
  runs                           ids of its manifests, newest first
  sequence                       its number in its set, from 0
  set, host, user                what was backed up, where and by whom
  paths                          the source paths, as recorded
  labels                         an object of labels
  files, directories, entries    counts; entries is the sum of both
  bytes                          the sum of the sizes of its files
  entries_recorded               what its own manifest recorded, tombstones among it
  read_bytes                     read from the source
  newly_uploaded_bytes           content that the repository had not had
  newly_uploaded_stored_bytes    the same as it is stored
  reuploaded_bytes               content that it had and that was written again
  reuploaded_stored_bytes        the same as it is stored
  stored_bytes                   all that the backup added to the repository
  start, end                     when the backup ran, as RFC 3339 in its host's zone
  duration_seconds               how long it took
  partial                        true if something could not be read, and was carried or left out
  warnings                       how many warnings there were"
    };
}
pub(super) use point_fields;

/// The fields of one point.
#[derive(Serialize)]
pub(super) struct PointObject<'a> {
    id: PointId,
    time: String,
    kind: &'static str,
    parent: Option<PointId>,
    base: PointId,
    chain: &'a [PointId],
    runs: Vec<RunId>,
    sequence: u64,
    set: &'a str,
    host: &'a str,
    user: &'a str,
    paths: Vec<String>,
    labels: &'a BTreeMap<String, String>,
    files: u64,
    directories: u64,
    entries: u64,
    bytes: u64,
    entries_recorded: u64,
    read_bytes: u64,
    newly_uploaded_bytes: u64,
    newly_uploaded_stored_bytes: u64,
    reuploaded_bytes: u64,
    reuploaded_stored_bytes: u64,
    stored_bytes: u64,
    start: String,
    end: String,
    duration_seconds: f64,
    partial: bool,
    warnings: u64,
}

impl<'a> From<&'a Point> for PointObject<'a> {
    fn from(point: &'a Point) -> Self {
        let figures = &point.figures;
        Self {
            id: point.id,
            time: committed(point).to_string(),
            kind: point.kind.word(),
            parent: point.parent,
            base: point.base,
            chain: &point.lineage,
            runs: point.runs.iter().map(|run| run.id).collect(),
            sequence: point.sequence,
            set: &point.set,
            host: &point.host,
            user: &point.user,
            paths: recorded_paths(point)
                .map(|path| path.to_string_lossy().into_owned())
                .collect(),
            labels: &point.labels,
            files: figures.files,
            directories: figures.directories,
            entries: figures.entries,
            bytes: figures.bytes,
            entries_recorded: figures.entries_recorded,
            read_bytes: figures.read_bytes,
            newly_uploaded_bytes: figures.newly_uploaded_bytes,
            newly_uploaded_stored_bytes: figures.newly_uploaded_stored_bytes,
            reuploaded_bytes: figures.reuploaded_bytes,
            reuploaded_stored_bytes: figures.reuploaded_stored_bytes,
            stored_bytes: figures.stored_bytes,
            start: rfc3339(&point.start),
            end: rfc3339(&point.end),
            duration_seconds: figures.duration_seconds,
            partial: point.partial,
            warnings: point.warnings,
        }
    }
}

/// When a point was committed: the time in its id.
pub(super) fn committed(point: &Point) -> jiff::Timestamp {
    // An id that could be written has a time that can be.
    jiff::Timestamp::from_second(point.id.seconds).unwrap_or_default()
}

/// A moment with the offset of the host that saw it.
fn rfc3339(moment: &Moment) -> String {
    let zone = Offset::from_seconds(moment.offset_seconds).map_or(TimeZone::UTC, TimeZone::fixed);
    moment
        .time
        .to_zoned(zone)
        .strftime("%Y-%m-%dT%H:%M:%S%.f%:z")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_keep_the_zone_of_their_host() {
        let moment = Moment {
            time: "2026-11-23T03:17:19.5Z".parse().unwrap(),
            offset_seconds: -3600,
        };
        assert_eq!(rfc3339(&moment), "2026-11-23T02:17:19.5-01:00");
    }
}
