//! An object that grows before it is put: in memory while it is small, then in a file that has no name.

use std::fs::File;
use std::io::{self, Write};

use rustix::fs::{MemfdFlags, Mode, OFlags};

use crate::base::{Error, Result};

use super::{Body, Store};

/// How many bytes are kept in memory.
const MEMORY_BYTES_MAX: usize = 8 << 20;

/// Where unnamed files go: places that outlive nothing and are on a disk, the larger one first.
const FOLDERS: [&str; 2] = ["/var/tmp", "/tmp"];

/// Bytes of an object to be.
#[derive(Debug, Default)]
pub struct GrowingBody {
    bytes: Vec<u8>,
    file: Option<File>,
    spilled: u64,
}

impl GrowingBody {
    /// An object without bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// Full or failed, if there is no room in a temporary folder.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > MEMORY_BYTES_MAX {
            self.spill()
                .map_err(|error| Error::io("write a temporary file", error))?;
        }
        Ok(())
    }

    /// How many bytes it has.
    pub fn length(&self) -> u64 {
        self.spilled + self.bytes.len() as u64
    }

    /// Puts the object under its name.
    ///
    /// # Errors
    /// Those of `append` and of the store.
    pub fn put(mut self, store: &dyn Store, name: &str) -> Result<()> {
        if self.file.is_some() {
            self.spill()
                .map_err(|error| Error::io("write a temporary file", error))?;
        }
        match &self.file {
            None => store.put_new(name, Body::Bytes(&[&self.bytes])),
            Some(file) => store.put_new(name, Body::File(file)),
        }
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(unnamed_file()?),
        };
        file.write_all(&self.bytes)?;
        self.spilled += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

/// A file without a name, gone when it is closed, whatever ends the process. Memory, where no folder takes one.
fn unnamed_file() -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    FOLDERS
        .iter()
        .find_map(|folder| rustix::fs::open(*folder, flags, Mode::RUSR | Mode::WUSR).ok())
        .map_or_else(
            || Ok(rustix::fs::memfd_create("bygone", MemfdFlags::CLOEXEC)?.into()),
            |file| Ok(file.into()),
        )
}

#[cfg(test)]
mod tests {
    use super::super::MemoryStore;
    use super::*;

    #[test]
    fn objects_are_whole_on_either_side_of_the_bound() {
        let store = MemoryStore::new();
        let piece: Vec<u8> = (0..1_000_003_u32)
            .map(|number| (number % 251) as u8)
            .collect();
        for pieces in [0, 1, 8, 9, 20] {
            let mut body = GrowingBody::new();
            for _ in 0..pieces {
                body.append(&piece).unwrap();
            }
            assert_eq!(body.length(), (pieces * piece.len()) as u64);
            let name = format!("index/{pieces}");
            body.put(&store, &name).unwrap();
            assert!(store.get(&name).unwrap() == piece.repeat(pieces));
        }
    }
}
