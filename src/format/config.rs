//! The config: the one object that is read before anything else is known of a repository.
//!
//! It is written once, at init. What it says of chunking and compression guides writers only: readers find every
//! chunk whatever cut it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::features::{ENCRYPTION, Features};
use super::json::{check_authentic_json, decode_json, encode_authenticated_json, encode_json};
use crate::base::limits::{CHUNK_BYTES_MAX, FRAME_PLAIN_BYTES_MAX, PACK_BYTES_MAX};
use crate::base::{Error, ErrorKind, RepositoryId, Result};
use crate::seal::{Compression, MasterKey, Seal};

/// The format's version: it moves only when feature names cannot tell what changed.
pub const FORMAT_VERSION: u32 = 1;

/// How messages name the object.
const WHAT: &str = "the repository's config";

/// What a repository is and how its content is cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The format's version.
    pub version: u32,
    /// What its objects make use of.
    #[serde(default, skip_serializing_if = "Features::is_empty")]
    pub features: Features,
    /// The repository's id, from which an unencrypted seal's keys are made.
    pub repository: RepositoryId,
    /// How pieces are sealed.
    pub seal: SealMethod,
    /// How content is cut, grouped and packed.
    pub chunking: Chunking,
    /// How hard writers compress.
    pub compression: Compression,
    /// When the repository was made.
    pub created: Timestamp,
}

/// How a repository's pieces are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SealMethod {
    /// Not encrypted: BLAKE3 tags.
    #[serde(rename = "none")]
    Unencrypted,
    /// AES-256-GCM, with keys that come from a master key, which passwords wrap.
    #[serde(rename = "aes-256-gcm")]
    Encrypted,
    /// The same, and lengths are rounded up before.
    #[serde(rename = "aes-256-gcm-padded")]
    EncryptedPadded,
}

impl SealMethod {
    /// Does it encrypt?
    pub fn is_encrypted(self) -> bool {
        self != Self::Unencrypted
    }

    /// Does it hide lengths?
    pub fn is_padded(self) -> bool {
        self == Self::EncryptedPadded
    }
}

/// How content is cut into chunks, grouped into frames and packed. All in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunking {
    /// A file of up to so many is one chunk.
    pub small_bytes_max: u32,
    /// The shortest chunk that FastCDC cuts.
    pub min_bytes: u32,
    /// Its nominal average.
    pub average_bytes: u32,
    /// Its longest.
    pub max_bytes: u32,
    /// Chunks of block devices and disk images.
    pub fixed_bytes: u32,
    /// A frame of small chunks is full at so many.
    pub frame_bytes: u32,
    /// A pack is full at so many.
    pub pack_bytes: u32,
}

impl Config {
    /// The config of a new repository.
    pub fn new(
        repository: RepositoryId,
        seal: SealMethod,
        chunking: Chunking,
        compression: Compression,
        created: Timestamp,
    ) -> Self {
        let mut features = Features::default();
        if seal.is_encrypted() {
            features.incompatible.push(ENCRYPTION.to_owned());
        }
        Self {
            version: FORMAT_VERSION,
            features,
            repository,
            seal,
            chunking,
            compression,
            created,
        }
    }

    /// The object's bytes.
    ///
    /// # Errors
    /// Failed, if it is too large.
    pub fn encode(&self) -> Result<Vec<u8>> {
        encode_json(WHAT, self)
    }

    /// The object's bytes, which nobody else can change for whoever has the master key.
    ///
    /// # Errors
    /// Failed, if it is too large.
    pub fn encode_authenticated(&self, master: &MasterKey) -> Result<Vec<u8>> {
        let hash = |members: &[u8]| Seal::config_tag(&self.repository, master, members);
        encode_authenticated_json(WHAT, self, &hash)
    }

    /// Were these bytes, of which this is the config, written by who has the master key?
    ///
    /// # Errors
    /// Corrupt, if they were not.
    pub fn check_authentic(&self, bytes: &[u8], master: &MasterKey) -> Result<()> {
        let hash = |members: &[u8]| Seal::config_tag(&self.repository, master, members);
        check_authentic_json(WHAT, bytes, &hash)
    }

    /// Reads the object's bytes.
    ///
    /// # Errors
    /// Corrupt, if they are not a config; failed, if it needs a newer version of bygone.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        // Version and features first: the rest of a newer one may look otherwise.
        let head: Head = decode_json(WHAT, bytes)?;
        if head.version != FORMAT_VERSION {
            return Err(Error::new(
                ErrorKind::Failed,
                format!(
                    "{WHAT} has format version {}; this program knows version {FORMAT_VERSION}: use a newer one",
                    head.version
                ),
            ));
        }
        head.features.check_readable(WHAT)?;
        let config: Self = decode_json(WHAT, bytes)?;
        if !config.chunking.is_valid() || !config.compression.is_valid() {
            return Err(Error::corrupt(
                WHAT,
                "its chunking or compression is out of bounds",
            ));
        }
        Ok(config)
    }
}

/// What every version of a config begins with.
#[derive(Deserialize)]
struct Head {
    version: u32,
    #[serde(default)]
    features: Features,
}

/// Chunk sizes are multiples of so many bytes: of a page, and so even, as FastCDC asks.
const CHUNK_STEP_BYTES: u64 = 4096;

/// The average chunk by default: a random read then decompresses about what squashfs does.
const CHUNK_BYTES: u32 = 128 << 10;

impl Chunking {
    /// Averages that FastCDC can cut by, given that it cuts a quarter at least and four times as much at most.
    const AVERAGE_BYTES_MAX: u64 = (CHUNK_BYTES_MAX / 4) as u64;

    /// Cuts large files into chunks of about so many bytes.
    ///
    /// # Errors
    /// Usage, unless it is a multiple of 4 KiB up to 4 MiB.
    pub fn with_chunk_bytes(average: u64) -> Result<Self> {
        let bytes = u32::try_from(average)
            .ok()
            .filter(|_| {
                (CHUNK_STEP_BYTES..=Self::AVERAGE_BYTES_MAX).contains(&average)
                    && average.is_multiple_of(CHUNK_STEP_BYTES)
            })
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Usage,
                    format!(
                        "chunks of {average} bytes are not possible: expected a multiple of {CHUNK_STEP_BYTES}, \
                         {} at most",
                        Self::AVERAGE_BYTES_MAX
                    ),
                )
            })?;
        Ok(Self::around(bytes))
    }

    /// All sizes, from the average chunk's. Frames and packs do not grow with chunks: they are for small files.
    const fn around(average_bytes: u32) -> Self {
        Self {
            small_bytes_max: average_bytes,
            min_bytes: average_bytes / 4,
            average_bytes,
            max_bytes: average_bytes * 4,
            fixed_bytes: average_bytes,
            frame_bytes: 512 << 10,
            pack_bytes: 32 << 20,
        }
    }

    /// Can content be cut so? FastCDC's own bounds are among these.
    fn is_valid(&self) -> bool {
        let even = [self.min_bytes, self.average_bytes, self.max_bytes]
            .iter()
            .all(|bytes| bytes.is_multiple_of(2));
        let bytes_max = CHUNK_BYTES_MAX as u32;
        even && (64..=1 << 20).contains(&self.min_bytes)
            && (256..=4 << 20).contains(&self.average_bytes)
            && (1024..=bytes_max).contains(&self.max_bytes)
            && self.min_bytes <= self.average_bytes
            && self.average_bytes <= self.max_bytes
            && (1..=bytes_max).contains(&self.small_bytes_max)
            && (512..=bytes_max).contains(&self.fixed_bytes)
            && (1..=FRAME_PLAIN_BYTES_MAX as u32 / 2).contains(&self.frame_bytes)
            && (1..=PACK_BYTES_MAX / 2).contains(&u64::from(self.pack_bytes))
    }
}

impl Default for Chunking {
    /// Chunks of 128 KiB, frames of 512 KiB, packs of 32 MiB.
    fn default() -> Self {
        Self::around(CHUNK_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new(
            RepositoryId([3; 16]),
            SealMethod::Unencrypted,
            Chunking::default(),
            Compression::Level(3),
            Timestamp::from_second(1_790_000_000).unwrap(),
        )
    }

    #[test]
    fn a_config_comes_back() {
        for compression in [Compression::Off, Compression::Level(19)] {
            let config = Config {
                compression,
                ..config()
            };
            assert_eq!(Config::decode(&config.encode().unwrap()).unwrap(), config);
        }
    }

    #[test]
    fn a_config_with_a_master_key_is_read_by_all_and_written_by_who_has_it() {
        let master = MasterKey::from_bytes([9; 32]);
        let seal = SealMethod::EncryptedPadded;
        let config = config();
        let config = Config::new(
            config.repository,
            seal,
            config.chunking,
            config.compression,
            config.created,
        );
        let bytes = config.encode_authenticated(&master).unwrap();
        assert_eq!(Config::decode(&bytes).unwrap(), config);
        assert!(config.check_authentic(&bytes, &master).is_ok());
        let mut changed = config.clone();
        changed.compression = Compression::Off;
        let forged = changed
            .encode_authenticated(&MasterKey::from_bytes([8; 32]))
            .unwrap();
        assert!(changed.check_authentic(&forged, &master).is_err());
        let unprotected = config.encode().unwrap();
        assert!(config.check_authentic(&unprotected, &master).is_err());
    }

    #[test]
    fn newer_versions_and_unknown_incompatible_features_are_refused_by_name() {
        let newer = Config {
            version: 2,
            ..config()
        };
        let error = Config::decode(&newer.encode().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert!(error.to_string().contains("version 2"), "{error}");

        let mut other = config();
        other.features.incompatible.push("glitter".into());
        let error = Config::decode(&other.encode().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert!(error.to_string().contains("glitter"), "{error}");

        let mut compatible = config();
        compatible.features.compatible.push("glitter".into());
        assert!(Config::decode(&compatible.encode().unwrap()).is_ok());
    }

    #[test]
    fn sizes_that_nothing_can_cut_by_are_refused() {
        let edits: [fn(&mut Chunking); 8] = [
            |chunking| chunking.min_bytes = 0,
            |chunking| chunking.min_bytes = 4097,
            |chunking| chunking.average_bytes = 8 << 20,
            |chunking| chunking.max_bytes = 32 << 20,
            |chunking| chunking.max_bytes = chunking.min_bytes,
            |chunking| chunking.fixed_bytes = 0,
            |chunking| chunking.frame_bytes = u32::MAX,
            |chunking| chunking.pack_bytes = u32::MAX,
        ];
        for edit in edits {
            let mut config = config();
            edit(&mut config.chunking);
            let bytes = config.encode().unwrap();
            assert_eq!(
                Config::decode(&bytes).unwrap_err().kind(),
                ErrorKind::Corrupt
            );
        }
        let level = Config {
            compression: Compression::Level(99),
            ..config()
        };
        assert!(Config::decode(&level.encode().unwrap()).is_err());
    }

    #[test]
    fn every_chunk_size_that_is_accepted_makes_a_valid_config() {
        for average in [4096, 64 << 10, 4 << 20] {
            assert!(Chunking::with_chunk_bytes(average).unwrap().is_valid());
        }
        for average in [0, 4095, 5000, (4 << 20) + 4096, u64::MAX] {
            assert!(Chunking::with_chunk_bytes(average).is_err(), "{average}");
        }
        assert_eq!(
            Chunking::with_chunk_bytes(128 << 10).unwrap(),
            Chunking::default()
        );
    }
}
