//! Where files are put: a directory, and the way down from it by names alone.
//!
//! Invariant: no symlink below the target is ever followed. Each directory on the way is opened by its name in the one
//! before (O_NOFOLLOW), and whatever is done to an entry is done by its name in its directory, so that neither a symlink
//! that was there before nor one that somebody puts there meanwhile leads out.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType as SystemType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::base::{Error, Result};

/// What the system answers.
pub(super) type System<T> = std::result::Result<T, Errno>;

/// Directories on the way that stay open: deeper ones are opened anew from the last of these.
const OPEN_MAX: usize = 64;

/// A directory under which things are restored.
pub(super) struct Target {
    directory: OwnedFd,
    path: PathBuf,
}

/// Goes down from the target to one directory after another. Those on the way stay open for the next.
pub(super) struct Descent<'a> {
    target: &'a Target,
    way: Vec<Step>,
}

struct Step {
    name: Vec<u8>,
    directory: Option<OwnedFd>,
}

impl Target {
    /// The directory at `path`, made with all above it if it is not there.
    ///
    /// # Errors
    /// It cannot be made or opened.
    pub(super) fn make(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path)
            .map_err(|error| Error::io(format!("make {}", path.display()), error))?;
        Self::open(path)
    }

    /// The directory at `path`.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| Error::io(format!("open {}", path.display()), error.into()))?;
        Ok(Self {
            directory,
            path: path.to_owned(),
        })
    }

    /// How messages name what is at `path` below this.
    pub(super) fn shown(&self, path: &[u8]) -> PathBuf {
        match path {
            [] => self.path.clone(),
            path => self.path.join(OsStr::from_bytes(path)),
        }
    }

    /// A way down from here.
    pub(super) fn descent(&self) -> Descent<'_> {
        Descent {
            target: self,
            way: Vec::new(),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.path.display())
    }
}

impl Descent<'_> {
    /// The directory at `path`, names from the target down, a slash between any two.
    ///
    /// # Errors
    /// NOTDIR where something else is on the way, a symlink for one.
    pub(super) fn directory(&mut self, path: &[u8]) -> System<BorrowedFd<'_>> {
        let names: Vec<&[u8]> = names(path).collect();
        let common = self
            .way
            .iter()
            .zip(&names)
            .take_while(|(step, name)| step.name == **name)
            .count();
        self.way.truncate(common);
        while self.way.last().is_some_and(|step| step.directory.is_none()) {
            self.way.pop();
        }
        for name in &names[self.way.len()..] {
            let directory = open_directory(self.last(), name, OFlags::PATH)?;
            let depth = self.way.len();
            if depth > OPEN_MAX
                && let Some(before) = self.way.last_mut()
            {
                before.directory = None;
            }
            self.way.push(Step {
                name: name.to_vec(),
                directory: Some(directory),
            });
        }
        Ok(self.last())
    }

    /// The directory that holds what is at `path`, and the name in it. The target itself has neither.
    pub(super) fn place<'a>(&mut self, path: &'a [u8]) -> System<(BorrowedFd<'_>, &'a [u8])> {
        let (parent, name) = split(path);
        Ok((self.directory(parent)?, name))
    }

    fn last(&self) -> BorrowedFd<'_> {
        match self.way.last().and_then(|step| step.directory.as_ref()) {
            Some(directory) => directory.as_fd(),
            None => self.target.directory.as_fd(),
        }
    }
}

/// The names in a path.
fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
}

/// A path's directory and its last name.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// `name` in the directory at `parent`.
pub(super) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    match parent {
        [] => name.to_vec(),
        parent => [parent, b"/", name].concat(),
    }
}

/// The directory `name` in `parent`, which must be no symlink.
pub(super) fn open_directory(
    parent: BorrowedFd<'_>,
    name: &[u8],
    flags: OFlags,
) -> System<OwnedFd> {
    let flags = flags | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

/// What is at `name`; None if nothing is.
pub(super) fn look(directory: BorrowedFd<'_>, name: &[u8]) -> System<Option<Stat>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names in a directory.
pub(super) fn list(parent: BorrowedFd<'_>, name: &[u8]) -> System<Vec<Vec<u8>>> {
    let name = if name.is_empty() { b"." } else { name };
    let directory = open_directory(parent, name, OFlags::RDONLY)?;
    let mut names = Vec::new();
    for entry in Dir::new(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Takes away what is at `name`, and all below it if it is a directory. Returns how many things that were.
pub(super) fn remove_tree(parent: BorrowedFd<'_>, name: &[u8]) -> System<u64> {
    let Some(stat) = look(parent, name)? else {
        return Ok(0);
    };
    if SystemType::from_raw_mode(stat.st_mode) != SystemType::Directory {
        rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
        return Ok(1);
    }
    let mut removed = 1;
    let directory = open_directory(parent, name, OFlags::PATH)?;
    for child in list(parent, name)? {
        removed += remove_tree(directory.as_fd(), &child)?;
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?;
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_and_joined() {
        assert_eq!(split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(split(b"a"), (&b""[..], &b"a"[..]));
        assert_eq!(join(b"", b"a"), b"a");
        assert_eq!(join(b"a/b", b"c"), b"a/b/c");
    }

    #[test]
    fn a_way_down_follows_names_however_deep_and_no_symlink() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::make(&folder.path().join("made/for/this")).unwrap();
        let mut descent = target.descent();
        // Far deeper than directories stay open, and longer than a path of the system may be.
        let name = b"a name of some length".repeat(4);
        let mut path = Vec::new();
        for _ in 0..OPEN_MAX + 30 {
            let directory = descent.directory(&path).unwrap();
            rustix::fs::mkdirat(directory, &name, Mode::RWXU).unwrap();
            path = join(&path, &name);
        }
        assert!(path.len() > 4096);
        let deepest = rustix::fs::fstat(descent.directory(&path).unwrap()).unwrap();
        descent.directory(&name).unwrap();
        let again = rustix::fs::fstat(descent.directory(&path).unwrap()).unwrap();
        assert_eq!(deepest.st_ino, again.st_ino);

        let directory = descent.directory(b"").unwrap();
        rustix::fs::symlinkat(&name[..], directory, "leads").unwrap();
        for path in [&b"leads"[..], b"leads/further"] {
            assert_eq!(descent.directory(path).unwrap_err(), Errno::NOTDIR);
        }
        let (directory, name) = descent.place(&name).unwrap();
        assert_eq!(remove_tree(directory, name).unwrap(), OPEN_MAX as u64 + 30);
        assert_eq!(
            list(descent.directory(b"").unwrap(), b"").unwrap(),
            [b"leads"]
        );
    }
}
