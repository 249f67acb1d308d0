//! What members are written to: an archive, or for a single file nothing but its bytes.

use std::io::{self, Write};

use crate::base::{Error, Result};
use crate::manifest::Found;

/// A member to be written.
pub(super) struct Member {
    /// From what is dumped; empty for that itself, if it is a directory.
    pub(super) path: Vec<u8>,
    pub(super) found: Found,
    /// An earlier member that is the same file.
    pub(super) link: Option<Vec<u8>>,
}

/// Something that members are written to, one after another.
pub(super) trait Archive {
    /// Is a member that is not whole the end of all?
    const IS_WHOLE_OR_NOTHING: bool = false;

    /// Begins a member. Returns why it cannot be one, if it cannot: then nothing of it follows.
    fn begin(&mut self, member: &Member) -> Result<Option<String>>;

    /// The next bytes of it.
    fn bytes(&mut self, bytes: &[u8]) -> Result<()>;

    /// The next so many bytes of it are zero.
    fn zeros(&mut self, length: u64) -> Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let mut left = length;
        while left > 0 {
            let bytes = left.min(ZEROS.len() as u64);
            self.bytes(&ZEROS[..bytes as usize])?;
            left -= bytes;
        }
        Ok(())
    }

    /// Ends the member.
    fn end(&mut self) -> Result<()>;

    /// Ends the archive.
    fn finish(self) -> Result<()>;
}

/// A file's bytes, and nothing else.
pub(super) struct Plain<'a> {
    out: &'a mut dyn Write,
}

impl<'a> Plain<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out }
    }
}

impl Archive for Plain<'_> {
    const IS_WHOLE_OR_NOTHING: bool = true;

    fn begin(&mut self, _member: &Member) -> Result<Option<String>> {
        Ok(None)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(cannot_write)
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(self) -> Result<()> {
        self.out.flush().map_err(cannot_write)
    }
}

/// The error of one who cannot write.
pub(super) fn cannot_write(error: io::Error) -> Error {
    Error::io("write what is dumped", error)
}
