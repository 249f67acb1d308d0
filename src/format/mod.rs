//! Every object of a repository as bytes and as structs, and the way between them: pure functions, no input or output.
//!
//! One file per section of the format page, `man/bygone-format.5`, which changes in the same commit as these and
//! their golden files.

mod entry;
pub mod run;

pub use entry::{
    ChunkPlace, Content, EXTENT_LIST_SPAN, Entry, EntryFlags, Extent, ExtentList, FileType, Hint,
    INLINE_BYTES_MAX, KeyedRecord, Metadata, Record, Section, Xattr,
};
