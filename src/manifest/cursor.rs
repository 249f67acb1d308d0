//! Goes through the records of one section of a run, in order.

use std::sync::Arc;

use crate::base::{Error, Key, Result, Row, RunId};
use crate::format::run::{Block, BlockAt, BlockCursor, Sequence, decode_block_at};
use crate::format::{KeyedRecord, Record, Section, Tables};

use super::pieces::OpenIndex;
use super::run::{Run, decode_record_of};

/// A place among the records of one section. Keys that do not begin with the prefix are the end, and blocks beyond it
/// are not fetched.
pub(super) struct Cursor {
    run: Arc<Run>,
    section: Section,
    tables: Arc<Tables>,
    prefix: Vec<u8>,
    /// The index part that led to the block, and its number.
    part: usize,
    index: BlockCursor,
    at: BlockAt,
    entries: BlockCursor,
}

impl Cursor {
    /// A cursor before the first record whose key is `from` or sorts after it; None if the section has none there
    /// that begins with `prefix`, as far as can be told without looking into the blocks.
    ///
    /// # Errors
    /// Those of reading a run, here and below.
    pub(super) fn open(
        run: &Arc<Run>,
        section: Section,
        from: &[u8],
        prefix: Vec<u8>,
    ) -> Result<Option<Self>> {
        let sequence = Sequence::from(section);
        let parts = &run.pieces.footer.sequence(sequence).index;
        if parts.is_empty() {
            return Ok(None);
        }
        let part = parts
            .partition_point(|part| &part.first_key[..] <= from)
            .saturating_sub(1);
        let open = run.pieces.index(sequence, part)?;
        let index = floor_cursor(&open.block, from)
            .map_err(|error| run.pieces.in_index(error, sequence))?;
        if is_beyond(index.key(), &prefix) {
            return Ok(None);
        }
        let at = block_at(run, section, &open, &index)?;
        let block = run.pieces.block(sequence, &open, &at)?;
        let entries = block
            .seek(from)
            .map_err(|error| run.pieces.in_block(error, sequence, &at))?;
        Ok(Some(Self {
            run: Arc::clone(run),
            section,
            tables: run.tables()?,
            prefix,
            part,
            index,
            at,
            entries,
        }))
    }

    /// Goes to the next record; false at the end.
    pub(super) fn advance(&mut self) -> Result<bool> {
        let is_there = self.entries.advance().map_err(|error| {
            self.run
                .pieces
                .in_block(error, self.section.into(), &self.at)
        })?;
        if !is_there && !self.next_block()? {
            return Ok(false);
        }
        Ok(self.entries.key().starts_with(&self.prefix))
    }

    /// The key of the record that the cursor is at.
    pub(super) fn key(&self) -> &[u8] {
        self.entries.key()
    }

    /// The same, as a key.
    pub(super) fn to_key(&self) -> Result<Key> {
        Key::from_bytes(self.key().to_vec())
    }

    /// Its row.
    pub(super) fn row(&self) -> Row {
        Row(self.at.first_row.0 + self.entries.index() as u64)
    }

    /// The record itself.
    pub(super) fn record(&self) -> Result<Record> {
        decode_record_of(self.section, self.entries.body(), &self.tables).map_err(|error| {
            self.run
                .pieces
                .in_block(error, self.section.into(), &self.at)
        })
    }

    pub(super) fn section(&self) -> Section {
        self.section
    }

    pub(super) fn run_id(&self) -> RunId {
        self.run.id()
    }

    /// Goes to the first record of the next block; false if there is none with the prefix.
    fn next_block(&mut self) -> Result<bool> {
        let sequence = Sequence::from(self.section);
        let pieces = &self.run.pieces;
        let parts = pieces.footer.sequence(sequence).index.len();
        let row_after = self.row().0 + 1;
        let key_before = self.entries.key().to_vec();
        let in_index = |error| pieces.in_index(error, sequence);
        if !self.index.advance().map_err(in_index)? {
            if self.part + 1 == parts {
                return self.check_end(row_after);
            }
            self.part += 1;
            self.index = pieces.index(sequence, self.part)?.block.cursor();
            self.index.advance().map_err(in_index)?;
        }
        if is_beyond(self.index.key(), &self.prefix) {
            return Ok(false);
        }
        let open = pieces.index(sequence, self.part)?;
        self.at = block_at(&self.run, self.section, &open, &self.index)?;
        let block = pieces.block(sequence, &open, &self.at)?;
        self.entries = block.cursor();
        self.entries
            .advance()
            .and_then(|_| self.check_follows(&key_before, row_after))
            .map_err(|error| self.run.pieces.in_block(error, sequence, &self.at))?;
        Ok(true)
    }

    /// Does this block begin where the index says, and the one before ended?
    fn check_follows(&self, key_before: &[u8], row: u64) -> Result<()> {
        let key = self.entries.key();
        if key <= key_before || key != self.index.key() {
            return Err(Error::corrupt(
                "a block",
                "its first key is not the one that follows",
            ));
        }
        if self.at.first_row.0 != row {
            return Err(Error::corrupt(
                "a block",
                "its first row is not the one that follows",
            ));
        }
        Ok(())
    }

    fn check_end(&self, row_after: u64) -> Result<bool> {
        let rows = self.run.rows(self.section);
        if row_after == rows {
            return Ok(false);
        }
        Err(Error::corrupt(
            format_args!("run {}", self.run.id()),
            format_args!("{rows} rows should be there, and {row_after} are"),
        ))
    }
}

/// A cursor at the last entry whose key is `from` or sorts before it, or else at the first.
fn floor_cursor(index: &Block, from: &[u8]) -> Result<BlockCursor> {
    let place = index.floor(from)?;
    let mut cursor = index.seek_index(place.map_or(0, |place| place.index))?;
    cursor.advance()?;
    Ok(cursor)
}

/// Where the block lies that the index's cursor is at.
fn block_at(
    run: &Run,
    section: Section,
    open: &OpenIndex<'_>,
    index: &BlockCursor,
) -> Result<BlockAt> {
    let sequence = Sequence::from(section);
    let end = run.pieces.footer.sequence(sequence).end();
    decode_block_at(open.part, index.index(), index.body(), end)
        .map_err(|error| run.pieces.in_index(error, sequence))
}

/// Does a block whose first key is `first`, and with it all that follow, lie behind all that begins with `prefix`?
fn is_beyond(first: &[u8], prefix: &[u8]) -> bool {
    first > prefix && !first.starts_with(prefix)
}

/// Goes through records as an iterator. After an error it ends.
pub struct Records {
    state: Option<Result<Cursor>>,
}

impl Records {
    pub(super) fn new(cursor: Result<Option<Cursor>>) -> Self {
        Self {
            state: cursor.transpose(),
        }
    }

    fn step(cursor: &mut Cursor) -> Result<Option<KeyedRecord>> {
        if !cursor.advance()? {
            return Ok(None);
        }
        Ok(Some(KeyedRecord {
            key: cursor.to_key()?,
            row: cursor.row(),
            record: cursor.record()?,
        }))
    }
}

impl Iterator for Records {
    type Item = Result<KeyedRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = match self.state.as_mut()? {
            Ok(cursor) => Self::step(cursor).transpose(),
            Err(_) => self.state.take().and_then(Result::err).map(Err),
        };
        if !matches!(step, Some(Ok(_))) {
            self.state = None;
        }
        step
    }
}
