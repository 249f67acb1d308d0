//! Reads a run: its records by key, by row and by origin, and what it says of itself.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::base::{ByteReader, Error, Key, Origin, Result, Row, RunId};
use crate::fetch::{Fetcher, Piece};
use crate::format::run::{
    Block, BlockAt, Counts, Filter, OriginKey, Owners, RunFooter, Sequence, Table, associated_data,
    decode_origin_row, decode_warning, filter_hash, footer_start,
};
use crate::format::{KeyedRecord, Record, RunReference, Section, Tables, decode_record};
use crate::seal::SealedKind;

use super::cursor::{Cursor, Records};
use super::pieces::Pieces;

/// A run that is read. Opening it reads its footer, and nothing else is read before it is asked for. Any thread may
/// use it.
pub struct Run {
    pub(super) pieces: Pieces,
    /// The other runs whose rows it holds.
    origins: Vec<RunId>,
    tables: OnceLock<Arc<Tables>>,
    /// Where each run is in the table of ids, once an origin was asked for.
    ordinals: OnceLock<HashMap<RunId, u32>>,
}

impl Run {
    /// The run that a point refers to.
    ///
    /// # Errors
    /// Missing, if it is not there; corrupt, if its footer is not what was written; denied, unreachable or failed as
    /// the store has it. Those of all other methods are the same, and name run and block.
    pub fn open(fetcher: &Arc<Fetcher>, reference: &RunReference) -> Result<Arc<Self>> {
        let id = reference.id;
        let start = footer_start(reference.length, reference.footer_length).ok_or_else(|| {
            Error::corrupt(format_args!("run {id}"), "it is shorter than its footer")
        })?;
        let plain = footer_plain(fetcher, reference, start)
            .map_err(|error| error.context(format_args!("run {id}, footer")))?;
        let footer = RunFooter::decode(&plain, start)
            .map_err(|error| error.context(format_args!("run {id}")))?;
        Ok(Arc::new(Self {
            pieces: Pieces::new(Arc::clone(fetcher), id, footer),
            origins: reference.origins.clone(),
            tables: OnceLock::new(),
            ordinals: OnceLock::new(),
        }))
    }

    /// Brings what is likely to be asked for first into memory, as far as that works: for a run in a distant store.
    pub fn fetch_ahead(&self) {
        self.pieces.fetch_ahead();
    }

    /// The run's id.
    pub fn id(&self) -> RunId {
        self.pieces.run()
    }

    /// What its entries count.
    pub fn counts(&self) -> &Counts {
        &self.pieces.footer.counts
    }

    /// The other runs whose rows it holds.
    pub fn origins(&self) -> &[RunId] {
        &self.origins
    }

    /// How many rows a section has.
    pub fn rows(&self, section: Section) -> u64 {
        self.pieces.footer.sequence(section.into()).rows
    }

    /// What it records of a key in one section.
    ///
    /// # Errors
    /// See `open`.
    pub fn lookup(&self, section: Section, key: &Key) -> Result<Option<KeyedRecord>> {
        let Some((at, block)) = self.pieces.block_for_key(section.into(), key.as_bytes())? else {
            return Ok(None);
        };
        let in_block = |error| self.pieces.in_block(error, section.into(), &at);
        let Some(place) = block.find(key.as_bytes()).map_err(in_block)? else {
            return Ok(None);
        };
        Ok(Some(KeyedRecord {
            key: key.clone(),
            row: Row(at.first_row.0 + place.index as u64),
            record: self.record(section, block.body(&place)).map_err(in_block)?,
        }))
    }

    /// The record of a row.
    ///
    /// # Errors
    /// Corrupt, if there is no such row; else see `open`.
    pub fn row(&self, section: Section, row: Row) -> Result<KeyedRecord> {
        let no_row = || {
            let rows = self.rows(section);
            Error::corrupt(
                format_args!("run {}", self.id()),
                format_args!("a row {} was asked for, of {rows}", row.0),
            )
        };
        if row.0 >= self.rows(section) {
            return Err(no_row());
        }
        let (at, block) = self
            .pieces
            .block_for_row(section.into(), row)?
            .ok_or_else(no_row)?;
        self.row_of_block(section, row, &at, &block)
            .map_err(|error| self.pieces.in_block(error, section.into(), &at))
    }

    /// Its records in a section whose keys are `from` or sort after it, in order.
    pub fn records(self: &Arc<Self>, section: Section, from: &[u8]) -> Records {
        Records::new(Cursor::open(self, section, from, Vec::new()))
    }

    /// The row in the section of files that an origin or a group's first member has here: its own rows, and those of
    /// other runs.
    ///
    /// # Errors
    /// See `open`.
    pub fn row_of_origin(&self, origin: Origin) -> Result<Option<Row>> {
        let rows = self.rows(Section::Files);
        if origin.run == self.id() {
            return Ok(Some(origin.row).filter(|row| row.0 < rows));
        }
        let Some(ordinal) = self.ordinal(&origin.run)? else {
            return Ok(None);
        };
        let key = OriginKey {
            run: ordinal,
            row: origin.row,
        };
        let key = key.to_bytes();
        let Some((at, block)) = self.pieces.block_for_key(Sequence::Origins, &key)? else {
            return Ok(None);
        };
        let row_of_key = || {
            let place = block.find(&key)?;
            place
                .map(|place| decode_origin_row(block.body(&place), rows))
                .transpose()
        };
        row_of_key().map_err(|error| self.pieces.in_block(error, Sequence::Origins, &at))
    }

    /// May it record something directly in this directory? A no is certain.
    ///
    /// # Errors
    /// See `open`.
    pub fn may_have_children(&self, directory: &Key) -> Result<bool> {
        let prefix = directory.children_prefix();
        let hash = filter_hash(&prefix);
        Ok(
            self.may_have_children_with(Section::Directories, &prefix, hash)?
                || self.may_have_children_with(Section::Files, &prefix, hash)?,
        )
    }

    /// The same for one section, and what the children's keys begin with.
    pub(super) fn may_have_children_with(
        &self,
        section: Section,
        prefix: &[u8],
        hash: u64,
    ) -> Result<bool> {
        Ok(self.rows(section) > 0
            && self
                .pieces
                .filter_has(Filter::of_parents(section), prefix, hash)?)
    }

    /// May it record something of this key in a section? A no is certain.
    pub(super) fn may_have(&self, section: Section, key: &[u8], hash: u64) -> Result<bool> {
        Ok(self.rows(section) > 0
            && self
                .pieces
                .filter_has(Filter::of_keys(section), key, hash)?)
    }

    /// Has it filters at all?
    pub(super) fn has_filters(&self) -> bool {
        self.pieces.footer.filters.is_some()
    }

    /// What the backup warned of: paths from the root without a slash before them, and messages, in the order of the
    /// backup.
    ///
    /// # Errors
    /// See `open`.
    pub fn warnings(&self) -> Result<Vec<(Vec<u8>, String)>> {
        let sequence = Sequence::Warnings;
        let mut warnings = Vec::new();
        while (warnings.len() as u64) < self.pieces.footer.sequence(sequence).rows {
            let row = Row(warnings.len() as u64);
            let Some((at, block)) = self.pieces.block_for_row(sequence, row)? else {
                break;
            };
            let mut read_block = || {
                let mut cursor = block.cursor();
                while cursor.advance()? {
                    warnings.push(decode_warning(cursor.body())?);
                }
                Ok(())
            };
            read_block().map_err(|error| self.pieces.in_block(error, sequence, &at))?;
        }
        Ok(warnings)
    }

    /// The names of owners that it knows.
    ///
    /// # Errors
    /// See `open`.
    pub fn owners(&self) -> Result<Owners> {
        Owners::decode(&self.pieces.table(Table::Owners)?)
            .map_err(|error| error.context(format_args!("run {}", self.id())))
    }

    /// The packs and origin runs that entries name.
    pub(super) fn tables(&self) -> Result<Arc<Tables>> {
        if let Some(tables) = self.tables.get() {
            return Ok(Arc::clone(tables));
        }
        let plain = self.pieces.table(Table::Ids)?;
        let tables = Tables::decode(&mut ByteReader::new("a run's table of ids", &plain))
            .map_err(|error| error.context(format_args!("run {}", self.id())))?;
        Ok(Arc::clone(self.tables.get_or_init(|| Arc::new(tables))))
    }

    /// Where a run is in the table of ids. A run that holds no others' rows is not asked for its table.
    fn ordinal(&self, run: &RunId) -> Result<Option<u32>> {
        if self.origins.is_empty() {
            return Ok(None);
        }
        if let Some(ordinals) = self.ordinals.get() {
            return Ok(ordinals.get(run).copied());
        }
        let tables = self.tables()?;
        let numbered = (0..).zip(tables.runs());
        let ordinals = numbered.map(|(ordinal, run)| (*run, ordinal)).collect();
        Ok(self.ordinals.get_or_init(|| ordinals).get(run).copied())
    }

    /// The record of a body, which is of the section that it was found in.
    pub(super) fn record(&self, section: Section, body: &[u8]) -> Result<Record> {
        decode_record_of(section, body, &*self.tables()?)
    }

    fn row_of_block(
        &self,
        section: Section,
        row: Row,
        at: &BlockAt,
        block: &Block,
    ) -> Result<KeyedRecord> {
        let mut cursor = block.seek_index((row.0 - at.first_row.0) as usize)?;
        cursor.advance()?;
        Ok(KeyedRecord {
            key: Key::from_bytes(cursor.key().to_vec())?,
            row,
            record: self.record(section, cursor.body())?,
        })
    }
}

/// The record of a body, which is of the section that it was found in.
pub(super) fn decode_record_of(section: Section, body: &[u8], tables: &Tables) -> Result<Record> {
    let record = decode_record(&mut ByteReader::new("an entry", body), tables)?;
    match &record {
        Record::Entry(entry) if entry.metadata.file_type.section() != section => {
            Err(Error::corrupt(
                "an entry",
                "it is in the section of other types than its own",
            ))
        }
        _ => Ok(record),
    }
}

fn footer_plain(fetcher: &Fetcher, reference: &RunReference, start: u64) -> Result<Bytes> {
    let associated = associated_data(&reference.id, 0, 0);
    match &reference.footer {
        Some(sealed) => {
            let kind = SealedKind::RunFooter;
            let seal = fetcher.repository().seal();
            Ok(seal
                .open(kind, &associated, sealed, kind.plain_bytes_max())?
                .into())
        }
        None => fetcher.piece(&Piece {
            run: reference.id,
            offset: start,
            length: reference.footer_length,
            kind: SealedKind::RunFooter,
            associated: &associated,
        }),
    }
}
