//! What the tree says of a node, in the words of `stat`.

use crate::base::Timestamp;
use crate::format::{FileType, Metadata};

use super::node::NodeId;

/// What `stat` tells of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    pub node: NodeId,
    /// st_ino. The node's id but for directories of points, which share theirs with the points that inherit them.
    pub inode: u64,
    pub file_type: FileType,
    /// Permission, setuid, setgid and sticky bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    /// Birth time, where the source told it.
    pub btime: Option<Timestamp>,
    /// Bytes.
    pub size: u64,
    /// Allocated blocks of 512 bytes, as the source had them.
    pub blocks: u64,
    pub links: u64,
    /// A device's number as st_rdev encodes it; 0 for all else.
    pub rdev: u64,
    pub lifetime: Lifetime,
}

/// For how long a node and its name stay what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as the mount.
    Forever,
    /// Until the next point comes or one goes.
    Short,
}

impl Attributes {
    /// Those of an entry of a point.
    pub(super) fn of_entry(node: NodeId, inode: u64, metadata: &Metadata) -> Self {
        Self {
            node,
            inode,
            file_type: metadata.file_type,
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            mtime: metadata.mtime,
            ctime: metadata.ctime,
            btime: metadata.btime,
            size: metadata.size,
            blocks: metadata.blocks,
            links: metadata.links,
            rdev: metadata.rdev,
            lifetime: Lifetime::Forever,
        }
    }
}

/// One entry of a listing.
#[derive(Debug, Clone, Copy)]
pub struct DirectoryEntry<'a> {
    pub name: &'a [u8],
    pub node: NodeId,
    pub file_type: FileType,
    /// The place right after this entry: `list` goes on from there.
    pub cookie: u64,
    /// None where they are not at hand: those of a point's root would open the point.
    pub attributes: Option<Attributes>,
}
