//! `bygone pin`: keeps parts of a point in the disk cache, for use without a network.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use serde::Serialize;

use super::arguments::PointFilterArguments;
use super::context::Context;
use super::ls::hex_unless_utf8;
use super::outcome::Outcome;
use super::output::{counted, local_time, size, table, text_of};
use crate::base::{Key, PointId, Result};
use crate::cache::Pin;
use crate::ops::pin::pin;

/// Fetch a part of a point and keep it, for use without a network
///
/// All that is read to browse and read PATH in a mount is read now, and stays in the disk cache whatever else is read.
/// A mount, a new one too, then shows it when the network is down. What is pinned counts towards --cache-size. A pin that
/// was cut short goes on where it was when it is made again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bygone pin latest /home/selene/work
  bygone pin --list
  bygone unpin latest /home/selene/work

JSON: an array of objects, one a path, with
  point     the point's id
  path      the path in it; path_hex where it is not UTF-8
  complete  is all of it kept?
and when pinning
  entries   files, directories and others
  bytes     of files' content
  failures  entries that could not be read
or when listing
  made      when it was first pinned
  bytes     sealed bytes that are kept for it")]
pub struct Arguments {
    /// List what is pinned of this repository
    #[arg(long, conflicts_with_all = ["point", "paths"])]
    list: bool,

    /// The point
    #[arg(value_name = "POINT", required_unless_present = "list")]
    point: Option<String>,

    /// What to keep of it: a path as recorded, / for all
    #[arg(value_name = "PATH", required_unless_present = "list")]
    paths: Vec<OsString>,

    #[command(flatten)]
    filter: PointFilterArguments,
}

#[derive(Serialize)]
struct PinObject<T> {
    point: PointId,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    complete: bool,
    #[serde(flatten)]
    figures: T,
}

#[derive(Serialize)]
struct MadeObject {
    entries: u64,
    bytes: u64,
    failures: u64,
}

#[derive(Serialize)]
struct ListedObject {
    made: Option<jiff::Timestamp>,
    bytes: u64,
}

/// Pins, or lists what is pinned.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Outcome> {
    match &arguments.point {
        Some(point) => make(point, arguments, context),
        None => list(context),
    }
}

fn make(point: &str, arguments: &Arguments, context: &Context) -> Result<Outcome> {
    let repository = context.open_repository()?;
    let cache = context.cache().opened()?;
    let point = context.point(&repository, point, &arguments.filter)?;
    let keys = arguments
        .paths
        .iter()
        .map(|path| Key::from_path(path.as_bytes()));
    let keys = keys.collect::<Result<Vec<_>>>()?;
    let monitor = context.monitor()?;
    let mut objects = Vec::new();
    let mut outcome = Outcome::Done;
    for key in &keys {
        let report = pin(&repository, &cache, point.id, key, &monitor)?;
        if report.failures > 0 {
            outcome = Outcome::Warnings;
        }
        let path = shown(&key.to_path());
        if !context.json() && !context.quiet() {
            let line = format!(
                "{} of {}: {} in {} kept{}",
                text_of(&path),
                point.id,
                size(report.bytes),
                counted(report.entries, "file"),
                match report.failures {
                    0 => String::new(),
                    failures => format!(", {failures} could not be read"),
                }
            );
            monitor.beside_the_line(|| context.output().line(line))?;
        }
        let figures = MadeObject {
            entries: report.entries,
            bytes: report.bytes,
            failures: report.failures,
        };
        objects.push(object(point.id, &path, report.failures == 0, figures));
    }
    monitor.finish();
    if context.json() {
        context.output().document(&objects)?;
    }
    Ok(outcome)
}

fn list(context: &Context) -> Result<Outcome> {
    context.open_store()?;
    let pins = context.cache().opened()?.pins()?;
    if context.json() {
        let objects: Vec<_> = pins
            .iter()
            .map(|pin| {
                let figures = ListedObject {
                    made: made(pin),
                    bytes: pin.bytes,
                };
                object(pin.point, &shown(&pin.path), pin.is_complete, figures)
            })
            .collect();
        context.output().document(&objects)?;
        return Ok(Outcome::Done);
    }
    if pins.is_empty() {
        return match context.quiet() {
            true => Ok(Outcome::Done),
            false => context
                .output()
                .line("Nothing is pinned.")
                .map(|()| Outcome::Done),
        };
    }
    let mut table = table(&["POINT", "MADE", "SIZE", "STATE", "PATH"], &[2]);
    for pin in &pins {
        table.add_row([
            pin.point.to_string(),
            made(pin).map_or_else(|| "-".to_owned(), local_time),
            size(pin.bytes),
            match pin.is_complete {
                true => "complete".to_owned(),
                false => "incomplete".to_owned(),
            },
            text_of(&shown(&pin.path)),
        ]);
    }
    context.output().table(table, &["MADE", "SIZE"])?;
    Ok(Outcome::Done)
}

fn object<T>(point: PointId, path: &[u8], complete: bool, figures: T) -> PinObject<T> {
    PinObject {
        point,
        path: String::from_utf8_lossy(path).into_owned(),
        path_hex: hex_unless_utf8(path),
        complete,
        figures,
    }
}

fn made(pin: &Pin) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_second(pin.made_seconds).ok()
}

/// The path from the root.
fn shown(path: &[u8]) -> Vec<u8> {
    [b"/", path].concat()
}
