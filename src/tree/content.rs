//! A file's content: which extents cover an offset, found by binary search, and where its data and its holes are.
//!
//! Pure: fetches nothing. A table is made once for a file or an extent list and kept for as long as it is in use.

use std::ops::Range;

use crate::base::{Error, Result};
use crate::format::{ChunkPlace, Content, Extent, ExtentList};

/// What to look for in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeekFor {
    /// The next byte that was written.
    Data,
    /// The next byte that never was; every file has such a one behind its last.
    Hole,
}

/// A file's content, ready to be read.
pub(super) enum FileContent {
    Nothing,
    Inline(Vec<u8>),
    Extents(Table<Extent>),
    Lists(Table<ExtentList>),
    /// It cannot be this file's, and why.
    Damaged(String),
}

/// Things that follow one another in a file, each covering some of its bytes.
pub(super) struct Table<T> {
    items: Vec<T>,
    /// Where each ends; the next one begins there.
    ends: Vec<u64>,
}

/// A part of a file that lies in one extent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// These bytes of a chunk.
    Chunk(ChunkPlace, Range<usize>),
    /// So many zeros.
    Zeros(u64),
}

impl Part {
    /// How many bytes of the file it is.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Chunk(_, range) => range.len() as u64,
            Self::Zeros(length) => *length,
        }
    }
}

/// Covers some bytes of a file.
pub(super) trait Covers {
    /// How many.
    fn length(&self) -> u64;
}

impl Covers for Extent {
    fn length(&self) -> u64 {
        Extent::length(self)
    }
}

impl Covers for ExtentList {
    fn length(&self) -> u64 {
        self.span
    }
}

impl FileContent {
    /// The content of a file of `size` bytes. One that covers another number of bytes is damage, which is told when
    /// it is read: the rest of the entry is good.
    pub(super) fn new(content: Content, size: u64) -> Self {
        let content = match content {
            Content::Nothing => Ok(Self::Nothing),
            Content::Inline(bytes) => Ok(Self::Inline(bytes)),
            Content::Extents(extents) => Table::new(extents).map(Self::Extents),
            Content::Lists(lists) => Table::new(lists).map(Self::Lists),
        };
        match content.map(|content| (content.covered(), content)) {
            Ok((covered, content)) if covered == size => content,
            Ok((covered, _)) => {
                Self::Damaged(format!("it covers {covered} bytes of a file of {size}"))
            }
            Err(error) => Self::Damaged(error.to_string()),
        }
    }

    fn covered(&self) -> u64 {
        match self {
            Self::Nothing | Self::Damaged(_) => 0,
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Extents(table) => table.end(),
            Self::Lists(table) => table.end(),
        }
    }

    /// Memory that it takes, in bytes.
    pub(super) fn weight(&self) -> u64 {
        match self {
            Self::Nothing | Self::Damaged(_) => 0,
            Self::Inline(bytes) => bytes.capacity() as u64,
            Self::Extents(table) => table.weight(),
            Self::Lists(table) => table.weight(),
        }
    }
}

impl<T: Covers> Table<T> {
    /// The table of `items`, the first of which begins at 0.
    ///
    /// # Errors
    /// Corrupt, if they cover more bytes than a file can have.
    pub(super) fn new(items: Vec<T>) -> Result<Self> {
        let mut end = 0_u64;
        let mut ends = Vec::with_capacity(items.len());
        for item in &items {
            end = end
                .checked_add(item.length())
                .filter(|end| i64::try_from(*end).is_ok())
                .ok_or_else(|| Error::corrupt("a file's content", "no file is so long"))?;
            ends.push(end);
        }
        Ok(Self { items, ends })
    }

    /// All of them, in order.
    pub(super) fn items(&self) -> &[T] {
        &self.items
    }

    /// How many bytes all of them cover.
    pub(super) fn end(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Memory that it takes, in bytes.
    pub(super) fn weight(&self) -> u64 {
        (self.items.len() * (size_of::<T>() + size_of::<u64>())) as u64
    }

    /// What covers any byte of `range`, each with the bytes of the file that it covers.
    pub(super) fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = (&T, Range<u64>)> {
        let first = self.ends.partition_point(|end| *end <= range.start);
        let start = first.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.items[first..]
            .iter()
            .zip(&self.ends[first..])
            .scan(start, |start, (item, end)| {
                let covered = *start..*end;
                *start = *end;
                Some((item, covered))
            })
            .take_while(move |(_, covered)| covered.start < range.end)
    }
}

impl Table<Extent> {
    /// The parts that make up `range`, in order.
    pub(super) fn parts(&self, range: Range<u64>) -> impl Iterator<Item = Part> {
        self.overlapping(range.clone())
            .filter_map(move |(extent, covered)| {
                let start = covered.start.max(range.start) - covered.start;
                let end = covered.end.min(range.end).checked_sub(covered.start)?;
                if start >= end {
                    return None;
                }
                Some(match extent {
                    Extent::Chunk(place) => Part::Chunk(*place, start as usize..end as usize),
                    Extent::Hole(_) | Extent::Zeros(_) => Part::Zeros(end - start),
                })
            })
    }

    /// The first byte at or after `offset` that is what is looked for. None if these extents have none.
    pub(super) fn seek(&self, offset: u64, what: SeekFor) -> Option<u64> {
        self.overlapping(offset..self.end())
            .filter(|(_, covered)| !covered.is_empty())
            .find(|(extent, _)| matches!(extent, Extent::Hole(_)) == (what == SeekFor::Hole))
            .map(|(_, covered)| covered.start.max(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ChunkId, PackId};
    use crate::format::Hint;
    use proptest::prelude::*;

    fn chunk(number: u8, length: u32) -> Extent {
        Extent::Chunk(ChunkPlace {
            id: ChunkId([number; 32]),
            length,
            hint: Hint {
                pack: PackId([0; 16]),
                frame_offset: 0,
                frame_length: 0,
                offset_in_frame: 0,
            },
        })
    }

    fn extents() -> impl Strategy<Value = Vec<Extent>> {
        let extent = (0..3, 0..20_u32, any::<u8>()).prop_map(|(kind, length, number)| match kind {
            0 => Extent::Hole(u64::from(length)),
            1 => Extent::Zeros(u64::from(length)),
            _ => chunk(number, length),
        });
        prop::collection::vec(extent, 0..20)
    }

    /// Each byte of the file by itself: the chunk's number and the place in it, or whether it is a hole.
    fn bytes_of(extents: &[Extent]) -> Vec<(Option<(u8, usize)>, bool)> {
        let of_extent = |extent: &Extent| -> Vec<_> {
            let byte = |place: u64| match extent {
                Extent::Chunk(chunk) => (Some((chunk.id.0[0], place as usize)), false),
                Extent::Hole(_) => (None, true),
                Extent::Zeros(_) => (None, false),
            };
            (0..extent.length()).map(byte).collect()
        };
        extents.iter().flat_map(of_extent).collect()
    }

    proptest! {
        #[test]
        fn parts_are_what_a_walk_over_all_bytes_finds(extents in extents(), start in 0..200_u64, length in 0..100_u64) {
            let bytes = bytes_of(&extents);
            let table = Table::new(extents).unwrap();
            let end = (start + length).min(table.end());
            let start = start.min(end);
            let mut found = Vec::new();
            for part in table.parts(start..end) {
                match part {
                    Part::Chunk(place, range) => {
                        found.extend(range.map(|byte| Some((place.id.0[0], byte))));
                    }
                    Part::Zeros(length) => found.extend((0..length).map(|_| None)),
                }
            }
            let expected: Vec<_> = bytes[start as usize..end as usize].iter().map(|(byte, _)| *byte).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn seeking_finds_what_a_walk_over_all_bytes_finds(extents in extents(), offset in 0..200_usize) {
            let bytes = bytes_of(&extents);
            let table = Table::new(extents).unwrap();
            for what in [SeekFor::Data, SeekFor::Hole] {
                let expected = (offset..bytes.len())
                    .find(|place| bytes[*place].1 == (what == SeekFor::Hole));
                prop_assert_eq!(table.seek(offset as u64, what), expected.map(|place| place as u64));
            }
        }
    }

    #[test]
    fn content_that_does_not_cover_its_file_is_damage() {
        let is_damaged =
            |content, size| matches!(FileContent::new(content, size), FileContent::Damaged(_));
        assert!(!is_damaged(Content::Extents(vec![chunk(1, 10)]), 10));
        assert!(is_damaged(Content::Extents(vec![chunk(1, 10)]), 11));
        assert!(is_damaged(Content::Inline(vec![1]), 2));
        assert!(is_damaged(Content::Nothing, 1));
        let long = vec![Extent::Hole(u64::MAX), Extent::Hole(2)];
        assert!(is_damaged(Content::Extents(long), 1));
    }
}
