//! Records: their order, their rows, what filters say of them, and the content of their entries.

use bytes::Bytes;

use super::Check;
use super::costs::{Costs, Lost};
use super::locations::Locations;
use super::origins::OriginsProbe;
use super::run_object::{FoundBlock, RunObject};
use crate::base::{ByteReader, Error, Key, Result, Row};
use crate::format::run::{Block, Counts, Filter, filter_contains, filter_hash};
use crate::format::{Entry, FileType, Record, Section, Tables, decode_record};
use crate::seal::SealedKind;

/// The check of one section of a run, block by block.
pub(super) struct RecordsCheck<'a> {
    check: &'a Check<'a>,
    object: &'a RunObject<'a>,
    section: Section,
    tables: &'a Tables,
    /// The row that comes next; None behind a block that could not be read.
    next_row: Option<Row>,
    last_key: Option<Vec<u8>>,
    is_whole: bool,
    keys: FilterProbe,
    parents: FilterProbe,
    /// Asked about files, as long as the origin map can be read.
    origins: Option<OriginsProbe>,
}

impl<'a> RecordsCheck<'a> {
    pub(super) fn new(
        check: &'a Check<'a>,
        object: &'a RunObject<'a>,
        section: Section,
        tables: &'a Tables,
        origins: Option<OriginsProbe>,
    ) -> Self {
        Self {
            check,
            object,
            section,
            tables,
            next_row: Some(Row(0)),
            last_key: None,
            is_whole: true,
            keys: FilterProbe::new(Filter::of_keys(section)),
            parents: FilterProbe::new(Filter::of_parents(section)),
            origins,
        }
    }

    /// What leads to records by their origins, when all were checked.
    pub(super) fn into_origins(self) -> Option<OriginsProbe> {
        self.origins
    }

    /// Could all of it be read?
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Tells of a block that cannot be read, and of what that costs.
    pub(super) fn skip_block(&mut self, found: FoundBlock, costs: &mut Costs<'_>) -> Result<()> {
        self.is_whole = false;
        self.next_row = None;
        if let Err(error) = found.block {
            self.check
                .reporter
                .failed(&self.object.name, error.context(&found.place))?;
        }
        self.lose_from(&found.place, &found.first_key, costs)
    }

    /// Checks a block's records, and counts them.
    pub(super) fn check_block(
        &mut self,
        found: &FoundBlock,
        block: &Block,
        counts: &mut Counts,
        locations: &mut Locations<'_, '_>,
        costs: &mut Costs<'_>,
    ) -> Result<()> {
        if self.next_row.is_some_and(|next| next != found.first_row) {
            self.damaged(&found.place, "its rows do not follow those before")?;
        }
        let mut row = found.first_row;
        let mut cursor = block.cursor();
        loop {
            match cursor.advance() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.is_whole = false;
                    self.damaged(&found.place, &error.to_string())?;
                    self.lose_from(&found.place, &found.first_key, costs)?;
                    break;
                }
            }
            if row == found.first_row && cursor.key() != found.first_key {
                self.damaged(&found.place, "its first key is not the one in the index")?;
            }
            self.check_key(&found.place, cursor.key())?;
            match self.read_record(cursor.key(), cursor.body()) {
                Ok((key, record)) => {
                    self.count(&record, counts);
                    self.check_origins(&found.place, row, &record)?;
                    self.check_content(key, row, &record, locations, costs)?;
                }
                Err(error) => {
                    self.is_whole = false;
                    self.damaged(&found.place, &format!("row {}: {error}", row.0))?;
                    self.lose_from(&found.place, cursor.key(), costs)?;
                }
            }
            row.0 += 1;
        }
        self.next_row = Some(row);
        Ok(())
    }

    /// Does the key sort after the one before, and do the filters have it?
    fn check_key(&mut self, place: &str, key: &[u8]) -> Result<()> {
        if self.last_key.as_deref().is_some_and(|last| last >= key) {
            self.damaged(place, "its keys do not sort after those before")?;
        }
        let last = self.last_key.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        if !self.keys.has(self.object, key)? {
            self.damaged(place, "a filter lacks a key of it")?;
        }
        // What the keys of a directory's children begin with ends where the name begins.
        let name = key.iter().rposition(|byte| *byte == 0).map(|zero| zero + 1);
        if let Some(name) = name
            && !self.parents.has(self.object, &key[..name])?
        {
            self.damaged(place, "a filter lacks a directory that it has children of")?;
        }
        Ok(())
    }

    fn read_record(&self, key: &[u8], body: &[u8]) -> Result<(Key, Record)> {
        let key = Key::from_bytes(key.to_vec())?;
        let record = decode_record(&mut ByteReader::new("a record", body), self.tables)?;
        match &record {
            Record::Entry(entry) if entry.metadata.file_type.section() != self.section => Err(
                Error::corrupt(&key, "it is in the section of other types than its own"),
            ),
            _ => Ok((key, record)),
        }
    }

    fn count(&self, record: &Record, counts: &mut Counts) {
        let (all, tombstones) = match self.section {
            Section::Directories => (&mut counts.directories, &mut counts.directory_tombstones),
            Section::Files => (&mut counts.files, &mut counts.file_tombstones),
        };
        *all += 1;
        match record {
            Record::Tombstone { .. } => *tombstones += 1,
            Record::Entry(entry) => {
                let is_directory = entry.metadata.file_type == FileType::Directory;
                counts.linked += u64::from(!is_directory && entry.metadata.links > 1);
                counts.with_xattrs += u64::from(!entry.metadata.xattrs.is_empty());
            }
        }
    }

    fn check_origins(&mut self, place: &str, row: Row, record: &Record) -> Result<()> {
        let (Record::Entry(entry), Some(origins)) = (record, &mut self.origins) else {
            return Ok(());
        };
        match origins.problem(row, entry) {
            Some(problem) => self.damaged(place, &problem),
            None => Ok(()),
        }
    }

    fn check_content(
        &self,
        key: Key,
        row: Row,
        record: &Record,
        locations: &mut Locations<'_, '_>,
        costs: &mut Costs<'_>,
    ) -> Result<()> {
        let Record::Entry(entry) = record else {
            return Ok(());
        };
        match locations.problem(entry)? {
            Some(problem) => costs.add(Lost { key, row, problem }),
            None => Ok(()),
        }
    }

    fn damaged(&self, place: &str, problem: &str) -> Result<()> {
        self.check
            .reporter
            .damaged(&self.object.name, format!("{place}: {problem}"))
    }

    fn lose_from(&self, place: &str, first_key: &[u8], costs: &mut Costs<'_>) -> Result<()> {
        let from = match Key::from_bytes(first_key.to_vec()) {
            Ok(key) => key.to_string(),
            Err(_) => first_key.escape_ascii().to_string(),
        };
        costs.lose_part(&format!("some that it records, from {from} on ({place})"))
    }
}

/// Calls `take` with every entry of a run that can be read, its key and its row.
pub(super) fn each_entry(
    object: &RunObject<'_>,
    tables: &Tables,
    mut take: impl FnMut(Key, Row, &Entry) -> Result<()>,
) -> Result<()> {
    for section in [Section::Directories, Section::Files] {
        object.each_block(section.into(), |found| {
            let Ok(block) = found.block else {
                return Ok(());
            };
            let mut cursor = block.cursor();
            let mut row = found.first_row;
            // What is damaged here was told of before.
            while cursor.advance().unwrap_or(false) {
                let key = Key::from_bytes(cursor.key().to_vec());
                let record = decode_record(&mut ByteReader::new("a record", cursor.body()), tables);
                if let (Ok(key), Ok(Record::Entry(entry))) = (key, record) {
                    take(key, row, &entry)?;
                }
                row.0 += 1;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Asks a filter about rising keys, one part in memory.
struct FilterProbe {
    filter: Filter,
    part: Option<(usize, Bytes)>,
}

impl FilterProbe {
    fn new(filter: Filter) -> Self {
        Self { filter, part: None }
    }

    /// May the filter have this key? Yes where there is none, or where it cannot be read, which is told elsewhere.
    fn has(&mut self, object: &RunObject<'_>, key: &[u8]) -> Result<bool> {
        let Some(parts) = object.footer.filter(self.filter) else {
            return Ok(true);
        };
        let below = parts.partition_point(|part| &part.first_key[..] <= key);
        let Some(number) = below.checked_sub(1) else {
            return Ok(false);
        };
        if self
            .part
            .as_ref()
            .is_none_or(|(current, _)| *current != number)
        {
            let kind = SealedKind::RunFilter;
            let part_of = self.filter as u8;
            match object.piece(kind, part_of, number as u64, &parts[number].at) {
                Ok(plain) => self.part = Some((number, plain)),
                Err(_) => return Ok(true),
            }
        }
        match &self.part {
            Some((_, plain)) => Ok(filter_contains(plain, filter_hash(key)).unwrap_or(false)),
            None => Ok(true),
        }
    }
}
