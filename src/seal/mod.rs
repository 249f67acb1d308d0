//! The seal: what stands between plain bytes and the bytes of an object.
//!
//! Sealing compresses with zstd (or stores, where that is not smaller), puts a header before and a tag behind, and
//! binds all of it to associated data that the reader must know: for a block of a run, its place. Opening checks the
//! tag over everything before one byte is decompressed (but for frames, see `frame`), and never makes more plain bytes
//! than the header promised and the caller allows.
//!
//! Today's only seal is that of an unencrypted repository: the tag is a BLAKE3 hash, against corruption and mixed-up
//! pieces, not against someone who writes to the store. Encryption will be another method behind the same calls: the
//! header says which one it is.
//!
//! Deliberately not here: where sealed pieces lie, and the check of a chunk against its id (its reader does that).

mod compression;
mod frame;
mod kind;

pub use compression::Compression;
pub use frame::SealedFrame;
pub use kind::SealedKind;

use crate::base::{ByteReader, ChunkId, Error, ErrorKind, RepositoryId, Result};

/// The version of sealed pieces that this code writes and reads.
const VERSION: u8 = 1;

/// The header's method byte: not encrypted, BLAKE3 tag.
const METHOD_TAGGED: u8 = 0;

/// The header's coding byte: the body is the plain bytes.
const CODING_STORED: u8 = 0;

/// The header's coding byte: the body is zstd frames.
const CODING_ZSTD: u8 = 1;

/// Kind, version, method and coding, a byte each, then the plain length in four bytes.
const HEADER_BYTES: usize = 8;

/// A tag: the first half of a BLAKE3 hash. A damaged piece passes unseen once in 2^128 times.
const TAG_BYTES: usize = 16;

/// Bytes that sealing adds to a piece that does not compress; no sealed piece is shorter.
pub const SEAL_OVERHEAD_BYTES: usize = HEADER_BYTES + TAG_BYTES;

/// Contexts of BLAKE3's key derivation: one for each use, never to be reused for another or changed.
const TAG_CONTEXT: &str = "bygone 2026-11-24 unencrypted repository: tags of sealed pieces";
const CHUNK_ID_CONTEXT: &str = "bygone 2026-11-24 unencrypted repository: ids of chunks";
const LIST_ID_CONTEXT: &str = "bygone 2026-11-24 unencrypted repository: ids of extent lists";
const CHUNKING_CONTEXT: &str = "bygone 2026-11-24 unencrypted repository: seed of chunking";

/// Seals and opens the pieces of one repository, and names its chunks. Cheap to clone; any thread may use it.
#[derive(Clone)]
pub struct Seal {
    tag_key: [u8; 32],
    chunk_id_key: [u8; 32],
    list_id_key: [u8; 32],
    chunking_seed: u64,
}

/// What a sealed piece says of itself before its body.
struct Header {
    kind: u8,
    version: u8,
    method: u8,
    coding: u8,
    plain_length: u32,
}

impl Seal {
    /// The seal of an unencrypted repository. Its keys come from the repository's id, so that a piece of another
    /// repository is told from one's own; they are no secret.
    pub fn unencrypted(repository: &RepositoryId) -> Self {
        let key = |context| blake3::derive_key(context, &repository.0);
        let [a, b, c, d, e, f, g, h, ..] = key(CHUNKING_CONTEXT);
        Self {
            tag_key: key(TAG_CONTEXT),
            chunk_id_key: key(CHUNK_ID_CONTEXT),
            list_id_key: key(LIST_ID_CONTEXT),
            chunking_seed: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        }
    }

    /// Appends `plain`, sealed, to `out`: header, body, tag.
    ///
    /// # Errors
    /// Failed, if there are more plain bytes than a piece of this kind may have, or zstd fails.
    pub fn seal(
        &self,
        kind: SealedKind,
        associated: &[u8],
        plain: &[u8],
        compression: Compression,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let plain_length = u32::try_from(plain.len())
            .ok()
            .filter(|_| plain.len() <= kind.plain_bytes_max())
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Failed,
                    format!(
                        "{kind} of {} bytes is larger than the {} that it may have",
                        plain.len(),
                        kind.plain_bytes_max()
                    ),
                )
            })?;
        let start = out.len();
        compression::with_smaller(compression, plain, |smaller| {
            let header = Header {
                kind: kind as u8,
                version: VERSION,
                method: METHOD_TAGGED,
                coding: smaller.map_or(CODING_STORED, |_| CODING_ZSTD),
                plain_length,
            };
            let body = smaller.unwrap_or(plain);
            out.reserve(SEAL_OVERHEAD_BYTES + body.len());
            out.extend_from_slice(&header.encode());
            out.extend_from_slice(body);
        })?;
        let tag = self.tag(associated, &out[start..]);
        out.extend_from_slice(&tag);
        Ok(())
    }

    /// The plain bytes of a sealed piece.
    ///
    /// # Errors
    /// Those of `open_into`.
    pub fn open(
        &self,
        kind: SealedKind,
        associated: &[u8],
        sealed: &[u8],
        plain_bytes_max: usize,
    ) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        self.open_into(kind, associated, sealed, plain_bytes_max, &mut plain)?;
        Ok(plain)
    }

    /// Replaces what is in `plain` by the plain bytes of a sealed piece, and keeps its memory: for a buffer that is
    /// used again. After an error, what it holds is of no meaning.
    ///
    /// # Errors
    /// Corrupt, if the piece is not what was sealed as this kind with this associated data, or promises more than
    /// `plain_bytes_max`; failed, if it needs a newer version of bygone. The message names the kind of piece; the
    /// caller adds where it lies.
    pub fn open_into(
        &self,
        kind: SealedKind,
        associated: &[u8],
        sealed: &[u8],
        plain_bytes_max: usize,
        plain: &mut Vec<u8>,
    ) -> Result<()> {
        plain.clear();
        let corrupt = |problem: &str| Error::corrupt(kind, problem);
        let tagged = self.tagged(kind, associated, sealed)?;
        let mut reader = ByteReader::new("a sealed piece", tagged);
        let coding = Header::decode(&mut reader)?.check(kind, plain_bytes_max)?;
        match coding {
            Coding::Stored(length) if reader.rest().len() == length => {
                plain.extend_from_slice(reader.rest());
                Ok(())
            }
            Coding::Stored(_) => Err(corrupt("its length is not the one in its header")),
            Coding::Zstd(length) => compression::decompress(reader.rest(), length, plain)
                .map_err(|problem| corrupt(&problem)),
        }
    }

    /// The id of a chunk of files' content: the keyed BLAKE3 hash of its plain bytes.
    pub fn chunk_id(&self, plain: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.chunk_id_key, plain).as_bytes())
    }

    /// The id of a chunk in a frame of this kind. An extent list has another one than a file of the same bytes, so that
    /// neither is ever taken for the other, whose frame would not open as its own kind.
    pub fn chunk_id_in(&self, kind: SealedKind, plain: &[u8]) -> ChunkId {
        match kind {
            SealedKind::ExtentList => {
                ChunkId(*blake3::keyed_hash(&self.list_id_key, plain).as_bytes())
            }
            _ => self.chunk_id(plain),
        }
    }

    /// The seed of content-defined chunking, so that the same repository always cuts alike.
    pub fn chunking_seed(&self) -> u64 {
        self.chunking_seed
    }

    /// The header and body of a sealed piece whose tag fits.
    fn tagged<'a>(
        &self,
        kind: SealedKind,
        associated: &[u8],
        sealed: &'a [u8],
    ) -> Result<&'a [u8]> {
        let (tagged, tag) = sealed
            .split_last_chunk::<TAG_BYTES>()
            .filter(|(tagged, _)| tagged.len() >= HEADER_BYTES)
            .ok_or_else(|| Error::corrupt(kind, "it is shorter than its header and tag"))?;
        // Not a secret, so that the comparison may take as long as it likes.
        if self.tag(associated, tagged) == *tag {
            return Ok(tagged);
        }
        Err(Error::corrupt(
            kind,
            "its tag does not fit; its bytes have changed, or it is from another place",
        ))
    }

    /// The tag over associated data, header and body. The length in front keeps the first two apart.
    fn tag(&self, associated: &[u8], header_and_body: &[u8]) -> [u8; TAG_BYTES] {
        let mut hasher = blake3::Hasher::new_keyed(&self.tag_key);
        hasher.update(&(associated.len() as u64).to_le_bytes());
        hasher.update(associated);
        hasher.update(header_and_body);
        let mut tag = [0; TAG_BYTES];
        hasher.finalize_xof().fill(&mut tag);
        tag
    }
}

impl std::fmt::Debug for Seal {
    /// No key is printed, lest one that is a secret ever be.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

/// How a body becomes plain bytes, and how many.
enum Coding {
    Stored(usize),
    Zstd(usize),
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let [a, b, c, d] = self.plain_length.to_le_bytes();
        [
            self.kind,
            self.version,
            self.method,
            self.coding,
            a,
            b,
            c,
            d,
        ]
    }

    fn decode(reader: &mut ByteReader<'_>) -> Result<Self> {
        let [kind, version, method, coding] = reader.array()?;
        Ok(Self {
            kind,
            version,
            method,
            coding,
            plain_length: reader.u32()?,
        })
    }

    /// Is it one that this code can open, of the kind that is wanted, within bounds?
    fn check(&self, kind: SealedKind, plain_bytes_max: usize) -> Result<Coding> {
        if self.version != VERSION || self.method != METHOD_TAGGED {
            return Err(Error::new(
                ErrorKind::Failed,
                format!(
                    "{kind} is sealed by version {}, method {}; this program knows version {VERSION}, \
                     method {METHOD_TAGGED}: use a newer one",
                    self.version, self.method
                ),
            ));
        }
        if self.kind != kind as u8 {
            return Err(Error::corrupt(
                kind,
                format!("it is of kind {}, not {}", self.kind, kind as u8),
            ));
        }
        let length = usize::try_from(self.plain_length)
            .ok()
            .filter(|length| *length <= plain_bytes_max)
            .ok_or_else(|| {
                Error::corrupt(
                    kind,
                    format!(
                        "it promises {} bytes where at most {plain_bytes_max} are possible",
                        self.plain_length
                    ),
                )
            })?;
        match self.coding {
            CODING_STORED => Ok(Coding::Stored(length)),
            CODING_ZSTD => Ok(Coding::Zstd(length)),
            other => Err(Error::corrupt(
                kind,
                format!("its coding is {other}, which nothing writes"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seal() -> Seal {
        Seal::unencrypted(&RepositoryId([7; 16]))
    }

    fn sealed(plain: &[u8], compression: Compression) -> Vec<u8> {
        let mut out = Vec::new();
        seal()
            .seal(
                SealedKind::RunBlock,
                b"place 1",
                plain,
                compression,
                &mut out,
            )
            .unwrap();
        out
    }

    fn open(bytes: &[u8]) -> Result<Vec<u8>> {
        seal().open(SealedKind::RunBlock, b"place 1", bytes, 1 << 20)
    }

    /// A piece whose header is a lie but whose tag fits, as someone who writes to the store could make it.
    fn forged(coding: u8, plain_length: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = Header {
            kind: SealedKind::RunBlock as u8,
            version: VERSION,
            method: METHOD_TAGGED,
            coding,
            plain_length,
        }
        .encode()
        .to_vec();
        bytes.extend_from_slice(body);
        let tag = seal().tag(b"place 1", &bytes);
        bytes.extend_from_slice(&tag);
        bytes
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(plain: Vec<u8>, repeats in 1..50_usize, level in 0..6) {
            let plain = plain.repeat(repeats);
            let compression = if level == 0 { Compression::Off } else { Compression::Level(level) };
            let bytes = sealed(&plain, compression);
            prop_assert!(bytes.len() <= plain.len() + SEAL_OVERHEAD_BYTES);
            prop_assert_eq!(open(&bytes).unwrap(), plain);
        }
    }

    #[test]
    fn sealing_appends_and_a_buffer_is_used_again() {
        let mut out = b"before".to_vec();
        let seal = seal();
        seal.seal(
            SealedKind::Data,
            b"",
            &[9; 1000],
            Compression::default(),
            &mut out,
        )
        .unwrap();
        assert!(out.starts_with(b"before") && out.len() < 100);
        let mut plain = vec![1; 5000];
        seal.open_into(SealedKind::Data, b"", &out[6..], 1000, &mut plain)
            .unwrap();
        assert_eq!(plain, [9; 1000]);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused() {
        for compression in [Compression::Off, Compression::Level(3)] {
            let bytes = sealed(&b"abcdefgh".repeat(20), compression);
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let error = open(&damaged).expect_err("a flipped bit must be refused");
                assert_eq!(error.kind(), ErrorKind::Corrupt);
            }
        }
    }

    #[test]
    fn a_piece_cut_short_or_with_bytes_behind_it_is_refused() {
        let mut bytes = sealed(b"some bytes", Compression::Off);
        for length in 0..bytes.len() {
            assert!(open(&bytes[..length]).is_err(), "{length} bytes");
        }
        bytes.push(0);
        assert!(open(&bytes).is_err());
    }

    #[test]
    fn another_kind_place_or_repository_is_refused() {
        let bytes = sealed(b"some bytes", Compression::Off);
        let open = |seal: &Seal, kind, associated: &[u8]| seal.open(kind, associated, &bytes, 100);
        assert!(open(&seal(), SealedKind::RunBlock, b"place 1").is_ok());
        assert!(open(&seal(), SealedKind::RunFooter, b"place 1").is_err());
        assert!(open(&seal(), SealedKind::RunBlock, b"place 2").is_err());
        assert!(open(&seal(), SealedKind::RunBlock, b"").is_err());
        let other = Seal::unencrypted(&RepositoryId([8; 16]));
        assert!(open(&other, SealedKind::RunBlock, b"place 1").is_err());
        assert_ne!(other.chunk_id(b"a"), seal().chunk_id(b"a"));
        let listed = seal().chunk_id_in(SealedKind::ExtentList, b"a");
        assert_ne!(listed, seal().chunk_id(b"a"));
        assert_ne!(other.chunking_seed(), seal().chunking_seed());
    }

    #[test]
    fn a_bomb_whose_length_lies_is_refused() {
        let bomb = zstd::bulk::compress(&vec![0; 1 << 20], 3).unwrap();
        assert!(open(&forged(CODING_ZSTD, 1 << 20, &bomb)).is_ok());
        for lie in [0, 10, (1 << 20) - 1, (1 << 20) + 1, u32::MAX] {
            assert!(open(&forged(CODING_ZSTD, lie, &bomb)).is_err(), "{lie}");
            // A buffer with room for all of it changes nothing.
            let mut roomy = Vec::with_capacity(2 << 20);
            assert!(
                seal()
                    .open_into(
                        SealedKind::RunBlock,
                        b"place 1",
                        &forged(CODING_ZSTD, lie, &bomb),
                        1 << 20,
                        &mut roomy
                    )
                    .is_err(),
                "{lie}"
            );
        }
    }

    #[test]
    fn headers_that_nothing_writes_are_refused() {
        assert!(open(&forged(CODING_STORED, 3, b"abc")).is_ok());
        assert!(open(&forged(CODING_STORED, 2, b"abc")).is_err());
        assert!(open(&forged(CODING_STORED, 4, b"abc")).is_err());
        assert!(open(&forged(2, 3, b"abc")).is_err());
        assert!(open(&forged(CODING_ZSTD, 3, b"abc")).is_err());
        assert!(open(&forged(CODING_ZSTD, 0, b"")).is_ok_and(|plain| plain.is_empty()));
    }

    #[test]
    fn more_than_the_caller_allows_is_refused_before_it_is_made() {
        let bytes = sealed(&[0; 5000], Compression::Level(3));
        let refused = seal().open(SealedKind::RunBlock, b"place 1", &bytes, 4999);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn more_than_a_kind_may_have_is_not_sealed() {
        let plain = vec![0; SealedKind::Data.plain_bytes_max() + 1];
        let mut out = Vec::new();
        let refused = seal().seal(SealedKind::Data, b"", &plain, Compression::Off, &mut out);
        assert!(refused.is_err() && out.is_empty());
    }

    #[test]
    fn a_piece_of_a_newer_version_is_no_damage() {
        let mut bytes = sealed(b"some bytes", Compression::Off);
        bytes.truncate(bytes.len() - TAG_BYTES);
        bytes[1] = VERSION + 1;
        let tag = seal().tag(b"place 1", &bytes);
        bytes.extend_from_slice(&tag);
        assert_eq!(open(&bytes).unwrap_err().kind(), ErrorKind::Failed);
    }
}
