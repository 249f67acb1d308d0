//! What `stat` and `listxattr` tell, given back to a file: owner, extended attributes and ACLs, mode, times.
//!
//! In this order: a change of owner takes setuid bits and capabilities away, an ACL changes the mode, and all of them
//! change the times. A directory comes after all that is put into it.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Gid, IFlags, Mode, OFlags, Stat, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::target::System;
use crate::base::Timestamp;
use crate::format::{FileType, Metadata, Xattr};

/// The system's bound on a list of names, and on a value.
const XATTR_BYTES_MAX: usize = 64 << 10;

/// Flags of chattr(1) that people set: the others say how the file system keeps a file.
const FLAGS_OF_PEOPLE: u32 = IFlags::SECURE_REMOVAL.bits()
    | IFlags::SYNC.bits()
    | IFlags::IMMUTABLE.bits()
    | IFlags::APPEND.bits()
    | IFlags::NODUMP.bits()
    | IFlags::NOATIME.bits()
    | IFlags::DIRSYNC.bits()
    | IFlags::NOCOW.bits();

/// Those after which nothing else can be done to a file.
const FLAGS_LAST: u32 = IFlags::IMMUTABLE.bits() | IFlags::APPEND.bits();

/// What could not be given to a file.
#[derive(Debug, Default)]
pub(super) struct Problems {
    /// This process may not give files away.
    pub(super) owner: bool,
    /// Everything else, each for a person.
    pub(super) others: Vec<String>,
}

/// A file that metadata is given to: an open one, or a name in a directory.
pub(super) enum Thing<'a> {
    /// A regular file or a directory, opened for reading or writing.
    Open(BorrowedFd<'a>),
    /// Anything, by a handle that only names it (O_PATH).
    Named(&'a OwnedFd),
}

impl Problems {
    fn note(&mut self, what: impl FnOnce() -> String, result: System<()>) {
        if let Err(error) = result {
            self.others
                .push(format!("cannot {}: {}", what(), describe(error)));
        }
    }
}

/// An errno as a person reads it.
pub(super) fn describe(error: Errno) -> String {
    std::io::Error::from(error).to_string()
}

/// A handle that names what is at `name`, whatever it is.
pub(super) fn name_handle(directory: BorrowedFd<'_>, name: &[u8]) -> System<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

impl Thing<'_> {
    /// The way to the very file of a handle that only names it.
    fn way(&self) -> Option<String> {
        match self {
            Self::Open(_) => None,
            Self::Named(handle) => Some(format!("/proc/self/fd/{}", handle.as_raw_fd())),
        }
    }

    fn handle(&self) -> BorrowedFd<'_> {
        match self {
            Self::Open(file) => *file,
            Self::Named(handle) => handle.as_fd(),
        }
    }

    /// Gives it `metadata`, its owner if `owner` says so. `now` is what it has.
    pub(super) fn give(&self, metadata: &Metadata, now: &Stat, owner: bool) -> Problems {
        let mut problems = Problems::default();
        if owner {
            self.give_owner(metadata, now, &mut problems);
        }
        self.give_xattrs(metadata, &mut problems);
        if metadata.file_type != FileType::Symlink {
            problems.note(|| "set its mode".to_owned(), self.give_mode(metadata.mode));
        }
        let times = times(metadata.mtime);
        let given = match self.way() {
            None => rustix::fs::futimens(self.handle(), &times),
            Some(way) => rustix::fs::utimensat(rustix::fs::CWD, way, &times, AtFlags::empty()),
        };
        problems.note(|| "set its times".to_owned(), given);
        problems
    }

    fn give_owner(&self, metadata: &Metadata, now: &Stat, problems: &mut Problems) {
        if (now.st_uid, now.st_gid) == (metadata.uid, metadata.gid) {
            return;
        }
        let chown = |uid: Option<u32>, gid: Option<u32>| {
            rustix::fs::chownat(
                self.handle(),
                "",
                uid.map(Uid::from_raw),
                gid.map(Gid::from_raw),
                AtFlags::EMPTY_PATH,
            )
        };
        match chown(Some(metadata.uid), Some(metadata.gid)) {
            // Of the groups that they are in, everybody may give.
            Err(Errno::PERM) => {
                let group = chown(None, Some(metadata.gid));
                problems.owner |= now.st_uid != metadata.uid || group.is_err();
            }
            result => problems.note(|| "set its owner".to_owned(), result),
        }
    }

    fn give_mode(&self, mode: u32) -> System<()> {
        let mode = Mode::from_raw_mode(mode);
        match self.way() {
            None => rustix::fs::fchmod(self.handle(), mode),
            Some(way) => rustix::fs::chmod(way, mode),
        }
    }

    /// Makes its extended attributes those of `metadata`.
    fn give_xattrs(&self, metadata: &Metadata, problems: &mut Problems) {
        let names = match self.xattr_names() {
            Ok(names) => names,
            Err(_) if metadata.xattrs.is_empty() => return,
            Err(error) => {
                problems.others.push(format!(
                    "cannot set its extended attributes: {}",
                    describe(error)
                ));
                return;
            }
        };
        let is_wanted = |name: &[u8]| metadata.xattrs.iter().any(|xattr| xattr.name == name);
        for name in names
            .iter()
            .filter(|name| !is_wanted(name) && is_ours(name))
        {
            let removed = match self.way() {
                None => rustix::fs::fremovexattr(self.handle(), name),
                Some(way) => rustix::fs::removexattr(way, name),
            };
            problems.note(|| format!("take {} away", shown(name)), removed);
        }
        for xattr in &metadata.xattrs {
            if names.contains(&xattr.name) && self.has_xattr(xattr) {
                continue;
            }
            let flags = XattrFlags::empty();
            let given = match self.way() {
                None => rustix::fs::fsetxattr(self.handle(), &xattr.name, &xattr.value, flags),
                Some(way) => rustix::fs::setxattr(way, &xattr.name, &xattr.value, flags),
            };
            problems.note(|| format!("set {}", shown(&xattr.name)), given);
        }
    }

    fn xattr_names(&self) -> System<Vec<Vec<u8>>> {
        let mut room = [0_u8; 512];
        let list = |room: &mut [u8]| match self.way() {
            None => rustix::fs::flistxattr(self.handle(), room),
            Some(way) => rustix::fs::listxattr(way, room),
        };
        let split = |names: &[u8]| {
            names
                .split(|byte| *byte == 0)
                .filter(|name| !name.is_empty())
                .map(<[u8]>::to_vec)
                .collect()
        };
        match list(&mut room) {
            Ok(length) => Ok(split(&room[..length])),
            Err(Errno::RANGE) => {
                let mut room = vec![0; XATTR_BYTES_MAX];
                let length = list(&mut room)?;
                Ok(split(&room[..length]))
            }
            Err(error) => Err(error),
        }
    }

    fn has_xattr(&self, xattr: &Xattr) -> bool {
        // One byte more, to tell a longer value; an empty room would ask for the length.
        let mut room = vec![0; xattr.value.len() + 1];
        let length = match self.way() {
            None => rustix::fs::fgetxattr(self.handle(), &xattr.name, &mut room[..]),
            Some(way) => rustix::fs::getxattr(way, &xattr.name, &mut room[..]),
        };
        length.is_ok_and(|length| room[..length] == xattr.value[..])
    }

    /// Has it all that `metadata` says, and its owner if `owner` says so?
    pub(super) fn has(&self, metadata: &Metadata, now: &Stat, owner: bool) -> bool {
        let is_owned = !owner || (now.st_uid, now.st_gid) == (metadata.uid, metadata.gid);
        let has_mode =
            metadata.file_type == FileType::Symlink || now.st_mode & 0o7777 == metadata.mode;
        is_owned && has_mode && has_mtime(now, metadata.mtime) && self.has_xattrs(metadata)
    }

    fn has_xattrs(&self, metadata: &Metadata) -> bool {
        let Ok(names) = self.xattr_names() else {
            return metadata.xattrs.is_empty();
        };
        let is_wanted = |name: &Vec<u8>| metadata.xattrs.iter().any(|xattr| xattr.name == *name);
        names.iter().all(|name| is_wanted(name) || !is_ours(name))
            && metadata
                .xattrs
                .iter()
                .all(|xattr| names.contains(&xattr.name) && self.has_xattr(xattr))
    }
}

/// Was a file last changed then?
pub(super) fn has_mtime(now: &Stat, mtime: Timestamp) -> bool {
    now.st_mtime == mtime.seconds && now.st_mtime_nsec == u64::from(mtime.nanoseconds)
}

/// A file's access time stays what it is.
fn times(mtime: Timestamp) -> Timestamps {
    Timestamps {
        last_access: rustix::fs::Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        },
        last_modification: rustix::fs::Timespec {
            tv_sec: mtime.seconds,
            tv_nsec: i64::from(mtime.nanoseconds),
        },
    }
}

/// May an extended attribute that a point does not have be taken away? Those of security modules are the system's.
fn is_ours(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
        || name.starts_with(b"system.posix_acl_")
        || name == b"security.capability"
}

fn shown(name: &[u8]) -> String {
    format!("the extended attribute {}", String::from_utf8_lossy(name))
}

/// The flags of chattr(1) to be set once a file is in place; None if there are none.
pub(super) fn late_flags(metadata: &Metadata) -> Option<u32> {
    let flags = metadata.chattr & FLAGS_OF_PEOPLE;
    (flags != 0).then_some(flags)
}

/// Sets flags of chattr(1) beside those that a file has. Those that close it come after all else.
pub(super) fn give_flags(file: impl AsFd, flags: u32) -> System<()> {
    let now = match rustix::fs::ioctl_getflags(&file) {
        Ok(now) => now.bits(),
        // There are none on this file system.
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL) if flags & FLAGS_LAST == 0 => {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if now & flags == flags {
        return Ok(());
    }
    rustix::fs::ioctl_setflags(&file, IFlags::from_bits_retain(now | flags))
}
