//! Node ids: what the kernel knows a file or directory by, and from which its entry is found again.
//!
//! Nothing is remembered for a node, so that nothing grows while people browse. Layout, from the highest bit:
//!
//! ```text
//! not a directory   0 | origin run 25 | origin row 38     a hard-linked file's: its group's origin
//! view symlink      0 | 0          25 | 0 15, levels + 1 3, point 20
//! directory         1 | point 20 | run's place in the point 13 | row 30
//! root of a point   1 | point 20 | all ones 43            so that it is known before its point is opened
//! view directory    1 | 0     20 | 0 5, its number 38
//! ```
//!
//! Runs and points are counted from 1 by `Numbers`, so that no node is 0, and 1 is the mount's root and nothing else.
//! The inode numbers that `stat` shows are node ids too, but for directories: theirs come from their origins, so that
//! points share what they inherit. Those have the highest bit and the layout of a file's node; the root of a point,
//! which never shares its own, has number 0 for a run there, and so has a view directory.

use crate::base::{Error, ErrorKind, Result, Row};

const ROW_BITS: u32 = 38;
const RUN_BITS: u32 = 25;
const DIRECTORY_ROW_BITS: u32 = 30;
const PLACE_BITS: u32 = 13;
const POINT_BITS: u32 = 20;
const DIRECTORY: u64 = 1 << 63;
const POINT_SHIFT: u32 = PLACE_BITS + DIRECTORY_ROW_BITS;
const ROOT_OF_POINT: u64 = (1 << POINT_SHIFT) - 1;
/// Tells the inode number of a point's root from that of a view directory, whose numbers are small.
const ROOT_OF_POINT_INODE: u64 = 1 << (ROW_BITS - 1);

const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// The number of a run, from 1; it fits 25 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunNumber(pub(super) u32);

/// The number of a point, from 1; it fits 20 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PointNumber(pub(super) u32);

impl RunNumber {
    /// The largest one.
    pub(super) const MAX: u32 = mask(RUN_BITS) as u32;
}

impl PointNumber {
    /// The largest one.
    pub(super) const MAX: u32 = mask(POINT_BITS) as u32;
}

/// A node of a mounted tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// What a node id says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    /// The mount's root: a view, or the root of the one point that is mounted.
    Root,
    /// Not a directory, in one or many points.
    File { run: RunNumber, row: Row },
    /// A directory of a point: a row of the run at this place of its chain, newest first.
    Directory {
        point: PointNumber,
        place: usize,
        row: Row,
    },
    /// The root directory of a point.
    PointRoot(PointNumber),
    /// A symlink to a point's directory, so many levels below the mount's root.
    ViewSymlink { levels: u8, point: PointNumber },
    /// A directory that holds no files of a point.
    ViewDirectory(u64),
}

impl NodeId {
    /// The mount's root.
    pub const ROOT: Self = Self(1);

    /// Does it stand for a directory?
    pub fn is_directory(self) -> bool {
        self == Self::ROOT || self.0 & DIRECTORY != 0
    }

    /// How many rows after `earlier` this was first recorded, in the same run: 0 for the same node. None for nodes of
    /// two runs, in the other order, or of no file.
    pub fn rows_after(self, earlier: Self) -> Option<u64> {
        let is_file = |node: Self| !node.is_directory() && node.0 >> ROW_BITS != 0;
        let same_run = self.0 >> ROW_BITS == earlier.0 >> ROW_BITS;
        (same_run && is_file(self))
            .then(|| self.0.checked_sub(earlier.0))
            .flatten()
    }

    /// The node of what was first recorded so many rows later in the same run, if there can be such a row.
    pub fn rows_later(self, rows: u64) -> Option<Self> {
        let later = Self(self.0.checked_add(rows)?);
        later.rows_after(self).map(|_| later)
    }

    /// The node of what was first recorded one row before in the same run, if there can be such a row.
    pub fn row_before(self) -> Option<Self> {
        let before = Self(self.0.checked_sub(1)?);
        self.rows_after(before).map(|_| before)
    }

    /// The node of what is no directory.
    ///
    /// # Errors
    /// Failed, if the row is beyond what node ids can say.
    pub(super) fn file(run: RunNumber, row: Row) -> Result<Self> {
        let row = fitting(row.0, ROW_BITS, "rows")?;
        Ok(Self(u64::from(run.0) << ROW_BITS | row))
    }

    /// The node of a directory of a point that is not the point's root.
    ///
    /// # Errors
    /// Failed, if place or row are beyond what node ids can say.
    pub(super) fn directory(point: PointNumber, place: usize, row: Row) -> Result<Self> {
        let row = fitting(row.0, DIRECTORY_ROW_BITS, "directories")?;
        let place = fitting(place as u64, PLACE_BITS, "runs")?;
        let inner = place << DIRECTORY_ROW_BITS | row;
        if inner == ROOT_OF_POINT {
            return Err(too_many("directories"));
        }
        Ok(Self(DIRECTORY | u64::from(point.0) << POINT_SHIFT | inner))
    }

    /// The node of a point's root.
    pub(super) fn point_root(point: PointNumber) -> Self {
        Self(DIRECTORY | u64::from(point.0) << POINT_SHIFT | ROOT_OF_POINT)
    }

    /// The node of a symlink to a point.
    pub(super) fn view_symlink(levels: u8, point: PointNumber) -> Self {
        Self(u64::from(levels + 1) << POINT_BITS | u64::from(point.0))
    }

    /// The node of the view directory with this number.
    pub(super) fn view_directory(number: u64) -> Self {
        debug_assert!(number < ROOT_OF_POINT_INODE, "views are few");
        Self(DIRECTORY | number)
    }

    /// What it says.
    ///
    /// # Errors
    /// Missing, if it is no node id of this layout.
    pub(super) fn decode(self) -> Result<Node> {
        if self == Self::ROOT {
            return Ok(Node::Root);
        }
        let node = if self.0 & DIRECTORY == 0 {
            self.decode_file()
        } else {
            self.decode_directory()
        };
        node.ok_or_else(|| Error::missing(format_args!("node {:#x}", self.0)))
    }

    fn decode_file(self) -> Option<Node> {
        let (run, row) = (self.0 >> ROW_BITS, self.0 & mask(ROW_BITS));
        if run != 0 {
            return Some(Node::File {
                run: RunNumber(run as u32),
                row: Row(row),
            });
        }
        let levels = u8::try_from(row >> POINT_BITS).ok()?.checked_sub(1)?;
        let point = PointNumber((row & mask(POINT_BITS)) as u32);
        Some(Node::ViewSymlink { levels, point })
    }

    fn decode_directory(self) -> Option<Node> {
        let point = PointNumber((self.0 >> POINT_SHIFT & mask(POINT_BITS)) as u32);
        let inner = self.0 & mask(POINT_SHIFT);
        Some(if point.0 == 0 {
            Node::ViewDirectory(inner)
        } else if inner == ROOT_OF_POINT {
            Node::PointRoot(point)
        } else {
            Node::Directory {
                point,
                place: (inner >> DIRECTORY_ROW_BITS) as usize,
                row: Row(inner & mask(DIRECTORY_ROW_BITS)),
            }
        })
    }
}

/// The inode number of a directory that was first recorded there.
pub(super) fn directory_inode(run: RunNumber, row: Row) -> Result<u64> {
    Ok(DIRECTORY | NodeId::file(run, row)?.0)
}

/// The inode number of a point's root.
pub(super) fn point_root_inode(point: PointNumber) -> u64 {
    DIRECTORY | ROOT_OF_POINT_INODE | u64::from(point.0)
}

fn fitting(value: u64, bits: u32, what: &str) -> Result<u64> {
    if value <= mask(bits) {
        Ok(value)
    } else {
        Err(too_many(what))
    }
}

fn too_many(what: &str) -> Error {
    Error::new(
        ErrorKind::Failed,
        format!("a run has more {what} than a mount can number"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_a_node_id_says_comes_back(
            run in 1..=RunNumber::MAX,
            row in 0..=mask(ROW_BITS),
            point in 1..=PointNumber::MAX,
            place in 0..8191_usize,
            directory_row in 0..=mask(DIRECTORY_ROW_BITS),
            levels in 0..4_u8,
            view in 0..1000_u64,
        ) {
            let (run, row, point) = (RunNumber(run), Row(row), PointNumber(point));
            let file = NodeId::file(run, row).unwrap();
            prop_assert_eq!(file.decode().unwrap(), Node::File { run, row });
            prop_assert!(!file.is_directory());
            let directory = NodeId::directory(point, place, Row(directory_row)).unwrap();
            prop_assert_eq!(
                directory.decode().unwrap(),
                Node::Directory { point, place, row: Row(directory_row) }
            );
            prop_assert!(directory.is_directory());
            prop_assert_eq!(NodeId::point_root(point).decode().unwrap(), Node::PointRoot(point));
            prop_assert_eq!(
                NodeId::view_symlink(levels, point).decode().unwrap(),
                Node::ViewSymlink { levels, point }
            );
            prop_assert_eq!(
                NodeId::view_directory(view).decode().unwrap(),
                Node::ViewDirectory(view)
            );
            let inodes = [
                file.0,
                directory_inode(run, row).unwrap(),
                point_root_inode(point),
                NodeId::view_symlink(levels, point).0,
                NodeId::view_directory(view).0,
                1,
                0,
            ];
            for (place, inode) in inodes.iter().enumerate() {
                prop_assert!(!inodes[..place].contains(inode), "{:#x}", inode);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_not_cut() {
        let (run, point) = (RunNumber(1), PointNumber(1));
        assert!(NodeId::file(run, Row(1 << ROW_BITS)).is_err());
        assert!(NodeId::directory(point, 0, Row(1 << DIRECTORY_ROW_BITS)).is_err());
        assert!(NodeId::directory(point, 1 << PLACE_BITS, Row(0)).is_err());
        assert!(NodeId::directory(point, 8191, Row(mask(DIRECTORY_ROW_BITS))).is_err());
    }

    #[test]
    fn numbers_that_no_node_has_are_missing() {
        for number in [0, 2, mask(POINT_BITS)] {
            assert_eq!(
                NodeId(number).decode().unwrap_err().kind(),
                ErrorKind::Missing
            );
        }
        assert_eq!(NodeId::ROOT.decode().unwrap(), Node::Root);
    }

    #[test]
    fn node_ids_of_files_rise_in_the_order_of_a_run() {
        let node = |row| NodeId::file(RunNumber(7), Row(row)).unwrap();
        assert!(node(1) < node(2) && node(2) < node(1 << 30));
    }
}
