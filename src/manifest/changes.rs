//! What differs between two versions of an entry, as a person would see it.
//!
//! Bytes count, and not how they are kept: a hole equals zeros, and a chunk that was moved is the same. What the file
//! system does by itself is no change: change and birth times, inode numbers, counts of links, allocation, a directory's
//! size.

use std::fmt;

use crate::base::{ChunkId, Error, ErrorKind, Result};
use crate::fetch::Fetcher;
use crate::format::{Content, Entry, Extent, ExtentList, FileType, Metadata, decode_extents};

/// One side of an entry that can change by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Aspect {
    /// What it is: a file, a directory, ...
    Type,
    /// A file's bytes, a symlink's target, a device's number.
    Content,
    /// Permissions, with setuid, setgid and sticky bits.
    Mode,
    /// User or group.
    Owner,
    /// The modification time.
    Time,
    /// Extended attributes, ACLs among them.
    Xattr,
    /// Flags of chattr(1).
    Flags,
}

impl Aspect {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 7] = [
        Self::Type,
        Self::Content,
        Self::Mode,
        Self::Owner,
        Self::Time,
        Self::Xattr,
        Self::Flags,
    ];

    /// The word that people and programs read.
    pub fn word(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Content => "content",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Time => "time",
            Self::Xattr => "xattr",
            Self::Flags => "flags",
        }
    }
}

/// A set of aspects.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes(u8);

impl Changes {
    /// What of `metadata` differs, content apart: that takes more than these.
    pub fn of_metadata(old: &Metadata, new: &Metadata) -> Self {
        let mut changes = Self::default();
        changes.add_if(Aspect::Type, old.file_type != new.file_type);
        changes.add_if(Aspect::Mode, old.mode != new.mode);
        changes.add_if(Aspect::Owner, (old.uid, old.gid) != (new.uid, new.gid));
        changes.add_if(Aspect::Time, old.mtime != new.mtime);
        changes.add_if(Aspect::Xattr, old.xattrs != new.xattrs);
        changes.add_if(Aspect::Flags, old.chattr != new.chattr);
        changes
    }

    /// All that differs. The content of two types is not compared. Extent lists are fetched where nothing else says
    /// whether a file's bytes are the same; if they are lost or damaged, the file counts as changed.
    ///
    /// # Errors
    /// The lists cannot be fetched, and that is not their own trouble.
    pub fn between(fetcher: &Fetcher, old: &Entry, new: &Entry) -> Result<Self> {
        let mut changes = Self::of_metadata(&old.metadata, &new.metadata);
        if !changes.has(Aspect::Type) {
            changes.add_if(Aspect::Content, !is_same_content(fetcher, old, new)?);
        }
        Ok(changes)
    }

    /// With this aspect too, if `is_so`.
    pub fn add_if(&mut self, aspect: Aspect, is_so: bool) {
        self.0 |= u8::from(is_so) << aspect as u8;
    }

    /// Is it one of them?
    pub fn has(self, aspect: Aspect) -> bool {
        self.0 & (1 << aspect as u8) != 0
    }

    /// Is nothing changed?
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that changed, in the order in which they are told.
    pub fn iter(self) -> impl Iterator<Item = Aspect> {
        let all = Aspect::ALL.into_iter();
        all.filter(move |aspect| self.has(*aspect))
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Bytes of a file that follow one another, without where they are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stretch<'a> {
    Bytes(&'a [u8]),
    Chunk(ChunkId, u32),
    Zeros(u64),
}

/// The entries are of one type.
fn is_same_content(fetcher: &Fetcher, old: &Entry, new: &Entry) -> Result<bool> {
    let (one, other) = (&old.metadata, &new.metadata);
    match one.file_type {
        FileType::Directory | FileType::Fifo | FileType::Socket => return Ok(true),
        FileType::Symlink => return Ok(one.target == other.target),
        FileType::CharacterDevice => return Ok(one.rdev == other.rdev),
        FileType::BlockDevice if one.rdev != other.rdev => return Ok(false),
        FileType::Regular | FileType::BlockDevice => {}
    }
    if one.size != other.size {
        return Ok(false);
    }
    match (old.content_hash, new.content_hash) {
        (Some(old), Some(new)) => Ok(old == new),
        _ => is_same_stored(fetcher, &old.content, &new.content).or_else(|error| {
            if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Missing) {
                return Err(error);
            }
            log::warn!("a file counts as changed, nothing better being known: {error}");
            Ok(false)
        }),
    }
}

fn is_same_stored(fetcher: &Fetcher, old: &Content, new: &Content) -> Result<bool> {
    if let (Content::Lists(old), Content::Lists(new)) = (old, new) {
        return are_same_lists(fetcher, old, new);
    }
    let (old, new) = (extents_of(fetcher, old)?, extents_of(fetcher, new)?);
    Ok(old.stretches() == new.stretches())
}

/// Lists that are one chunk are the same; others are fetched, as they say where chunks are, which may have moved.
fn are_same_lists(fetcher: &Fetcher, old: &[ExtentList], new: &[ExtentList]) -> Result<bool> {
    if old.len() != new.len() {
        return Ok(false);
    }
    for (old, new) in old.iter().zip(new) {
        if old.span != new.span {
            return Ok(false);
        }
        if old.chunk.id != new.chunk.id {
            let (old, new) = (listed(fetcher, old)?, listed(fetcher, new)?);
            if stretches_of(&old) != stretches_of(&new) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// A file's content, with its lists read.
enum Read<'a> {
    Inline(&'a [u8]),
    Extents(Vec<Extent>),
}

impl Read<'_> {
    fn stretches(&self) -> Vec<Stretch<'_>> {
        match self {
            Self::Inline([]) => Vec::new(),
            Self::Inline(bytes) if bytes.iter().all(|byte| *byte == 0) => {
                vec![Stretch::Zeros(bytes.len() as u64)]
            }
            Self::Inline(bytes) => vec![Stretch::Bytes(bytes)],
            Self::Extents(extents) => stretches_of(extents),
        }
    }
}

fn extents_of<'a>(fetcher: &Fetcher, content: &'a Content) -> Result<Read<'a>> {
    Ok(match content {
        Content::Nothing => Read::Inline(&[]),
        Content::Inline(bytes) => Read::Inline(bytes),
        Content::Extents(extents) => Read::Extents(extents.clone()),
        Content::Lists(lists) => {
            let mut extents = Vec::new();
            for list in lists {
                extents.extend(listed(fetcher, list)?);
            }
            Read::Extents(extents)
        }
    })
}

fn listed(fetcher: &Fetcher, list: &ExtentList) -> Result<Vec<Extent>> {
    let in_list = |error: Error| error.context("a file's list of extents");
    let bytes = fetcher.extent_list(&list.chunk).map_err(in_list)?;
    decode_extents(&bytes, list.span).map_err(in_list)
}

fn stretches_of(extents: &[Extent]) -> Vec<Stretch<'_>> {
    let mut stretches = Vec::with_capacity(extents.len());
    for extent in extents {
        match (extent, stretches.last_mut()) {
            (Extent::Chunk(place), _) => stretches.push(Stretch::Chunk(place.id, place.length)),
            (Extent::Hole(0) | Extent::Zeros(0), _) => {}
            (Extent::Hole(more) | Extent::Zeros(more), Some(Stretch::Zeros(zeros))) => {
                *zeros = zeros.saturating_add(*more);
            }
            (Extent::Hole(zeros) | Extent::Zeros(zeros), _) => {
                stretches.push(Stretch::Zeros(*zeros));
            }
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PackId;
    use crate::format::{ChunkPlace, Hint};

    fn chunk(id: u8, frame_offset: u32) -> Extent {
        Extent::Chunk(ChunkPlace {
            id: ChunkId([id; 32]),
            length: 10,
            hint: Hint {
                pack: PackId([1; 16]),
                frame_offset,
                frame_length: 100,
                offset_in_frame: 0,
            },
        })
    }

    #[test]
    fn bytes_count_and_neither_holes_nor_places_do() {
        let same = |old: &[Extent], new: &[Extent]| stretches_of(old) == stretches_of(new);
        assert!(same(&[chunk(1, 0)], &[chunk(1, 500)]));
        assert!(!same(&[chunk(1, 0)], &[chunk(2, 0)]));
        assert!(!same(&[chunk(1, 0)], &[chunk(1, 0), chunk(1, 0)]));
        assert!(same(&[Extent::Hole(10)], &[Extent::Zeros(10)]));
        assert!(same(
            &[chunk(1, 0), Extent::Hole(4), Extent::Zeros(6)],
            &[chunk(1, 9), Extent::Zeros(0), Extent::Hole(10)]
        ));
        assert!(!same(&[Extent::Hole(10)], &[Extent::Hole(11)]));
    }

    #[test]
    fn zeros_in_an_entry_are_those_of_a_hole() {
        let inline = Read::Inline(&[0; 7]);
        let hole = Read::Extents(vec![Extent::Hole(7)]);
        assert_eq!(inline.stretches(), hole.stretches());
        assert_eq!(
            Read::Inline(&[]).stretches(),
            Read::Extents(vec![]).stretches()
        );
        assert_ne!(Read::Inline(b"a").stretches(), hole.stretches());
    }

    #[test]
    fn a_set_tells_its_aspects_in_order() {
        let mut changes = Changes::default();
        assert!(changes.is_empty());
        for aspect in [Aspect::Flags, Aspect::Content, Aspect::Time] {
            changes.add_if(aspect, true);
        }
        changes.add_if(Aspect::Mode, false);
        let words: Vec<_> = changes.iter().map(Aspect::word).collect();
        assert_eq!(words, ["content", "time", "flags"]);
        assert!(!changes.is_empty() && !changes.has(Aspect::Mode));
    }
}
