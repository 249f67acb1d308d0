//! A pack: sealed frames back to back, the sealed directory of them, and a trailer.
//!
//! ```text
//! frames      each a sealed piece of its own, the first at offset 0, without gaps
//! directory   sealed; its associated data is the pack's id
//! trailer     length of the sealed directory, and the magic
//! ```
//!
//! The directory's plain bytes: features; the count of frames; then each frame, length-framed so that a later
//! version's additions are passed over: its kind (a byte), sealed length, plain length, the count of its chunks, and
//! each chunk: its whole id, its offset in the plain frame, its length. Offsets of frames follow from their lengths.
//! The directory serves to rebuild an index and to check; no reader of a chunk needs it.

use crate::base::limits::{CHUNK_BYTES_MAX, FRAME_PLAIN_BYTES_MAX, PACK_BYTES_MAX};
use crate::base::{ByteReader, ByteWriter, ChunkId, Error, ErrorKind, PackId, Result};
use crate::seal::{Compression, SEAL_OVERHEAD_BYTES, Seal, SealedKind, sealed_bytes_max};

use super::Features;
use super::trailer::{
    TRAILER_BYTES, check_features, decode_trailer, encode_features, encode_trailer,
};

/// How messages name a directory.
const WHAT: &str = "a pack's directory";

/// The last bytes of every pack.
const MAGIC: [u8; 8] = *b"bygone-p";

/// The longest that one frame's part of the directory may be: one byte a chunk would still be a frame.
const FRAME_RECORD_BYTES_MAX: usize = 64 << 20;

/// A chunk's id and two numbers of a byte.
const CHUNK_RECORD_BYTES_MIN: usize = 34;

/// A chunk in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameChunk {
    pub id: ChunkId,
    /// Its first byte in the plain frame.
    pub offset: u32,
    /// Plain bytes.
    pub length: u32,
}

/// A frame in a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackFrame {
    /// Data or extent lists.
    pub kind: SealedKind,
    /// Its first byte in the pack.
    pub offset: u32,
    /// Sealed bytes.
    pub length: u32,
    /// Plain bytes.
    pub plain_length: u32,
    pub chunks: Vec<FrameChunk>,
}

/// What a pack holds: its frames in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackDirectory {
    frames: Vec<PackFrame>,
}

impl PackDirectory {
    /// A directory without frames.
    pub fn new() -> Self {
        Self::default()
    }

    /// The frames in order, without gaps.
    pub fn frames(&self) -> &[PackFrame] {
        &self.frames
    }

    /// Where the next frame goes: the bytes of all so far.
    pub fn end(&self) -> u32 {
        self.frames
            .last()
            .map_or(0, |frame| frame.offset + frame.length)
    }

    /// Adds a frame of `length` sealed bytes behind the others, and returns its offset.
    ///
    /// # Errors
    /// Failed, if a pack cannot hold it or the chunks do not lie in it.
    pub fn add(
        &mut self,
        kind: SealedKind,
        length: usize,
        plain_length: u32,
        chunks: &[FrameChunk],
    ) -> Result<u32> {
        let offset = self.end();
        let frame = PackFrame {
            kind,
            offset,
            length: u32::try_from(length).unwrap_or(u32::MAX),
            plain_length,
            chunks: chunks.to_vec(),
        };
        match frame.problem() {
            None => self.frames.push(frame),
            Some(problem) => {
                return Err(Error::new(
                    ErrorKind::Failed,
                    format!("cannot put a frame into a pack: {problem}"),
                ));
            }
        }
        Ok(offset)
    }

    /// What follows the frames in the pack's object: the sealed directory and the trailer.
    ///
    /// # Errors
    /// Failed, if the directory is too large.
    pub fn encode(&self, seal: &Seal, pack: &PackId) -> Result<Vec<u8>> {
        let mut writer = ByteWriter::new();
        encode_features(&Features::default(), &mut writer);
        writer.varint(self.frames.len() as u64);
        let mut record = ByteWriter::new();
        for frame in &self.frames {
            record.clear();
            frame.encode(&mut record);
            writer.framed(record.as_bytes());
        }
        let mut bytes = Vec::new();
        seal.seal(
            SealedKind::PackDirectory,
            &pack.0,
            writer.as_bytes(),
            Compression::default(),
            &mut bytes,
        )?;
        let trailer = encode_trailer(bytes.len(), MAGIC);
        bytes.extend_from_slice(&trailer);
        Ok(bytes)
    }

    /// How many of a pack's last bytes `decode` needs, as the trailer that ends `tail` tells.
    ///
    /// # Errors
    /// Corrupt, if it is no pack's trailer or leads out of the pack.
    pub fn encoded_length(tail: &[u8], pack_length: u64) -> Result<u64> {
        if pack_length > PACK_BYTES_MAX {
            return Err(Error::corrupt("a pack", "it is longer than packs can be"));
        }
        Ok(decode_trailer("a pack", tail, pack_length, MAGIC)? + TRAILER_BYTES as u64)
    }

    /// Reads the directory from the pack's last bytes: exactly `encoded_length` of them, of a pack of `pack_length`.
    ///
    /// # Errors
    /// Corrupt, if it is no directory or does not fit the pack; failed, if it needs a newer version of bygone.
    pub fn decode(seal: &Seal, pack: &PackId, tail: &[u8], pack_length: u64) -> Result<Self> {
        let sealed = tail
            .split_last_chunk::<TRAILER_BYTES>()
            .map(|(sealed, _)| sealed)
            .unwrap_or_default();
        let kind = SealedKind::PackDirectory;
        let plain = seal.open(kind, &pack.0, sealed, kind.plain_bytes_max())?;
        let directory = Self::decode_plain(&plain)?;
        let end = u64::from(directory.end());
        if end + tail.len() as u64 == pack_length {
            return Ok(directory);
        }
        Err(Error::corrupt(
            WHAT,
            format!("its frames have {end} bytes, which are not those of the pack"),
        ))
    }

    /// Reads the directory's plain bytes.
    ///
    /// # Errors
    /// Those of `decode`.
    pub fn decode_plain(plain: &[u8]) -> Result<Self> {
        let mut reader = ByteReader::new(WHAT, plain);
        check_features(WHAT, &mut reader)?;
        let count = reader.count(reader.rest().len())?;
        let mut directory = Self::new();
        for _ in 0..count {
            let record = reader.framed(FRAME_RECORD_BYTES_MAX)?;
            let frame = PackFrame::decode(record, directory.end())?;
            directory.frames.push(frame);
        }
        reader.finish()?;
        Ok(directory)
    }
}

impl PackFrame {
    /// What cannot be about it, if anything.
    fn problem(&self) -> Option<&'static str> {
        let sealed_bytes_max = sealed_bytes_max(FRAME_PLAIN_BYTES_MAX) as u32;
        let fits = |chunk: &FrameChunk| {
            chunk.length as usize <= CHUNK_BYTES_MAX
                && chunk
                    .offset
                    .checked_add(chunk.length)
                    .is_some_and(|end| end <= self.plain_length)
        };
        if self.length > sealed_bytes_max || self.plain_length as usize > FRAME_PLAIN_BYTES_MAX {
            Some("a frame is longer than frames can be")
        } else if (self.length as usize) < SEAL_OVERHEAD_BYTES {
            Some("a frame is shorter than its header and tag")
        } else if self.offset.checked_add(self.length).is_none() {
            Some("its frames have more bytes than packs can have")
        } else if !self.chunks.iter().all(fits) {
            Some("a chunk does not lie in its frame")
        } else {
            None
        }
    }

    fn encode(&self, writer: &mut ByteWriter) {
        writer.u8(self.kind as u8);
        writer.varint(u64::from(self.length));
        writer.varint(u64::from(self.plain_length));
        writer.varint(self.chunks.len() as u64);
        for chunk in &self.chunks {
            writer.raw(&chunk.id.0);
            writer.varint(u64::from(chunk.offset));
            writer.varint(u64::from(chunk.length));
        }
    }

    fn decode(record: &[u8], offset: u32) -> Result<Self> {
        let mut reader = ByteReader::new(WHAT, record);
        let kind = match reader.u8()? {
            kind if kind == SealedKind::Data as u8 => SealedKind::Data,
            kind if kind == SealedKind::ExtentList as u8 => SealedKind::ExtentList,
            _ => return Err(reader.corrupt("a frame is of a kind that packs do not hold")),
        };
        let length = reader.varint_u32()?;
        let plain_length = reader.varint_u32()?;
        let count = reader.count(reader.rest().len() / CHUNK_RECORD_BYTES_MIN)?;
        let chunks = (0..count)
            .map(|_| {
                Ok(FrameChunk {
                    id: ChunkId(reader.array()?),
                    offset: reader.varint_u32()?,
                    length: reader.varint_u32()?,
                })
            })
            .collect::<Result<_>>()?;
        let frame = Self {
            kind,
            offset,
            length,
            plain_length,
            chunks,
        };
        match frame.problem() {
            Some(problem) => Err(Error::corrupt(WHAT, problem)),
            None => Ok(frame),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::RepositoryId;

    const PACK: PackId = PackId([3; 16]);

    fn seal() -> Seal {
        Seal::unencrypted(&RepositoryId([1; 16]))
    }

    fn chunk(byte: u8, offset: u32, length: u32) -> FrameChunk {
        FrameChunk {
            id: ChunkId([byte; 32]),
            offset,
            length,
        }
    }

    fn directory() -> PackDirectory {
        let mut directory = PackDirectory::new();
        let small = [chunk(1, 0, 100), chunk(2, 100, 900)];
        directory.add(SealedKind::Data, 500, 1000, &small).unwrap();
        directory
            .add(SealedKind::ExtentList, 60, 70, &[chunk(3, 0, 70)])
            .unwrap();
        directory
    }

    fn decode(directory: &PackDirectory, pack: &PackId) -> Result<PackDirectory> {
        let tail = directory.encode(&seal(), &PACK)?;
        let length = u64::from(directory.end()) + tail.len() as u64;
        assert_eq!(
            PackDirectory::encoded_length(&tail, length)?,
            tail.len() as u64
        );
        PackDirectory::decode(&seal(), pack, &tail, length)
    }

    #[test]
    fn a_directory_comes_back_with_the_offsets_of_its_frames() {
        let decoded = decode(&directory(), &PACK).unwrap();
        assert_eq!(decoded, directory());
        assert_eq!(decoded.frames()[1].offset, 500);
        assert_eq!(decoded.end(), 560);
        assert!(
            decode(&PackDirectory::new(), &PACK)
                .unwrap()
                .frames()
                .is_empty()
        );
    }

    #[test]
    fn the_directory_of_another_pack_is_refused() {
        assert!(decode(&directory(), &PackId([4; 16])).is_err());
    }

    #[test]
    fn a_flipped_bit_anywhere_in_what_follows_the_frames_is_refused() {
        let mut good = vec![0; 560];
        good.extend(directory().encode(&seal(), &PACK).unwrap());
        let length = good.len() as u64;
        for bit in 560 * 8..good.len() * 8 {
            let mut pack = good.clone();
            pack[bit / 8] ^= 1 << (bit % 8);
            let result = PackDirectory::encoded_length(&pack, length).and_then(|needed| {
                let tail = &pack[pack.len() - needed as usize..];
                PackDirectory::decode(&seal(), &PACK, tail, length)
            });
            assert!(result.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn frames_and_chunks_out_of_bounds_are_refused() {
        let mut directory = directory();
        let mut refused = |length, plain_length, chunk: FrameChunk| {
            directory
                .add(SealedKind::Data, length, plain_length, &[chunk])
                .is_err()
        };
        assert!(refused(100, 50, chunk(1, 0, 51)));
        assert!(refused(100, 50, chunk(1, u32::MAX, 2)));
        assert!(refused(SEAL_OVERHEAD_BYTES - 1, 50, chunk(1, 0, 50)));
        assert!(refused(usize::MAX, 50, chunk(1, 0, 50)));
        assert!(refused(100, u32::MAX, chunk(1, 0, 50)));
        assert!(!refused(100, 50, chunk(1, 0, 50)));
    }

    #[test]
    fn lies_about_counts_cost_no_memory() {
        let mut writer = ByteWriter::new();
        encode_features(&Features::default(), &mut writer);
        writer.varint(1 << 60);
        assert!(PackDirectory::decode_plain(writer.as_bytes()).is_err());
        let mut writer = ByteWriter::new();
        encode_features(&Features::default(), &mut writer);
        writer.varint(1);
        writer.framed(&[1, 30, 30, 0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(PackDirectory::decode_plain(writer.as_bytes()).is_err());
    }
}
