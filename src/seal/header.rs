//! The header of a sealed piece: what it is, and how its body becomes plain bytes.

use super::SealedKind;
use crate::base::{Error, ErrorKind, Result};

/// The version of sealed pieces that this code writes and reads.
pub(super) const VERSION: u8 = 1;

/// The header's method byte: not encrypted, BLAKE3 tag.
pub(super) const METHOD_TAGGED: u8 = 0;

/// The header's method byte: encrypted.
pub(super) const METHOD_ENCRYPTED: u8 = 1;

/// The header's method byte: padded, then encrypted.
pub(super) const METHOD_PADDED: u8 = 2;

/// The header's coding byte: the body is the plain bytes.
pub(super) const CODING_STORED: u8 = 0;

/// The header's coding byte: the body is zstd frames.
pub(super) const CODING_ZSTD: u8 = 1;

/// Kind, version, method and coding, a byte each, then the plain length in four bytes. An encrypted piece's goes on
/// with its salt.
pub(super) const HEADER_BYTES: usize = 8;

/// What a sealed piece says of itself before its body.
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) version: u8,
    pub(super) method: u8,
    pub(super) coding: u8,
    pub(super) plain_length: u32,
}

/// How a body becomes plain bytes, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Stored(usize),
    Zstd(usize),
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
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

    pub(super) fn decode(bytes: [u8; HEADER_BYTES]) -> Self {
        let [kind, version, method, coding, a, b, c, d] = bytes;
        Self {
            kind,
            version,
            method,
            coding,
            plain_length: u32::from_le_bytes([a, b, c, d]),
        }
    }

    /// That it needs a newer program.
    pub(super) fn too_new(&self, kind: SealedKind) -> Error {
        Error::new(
            ErrorKind::Failed,
            format!(
                "{kind} is sealed by version {}, method {}; this program knows version {VERSION}, \
                 methods {METHOD_TAGGED} to {METHOD_PADDED}: use a newer one",
                self.version, self.method
            ),
        )
    }

    /// Is it of the kind that is wanted?
    pub(super) fn check_kind(&self, kind: SealedKind) -> Result<()> {
        if self.kind == kind as u8 {
            return Ok(());
        }
        Err(Error::corrupt(
            kind,
            format!("it is of kind {}, not {}", self.kind, kind as u8),
        ))
    }

    /// How its body is to be opened, within bounds.
    pub(super) fn coding(&self, kind: SealedKind, plain_bytes_max: usize) -> Result<Coding> {
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

impl Coding {
    /// How many plain bytes there are to be.
    pub(super) fn plain_length(self) -> usize {
        match self {
            Self::Stored(length) | Self::Zstd(length) => length,
        }
    }
}
