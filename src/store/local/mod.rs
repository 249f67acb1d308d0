//! A store in a directory of a local (or mounted) file system: every object is a file.
//!
//! Invariants: a file appears under its name whole and synced, by a rename that replaces nothing, and its directory is
//! synced before the put returns. What a writer has not finished lies in `tmp/`, on the same file system, and is
//! cleared away by whoever writes next once that writer is dead. Every descriptor is closed on exec.
//!
//! It does not lock the directory, does not follow what its files mean, and never changes a file that has its name.

mod descriptors;
mod directory;
mod neighbourhood;
mod temporaries;

use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{CWD, RenameFlags};

use crate::base::{Error, ErrorKind, Result};

use self::descriptors::{Descriptors, OpenFile};
use self::directory::{file_names, make_directories, sync_directory};
use self::temporaries::{Temporaries, Temporary};
use super::name::{check_listing, check_name, check_whole, range_error, range_length};
use super::{Body, Listed, Store};

/// Where writers keep what they have not finished.
const TEMPORARY_FOLDER: &str = "tmp";

/// Permissions of the directories: a repository holds what its owner may read, and is nobody else's to read.
const DIRECTORY_MODE: u32 = 0o700;

/// Is called between the writing of an object's bytes and its appearance under its name.
type BeforePublish = Box<dyn Fn(&str) -> Result<()> + Send + Sync>;

/// Objects as files below a directory.
pub struct LocalStore {
    /// Absolute, so that a daemon may leave the directory that it was started in.
    root: PathBuf,
    descriptors: Descriptors,
    /// Claimed by the first put, so that readers write nothing.
    temporaries: Mutex<Option<Arc<Temporaries>>>,
    before_publish: Option<BeforePublish>,
}

impl LocalStore {
    /// The store in the directory `root`, which must exist.
    ///
    /// # Errors
    /// NoRepository if there is no such directory; denied and failed as the system says.
    pub fn open(root: &Path) -> Result<Self> {
        let looked_at = |error| {
            let error = Error::io(format_args!("open {}", root.display()), error);
            match error.kind() {
                ErrorKind::Missing => Error::new(
                    ErrorKind::NoRepository,
                    format!(
                        "there is no {}: make a repository there with `bygone init`, or name another place",
                        root.display()
                    ),
                ),
                _ => error,
            }
        };
        if !fs::metadata(root).map_err(looked_at)?.is_dir() {
            return Err(Error::new(
                ErrorKind::NoRepository,
                format!(
                    "there is no repository at {}: it is not a directory; name another place",
                    root.display()
                ),
            ));
        }
        Ok(Self {
            root: std::path::absolute(root).map_err(looked_at)?,
            descriptors: Descriptors::new(),
            temporaries: Mutex::new(None),
            before_publish: None,
        })
    }

    /// The store in the directory `root`, which is made, with those above it, where it does not exist.
    ///
    /// # Errors
    /// As those of `open`.
    pub fn create(root: &Path) -> Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(root)
            .map_err(|error| Error::io(format_args!("create {}", root.display()), error))?;
        Self::open(root)
    }

    /// Where the objects lie: an absolute path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Calls `before_publish` with an object's name when its bytes are written and before it has its name: the middle
    /// of a put, for tests that stop one there.
    pub(super) fn set_before_publish(&mut self, before_publish: BeforePublish) {
        self.before_publish = Some(before_publish);
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        check_name(name)?;
        Ok(self.root.join(name))
    }

    /// An object's file, opened now or before.
    fn open_file(&self, name: &str) -> Result<Arc<OpenFile>> {
        if let Some(open) = self.descriptors.get(name) {
            return Ok(open);
        }
        let path = self.path(name)?;
        self.descriptors
            .open(name, &path)
            .map_err(|error| read_error(name, error))
    }

    fn temporary(&self) -> Result<Temporary> {
        let mut claimed = self
            .temporaries
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let temporaries = match &*claimed {
            Some(temporaries) => Arc::clone(temporaries),
            None => {
                let fresh = Arc::new(Temporaries::claim(&self.root.join(TEMPORARY_FOLDER))?);
                *claimed = Some(Arc::clone(&fresh));
                fresh
            }
        };
        drop(claimed);
        temporaries.create()
    }

    /// Gives a file that is written and synced its name, durably.
    fn publish(&self, temporary: Temporary, target: &Path) -> io::Result<()> {
        let folder = target.parent().unwrap_or(&self.root);
        match rename_new(temporary.path(), target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_directories(&self.root, folder)?;
                rename_new(temporary.path(), target)?;
            }
            result => result?,
        }
        temporary.forget();
        sync_directory(folder)
    }
}

impl Store for LocalStore {
    fn get(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path(name)?;
        let failed = |error| read_error(name, error);
        let length = fs::metadata(&path).map_err(failed)?.len();
        check_whole(name, length)?;
        fs::read(&path).map_err(failed)
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let length = range_length(name, &range)?;
        let failed = |error| read_error(name, error);
        let open = self.open_file(name)?;
        if range.end > open.length {
            return Err(range_error(name, &range, open.length));
        }
        let bytes = open.read(range.start, length).map_err(failed)?;
        if bytes.len() < length {
            return Err(range_error(name, &range, range.start + bytes.len() as u64));
        }
        Ok(bytes)
    }

    fn get_tail(&self, name: &str, length: u64) -> Result<(Vec<u8>, u64)> {
        let failed = |error| read_error(name, error);
        let open = self.open_file(name)?;
        let start = open.length.saturating_sub(length);
        let tail = usize::try_from(open.length - start).unwrap_or(usize::MAX);
        let bytes = open.read(start, tail).map_err(failed)?;
        if bytes.len() < tail {
            return Err(range_error(name, &(start..open.length), bytes.len() as u64));
        }
        Ok((bytes, open.length))
    }

    fn put_new(&self, name: &str, body: Body<'_>) -> Result<()> {
        let target = self.path(name)?;
        let failed = |error| Error::io(format_args!("write {name}"), error);
        let temporary = self.temporary()?;
        temporary.write(body).map_err(failed)?;
        if let Some(before_publish) = &self.before_publish {
            before_publish(name)?;
        }
        self.publish(temporary, &target).map_err(failed)
    }

    fn list(&self, prefix: &str, from: &str) -> Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for name in self.names(prefix, from)? {
            let path = self.root.join(&name);
            match fs::metadata(&path) {
                // It was deleted meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(Error::io(format_args!("list {}", path.display()), error));
                }
                Ok(metadata) => listed.push(Listed {
                    name,
                    length: metadata.len(),
                }),
            }
        }
        Ok(listed)
    }

    fn names(&self, prefix: &str, from: &str) -> Result<Vec<String>> {
        check_listing(prefix, from)?;
        self.descriptors.forget_deleted();
        let mut names = file_names(&self.root, prefix).map_err(|error| {
            let folder = self.root.join(prefix);
            Error::io(format_args!("list {}", folder.display()), error)
        })?;
        names.retain(|name| name.as_str() >= from);
        names.sort_unstable();
        Ok(names)
    }

    fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name)?;
        self.descriptors.forget(name);
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(format_args!("delete {name}"), error))
            }
            _ => Ok(()),
        }
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }
}

/// What failed to be read; a path through a file is a name that nothing has.
fn read_error(name: &str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::missing(name),
        io::ErrorKind::IsADirectory => Error::corrupt(name, "it is a directory"),
        _ => Error::io(format_args!("read {name}"), error),
    }
}

/// Renames a file to a name that must be free. Not every file system can refuse to replace: then a link takes its
/// place, and where there are no links either (FAT), a look before the rename, since names are unique anyway.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            rename_without_noreplace(from, to)
        }
        result => Ok(result?),
    }
}

fn rename_without_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
            ) => {}
        result => return result.and_then(|()| fs::remove_file(from)),
    }
    if to.try_exists()? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(from, to)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::process::Command;

    use super::*;

    fn store() -> (tempfile::TempDir, LocalStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::create(&folder.path().join("store")).unwrap();
        (folder, store)
    }

    fn put(store: &LocalStore, name: &str) {
        store.put_new(name, Body::Bytes(&[b"content"])).unwrap();
    }

    fn temporaries(store: &LocalStore) -> Vec<String> {
        let entries = fs::read_dir(store.root().join(TEMPORARY_FOLDER)).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_directory_that_is_not_there_is_no_repository() {
        let folder = tempfile::tempdir().unwrap();
        let error = LocalStore::open(&folder.path().join("none")).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::NoRepository);
        fs::write(folder.path().join("file"), b"").unwrap();
        let error = LocalStore::open(&folder.path().join("file")).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::NoRepository);
    }

    #[test]
    fn objects_are_for_their_owner_only() {
        let (_folder, store) = store();
        put(&store, "packs/ab/abcd");
        let mode = |path: &str| {
            let metadata = fs::metadata(store.root().join(path)).unwrap();
            metadata.permissions().mode() & 0o7777
        };
        assert_eq!(mode("packs/ab/abcd"), 0o600);
        assert_eq!(
            (mode(""), mode("packs"), mode("packs/ab")),
            (0o700, 0o700, 0o700)
        );
    }

    #[test]
    fn names_are_those_of_the_listing_also_behind_links() {
        let (folder, store) = store();
        for name in ["points/a", "points/b", "packs/ab/abcd"] {
            put(&store, name);
        }
        let elsewhere = folder.path().join("elsewhere");
        fs::rename(store.root().join("packs/ab"), &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, store.root().join("packs/ab")).unwrap();
        std::os::unix::fs::symlink("nothing", store.root().join("points/c")).unwrap();
        assert_eq!(
            store.names("", "").unwrap(),
            ["packs/ab/abcd", "points/a", "points/b"]
        );
        assert_eq!(store.names("points/", "points/b").unwrap(), ["points/b"]);
        for (prefix, from) in [("", ""), ("packs/", ""), ("points/", "points/b")] {
            let listed = store.list(prefix, from).unwrap().into_iter();
            let names: Vec<String> = listed.map(|object| object.name).collect();
            assert_eq!(store.names(prefix, from).unwrap(), names);
        }
    }

    #[test]
    fn readers_write_nothing_and_writers_leave_nothing() {
        let (_folder, store) = store();
        assert!(store.list("", "").unwrap().is_empty());
        assert!(fs::read_dir(store.root()).unwrap().next().is_none());
        put(&store, "points/a");
        assert_eq!(temporaries(&store).len(), 1, "the writer's lock");
        store.put_new("points/a", Body::Bytes(&[b"x"])).unwrap_err();
        assert_eq!(temporaries(&store).len(), 1);
        assert_eq!(store.list("", "").unwrap().len(), 1);
        let root = store.root().to_owned();
        drop(store);
        assert!(
            fs::read_dir(root.join(TEMPORARY_FOLDER))
                .unwrap()
                .next()
                .is_none()
        );
    }

    #[test]
    fn what_dead_writers_left_goes_and_what_living_ones_write_stays() {
        let (folder, living) = store();
        put(&living, "points/a");
        let half_written = living.temporary().unwrap();
        let tmp = living.root().join(TEMPORARY_FOLDER);
        let dead = "0123456789abcdef0123456789abcdef";
        let older = "fedcba9876543210fedcba9876543210";
        for name in [
            dead,
            &format!("{dead}-1"),
            &format!("{dead}-2"),
            &format!("{older}-7"),
        ] {
            fs::write(tmp.join(name), b"half").unwrap();
        }
        fs::write(tmp.join("somebody's file"), b"").unwrap();
        let other = LocalStore::open(&folder.path().join("store")).unwrap();
        put(&other, "points/b");
        let left = temporaries(&other);
        assert!(
            left.iter()
                .all(|name| !name.starts_with(dead) && !name.starts_with(older))
        );
        assert_eq!(
            left.len(),
            4,
            "two locks, a temporary, somebody's file: {left:?}"
        );
        assert!(half_written.path().exists());
    }

    #[test]
    fn descriptors_are_kept_are_bounded_and_are_closed_on_exec() {
        let (_folder, store) = store();
        for number in 0..700 {
            let name = format!("packs/ab/{number}");
            put(&store, &name);
            store.get_range(&name, 0..1).unwrap();
        }
        let open = fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .filter(|path| path.starts_with(store.root().join("packs")))
            .count();
        assert!((1..=512).contains(&open), "{open} files are open");
        let child = Command::new("ls")
            .args(["-l", "/proc/self/fd"])
            .output()
            .unwrap();
        let listing = String::from_utf8_lossy(&child.stdout);
        assert!(
            !listing.contains(&store.root().display().to_string()),
            "{listing}"
        );
    }

    #[test]
    fn a_listing_gives_up_files_that_others_deleted() {
        let (_folder, store) = store();
        put(&store, "packs/ab/abcd");
        store.get_range("packs/ab/abcd", 0..1).unwrap();
        fs::remove_file(store.root().join("packs/ab/abcd")).unwrap();
        store.list("points/", "").unwrap();
        let error = store.get_range("packs/ab/abcd", 0..1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Missing);
    }

    #[test]
    fn a_truncated_object_is_damage() {
        let (_folder, store) = store();
        put(&store, "packs/ab/abcd");
        store.get_range("packs/ab/abcd", 0..7).unwrap();
        fs::write(store.root().join("packs/ab/abcd"), b"con").unwrap();
        for _ in 0..2 {
            let error = store.get_range("packs/ab/abcd", 0..7).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn folders_may_be_links_to_another_disk() {
        let (folder, store) = store();
        let elsewhere = folder.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, store.root().join("points")).unwrap();
        put(&store, "points/a");
        assert_eq!(fs::metadata(elsewhere.join("a")).unwrap().size(), 7);
        assert_eq!(store.list("points/", "").unwrap().len(), 1);
        assert_eq!(store.list("", "").unwrap().len(), 1);
    }

    #[test]
    fn strange_files_make_a_place_not_empty() {
        let (_folder, store) = store();
        fs::create_dir(store.root().join("lost+found")).unwrap();
        assert!(store.list("", "").unwrap().is_empty());
        fs::write(store.root().join("my photo.jpg"), b"").unwrap();
        assert_eq!(store.list("", "").unwrap()[0].name, "my photo.jpg");
    }

    #[test]
    fn a_store_without_noreplace_links_instead() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| folder.path().join(name));
        fs::write(&from, b"new").unwrap();
        rename_without_noreplace(&from, &to).unwrap();
        assert!(!from.exists() && fs::read(&to).unwrap() == b"new");
        fs::write(&from, b"newer").unwrap();
        let error = rename_without_noreplace(&from, &to).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&to).unwrap(), b"new");
    }
}
