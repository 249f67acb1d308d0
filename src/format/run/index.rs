//! The block index: from a key or a row to the block that has it.
//!
//! Each sequence of blocks has one. Its entries stand in blocks themselves (module `block`), the *index parts*: the
//! key is the first key of a block, the body its first row, its offset (both counted from the part's own) and its
//! sealed length, as varints. The footer has the parts' first keys and rows. A part is cut at about 1 MiB, enough
//! for ten million entries, so that a typical run has one.

use crate::base::{ByteReader, ByteWriter, Result, Row};

use super::block::Block;
use super::place::{PieceAt, is_sealed_length, lies_before};

/// Plain bytes from which on an index part is full.
pub const INDEX_PART_BYTES_TARGET: usize = 1 << 20;

/// What the footer knows of an index part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexPart {
    /// The first key in the blocks that it leads to.
    pub first_key: Vec<u8>,
    /// The first row in them.
    pub first_row: Row,
    /// The number of the first of them.
    pub first_block: u64,
    /// Where the first of them lies in the object.
    pub offset: u64,
    pub at: PieceAt,
}

/// A block's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockAt {
    /// Its number in the sequence.
    pub number: u64,
    pub first_row: Row,
    /// Its first byte in the object.
    pub offset: u64,
    /// Its sealed length.
    pub length: u32,
}

/// The body of an index entry.
pub fn encode_block_at(part: &IndexPart, block: &BlockAt, writer: &mut ByteWriter) {
    writer.varint(block.first_row.0 - part.first_row.0);
    writer.varint(block.offset - part.offset);
    writer.varint(u64::from(block.length));
}

/// The block that the entry of number `index` in a part leads to. `end` is where the blocks of the sequence end.
///
/// # Errors
/// Corrupt, if the body is none or leads out of the sequence.
pub fn decode_block_at(part: &IndexPart, index: usize, body: &[u8], end: u64) -> Result<BlockAt> {
    let mut reader = ByteReader::new("a run's block index", body);
    let first_row = part.first_row.0.checked_add(reader.varint()?);
    let offset = part.offset.checked_add(reader.varint()?);
    let length = reader.varint_u32()?;
    match (first_row, offset) {
        (Some(first_row), Some(offset))
            if is_sealed_length(length) && lies_before(offset, u64::from(length), end) =>
        {
            Ok(BlockAt {
                number: part.first_block + index as u64,
                first_row: Row(first_row),
                offset,
                length,
            })
        }
        _ => Err(reader.corrupt("a block lies outside of its sequence")),
    }
}

/// The block in whose range of keys `key` lies, if it does not sort before all of them.
///
/// # Errors
/// Corrupt, like those of all here.
pub fn block_of_key(
    part: &IndexPart,
    index: &Block,
    key: &[u8],
    end: u64,
) -> Result<Option<BlockAt>> {
    index
        .floor(key)?
        .map(|place| decode_block_at(part, place.index, index.body(&place), end))
        .transpose()
}

/// The block in whose range of rows `row` lies, if it is not before all of them.
///
/// # Errors
/// Corrupt, like those of all here.
pub fn block_of_row(
    part: &IndexPart,
    index: &Block,
    row: Row,
    end: u64,
) -> Result<Option<BlockAt>> {
    let place = index.floor_by_body(|body| {
        let first = ByteReader::new("a run's block index", body).varint()?;
        Ok(part
            .first_row
            .0
            .checked_add(first)
            .is_some_and(|first| first <= row.0))
    })?;
    place
        .map(|place| decode_block_at(part, place.index, index.body(&place), end))
        .transpose()
}
