//! Every object of a repository as bytes and as structs, and the way between them: pure functions, no input or output.
//!
//! One file per section of the format page, `man/bygone-format.5`, which changes in the same commit as these and
//! their golden files.

mod config;
mod entry;
mod extents;
mod features;
mod index;
mod json;
mod keys;
mod lease;
mod name;
mod pack;
mod point;
mod record;
mod roll_up;
pub mod run;
mod tables;
mod text;
mod times;
mod trailer;

pub use config::{Chunking, Config, FORMAT_VERSION, SealMethod};
pub use entry::{
    ChunkPlace, Content, EXTENT_LIST_SPAN, Entry, EntryFlags, Extent, ExtentList, FileType, Hint,
    INLINE_BYTES_MAX, KeyedRecord, Metadata, Record, Section, Xattr,
};
pub use extents::{decode_extents, encode_extents};
pub use features::Features;
pub use index::{
    IndexEncoder, IndexFooter, IndexRow, IndexSection, PACKS_PER_PAGE, PREFIX_BYTES, ROWS_PER_PAGE,
    decode_packs, decode_plain_rows, decode_rows, prefix_of,
};
pub use json::{decode_json, encode_json};
pub use keys::{KeyDescription, KeyObject, NewKey};
pub use lease::{LeaseKind, LeaseRecord};
pub use name::{
    CATALOGUE_PREFIX, CONFIG_NAME, INDEX_PREFIX, KEYS_PREFIX, LEASES_PREFIX, PACKS_PREFIX,
    POINTS_PREFIX, RUNS_PREFIX, index_name, key_name, lease_name, pack_name, point_name,
    roll_up_name, run_name,
};
pub use pack::{FrameChunk, PackDirectory, PackFrame};
pub use point::{
    FOOTER_IN_POINT_BYTES_MAX, Figures, Moment, PathMapping, Point, PointKind, RunReference,
};
pub use record::{decode_record, encode_record};
pub use roll_up::{ROLLED_IDS_MAX, RollUp, RollUpId};
pub use tables::{Tables, TablesWriter};
