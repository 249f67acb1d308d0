//! `bygone history`: every version of one path.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::arguments::SetFilterArguments;
use super::context::Context;
use super::entry_fields::{hash_text, key_of};
use super::outcome::Outcome;
use super::output::{local_time, size, table, text_of};
use super::point_object::committed;
use super::points::worst;
use crate::base::{Key, PointId, Result};
use crate::fetch::Fetcher;
use crate::format::{Entry, FileType};
use crate::manifest::Aspect;
use crate::ops::difference::{Side, TextDifference, text_difference};
use crate::ops::history::{PathEvent, history};
use crate::repo::Catalogue;

/// Bytes of memory for pieces of runs, and for chunks whose text is compared.
const MEMORY_BYTES: u64 = 32 << 20;

/// Show every version of a path, newest first
///
/// When it appeared, changed (in content, mode, owner, time, xattr, flags or type), vanished and came back. Only the
/// manifests that have the path are read. Of a directory these are the versions of itself, and not of what lies in it.
/// `bygone points --path PATH` lists the points themselves, with all that is below a directory.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bygone history /home/me/letter.txt
  bygone history /etc/fstab --diff
  bygone history /home/me/letter.txt --json | jq -r 'select(.change == \"removed\") | .point'

JSON: one object a line, newest first, with
  point   the id of the first point that shows it
  time    when that was committed, as RFC 3339
  change  added, changed, removed or returned (after it was removed)
  what    of changed and returned, what differs from the version before: content, mode, owner, time,
          xattr, flags, type
  size    bytes; null if it was removed
  hash    BLAKE3 of the content, where it is recorded (files of several chunks), else null
  host, set  of which set of points
  diff    with --diff: the unified diff to the version before, or null")]
pub struct Arguments {
    /// The path, from the root
    #[arg(value_name = "PATH")]
    path: PathBuf,

    /// Show the text differences between neighbours
    #[arg(long)]
    diff: bool,

    #[command(flatten)]
    filter: SetFilterArguments,
}

/// Prints the versions.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Outcome> {
    let key = key_of(&arguments.path)?;
    let repository = context.open_repository()?;
    let catalogue = Catalogue::load(&repository)?;
    let filter = arguments.filter.to_filter();
    let mut points = catalogue.points();
    points.retain(|point| filter.matches(point));
    let fetcher = Fetcher::new(Arc::clone(&repository), MEMORY_BYTES);
    let events = history(&fetcher, &points, &key)?;
    let texts = || {
        let of_event = |event| match arguments.diff {
            true => text(&fetcher, &key, event),
            false => Ok(TextDifference::None),
        };
        events
            .iter()
            .map(move |event| Ok((event, of_event(event)?)))
    };
    if context.json() {
        for told in texts() {
            let (event, text) = told?;
            context
                .output()
                .object(&object(event, &text, arguments.diff))?;
        }
    } else if arguments.diff {
        for told in texts() {
            let (event, text) = told?;
            print_with_text(event, &text, context)?;
        }
    } else {
        print_table(&events, context)?;
    }
    Ok(worst(&catalogue))
}

/// How an event's text differs from that before it, if both are files.
fn text(fetcher: &Fetcher, key: &Key, event: &PathEvent) -> Result<TextDifference> {
    let file = |entry: &Option<Arc<Entry>>| {
        let file = entry.as_ref();
        file.filter(|entry| entry.metadata.file_type == FileType::Regular)
            .cloned()
    };
    match (file(&event.before), file(&event.entry)) {
        (Some(old), Some(new)) if event.changes.has(Aspect::Content) => {
            text_difference(fetcher, key, Side::Stored(&old), Side::Stored(&new))
        }
        _ => Ok(TextDifference::None),
    }
}

fn what(event: &PathEvent) -> Vec<&'static str> {
    event.changes.iter().map(Aspect::word).collect()
}

fn size_text(event: &PathEvent) -> String {
    let metadata = event.entry.as_ref().map(|entry| &entry.metadata);
    let file = metadata.filter(|metadata| metadata.file_type == FileType::Regular);
    file.map_or_else(String::new, |metadata| size(metadata.size))
}

fn set_text(event: &PathEvent) -> String {
    text_of(format!("{}:{}", event.point.host, event.point.set).as_bytes())
}

fn print_table(events: &[PathEvent], context: &Context) -> Result<()> {
    let set = |event: &PathEvent| (event.point.host.clone(), event.point.set.clone());
    let has_sets = events.windows(2).any(|pair| set(&pair[0]) != set(&pair[1]));
    let mut headers = vec!["POINT", "TIME", "CHANGE", "WHAT", "SIZE"];
    headers.extend(has_sets.then_some("SET"));
    let mut table = table(&headers, &[4]);
    for event in events {
        let mut row = vec![
            event.point.id.to_string(),
            local_time(committed(&event.point)),
            event.happening.word().to_owned(),
            what(event).join(", "),
            size_text(event),
        ];
        row.extend(has_sets.then(|| set_text(event)));
        table.add_row(row);
    }
    context.output().table(table, &["SET", "WHAT", "TIME"])
}

fn print_with_text(event: &PathEvent, text: &TextDifference, context: &Context) -> Result<()> {
    let output = context.output();
    let line = format!(
        "{}  {}  {:<8}  {}  {}",
        event.point.id,
        local_time(committed(&event.point)),
        event.happening.word(),
        what(event).join(", "),
        size_text(event)
    );
    output.line(line.trim_end())?;
    match text {
        TextDifference::None => Ok(()),
        TextDifference::Unified(unified) => output.bytes(&output.painted_diff(unified)),
        TextDifference::Binary => output.line("(not text)"),
        TextDifference::TooLarge => output.line("(too large to show)"),
    }
}

fn object<'a>(event: &'a PathEvent, text: &TextDifference, has_diff: bool) -> EventObject<'a> {
    let entry = event.entry.as_deref();
    let unified = match text {
        TextDifference::Unified(unified) => Some(String::from_utf8_lossy(unified).into_owned()),
        _ => None,
    };
    EventObject {
        point: event.point.id,
        time: committed(&event.point).to_string(),
        change: event.happening.word(),
        what: what(event),
        size: entry.map(|entry| entry.metadata.size),
        hash: entry.and_then(hash_text),
        host: &event.point.host,
        set: &event.point.set,
        diff: has_diff.then_some(unified),
    }
}

/// A version as JSON shows it.
#[derive(Serialize)]
struct EventObject<'a> {
    point: PointId,
    time: String,
    change: &'static str,
    what: Vec<&'static str>,
    size: Option<u64>,
    hash: Option<String>,
    host: &'a str,
    set: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<Option<String>>,
}
