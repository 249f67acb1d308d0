//! A run's footer: where its parts lie and what they count; and the trailer, by which it is found.
//!
//! Plain bytes of a footer:
//!
//! ```text
//! features      three counted lists of framed names: compatible, read-only compatible, incompatible
//! counts        varints: tombstones of directories, tombstones of files, linked entries, entries with xattrs
//! sequences     for each of the four: rows, blocks, offset, length, count of index parts;
//!               for each part: framed first key, first row, first block, offset, place
//! tables        the places of ids (of packs and of origin runs) and of owners
//! filters       0, or 1 and for each of the four: a count of parts; for each: framed first key, place
//! ```
//!
//! A place is 0 and framed plain bytes, or 1, offset and sealed length. What follows is a later version's, and is
//! passed over. The trailer is the sealed footer's length in four bytes, a zero word and eight bytes that name the
//! format.

use crate::base::{ByteReader, ByteWriter, Result, Row};
use crate::format::Features;

use super::block::KEY_BYTES_MAX;
use super::index::IndexPart;
use super::place::{Filter, PieceAt, Sequence, lies_before};

/// Bytes of the trailer that ends every run.
pub const RUN_TRAILER_BYTES: usize = 16;

/// The last bytes of every run.
const MAGIC: [u8; 8] = *b"bygone-r";

/// The longest name of a feature, in bytes.
const FEATURE_BYTES_MAX: usize = 256;

/// Features of one class.
const FEATURES_MAX: usize = 1024;

/// Rows of one section: node ids have 38 bits for one.
const ROWS_MAX: u64 = 1 << 38;

/// Parts of one index or one filter: enough for 30 billion keys.
const PARTS_MAX: usize = 1 << 20;

/// What a run's entries count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records of directories, tombstones among them.
    pub directories: u64,
    /// Records of everything else, tombstones among them.
    pub files: u64,
    pub directory_tombstones: u64,
    pub file_tombstones: u64,
    /// Entries other than directories with a link count above 1.
    pub linked: u64,
    /// Entries with extended attributes.
    pub with_xattrs: u64,
}

/// What leads to one sequence of blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SequenceAt {
    /// Entries in its blocks.
    pub rows: u64,
    pub blocks: u64,
    /// Its first block's first byte.
    pub offset: u64,
    /// Bytes of all its blocks.
    pub length: u64,
    /// The top level of its index, in order.
    pub index: Vec<IndexPart>,
}

/// A part of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterPart {
    /// The first key of its range.
    pub first_key: Vec<u8>,
    pub at: PieceAt,
}

/// A run's footer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFooter {
    pub counts: Counts,
    /// At the place of each sequence's number.
    pub sequences: [SequenceAt; 4],
    /// The packs and origin runs that entries name by ordinal.
    pub ids: PieceAt,
    pub owners: PieceAt,
    /// At the place of each filter's number; None in a base run.
    pub filters: Option<[Vec<FilterPart>; 4]>,
}

impl SequenceAt {
    /// Where its blocks end.
    pub fn end(&self) -> u64 {
        self.offset + self.length
    }
}

impl RunFooter {
    /// What leads to this sequence.
    pub fn sequence(&self, sequence: Sequence) -> &SequenceAt {
        &self.sequences[sequence as usize]
    }

    /// The parts of this filter; None if the run has none.
    pub fn filter(&self, filter: Filter) -> Option<&[FilterPart]> {
        self.filters
            .as_ref()
            .map(|filters| &filters[filter as usize][..])
    }

    /// Its plain bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = ByteWriter::new();
        // No feature has been needed yet.
        writer.raw(&[0; 3]);
        let counts = &self.counts;
        for count in [
            counts.directory_tombstones,
            counts.file_tombstones,
            counts.linked,
            counts.with_xattrs,
        ] {
            writer.varint(count);
        }
        for sequence in &self.sequences {
            encode_sequence(sequence, &mut writer);
        }
        self.ids.encode(&mut writer);
        self.owners.encode(&mut writer);
        writer.u8(u8::from(self.filters.is_some()));
        for parts in self.filters.iter().flatten() {
            writer.varint(parts.len() as u64);
            for part in parts {
                writer.framed(&part.first_key);
                part.at.encode(&mut writer);
            }
        }
        writer.into_bytes()
    }

    /// The footer of these plain bytes, which begins at `end` in its object.
    ///
    /// # Errors
    /// Corrupt, if they are none or lead out of the object; failed, if reading it needs a newer version of bygone.
    pub fn decode(plain: &[u8], end: u64) -> Result<Self> {
        let mut reader = ByteReader::new("a run's footer", plain);
        check_features(&mut reader)?;
        let mut counts = Counts {
            directory_tombstones: reader.varint()?,
            file_tombstones: reader.varint()?,
            linked: reader.varint()?,
            with_xattrs: reader.varint()?,
            ..Counts::default()
        };
        let mut sequences: [SequenceAt; 4] = Default::default();
        for sequence in &mut sequences {
            *sequence = decode_sequence(&mut reader, end)?;
        }
        counts.directories = sequences[Sequence::Directories as usize].rows;
        counts.files = sequences[Sequence::Files as usize].rows;
        Ok(Self {
            counts,
            sequences,
            ids: PieceAt::decode(&mut reader, end)?,
            owners: PieceAt::decode(&mut reader, end)?,
            filters: decode_filters(&mut reader, end)?,
        })
    }
}

/// A counted list of at most `max`. Nothing is reserved for it before it is there.
fn decode_list<T>(
    reader: &mut ByteReader<'_>,
    max: usize,
    decode: impl Fn(&mut ByteReader<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let count = reader.count(max.min(reader.rest().len()))?;
    (0..count).map(|_| decode(reader)).collect()
}

fn check_features(reader: &mut ByteReader<'_>) -> Result<()> {
    let mut names = || {
        decode_list(reader, FEATURES_MAX, |reader| {
            let name = reader.framed(FEATURE_BYTES_MAX)?;
            Ok(String::from_utf8_lossy(name).into_owned())
        })
    };
    let [compatible, read_only_compatible, incompatible] = [names()?, names()?, names()?];
    let features = Features {
        compatible,
        read_only_compatible,
        incompatible,
    };
    features.check_readable("a run")
}

fn encode_sequence(sequence: &SequenceAt, writer: &mut ByteWriter) {
    writer.varint(sequence.rows);
    writer.varint(sequence.blocks);
    writer.varint(sequence.offset);
    writer.varint(sequence.length);
    writer.varint(sequence.index.len() as u64);
    for part in &sequence.index {
        writer.framed(&part.first_key);
        writer.varint(part.first_row.0);
        writer.varint(part.first_block);
        writer.varint(part.offset);
        part.at.encode(writer);
    }
}

fn decode_sequence(reader: &mut ByteReader<'_>, end: u64) -> Result<SequenceAt> {
    let mut sequence = SequenceAt {
        rows: reader.varint()?,
        blocks: reader.varint()?,
        offset: reader.varint()?,
        length: reader.varint()?,
        index: Vec::new(),
    };
    sequence.index = decode_list(reader, PARTS_MAX, |reader| {
        Ok(IndexPart {
            first_key: reader.framed(KEY_BYTES_MAX)?.to_vec(),
            first_row: Row(reader.varint()?),
            first_block: reader.varint()?,
            offset: reader.varint()?,
            at: PieceAt::decode(reader, end)?,
        })
    })?;
    if is_sound(&sequence, end) {
        Ok(sequence)
    } else {
        Err(reader.corrupt("its index does not fit its blocks"))
    }
}

/// Do blocks, rows, offsets and index parts of a sequence fit one another?
fn is_sound(sequence: &SequenceAt, end: u64) -> bool {
    let starts_at_its_start = match sequence.index.first() {
        None => sequence.rows == 0 && sequence.blocks == 0 && sequence.length == 0,
        Some(part) => {
            part.first_row == Row(0) && part.first_block == 0 && part.offset == sequence.offset
        }
    };
    starts_at_its_start
        && lies_before(sequence.offset, sequence.length, end)
        && sequence.blocks <= sequence.rows
        && sequence.rows <= ROWS_MAX
        && sequence.index.iter().all(|part| {
            part.first_row.0 < sequence.rows
                && part.first_block < sequence.blocks
                && part.offset < sequence.end()
        })
        && sequence.index.is_sorted_by(|before, after| {
            before.first_key < after.first_key
                && before.first_row < after.first_row
                && before.first_block < after.first_block
                && before.offset < after.offset
        })
}

fn decode_filters(reader: &mut ByteReader<'_>, end: u64) -> Result<Option<[Vec<FilterPart>; 4]>> {
    match reader.u8()? {
        0 => Ok(None),
        1 => {
            let mut filters: [Vec<FilterPart>; 4] = Default::default();
            for parts in &mut filters {
                *parts = decode_list(reader, PARTS_MAX, |reader| {
                    Ok(FilterPart {
                        first_key: reader.framed(KEY_BYTES_MAX)?.to_vec(),
                        at: PieceAt::decode(reader, end)?,
                    })
                })?;
                if !parts.is_sorted_by(|before, after| before.first_key < after.first_key) {
                    return Err(reader.corrupt("the parts of a filter do not rise"));
                }
            }
            Ok(Some(filters))
        }
        other => Err(reader.corrupt(&format!("it has filters of kind {other}"))),
    }
}

/// The trailer of a run whose sealed footer has `footer_length` bytes.
pub fn encode_run_trailer(footer_length: u32) -> [u8; RUN_TRAILER_BYTES] {
    let mut trailer = [0; RUN_TRAILER_BYTES];
    trailer[..4].copy_from_slice(&footer_length.to_le_bytes());
    trailer[8..].copy_from_slice(&MAGIC);
    trailer
}

/// The sealed footer's length that a trailer tells, and where the footer begins in an object of `length` bytes.
///
/// # Errors
/// Corrupt, if this is no run's trailer or the object is too short for its footer.
pub fn decode_run_trailer(trailer: &[u8; RUN_TRAILER_BYTES], length: u64) -> Result<(u64, u32)> {
    let mut reader = ByteReader::new("a run's trailer", trailer);
    let footer_length = reader.u32()?;
    let zero = reader.u32()?;
    if zero != 0 || reader.rest() != MAGIC {
        return Err(reader.corrupt("it does not end as every run does"));
    }
    let start = footer_start(length, footer_length)
        .ok_or_else(|| reader.corrupt("the run is shorter than its footer"))?;
    Ok((start, footer_length))
}

/// Where the footer begins in a run of `length` bytes; None if it does not fit.
pub fn footer_start(length: u64, footer_length: u32) -> Option<u64> {
    length.checked_sub(RUN_TRAILER_BYTES as u64 + u64::from(footer_length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ErrorKind;
    use proptest::prelude::*;

    const END: u64 = 1 << 30;

    fn part(number: u64) -> IndexPart {
        IndexPart {
            first_key: format!("key {number:04}").into_bytes(),
            first_row: Row(number * 1000),
            first_block: number * 10,
            offset: 5 + number * 10_000,
            at: PieceAt::Apart {
                offset: 500_000 + number * 100,
                length: 100,
            },
        }
    }

    fn footer() -> RunFooter {
        let sequence = |parts: u64| SequenceAt {
            rows: parts * 1000,
            blocks: parts * 10,
            offset: 5,
            length: parts * 10_000,
            index: (0..parts).map(part).collect(),
        };
        let filter = |parts: u8| {
            (0..parts)
                .map(|number| FilterPart {
                    first_key: vec![number],
                    at: PieceAt::Inline(vec![number; 10].into()),
                })
                .collect()
        };
        RunFooter {
            counts: Counts {
                directories: 1000,
                files: 3000,
                directory_tombstones: 1,
                file_tombstones: 2,
                linked: 3,
                with_xattrs: 4,
            },
            sequences: [sequence(1), sequence(3), sequence(0), sequence(0)],
            ids: PieceAt::empty(),
            owners: PieceAt::Apart {
                offset: END - 50,
                length: 50,
            },
            filters: Some([filter(1), filter(2), filter(0), filter(3)]),
        }
    }

    #[test]
    fn a_footer_comes_back_and_a_longer_one_too() {
        let footer = footer();
        let mut plain = footer.encode();
        assert_eq!(RunFooter::decode(&plain, END).unwrap(), footer);
        plain.extend_from_slice(b"of a later version");
        assert_eq!(RunFooter::decode(&plain, END).unwrap(), footer);
        let base = RunFooter {
            filters: None,
            ..footer
        };
        assert_eq!(RunFooter::decode(&base.encode(), END).unwrap(), base);
    }

    #[test]
    fn what_leads_out_of_the_run_is_refused() {
        let plain = footer().encode();
        for end in [0, 10_000, END - 1] {
            assert_eq!(
                RunFooter::decode(&plain, end).unwrap_err().kind(),
                ErrorKind::Corrupt
            );
        }
    }

    #[test]
    fn sequences_that_contradict_themselves_are_refused() {
        let lies: [fn(&mut SequenceAt); 9] = [
            |sequence| sequence.rows = u64::MAX,
            |sequence| sequence.rows = 2000,
            |sequence| sequence.blocks = 20,
            |sequence| sequence.blocks = 4000,
            |sequence| sequence.length = 0,
            |sequence| sequence.offset = 6,
            |sequence| sequence.index[0].first_row = Row(1),
            |sequence| sequence.index.swap(0, 1),
            |sequence| sequence.index.clear(),
        ];
        for (number, lie) in lies.iter().enumerate() {
            let mut footer = footer();
            lie(&mut footer.sequences[Sequence::Files as usize]);
            assert!(
                RunFooter::decode(&footer.encode(), END).is_err(),
                "{number}"
            );
        }
    }

    #[test]
    fn an_unknown_incompatible_feature_is_refused_and_no_damage() {
        let plain = footer().encode();
        let with = |class: usize| {
            let mut writer = ByteWriter::new();
            for number in 0..3 {
                writer.varint(u64::from(number == class));
                if number == class {
                    writer.framed(b"something new");
                }
            }
            writer.raw(&plain[3..]);
            RunFooter::decode(writer.as_bytes(), END)
        };
        assert!(with(0).is_ok() && with(1).is_ok());
        assert_eq!(with(2).unwrap_err().kind(), ErrorKind::Failed);
    }

    #[test]
    fn a_trailer_leads_to_the_footer() {
        let trailer = encode_run_trailer(100);
        assert_eq!(decode_run_trailer(&trailer, 1000).unwrap(), (884, 100));
        assert!(decode_run_trailer(&trailer, 115).is_err());
        for place in [4, 7, 8, 15] {
            let mut damaged = trailer;
            damaged[place] ^= 1;
            assert!(decode_run_trailer(&damaged, 1000).is_err());
        }
    }

    proptest! {
        #[test]
        fn bytes_that_are_no_footer_do_no_harm(plain: Vec<u8>) {
            let _ = RunFooter::decode(&plain, END);
        }

        #[test]
        fn a_changed_byte_never_panics(place: prop::sample::Index, byte: u8) {
            let mut plain = footer().encode();
            let place = place.index(plain.len());
            plain[place] = byte;
            if let Ok(footer) = RunFooter::decode(&plain, END) {
                for sequence in &footer.sequences {
                    prop_assert!(sequence.end() <= END);
                }
            }
        }
    }
}
