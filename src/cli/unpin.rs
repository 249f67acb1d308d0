//! `bygone unpin`: lets go of what was pinned.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use serde::Serialize;

use super::arguments::PointFilterArguments;
use super::context::Context;
use super::outcome::Outcome;
use super::output::counted;
use crate::base::{Error, ErrorKind, Key, PointId, Result};
use crate::cache::CachedStore;

/// Let go of what was pinned
///
/// It stays in the disk cache until other things need the room. The point may be named by its id even if it is gone from
/// the repository.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bygone unpin latest /home/selene/work
  bygone unpin 1f3a9c2e                  all that is pinned of this point

JSON: an object with
  point     the point's id
  unpinned  how many pins that were")]
pub struct Arguments {
    /// The point
    #[arg(value_name = "POINT")]
    point: String,

    /// What to let go of, as it was pinned; all of the point's pins if none is named
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,

    #[command(flatten)]
    filter: PointFilterArguments,
}

#[derive(Serialize)]
struct UnpinObject {
    point: PointId,
    unpinned: u64,
}

/// Unpins, and fails where nothing was pinned.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Outcome> {
    context.open_store()?;
    let mut cache = context.cache().opened()?;
    let point = match pinned_point(&cache, &arguments.point)? {
        Some(point) => point,
        None => {
            let repository = context.open_repository()?;
            cache = context.cache().opened()?;
            context
                .point(&repository, &arguments.point, &arguments.filter)?
                .id
        }
    };
    let mut unpinned = 0;
    if arguments.paths.is_empty() {
        unpinned += cache.unpin(&point, None)?;
    }
    for path in &arguments.paths {
        let key = Key::from_path(path.as_bytes())?;
        unpinned += cache.unpin(&point, Some(&key.to_path()))?;
    }
    if unpinned == 0 {
        let problem = format!("nothing of that is pinned of point {point}: see bygone pin --list");
        return Err(Error::new(ErrorKind::Usage, problem));
    }
    if context.json() {
        context
            .output()
            .document(&UnpinObject { point, unpinned })?;
    } else if !context.quiet() {
        context
            .output()
            .line(format_args!("{} removed.", counted(unpinned, "pin")))?;
    }
    Ok(Outcome::Done)
}

/// The point among those that something is pinned of, by its whole or its short id.
fn pinned_point(cache: &CachedStore, text: &str) -> Result<Option<PointId>> {
    let mut found: Vec<PointId> = cache
        .pins()?
        .into_iter()
        .map(|pin| pin.point)
        .filter(|point| point.to_string() == text || point.short() == text)
        .collect();
    found.dedup();
    match found[..] {
        [point] => Ok(Some(point)),
        _ => Ok(None),
    }
}
