//! An index run: where chunks lie, as rows of fixed width in order of chunk ids.
//!
//! ```text
//! row pages    sealed, never compressed, each of ROWS_PER_PAGE rows, the last of fewer
//! pack pages   the same with PACKS_PER_PAGE pack ids, which rows refer to by their ordinals
//! footer       sealed: features, counts of rows and packs, count and ids of the index runs that this one supersedes
//! trailer      length of the sealed footer, and the magic
//! ```
//!
//! A page's associated data is the run's id, its section and its number; the footer's is the run's id and its section.
//! Since pages have one length and ids are uniform, a row is found by interpolation in one or two reads, and nothing
//! but the footer is read beforehand. A row has the first half of a chunk's id: who reads the chunk checks the whole.

use std::ops::Range;

use crate::base::limits::{CHUNK_BYTES_MAX, FRAME_PLAIN_BYTES_MAX};
use crate::base::{ByteReader, ByteWriter, ChunkId, Error, ErrorKind, IndexId, PackId, Result};
use crate::seal::{Compression, SEAL_OVERHEAD_BYTES, Seal, SealedKind, sealed_bytes_max};

use super::Features;
use super::trailer::{
    TRAILER_BYTES, check_features, decode_trailer, encode_features, encode_trailer,
};

/// How messages name an index run.
const WHAT: &str = "an index run";

/// The last bytes of every index run.
const MAGIC: [u8; 8] = *b"bygone-i";

/// Bytes of a chunk's id that a row has: enough that no two ids ever meet by accident.
pub const PREFIX_BYTES: usize = 16;

/// A prefix and five numbers of four bytes.
const ROW_BYTES: usize = PREFIX_BYTES + 5 * 4;

/// Bytes of a pack's id.
const PACK_ID_BYTES: usize = 16;

/// Sealed pages are as large as fit these: a page of memory, and what a disk reads at least. Those that are encrypted
/// have as many items, and are longer by what encryption adds.
const PAGE_BYTES_MAX: usize = 4096;

/// Rows of a page; the last one may have fewer.
pub const ROWS_PER_PAGE: u64 = ((PAGE_BYTES_MAX - SEAL_OVERHEAD_BYTES) / ROW_BYTES) as u64;

/// Pack ids of a page; the last one may have fewer.
pub const PACKS_PER_PAGE: u64 = ((PAGE_BYTES_MAX - SEAL_OVERHEAD_BYTES) / PACK_ID_BYTES) as u64;

/// Index runs that one may supersede.
const SUPERSEDED_MAX: usize = 1 << 20;

/// One location of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexRow {
    /// The first bytes of the chunk's id.
    pub prefix: [u8; PREFIX_BYTES],
    /// The ordinal of its pack in the run's table.
    pub pack: u32,
    /// The frame's first byte in the pack.
    pub frame_offset: u32,
    /// The sealed frame's length.
    pub frame_length: u32,
    /// The chunk's first byte in the plain frame.
    pub offset_in_frame: u32,
    /// The chunk's plain bytes.
    pub length: u32,
}

/// The part of a chunk's id that rows have.
pub fn prefix_of(id: &ChunkId) -> [u8; PREFIX_BYTES] {
    let mut prefix = [0; PREFIX_BYTES];
    prefix.copy_from_slice(&id.0[..PREFIX_BYTES]);
    prefix
}

impl IndexRow {
    fn encode(&self, writer: &mut ByteWriter) {
        writer.raw(&self.prefix);
        writer.u32(self.pack);
        writer.u32(self.frame_offset);
        writer.u32(self.frame_length);
        writer.u32(self.offset_in_frame);
        writer.u32(self.length);
    }

    fn decode(reader: &mut ByteReader<'_>) -> Result<Self> {
        let row = Self {
            prefix: reader.array()?,
            pack: reader.u32()?,
            frame_offset: reader.u32()?,
            frame_length: reader.u32()?,
            offset_in_frame: reader.u32()?,
            length: reader.u32()?,
        };
        let is_possible = row.length as usize <= CHUNK_BYTES_MAX
            && row.frame_length as usize <= sealed_bytes_max(FRAME_PLAIN_BYTES_MAX)
            && row.frame_offset.checked_add(row.frame_length).is_some()
            && row.offset_in_frame as usize <= FRAME_PLAIN_BYTES_MAX;
        match is_possible {
            true => Ok(row),
            false => Err(reader.corrupt("a row is out of bounds")),
        }
    }
}

/// The sections of an index run, which its pieces' associated data tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IndexSection {
    Rows = 0,
    Packs = 1,
}

/// The section of the footer in its associated data.
const FOOTER_SECTION: u8 = 2;

/// What an index run's footer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexFooter {
    pub rows: u64,
    /// Packs in the table.
    pub packs: u64,
    /// The index runs whose rows are all in this one, so that nobody need read them.
    pub superseded: Vec<IndexId>,
}

impl IndexFooter {
    /// How many of the object's last bytes `decode` needs, as the trailer that ends `tail` tells.
    ///
    /// # Errors
    /// Corrupt, if it is no index run's trailer or leads out of it.
    pub fn encoded_length(tail: &[u8], object_length: u64) -> Result<u64> {
        Ok(decode_trailer(WHAT, tail, object_length, MAGIC)? + TRAILER_BYTES as u64)
    }

    /// Reads the footer from the object's last bytes: exactly `encoded_length` of them.
    ///
    /// # Errors
    /// Corrupt, if it is no footer or does not fit the object; failed, if it needs a newer version of bygone.
    pub fn decode(seal: &Seal, index: &IndexId, tail: &[u8], object_length: u64) -> Result<Self> {
        let sealed = tail
            .split_last_chunk::<TRAILER_BYTES>()
            .map(|(sealed, _)| sealed)
            .unwrap_or_default();
        let kind = SealedKind::IndexFooter;
        let place = associated(index, FOOTER_SECTION, 0);
        let plain = seal.open(kind, &place, sealed, kind.plain_bytes_max())?;
        let footer = Self::decode_plain(&plain)?;
        let pages = footer.pages_length(seal);
        if pages.and_then(|pages| pages.checked_add(tail.len() as u64)) == Some(object_length) {
            return Ok(footer);
        }
        Err(Error::corrupt(WHAT, "its counts do not fit its length"))
    }

    /// Reads the footer's plain bytes. What a later version appended is passed over.
    ///
    /// # Errors
    /// Those of `decode`.
    pub fn decode_plain(plain: &[u8]) -> Result<Self> {
        let mut reader = ByteReader::new(WHAT, plain);
        check_features(WHAT, &mut reader)?;
        let rows = reader.varint()?;
        let packs = u64::from(reader.varint_u32()?);
        let count = reader.count(SUPERSEDED_MAX.min(reader.rest().len()))?;
        let superseded = (0..count)
            .map(|_| reader.array().map(IndexId))
            .collect::<Result<_>>()?;
        Ok(Self {
            rows,
            packs,
            superseded,
        })
    }

    fn encode(&self, seal: &Seal, index: &IndexId, out: &mut Vec<u8>) -> Result<()> {
        let mut writer = ByteWriter::new();
        encode_features(&Features::default(), &mut writer);
        writer.varint(self.rows);
        writer.varint(self.packs);
        writer.varint(self.superseded.len() as u64);
        for id in &self.superseded {
            writer.raw(&id.0);
        }
        let start = out.len();
        seal.seal(
            SealedKind::IndexFooter,
            &associated(index, FOOTER_SECTION, 0),
            writer.as_bytes(),
            Compression::default(),
            out,
        )?;
        let trailer = encode_trailer(out.len() - start, MAGIC);
        out.extend_from_slice(&trailer);
        Ok(())
    }

    /// Where a page lies in the object; empty if there is no such page.
    pub fn page_range(&self, seal: &Seal, section: IndexSection, page: u64) -> Range<u64> {
        let items = self.items_of_page(section, page);
        let before = match section {
            IndexSection::Rows => 0,
            // The footer was checked against the object's length, so that this is within 64 bits.
            IndexSection::Packs => {
                section_length(seal, IndexSection::Rows, self.rows).unwrap_or(u64::MAX)
            }
        };
        if items == 0 {
            return before..before;
        }
        let start = before + page * section.page_length(seal, section.items_per_page());
        start..start + section.page_length(seal, items)
    }

    /// How many rows or pack ids a page has.
    pub fn items_of_page(&self, section: IndexSection, page: u64) -> u64 {
        let items = match section {
            IndexSection::Rows => self.rows,
            IndexSection::Packs => self.packs,
        };
        let per_page = section.items_per_page();
        items
            .saturating_sub(page.saturating_mul(per_page))
            .min(per_page)
    }

    /// Bytes of all pages; None if so many cannot be.
    fn pages_length(&self, seal: &Seal) -> Option<u64> {
        section_length(seal, IndexSection::Rows, self.rows)?.checked_add(section_length(
            seal,
            IndexSection::Packs,
            self.packs,
        )?)
    }
}

impl IndexSection {
    fn items_per_page(self) -> u64 {
        match self {
            Self::Rows => ROWS_PER_PAGE,
            Self::Packs => PACKS_PER_PAGE,
        }
    }

    fn item_bytes(self) -> usize {
        match self {
            Self::Rows => ROW_BYTES,
            Self::Packs => PACK_ID_BYTES,
        }
    }

    /// Sealed bytes of a page of so many items, which fit a page.
    fn page_length(self, seal: &Seal, items: u64) -> u64 {
        seal.stored_length(items as usize * self.item_bytes()) as u64
    }
}

/// Sealed bytes of all pages of a section of so many items; None if so many cannot be.
fn section_length(seal: &Seal, section: IndexSection, items: u64) -> Option<u64> {
    let per_page = section.items_per_page();
    let full = (items / per_page).checked_mul(section.page_length(seal, per_page))?;
    match items % per_page {
        0 => Some(full),
        rest => full.checked_add(section.page_length(seal, rest)),
    }
}

fn associated(index: &IndexId, section: u8, page: u64) -> Vec<u8> {
    let mut bytes = index.0.to_vec();
    bytes.push(section);
    bytes.extend_from_slice(&page.to_le_bytes());
    bytes
}

fn open_page(
    seal: &Seal,
    index: &IndexId,
    section: IndexSection,
    page: u64,
    sealed: &[u8],
) -> Result<Vec<u8>> {
    let place = associated(index, section as u8, page);
    seal.open(SealedKind::Index, &place, sealed, PAGE_BYTES_MAX)
}

/// The rows of a sealed page, in order.
///
/// # Errors
/// Corrupt, if it is not that page, or rows are out of order or bounds.
pub fn decode_rows(
    seal: &Seal,
    index: &IndexId,
    page: u64,
    sealed: &[u8],
) -> Result<Vec<IndexRow>> {
    let plain = open_page(seal, index, IndexSection::Rows, page, sealed)?;
    decode_plain_rows(&plain)
}

/// The rows of a page's plain bytes, in order.
///
/// # Errors
/// Those of `decode_rows`.
pub fn decode_plain_rows(plain: &[u8]) -> Result<Vec<IndexRow>> {
    let mut reader = ByteReader::new(WHAT, plain);
    let mut rows = Vec::with_capacity(plain.len() / ROW_BYTES);
    while !reader.is_empty() {
        rows.push(IndexRow::decode(&mut reader)?);
    }
    match rows.is_sorted() {
        true => Ok(rows),
        false => Err(reader.corrupt("its rows are not in order")),
    }
}

/// The pack ids of a sealed page.
///
/// # Errors
/// Corrupt, if it is not that page.
pub fn decode_packs(seal: &Seal, index: &IndexId, page: u64, sealed: &[u8]) -> Result<Vec<PackId>> {
    let plain = open_page(seal, index, IndexSection::Packs, page, sealed)?;
    let mut reader = ByteReader::new(WHAT, &plain);
    let mut packs = Vec::with_capacity(plain.len() / PACK_ID_BYTES);
    while !reader.is_empty() {
        packs.push(PackId(reader.array()?));
    }
    Ok(packs)
}

/// Writes an index run, row by row.
pub struct IndexEncoder<'a> {
    seal: &'a Seal,
    id: IndexId,
    rows: u64,
    last: Option<IndexRow>,
    page: ByteWriter,
    out: Vec<u8>,
}

impl<'a> IndexEncoder<'a> {
    /// Writes the run `id`.
    pub fn new(seal: &'a Seal, id: IndexId) -> Self {
        Self {
            seal,
            id,
            rows: 0,
            last: None,
            page: ByteWriter::new(),
            out: Vec::new(),
        }
    }

    /// Adds a row. One that was just added is not added again.
    ///
    /// # Errors
    /// Failed, if it does not follow the one before it.
    pub fn push(&mut self, row: IndexRow) -> Result<()> {
        if self.last == Some(row) {
            return Ok(());
        }
        if self.last > Some(row) {
            return Err(Error::new(
                ErrorKind::Failed,
                "rows of an index run must rise",
            ));
        }
        self.last = Some(row);
        row.encode(&mut self.page);
        self.rows += 1;
        if self.rows.is_multiple_of(ROWS_PER_PAGE) {
            self.seal_rows()?;
        }
        Ok(())
    }

    /// Takes the bytes that are ready. All that are taken, in turn, and those of `finish` are the object.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Adds the packs that the rows refer to and the runs that this one supersedes, and returns the last bytes.
    ///
    /// # Errors
    /// Failed, if there are too many packs.
    pub fn finish(mut self, packs: &[PackId], superseded: &[IndexId]) -> Result<Vec<u8>> {
        if !self.page.is_empty() {
            self.seal_rows()?;
        }
        for (page, ids) in packs.chunks(PACKS_PER_PAGE as usize).enumerate() {
            let plain: Vec<u8> = ids.iter().flat_map(|id| id.0).collect();
            self.seal_page(IndexSection::Packs, page as u64, &plain)?;
        }
        let footer = IndexFooter {
            rows: self.rows,
            packs: packs.len() as u64,
            superseded: superseded.to_vec(),
        };
        footer.encode(self.seal, &self.id, &mut self.out)?;
        Ok(self.out)
    }

    fn seal_rows(&mut self) -> Result<()> {
        let plain = std::mem::take(&mut self.page);
        let page = (self.rows - 1) / ROWS_PER_PAGE;
        self.seal_page(IndexSection::Rows, page, plain.as_bytes())
    }

    fn seal_page(&mut self, section: IndexSection, page: u64, plain: &[u8]) -> Result<()> {
        let place = associated(&self.id, section as u8, page);
        self.seal.seal(
            SealedKind::Index,
            &place,
            plain,
            Compression::Off,
            &mut self.out,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::RepositoryId;

    const ID: IndexId = IndexId([5; 16]);

    fn seal() -> Seal {
        Seal::unencrypted(&RepositoryId([1; 16]))
    }

    fn row(number: u64) -> IndexRow {
        let mut prefix = [0; PREFIX_BYTES];
        prefix[..8].copy_from_slice(&number.to_be_bytes());
        IndexRow {
            prefix,
            pack: (number % 300) as u32,
            frame_offset: 10,
            frame_length: 20,
            offset_in_frame: 30,
            length: 40,
        }
    }

    fn encode(rows: u64, packs: usize) -> Vec<u8> {
        let seal = seal();
        let mut encoder = IndexEncoder::new(&seal, ID);
        let mut bytes = Vec::new();
        for number in 0..rows {
            encoder.push(row(number)).unwrap();
            bytes.extend(encoder.take());
        }
        let packs: Vec<PackId> = (0..packs).map(|pack| PackId([pack as u8; 16])).collect();
        bytes.extend(encoder.finish(&packs, &[IndexId([9; 16])]).unwrap());
        bytes
    }

    fn footer(bytes: &[u8]) -> Result<IndexFooter> {
        let length = bytes.len() as u64;
        let needed = IndexFooter::encoded_length(bytes, length)? as usize;
        IndexFooter::decode(&seal(), &ID, &bytes[bytes.len() - needed..], length)
    }

    fn page<'a>(
        bytes: &'a [u8],
        footer: &IndexFooter,
        section: IndexSection,
        page: u64,
    ) -> &'a [u8] {
        let range = footer.page_range(&seal(), section, page);
        &bytes[range.start as usize..range.end as usize]
    }

    #[test]
    fn rows_and_packs_come_back_from_their_pages() {
        for rows in [
            0,
            1,
            ROWS_PER_PAGE - 1,
            ROWS_PER_PAGE,
            ROWS_PER_PAGE + 1,
            1000,
        ] {
            let bytes = encode(rows, 300);
            let footer = footer(&bytes).unwrap();
            assert_eq!((footer.rows, footer.packs), (rows, 300));
            assert_eq!(footer.superseded, [IndexId([9; 16])]);
            let decoded: Vec<IndexRow> = (0..rows.div_ceil(ROWS_PER_PAGE))
                .flat_map(|number| {
                    let sealed = page(&bytes, &footer, IndexSection::Rows, number);
                    decode_rows(&seal(), &ID, number, sealed).unwrap()
                })
                .collect();
            assert!(decoded.into_iter().eq((0..rows).map(row)));
            let sealed = page(&bytes, &footer, IndexSection::Packs, 1);
            let packs = decode_packs(&seal(), &ID, 1, sealed).unwrap();
            assert_eq!(packs.len() as u64, 300 - PACKS_PER_PAGE);
            assert_eq!(packs[0], PackId([PACKS_PER_PAGE as u8; 16]));
            assert!(
                footer
                    .page_range(&seal(), IndexSection::Packs, 2)
                    .is_empty()
            );
        }
    }

    #[test]
    fn a_page_in_another_place_is_refused() {
        let bytes = encode(1000, 300);
        let footer = footer(&bytes).unwrap();
        let sealed = page(&bytes, &footer, IndexSection::Rows, 1);
        assert!(sealed.len() <= PAGE_BYTES_MAX);
        assert!(decode_rows(&seal(), &ID, 2, sealed).is_err());
        assert!(decode_packs(&seal(), &ID, 1, sealed).is_err());
        assert!(decode_rows(&seal(), &IndexId([6; 16]), 1, sealed).is_err());
    }

    #[test]
    fn rows_must_rise_and_the_same_row_is_kept_once() {
        let seal = seal();
        let mut encoder = IndexEncoder::new(&seal, ID);
        encoder.push(row(5)).unwrap();
        encoder.push(row(5)).unwrap();
        assert!(encoder.push(row(4)).is_err());
        let bytes = encoder.finish(&[], &[]).unwrap();
        assert_eq!(footer(&bytes).unwrap().rows, 1);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found_in_its_piece() {
        let good = encode(200, 3);
        let whole = footer(&good).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let is_found = footer(&bytes).is_err()
                || (0..2).any(|number| {
                    let sealed = page(&bytes, &whole, IndexSection::Rows, number);
                    decode_rows(&seal(), &ID, number, sealed).is_err()
                })
                || decode_packs(
                    &seal(),
                    &ID,
                    0,
                    page(&bytes, &whole, IndexSection::Packs, 0),
                )
                .is_err();
            assert!(is_found, "bit {bit}");
        }
    }

    #[test]
    fn lies_about_counts_are_refused() {
        let lie = |rows: u64, packs: u64, superseded: u64| {
            let mut writer = ByteWriter::new();
            encode_features(&Features::default(), &mut writer);
            writer.varint(rows);
            writer.varint(packs);
            writer.varint(superseded);
            IndexFooter::decode_plain(writer.as_bytes())
        };
        assert!(lie(1, 1 << 40, 0).is_err());
        assert!(lie(1, 1, 1 << 50).is_err());
        assert!(lie(u64::MAX, 1, 0).unwrap().pages_length(&seal()).is_none());
    }
}
