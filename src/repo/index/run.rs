//! One index run as a reader sees it: pages that are fetched when they are asked for, and kept.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use crate::base::{Error, IndexId, PackId, Result};
use crate::format::{
    IndexFooter, IndexRow, IndexSection, PACKS_PER_PAGE, PREFIX_BYTES, ROWS_PER_PAGE, decode_packs,
    decode_rows, index_name,
};
use crate::store::read_or_disbelieve;

use super::super::Repository;

/// What is read of a run at first: the trailer and nearly every footer.
const TAIL_BYTES: u64 = 4096;

/// After so many guesses the search halves what is left: ids that are not uniform cost a logarithm, no more.
const GUESSES_MAX: usize = 8;

/// How many pages a walk over all rows fetches at a time.
const PAGES_AT_A_TIME: u64 = 64;

/// An open index run.
#[derive(Debug)]
pub(in crate::repo) struct IndexRun {
    pub(super) id: IndexId,
    pub(super) footer: IndexFooter,
}

impl IndexRun {
    /// Reads a run's footer: one request, two if it supersedes very many.
    pub(super) fn open(repository: &Repository, id: IndexId) -> Result<Self> {
        let name = index_name(&id);
        read_or_disbelieve(repository.store(), &name, || {
            Self::read(repository, id, &name)
        })
    }

    fn read(repository: &Repository, id: IndexId, name: &str) -> Result<Self> {
        let (mut tail, length) = repository.store().get_tail(name, TAIL_BYTES)?;
        let footer = IndexFooter::encoded_length(&tail, length).and_then(|needed| {
            match usize::try_from(needed).unwrap_or(usize::MAX) {
                needed if needed <= tail.len() => drop(tail.drain(..tail.len() - needed)),
                _ => {
                    tail = repository
                        .store()
                        .get_range(name, length - needed..length)?
                }
            }
            IndexFooter::decode(repository.seal(), &id, &tail, length)
        });
        Ok(Self {
            id,
            footer: footer.map_err(|error| error.context(name))?,
        })
    }

    /// The rows of a chunk, by the part of its id that rows have.
    pub(super) fn find(
        &self,
        pages: &Pages,
        repository: &Repository,
        prefix: &[u8; PREFIX_BYTES],
    ) -> Result<Vec<IndexRow>> {
        search(self.footer.rows, prefix, |page| {
            pages.rows(repository, self, page)
        })
    }

    /// The pack that a row names.
    pub(super) fn pack(
        &self,
        pages: &Pages,
        repository: &Repository,
        row: &IndexRow,
    ) -> Result<PackId> {
        let ordinal = u64::from(row.pack);
        let page = pages.packs(repository, self, ordinal / PACKS_PER_PAGE)?;
        page.get((ordinal % PACKS_PER_PAGE) as usize)
            .copied()
            .ok_or_else(|| {
                Error::corrupt(
                    index_name(&self.id),
                    "a row names a pack that its table has not",
                )
            })
    }

    /// All packs of the table, in order.
    pub(super) fn all_packs(&self, repository: &Repository) -> Result<Vec<PackId>> {
        let mut packs = Vec::new();
        for page in 0..self.footer.packs.div_ceil(PACKS_PER_PAGE) {
            packs.extend(self.read_packs(repository, page)?);
        }
        Ok(packs)
    }

    /// All rows in order, fetched many pages at a time.
    pub(super) fn all_rows<'a>(
        &'a self,
        repository: &'a Repository,
    ) -> impl Iterator<Item = Result<IndexRow>> + 'a {
        let pages = self.footer.rows.div_ceil(ROWS_PER_PAGE);
        (0..pages)
            .step_by(PAGES_AT_A_TIME as usize)
            .flat_map(move |first| {
                match self.read_rows(repository, first, pages.min(first + PAGES_AT_A_TIME)) {
                    Ok(rows) => rows.into_iter().map(Ok).collect(),
                    Err(error) => vec![Err(error)],
                }
            })
    }

    /// The rows of the pages `first..end`, in one request.
    fn read_rows(&self, repository: &Repository, first: u64, end: u64) -> Result<Vec<IndexRow>> {
        read_or_disbelieve(repository.store(), &index_name(&self.id), || {
            self.try_read_rows(repository, first, end)
        })
    }

    fn try_read_rows(
        &self,
        repository: &Repository,
        first: u64,
        end: u64,
    ) -> Result<Vec<IndexRow>> {
        let seal = repository.seal();
        let range_of = |page| self.footer.page_range(seal, IndexSection::Rows, page);
        let (start, last) = (range_of(first).start, range_of(end - 1).end);
        let name = index_name(&self.id);
        let bytes = repository.store().get_range(&name, start..last)?;
        let mut rows = Vec::new();
        for page in first..end {
            let range = range_of(page);
            let sealed = &bytes[(range.start - start) as usize..(range.end - start) as usize];
            let decoded = decode_rows(seal, &self.id, page, sealed)
                .and_then(|decoded| self.check_items(IndexSection::Rows, page, decoded))
                .map_err(|error| error.context(format_args!("{name}, offset {}", range.start)))?;
            rows.extend(decoded);
        }
        Ok(rows)
    }

    fn read_packs(&self, repository: &Repository, page: u64) -> Result<Vec<PackId>> {
        read_or_disbelieve(repository.store(), &index_name(&self.id), || {
            self.try_read_packs(repository, page)
        })
    }

    fn try_read_packs(&self, repository: &Repository, page: u64) -> Result<Vec<PackId>> {
        let name = index_name(&self.id);
        let range = self
            .footer
            .page_range(repository.seal(), IndexSection::Packs, page);
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let sealed = repository.store().get_range(&name, range.clone())?;
        decode_packs(repository.seal(), &self.id, page, &sealed)
            .and_then(|decoded| self.check_items(IndexSection::Packs, page, decoded))
            .map_err(|error| error.context(format_args!("{name}, offset {}", range.start)))
    }

    fn check_items<T>(&self, section: IndexSection, page: u64, items: Vec<T>) -> Result<Vec<T>> {
        match items.len() as u64 == self.footer.items_of_page(section, page) {
            true => Ok(items),
            false => Err(Error::corrupt("an index run", "a page has not its rows")),
        }
    }
}

/// The first eight bytes as a number: how far along the run an id must be.
fn position(prefix: &[u8; PREFIX_BYTES]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *prefix;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Pages that may still have the id: from `first` to before `end`, whose neighbours' ids are at these positions.
struct Between {
    first: u64,
    end: u64,
    low: u64,
    high: u64,
}

impl Between {
    /// Where the id is if ids are uniform in between.
    fn guess(&self, wanted: u64) -> u64 {
        let pages = u128::from(self.end - self.first);
        let above = u128::from(wanted.saturating_sub(self.low));
        let span = u128::from(self.high.saturating_sub(self.low)) + 1;
        self.first + ((pages * above / span) as u64).min(self.end - self.first - 1)
    }

    fn middle(&self) -> u64 {
        self.first + (self.end - self.first) / 2
    }
}

/// All rows with this prefix among `rows` rows in order, read page by page.
fn search(
    rows: u64,
    prefix: &[u8; PREFIX_BYTES],
    mut read: impl FnMut(u64) -> Result<Arc<[IndexRow]>>,
) -> Result<Vec<IndexRow>> {
    let mut left = Between {
        first: 0,
        end: rows.div_ceil(ROWS_PER_PAGE),
        low: 0,
        high: u64::MAX,
    };
    let wanted = position(prefix);
    let pages = left.end;
    let mut guesses = 0;
    while left.first < left.end {
        let page = match guesses < GUESSES_MAX {
            true => left.guess(wanted),
            false => left.middle(),
        };
        guesses += 1;
        let rows = read(page)?;
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Err(Error::corrupt("an index run", "a page has no rows"));
        };
        if *prefix < first.prefix {
            left.end = page;
            left.high = position(&first.prefix);
        } else if *prefix > last.prefix {
            left.first = page + 1;
            left.low = position(&last.prefix);
        } else {
            return with_neighbours(page, pages, prefix, &rows, read);
        }
    }
    Ok(Vec::new())
}

/// The rows with this prefix on a page, and on those beside it where they go on there.
fn with_neighbours(
    page: u64,
    pages: u64,
    prefix: &[u8; PREFIX_BYTES],
    rows: &[IndexRow],
    mut read: impl FnMut(u64) -> Result<Arc<[IndexRow]>>,
) -> Result<Vec<IndexRow>> {
    let mut found = rows_with(rows, prefix).to_vec();
    let mut before = page;
    let mut reaches = rows.first().is_some_and(|row| row.prefix == *prefix);
    while reaches && before > 0 {
        before -= 1;
        let rows = read(before)?;
        found.extend_from_slice(rows_with(&rows, prefix));
        reaches = rows.first().is_some_and(|row| row.prefix == *prefix);
    }
    let mut after = page + 1;
    let mut reaches = rows.last().is_some_and(|row| row.prefix == *prefix);
    while reaches && after < pages {
        let rows = read(after)?;
        found.extend_from_slice(rows_with(&rows, prefix));
        reaches = rows.last().is_some_and(|row| row.prefix == *prefix);
        after += 1;
    }
    Ok(found)
}

fn rows_with<'a>(rows: &'a [IndexRow], prefix: &[u8; PREFIX_BYTES]) -> &'a [IndexRow] {
    let start = rows.partition_point(|row| row.prefix < *prefix);
    let end = rows.partition_point(|row| row.prefix <= *prefix);
    &rows[start..end]
}

type Cached<T> = Mutex<LruCache<(IndexId, u64), Arc<[T]>>>;

/// Pages that were read last.
#[derive(Debug)]
pub(super) struct Pages {
    rows: Cached<IndexRow>,
    packs: Cached<PackId>,
}

impl Pages {
    /// None yet, and never more than `pages_max` of rows, and as many of packs, of 4 KiB each.
    pub(super) fn new(pages_max: NonZeroUsize) -> Self {
        Self {
            rows: Mutex::new(LruCache::new(pages_max)),
            packs: Mutex::new(LruCache::new(pages_max)),
        }
    }

    fn rows(&self, repository: &Repository, run: &IndexRun, page: u64) -> Result<Arc<[IndexRow]>> {
        cached(&self.rows, (run.id, page), || {
            run.read_rows(repository, page, page + 1)
        })
    }

    fn packs(&self, repository: &Repository, run: &IndexRun, page: u64) -> Result<Arc<[PackId]>> {
        cached(&self.packs, (run.id, page), || {
            run.read_packs(repository, page)
        })
    }
}

/// The page from memory, or from the store without holding the lock: two that ask at once both fetch it.
fn cached<T>(
    cache: &Cached<T>,
    key: (IndexId, u64),
    read: impl FnOnce() -> Result<Vec<T>>,
) -> Result<Arc<[T]>> {
    let lock = || cache.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(page) = lock().get(&key) {
        return Ok(Arc::clone(page));
    }
    let page: Arc<[T]> = read()?.into();
    lock().put(key, Arc::clone(&page));
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(prefix: [u8; PREFIX_BYTES], pack: u32) -> IndexRow {
        IndexRow {
            prefix,
            pack,
            frame_offset: 0,
            frame_length: 0,
            offset_in_frame: 0,
            length: 0,
        }
    }

    /// Searches, and counts the pages that were read.
    fn search_in(rows: &[IndexRow], prefix: &[u8; PREFIX_BYTES]) -> (Vec<IndexRow>, usize) {
        let mut reads = 0;
        let mut found = search(rows.len() as u64, prefix, |page| {
            reads += 1;
            let start = (page * ROWS_PER_PAGE) as usize;
            let end = rows.len().min(start + ROWS_PER_PAGE as usize);
            Ok(rows[start..end].into())
        })
        .unwrap();
        found.sort();
        (found, reads)
    }

    fn hashed(number: u32) -> [u8; PREFIX_BYTES] {
        let hash = blake3::hash(&number.to_le_bytes());
        *hash.as_bytes().first_chunk().unwrap()
    }

    #[test]
    fn uniform_ids_are_found_in_about_two_reads() {
        let mut rows: Vec<IndexRow> = (0..200_000).map(|number| row(hashed(number), 0)).collect();
        rows.sort();
        let reads: usize = (0..1000)
            .map(|number| {
                let (found, reads) = search_in(&rows, &hashed(number * 7));
                assert_eq!(found.len(), 1);
                reads
            })
            .sum();
        assert!(reads < 2200, "{reads} reads for 1000 lookups");
        let missed: usize = (0..1000)
            .map(|number| search_in(&rows, &hashed(1_000_000 + number)).1)
            .sum();
        assert!(missed < 2200, "{missed} reads for 1000 lookups");
    }

    #[test]
    fn ids_that_crowd_cost_no_more_than_halving() {
        let mut rows: Vec<IndexRow> = (0..100_000_u32)
            .map(|number| {
                let mut prefix = [0xff; PREFIX_BYTES];
                prefix[12..].copy_from_slice(&number.to_be_bytes());
                row(prefix, 0)
            })
            .collect();
        rows.insert(0, row([0; PREFIX_BYTES], 0));
        let (found, reads) = search_in(&rows, &rows[50_000].prefix);
        assert_eq!(found, [rows[50_000]]);
        assert!(reads < GUESSES_MAX + 12, "{reads} reads");
    }

    proptest! {
        #[test]
        fn search_finds_what_a_walk_finds(
            ids in proptest::collection::vec((0_u8..40, 0_u8..3, 0_u32..200), 0..900),
            wanted in (0_u8..41, 0_u8..4),
        ) {
            let prefix = |(high, low): (u8, u8)| {
                let mut prefix = [0; PREFIX_BYTES];
                prefix[0] = high * 6;
                prefix[15] = low;
                prefix
            };
            let mut rows: Vec<IndexRow> =
                ids.iter().map(|(high, low, pack)| row(prefix((*high, *low)), *pack)).collect();
            rows.sort();
            let wanted = prefix(wanted);
            let walked: Vec<IndexRow> = rows.iter().filter(|row| row.prefix == wanted).copied().collect();
            prop_assert_eq!(search_in(&rows, &wanted).0, walked);
        }
    }
}
