//! Encrypted pieces: AES-256-GCM, by a key that no other piece has.
//!
//! The key is made from the class's key, the associated data, the header's first bytes and a random salt of 32 bytes
//! that stands in the header; so a key seals one message, and the nonce can be constant. With it comes a mask that
//! hides the header's coding and plain length, which a reader must know before it opens the body. The whole header is
//! the AEAD's associated data. Whoever has moved a piece, or changed any bit of it, makes another key or another tag.
//!
//! Bodies are opened straight into where they are wanted if they were stored; those that zstd made go through a buffer
//! that a thread keeps.

use std::cell::RefCell;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::header::{
    CODING_STORED, CODING_ZSTD, Coding, HEADER_BYTES, Header, METHOD_ENCRYPTED, METHOD_PADDED,
    METHOD_TAGGED, VERSION,
};
use super::padding::{pad, padded_length, unpadded};
use super::{SealedKind, TAG_BYTES, compression};
use crate::base::{Error, ErrorKind, Result};

/// Bytes of a salt: so many that no two pieces of a repository ever have the same.
pub const SALT_BYTES: usize = 32;

/// Fills a salt with bytes that nothing else has: the system's randomness, or in tests what is known beforehand.
pub type SaltSource = fn(&mut [u8; SALT_BYTES]) -> Result<()>;

/// The header of an encrypted piece, with its salt.
const SALTED_HEADER_BYTES: usize = HEADER_BYTES + SALT_BYTES;

/// Bytes that encryption adds to a piece that does not compress, padding aside.
pub(super) const CIPHER_OVERHEAD_BYTES: usize = SALTED_HEADER_BYTES + TAG_BYTES;

/// Kind, version and method: what of the header is not hidden.
const OPEN_BYTES: usize = 3;

/// Coding and plain length.
const MASK_BYTES: usize = HEADER_BYTES - OPEN_BYTES;

/// Room for decrypted bodies up to so many bytes is kept by a thread: four of the largest frames by default.
const SCRATCH_BYTES_KEPT: usize = 2 << 20;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Salts from the system's randomness.
///
/// # Errors
/// Failed, if it has none to give.
pub fn system_salt(salt: &mut [u8; SALT_BYTES]) -> Result<()> {
    aws_lc_rs::rand::fill(salt)
        .map_err(|_| Error::new(ErrorKind::Failed, "the system has no randomness to give"))
}

/// Encrypts and decrypts the pieces of one repository.
#[derive(Clone)]
pub(super) struct Cipher {
    pub(super) data_key: Zeroizing<[u8; 32]>,
    pub(super) metadata_key: Zeroizing<[u8; 32]>,
    pub(super) is_padded: bool,
    pub(super) salts: SaltSource,
}

/// The key of one piece, and what hides its coding and its length.
struct PieceKey {
    key: LessSafeKey,
    mask: [u8; MASK_BYTES],
}

/// An encrypted piece whose header was read, ready to be opened.
pub(super) struct EncryptedPiece<'a> {
    kind: SealedKind,
    key: PieceKey,
    header: &'a [u8; SALTED_HEADER_BYTES],
    body: &'a [u8],
    tag: &'a [u8; TAG_BYTES],
    is_padded: bool,
    coding: Coding,
}

impl Cipher {
    /// The sealed length of a piece of so many plain bytes that is not compressed.
    pub(super) fn stored_length(&self, plain_bytes: usize) -> usize {
        let body_bytes = match self.is_padded {
            true => padded_length(plain_bytes),
            false => plain_bytes,
        };
        body_bytes + CIPHER_OVERHEAD_BYTES
    }

    /// Appends a piece to `out`: header, encrypted body, tag. `smaller` is what zstd made of `plain`, where that pays.
    pub(super) fn seal(
        &self,
        kind: SealedKind,
        associated: &[u8],
        plain: &[u8],
        smaller: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let header = Header {
            kind: kind as u8,
            version: VERSION,
            method: match self.is_padded {
                true => METHOD_PADDED,
                false => METHOD_ENCRYPTED,
            },
            coding: smaller.map_or(CODING_STORED, |_| CODING_ZSTD),
            // The caller has checked it against the kind's bound, which is less.
            plain_length: plain.len() as u32,
        };
        let mut salt = [0; SALT_BYTES];
        (self.salts)(&mut salt)?;
        let mut head = header.encode();
        let key = self.piece_key(kind, associated, &head, &salt);
        key.hide(&mut head);

        let body = smaller.unwrap_or(plain);
        out.reserve(self.stored_length(body.len()));
        let start = out.len();
        out.extend_from_slice(&head);
        out.extend_from_slice(&salt);
        out.extend_from_slice(body);
        if self.is_padded {
            pad(body.len(), out);
        }
        let (header, body) = out[start..].split_at_mut(SALTED_HEADER_BYTES);
        let tag = key
            .key
            .seal_in_place_separate_tag(nonce(), Aad::from(&*header), body)
            .map_err(|_| Error::new(ErrorKind::Failed, format!("cannot encrypt {kind}")))?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Reads the header of a piece. Nothing of it is authenticated before the body is opened.
    ///
    /// # Errors
    /// Corrupt, if it is no such piece, or promises more than `plain_bytes_max`; failed, if a newer version sealed it.
    pub(super) fn read<'a>(
        &self,
        kind: SealedKind,
        associated: &[u8],
        sealed: &'a [u8],
        plain_bytes_max: usize,
    ) -> Result<EncryptedPiece<'a>> {
        let mut piece = self.split(kind, associated, sealed)?;
        let mut head = *head(piece.header);
        piece.key.hide(&mut head);
        let header = Header::decode(head);
        header.check_kind(kind)?;
        let is_known = matches!(header.method, METHOD_ENCRYPTED | METHOD_PADDED);
        if header.version != VERSION || !is_known {
            // Whoever has the key may write what this code does not know yet. Nobody else may.
            piece.open_to(|_| ())?;
            return Err(header.too_new(kind));
        }
        piece.is_padded = header.method == METHOD_PADDED;
        piece.coding = header
            .coding(kind, plain_bytes_max)
            .map_err(|error| piece.blame(error))?;
        Ok(piece)
    }

    /// The parts of a piece that is long enough to have them.
    fn split<'a>(
        &self,
        kind: SealedKind,
        associated: &[u8],
        sealed: &'a [u8],
    ) -> Result<EncryptedPiece<'a>> {
        let (header, body, tag) = sealed
            .split_first_chunk::<SALTED_HEADER_BYTES>()
            .and_then(|(header, rest)| {
                let (body, tag) = rest.split_last_chunk::<TAG_BYTES>()?;
                Some((header, body, tag))
            })
            .ok_or_else(|| Error::corrupt(kind, "it is shorter than its header and tag"))?;
        let head = head(header);
        if head[2] == METHOD_TAGGED {
            return Err(Error::corrupt(
                kind,
                "it is not encrypted, as all in this repository must be",
            ));
        }
        let (_, salt) = header
            .split_last_chunk::<SALT_BYTES>()
            .expect("the header ends with a salt");
        Ok(EncryptedPiece {
            kind,
            key: self.piece_key(kind, associated, head, salt),
            header,
            body,
            tag,
            is_padded: false,
            coding: Coding::Stored(0),
        })
    }

    /// The key of the piece with this header, salt and place.
    fn piece_key(
        &self,
        kind: SealedKind,
        associated: &[u8],
        head: &[u8; HEADER_BYTES],
        salt: &[u8; SALT_BYTES],
    ) -> PieceKey {
        let class_key = match kind {
            SealedKind::Data => &self.data_key,
            _ => &self.metadata_key,
        };
        let mut hasher = blake3::Hasher::new_keyed(class_key);
        hasher.update(&(associated.len() as u64).to_le_bytes());
        hasher.update(associated);
        hasher.update(&head[..OPEN_BYTES]);
        hasher.update(salt);
        let mut made = Zeroizing::new([0; 32 + MASK_BYTES]);
        hasher.finalize_xof().fill(&mut *made);
        let (key, mask) = made
            .split_first_chunk::<32>()
            .expect("a key and a mask were made");
        let key = UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes a key of 32 bytes");
        PieceKey {
            key: LessSafeKey::new(key),
            mask: mask.try_into().expect("what is left is the mask"),
        }
    }
}

/// The first bytes of a header with its salt.
fn head(header: &[u8; SALTED_HEADER_BYTES]) -> &[u8; HEADER_BYTES] {
    header
        .first_chunk()
        .expect("a header with its salt is longer than one without")
}

/// Each key seals one message.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

impl PieceKey {
    /// Hides coding and plain length, or shows them again.
    fn hide(&self, head: &mut [u8; HEADER_BYTES]) {
        for (byte, mask) in head[OPEN_BYTES..].iter_mut().zip(self.mask) {
            *byte ^= mask;
        }
    }
}

impl EncryptedPiece<'_> {
    /// How many plain bytes it promises.
    pub(super) fn plain_length(&self) -> usize {
        self.coding.plain_length()
    }

    /// Replaces what is in `plain` by the plain bytes.
    pub(super) fn open_into(&self, plain: &mut Vec<u8>) -> Result<()> {
        match self.coding {
            Coding::Stored(length) => {
                self.check_stored(length)?;
                plain.resize(length, 0);
                self.open_stored(plain)
            }
            Coding::Zstd(length) => {
                self.open_coded(|coded| compression::decompress(coded, length, plain))
            }
        }
    }

    /// Fills `plain`, which has the plain length, with the plain bytes.
    pub(super) fn open_to_slice(&self, plain: &mut [u8]) -> Result<()> {
        match self.coding {
            Coding::Stored(length) => {
                self.check_stored(length)?;
                self.open_stored(plain)
            }
            Coding::Zstd(_) => self.open_coded(|coded| compression::decompress_into(coded, plain)),
        }
    }

    /// A stored body has a length that its plain length tells, before anything is reserved for it.
    fn check_stored(&self, length: usize) -> Result<()> {
        let expected = match self.is_padded {
            true => padded_length(length),
            false => length,
        };
        if self.body.len() == expected {
            return Ok(());
        }
        let problem = "its length is not the one in its header";
        Err(self.blame(Error::corrupt(self.kind, problem)))
    }

    fn open_stored(&self, plain: &mut [u8]) -> Result<()> {
        if !self.is_padded {
            return self.decrypt(plain);
        }
        self.open_coded(|coded| {
            if coded.len() != plain.len() {
                return Err("its length is not the one in its header".to_owned());
            }
            plain.copy_from_slice(coded);
            Ok(())
        })
    }

    /// Decrypts the body, and gives `decode` what of it is no padding. Its error is a problem in words.
    fn open_coded(
        &self,
        decode: impl FnOnce(&[u8]) -> std::result::Result<(), String>,
    ) -> Result<()> {
        let decoded = self.open_to(|body| match self.is_padded {
            true => match unpadded(body) {
                Some(coded) => decode(coded),
                None => Err("its padding is longer than it is".to_owned()),
            },
            false => decode(body),
        })?;
        decoded.map_err(|problem| Error::corrupt(self.kind, problem))
    }

    /// Decrypts the body into the thread's buffer, and gives it to `take`.
    fn open_to<T>(&self, take: impl FnOnce(&[u8]) -> T) -> Result<T> {
        SCRATCH.with_borrow_mut(|scratch| {
            let length = self.body.len();
            if scratch.len() < length {
                scratch.resize(length, 0);
            }
            let opened = self
                .decrypt(&mut scratch[..length])
                .map(|()| take(&scratch[..length]));
            if scratch.capacity() > SCRATCH_BYTES_KEPT {
                *scratch = Vec::new();
            }
            opened
        })
    }

    /// Fills `plain`, which has the body's length, with the decrypted body.
    fn decrypt(&self, plain: &mut [u8]) -> Result<()> {
        self.key
            .key
            .open_separate_gather(nonce(), Aad::from(self.header), self.body, self.tag, plain)
            .map_err(|_| {
                Error::corrupt(
                    self.kind,
                    "its tag does not fit; its bytes have changed, or it is from another place",
                )
            })
    }

    /// Why it cannot be opened: its bytes have changed, or else `error`.
    fn blame(&self, error: Error) -> Error {
        self.open_to(|_| ()).err().unwrap_or(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::RepositoryId;
    use crate::seal::{Compression, MasterKey, Seal};
    use proptest::prelude::*;

    const REPOSITORY: RepositoryId = RepositoryId([7; 16]);

    fn with(repository: RepositoryId, master: u8, is_padded: bool) -> Seal {
        let master = MasterKey::from_bytes([master; 32]);
        Seal::encrypted(&repository, &master, is_padded, system_salt)
    }

    fn seals() -> [Seal; 2] {
        [with(REPOSITORY, 1, false), with(REPOSITORY, 1, true)]
    }

    fn sealed(seal: &Seal, plain: &[u8], compression: Compression) -> Vec<u8> {
        let mut out = Vec::new();
        let kind = SealedKind::RunBlock;
        seal.seal(kind, b"place 1", plain, compression, &mut out)
            .unwrap();
        out
    }

    fn open(seal: &Seal, bytes: &[u8]) -> Result<Vec<u8>> {
        seal.open(SealedKind::RunBlock, b"place 1", bytes, 1 << 20)
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_as_a_piece_and_as_a_frame(plain: Vec<u8>, repeats in 1..50_usize, level in 0..6) {
            let plain = plain.repeat(repeats);
            let compression = if level == 0 { Compression::Off } else { Compression::Level(level) };
            for seal in seals() {
                let bytes = sealed(&seal, &plain, compression);
                prop_assert!(bytes.len() <= seal.stored_length(plain.len()));
                prop_assert!(bytes.len() <= crate::seal::sealed_bytes_max(plain.len()));
                prop_assert_eq!(&open(&seal, &bytes).unwrap(), &plain);
                let mut frame = Vec::new();
                seal.seal(SealedKind::Data, b"", &plain, compression, &mut frame).unwrap();
                let frame = seal.frame(SealedKind::Data, &frame, 1 << 20).unwrap();
                let mut opened = vec![0xa5; frame.plain_length()];
                frame.open_into(&mut opened).unwrap();
                prop_assert_eq!(&opened, &plain);
            }
        }

        #[test]
        fn bytes_that_nobody_sealed_are_refused(bytes: Vec<u8>, is_padded: bool) {
            let seal = with(REPOSITORY, 1, is_padded);
            prop_assert!(open(&seal, &bytes).is_err());
            let mut bytes = bytes;
            bytes.splice(..0, [SealedKind::RunBlock as u8, VERSION, METHOD_ENCRYPTED]);
            prop_assert!(open(&seal, &bytes).is_err());
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_damage() {
        for seal in seals() {
            for compression in [Compression::Off, Compression::Level(3)] {
                let bytes = sealed(&seal, &b"abcdefgh".repeat(20), compression);
                for bit in 0..bytes.len() * 8 {
                    let mut damaged = bytes.clone();
                    damaged[bit / 8] ^= 1 << (bit % 8);
                    let error = open(&seal, &damaged).expect_err("a flipped bit must be refused");
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}");
                }
            }
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_in_a_frame_is_damage_before_a_byte_is_decompressed() {
        for seal in seals() {
            let mut bytes = Vec::new();
            let plain = b"abcdefgh".repeat(20);
            seal.seal(
                SealedKind::Data,
                b"",
                &plain,
                Compression::default(),
                &mut bytes,
            )
            .unwrap();
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let opened = seal
                    .frame(SealedKind::Data, &damaged, 1 << 20)
                    .and_then(|frame| {
                        let mut plain = vec![0; frame.plain_length()];
                        frame.open_into(&mut plain)
                    });
                let error = opened.expect_err("a flipped bit must be refused");
                assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}");
                assert!(!error.to_string().contains("zstd"), "{error}");
            }
        }
    }

    #[test]
    fn a_piece_cut_short_or_with_bytes_behind_it_is_refused() {
        for seal in seals() {
            let mut bytes = sealed(&seal, b"some bytes", Compression::Off);
            for length in 0..bytes.len() {
                assert!(open(&seal, &bytes[..length]).is_err(), "{length} bytes");
            }
            bytes.push(0);
            assert!(open(&seal, &bytes).is_err());
        }
    }

    #[test]
    fn another_kind_place_repository_or_key_is_refused() {
        let seal = with(REPOSITORY, 1, false);
        let bytes = sealed(&seal, b"some bytes", Compression::Off);
        let open = |seal: &Seal, kind, place: &[u8]| seal.open(kind, place, &bytes, 100);
        assert!(open(&seal, SealedKind::RunBlock, b"place 1").is_ok());
        assert!(open(&seal, SealedKind::RunFooter, b"place 1").is_err());
        assert!(open(&seal, SealedKind::RunBlock, b"place 2").is_err());
        assert!(open(&seal, SealedKind::RunBlock, b"").is_err());
        for other in [
            with(RepositoryId([8; 16]), 1, false),
            with(REPOSITORY, 2, false),
        ] {
            assert!(open(&other, SealedKind::RunBlock, b"place 1").is_err());
            assert_ne!(other.chunk_id(b"a"), seal.chunk_id(b"a"));
            assert_ne!(other.chunking_seed(), seal.chunking_seed());
        }
        let padded = with(REPOSITORY, 1, true);
        assert!(open(&padded, SealedKind::RunBlock, b"place 1").is_ok());
    }

    #[test]
    fn a_piece_that_is_not_encrypted_is_refused_where_all_are_and_the_other_way_round() {
        let encrypted = with(REPOSITORY, 1, false);
        let plain = Seal::unencrypted(&REPOSITORY);
        let refused = open(&encrypted, &sealed(&plain, &[1; 100], Compression::Off));
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("not encrypted"), "{error}");
        let refused = open(&plain, &sealed(&encrypted, b"some bytes", Compression::Off));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn neither_the_content_nor_its_length_nor_what_is_equal_can_be_seen() {
        let seal = with(REPOSITORY, 1, false);
        let plain = [b'x'; 300];
        let one = sealed(&seal, &plain, Compression::Off);
        let two = sealed(&seal, &plain, Compression::Off);
        assert_eq!(one[..OPEN_BYTES], two[..OPEN_BYTES]);
        let equal = one.iter().zip(&two).filter(|(a, b)| a == b).count();
        assert!(equal < 30, "{equal} of {} bytes are equal", one.len());
        // All lengths that are padded to the same look alike.
        let padded = with(REPOSITORY, 1, true);
        let lengths = [0, 1, 100, 500].map(|length| {
            let plain = vec![b'x'; length];
            sealed(&padded, &plain, Compression::Off).len()
        });
        assert_eq!(lengths, [lengths[0]; 4]);
    }

    #[test]
    fn a_newer_version_by_who_has_the_key_is_no_damage_and_by_others_it_is() {
        let seal = with(REPOSITORY, 1, false);
        let bytes = sealed(&seal, b"some bytes", Compression::Off);
        let mut damaged = bytes.clone();
        damaged[1] += 1;
        let error = open(&seal, &damaged).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);

        let crate::seal::Method::Encrypted(cipher) = &seal.method else {
            panic!("it encrypts");
        };
        let salt = [3; SALT_BYTES];
        let head = [SealedKind::RunBlock as u8, VERSION + 1, 1, 0, 0, 0, 0, 0];
        let key = cipher.piece_key(SealedKind::RunBlock, b"place 1", &head, &salt);
        let mut newer = [&head[..], &salt].concat();
        let tag = key
            .key
            .seal_in_place_separate_tag(nonce(), Aad::from(&newer), &mut [])
            .unwrap();
        newer.extend_from_slice(tag.as_ref());
        assert_eq!(open(&seal, &newer).unwrap_err().kind(), ErrorKind::Failed);
    }

    #[test]
    fn more_than_the_caller_allows_is_refused_before_it_is_made() {
        for seal in seals() {
            let bytes = sealed(&seal, &[0; 5000], Compression::Level(3));
            let refused = seal.open(SealedKind::RunBlock, b"place 1", &bytes, 4999);
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }
}
