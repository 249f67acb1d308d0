//! Files of objects' bytes: sparse, each range at the offset that it has in the object.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, OFlags, fallocate};

use crate::base::{Error, Result};

/// The files of one generation of a cache.
#[derive(Debug, Clone)]
pub(super) struct Files {
    folder: PathBuf,
}

/// A number of an object, which is its file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ObjectNumber(pub(super) i64);

impl Files {
    /// The files in this folder, which is made if it is not there.
    ///
    /// # Errors
    /// Full, denied or failed as the system has it, like those of all others.
    pub(super) fn open(folder: PathBuf) -> Result<Self> {
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(Error::io(format!("make {}", folder.display()), error))
            }
            _ => Ok(Self { folder }),
        }
    }

    fn path(&self, number: ObjectNumber) -> PathBuf {
        self.folder.join(number.0.to_string())
    }

    /// The file of an object, made if it is not there. Never what a link leads to.
    pub(super) fn file(&self, number: ObjectNumber) -> Result<File> {
        let path = self.path(number);
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(&path)
            .map_err(|error| Error::io(format!("open {}", path.display()), error))
    }

    /// Removes the file of an object, if there is one.
    pub(super) fn remove(&self, number: ObjectNumber) -> Result<()> {
        let path = self.path(number);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(format!("remove {}", path.display()), error))
            }
            _ => Ok(()),
        }
    }

    /// Gives the room of a range back to the disk. Where the file system cannot, the file keeps it until it goes.
    pub(super) fn punch(&self, number: ObjectNumber, range: &Range<u64>) -> Result<()> {
        let file = self.file(number)?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match fallocate(&file, flags, range.start, range.end - range.start) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            Err(error) => Err(Error::io(
                format!("give room back in {}", self.path(number).display()),
                error.into(),
            )),
        }
    }

    /// The numbers of all files that are there.
    pub(super) fn numbers(&self) -> Result<Vec<ObjectNumber>> {
        let failed = |error| Error::io(format!("read {}", self.folder.display()), error);
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if let Some(number) = name.to_str().and_then(|name| name.parse().ok()) {
                numbers.push(ObjectNumber(number));
            }
        }
        Ok(numbers)
    }
}

/// The bytes of a range of a file, exactly so many.
pub(super) fn read_range(file: &File, range: &Range<u64>) -> io::Result<Vec<u8>> {
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back_and_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::open(directory.path().join("objects")).unwrap();
        let number = ObjectNumber(3);
        let file = files.file(number).unwrap();
        file.write_all_at(&[7; 16384], 4096).unwrap();
        assert_eq!(read_range(&file, &(4096..8192)).unwrap(), [7; 4096]);
        files.punch(number, &(4096..8192)).unwrap();
        assert_eq!(read_range(&file, &(4096..8192)).unwrap(), [0; 4096]);
        assert_eq!(read_range(&file, &(8192..8200)).unwrap(), [7; 8]);
        assert_eq!(files.numbers().unwrap(), [number]);
        files.remove(number).unwrap();
        files.remove(number).unwrap();
        std::os::unix::fs::symlink("/dev/null", files.path(number)).unwrap();
        assert!(files.file(number).is_err());
    }
}
