//! Extents as bytes: in an entry, where the run's table names packs, and in an extent list, which has its own.
//!
//! A number holds kind and length, so that a hole is one number; a frame's offset is told from where the frame
//! before it ended, so that a large file's chunks, which lie back to back, take few bytes beside their ids.

use super::entry::{ChunkPlace, EXTENT_LIST_SPAN, Extent, ExtentList, Hint};
use super::tables::{Tables, TablesWriter};
use crate::base::limits::{CHUNK_BYTES_MAX, EXTENTS_MAX, FRAME_PLAIN_BYTES_MAX, PACK_BYTES_MAX};
use crate::base::{ByteReader, ByteWriter, ChunkId, Error, ErrorKind, PackId, Result};
use crate::seal::{SEAL_OVERHEAD_BYTES, sealed_bytes_max};

/// How messages name an extent list.
const LIST: &str = "an extent list";

/// The low bits of an extent's first number, its length above them: one zero bit for a hole, which may be as long as
/// a file, 63 bits; two bits for what takes room somewhere and so never is.
const KIND_HOLE: u64 = 0b0;
const KIND_CHUNK: u64 = 0b01;
const KIND_ZEROS: u64 = 0b11;

/// The least that a chunk's place takes: its id, and a byte for each of pack, frame's offset and length, and offset.
const PLACE_BYTES_MIN: usize = 36;

/// An extent list: its own table of packs, then extents to its end.
///
/// # Errors
/// Failed, if there are too many, or one is none that can be.
pub fn encode_extents(extents: &[Extent]) -> Result<Vec<u8>> {
    let mut tables = TablesWriter::new();
    let mut list = ByteWriter::new();
    write_extents(extents, &mut tables, &mut list)?;
    let mut writer = ByteWriter::new();
    tables.encode(&mut writer);
    writer.raw(list.as_bytes());
    Ok(writer.into_bytes())
}

/// Reads an extent list that covers `span` bytes of a file.
///
/// # Errors
/// Corrupt, if it is none, or covers another number of bytes.
pub fn decode_extents(bytes: &[u8], span: u64) -> Result<Vec<Extent>> {
    let mut reader = ByteReader::new(LIST, bytes);
    let tables = Tables::decode(&mut reader)?;
    let extents = read_extents(&mut reader, &tables)?;
    let covered = covered_bytes(extents.iter().map(Extent::length));
    if covered != Some(span) {
        return Err(reader.corrupt("it does not cover the bytes that it stands for"));
    }
    reader.finish()?;
    Ok(extents)
}

/// The sum of lengths; None beyond 64 bits.
pub(super) fn covered_bytes(mut lengths: impl Iterator<Item = u64>) -> Option<u64> {
    lengths.try_fold(0_u64, |sum, length| sum.checked_add(length))
}

/// A count, then the extents.
pub(super) fn write_extents(
    extents: &[Extent],
    tables: &mut TablesWriter,
    writer: &mut ByteWriter,
) -> Result<()> {
    if extents.len() > EXTENTS_MAX {
        return Err(unwritable("it has too many extents"));
    }
    writer.varint(extents.len() as u64);
    let mut places = Places::default();
    for extent in extents {
        let (kind, bits) = match extent {
            Extent::Hole(_) => (KIND_HOLE, 1),
            Extent::Chunk(_) => (KIND_CHUNK, 2),
            Extent::Zeros(_) => (KIND_ZEROS, 2),
        };
        let length = extent.length();
        if length == 0 || length > u64::MAX >> bits {
            return Err(unwritable("an extent's length is not possible"));
        }
        writer.varint(length << bits | kind);
        if let Extent::Chunk(place) = extent {
            places.write(place, tables, writer)?;
        }
    }
    Ok(())
}

/// What `write_extents` wrote.
pub(super) fn read_extents(reader: &mut ByteReader<'_>, tables: &Tables) -> Result<Vec<Extent>> {
    // An extent takes a byte at least, and one that takes no more than that is 72 bytes in memory.
    let count = reader.count(EXTENTS_MAX.min(reader.rest().len()))?;
    let mut extents = Vec::with_capacity(count);
    let mut places = Places::default();
    for _ in 0..count {
        extents.push(read_extent(reader, tables, &mut places)?);
    }
    Ok(extents)
}

fn read_extent(
    reader: &mut ByteReader<'_>,
    tables: &Tables,
    places: &mut Places,
) -> Result<Extent> {
    let first = reader.varint()?;
    let extent = match first & 0b11 {
        KIND_CHUNK => Extent::Chunk(places.read(first >> 2, reader, tables)?),
        KIND_ZEROS => Extent::Zeros(first >> 2),
        _ => Extent::Hole(first >> 1),
    };
    if extent.length() == 0 {
        return Err(reader.corrupt("an extent covers no byte"));
    }
    Ok(extent)
}

/// A count, then for each list its span (0 for the usual one), its length, and its place.
pub(super) fn write_lists(
    lists: &[ExtentList],
    tables: &mut TablesWriter,
    writer: &mut ByteWriter,
) -> Result<()> {
    writer.varint(lists.len() as u64);
    let mut places = Places::default();
    for list in lists {
        if list.span == 0 {
            return Err(unwritable("an extent list covers no byte"));
        }
        let is_usual = list.span == EXTENT_LIST_SPAN;
        writer.varint(if is_usual { 0 } else { list.span });
        writer.varint(u64::from(list.chunk.length));
        places.write(&list.chunk, tables, writer)?;
    }
    Ok(())
}

/// What `write_lists` wrote.
pub(super) fn read_lists(reader: &mut ByteReader<'_>, tables: &Tables) -> Result<Vec<ExtentList>> {
    let count = reader.count(reader.rest().len() / PLACE_BYTES_MIN)?;
    let mut lists = Vec::with_capacity(count);
    let mut places = Places::default();
    for _ in 0..count {
        let span = match reader.varint()? {
            0 => EXTENT_LIST_SPAN,
            span => span,
        };
        let length = reader.varint()?;
        let chunk = places.read(length, reader, tables)?;
        lists.push(ExtentList { chunk, span });
    }
    Ok(lists)
}

/// Writes or reads one chunk's place after another: what is told from the one before.
#[derive(Default)]
pub(super) struct Places {
    /// The pack of the place before, and where its frame ended there.
    before: Option<(PackId, u32)>,
}

impl Places {
    /// Appends pack, frame's offset, frame's length, offset in the frame, and the chunk's id. The length is the
    /// caller's to write.
    pub(super) fn write(
        &mut self,
        place: &ChunkPlace,
        tables: &mut TablesWriter,
        writer: &mut ByteWriter,
    ) -> Result<()> {
        if !is_possible(place) {
            return Err(unwritable("a chunk's place is not possible"));
        }
        let hint = &place.hint;
        writer.varint(u64::from(tables.pack(hint.pack)?));
        writer.signed(i64::from(hint.frame_offset) - self.expected_offset(hint.pack));
        writer.varint(u64::from(hint.frame_length));
        writer.varint(u64::from(hint.offset_in_frame));
        writer.raw(&place.id.0);
        self.went_by(hint);
        Ok(())
    }

    /// The place of a chunk of `length` bytes.
    pub(super) fn read(
        &mut self,
        length: u64,
        reader: &mut ByteReader<'_>,
        tables: &Tables,
    ) -> Result<ChunkPlace> {
        let pack = tables.read_pack(reader)?;
        let frame_offset = reader
            .signed()?
            .checked_add(self.expected_offset(pack))
            .and_then(|offset| u32::try_from(offset).ok())
            .ok_or_else(|| reader.corrupt("a frame lies outside of any pack"))?;
        let hint = Hint {
            pack,
            frame_offset,
            frame_length: reader.varint_u32()?,
            offset_in_frame: reader.varint_u32()?,
        };
        let place = ChunkPlace {
            id: ChunkId(reader.array()?),
            length: u32::try_from(length)
                .map_err(|_| reader.corrupt("a chunk is longer than a chunk can be"))?,
            hint,
        };
        if !is_possible(&place) {
            return Err(reader.corrupt("a chunk's place is not possible"));
        }
        self.went_by(&hint);
        Ok(place)
    }

    /// Frames lie back to back; the first is told from the pack's start.
    fn expected_offset(&self, pack: PackId) -> i64 {
        match self.before {
            Some((before, end)) if before == pack => i64::from(end),
            _ => 0,
        }
    }

    fn went_by(&mut self, hint: &Hint) {
        // A possible place ends inside of a pack.
        self.before = Some((hint.pack, hint.frame_offset + hint.frame_length));
    }
}

/// Could a chunk lie there, as far as the limits tell?
fn is_possible(place: &ChunkPlace) -> bool {
    const FRAME_BYTES_MAX: usize = sealed_bytes_max(FRAME_PLAIN_BYTES_MAX);
    let hint = &place.hint;
    let frame_end = u64::from(hint.frame_offset) + u64::from(hint.frame_length);
    let chunk_end = u64::from(hint.offset_in_frame) + u64::from(place.length);
    (1..=CHUNK_BYTES_MAX as u32).contains(&place.length)
        && (SEAL_OVERHEAD_BYTES as u32..=FRAME_BYTES_MAX as u32).contains(&hint.frame_length)
        && frame_end <= PACK_BYTES_MAX
        && chunk_end <= FRAME_PLAIN_BYTES_MAX as u64
}

/// An error about what this program itself was about to write.
pub(super) fn unwritable(problem: &str) -> Error {
    Error::new(
        ErrorKind::Failed,
        format!("cannot record an entry: {problem}"),
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Any place that can be.
    pub(crate) fn any_place() -> impl Strategy<Value = ChunkPlace> {
        (
            any::<[u8; 32]>(),
            1..CHUNK_BYTES_MAX as u32,
            0..4_u8,
            0..=u32::MAX / 2,
            SEAL_OVERHEAD_BYTES as u32..FRAME_PLAIN_BYTES_MAX as u32,
            0..CHUNK_BYTES_MAX as u32,
        )
            .prop_map(
                |(id, length, pack, offset, frame_length, inner)| ChunkPlace {
                    id: ChunkId(id),
                    length,
                    hint: Hint {
                        pack: PackId([pack; 16]),
                        frame_offset: offset,
                        frame_length,
                        offset_in_frame: inner,
                    },
                },
            )
    }

    /// Any extent that can be, of a length that does not overflow a file when there are many.
    pub(crate) fn any_extent() -> impl Strategy<Value = Extent> {
        prop_oneof![
            any_place().prop_map(Extent::Chunk),
            (1..1_u64 << 50).prop_map(Extent::Hole),
            (1..1_u64 << 50).prop_map(Extent::Zeros),
        ]
    }

    fn span_of(extents: &[Extent]) -> u64 {
        extents.iter().map(Extent::length).sum()
    }

    /// Chunks of a large file: each a frame by itself, back to back.
    fn large_file(chunks: u32) -> Vec<Extent> {
        (0..chunks)
            .map(|number| {
                Extent::Chunk(ChunkPlace {
                    id: ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes()),
                    length: 128 << 10,
                    hint: Hint {
                        pack: PackId([1; 16]),
                        frame_offset: 1000 + number * 70_000,
                        frame_length: 70_000,
                        offset_in_frame: 0,
                    },
                })
            })
            .collect()
    }

    proptest! {
        #[test]
        fn extents_come_back(extents in prop::collection::vec(any_extent(), 0..40)) {
            let bytes = encode_extents(&extents).unwrap();
            prop_assert_eq!(decode_extents(&bytes, span_of(&extents)).unwrap(), extents);
        }

        #[test]
        fn bytes_that_are_no_list_do_no_harm(bytes: Vec<u8>) {
            let _ = decode_extents(&bytes, 1000);
        }

        #[test]
        fn a_changed_byte_never_panics(place: prop::sample::Index, byte: u8) {
            let extents = large_file(20);
            let mut bytes = encode_extents(&extents).unwrap();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            if let Ok(decoded) = decode_extents(&bytes, span_of(&extents)) {
                prop_assert!(decoded.len() <= 20);
            }
        }
    }

    #[test]
    fn a_large_files_chunk_takes_about_41_bytes() {
        let bytes = encode_extents(&large_file(512)).unwrap();
        assert!(bytes.len() < 42 * 512, "{} bytes", bytes.len());
    }

    #[test]
    fn a_list_for_another_span_or_cut_anywhere_is_refused() {
        let extents = large_file(3);
        let bytes = encode_extents(&extents).unwrap();
        let span = span_of(&extents);
        assert!(decode_extents(&bytes, span).is_ok());
        assert!(decode_extents(&bytes, span + 1).is_err());
        for length in 0..bytes.len() {
            assert!(decode_extents(&bytes[..length], span).is_err(), "{length}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(decode_extents(&longer, span).is_err());
    }

    #[test]
    fn places_that_cannot_be_are_neither_written_nor_read() {
        let edits: [fn(&mut ChunkPlace); 6] = [
            |place| place.length = 0,
            |place| place.length = CHUNK_BYTES_MAX as u32 + 1,
            |place| place.hint.frame_length = SEAL_OVERHEAD_BYTES as u32 - 1,
            |place| place.hint.frame_length = u32::MAX,
            |place| place.hint.frame_offset = u32::MAX - 10,
            |place| place.hint.offset_in_frame = FRAME_PLAIN_BYTES_MAX as u32,
        ];
        for (number, edit) in edits.into_iter().enumerate() {
            let [Extent::Chunk(mut place)] = large_file(1)[..] else {
                panic!("a chunk");
            };
            edit(&mut place);
            assert!(encode_extents(&[Extent::Chunk(place)]).is_err(), "{number}");

            let mut writer = ByteWriter::new();
            writer.varint(1);
            writer.raw(&place.hint.pack.0);
            writer.raw(&[0, 1]);
            writer.varint(u64::from(place.length) << 2 | KIND_CHUNK);
            writer.varint(0);
            writer.signed(i64::from(place.hint.frame_offset));
            writer.varint(u64::from(place.hint.frame_length));
            writer.varint(u64::from(place.hint.offset_in_frame));
            writer.raw(&place.id.0);
            let read = decode_extents(writer.as_bytes(), u64::from(place.length));
            assert_eq!(read.unwrap_err().kind(), ErrorKind::Corrupt, "{number}");
        }
        assert!(encode_extents(&[Extent::Hole(0)]).is_err());
        assert!(encode_extents(&[Extent::Zeros(u64::MAX)]).is_err());
        assert!(encode_extents(&[Extent::Hole(u64::MAX)]).is_err());
    }

    #[test]
    fn a_hole_may_be_as_long_as_the_longest_file() {
        let extents = [Extent::Hole(i64::MAX as u64)];
        let bytes = encode_extents(&extents).unwrap();
        assert_eq!(decode_extents(&bytes, i64::MAX as u64).unwrap(), extents);
    }

    #[test]
    fn counts_that_lie_are_refused_before_anything_is_allocated() {
        // No packs, no runs, then a count of 2^32 with nothing behind it.
        let bytes = [0, 0, 0x80, 0x80, 0x80, 0x80, 0x10];
        assert!(decode_extents(&bytes, 0).is_err());
        // More holes than a list may have, all of them there.
        let mut writer = ByteWriter::new();
        writer.raw(&[0, 0]);
        writer.varint(EXTENTS_MAX as u64 + 1);
        (0..=EXTENTS_MAX).for_each(|_| writer.varint(1 << 1 | KIND_HOLE));
        assert!(decode_extents(writer.as_bytes(), EXTENTS_MAX as u64 + 1).is_err());
        assert!(encode_extents(&vec![Extent::Hole(1); EXTENTS_MAX + 1]).is_err());
    }
}
