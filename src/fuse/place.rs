//! Where a mount may go: an existing directory that hides nothing the mount itself depends on.
//!
//! A mount over its own repository would read itself, and the kernel would wait for an answer that never comes; so
//! nothing that serves the mount may lie over it, inside it or around it. Directories are compared by device and inode
//! number along both lines of parents, so that neither a symbolic link nor a bind mount leads around the check.
//!
//! A mount whose process died is still listed and answers ENOTCONN to everything; it is cleared away here.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use log::warn;
use rustix::io::Errno;

use super::mounts::{self, MountRecord};
use crate::base::{Error, ErrorKind, Result};

/// A directory that a mount must leave alone.
#[derive(Debug, Clone)]
pub struct Protected {
    /// Where it is.
    pub path: PathBuf,
    /// What it is, as messages call it: "the repository".
    pub noun: &'static str,
    /// May a mount lie inside it? A source may hold mounts, as a home directory does: backups pass mounts by.
    pub inside_is_allowed: bool,
}

/// Finds the directory that `named` means, clears a dead mount of this program from it, and makes sure that a mount
/// there hides none of `protected`, and nothing else unless `may_cover` says so. Returns its path, absolute and without
/// links.
///
/// # Errors
/// Usage, saying what is wrong with the place; Missing if it is not there.
pub fn prepare(named: &Path, protected: &[Protected], may_cover: bool) -> Result<PathBuf> {
    let listed = listed_place(named)?;
    let covered = mounts::mount_at(&listed)?;
    // Who lists the folder of an automounter waits for the very mount that is to be made.
    let is_automounted = covered
        .as_ref()
        .is_some_and(|record| record.file_system == "autofs");
    if let Some(record) = covered.filter(MountRecord::is_bygone) {
        if !is_dead(&listed) {
            return Err(refused(
                &listed,
                "bygone has something mounted there already; `bygone umount` takes it away",
            ));
        }
        mounts::detach(&record)?;
        warn!(
            "took away a mount at {} whose process had died",
            listed.display()
        );
    }
    let place = listed
        .canonicalize()
        .map_err(|error| not_found(&listed, error))?;
    let metadata = place
        .metadata()
        .map_err(|error| Error::io(format!("look at {}", place.display()), error))?;
    if !metadata.is_dir() {
        return Err(refused(&place, "it is not a directory"));
    }
    if place.parent().is_none() {
        return Err(refused(&place, "it is the root of the whole system"));
    }
    keep_apart(&place, protected)?;
    if !may_cover && !is_automounted && !is_empty(&place)? {
        return Err(refused(
            &place,
            "it is not empty, and what is in it would be hidden: name an empty folder, or give -o nonempty",
        ));
    }
    Ok(place)
}

fn is_empty(place: &Path) -> Result<bool> {
    let mut entries = std::fs::read_dir(place)
        .map_err(|error| Error::io(format!("look into {}", place.display()), error))?;
    Ok(entries.next().is_none())
}

/// Refuses `place`, absolute and without links, if a mount there would lie over, inside or around one of `protected`.
///
/// # Errors
/// Usage, naming what is in the way.
pub fn keep_apart(place: &Path, protected: &[Protected]) -> Result<()> {
    let line = identities(place);
    for one in protected {
        // What is not there cannot be hidden.
        let Ok(path) = one.path.canonicalize() else {
            continue;
        };
        let theirs = identities(&path);
        let (Some(own), Some(its)) = (line.first(), theirs.first()) else {
            continue;
        };
        let relation = if own == its {
            "over"
        } else if theirs.contains(own) {
            "around"
        } else if line.contains(its) && !one.inside_is_allowed {
            "inside"
        } else {
            continue;
        };
        return Err(refused(
            place,
            &format!(
                "it would lie {relation} {} {}",
                one.noun,
                one.path.display()
            ),
        ));
    }
    Ok(())
}

fn refused(place: &Path, reason: &str) -> Error {
    Error::new(
        ErrorKind::Usage,
        format!("cannot mount at {}: {reason}", place.display()),
    )
}

/// Device and inode number of `path` and of every directory above it, itself first.
fn identities(path: &Path) -> Vec<(u64, u64)> {
    let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
    path.ancestors()
        .filter_map(|ancestor| ancestor.metadata().ok())
        .map(identity)
        .collect()
}

/// Has the process behind the FUSE mount at `place` died? Asks what the kernel answers from no cache.
fn is_dead(place: &Path) -> bool {
    rustix::fs::statfs(place).is_err_and(|error| error == Errno::NOTCONN)
}

fn not_found(place: &Path, error: io::Error) -> Error {
    if error.raw_os_error() == Some(Errno::NOTCONN.raw_os_error()) {
        return refused(
            place,
            "what is mounted there has lost its process; `fusermount3 -u` takes it away",
        );
    }
    if error.kind() == io::ErrorKind::NotFound {
        return Error::new(
            ErrorKind::Missing,
            format!(
                "cannot mount at {}: there is no such folder, and a mount needs an empty one",
                place.display()
            ),
        );
    }
    Error::io(format!("find {}", place.display()), error)
}

/// The path under which the system lists a mount at `named`: absolute and without links, found without a question to
/// the mount itself, which may be dead.
///
/// # Errors
/// The directory above it is not there.
pub fn listed_place(named: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(named)
        .map_err(|error| Error::io(format!("find {}", named.display()), error))?;
    let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
        // The root, or something that ends in "..".
        return absolute
            .canonicalize()
            .map_err(|error| not_found(&absolute, error));
    };
    let parent = parent
        .canonicalize()
        .map_err(|error| Error::io(format!("find {}", parent.display()), error))?;
    let place = parent.join(name);
    // A link leads to the mount's true place; a dead mount is no link and cannot be read as one.
    match std::fs::read_link(&place) {
        Ok(_) => place
            .canonicalize()
            .map_err(|error| not_found(&place, error)),
        Err(_) => Ok(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protected(path: &Path, inside_is_allowed: bool) -> Protected {
        Protected {
            path: path.to_owned(),
            noun: "the repository",
            inside_is_allowed,
        }
    }

    fn message(place: &Path, protected: &Protected) -> String {
        prepare(place, std::slice::from_ref(protected), false)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_place_over_inside_or_around_the_repository_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let outer = folder.path().join("outer");
        let repository = outer.join("repository");
        let inner = repository.join("packs");
        std::fs::create_dir_all(&inner).unwrap();
        let repository = protected(&repository, false);
        assert!(message(&repository.path, &repository).contains("over the repository"));
        assert!(message(&inner, &repository).contains("inside the repository"));
        assert!(message(&outer, &repository).contains("around the repository"));
    }

    #[test]
    fn a_link_leads_around_no_check() {
        let folder = tempfile::tempdir().unwrap();
        let repository = folder.path().join("repository");
        std::fs::create_dir(&repository).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&repository, &link).unwrap();
        assert!(message(&link, &protected(&repository, false)).contains("over the repository"));
        assert!(message(&repository, &protected(&link, false)).contains("over the repository"));
    }

    #[test]
    fn a_place_inside_a_source_is_taken_and_one_over_it_refused() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        let inner = source.join("mnt");
        std::fs::create_dir_all(&inner).unwrap();
        let source = protected(&source, true);
        assert_eq!(
            prepare(&inner, std::slice::from_ref(&source), false).unwrap(),
            inner.canonicalize().unwrap()
        );
        assert!(message(&source.path, &source).contains("over"));
    }

    #[test]
    fn neighbours_whose_names_begin_alike_are_apart() {
        let folder = tempfile::tempdir().unwrap();
        let repository = folder.path().join("repo");
        let place = folder.path().join("repo-mount");
        std::fs::create_dir(&repository).unwrap();
        std::fs::create_dir(&place).unwrap();
        prepare(&place, &[protected(&repository, false)], false).unwrap();
    }

    #[test]
    fn a_place_that_is_missing_a_file_or_the_root_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let missing = prepare(&folder.path().join("none"), &[], false).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::Missing);
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(
            prepare(&file, &[], false).unwrap_err().kind(),
            ErrorKind::Usage
        );
        assert_eq!(
            prepare(Path::new("/"), &[], false).unwrap_err().kind(),
            ErrorKind::Usage
        );
    }

    #[test]
    fn a_folder_with_something_in_it_is_covered_only_on_request() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let refused = prepare(folder.path(), &[], false).unwrap_err();
        assert!(refused.to_string().contains("it is not empty"), "{refused}");
        prepare(folder.path(), &[], true).unwrap();
    }

    #[test]
    fn a_listed_place_is_absolute_and_without_links_above_it() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap().join("real");
        std::fs::create_dir_all(real.join("mnt")).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(listed_place(&link.join("mnt/")).unwrap(), real.join("mnt"));
        assert_eq!(listed_place(&link).unwrap(), real);
        assert_eq!(listed_place(Path::new("/")).unwrap(), Path::new("/"));
        assert_eq!(listed_place(&real.join("mnt/..")).unwrap(), real);
    }
}
