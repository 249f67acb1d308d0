//! Whether the content of an entry is to be had.
//!
//! The hint is held against the directory of its pack, without reading a chunk. Where that does not answer for the
//! chunk, it is read as a mount would read it, from any location: only what that cannot get is lost.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::packs::Packs;
use super::{Check, is_about_object};
use crate::base::{ChunkId, Error, PackId, Result};
use crate::format::{ChunkPlace, Content, Entry, Extent, ExtentList, decode_extents, pack_name};
use crate::seal::SealedKind;

/// Verdicts about chunks that are kept, so that a chunk in many files is read once.
const VERDICTS_KEPT: usize = 1 << 20;

/// Answers for the content of entries.
pub(super) struct Locations<'a, 'b> {
    check: &'a Check<'a>,
    packs: &'b mut Packs,
    used: BTreeSet<PackId>,
    /// Asks about these chunks alone, which lie in damaged frames; None for all.
    only: Option<&'b HashSet<ChunkId>>,
    /// Chunks that had to be read: what is wrong with them, or nothing.
    verdicts: HashMap<ChunkId, Option<String>>,
}

impl<'a, 'b> Locations<'a, 'b> {
    pub(super) fn new(check: &'a Check<'a>, packs: &'b mut Packs) -> Self {
        Self {
            check,
            packs,
            used: BTreeSet::new(),
            only: None,
            verdicts: HashMap::new(),
        }
    }

    /// Answers for these chunks alone, which are to be had from another location than the one that was tried or not
    /// at all. What else is wrong was told before.
    pub(super) fn of_chunks(
        check: &'a Check<'a>,
        packs: &'b mut Packs,
        only: &'b HashSet<ChunkId>,
    ) -> Self {
        Self {
            only: Some(only),
            ..Self::new(check, packs)
        }
    }

    /// The packs that entries use, as far as they were asked about.
    pub(super) fn into_used(self) -> BTreeSet<PackId> {
        self.used
    }

    /// Why the content of an entry is not to be had; None if it is.
    pub(super) fn problem(&mut self, entry: &Entry) -> Result<Option<String>> {
        match &entry.content {
            Content::Nothing | Content::Inline(_) => Ok(None),
            Content::Extents(extents) => self.problem_of_extents(extents),
            Content::Lists(lists) => {
                for list in lists {
                    if let Some(problem) = self.problem_of_list(list)? {
                        return Ok(Some(problem));
                    }
                }
                Ok(None)
            }
        }
    }

    fn problem_of_extents(&mut self, extents: &[Extent]) -> Result<Option<String>> {
        for extent in extents {
            if let Extent::Chunk(place) = extent
                && let Some(problem) = self.problem_of_chunk(SealedKind::Data, place)?
            {
                return Ok(Some(problem));
            }
        }
        Ok(None)
    }

    /// A list is read: what it says must be checked as well.
    fn problem_of_list(&mut self, list: &ExtentList) -> Result<Option<String>> {
        if let Some(problem) = self.problem_of_chunk(SealedKind::ExtentList, &list.chunk)? {
            return Ok(Some(problem));
        }
        match read_list(self.check, list) {
            Ok(extents) => self.problem_of_extents(&extents),
            Err(_) if self.only.is_some() => Ok(None),
            Err(error) => told(error).map(Some),
        }
    }

    fn problem_of_chunk(&mut self, kind: SealedKind, place: &ChunkPlace) -> Result<Option<String>> {
        let is_fine = match self.only {
            Some(only) => !only.contains(&place.id),
            None => self.is_where_it_should_be(kind, place)?,
        };
        if is_fine {
            return Ok(None);
        }
        if let Some(verdict) = self.verdicts.get(&place.id) {
            return Ok(verdict.clone());
        }
        let verdict = match read_chunk(self.check, kind, place) {
            Ok(()) => None,
            Err(error) => Some(told(error)?),
        };
        if self.verdicts.len() < VERDICTS_KEPT {
            self.verdicts.insert(place.id, verdict.clone());
        }
        Ok(verdict)
    }

    /// Does the pack of the hint say that it has the chunk at that place? That a pack is missing is told.
    fn is_where_it_should_be(&mut self, kind: SealedKind, place: &ChunkPlace) -> Result<bool> {
        let pack = place.hint.pack;
        self.used.insert(pack);
        match self.packs.has(self.check, kind, place)? {
            Some(has) => Ok(has),
            None if self.packs.length(&pack).is_none() => self
                .check
                .reporter
                .missing(&pack_name(&pack), "files have chunks in it")
                .map(|()| false),
            None => Ok(false),
        }
    }
}

/// Reads a chunk as a mount would.
fn read_chunk(check: &Check<'_>, kind: SealedKind, place: &ChunkPlace) -> Result<()> {
    match kind {
        SealedKind::ExtentList => check.fetcher.extent_list(place).map(drop),
        _ => check.fetcher.chunk(place).map(drop),
    }
}

/// Reads an extent list as a mount would.
fn read_list(check: &Check<'_>, list: &ExtentList) -> Result<Vec<Extent>> {
    let bytes = check.fetcher.extent_list(&list.chunk)?;
    decode_extents(&bytes, list.span)
}

/// What is wrong with an object, as text.
///
/// # Errors
/// The error itself, if it is about the store.
fn told(error: Error) -> Result<String> {
    match is_about_object(&error) {
        true => Ok(error.to_string()),
        false => Err(error),
    }
}
