//! Zip, as a stream: each member's sizes follow it. It has names, contents, symlinks, permissions and times to the second;
//! each hard link is a file by itself. The list of members at its end is kept in memory until then.

use std::io::{self, Write};

use zip::write::{ExtendedFileOptions, FileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::archive::{Archive, Member, cannot_write};
use crate::base::Result;
use crate::format::{FileType, Metadata};

/// The extended timestamp of Info-ZIP, and its flag for a modification time.
const TIMESTAMP_FIELD: u16 = 0x5455;
const HAS_MTIME: u8 = 1;

/// From here on a member may pass 4 GiB, which has to be said before it.
const LARGE_BYTES_MIN: u64 = 0xF000_0000;

/// A zip stream.
pub(super) struct Zipped<'a> {
    writer: ZipWriter<StreamWriter<&'a mut dyn Write>>,
}

impl<'a> Zipped<'a> {
    /// A zip stream to `out`.
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self {
            writer: ZipWriter::new_stream(out),
        }
    }
}

impl Archive for Zipped<'_> {
    fn begin(&mut self, member: &Member) -> Result<Option<String>> {
        let metadata = &member.found.entry.metadata;
        let name = String::from_utf8_lossy(&member.path).into_owned();
        let options = options(metadata)?;
        let begun = match metadata.file_type {
            FileType::Regular => self.writer.start_file(name, options),
            // What everything else is in has no name.
            FileType::Directory if name.is_empty() => Ok(()),
            FileType::Directory => self.writer.add_directory(name, options),
            FileType::Symlink => {
                let target = String::from_utf8_lossy(&metadata.target).into_owned();
                self.writer.add_symlink(name, target, options)
            }
            _ => {
                let problem = "a zip archive has no devices, fifos and sockets: left out";
                return Ok(Some(problem.to_owned()));
            }
        };
        begun.map(|()| None).map_err(failed)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.write_all(bytes).map_err(cannot_write)
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(self) -> Result<()> {
        let out = self.writer.finish().map_err(failed)?;
        out.into_inner().flush().map_err(cannot_write)
    }
}

fn options(metadata: &Metadata) -> Result<FileOptions<'static, ExtendedFileOptions>> {
    let seconds = metadata.mtime.seconds;
    let mut options = FileOptions::<ExtendedFileOptions>::default()
        .compression_method(CompressionMethod::Deflated)
        .unix_permissions(metadata.mode)
        .large_file(metadata.size >= LARGE_BYTES_MIN)
        .last_modified_time(local_time(seconds));
    if let Ok(seconds) = i32::try_from(seconds) {
        let mut field = vec![HAS_MTIME];
        field.extend(seconds.to_le_bytes());
        options
            .add_extra_data(TIMESTAMP_FIELD, field, false)
            .map_err(failed)?;
    }
    Ok(options)
}

/// A time as zip has it; the earliest that it has for one before 1980.
fn local_time(seconds: i64) -> DateTime {
    let Ok(time) = jiff::Timestamp::from_second(seconds) else {
        return DateTime::DEFAULT;
    };
    // The library knows no zone of the machine's, and the extended field has the exact time.
    let time = time.to_zoned(jiff::tz::TimeZone::UTC);
    let part = |number: i8| number.unsigned_abs();
    DateTime::from_date_and_time(
        time.year().unsigned_abs(),
        part(time.month()),
        part(time.day()),
        part(time.hour()),
        part(time.minute()),
        part(time.second()),
    )
    .unwrap_or(DateTime::DEFAULT)
}

fn failed(error: zip::result::ZipError) -> crate::base::Error {
    cannot_write(match error {
        zip::result::ZipError::Io(error) => error,
        error => io::Error::other(error),
    })
}
