//! Opening the frames of packs, whose bytes their chunks' ids bind.
//!
//! No byte of a frame is used before the chunk that it belongs to was found to have its id: a keyed hash of the plain
//! bytes, twice as long as the tag over the sealed ones. In an unencrypted repository a tag keeps out nobody who can
//! write, so that to check it as well costs a seventh of opening a frame and buys nothing. It is looked at where a
//! frame will not open, to tell damage from another version; `Seal::open_into`, which `check` uses, looks at it always.
//! An encrypted frame is never decompressed before its tag was found to fit: zstd sees nobody's bytes but our own.

use super::cipher::EncryptedPiece;
use super::header::{Coding, HEADER_BYTES, Header};
use super::{Method, Seal, SealedKind, TAG_BYTES, compression, tagged, tagged_coding};
use super::{too_short, wrong_length};
use crate::base::{Error, Result};

/// A frame whose header was read, ready to be opened.
pub struct SealedFrame<'a> {
    kind: SealedKind,
    opening: Opening<'a>,
}

/// What it takes to open it.
enum Opening<'a> {
    Tagged {
        key: &'a [u8; 32],
        sealed: &'a [u8],
        coding: Coding,
    },
    Encrypted(EncryptedPiece<'a>),
}

impl Seal {
    /// The frame of which these are the sealed bytes, sealed without associated data.
    ///
    /// # Errors
    /// Corrupt, if it is no frame of this kind, or promises more than `plain_bytes_max`; failed, if it needs a newer
    /// version of bygone. The message names the kind; the caller adds where it lies.
    pub fn frame<'a>(
        &'a self,
        kind: SealedKind,
        sealed: &'a [u8],
        plain_bytes_max: usize,
    ) -> Result<SealedFrame<'a>> {
        let opening = match &self.method {
            Method::Tagged(key) => Opening::Tagged {
                key,
                sealed,
                coding: coding(key, kind, sealed, plain_bytes_max)?,
            },
            Method::Encrypted(cipher) => {
                Opening::Encrypted(cipher.read(kind, &[], sealed, plain_bytes_max)?)
            }
        };
        Ok(SealedFrame { kind, opening })
    }
}

/// How the body of a frame is to be opened that is not encrypted.
fn coding(
    key: &[u8; 32],
    kind: SealedKind,
    sealed: &[u8],
    plain_bytes_max: usize,
) -> Result<Coding> {
    let header = sealed
        .first_chunk::<HEADER_BYTES>()
        .filter(|_| sealed.len() >= HEADER_BYTES + TAG_BYTES)
        .ok_or_else(|| too_short(kind))?;
    tagged_coding(kind, &Header::decode(*header), plain_bytes_max)
        .map_err(|error| blame(key, kind, sealed, error))
}

/// Why a frame did not open: its bytes have changed, or else `error`.
fn blame(key: &[u8; 32], kind: SealedKind, sealed: &[u8], error: Error) -> Error {
    match tagged(key, kind, &[], sealed) {
        Ok(_) => error,
        Err(changed) => changed,
    }
}

impl SealedFrame<'_> {
    /// How many plain bytes it promises: no more than was allowed.
    pub fn plain_length(&self) -> usize {
        match &self.opening {
            Opening::Tagged { coding, .. } => coding.plain_length(),
            Opening::Encrypted(piece) => piece.plain_length(),
        }
    }

    /// Puts its plain bytes into `plain`, which has room for exactly so many. They are not verified: that is for the
    /// ids of the chunks in it to do.
    ///
    /// # Errors
    /// Corrupt, if its body is not what makes so many bytes. What `plain` then holds is of no meaning.
    ///
    /// # Panics
    /// If there is room for another number of bytes.
    pub fn open_into(&self, plain: &mut [u8]) -> Result<()> {
        assert_eq!(
            plain.len(),
            self.plain_length(),
            "there is room for the frame"
        );
        match &self.opening {
            Opening::Tagged {
                key,
                sealed,
                coding,
            } => self
                .open_tagged(sealed, *coding, plain)
                .map_err(|error| blame(key, self.kind, sealed, error)),
            Opening::Encrypted(piece) => piece.open_to_slice(plain),
        }
    }

    fn open_tagged(&self, sealed: &[u8], coding: Coding, plain: &mut [u8]) -> Result<()> {
        let body = &sealed[HEADER_BYTES..sealed.len() - TAG_BYTES];
        match coding {
            Coding::Stored(length) if body.len() == length => {
                plain.copy_from_slice(body);
                Ok(())
            }
            Coding::Stored(_) => Err(wrong_length(self.kind)),
            Coding::Zstd(_) => compression::decompress_into(body, plain)
                .map_err(|problem| Error::corrupt(self.kind, problem)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ErrorKind, RepositoryId};
    use crate::seal::Compression;
    use proptest::prelude::*;

    fn seal() -> Seal {
        Seal::unencrypted(&RepositoryId([7; 16]))
    }

    fn sealed(plain: &[u8], compression: Compression) -> Vec<u8> {
        let mut out = Vec::new();
        seal()
            .seal(SealedKind::Data, b"", plain, compression, &mut out)
            .unwrap();
        out
    }

    fn open(bytes: &[u8]) -> Result<Vec<u8>> {
        let seal = seal();
        let frame = seal.frame(SealedKind::Data, bytes, 1 << 20)?;
        let mut plain = vec![0xa5; frame.plain_length()];
        frame.open_into(&mut plain)?;
        Ok(plain)
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(plain: Vec<u8>, repeats in 1..50_usize, level in 0..6) {
            let plain = plain.repeat(repeats);
            let compression = if level == 0 { Compression::Off } else { Compression::Level(level) };
            prop_assert_eq!(open(&sealed(&plain, compression)).unwrap(), plain);
        }

        #[test]
        fn bytes_that_nobody_sealed_are_refused_or_as_many_as_promised(header: [u8; 3], length in 0..5000_u32, body: Vec<u8>) {
            let mut bytes = vec![SealedKind::Data as u8];
            bytes.extend_from_slice(&header);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&body);
            if let Ok(plain) = open(&bytes) {
                prop_assert_eq!(plain.len(), length as usize);
            }
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused_or_changes_the_chunks_id() {
        let plain = b"abcdefgh".repeat(20);
        for compression in [Compression::Off, Compression::Level(3)] {
            let bytes = sealed(&plain, compression);
            for bit in 0..(bytes.len() - TAG_BYTES) * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                match open(&damaged) {
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt),
                    // A bit of zstd's own header that says nothing leaves the bytes as they were.
                    Ok(made) => {
                        assert!(made == plain || seal().chunk_id(&made) != seal().chunk_id(&plain))
                    }
                }
            }
        }
    }

    #[test]
    fn one_cut_short_or_of_another_kind_is_refused() {
        let bytes = sealed(&[1; 5000], Compression::Level(3));
        for length in 0..bytes.len() {
            let plain = open(&bytes[..length]);
            assert!(plain.is_err(), "{length} bytes");
        }
        let seal = seal();
        let refused = seal.frame(SealedKind::ExtentList, &bytes, 1 << 20);
        assert_eq!(refused.err().unwrap().kind(), ErrorKind::Corrupt);
        let refused = seal.frame(SealedKind::Data, &bytes, 4999);
        assert_eq!(refused.err().unwrap().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn one_of_a_newer_version_is_no_damage() {
        let mut bytes = sealed(b"some bytes", Compression::Off);
        bytes.truncate(bytes.len() - TAG_BYTES);
        bytes[1] += 1;
        assert_eq!(
            open(&[&bytes[..], &[0; TAG_BYTES]].concat())
                .unwrap_err()
                .kind(),
            ErrorKind::Corrupt
        );
        let Method::Tagged(key) = seal().method else {
            panic!("it does not encrypt");
        };
        let tag = crate::seal::tag(&key, b"", &bytes);
        bytes.extend_from_slice(&tag);
        assert_eq!(open(&bytes).unwrap_err().kind(), ErrorKind::Failed);
    }
}
