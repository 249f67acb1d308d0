//! Runs: sorted entries in blocks, with what leads to them.
//!
//! A run's object is sealed pieces, each at the end of the one before, then a trailer:
//!
//! ```text
//! blocks of files | blocks of directories | blocks of the origin map | blocks of warnings
//! parts of the filters | table of owners | table of ids | parts of the block index | footer | trailer
//! ```
//!
//! Each of the four sequences of blocks has a block index, itself in blocks; the footer has its top level. What is
//! small stands in the footer itself, so that a small run is found whole where its footer is.
//!
//! Here are the bytes alone: what a run's records mean together is `manifest`'s.

mod block;
mod filter;
mod footer;
mod index;
mod origins;
mod place;
mod tables;

pub use block::{BLOCK_BYTES_TARGET, Block, BlockCursor, BlockWriter, KEY_BYTES_MAX, Place};
pub use filter::{FILTER_PART_KEYS, build_filter, filter_contains, filter_hash};
pub use footer::{
    Counts, FilterPart, RUN_TRAILER_BYTES, RunFooter, SequenceAt, decode_run_trailer,
    encode_run_trailer, footer_start,
};
pub use index::{
    BlockAt, INDEX_PART_BYTES_TARGET, IndexPart, block_of_key, block_of_row, decode_block_at,
    encode_block_at,
};
pub use origins::{OriginKey, decode_origin_row, encode_origin_row};
pub use place::{Filter, INLINE_PIECE_BYTES_MAX, PieceAt, Sequence, Table, associated_data};
pub use tables::{Owner, Owners, decode_warning, encode_warning};
