//! Entries: one path with its metadata and content, as a run records it.

use crate::base::{ChunkId, Key, Origin, PackId, Row, Timestamp};

/// The two sections of a run. A row counts within one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// Directories, few and contiguous.
    Directories,
    /// Everything else.
    Files,
}

/// What a run records of one key in one section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The key has this entry from here on.
    Entry(Box<Entry>),
    /// The key has no entry in this section from here on; `excluded` if an exclude hides what may still be there.
    Tombstone { excluded: bool },
}

/// The type of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileType {
    Directory,
    Regular,
    Symlink,
    Fifo,
    Socket,
    CharacterDevice,
    BlockDevice,
}

impl FileType {
    /// The section that records entries of this type.
    pub fn section(self) -> Section {
        match self {
            Self::Directory => Section::Directories,
            _ => Section::Files,
        }
    }
}

/// One path's metadata and content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub metadata: Metadata,
    /// Where this version was first recorded; None if here, at this very row.
    pub origin: Option<Origin>,
    /// For a file with several links: the origin of its group's first member, by which they share an inode. None for
    /// one that is by itself. A group's first member names itself, by its own origin.
    pub group: Option<Origin>,
    pub flags: EntryFlags,
    /// BLAKE3 of the whole file, unkeyed; absent where one chunk is the file, and for files with over 4 GiB of holes.
    pub content_hash: Option<[u8; 32]>,
    pub content: Content,
    /// Fields that a later version appended, as they are.
    pub unknown: Vec<u8>,
}

/// What `stat`, `listxattr` and their like tell of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    pub file_type: FileType,
    /// Permission, setuid, setgid and sticky bits: the low 12 bits of st_mode.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    /// Birth time, where the file system tells it.
    pub btime: Option<Timestamp>,
    /// Bytes; for a symlink the target's length.
    pub size: u64,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
    pub links: u64,
    /// Major and minor number of a device, as st_rdev encodes them; 0 for all else.
    pub rdev: u64,
    /// The symlink's target; empty for all else.
    pub target: Vec<u8>,
    /// Extended attributes in order of names, ACLs among them, values raw.
    pub xattrs: Vec<Xattr>,
    /// Flags of chattr(1), as FS_IOC_GETFLAGS gives them; 0 where there are none.
    pub chattr: u32,
    /// The source's inode number.
    pub inode: u64,
    /// An ordinal for the source's device: entries of one run that have the same were on one device.
    pub device: u32,
}

/// An extended attribute: its whole name (`user.comment`) and its value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    pub name: Vec<u8>,
    pub value: Vec<u8>,
}

/// What is to be known of an entry beside its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EntryFlags {
    /// It changed while it was read.
    pub changed_while_read: bool,
    /// Its ctime was too close to its reading to tell whether it will change unseen: read it again next time.
    pub unsettled: bool,
    /// It could not be read, and the parent's entry stands for it.
    pub carried: bool,
    /// The directory is recorded only because something below it is: no change of its own.
    pub changed_below: bool,
}

/// A regular file's bytes, or a block device's; nothing for all else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// No byte is stored: an empty file, or something that is no file.
    Nothing,
    /// The file itself, of at most `INLINE_BYTES_MAX`.
    Inline(Vec<u8>),
    /// What covers the file from its first byte to its last, in order.
    Extents(Vec<Extent>),
    /// The same, in lists that are chunks of their own, each for the next `EXTENT_LIST_SPAN` bytes of the file.
    Lists(Vec<ExtentList>),
}

/// The longest file that stands in its entry, so that `find` reads little content.
pub const INLINE_BYTES_MAX: usize = 100;

/// Logical bytes of a file that one extent list covers (the last one covers the rest).
pub const EXTENT_LIST_SPAN: u64 = 64 << 20;

/// The next so many bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// A chunk's.
    Chunk(ChunkPlace),
    /// Nothing was ever written here.
    Hole(u64),
    /// Zeros were written here.
    Zeros(u64),
}

impl Extent {
    /// How many bytes of the file it covers.
    pub fn length(&self) -> u64 {
        match self {
            Self::Chunk(chunk) => u64::from(chunk.length),
            Self::Hole(length) | Self::Zeros(length) => *length,
        }
    }
}

/// A chunk, and where it was when this was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkPlace {
    pub id: ChunkId,
    /// Plain bytes.
    pub length: u32,
    pub hint: Hint,
}

/// Where a chunk lies, as far as a run knows: enough to fetch and open its frame without the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hint {
    pub pack: PackId,
    /// The frame's first byte in the pack.
    pub frame_offset: u32,
    /// The sealed frame's whole length in the pack.
    pub frame_length: u32,
    /// The chunk's first byte in the plain frame.
    pub offset_in_frame: u32,
}

/// A list of extents that is stored as a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtentList {
    pub chunk: ChunkPlace,
    /// Bytes of the file that the list covers.
    pub span: u64,
}

/// A record with its key and row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyedRecord {
    pub key: Key,
    pub row: Row,
    pub record: Record,
}
