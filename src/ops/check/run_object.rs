//! A run's object, piece by piece, where damage to one keeps none of the others from being read.

use bytes::Bytes;

use super::Check;
use crate::base::{Error, Result, Row, RunId};
use crate::format::run::{
    Block, BlockAt, IndexPart, PieceAt, RUN_TRAILER_BYTES, RunFooter, Sequence, associated_data,
    decode_block_at, decode_run_trailer,
};
use crate::format::{RunReference, run_name};
use crate::seal::SealedKind;

/// Bytes that one request fetches of a run's blocks, unless a single one is larger.
const REQUEST_BYTES: u64 = 4 << 20;

/// Bytes at a run's end that hold most footers whole.
const TAIL_BYTES: u64 = 64 << 10;

/// A run with its footer.
pub(super) struct RunObject<'a> {
    check: &'a Check<'a>,
    pub(super) id: RunId,
    pub(super) name: String,
    /// Bytes of the whole object.
    pub(super) length: u64,
    /// The footer as it is sealed.
    pub(super) sealed_footer: Vec<u8>,
    pub(super) footer: RunFooter,
}

/// A block that was looked for, or a part of the index that should have led to some.
pub(super) struct FoundBlock {
    /// Where it is, for messages.
    pub(super) place: String,
    /// The row of its first record.
    pub(super) first_row: Row,
    /// The first key in it, by the index.
    pub(super) first_key: Vec<u8>,
    /// What it holds, or why it cannot be read.
    pub(super) block: Result<Block>,
}

impl<'a> RunObject<'a> {
    /// Opens the run by its own footer.
    ///
    /// # Errors
    /// Missing; corrupt, if trailer or footer are; and those of the store.
    pub(super) fn open(check: &'a Check<'a>, id: RunId) -> Result<Self> {
        let name = run_name(&id);
        let store = check.repository.store();
        let (tail, length) = store.get_tail(&name, TAIL_BYTES)?;
        let trailer = tail
            .last_chunk::<RUN_TRAILER_BYTES>()
            .ok_or_else(|| Error::corrupt("the run", "it is shorter than its trailer"))?;
        let (start, footer_length) = decode_run_trailer(trailer, length)?;
        let tail_start = length - tail.len() as u64;
        let sealed = if start >= tail_start {
            tail[(start - tail_start) as usize..][..footer_length as usize].to_vec()
        } else {
            store.get_range(&name, start..start + u64::from(footer_length))?
        };
        let footer = decode_footer(check, id, &sealed, start)?;
        Ok(Self {
            check,
            id,
            name,
            length,
            sealed_footer: sealed,
            footer,
        })
    }

    /// Opens it by the footer that a point has of it, as readers do.
    ///
    /// # Errors
    /// Missing, if the point has none; corrupt, if it is.
    pub(super) fn open_by_point(check: &'a Check<'a>, reference: &RunReference) -> Result<Self> {
        let sealed = reference
            .footer
            .clone()
            .ok_or_else(|| Error::missing("the footer in the point"))?;
        let start = reference
            .length
            .checked_sub(u64::from(reference.footer_length) + RUN_TRAILER_BYTES as u64)
            .ok_or_else(|| Error::corrupt("the run", "it is shorter than its footer"))?;
        let footer = decode_footer(check, reference.id, &sealed, start)?;
        Ok(Self {
            check,
            id: reference.id,
            name: run_name(&reference.id),
            length: reference.length,
            sealed_footer: sealed,
            footer,
        })
    }

    /// The plain bytes of a piece.
    ///
    /// # Errors
    /// Corrupt, if it is not what was sealed in this place; and those of the store.
    pub(super) fn piece(
        &self,
        kind: SealedKind,
        part_of: u8,
        number: u64,
        at: &PieceAt,
    ) -> Result<Bytes> {
        match at {
            PieceAt::Inline(plain) => Ok(plain.clone()),
            PieceAt::Apart { offset, length } => {
                let range = *offset..offset + u64::from(*length);
                let sealed = self.check.repository.store().get_range(&self.name, range)?;
                self.open_piece(kind, part_of, number, &sealed)
            }
        }
    }

    fn open_piece(
        &self,
        kind: SealedKind,
        part_of: u8,
        number: u64,
        sealed: &[u8],
    ) -> Result<Bytes> {
        let associated = associated_data(&self.id, part_of, number);
        let seal = self.check.repository.seal();
        let plain = seal.open(kind, &associated, sealed, kind.plain_bytes_max())?;
        Ok(plain.into())
    }

    /// Gives all blocks of a sequence to `take`, in order, and those that cannot be read as such.
    ///
    /// # Errors
    /// Those of `take`; interrupted.
    pub(super) fn each_block(
        &self,
        sequence: Sequence,
        mut take: impl FnMut(FoundBlock) -> Result<()>,
    ) -> Result<()> {
        for (number, part) in self.footer.sequence(sequence).index.iter().enumerate() {
            match self.blocks_of_part(sequence, number, part) {
                Ok(blocks) => self.each_block_of(sequence, &blocks, &mut take)?,
                Err(error) => take(FoundBlock {
                    place: format!("part {number} of the index of {sequence}"),
                    first_row: part.first_row,
                    first_key: part.first_key.clone(),
                    block: Err(error),
                })?,
            }
        }
        Ok(())
    }

    /// The places of the blocks that a part of an index leads to, with their first keys.
    fn blocks_of_part(
        &self,
        sequence: Sequence,
        number: usize,
        part: &IndexPart,
    ) -> Result<Vec<(BlockAt, Vec<u8>)>> {
        let kind = SealedKind::RunBlockIndex;
        let plain = self.piece(kind, sequence as u8, number as u64, &part.at)?;
        let mut cursor = Block::open(plain)?.cursor();
        let end = self.footer.sequence(sequence).end();
        let mut blocks: Vec<(BlockAt, Vec<u8>)> = Vec::new();
        let mut next = part.offset;
        while cursor.advance()? {
            let at = decode_block_at(part, blocks.len(), cursor.body(), end)?;
            if at.offset != next {
                return Err(Error::corrupt(
                    "the index",
                    "its blocks do not lie end to end",
                ));
            }
            next = end_of(&at);
            blocks.push((at, cursor.key().to_vec()));
        }
        Ok(blocks)
    }

    /// Reads blocks that lie end to end, as many in one request as fit it.
    fn each_block_of(
        &self,
        sequence: Sequence,
        blocks: &[(BlockAt, Vec<u8>)],
        take: &mut impl FnMut(FoundBlock) -> Result<()>,
    ) -> Result<()> {
        let mut rest = blocks;
        while let Some((first, _)) = rest.first() {
            self.check.go_on()?;
            let count = rest
                .partition_point(|(at, _)| end_of(at) - first.offset <= REQUEST_BYTES)
                .max(1);
            let (window, after) = rest.split_at(count);
            rest = after;
            let range = first.offset..end_of(&window[count - 1].0);
            let fetched = self.check.repository.store().get_range(&self.name, range);
            for (at, first_key) in window {
                let block = match &fetched {
                    Ok(bytes) => {
                        let sealed =
                            &bytes[(at.offset - first.offset) as usize..][..at.length as usize];
                        self.open_piece(sequence.block_kind(), sequence as u8, at.number, sealed)
                            .and_then(Block::open)
                    }
                    Err(error) => Err(Error::new(error.kind(), error.to_string())),
                };
                take(FoundBlock {
                    place: format!("block {} of {sequence}, at {}", at.number, at.offset),
                    first_row: at.first_row,
                    first_key: first_key.clone(),
                    block,
                })?;
            }
        }
        Ok(())
    }
}

fn end_of(at: &BlockAt) -> u64 {
    at.offset + u64::from(at.length)
}

fn decode_footer(check: &Check<'_>, id: RunId, sealed: &[u8], start: u64) -> Result<RunFooter> {
    let kind = SealedKind::RunFooter;
    let associated = associated_data(&id, 0, 0);
    let seal = check.repository.seal();
    let plain = seal.open(kind, &associated, sealed, kind.plain_bytes_max())?;
    RunFooter::decode(&plain, start)
}
