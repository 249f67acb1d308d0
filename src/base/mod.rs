//! What every layer shares: errors, ids, paths and their order, limits, byte coding, and the monitor.
//!
//! Nothing here does input or output, and nothing here knows what a repository looks like.

mod coding;
mod error;
mod ids;
mod key;
pub mod limits;
mod monitor;
mod time;

pub use coding::{ByteReader, ByteWriter};
pub use error::{Error, ErrorKind, Result};
pub use ids::{
    ChunkId, IndexId, KeyId, LeaseId, Origin, PackId, PointId, RepositoryId, Row, RunId,
};
pub use key::{Key, NAME_BYTES_MAX};
pub use monitor::{Event, Monitor, Silent};
pub use time::Timestamp;
