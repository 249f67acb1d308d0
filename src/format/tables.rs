//! Tables of ids, so that an entry names a pack or an origin run by a small ordinal.
//!
//! Bytes: a varint count of packs, their ids, a varint count of runs, their ids; 16 bytes each. Whatever follows is
//! the reader's caller's.

use std::collections::HashMap;
use std::hash::Hash;

use crate::base::limits::FOOTER_PLAIN_BYTES_MAX;
use crate::base::{ByteReader, ByteWriter, Error, ErrorKind, PackId, Result, RunId};

/// Bytes of an id in a table.
const ID_BYTES: usize = 16;

/// Ids that one table may have, by the bound of what holds it.
const IDS_MAX: usize = FOOTER_PLAIN_BYTES_MAX / ID_BYTES;

/// Gives ordinals to ids as they are met.
#[derive(Debug, Default)]
pub struct TablesWriter {
    packs: Interner<PackId>,
    runs: Interner<RunId>,
}

/// The ids behind the ordinals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    packs: Vec<PackId>,
    runs: Vec<RunId>,
}

/// Ids in the order in which they were first met.
#[derive(Debug)]
struct Interner<T> {
    ordinals: HashMap<T, u32>,
    ids: Vec<T>,
    /// The id asked for last, which is mostly the next one too.
    last: Option<(T, u32)>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self {
            ordinals: HashMap::new(),
            ids: Vec::new(),
            last: None,
        }
    }
}

impl<T: Copy + Eq + Hash> Interner<T> {
    fn ordinal(&mut self, id: T) -> Result<u32> {
        if let Some((last, ordinal)) = self.last
            && last == id
        {
            return Ok(ordinal);
        }
        let ordinal = match self.ordinals.get(&id) {
            Some(ordinal) => *ordinal,
            None => self.add(id)?,
        };
        self.last = Some((id, ordinal));
        Ok(ordinal)
    }

    fn add(&mut self, id: T) -> Result<u32> {
        if self.ids.len() == IDS_MAX {
            return Err(Error::new(
                ErrorKind::Failed,
                format!("a table would need more than {IDS_MAX} ids: write several runs"),
            ));
        }
        let ordinal = self.ids.len() as u32;
        self.ids.push(id);
        self.ordinals.insert(id, ordinal);
        Ok(ordinal)
    }
}

impl TablesWriter {
    /// Tables with nothing in them.
    pub fn new() -> Self {
        Self::default()
    }

    /// The ordinal of a pack.
    ///
    /// # Errors
    /// Failed, like the other one's, if the table is full.
    pub fn pack(&mut self, id: PackId) -> Result<u32> {
        self.packs.ordinal(id)
    }

    /// The ordinal of a run.
    pub fn run(&mut self, id: RunId) -> Result<u32> {
        self.runs.ordinal(id)
    }

    /// The tables so far, for a reader in the same process.
    pub fn to_tables(&self) -> Tables {
        Tables {
            packs: self.packs.ids.clone(),
            runs: self.runs.ids.clone(),
        }
    }

    /// Appends the tables' bytes.
    pub fn encode(&self, writer: &mut ByteWriter) {
        encode_ids(writer, self.packs.ids.iter().map(|id| &id.0));
        encode_ids(writer, self.runs.ids.iter().map(|id| &id.0));
    }
}

impl Tables {
    /// The tables of these ids, for a reader that keeps them elsewhere.
    pub fn new(packs: Vec<PackId>, runs: Vec<RunId>) -> Self {
        Self { packs, runs }
    }

    /// Reads what `TablesWriter::encode` wrote.
    ///
    /// # Errors
    /// Corrupt, if the ids are not all there.
    pub fn decode(reader: &mut ByteReader<'_>) -> Result<Self> {
        Ok(Self {
            packs: decode_ids(reader, PackId)?,
            runs: decode_ids(reader, RunId)?,
        })
    }

    /// All packs, by ordinal.
    pub fn packs(&self) -> &[PackId] {
        &self.packs
    }

    /// All runs, by ordinal.
    pub fn runs(&self) -> &[RunId] {
        &self.runs
    }

    /// The pack of an ordinal, which is the reader's next number.
    pub(super) fn read_pack(&self, reader: &mut ByteReader<'_>) -> Result<PackId> {
        read_id(&self.packs, reader, "a pack")
    }

    /// The run of an ordinal, which is the reader's next number.
    pub(super) fn read_run(&self, reader: &mut ByteReader<'_>) -> Result<RunId> {
        read_id(&self.runs, reader, "a run")
    }
}

fn encode_ids<'a>(writer: &mut ByteWriter, ids: impl ExactSizeIterator<Item = &'a [u8; ID_BYTES]>) {
    writer.varint(ids.len() as u64);
    ids.for_each(|id| writer.raw(id));
}

fn decode_ids<T>(reader: &mut ByteReader<'_>, id: fn([u8; ID_BYTES]) -> T) -> Result<Vec<T>> {
    let count = reader.count(IDS_MAX)?;
    let (ids, _) = reader.raw(count * ID_BYTES)?.as_chunks();
    Ok(ids.iter().map(|bytes| id(*bytes)).collect())
}

fn read_id<T: Copy>(ids: &[T], reader: &mut ByteReader<'_>, noun: &str) -> Result<T> {
    let ordinal = reader.varint()?;
    usize::try_from(ordinal)
        .ok()
        .and_then(|ordinal| ids.get(ordinal).copied())
        .ok_or_else(|| {
            reader.corrupt(&format!(
                "it names {noun} {ordinal} of a table that has {}",
                ids.len()
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_ordinal_however_often_it_is_met() {
        let mut writer = TablesWriter::new();
        let ordinals = [7, 8, 7, 9, 9, 8].map(|byte| writer.pack(PackId([byte; 16])).unwrap());
        assert_eq!(ordinals, [0, 1, 0, 2, 2, 1]);
        assert_eq!(writer.run(RunId([7; 16])).unwrap(), 0);
        let tables = writer.to_tables();
        assert_eq!(tables.packs(), [7, 8, 9].map(|byte| PackId([byte; 16])));
        assert_eq!(tables.runs(), [RunId([7; 16])]);
    }

    #[test]
    fn tables_come_back_and_leave_what_follows() {
        let mut writer = TablesWriter::new();
        for byte in 0..200 {
            writer.pack(PackId([byte; 16])).unwrap();
        }
        writer.run(RunId([1; 16])).unwrap();
        let mut bytes = ByteWriter::new();
        writer.encode(&mut bytes);
        bytes.raw(b"more");
        let mut reader = ByteReader::new("a test", bytes.as_bytes());
        assert_eq!(Tables::decode(&mut reader).unwrap(), writer.to_tables());
        assert_eq!(reader.rest(), b"more");
    }

    #[test]
    fn counts_and_ordinals_that_lie_are_refused() {
        let decode = |bytes: &[u8]| Tables::decode(&mut ByteReader::new("a test", bytes));
        assert!(decode(&[0, 0]).is_ok());
        assert!(decode(&[1, 0, 0]).is_err());
        assert!(decode(&[0, 1, 0]).is_err());
        assert!(decode(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).is_err());
        let tables = decode(&[0, 0]).unwrap();
        assert!(
            tables
                .read_pack(&mut ByteReader::new("a test", &[0]))
                .is_err()
        );
    }
}
