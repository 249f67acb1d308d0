//! Writes one sequence of blocks and the index that leads to them.

use bytes::Bytes;

use crate::base::{ByteWriter, Error, ErrorKind, Result, Row, RunId};
use crate::format::run::{
    BLOCK_BYTES_TARGET, BlockAt, BlockWriter, INDEX_PART_BYTES_TARGET, INLINE_PIECE_BYTES_MAX,
    IndexPart, PieceAt, Sequence, SequenceAt, associated_data, encode_block_at,
};
use crate::repo::Repository;
use crate::seal::{Compression, SealedKind};

use super::spill::Spill;

/// Seals the pieces of one run.
#[derive(Clone, Copy)]
pub(super) struct Sealer<'a> {
    pub(super) repository: &'a Repository,
    pub(super) run: RunId,
}

impl Sealer<'_> {
    /// Appends a sealed piece; returns its sealed length.
    pub(super) fn seal(
        &self,
        kind: SealedKind,
        part_of: u8,
        number: u64,
        plain: &[u8],
        out: &mut Spill,
    ) -> Result<u32> {
        let compression = match kind {
            // Fingerprints are noise.
            SealedKind::RunFilter => Compression::Off,
            _ => self.repository.config().compression,
        };
        let associated = associated_data(&self.run, part_of, number);
        let seal = self.repository.seal();
        let appended =
            out.append_with(|bytes| seal.seal(kind, &associated, plain, compression, bytes))?;
        u32::try_from(appended).map_err(|_| {
            Error::new(
                ErrorKind::Failed,
                format!("{kind} would have {appended} bytes"),
            )
        })
    }

    /// Puts a piece where the footer can find it: into the footer, if it is small, or else at the end of `out`.
    pub(super) fn place(
        &self,
        kind: SealedKind,
        part_of: u8,
        number: u64,
        plain: &[u8],
        out: &mut Spill,
    ) -> Result<PieceAt> {
        if plain.len() <= INLINE_PIECE_BYTES_MAX {
            return Ok(PieceAt::Inline(Bytes::copy_from_slice(plain)));
        }
        let offset = out.length();
        let length = self.seal(kind, part_of, number, plain, out)?;
        Ok(PieceAt::Apart { offset, length })
    }
}

/// Writes a sequence. Offsets count from its own start until it is finished.
pub(super) struct BlocksWriter<'a> {
    sealer: Sealer<'a>,
    sequence: Sequence,
    block: BlockWriter,
    /// The first key of the block under way.
    first_key: Vec<u8>,
    /// The last key of the block before.
    key_before: Vec<u8>,
    /// The first row of the block under way.
    first_row: u64,
    blocks: u64,
    index: BlockWriter,
    index_body: ByteWriter,
    /// What leads to the index part under way, and to those before, with their plain bytes.
    part: Option<IndexPart>,
    parts: Vec<(IndexPart, Vec<u8>)>,
    out: Spill,
}

impl<'a> BlocksWriter<'a> {
    pub(super) fn new(sealer: Sealer<'a>, sequence: Sequence) -> Self {
        Self {
            sealer,
            sequence,
            block: BlockWriter::new(),
            first_key: Vec::new(),
            key_before: Vec::new(),
            first_row: 0,
            blocks: 0,
            index: BlockWriter::new(),
            index_body: ByteWriter::new(),
            part: None,
            parts: Vec::new(),
            out: Spill::new(),
        }
    }

    /// The row that the next entry gets.
    pub(super) fn next_row(&self) -> Row {
        Row(self.first_row + self.block.len() as u64)
    }

    /// Appends an entry.
    ///
    /// # Errors
    /// Failed, if the key does not sort after those before it; usage, if the entry is beyond the format's limits;
    /// those of sealing and of temporary files.
    pub(super) fn push(&mut self, key: &[u8], body: &[u8]) -> Result<Row> {
        let row = self.next_row();
        let before = if self.block.is_empty() {
            &self.key_before
        } else {
            self.block.last_key()
        };
        if row.0 > 0 && key <= before {
            return Err(Error::new(
                ErrorKind::Failed,
                format!(
                    "entries come out of order: {:?} after {:?}",
                    key.escape_ascii().to_string(),
                    before.escape_ascii().to_string()
                ),
            ));
        }
        if self.block.is_empty() {
            self.first_key.clear();
            self.first_key.extend_from_slice(key);
        }
        self.block.push(key, body)?;
        if self.block.plain_length() >= BLOCK_BYTES_TARGET {
            self.end_block()?;
        }
        Ok(row)
    }

    fn end_block(&mut self) -> Result<()> {
        let rows = self.block.len() as u64;
        self.key_before.clear();
        self.key_before.extend_from_slice(self.block.last_key());
        let offset = self.out.length();
        let (sealer, sequence, number, out) =
            (self.sealer, self.sequence, self.blocks, &mut self.out);
        let length = self.block.finish_block(|plain| {
            sealer.seal(sequence.block_kind(), sequence as u8, number, plain, out)
        })?;
        self.add_to_index(&BlockAt {
            number,
            first_row: Row(self.first_row),
            offset,
            length,
        })?;
        self.first_row += rows;
        self.blocks += 1;
        Ok(())
    }

    fn add_to_index(&mut self, block: &BlockAt) -> Result<()> {
        let first_key = &self.first_key;
        let part = self.part.get_or_insert_with(|| IndexPart {
            first_key: first_key.clone(),
            first_row: block.first_row,
            first_block: block.number,
            offset: block.offset,
            at: PieceAt::empty(),
        });
        self.index_body.clear();
        encode_block_at(part, block, &mut self.index_body);
        self.index.push(first_key, self.index_body.as_bytes())?;
        if self.index.plain_length() >= INDEX_PART_BYTES_TARGET {
            self.end_index_part();
        }
        Ok(())
    }

    fn end_index_part(&mut self) {
        if let Some(part) = self.part.take() {
            let plain = self.index.finish_block(<[u8]>::to_vec);
            self.parts.push((part, plain));
        }
    }

    /// Appends all blocks to `object`. What comes back still has to place the index.
    pub(super) fn finish_blocks(mut self, object: &mut Spill) -> Result<FinishedBlocks> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        self.end_index_part();
        let offset = object.length();
        let length = self.out.length();
        if offset == 0 && length > 0 {
            // The first and longest sequence is not copied.
            *object = self.out;
        } else {
            object.append_all(&self.out)?;
        }
        Ok(FinishedBlocks {
            sequence: self.sequence,
            at: SequenceAt {
                rows: self.first_row,
                blocks: self.blocks,
                offset,
                length,
                index: Vec::new(),
            },
            parts: self.parts,
        })
    }
}

/// A sequence whose blocks are in the object, and whose index is not.
pub(super) struct FinishedBlocks {
    sequence: Sequence,
    at: SequenceAt,
    parts: Vec<(IndexPart, Vec<u8>)>,
}

impl FinishedBlocks {
    /// Appends the index; returns what the footer has to know.
    pub(super) fn finish_index(
        mut self,
        sealer: Sealer<'_>,
        object: &mut Spill,
    ) -> Result<SequenceAt> {
        for (number, (mut part, plain)) in self.parts.into_iter().enumerate() {
            part.offset += self.at.offset;
            part.at = sealer.place(
                SealedKind::RunBlockIndex,
                self.sequence as u8,
                number as u64,
                &plain,
                object,
            )?;
            self.at.index.push(part);
        }
        Ok(self.at)
    }
}
