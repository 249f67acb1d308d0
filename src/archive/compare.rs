//! Are two versions of a file the same? Of contents, bytes and holes count, places do not.

use crate::base::{ErrorKind, Result};
use crate::fetch::Fetcher;
use crate::format::{Content, Extent, ExtentList, Metadata, decode_extents};

/// Do they say the same? The device apart, an ordinal that every run gives anew.
pub fn same_metadata(one: &Metadata, other: &Metadata) -> bool {
    one.file_type == other.file_type
        && one.mode == other.mode
        && one.uid == other.uid
        && one.gid == other.gid
        && one.mtime == other.mtime
        && one.ctime == other.ctime
        && one.btime == other.btime
        && one.size == other.size
        && one.blocks == other.blocks
        && one.links == other.links
        && one.rdev == other.rdev
        && one.target == other.target
        && one.xattrs == other.xattrs
        && one.chattr == other.chattr
        && one.inode == other.inode
}

/// Folds the extents of a file, without their places, into one hash.
#[derive(Debug, Clone, Default)]
pub struct Shape(blake3::Hasher);

impl Shape {
    /// Of a file without extents.
    pub fn new() -> Self {
        Self::default()
    }

    /// The file goes on with this extent.
    pub fn add(&mut self, extent: &Extent) {
        let kind: u8 = match extent {
            Extent::Chunk(_) => 0,
            Extent::Hole(_) => 1,
            Extent::Zeros(_) => 2,
        };
        self.0.update(&[kind]);
        self.0.update(&extent.length().to_le_bytes());
        if let Extent::Chunk(place) = extent {
            self.0.update(&place.id.0);
        }
    }

    /// The hash.
    pub fn finish(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// Is `new`, whose extents fold to `shape` if they are in lists, the content that `old` is? The lists of `old` are
/// fetched only if they are not the very ones of `new`: those say where chunks are, which may have moved. Lists that
/// are lost or damaged cannot say so, and the file is then a new version.
///
/// # Errors
/// The old lists cannot be fetched, and that is not their own trouble.
pub fn same_content(
    fetcher: &Fetcher,
    old: &Content,
    new: &Content,
    shape: Option<[u8; 32]>,
) -> Result<bool> {
    match (old, new) {
        (Content::Extents(old), Content::Extents(new)) => Ok(same_extents(old, new)),
        (Content::Lists(old), Content::Lists(new)) => {
            if same_lists(old, new) {
                return Ok(true);
            }
            Ok(match shape {
                Some(shape) => match shape_of(fetcher, old) {
                    Ok(old) => old == shape,
                    Err(error)
                        if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Missing) =>
                    {
                        log::warn!("a file is recorded as changed, not knowing better: {error}");
                        false
                    }
                    Err(error) => return Err(error),
                },
                None => false,
            })
        }
        (old, new) => Ok(old == new),
    }
}

fn same_extents(old: &[Extent], new: &[Extent]) -> bool {
    let same = |(old, new): (&Extent, &Extent)| match (old, new) {
        (Extent::Chunk(old), Extent::Chunk(new)) => old.id == new.id && old.length == new.length,
        (old, new) => old == new,
    };
    old.len() == new.len() && old.iter().zip(new).all(same)
}

fn same_lists(old: &[ExtentList], new: &[ExtentList]) -> bool {
    let same = |(old, new): (&ExtentList, &ExtentList)| {
        old.chunk.id == new.chunk.id && old.span == new.span
    };
    old.len() == new.len() && old.iter().zip(new).all(same)
}

fn shape_of(fetcher: &Fetcher, lists: &[ExtentList]) -> Result<[u8; 32]> {
    let mut shape = Shape::new();
    for list in lists {
        let bytes = fetcher.extent_list(&list.chunk)?;
        for extent in decode_extents(&bytes, list.span)? {
            shape.add(&extent);
        }
    }
    Ok(shape.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ChunkId, PackId};
    use crate::format::{ChunkPlace, Hint};

    fn chunk(id: u8, offset: u32) -> Extent {
        Extent::Chunk(ChunkPlace {
            id: ChunkId([id; 32]),
            length: 10,
            hint: Hint {
                pack: PackId([1; 16]),
                frame_offset: offset,
                frame_length: 100,
                offset_in_frame: 0,
            },
        })
    }

    #[test]
    fn places_do_not_matter_and_holes_do() {
        assert!(same_extents(&[chunk(1, 0)], &[chunk(1, 500)]));
        assert!(!same_extents(&[chunk(1, 0)], &[chunk(2, 0)]));
        assert!(!same_extents(&[Extent::Hole(10)], &[Extent::Zeros(10)]));
        assert!(!same_extents(&[chunk(1, 0)], &[chunk(1, 0), chunk(1, 0)]));
    }

    #[test]
    fn shapes_tell_what_extents_are_and_not_where() {
        let shape = |extents: &[Extent]| {
            let mut shape = Shape::new();
            extents.iter().for_each(|extent| shape.add(extent));
            shape.finish()
        };
        assert_eq!(
            shape(&[chunk(1, 0), Extent::Hole(5)]),
            shape(&[chunk(1, 9), Extent::Hole(5)])
        );
        assert_ne!(shape(&[Extent::Hole(10)]), shape(&[Extent::Zeros(10)]));
        assert_ne!(shape(&[chunk(1, 0)]), shape(&[chunk(2, 0)]));
    }
}
