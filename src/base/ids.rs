//! Ids as distinct types, so that a pack is never looked for where a run lies.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{Error, ErrorKind, Result};
use super::time::Timestamp;

/// Bytes in the id of a repository, a pack, a run, an index, a lease or a key: enough that random ones never meet.
const OBJECT_ID_BYTES: usize = 16;

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Reads exactly `N` bytes of lower-case hexadecimal; None for anything else.
fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
    }
    Some(bytes)
}

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Defines one id type of a fixed number of bytes, written as lower-case hexadecimal.
macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $noun:literal, $bytes:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                parse_hex(text).map(Self).ok_or_else(|| {
                    Error::new(
                        ErrorKind::Usage,
                        format!(
                            "{text:?} is not {}: expected {} lower-case hexadecimal digits",
                            $noun,
                            2 * $bytes
                        ),
                    )
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(
                deserializer: D,
            ) -> std::result::Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_id!(
    /// Names a repository for as long as it lives.
    RepositoryId, "a repository id", OBJECT_ID_BYTES
);
hex_id!(
    /// Names a pack, `packs/<first two digits>/<id>`.
    PackId, "a pack id", OBJECT_ID_BYTES
);
hex_id!(
    /// Names a run (a manifest), `manifests/<id>`.
    RunId, "a run id", OBJECT_ID_BYTES
);
hex_id!(
    /// Names an index run, `index/<id>`.
    IndexId, "an index id", OBJECT_ID_BYTES
);
hex_id!(
    /// Names a lease, `leases/<id>`.
    LeaseId, "a lease id", OBJECT_ID_BYTES
);
hex_id!(
    /// Names a key, `keys/<id>`.
    KeyId, "a key id", OBJECT_ID_BYTES
);
hex_id!(
    /// Names a chunk by its content: the keyed BLAKE3 hash of its plain bytes.
    ChunkId, "a chunk id", 32
);

/// The number of an entry in one section of a run, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row(pub u64);

/// Where a version of an entry was first recorded. Directories count rows in the run's section of directories,
/// everything else in the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The run that recorded it first. It may be gone by now, merged into another one.
    pub run: RunId,
    /// The row it had there.
    pub row: Row,
}

/// Names a point: the UTC second of its commit, then eight random hexadecimal digits, `2026-11-23T03-17-19Z-1f3a9c2e`.
/// Sorts by time, and has no colon, since Samba and Windows have none either.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PointId {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// The random part, which is the short id.
    pub random: u32,
}

impl PointId {
    /// Characters of the short id: a point id's last ones.
    pub const SHORT_CHARS: usize = 8;

    /// The last eight digits, by which a person may name the point.
    pub fn short(&self) -> String {
        format!("{:08x}", self.random)
    }

    /// The commit's time, in whole seconds.
    pub fn time(&self) -> Timestamp {
        Timestamp {
            seconds: self.seconds,
            nanoseconds: 0,
        }
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::from_second(self.seconds).map_err(|_| fmt::Error)?;
        write!(
            f,
            "{}-{:08x}",
            time.strftime("%Y-%m-%dT%H-%M-%SZ"),
            self.random
        )
    }
}

impl fmt::Debug for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PointId({self})")
    }
}

impl FromStr for PointId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse_point_id(text).ok_or_else(|| {
            Error::new(
                ErrorKind::Usage,
                format!(
                    "{text:?} is not a point id: expected one like 2026-11-23T03-17-19Z-1f3a9c2e"
                ),
            )
        })
    }
}

/// Reads the one spelling that Display writes; None for any other.
fn parse_point_id(text: &str) -> Option<PointId> {
    let (time, random) = text.rsplit_once('-')?;
    let random = u32::from_be_bytes(parse_hex(random)?);
    let civil = jiff::civil::DateTime::strptime("%Y-%m-%dT%H-%M-%SZ", time).ok()?;
    let seconds = civil
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()?
        .timestamp()
        .as_second();
    let id = PointId { seconds, random };
    (id.to_string() == text).then_some(id)
}

impl Serialize for PointId {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PointId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_as_they_were_written() {
        let pack = PackId(*b"0123456789abcdef");
        assert_eq!(pack.to_string().parse::<PackId>().unwrap(), pack);
        let point: PointId = "2026-11-23T03-17-19Z-1f3a9c2e".parse().unwrap();
        assert_eq!(point.to_string(), "2026-11-23T03-17-19Z-1f3a9c2e");
        assert_eq!(point.short(), "1f3a9c2e");
    }

    #[test]
    fn other_spellings_of_an_id_are_refused() {
        for text in [
            "",
            "2026-11-23",
            "2026-11-23T03-17-19Z-1F3A9C2E",
            "2026-13-23T03-17-19Z-1f3a9c2e",
            "2026-11-23T03:17:19Z-1f3a9c2e",
            "é",
        ] {
            assert!(text.parse::<PointId>().is_err(), "{text}");
            assert!(text.parse::<PackId>().is_err(), "{text}");
        }
    }

    #[test]
    fn point_ids_sort_by_time_as_text_and_as_values() {
        let early: PointId = "2026-11-23T03-17-19Z-ffffffff".parse().unwrap();
        let late: PointId = "2026-11-23T03-17-20Z-00000000".parse().unwrap();
        assert!(early < late && early.to_string() < late.to_string());
    }
}
