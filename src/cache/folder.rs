//! The folder of one repository's cache: where it is, that it is ours alone, and how much it may take.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::base::{Error, ErrorKind, Result};

/// The most that a cache takes by itself.
const BYTES_MAX: u64 = 10 << 30;

/// Of what is free, and of what the cache has already, one part of so many.
const FREE_PARTS: u64 = 10;

/// The index, in a repository's folder.
const INDEX_FILE: &str = "index.sqlite";

/// Held by whoever begins a damaged cache anew.
const LOCK_FILE: &str = "lock";

/// What the folders of objects' files begin with.
const OBJECTS_PREFIX: &str = "objects-";

/// The folder of one repository's cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheFolder {
    path: PathBuf,
}

/// Where the cache of the repository at `location` is, below the cache's directory.
pub fn folder_of(directory: &Path, location: &str) -> CacheFolder {
    let hash = blake3::hash(location.as_bytes()).to_hex();
    CacheFolder {
        path: directory.join(&hash[..32]),
    }
}

/// All folders of repositories below the cache's directory, in order. None, if there is no such directory.
///
/// # Errors
/// Denied or failed, if it cannot be read.
pub fn folders(directory: &Path) -> Result<Vec<CacheFolder>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(format!("read {}", directory.display()), error)),
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry =
            entry.map_err(|error| Error::io(format!("read {}", directory.display()), error))?;
        let path = entry.path();
        if path.join(INDEX_FILE).exists() {
            folders.push(CacheFolder { path });
        }
    }
    folders.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(folders)
}

impl CacheFolder {
    /// Its place.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it if it is not there, for its owner alone.
    ///
    /// # Errors
    /// Denied, if it belongs to somebody else or is no folder; full, denied or failed as the system has it.
    pub(super) fn make(&self) -> Result<()> {
        let failed = |error| Error::io(format!("make {}", self.path.display()), error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(failed)?;
        let metadata = fs::symlink_metadata(&self.path).map_err(failed)?;
        if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(Error::new(
                ErrorKind::Denied,
                format!(
                    "{} is not a folder of this user, and is not trusted with a cache",
                    self.path.display()
                ),
            ));
        }
        if metadata.mode() & 0o077 != 0 {
            let own = fs::Permissions::from_mode(0o700);
            fs::set_permissions(&self.path, own).map_err(failed)?;
        }
        Ok(())
    }

    pub(super) fn index(&self) -> PathBuf {
        self.path.join(INDEX_FILE)
    }

    pub(super) fn objects(&self, generation: &str) -> PathBuf {
        self.path.join(format!("{OBJECTS_PREFIX}{generation}"))
    }

    /// What the cache may take by itself if it has `kept` bytes now: the disk is not to be filled by it.
    pub(super) fn default_bytes_max(&self, kept: u64) -> u64 {
        let free = rustix::fs::statvfs(&self.path)
            .map_or(0, |system| system.f_bavail.saturating_mul(system.f_frsize));
        BYTES_MAX.min(free.saturating_add(kept) / FREE_PARTS)
    }

    /// Waits until no other process begins the cache anew; none does until what is returned is dropped.
    ///
    /// # Errors
    /// Denied or failed as the system has it.
    pub(super) fn lock(&self) -> Result<fs::File> {
        let path = self.path.join(LOCK_FILE);
        let failed = |error| Error::io(format!("lock {}", path.display()), error);
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok(file)
    }

    /// Removes all that is in it but the lock.
    ///
    /// # Errors
    /// Denied or failed as the system has it.
    pub(super) fn empty(&self) -> Result<()> {
        self.remove_but(|name| name == LOCK_FILE)
    }

    /// Removes the files of generations that are not `generation`: nobody knows of them any more.
    ///
    /// # Errors
    /// Denied or failed as the system has it.
    pub(super) fn remove_other_generations(&self, generation: &str) -> Result<()> {
        let own = format!("{OBJECTS_PREFIX}{generation}");
        self.remove_but(|name| !name.starts_with(OBJECTS_PREFIX) || name == own)
    }

    fn remove_but(&self, stays: impl Fn(&str) -> bool) -> Result<()> {
        let failed = |error| Error::io(format!("empty {}", self.path.display()), error);
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_str().is_some_and(&stays) {
                continue;
            }
            let removed = match entry.file_type().map_err(failed)?.is_dir() {
                true => fs::remove_dir_all(entry.path()),
                false => fs::remove_file(entry.path()),
            };
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_its_owners_alone_even_if_it_was_not() {
        let directory = tempfile::tempdir().unwrap();
        let folder = folder_of(&directory.path().join("a/b"), "s3://bucket/prefix");
        folder.make().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        folder.make().unwrap();
        let mode = fs::metadata(folder.path()).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
        let above = fs::metadata(directory.path().join("a")).unwrap().mode();
        assert_eq!(above & 0o777, 0o700);
    }

    #[test]
    fn a_link_in_the_folders_place_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let folder = folder_of(directory.path(), "here");
        std::os::unix::fs::symlink("/", folder.path()).unwrap();
        assert_eq!(folder.make().unwrap_err().kind(), ErrorKind::Denied);
    }

    #[test]
    fn places_have_folders_of_their_own() {
        let directory = Path::new("/cache");
        assert_ne!(
            folder_of(directory, "s3://a/b"),
            folder_of(directory, "s3://a/c")
        );
    }
}
