//! Bytes that are gathered in memory, and in a temporary file once they are many.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::base::{Error, Result};

/// Bytes up to which nothing is written to a file.
const MEMORY_BYTES_MAX: usize = 8 << 20;

/// Bytes of one write to the file, and of one read from it.
const STEP_BYTES: usize = 1 << 20;

/// Where temporary files may lie, the better place first: `/tmp` often is memory.
const FOLDERS: [&str; 2] = ["/var/tmp", "/tmp"];

/// Appended bytes. A file that it needs has no name, and goes away with it.
#[derive(Debug)]
pub struct Spill {
    /// What is not in the file, which is its end.
    memory: Vec<u8>,
    file: Option<File>,
    file_bytes: u64,
    memory_max: usize,
}

impl Default for Spill {
    fn default() -> Self {
        Self::new()
    }
}

impl Spill {
    /// Without a byte.
    pub fn new() -> Self {
        Self::with_memory(MEMORY_BYTES_MAX)
    }

    /// Without a byte, and with a file beyond `memory_max` bytes.
    pub fn with_memory(memory_max: usize) -> Self {
        Self {
            memory: Vec::new(),
            file: None,
            file_bytes: 0,
            memory_max,
        }
    }

    /// How many bytes there are.
    pub fn length(&self) -> u64 {
        self.file_bytes + self.memory.len() as u64
    }

    /// Appends what `write` appends to the vector; returns how many bytes that were.
    ///
    /// # Errors
    /// That of `write`, or of a temporary file that cannot be made or written.
    pub fn append_with(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<u64> {
        let before = self.memory.len();
        write(&mut self.memory)?;
        let appended = self.memory.len() - before;
        let kept = if self.file.is_some() {
            STEP_BYTES.min(self.memory_max)
        } else {
            self.memory_max
        };
        if self.memory.len() > kept {
            self.write_out()?;
        }
        Ok(appended as u64)
    }

    /// Appends all of another one.
    ///
    /// # Errors
    /// Those of temporary files.
    pub fn append_all(&mut self, other: &Self) -> Result<()> {
        let mut offset = 0;
        while offset < other.file_bytes {
            let length = (other.file_bytes - offset).min(STEP_BYTES as u64) as usize;
            self.append_with(|bytes| {
                let start = bytes.len();
                bytes.resize(start + length, 0);
                other.read_file(offset, &mut bytes[start..])
            })?;
            offset += length as u64;
        }
        self.append_with(|bytes| {
            bytes.extend_from_slice(&other.memory);
            Ok(())
        })?;
        Ok(())
    }

    /// Fills `bytes` with what begins at `offset`, all of it within the length.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let in_file = self
            .file_bytes
            .saturating_sub(offset)
            .min(bytes.len() as u64) as usize;
        let (file_part, memory_part) = bytes.split_at_mut(in_file);
        if !file_part.is_empty() {
            self.read_file(offset, file_part)?;
        }
        if !memory_part.is_empty() {
            let start = (offset + in_file as u64 - self.file_bytes) as usize;
            memory_part.copy_from_slice(&self.memory[start..start + memory_part.len()]);
        }
        Ok(())
    }

    /// All bytes: in memory, or else in a file that has every one of them.
    ///
    /// # Errors
    /// The temporary file cannot be written.
    pub fn finish(&mut self) -> Result<Gathered<'_>> {
        if self.file.is_some() {
            self.write_out()?;
        }
        Ok(match &self.file {
            Some(file) => Gathered::File(file),
            None => Gathered::Memory(&self.memory),
        })
    }

    fn write_out(&mut self) -> Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => nameless_file()?,
        };
        file.write_all(&self.memory)
            .map_err(|error| Error::io("write to a temporary file", error))?;
        self.file_bytes += self.memory.len() as u64;
        self.file = Some(file);
        self.memory.clear();
        Ok(())
    }

    fn read_file(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let file = self.file.as_ref().expect("bytes were written to the file");
        file.read_exact_at(bytes, offset)
            .map_err(|error| Error::io("read a temporary file", error))
    }
}

/// All that was gathered.
#[derive(Debug)]
pub enum Gathered<'a> {
    Memory(&'a [u8]),
    File(&'a File),
}

fn nameless_file() -> Result<File> {
    let mut failure = None;
    for folder in FOLDERS {
        match nameless_file_in(Path::new(folder)) {
            Ok(file) => return Ok(file),
            Err(error) => failure = Some(error),
        }
    }
    let error = failure.expect("there is a folder to try");
    Err(Error::io(
        format_args!("make a temporary file in {}", FOLDERS.join(" or ")),
        error,
    ))
}

fn nameless_file_in(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(File::from(file)),
        // A file system that has no such files.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => unlinked_file_in(folder),
        Err(error) => Err(error.into()),
    }
}

fn unlinked_file_in(folder: &Path) -> io::Result<File> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let path = folder.join(format!("bygone-{:032x}", u128::from_le_bytes(random)));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn fill(spill: &mut Spill, bytes: &[u8], step: usize) {
        for piece in bytes.chunks(step) {
            let appended = spill
                .append_with(|out| {
                    out.extend_from_slice(piece);
                    Ok(())
                })
                .unwrap();
            assert_eq!(appended, piece.len() as u64);
        }
    }

    fn all(spill: &mut Spill) -> Vec<u8> {
        match spill.finish().unwrap() {
            Gathered::Memory(bytes) => bytes.to_vec(),
            Gathered::File(file) => {
                let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
                file.read_exact_at(&mut bytes, 0).unwrap();
                bytes
            }
        }
    }

    #[test]
    fn bytes_come_back_from_memory_and_from_a_file() {
        let bytes: Vec<u8> = (0..10_000_u32).map(|number| (number % 251) as u8).collect();
        for memory_max in [100, 9_999, 10_000] {
            let mut spill = Spill::with_memory(memory_max);
            fill(&mut spill, &bytes, 77);
            assert_eq!(spill.length(), 10_000);
            assert_eq!(spill.file.is_some(), memory_max < 10_000);
            for offset in [0, 1, 5_000, 9_950] {
                let mut read = [0; 50];
                spill.read_at(offset as u64, &mut read).unwrap();
                assert_eq!(read, bytes[offset..offset + 50]);
            }
            let mut whole = Spill::with_memory(3_000);
            fill(&mut whole, b"before", 6);
            whole.append_all(&spill).unwrap();
            assert_eq!(all(&mut whole), [&b"before"[..], &bytes].concat());
            assert_eq!(all(&mut spill), bytes);
        }
    }

    #[test]
    fn a_file_with_a_name_for_a_moment_serves_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = unlinked_file_in(folder.path()).unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
        file.write_all(b"abc").unwrap();
        let mut bytes = [0; 3];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"abc");
        assert_eq!(file.read(&mut bytes).unwrap(), 0);
    }
}
