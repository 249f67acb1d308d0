//! Entries of the origin map: (origin run's ordinal, row there) -> row here, in blocks that are searched.
//!
//! The key is the ordinal in four bytes, then the row in eight, big-endian, so that their order is that of numbers;
//! the body is the row here, a varint.

use crate::base::{ByteReader, ByteWriter, Result, Row};

/// An origin whose run is an ordinal in the table of origin runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OriginKey {
    pub run: u32,
    pub row: Row,
}

impl OriginKey {
    /// As a key in the origin map.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.run.to_be_bytes());
        bytes[4..].copy_from_slice(&self.row.0.to_be_bytes());
        bytes
    }
}

/// The body of an entry in the origin map.
pub fn encode_origin_row(row: Row, writer: &mut ByteWriter) {
    writer.varint(row.0);
}

/// The row that a body names, of `rows` that there are.
///
/// # Errors
/// Corrupt, if there is no such row.
pub fn decode_origin_row(body: &[u8], rows: u64) -> Result<Row> {
    let mut reader = ByteReader::new("a run's origin map", body);
    let row = reader.varint()?;
    if row >= rows {
        return Err(reader.corrupt(&format!("it names row {row} of {rows}")));
    }
    Ok(Row(row))
}
