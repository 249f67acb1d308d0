//! Sorts the entries of an origin map, of which there may be more than fit into memory.
//!
//! They come nearly sorted, but for hard links, which name rows far before their own.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::base::{Result, Row};
use crate::format::run::OriginKey;

use super::spill::Spill;

/// Entries that are sorted in memory: 8 MiB of them.
const CHUNK_ENTRIES: usize = 350_000;

/// Bytes of an entry in a chunk: ordinal, row there, row here.
const ENTRY_BYTES: usize = 20;

/// Entries of a chunk that are read at once.
const READ_ENTRIES: usize = 4096;

type OriginEntry = (OriginKey, Row);

/// Takes entries in any order and gives them back sorted, one for each origin: the one with the lowest row.
#[derive(Debug)]
pub(super) struct OriginSorter {
    entries: Vec<OriginEntry>,
    chunk_entries: usize,
    /// Sorted chunks, one after the other, and how many entries each has.
    chunks: Spill,
    chunk_lengths: Vec<usize>,
}

impl OriginSorter {
    pub(super) fn new() -> Self {
        Self::with_chunks_of(CHUNK_ENTRIES)
    }

    fn with_chunks_of(chunk_entries: usize) -> Self {
        Self {
            entries: Vec::new(),
            chunk_entries,
            chunks: Spill::new(),
            chunk_lengths: Vec::new(),
        }
    }

    /// Takes an entry.
    ///
    /// # Errors
    /// Those of temporary files, here and below.
    pub(super) fn push(&mut self, key: OriginKey, row: Row) -> Result<()> {
        self.entries.push((key, row));
        if self.entries.len() >= self.chunk_entries {
            self.end_chunk()?;
        }
        Ok(())
    }

    fn end_chunk(&mut self) -> Result<()> {
        self.entries.sort_unstable();
        self.chunk_lengths.push(self.entries.len());
        let entries = &mut self.entries;
        self.chunks.append_with(|bytes| {
            for (key, row) in entries.drain(..) {
                bytes.extend_from_slice(&key.run.to_le_bytes());
                bytes.extend_from_slice(&key.row.0.to_le_bytes());
                bytes.extend_from_slice(&row.0.to_le_bytes());
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Gives all entries to `take`, in order.
    pub(super) fn finish(
        mut self,
        mut take: impl FnMut(OriginKey, Row) -> Result<()>,
    ) -> Result<()> {
        let mut last = None;
        let mut take_first = |(key, row): OriginEntry| {
            if last.replace(key) == Some(key) {
                return Ok(());
            }
            take(key, row)
        };
        if self.chunk_lengths.is_empty() {
            self.entries.sort_unstable();
            return self.entries.into_iter().try_for_each(take_first);
        }
        self.end_chunk()?;
        let mut readers = self.readers();
        let mut heap = BinaryHeap::new();
        for (place, reader) in readers.iter_mut().enumerate() {
            heap.extend(
                reader
                    .next(&self.chunks)?
                    .map(|entry| Reverse((entry, place))),
            );
        }
        while let Some(Reverse((entry, place))) = heap.pop() {
            take_first(entry)?;
            heap.extend(
                readers[place]
                    .next(&self.chunks)?
                    .map(|entry| Reverse((entry, place))),
            );
        }
        Ok(())
    }

    fn readers(&self) -> Vec<ChunkReader> {
        let mut offset = 0;
        let reader = |length: &usize| {
            let reader = ChunkReader {
                offset,
                left: *length,
                ready: Vec::new(),
            };
            offset += (length * ENTRY_BYTES) as u64;
            reader
        };
        self.chunk_lengths.iter().map(reader).collect()
    }
}

/// Reads one chunk from its start to its end.
struct ChunkReader {
    offset: u64,
    /// Entries that are not read yet.
    left: usize,
    /// Entries that are, the next one last.
    ready: Vec<OriginEntry>,
}

impl ChunkReader {
    fn next(&mut self, chunks: &Spill) -> Result<Option<OriginEntry>> {
        if self.ready.is_empty() && self.left > 0 {
            let count = self.left.min(READ_ENTRIES);
            let mut bytes = vec![0; count * ENTRY_BYTES];
            chunks.read_at(self.offset, &mut bytes)?;
            self.offset += bytes.len() as u64;
            self.left -= count;
            let (entries, _) = bytes.as_chunks::<ENTRY_BYTES>();
            self.ready.extend(entries.iter().rev().map(decode_entry));
        }
        Ok(self.ready.pop())
    }
}

fn decode_entry(bytes: &[u8; ENTRY_BYTES]) -> OriginEntry {
    let number = |start: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[start..start + 8]);
        Row(u64::from_le_bytes(number))
    };
    let run = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    (
        OriginKey {
            run,
            row: number(4),
        },
        number(12),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn entries_come_back_sorted_and_once(
            entries in prop::collection::vec((0..4_u32, 0..50_u64, any::<u64>()), 0..300),
            chunk_entries in 1..400_usize,
        ) {
            let mut sorter = OriginSorter::with_chunks_of(chunk_entries);
            let mut model = BTreeMap::new();
            for (run, origin_row, row) in entries {
                let key = OriginKey { run, row: Row(origin_row) };
                sorter.push(key, Row(row)).unwrap();
                let lowest = model.entry(key).or_insert(Row(row));
                *lowest = (*lowest).min(Row(row));
            }
            let mut sorted = Vec::new();
            sorter.finish(|key, row| { sorted.push((key, row)); Ok(()) }).unwrap();
            prop_assert_eq!(sorted, model.into_iter().collect::<Vec<_>>());
        }
    }
}
