//! `bygone dump`: a file or a directory of a point as a stream.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use clap::ValueEnum;

use super::arguments::PointFilterArguments;
use super::context::Context;
use super::outcome::Outcome;
use super::output::Output;
use crate::base::{Error, Key, Result};
use crate::ops::dump::{ArchiveFormat, DumpOptions, dump};

/// Write a file of a restore point to standard output, or a directory as an archive
///
/// An archive's members are named from PATH, so that unpacking it in a folder makes that folder what PATH was.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  bygone dump latest /etc/fstab | diff - /etc/fstab
  bygone dump latest /home/me | tar -xpf - -C /tmp/me --xattrs --xattrs-include='*'
  bygone dump --format tar.zst latest /srv | ssh other 'cat >srv.tar.zst'
  bygone dump --format zip latest~3 /home/me/photos >photos.zip

tar is POSIX tar (PAX) and has everything that a point has of a file, but sockets and holes: owners, modes, times to the \
nanosecond, extended attributes, ACLs, hard links, devices. zip has names, contents, symlinks, permissions and times.

A member whose content is damaged is left out where that can be told in time, or else has zeros in place of what cannot \
be read; either is a warning, and the exit code is 3. A file by itself is all or an error.")]
pub struct Arguments {
    /// The point: an id, a short id, latest, latest~N, a time or K=V
    #[arg(value_name = "POINT")]
    point: String,

    /// The file or directory, from the root of the point
    #[arg(value_name = "PATH")]
    what: OsString,

    /// An archive of this form; tar by default for a directory, none for a file
    #[arg(long, value_name = "FORMAT", value_enum)]
    format: Option<Form>,

    #[command(flatten)]
    filter: PointFilterArguments,
}

/// `--format` as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    #[value(name = "tar")]
    Tar,
    #[value(name = "tar.zst")]
    TarZstd,
    #[value(name = "zip")]
    Zip,
}

/// Writes it.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Outcome> {
    let repository = context.open_repository()?;
    let point = context.point(&repository, &arguments.point, &arguments.filter)?;
    let options = DumpOptions {
        path: Key::from_path(arguments.what.as_bytes())?,
        format: arguments.format.map(|form| match form {
            Form::Tar => ArchiveFormat::Tar,
            Form::TarZstd => ArchiveFormat::TarZstd,
            Form::Zip => ArchiveFormat::Zip,
        }),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let mut out = Stream {
        output: context.output(),
        begins: true,
    };
    let monitor = context.monitor()?;
    let report = dump(&repository, &point, &options, &mut out, &monitor);
    monitor.finish();
    Ok(match report?.errors {
        0 => Outcome::Done,
        _ => Outcome::Warnings,
    })
}

/// Standard output as something to write to.
struct Stream<'a> {
    output: &'a Output,
    /// Was nothing written yet?
    begins: bool,
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if std::mem::take(&mut self.begins) && self.output.is_terminal() && bytes.contains(&0) {
            return Err(io::Error::other(
                "standard output is a terminal, and this is no text: send it to a file or a program",
            ));
        }
        self.output.bytes(bytes).map_err(as_io)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush().map_err(as_io)
    }
}

/// What the system said, so that a reader who has gone is known as such.
fn as_io(error: Error) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::other(error),
    }
}
