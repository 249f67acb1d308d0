//! `bygone umount`: takes a mount away.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::context::Context;
use super::outcome::Outcome;
use crate::base::{Error, ErrorKind, Result};
use crate::fuse::{listed_place, mount_at, unmount_and_wait};

/// Take a mount away, and wait until its process has ended
///
/// Plain umount(8), and for users `fusermount3 -u`, take it away just as well, and do not wait.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bygone umount /mnt/past

JSON: an object with
  mount_point  the folder, where nothing is mounted any more")]
pub struct Arguments {
    /// The folder that it is mounted at
    #[arg(value_name = "MNT")]
    place: PathBuf,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct UmountObject<'a> {
    mount_point: &'a Path,
}

/// Unmounts, by the place that was named and only if it is a mount of this program.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Outcome> {
    let place = listed_place(&arguments.place)?;
    let Some(record) = mount_at(&place)? else {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("nothing is mounted at {}", place.display()),
        ));
    };
    if !record.is_bygone() {
        return Err(Error::new(
            ErrorKind::Usage,
            format!(
                "what is mounted at {} is of type {} and not bygone's: umount(8) takes it away",
                place.display(),
                record.file_system
            ),
        ));
    }
    unmount_and_wait(&record)?;
    if context.json() {
        let object = UmountObject {
            mount_point: &place,
        };
        context.output().document(&object)?;
    }
    Ok(Outcome::Done)
}
