//! `bygone cache`: what the disk cache has, emptying it, and verifying it.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::context::Context;
use super::outcome::Outcome;
use super::output::{counted, local_time, size, table, text_of};
use crate::base::{ErrorKind, Result};
use crate::cache::{CacheFigures, CacheFolder, VerifyFigures, folder_of, folders};

/// Show, empty or verify the disk cache
///
/// What is read of a distant repository is kept on this machine, sealed as it came, so that it is read without a network
/// the next time. Everything that is taken from the cache is verified when it is used, and what is wrong is fetched anew:
/// none of this is ever needed for a right answer. With a repository named, its cache is meant, else all of them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  bygone cache show                          all repositories' caches
  bygone -r s3://bucket/backup cache clear   one of them, but for what is pinned
  bygone cache verify                        compare the bytes with their hashes

JSON: an array of objects, one a repository's cache, each with location and folder, and
  show    bytes, data_bytes (of packs), metadata_bytes, pinned_bytes, objects, pins, used (when it was
          last read of, as RFC 3339, or null)
  clear   freed_bytes
  verify  good_ranges, good_bytes, dropped_ranges, dropped_bytes, strays (files that nobody knew of)")]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

/// What to do with it.
#[derive(Debug, Subcommand)]
enum Action {
    /// Tell how much it has of what
    Show,
    /// Drop what it has, but for what is pinned
    Clear {
        /// Drop what is pinned, too, and the pins
        #[arg(long)]
        pinned: bool,
    },
    /// Read all that it has, and drop what is not what it was when it came
    Verify,
}

/// A cache of one repository.
#[derive(Serialize)]
struct CacheObject<T> {
    location: String,
    folder: PathBuf,
    #[serde(flatten)]
    figures: T,
}

#[derive(Serialize)]
struct ShowObject {
    bytes: u64,
    data_bytes: u64,
    metadata_bytes: u64,
    pinned_bytes: u64,
    objects: u64,
    pins: u64,
    used: Option<jiff::Timestamp>,
}

#[derive(Serialize)]
struct ClearObject {
    freed_bytes: u64,
}

#[derive(Serialize)]
struct VerifyObject {
    good_ranges: u64,
    good_bytes: u64,
    dropped_ranges: u64,
    dropped_bytes: u64,
    strays: u64,
}

/// Does what was asked for with one cache or all.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Outcome> {
    let caches = caches(context)?;
    match arguments.action {
        Action::Show => show(&caches, context),
        Action::Clear { pinned } => clear(&caches, pinned, context),
        Action::Verify => verify(&caches, context),
    }
}

/// The caches that are meant.
fn caches(context: &Context) -> Result<Vec<CacheFolder>> {
    let directory = context.cache().directory()?;
    let all = folders(&directory)?;
    if !context.names_repository() {
        return Ok(all);
    }
    let wanted = folder_of(&directory, &context.open_store_itself()?.location());
    Ok(all.into_iter().filter(|folder| *folder == wanted).collect())
}

fn show(caches: &[CacheFolder], context: &Context) -> Result<Outcome> {
    let mut outcome = Outcome::Done;
    let mut shown = Vec::new();
    for folder in caches {
        match folder.figures() {
            Ok(figures) => shown.push((folder, figures)),
            Err(error) => {
                let hint = "it is begun anew when it is next used";
                let told = format!("{error}; {hint}");
                context.output().warning(Some(folder.path()), &told);
                outcome = Outcome::Warnings;
            }
        }
    }
    if context.json() {
        let objects: Vec<_> = shown
            .into_iter()
            .map(|(folder, figures)| show_object(folder.path(), figures))
            .collect();
        context.output().document(&objects)?;
    } else {
        print_table(&shown, context)?;
    }
    Ok(outcome)
}

fn show_object(folder: &Path, figures: CacheFigures) -> CacheObject<ShowObject> {
    CacheObject {
        folder: folder.to_owned(),
        figures: ShowObject {
            bytes: figures.data_bytes + figures.metadata_bytes,
            data_bytes: figures.data_bytes,
            metadata_bytes: figures.metadata_bytes,
            pinned_bytes: figures.pinned_bytes,
            objects: figures.objects,
            pins: figures.pins,
            used: used(&figures),
        },
        location: figures.location,
    }
}

fn used(figures: &CacheFigures) -> Option<jiff::Timestamp> {
    let seconds = figures.used_seconds?;
    jiff::Timestamp::from_second(seconds).ok()
}

fn print_table(shown: &[(&CacheFolder, CacheFigures)], context: &Context) -> Result<()> {
    if shown.is_empty() {
        return match context.quiet() {
            true => Ok(()),
            false => context.output().line("Nothing is cached."),
        };
    }
    let headers = [
        "REPOSITORY",
        "SIZE",
        "DATA",
        "METADATA",
        "PINNED",
        "PINS",
        "USED",
    ];
    let mut table = table(&headers, &[1, 2, 3, 4, 5]);
    for (_, figures) in shown {
        table.add_row([
            text_of(figures.location.as_bytes()),
            size(figures.data_bytes + figures.metadata_bytes),
            size(figures.data_bytes),
            size(figures.metadata_bytes),
            size(figures.pinned_bytes),
            figures.pins.to_string(),
            used(figures).map_or_else(|| "-".to_owned(), local_time),
        ]);
    }
    context.output().table(table, &[])
}

fn clear(caches: &[CacheFolder], pinned_too: bool, context: &Context) -> Result<Outcome> {
    let mut objects = Vec::new();
    for folder in caches {
        let location = location_of(folder);
        let freed_bytes = folder
            .clear(pinned_too)
            .map_err(|error| error.context(folder.path().display()))?;
        if !context.json() && !context.quiet() {
            let line = format!(
                "{}: {} freed",
                text_of(location.as_bytes()),
                size(freed_bytes)
            );
            context.output().line(line)?;
        }
        objects.push(CacheObject {
            location,
            folder: folder.path().to_owned(),
            figures: ClearObject { freed_bytes },
        });
    }
    if context.json() {
        context.output().document(&objects)?;
    }
    Ok(Outcome::Done)
}

fn verify(caches: &[CacheFolder], context: &Context) -> Result<Outcome> {
    let monitor = context.monitor()?;
    let mut objects = Vec::new();
    let mut outcome = Outcome::Done;
    for folder in caches {
        let location = location_of(folder);
        let figures = match folder.verify(&monitor) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                context
                    .output()
                    .warning(Some(folder.path()), &format!("{error}; it is emptied"));
                folder.clear(true)?;
                outcome = Outcome::Warnings;
                continue;
            }
            result => result?,
        };
        if figures.dropped_ranges > 0 {
            outcome = Outcome::Warnings;
        }
        if !context.json() && !context.quiet() {
            let line = verified_line(&location, &figures);
            monitor.beside_the_line(|| context.output().line(line))?;
        }
        objects.push(CacheObject {
            location,
            folder: folder.path().to_owned(),
            figures: VerifyObject {
                good_ranges: figures.good_ranges,
                good_bytes: figures.good_bytes,
                dropped_ranges: figures.dropped_ranges,
                dropped_bytes: figures.dropped_bytes,
                strays: figures.strays,
            },
        });
    }
    monitor.finish();
    if context.json() {
        context.output().document(&objects)?;
    }
    Ok(outcome)
}

fn verified_line(location: &str, figures: &VerifyFigures) -> String {
    format!(
        "{}: {} in {} as they came, {} dropped, {} removed",
        text_of(location.as_bytes()),
        size(figures.good_bytes),
        counted(figures.good_ranges, "range"),
        counted(figures.dropped_ranges, "range"),
        counted(figures.strays, "stray file"),
    )
}

/// Which repository it is of, as far as its index can tell.
fn location_of(folder: &CacheFolder) -> String {
    folder
        .figures()
        .map_or_else(|_| "unknown".to_owned(), |figures| figures.location)
}
