//! Fetches the pieces of a run: blocks with their neighbours, the index, tables and filters.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::base::{Error, Result, Row, RunId};
use crate::fetch::{Fetcher, Piece, may_wait};
use crate::format::run::{
    Block, BlockAt, Filter, FilterPart, IndexPart, PieceAt, RunFooter, Sequence, Table,
    associated_data, block_of_key, block_of_row, decode_block_at, filter_contains,
};
use crate::seal::SealedKind;

use super::read_ahead::{Neighbourhoods, ReadAhead, Window, distant_neighbours};

/// Sealed bytes of index and table of ids that are fetched together when the first of them is asked for. Beyond that
/// each comes when it is needed.
const HEAD_BYTES_MAX: u64 = 2 << 20;

/// Sealed bytes of directories and files that are fetched of a run before anyone asks, if it has no more: those of a small
/// change. A chain has many such runs, and each may be asked for whatever is looked up.
const SMALL_SECTION_BYTES_MAX: u64 = 128 << 10;

/// Sealed bytes of filters that are fetched with the head: those of some 50,000 entries. Longer ones come part by part.
const FILTERS_BYTES_MAX: u64 = 256 << 10;

/// The pieces of one run, by their places in its footer.
pub(super) struct Pieces {
    fetcher: Arc<Fetcher>,
    run: RunId,
    pub(super) footer: RunFooter,
    head_was_asked: AtomicBool,
    files_ahead: ReadAhead,
    directories_near: Neighbourhoods,
}

/// A part of a sequence's index, opened.
pub(super) struct OpenIndex<'a> {
    pub(super) part: &'a IndexPart,
    pub(super) block: Block,
}

/// A piece with what it is sealed with.
struct Place {
    kind: SealedKind,
    offset: u64,
    length: u32,
    associated: [u8; 25],
}

impl Place {
    fn piece(&self, run: RunId) -> Piece<'_> {
        Piece {
            run,
            offset: self.offset,
            length: self.length,
            kind: self.kind,
            associated: &self.associated,
        }
    }
}

impl Pieces {
    pub(super) fn new(fetcher: Arc<Fetcher>, run: RunId, footer: RunFooter) -> Self {
        Self {
            fetcher,
            run,
            footer,
            head_was_asked: AtomicBool::new(false),
            files_ahead: ReadAhead::default(),
            directories_near: Neighbourhoods::default(),
        }
    }

    pub(super) fn run(&self) -> RunId {
        self.run
    }

    /// A part of a sequence's index, by its number.
    pub(super) fn index(&self, sequence: Sequence, number: usize) -> Result<OpenIndex<'_>> {
        let part = &self.footer.sequence(sequence).index[number];
        self.fetch_head();
        let plain = self.plain(
            SealedKind::RunBlockIndex,
            sequence as u8,
            number as u64,
            &part.at,
        )?;
        Ok(OpenIndex {
            part,
            block: Block::open(plain).map_err(|error| self.in_index(error, sequence))?,
        })
    }

    /// The plain bytes of a table.
    pub(super) fn table(&self, table: Table) -> Result<Bytes> {
        let at = match table {
            Table::Ids => {
                self.fetch_head();
                &self.footer.ids
            }
            Table::Owners => &self.footer.owners,
        };
        self.plain(SealedKind::RunTable, table as u8, 0, at)
    }

    /// The block in whose range of keys `key` lies, if any.
    pub(super) fn block_for_key(
        &self,
        sequence: Sequence,
        key: &[u8],
    ) -> Result<Option<(BlockAt, Block)>> {
        let at = self.footer.sequence(sequence);
        let parts = at.index.partition_point(|part| &part.first_key[..] <= key);
        let Some(number) = parts.checked_sub(1) else {
            return Ok(None);
        };
        let index = self.index(sequence, number)?;
        block_of_key(index.part, &index.block, key, at.end())
            .map_err(|error| self.in_index(error, sequence))?
            .map(|block| Ok((block, self.block(sequence, &index, &block)?)))
            .transpose()
    }

    /// The block in whose range of rows `row` lies. There are more rows than that.
    pub(super) fn block_for_row(
        &self,
        sequence: Sequence,
        row: Row,
    ) -> Result<Option<(BlockAt, Block)>> {
        let at = self.footer.sequence(sequence);
        let parts = at.index.partition_point(|part| part.first_row <= row);
        let Some(number) = parts.checked_sub(1) else {
            return Ok(None);
        };
        let index = self.index(sequence, number)?;
        block_of_row(index.part, &index.block, row, at.end())
            .map_err(|error| self.in_index(error, sequence))?
            .map(|block| Ok((block, self.block(sequence, &index, &block)?)))
            .transpose()
    }

    /// A block, and in the same request some beside it that are likely to be asked for.
    pub(super) fn block(
        &self,
        sequence: Sequence,
        index: &OpenIndex<'_>,
        at: &BlockAt,
    ) -> Result<Block> {
        let window = self.window(sequence, index, at);
        if let Some(window) = window {
            self.fetch_window(sequence, index, at, window)?;
        }
        let place = self.block_place(sequence, at);
        let plain = self.fetcher.piece(&place.piece(self.run))?;
        let block = Block::open(plain).map_err(|error| self.in_block(error, sequence, at))?;
        let rows = self.footer.sequence(sequence).rows;
        let last = at.first_row.0.checked_add(block.count() as u64);
        if last.is_none_or(|last| last > rows) {
            let error = Error::corrupt("a block", "it has rows beyond the sequence's last");
            return Err(self.in_block(error, sequence, at));
        }
        Ok(block)
    }

    /// May a filter have this key? Yes if there is none.
    pub(super) fn filter_has(&self, filter: Filter, key: &[u8], hash: u64) -> Result<bool> {
        let Some(parts) = self.footer.filter(filter) else {
            return Ok(true);
        };
        let below = parts.partition_point(|part| &part.first_key[..] <= key);
        let Some(number) = below.checked_sub(1) else {
            return Ok(false);
        };
        let FilterPart { at, .. } = &parts[number];
        self.fetch_head();
        let plain = self.plain(SealedKind::RunFilter, filter as u8, number as u64, at)?;
        filter_contains(&plain, hash)
            .map_err(|error| error.context(format_args!("run {}", self.run)))
    }

    /// The same failure, with the run and the block told first.
    pub(super) fn in_block(&self, error: Error, sequence: Sequence, at: &BlockAt) -> Error {
        error.context(format_args!(
            "run {}, block {} of {}, at {}",
            self.run, at.number, sequence, at.offset
        ))
    }

    /// The same failure, with the run and the index told first.
    pub(super) fn in_index(&self, error: Error, sequence: Sequence) -> Error {
        error.context(format_args!("run {}, index of {sequence}", self.run))
    }

    /// What to fetch with a block, if anything.
    fn window(&self, sequence: Sequence, index: &OpenIndex<'_>, at: &BlockAt) -> Option<Window> {
        // Who may not wait brings nothing along, and must not leave word that it did.
        if !may_wait() {
            return None;
        }
        if self.fetcher.ahead_bytes().is_some() {
            let place = self.block_place(sequence, at);
            if self.fetcher.has_piece(&place.piece(self.run)) {
                if sequence == Sequence::Files {
                    self.fetch_next(index, at);
                }
                return None;
            }
            return match sequence {
                Sequence::Directories => Some(distant_neighbours(at.number)),
                Sequence::Files => Some(self.files_ahead.plan_distant(at.number)),
                Sequence::Origins | Sequence::Warnings => None,
            };
        }
        match sequence {
            Sequence::Directories => self.directories_near.plan(at.number),
            Sequence::Files => self.files_ahead.plan(at.number),
            Sequence::Origins | Sequence::Warnings => None,
        }
    }

    /// Brings into memory what lookups begin with, and all of the sections that are small.
    pub(super) fn fetch_ahead(&self) {
        self.fetch_head();
        let mut places = Vec::new();
        for sequence in [Sequence::Directories, Sequence::Files] {
            match self.small_section(sequence) {
                Ok(section) => places.extend(section),
                Err(error) => log::debug!("a read ahead failed: {error}"),
            }
        }
        places.extend(self.absent_head());
        // They lie side by side, so that one request brings all.
        self.bring(&places);
    }

    /// All blocks of a section, if it is small; else none.
    fn small_section(&self, sequence: Sequence) -> Result<Vec<Place>> {
        let at = self.footer.sequence(sequence);
        if at.length > SMALL_SECTION_BYTES_MAX {
            return Ok(Vec::new());
        }
        let mut places = Vec::new();
        for number in 0..at.index.len() {
            let index = self.index(sequence, number)?;
            let mut cursor = index.block.cursor();
            while cursor.advance()? {
                let block = decode_block_at(index.part, cursor.index(), cursor.body(), at.end())?;
                places.push(self.block_place(sequence, &block));
            }
        }
        Ok(places)
    }

    /// Has the files' blocks fetched that follow those that came last, if `at` is read in order.
    fn fetch_next(&self, index: &OpenIndex<'_>, at: &BlockAt) {
        let Some(window) = self.files_ahead.plan_next(at.number) else {
            return;
        };
        let sequence = Sequence::Files;
        let end = self.footer.sequence(sequence).end();
        // What is wrong with the index is told when it leads somebody to a block.
        let Ok(blocks) = window_blocks(index, window.first, window, end) else {
            return;
        };
        let places: Vec<Place> = blocks
            .iter()
            .map(|block| self.block_place(sequence, block))
            .collect();
        let (fetcher, run) = (Arc::clone(&self.fetcher), self.run);
        self.fetcher.later(move || bring(&fetcher, run, &places));
    }

    /// Brings a block's neighbours into memory. That one of them is damaged is no concern of who asks for another.
    fn fetch_window(
        &self,
        sequence: Sequence,
        index: &OpenIndex<'_>,
        wanted: &BlockAt,
        window: Window,
    ) -> Result<()> {
        let end = self.footer.sequence(sequence).end();
        let blocks = window_blocks(index, wanted.number, window, end)
            .map_err(|error| self.in_index(error, sequence))?;
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
            return Ok(());
        };
        if sequence == Sequence::Files {
            self.files_ahead.fetched(first.number, last.number + 1);
        }
        let mut places: Vec<Place> = blocks
            .iter()
            .map(|block| self.block_place(sequence, block))
            .collect();
        places.extend(self.absent_head());
        if places.len() > 1 {
            self.bring(&places);
        }
        Ok(())
    }

    /// What `fetch_head` leaves, being one piece, if it is not in memory: in a small run it lies beside the directories'
    /// blocks, and comes with them.
    fn absent_head(&self) -> Option<Place> {
        self.fetcher.ahead_bytes()?;
        let mut places = self.head_places();
        let place = places.pop().filter(|_| places.is_empty())?;
        (!self.fetcher.has_piece(&place.piece(self.run))).then_some(place)
    }

    fn block_place(&self, sequence: Sequence, at: &BlockAt) -> Place {
        self.place(
            sequence.block_kind(),
            sequence as u8,
            at.number,
            at.offset,
            at.length,
        )
    }

    /// What all lookups begin with, in one request when the first of it is asked for: a chain has many small runs.
    fn fetch_head(&self) {
        if self.head_was_asked.load(Ordering::Relaxed)
            || !may_wait()
            || self.head_was_asked.swap(true, Ordering::Relaxed)
        {
            return;
        }
        let bytes_of = |places: &[Place]| -> u64 {
            let lengths = places.iter().map(|place| u64::from(place.length));
            lengths.sum()
        };
        let mut places = self.places_apart(self.filter_parts());
        if bytes_of(&places) > FILTERS_BYTES_MAX {
            places.clear();
        }
        places.extend(self.head_places());
        if places.len() > 1 && bytes_of(&places) <= HEAD_BYTES_MAX {
            self.bring(&places);
        }
    }

    /// The table of ids and the index, as far as they are not in the footer.
    fn head_places(&self) -> Vec<Place> {
        let index = |sequence: Sequence| {
            let parts = (0..).zip(&self.footer.sequence(sequence).index);
            let kind = SealedKind::RunBlockIndex;
            parts.map(move |(number, part)| (kind, sequence as u8, number, &part.at))
        };
        let ids = (SealedKind::RunTable, Table::Ids as u8, 0, &self.footer.ids);
        let index = index(Sequence::Directories).chain(index(Sequence::Files));
        self.places_apart([ids].into_iter().chain(index))
    }

    /// The places of those pieces that are not in the footer.
    fn places_apart<'a>(
        &self,
        pieces: impl Iterator<Item = (SealedKind, u8, u64, &'a PieceAt)>,
    ) -> Vec<Place> {
        let place_of = |(kind, part_of, number, at): (_, _, _, &PieceAt)| match *at {
            PieceAt::Inline(_) => None,
            PieceAt::Apart { offset, length } => {
                Some(self.place(kind, part_of, number, offset, length))
            }
        };
        pieces.filter_map(place_of).collect()
    }

    fn filter_parts(&self) -> impl Iterator<Item = (SealedKind, u8, u64, &PieceAt)> {
        Filter::ALL.into_iter().flat_map(|filter| {
            let parts = self.footer.filter(filter).unwrap_or_default();
            (0..)
                .zip(parts)
                .map(move |(number, part)| (SealedKind::RunFilter, filter as u8, number, &part.at))
        })
    }

    fn bring(&self, places: &[Place]) {
        bring(&self.fetcher, self.run, places);
    }

    fn plain(&self, kind: SealedKind, part_of: u8, number: u64, at: &PieceAt) -> Result<Bytes> {
        match *at {
            PieceAt::Inline(ref plain) => Ok(plain.clone()),
            PieceAt::Apart { offset, length } => {
                let place = self.place(kind, part_of, number, offset, length);
                self.fetcher.piece(&place.piece(self.run))
            }
        }
    }

    fn place(&self, kind: SealedKind, part_of: u8, number: u64, offset: u64, length: u32) -> Place {
        Place {
            kind,
            offset,
            length,
            associated: associated_data(&self.run, part_of, number),
        }
    }
}

/// Into memory, if it works; whoever needs a piece asks for it again, and hears what is wrong with it.
fn bring(fetcher: &Fetcher, run: RunId, places: &[Place]) {
    let pieces: Vec<Piece<'_>> = places.iter().map(|place| place.piece(run)).collect();
    if let Err(error) = fetcher.pieces(&pieces) {
        log::debug!("run {run}: a read ahead failed: {error}");
    }
}

/// The blocks of a window that an index part leads to, `wanted` among them, in order. What would be too many bytes
/// is left out, from the far end, and what lies before `wanted` first.
fn window_blocks(
    index: &OpenIndex<'_>,
    wanted: u64,
    window: Window,
    end: u64,
) -> Result<Vec<BlockAt>> {
    let first = window.first.saturating_sub(index.part.first_block);
    let last = window.end.saturating_sub(index.part.first_block);
    let mut cursor = index.block.seek_index(first as usize)?;
    let mut blocks = VecDeque::new();
    let mut bytes = 0;
    while cursor.advance()? && (cursor.index() as u64) < last {
        let block = decode_block_at(index.part, cursor.index(), cursor.body(), end)?;
        bytes += u64::from(block.length);
        blocks.push_back(block);
        while bytes > window.bytes_max {
            // What is wanted stays, and so does what leads on from it, as long as there is room.
            let dropped = if blocks.front().is_some_and(|block| block.number < wanted) {
                blocks.pop_front()
            } else if blocks.len() > 1 {
                blocks.pop_back()
            } else {
                None
            };
            match dropped {
                Some(block) if block.number > wanted => return Ok(blocks.into()),
                Some(block) => bytes -= u64::from(block.length),
                None => return Ok(blocks.into()),
            }
        }
    }
    Ok(blocks.into())
}
