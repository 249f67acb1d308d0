//! Attributes of the tree in the kernel's words, and for how long the kernel may believe them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType as FuseType, INodeNo};

use super::options::MountOptions;
use crate::base::Timestamp;
use crate::format::FileType;
use crate::tree::{Attributes, DirectoryEntry, Lifetime, NodeId, Owner};

/// Longer than any mount lasts.
pub(super) const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// For what changes when a point comes: a stat a second is no burden, and the kernel is told besides.
const SHORT: Duration = Duration::from_secs(1);

/// The preferred size of a read, st_blksize: the kernel's page. Programs that copy use more of their own accord.
const BLOCK_BYTES: u32 = 4096;

/// How long the kernel keeps the name of an entry and its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lifetimes {
    pub(super) entry: Duration,
    pub(super) attributes: Duration,
}

/// Shows attributes as the mount's options want them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Presenter {
    owner: Option<Owner>,
    /// A single point shares no directory with another: each may be shown by its node id, which any answer can tell.
    /// Those of several points share inode numbers, which only GETATTR can tell.
    shares_directories: bool,
}

impl Presenter {
    pub(super) fn new(options: &MountOptions, shares_directories: bool) -> Self {
        Self {
            owner: options.owner,
            shares_directories,
        }
    }

    /// For a reply that names a node: its inode number is the node's id, whatever `stat` is to show.
    pub(super) fn by_node(&self, attributes: &Attributes) -> FileAttr {
        self.present(attributes, attributes.node.0)
    }

    /// For a reply to GETATTR, which is the last word on the inode number.
    pub(super) fn by_inode(&self, attributes: &Attributes) -> FileAttr {
        self.present(attributes, self.inode(attributes))
    }

    /// Those of a reply to LOOKUP. A directory whose inode number is not its node id must be asked about once more.
    pub(super) fn of_lookup(&self, attributes: &Attributes) -> Lifetimes {
        let entry = duration(attributes.lifetime);
        let attributes = if self.shows_node_id(attributes) {
            entry
        } else {
            Duration::ZERO
        };
        Lifetimes { entry, attributes }
    }

    /// That of an entry of READDIRPLUS, one for name and attributes: none for a directory whose inode number is not its
    /// node id. Its first use then costs a LOOKUP and a GETATTR, and those after it nothing.
    pub(super) fn of_listing(&self, attributes: &Attributes) -> Duration {
        self.of_lookup(attributes).attributes
    }

    /// An entry whose attributes are not at hand: it is asked about before it is used.
    pub(super) fn unknown(&self, entry: &DirectoryEntry<'_>) -> FileAttr {
        self.present(&placeholder(entry.node, entry.file_type), entry.node.0)
    }

    fn inode(&self, attributes: &Attributes) -> u64 {
        if self.shares_directories {
            attributes.inode
        } else {
            attributes.node.0
        }
    }

    fn shows_node_id(&self, attributes: &Attributes) -> bool {
        self.inode(attributes) == attributes.node.0
    }

    fn present(&self, attributes: &Attributes, inode: u64) -> FileAttr {
        let owner = self.owner.unwrap_or(Owner {
            uid: attributes.uid,
            gid: attributes.gid,
        });
        let mtime = system_time(attributes.mtime);
        FileAttr {
            ino: INodeNo(inode),
            size: attributes.size,
            blocks: attributes.blocks,
            // Nobody's reading is recorded: the last change is the nearest that is known.
            atime: mtime,
            mtime,
            ctime: system_time(attributes.ctime),
            crtime: attributes.btime.map_or(UNIX_EPOCH, system_time),
            kind: fuse_type(attributes.file_type),
            // The low 12 bits of st_mode.
            perm: (attributes.mode & 0o7777) as u16,
            nlink: u32::try_from(attributes.links).unwrap_or(u32::MAX),
            uid: owner.uid,
            gid: owner.gid,
            rdev: kernel_device(attributes.rdev),
            blksize: BLOCK_BYTES,
            flags: 0,
        }
    }
}

/// What can be said of a node of which only the type is known.
pub(super) fn placeholder(node: NodeId, file_type: FileType) -> Attributes {
    let time = Timestamp::default();
    Attributes {
        node,
        inode: node.0,
        file_type,
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: time,
        ctime: time,
        btime: None,
        size: 0,
        blocks: 0,
        links: 1,
        rdev: 0,
        lifetime: Lifetime::Short,
    }
}

pub(super) fn duration(lifetime: Lifetime) -> Duration {
    match lifetime {
        Lifetime::Forever => FOREVER,
        Lifetime::Short => SHORT,
    }
}

pub(super) fn fuse_type(file_type: FileType) -> FuseType {
    match file_type {
        FileType::Directory => FuseType::Directory,
        FileType::Regular => FuseType::RegularFile,
        FileType::Symlink => FuseType::Symlink,
        FileType::Fifo => FuseType::NamedPipe,
        FileType::Socket => FuseType::Socket,
        FileType::CharacterDevice => FuseType::CharDevice,
        FileType::BlockDevice => FuseType::BlockDevice,
    }
}

/// The moment as the standard library tells it; one that it cannot tell becomes 1970.
fn system_time(time: Timestamp) -> SystemTime {
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let second = if time.seconds < 0 {
        UNIX_EPOCH.checked_sub(whole)
    } else {
        UNIX_EPOCH.checked_add(whole)
    };
    let nanoseconds = Duration::from_nanos(u64::from(time.nanoseconds));
    second
        .and_then(|second| second.checked_add(nanoseconds))
        .unwrap_or(UNIX_EPOCH)
}

/// A device's number in the 32 bits that FUSE has for it: 12 for the major one, 20 for the minor one around them, as the
/// kernel's new_encode_dev does. st_rdev has 64.
fn kernel_device(device: u64) -> u32 {
    let (major, minor) = (libc::major(device), libc::minor(device));
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(node: u64, inode: u64, lifetime: Lifetime) -> Attributes {
        Attributes {
            inode,
            lifetime,
            ..placeholder(NodeId(node), FileType::Directory)
        }
    }

    fn presenter(shares_directories: bool) -> Presenter {
        Presenter::new(&MountOptions::default(), shares_directories)
    }

    #[test]
    fn a_directory_that_points_share_is_believed_by_getattr_only() {
        let shared = directory(70, 9, Lifetime::Forever);
        let several = presenter(true);
        assert_eq!(several.by_node(&shared).ino, INodeNo(70));
        assert_eq!(several.by_inode(&shared).ino, INodeNo(9));
        let lookup = several.of_lookup(&shared);
        assert_eq!(lookup.entry, FOREVER);
        assert_eq!(lookup.attributes, Duration::ZERO);
        assert_eq!(several.of_listing(&shared), Duration::ZERO);
    }

    #[test]
    fn in_the_mount_of_one_point_every_answer_lasts() {
        let shared = directory(70, 9, Lifetime::Forever);
        let single = presenter(false);
        assert_eq!(single.by_inode(&shared).ino, INodeNo(70));
        assert_eq!(single.of_lookup(&shared).attributes, FOREVER);
        assert_eq!(single.of_listing(&shared), FOREVER);
    }

    #[test]
    fn what_changes_is_believed_for_a_second() {
        let view = directory(5, 5, Lifetime::Short);
        let lookup = presenter(true).of_lookup(&view);
        assert_eq!((lookup.entry, lookup.attributes), (SHORT, SHORT));
    }

    #[test]
    fn times_before_1970_and_beyond_belief_are_told() {
        let told = |seconds, nanoseconds| {
            system_time(Timestamp {
                seconds,
                nanoseconds,
            })
        };
        assert_eq!(told(-1, 999_999_999), UNIX_EPOCH - Duration::from_nanos(1));
        assert_eq!(told(3, 7), UNIX_EPOCH + Duration::new(3, 7));
        let _no_panic = (told(i64::MIN, 0), told(i64::MAX, 999_999_999));
    }

    #[test]
    fn device_numbers_pass_through_the_kernels_encoding() {
        assert_eq!(kernel_device(libc::makedev(8, 1)), 0x801);
        assert_eq!(kernel_device(libc::makedev(259, 0x12345)), 0x1231_0345);
    }

    #[test]
    fn an_owner_that_is_given_owns_everything() {
        let options = MountOptions {
            owner: Some(Owner { uid: 12, gid: 34 }),
            ..MountOptions::default()
        };
        let shown = Presenter::new(&options, true).by_inode(&directory(5, 5, Lifetime::Short));
        assert_eq!((shown.uid, shown.gid), (12, 34));
    }
}
