//! What one `statx` tells of a file: everything of its metadata that costs no opening.

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, Statx, StatxFlags, StatxTimestamp};
use rustix::io::Result;

use crate::base::Timestamp;
use crate::format::{FileType, Metadata, Xattr};

/// A file's status. Two of the same file differ only if the file changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub file_type: FileType,
    /// The low 12 bits of st_mode.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    pub btime: Option<Timestamp>,
    /// Bytes.
    pub size: u64,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
    pub links: u64,
    /// As st_rdev encodes it; 0 for what is no device.
    pub rdev: u64,
    pub inode: u64,
    /// The device that holds the file, as st_dev encodes it.
    pub device: u64,
}

/// What tells a file from all others that exist at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    pub device: u64,
    pub inode: u64,
}

impl Status {
    /// The status of `name` in `directory`, of a symlink itself; nothing is mounted for it. An empty name asks for
    /// `directory` itself.
    ///
    /// # Errors
    /// The system's.
    pub fn of(directory: impl AsFd, name: &[u8]) -> Result<Self> {
        let mut flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        if name.is_empty() {
            flags |= AtFlags::EMPTY_PATH;
        }
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        rustix::fs::statx(directory, name, flags, wanted).map(|statx| Self::from_statx(&statx))
    }

    fn from_statx(statx: &Statx) -> Self {
        let has_btime = statx.stx_mask & StatxFlags::BTIME.bits() != 0;
        let file_type = file_type(statx.stx_mode);
        let is_device = matches!(file_type, FileType::CharacterDevice | FileType::BlockDevice);
        Self {
            file_type,
            mode: u32::from(statx.stx_mode) & 0o7777,
            uid: statx.stx_uid,
            gid: statx.stx_gid,
            mtime: timestamp(&statx.stx_mtime),
            ctime: timestamp(&statx.stx_ctime),
            btime: has_btime.then(|| timestamp(&statx.stx_btime)),
            size: statx.stx_size,
            blocks: statx.stx_blocks,
            links: u64::from(statx.stx_nlink),
            rdev: if is_device {
                rustix::fs::makedev(statx.stx_rdev_major, statx.stx_rdev_minor)
            } else {
                0
            },
            inode: statx.stx_ino,
            device: rustix::fs::makedev(statx.stx_dev_major, statx.stx_dev_minor),
        }
    }

    /// What tells this file from all others.
    pub fn identity(&self) -> Identity {
        Identity {
            device: self.device,
            inode: self.inode,
        }
    }

    /// Is it a directory?
    pub fn is_directory(&self) -> bool {
        self.file_type == FileType::Directory
    }

    /// Bytes of content: a regular file's size, 0 for all else.
    pub fn content_bytes(&self) -> u64 {
        match self.file_type {
            FileType::Regular => self.size,
            _ => 0,
        }
    }

    /// Is this the version that `recorded` describes? By type, size, mtime, ctime and inode: not by the device, whose
    /// number changes across reboots and snapshots.
    pub fn is_version(&self, recorded: &Metadata) -> bool {
        self.file_type == recorded.file_type
            && self.size == recorded.size
            && self.mtime == recorded.mtime
            && self.ctime == recorded.ctime
            && self.inode == recorded.inode
    }

    /// Does `recorded` say all that this says? The device apart.
    pub fn equals(&self, recorded: &Metadata) -> bool {
        self.is_version(recorded)
            && self.mode == recorded.mode
            && self.uid == recorded.uid
            && self.gid == recorded.gid
            && self.btime == recorded.btime
            && self.blocks == recorded.blocks
            && self.links == recorded.links
            && self.rdev == recorded.rdev
    }

    /// Puts all that this says into `metadata`, and leaves there what only opening the file tells. The device is left
    /// too, for it is an ordinal of the run.
    pub fn update(&self, metadata: &mut Metadata) {
        *metadata = Metadata {
            file_type: self.file_type,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            ctime: self.ctime,
            btime: self.btime,
            size: self.size,
            blocks: self.blocks,
            links: self.links,
            rdev: self.rdev,
            target: std::mem::take(&mut metadata.target),
            xattrs: std::mem::take(&mut metadata.xattrs),
            chattr: metadata.chattr,
            inode: self.inode,
            device: metadata.device,
        };
    }

    /// Becomes what `recorded` says, on the device that this says.
    pub fn learn(&mut self, recorded: &Metadata) {
        *self = Self {
            file_type: recorded.file_type,
            mode: recorded.mode,
            uid: recorded.uid,
            gid: recorded.gid,
            mtime: recorded.mtime,
            ctime: recorded.ctime,
            btime: recorded.btime,
            size: recorded.size,
            blocks: recorded.blocks,
            links: recorded.links,
            rdev: recorded.rdev,
            inode: recorded.inode,
            device: self.device,
        };
    }

    /// This as an entry's metadata, together with what only opening the file tells. The device's ordinal is 0.
    pub fn with_details(&self, details: Details) -> Metadata {
        Metadata {
            file_type: self.file_type,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
            ctime: self.ctime,
            btime: self.btime,
            size: self.size,
            blocks: self.blocks,
            links: self.links,
            rdev: self.rdev,
            target: details.target,
            xattrs: details.xattrs,
            chattr: details.chattr,
            inode: self.inode,
            device: 0,
        }
    }
}

/// What only opening a file tells of its metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// A symlink's target; else empty.
    pub target: Vec<u8>,
    /// In order of names.
    pub xattrs: Vec<Xattr>,
    /// As FS_IOC_GETFLAGS gives them; 0 where there are none.
    pub chattr: u32,
}

fn file_type(mode: u16) -> FileType {
    match rustix::fs::FileType::from_raw_mode(u32::from(mode)) {
        rustix::fs::FileType::Directory => FileType::Directory,
        rustix::fs::FileType::Symlink => FileType::Symlink,
        rustix::fs::FileType::Fifo => FileType::Fifo,
        rustix::fs::FileType::Socket => FileType::Socket,
        rustix::fs::FileType::CharacterDevice => FileType::CharacterDevice,
        rustix::fs::FileType::BlockDevice => FileType::BlockDevice,
        // Linux has no other types.
        rustix::fs::FileType::RegularFile | rustix::fs::FileType::Unknown => FileType::Regular,
    }
}

fn timestamp(time: &StatxTimestamp) -> Timestamp {
    Timestamp {
        seconds: time.tv_sec,
        nanoseconds: time.tv_nsec,
    }
}
