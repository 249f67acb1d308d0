//! `bygone umount`: takes a mount away.

use std::path::PathBuf;

use super::context::Context;
use super::outcome::Outcome;
use crate::base::{Error, ErrorKind, Result};
use crate::fuse::{listed_place, mount_at, unmount_and_wait};

/// Take a mount away, and wait until its process has ended
///
/// Plain umount(8), and for users `fusermount3 -u`, take it away just as well, and do not wait.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bygone umount /mnt/past")]
pub struct Arguments {
    /// The folder that it is mounted at
    #[arg(value_name = "MNT")]
    place: PathBuf,
}

/// Unmounts, by the place that was named and only if it is a mount of this program.
pub fn run(arguments: &Arguments, _context: &Context) -> Result<Outcome> {
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
    Ok(Outcome::Done)
}
