//! One file from its place to an observation: opened, read, and looked at once more.

use crate::base::{ChunkId, Error};
use crate::format::{Content, FileType};

use super::content::{Failure, FileRead, Read, Reader};
use super::handle::Place;
use super::observe::{Opened, open};
use super::record::Observation;
use super::status::Status;

/// How often a file is read that changes while it is.
const READINGS_MAX: usize = 2;

/// What a visit gave.
#[derive(Debug)]
pub enum Outcome {
    /// The file, whole and placed.
    Observed(Box<Observation>),
    /// The same, but that it is one small chunk, which is yet to be placed.
    Small {
        observation: Box<Observation>,
        id: ChunkId,
        bytes: Vec<u8>,
    },
    /// It is gone.
    Gone,
    /// It could not be read: why.
    Unreadable(String),
    /// The backup cannot go on.
    Stopped(Error),
}

/// Opens and reads the file at `place`, which was seen to be of `file_type`.
pub fn visit(reader: &Reader<'_>, place: &Place, file_type: FileType) -> Outcome {
    let mut readings = 0;
    loop {
        readings += 1;
        let opened = match open(place, file_type) {
            Ok(opened) => opened,
            Err(None) => return Outcome::Gone,
            Err(Some(problem)) => return Outcome::Unreadable(problem),
        };
        match read(reader, place, opened) {
            Ok((observation, read)) => {
                if !observation.changed_while_read || readings == READINGS_MAX {
                    return outcome(observation, read);
                }
            }
            Err(Failure::File(problem)) => return Outcome::Unreadable(problem),
            Err(Failure::Backup(error)) => return Outcome::Stopped(error),
        }
    }
}

fn outcome(mut observation: Box<Observation>, read: Read) -> Outcome {
    match read {
        Read::Placed(content) => {
            observation.content = content;
            Outcome::Observed(observation)
        }
        Read::Small { id, bytes } => Outcome::Small {
            observation,
            id,
            bytes,
        },
    }
}

/// Reads what was opened, if it is a regular file; its content is yet to be put into the observation.
fn read(
    reader: &Reader<'_>,
    place: &Place,
    opened: Opened,
) -> Result<(Box<Observation>, Read), Failure> {
    let Opened {
        mut status,
        details,
        file,
    } = opened;
    let read_at = (reader.clock)();
    let Some(file) = file else {
        let observation = Observation {
            status,
            details,
            content: Content::Nothing,
            content_hash: None,
            shape: None,
            changed_while_read: false,
            read_at,
        };
        return Ok((Box::new(observation), Read::Placed(Content::Nothing)));
    };
    let FileRead {
        read,
        content_hash,
        size,
        shape,
    } = reader.read(&file, &place.name, status.size)?;
    let after = Status::of(&file, b"")?;
    // A file that says that it has none has as many bytes as were read.
    let is_unsized = status.size == 0 && after.size == 0;
    let changed_while_read = (size != status.size && !is_unsized)
        || after.mtime != status.mtime
        || after.ctime != status.ctime
        || after.size != status.size;
    // A file that became shorter is recorded as long as it was while it was read.
    status.size = size;
    let observation = Observation {
        status,
        details,
        content: Content::Nothing,
        content_hash,
        shape,
        changed_while_read,
        read_at,
    };
    Ok((Box::new(observation), read))
}
