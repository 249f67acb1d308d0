//! Gathers the keys of one filter and writes its parts.

use crate::base::Result;
use crate::format::run::{
    FILTER_PART_KEYS, Filter, FilterPart, PieceAt, build_filter, filter_hash,
};
use crate::seal::SealedKind;

use super::blocks_writer::Sealer;
use super::spill::Spill;

/// Writes one filter. Keys come in order; equal ones may follow one another.
pub(super) struct FilterWriter<'a> {
    sealer: Sealer<'a>,
    filter: Filter,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
    hashes: Vec<u64>,
    /// Offsets count from the filter's own start until it is finished.
    parts: Vec<FilterPart>,
    out: Spill,
}

impl<'a> FilterWriter<'a> {
    pub(super) fn new(sealer: Sealer<'a>, filter: Filter) -> Self {
        Self {
            sealer,
            filter,
            first_key: Vec::new(),
            last_key: Vec::new(),
            hashes: Vec::new(),
            parts: Vec::new(),
            out: Spill::new(),
        }
    }

    /// Learns a key.
    pub(super) fn insert(&mut self, key: &[u8]) -> Result<()> {
        let is_first = self.hashes.is_empty();
        if !is_first && key == self.last_key {
            return Ok(());
        }
        // A part ends before a new key only: then no two parts have the same first key.
        if self.hashes.len() >= FILTER_PART_KEYS {
            self.end_part()?;
        }
        if self.hashes.is_empty() {
            self.first_key.clear();
            self.first_key.extend_from_slice(key);
        }
        self.hashes.push(filter_hash(key));
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        Ok(())
    }

    fn end_part(&mut self) -> Result<()> {
        let plain = build_filter(&mut self.hashes)?;
        let at = self.sealer.place(
            SealedKind::RunFilter,
            self.filter as u8,
            self.parts.len() as u64,
            &plain,
            &mut self.out,
        )?;
        self.parts.push(FilterPart {
            first_key: self.first_key.clone(),
            at,
        });
        Ok(())
    }

    /// Appends the filter to `object`; returns its parts.
    pub(super) fn finish(mut self, object: &mut Spill) -> Result<Vec<FilterPart>> {
        if !self.hashes.is_empty() {
            self.end_part()?;
        }
        let start = object.length();
        object.append_all(&self.out)?;
        for part in &mut self.parts {
            if let PieceAt::Apart { offset, .. } = &mut part.at {
                *offset += start;
            }
        }
        Ok(self.parts)
    }
}
