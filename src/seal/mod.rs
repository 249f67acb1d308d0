//! The seal: what stands between plain bytes and the bytes of an object.
//!
//! Sealing compresses with zstd (or stores, where that is not smaller), puts a header before and a tag behind, and
//! binds all of it to associated data that the reader must know: for a block of a run, its place. Opening checks the
//! tag over everything before one byte is decompressed (but for frames, see `frame`), and never makes more plain bytes
//! than the header promised and the caller allows.
//!
//! There are two seals behind the same calls. That of an unencrypted repository has a BLAKE3 hash for a tag, against
//! corruption and mixed-up pieces, not against someone who writes to the store. The other one encrypts, see `cipher`;
//! a repository has the one or the other, and opens no piece of the other one's.
//!
//! Deliberately not here: where sealed pieces lie, and the check of a chunk against its id (its reader does that).

mod cipher;
mod compression;
mod frame;
mod header;
mod kind;
mod master;
mod padding;

pub use cipher::{SALT_BYTES, SaltSource, system_salt};
pub use compression::Compression;
pub use frame::SealedFrame;
pub use kind::SealedKind;
pub use master::{Derivation, MasterKey, PASSWORD_SALT_BYTES, Password, WRAPPED_BYTES, WrappedKey};

use zeroize::Zeroizing;

use self::cipher::{CIPHER_OVERHEAD_BYTES, Cipher};
use self::header::{
    CODING_STORED, CODING_ZSTD, Coding, HEADER_BYTES, Header, METHOD_TAGGED, VERSION,
};
use self::padding::padded_length;
use crate::base::{ChunkId, Error, ErrorKind, RepositoryId, Result};

/// A tag: half of a BLAKE3 hash, or AES-GCM's. A damaged piece passes unseen once in 2^128 times.
const TAG_BYTES: usize = 16;

/// Bytes that sealing adds to a piece that does not compress, where nothing is encrypted; no sealed piece is shorter.
pub const SEAL_OVERHEAD_BYTES: usize = HEADER_BYTES + TAG_BYTES;

/// The most sealed bytes that so many plain ones can have, by whatever seal.
pub const fn sealed_bytes_max(plain_bytes: usize) -> usize {
    padded_length(plain_bytes) + CIPHER_OVERHEAD_BYTES
}

/// Contexts of BLAKE3's key derivation: one for each use, never to be reused for another or changed.
const TAG_CONTEXT: &str = "bygone 2026-11-24 unencrypted repository: tags of sealed pieces";
const CHUNK_ID_CONTEXT: &str = "bygone 2026-11-24 unencrypted repository: ids of chunks";
const LIST_ID_CONTEXT: &str = "bygone 2026-11-24 unencrypted repository: ids of extent lists";
const CHUNKING_CONTEXT: &str = "bygone 2026-11-24 unencrypted repository: seed of chunking";

/// The same for an encrypted one.
const DATA_KEY_CONTEXT: &str = "bygone 2026-11-25 encrypted repository: files' content";
const METADATA_KEY_CONTEXT: &str = "bygone 2026-11-25 encrypted repository: metadata";
const SECRET_CHUNK_ID_CONTEXT: &str = "bygone 2026-11-25 encrypted repository: ids of chunks";
const SECRET_LIST_ID_CONTEXT: &str = "bygone 2026-11-25 encrypted repository: ids of extent lists";
const SECRET_CHUNKING_CONTEXT: &str = "bygone 2026-11-25 encrypted repository: seed of chunking";
const CONFIG_CONTEXT: &str = "bygone 2026-11-25 encrypted repository: authentication of the config";

/// Seals and opens the pieces of one repository, and names its chunks. Cheap to clone; any thread may use it.
#[derive(Clone)]
pub struct Seal {
    method: Method,
    chunk_id_key: Zeroizing<[u8; 32]>,
    list_id_key: Zeroizing<[u8; 32]>,
    chunking_seed: u64,
}

/// How pieces are authenticated.
#[derive(Clone)]
enum Method {
    /// By a tag of this key, which is no secret.
    Tagged([u8; 32]),
    /// By encryption.
    Encrypted(Cipher),
}

impl Seal {
    /// The seal of an unencrypted repository. Its keys come from the repository's id, so that a piece of another
    /// repository is told from one's own; they are no secret.
    pub fn unencrypted(repository: &RepositoryId) -> Self {
        let key = |context| blake3::derive_key(context, &repository.0);
        Self {
            method: Method::Tagged(key(TAG_CONTEXT)),
            chunk_id_key: Zeroizing::new(key(CHUNK_ID_CONTEXT)),
            list_id_key: Zeroizing::new(key(LIST_ID_CONTEXT)),
            chunking_seed: first_number(&key(CHUNKING_CONTEXT)),
        }
    }

    /// The seal of an encrypted repository: all of its keys come from the master key. `is_padded` says whether it hides
    /// lengths; it opens what was sealed either way.
    pub fn encrypted(
        repository: &RepositoryId,
        master: &MasterKey,
        is_padded: bool,
        salts: SaltSource,
    ) -> Self {
        let key = |context| master.derive(repository, context);
        Self {
            method: Method::Encrypted(Cipher {
                data_key: key(DATA_KEY_CONTEXT),
                metadata_key: key(METADATA_KEY_CONTEXT),
                is_padded,
                salts,
            }),
            chunk_id_key: key(SECRET_CHUNK_ID_CONTEXT),
            list_id_key: key(SECRET_LIST_ID_CONTEXT),
            chunking_seed: first_number(&key(SECRET_CHUNKING_CONTEXT)),
        }
    }

    /// What only who has the master key can write beside these bytes of a config.
    pub fn config_tag(repository: &RepositoryId, master: &MasterKey, bytes: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&master.derive(repository, CONFIG_CONTEXT), bytes)
    }

    /// Does it encrypt?
    pub fn is_encrypted(&self) -> bool {
        matches!(self.method, Method::Encrypted(_))
    }

    /// The sealed length of a piece of so many plain bytes that is not compressed.
    pub fn stored_length(&self, plain_bytes: usize) -> usize {
        match &self.method {
            Method::Tagged(_) => plain_bytes + SEAL_OVERHEAD_BYTES,
            Method::Encrypted(cipher) => cipher.stored_length(plain_bytes),
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
        let mut sealed = Ok(());
        compression::with_smaller(compression, plain, |smaller| match &self.method {
            Method::Tagged(key) => {
                let header = Header {
                    kind: kind as u8,
                    version: VERSION,
                    method: METHOD_TAGGED,
                    coding: smaller.map_or(CODING_STORED, |_| CODING_ZSTD),
                    plain_length,
                };
                append_tagged(key, associated, &header, smaller.unwrap_or(plain), out);
            }
            Method::Encrypted(cipher) => {
                sealed = cipher.seal(kind, associated, plain, smaller, out);
            }
        })?;
        sealed
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
        match &self.method {
            Method::Tagged(key) => {
                let (header, body) = tagged(key, kind, associated, sealed)?;
                open_tagged(kind, &header, body, plain_bytes_max, plain)
            }
            Method::Encrypted(cipher) => cipher
                .read(kind, associated, sealed, plain_bytes_max)?
                .open_into(plain),
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
}

/// The first eight bytes of a key as a number.
fn first_number(key: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *key;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

fn append_tagged(
    key: &[u8; 32],
    associated: &[u8],
    header: &Header,
    body: &[u8],
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.reserve(SEAL_OVERHEAD_BYTES + body.len());
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(body);
    let tag = tag(key, associated, &out[start..]);
    out.extend_from_slice(&tag);
}

/// The header, not looked at yet, and the body of a sealed piece whose tag fits.
fn tagged<'a>(
    key: &[u8; 32],
    kind: SealedKind,
    associated: &[u8],
    sealed: &'a [u8],
) -> Result<(Header, &'a [u8])> {
    let (tagged, found) = sealed
        .split_last_chunk::<TAG_BYTES>()
        .ok_or_else(|| too_short(kind))?;
    let (header, body) = tagged
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or_else(|| too_short(kind))?;
    // Not a secret, so that the comparison may take as long as it likes.
    if tag(key, associated, tagged) == *found {
        return Ok((Header::decode(*header), body));
    }
    Err(Error::corrupt(
        kind,
        "its tag does not fit; its bytes have changed, or it is from another place",
    ))
}

fn open_tagged(
    kind: SealedKind,
    header: &Header,
    body: &[u8],
    plain_bytes_max: usize,
    plain: &mut Vec<u8>,
) -> Result<()> {
    match tagged_coding(kind, header, plain_bytes_max)? {
        Coding::Stored(length) if body.len() == length => {
            plain.extend_from_slice(body);
            Ok(())
        }
        Coding::Stored(_) => Err(wrong_length(kind)),
        Coding::Zstd(length) => compression::decompress(body, length, plain)
            .map_err(|problem| Error::corrupt(kind, problem)),
    }
}

/// How the body of a piece is to be opened that is not encrypted.
fn tagged_coding(kind: SealedKind, header: &Header, plain_bytes_max: usize) -> Result<Coding> {
    if header.version != VERSION || header.method != METHOD_TAGGED {
        return Err(header.too_new(kind));
    }
    header.check_kind(kind)?;
    header.coding(kind, plain_bytes_max)
}

fn too_short(kind: SealedKind) -> Error {
    Error::corrupt(kind, "it is shorter than its header and tag")
}

fn wrong_length(kind: SealedKind) -> Error {
    Error::corrupt(kind, "its length is not the one in its header")
}

/// The tag over associated data, header and body. The length in front keeps the first two apart.
fn tag(key: &[u8; 32], associated: &[u8], header_and_body: &[u8]) -> [u8; TAG_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&(associated.len() as u64).to_le_bytes());
    hasher.update(associated);
    hasher.update(header_and_body);
    let mut tag = [0; TAG_BYTES];
    hasher.finalize_xof().fill(&mut tag);
    tag
}

impl std::fmt::Debug for Seal {
    /// No key is printed, lest one that is a secret ever be.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seal() -> Seal {
        Seal::unencrypted(&RepositoryId([7; 16]))
    }

    fn key() -> [u8; 32] {
        match seal().method {
            Method::Tagged(key) => key,
            Method::Encrypted(_) => panic!("it does not encrypt"),
        }
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
        let tag = tag(&key(), b"place 1", &bytes);
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
        let tag = tag(&key(), b"place 1", &bytes);
        bytes.extend_from_slice(&tag);
        assert_eq!(open(&bytes).unwrap_err().kind(), ErrorKind::Failed);
    }
}
