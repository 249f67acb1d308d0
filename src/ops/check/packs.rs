//! Packs: which there are, and what their directories say.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use super::Check;
use crate::base::{ChunkId, Error, ErrorKind, PackId, Result};
use crate::format::{
    ChunkPlace, IndexRow, PACKS_PREFIX, PackDirectory, PackFrame, pack_name, prefix_of,
};
use crate::repo::Repository;
use crate::seal::SealedKind;

/// Directories that are kept in memory: of a pack of 8 KiB files some 300 KiB each.
const DIRECTORIES_KEPT: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not 0");

/// Bytes at a pack's end that hold most directories whole, so that one request reads them.
const TAIL_BYTES: u64 = 256 << 10;

/// The packs of a repository.
pub(super) struct Packs {
    repository: Arc<Repository>,
    /// What was listed: lengths in bytes.
    lengths: BTreeMap<PackId, u64>,
    /// Packs whose directories cannot be read, and are told of.
    unreadable: BTreeSet<PackId>,
    cache: LruCache<PackId, Arc<PackDirectory>>,
    /// What the rows of an index must come to, by pack.
    summaries: HashMap<PackId, Summary>,
}

/// A sum over locations of chunks in which order plays no part: two sets of locations that have the same one are
/// the same, but for a chance of 1 in 2^128.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) count: u64,
    sum: u128,
}

impl Summary {
    /// Adds a location in the pack that this summary is of.
    pub(super) fn add(&mut self, row: &IndexRow) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&row.prefix);
        for number in [
            row.frame_offset,
            row.frame_length,
            row.offset_in_frame,
            row.length,
        ] {
            hasher.update(&number.to_le_bytes());
        }
        let mut half = [0; 16];
        hasher.finalize_xof().fill(&mut half);
        self.count += 1;
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(half));
    }

    fn of(directory: &PackDirectory) -> Self {
        let mut locations: Vec<IndexRow> =
            directory.frames().iter().flat_map(locations_of).collect();
        // An index has a location once, though a frame may hold a chunk's name twice.
        locations.sort_unstable();
        locations.dedup();
        let mut summary = Self::default();
        locations.iter().for_each(|row| summary.add(row));
        summary
    }
}

fn locations_of(frame: &PackFrame) -> impl Iterator<Item = IndexRow> {
    frame.chunks.iter().map(|chunk| IndexRow {
        prefix: prefix_of(&chunk.id),
        pack: 0,
        frame_offset: frame.offset,
        frame_length: frame.length,
        offset_in_frame: chunk.offset,
        length: chunk.length,
    })
}

impl Packs {
    /// Lists all packs. Names that are no pack's are told of.
    pub(super) fn list(check: &Check<'_>) -> Result<Self> {
        let mut lengths = BTreeMap::new();
        for listed in check.repository.store().list(PACKS_PREFIX, "")? {
            let id = listed
                .name
                .rsplit('/')
                .next()
                .and_then(|id| id.parse::<PackId>().ok());
            match id.filter(|id| pack_name(id) == listed.name) {
                Some(id) => {
                    lengths.insert(id, listed.length);
                }
                None => check.monitor.event(crate::base::Event::Warning(
                    None,
                    &format!("{} is no pack's name: nothing will read it", listed.name),
                )),
            }
        }
        Ok(Self {
            repository: Arc::clone(check.repository),
            lengths,
            unreadable: BTreeSet::new(),
            cache: LruCache::new(DIRECTORIES_KEPT),
            summaries: HashMap::new(),
        })
    }

    /// All packs, in order of names.
    pub(super) fn ids(&self) -> Vec<PackId> {
        self.lengths.keys().copied().collect()
    }

    /// A pack's bytes; None if it is not there.
    pub(super) fn length(&self, pack: &PackId) -> Option<u64> {
        self.lengths.get(pack).copied()
    }

    /// What an index must say of a pack whose directory was checked and could be read.
    pub(super) fn summary(&self, pack: &PackId) -> Option<&Summary> {
        self.summaries.get(pack)
    }

    /// Could the pack's directory not be read?
    pub(super) fn is_unreadable(&self, pack: &PackId) -> bool {
        self.unreadable.contains(pack)
    }

    /// Does the directory of the hint's pack have this chunk at this place? None if that cannot be told: the pack is
    /// missing, or its directory damaged, which is told of.
    pub(super) fn has(
        &mut self,
        check: &Check<'_>,
        kind: SealedKind,
        place: &ChunkPlace,
    ) -> Result<Option<bool>> {
        let hint = &place.hint;
        let Some(directory) = self.directory(check, &hint.pack)? else {
            return Ok(None);
        };
        let frames = directory.frames();
        let frame = frames
            .binary_search_by_key(&hint.frame_offset, |frame| frame.offset)
            .ok()
            .map(|at| &frames[at])
            .filter(|frame| frame.kind == kind && frame.length == hint.frame_length);
        Ok(Some(frame.is_some_and(|frame| {
            frame.chunks.iter().any(|chunk| {
                chunk.id == place.id
                    && chunk.offset == hint.offset_in_frame
                    && chunk.length == place.length
            })
        })))
    }

    /// Reads the directories of these packs, so that the index can be held against them.
    pub(super) fn check_directories(&mut self, check: &Check<'_>, scope: &[PackId]) -> Result<()> {
        for pack in scope {
            check.go_on()?;
            if let Some(directory) = self.directory(check, pack)? {
                let chunks: usize = directory
                    .frames()
                    .iter()
                    .map(|frame| frame.chunks.len())
                    .sum();
                check
                    .reporter
                    .count(|report| report.chunks += chunks as u64);
                self.summaries.insert(*pack, Summary::of(&directory));
            }
            check.reporter.count(|report| report.packs += 1);
        }
        Ok(())
    }

    /// A pack's directory; None if the pack is missing or its directory damaged, which is told of once.
    fn directory(
        &mut self,
        check: &Check<'_>,
        pack: &PackId,
    ) -> Result<Option<Arc<PackDirectory>>> {
        let (Some(length), false) = (self.length(pack), self.is_unreadable(pack)) else {
            return Ok(None);
        };
        if let Some(directory) = self.cache.get(pack) {
            return Ok(Some(Arc::clone(directory)));
        }
        match read_directory(&self.repository, pack, length) {
            Ok(directory) => {
                let directory = Arc::new(directory);
                self.cache.put(*pack, Arc::clone(&directory));
                Ok(Some(directory))
            }
            Err(error) => {
                self.unreadable.insert(*pack);
                check.reporter.failed(&pack_name(pack), error)?;
                Ok(None)
            }
        }
    }
}

/// Reads the directory of a pack that was listed with `length` bytes.
pub(super) fn read_directory(
    repository: &Repository,
    pack: &PackId,
    length: u64,
) -> Result<PackDirectory> {
    let name = pack_name(pack);
    let store = repository.store();
    let (mut tail, found_length) = store.get_tail(&name, TAIL_BYTES)?;
    if found_length != length {
        return Err(Error::new(
            ErrorKind::Corrupt,
            format!("it had {length} bytes when it was listed, and now {found_length}"),
        ));
    }
    let needed = PackDirectory::encoded_length(&tail, length)?;
    if needed > tail.len() as u64 {
        tail = store.get_range(&name, length - needed..length)?;
    }
    let start = tail.len() - needed as usize;
    PackDirectory::decode(repository.seal(), pack, &tail[start..], length)
}

/// The ids of all chunks in a frame.
pub(super) fn chunk_ids(frame: &PackFrame) -> impl Iterator<Item = ChunkId> {
    frame.chunks.iter().map(|chunk| chunk.id)
}
