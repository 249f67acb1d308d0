//! The small objects that are plain JSON (config, leases, keys): readable with any tool, and checked against damage.
//!
//! The last member of the object is `checksum`, the BLAKE3 hash of every byte before its line. It is compared as
//! bytes, before anything is parsed, so that a flipped bit anywhere is refused: one in a string would otherwise be
//! another valid object. Nothing reads the hash from JSON, and nothing else about white space or order is promised.
//!
//! Where there is a secret key, a line before it, `authentication`, keeps out who could make a checksum too: a hash with
//! that key of every byte before that line.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::limits::JSON_BYTES_MAX;
use crate::base::{Error, ErrorKind, Result};

/// The line before, where there is one, up to its hash.
const AUTHENTICATION_BEFORE: &str = "  \"authentication\": \"";

/// What follows that hash: the end of its string and of its line.
const AUTHENTICATION_AFTER: &str = "\",\n";

/// The last line but one, up to the hash.
const CHECKSUM_BEFORE: &str = "  \"checksum\": \"";

/// What follows the hash: the end of its string, of the object and of the file.
const CHECKSUM_AFTER: &str = "\"\n}\n";

/// Hexadecimal digits of a hash.
const CHECKSUM_CHARS: usize = 64;

/// A hash with a key that whoever passes this knows.
type KeyedHash<'a> = &'a dyn Fn(&[u8]) -> blake3::Hash;

/// A struct as a checked JSON object.
///
/// # Errors
/// Failed, if it cannot be a JSON object of at most `JSON_BYTES_MAX`.
pub fn encode_json(what: impl fmt::Display, value: &impl Serialize) -> Result<Vec<u8>> {
    encode(what, value, None)
}

/// A struct as a checked JSON object with what `hash`, which knows a secret key, makes of its other members.
///
/// # Errors
/// Those of `encode_json`.
pub fn encode_authenticated_json(
    what: impl fmt::Display,
    value: &impl Serialize,
    hash: KeyedHash<'_>,
) -> Result<Vec<u8>> {
    encode(what, value, Some(hash))
}

fn encode(
    what: impl fmt::Display,
    value: &impl Serialize,
    hash: Option<KeyedHash<'_>>,
) -> Result<Vec<u8>> {
    let failed = |problem: &str| {
        Error::new(
            ErrorKind::Failed,
            format!("cannot write {what} as JSON: {problem}"),
        )
    };
    let mut text = serde_json::to_string_pretty(value).map_err(|e| failed(&e.to_string()))?;
    let Some(members) = text.strip_suffix("\n}") else {
        return Err(failed("it is no object with members"));
    };
    text.truncate(members.len());
    text.push_str(",\n");
    if let Some(hash) = hash {
        let authentication = authentication_line(hash(text.as_bytes()));
        text.push_str(&authentication);
    }
    let checksum = checksum_line(text.as_bytes());
    text.push_str(&checksum);
    if text.len() > JSON_BYTES_MAX {
        return Err(failed("it is too large"));
    }
    Ok(text.into_bytes())
}

/// Checks what `encode_authenticated_json` wrote, after `decode_json` has.
///
/// # Errors
/// Corrupt, if it was written, or changed, without the key that `hash` knows.
pub fn check_authentic_json(
    what: impl fmt::Display,
    bytes: &[u8],
    hash: KeyedHash<'_>,
) -> Result<()> {
    let lines = AUTHENTICATION_BEFORE.len()
        + AUTHENTICATION_AFTER.len()
        + CHECKSUM_BEFORE.len()
        + CHECKSUM_AFTER.len()
        + 2 * CHECKSUM_CHARS;
    let is_authentic = bytes
        .len()
        .checked_sub(lines)
        .map(|length| bytes.split_at(length))
        .is_some_and(|(members, lines)| {
            lines.starts_with(authentication_line(hash(members)).as_bytes())
        });
    match is_authentic {
        true => Ok(()),
        false => Err(Error::corrupt(
            what,
            "its authentication does not fit; who changed it did not have the repository's key",
        )),
    }
}

fn authentication_line(hash: blake3::Hash) -> String {
    let hash = hash.to_hex();
    format!("{AUTHENTICATION_BEFORE}{hash}{AUTHENTICATION_AFTER}")
}

/// The struct that a checked JSON object was made from. Members that it has no field for are passed over.
///
/// # Errors
/// Corrupt, if it is not what `encode_json` wrote, or lacks something.
pub fn decode_json<T: DeserializeOwned>(what: impl fmt::Display, bytes: &[u8]) -> Result<T> {
    if bytes.len() > JSON_BYTES_MAX {
        return Err(Error::corrupt(
            what,
            format!(
                "it has {} bytes where at most {JSON_BYTES_MAX} are possible",
                bytes.len()
            ),
        ));
    }
    let checksum_bytes = CHECKSUM_BEFORE.len() + CHECKSUM_CHARS + CHECKSUM_AFTER.len();
    let is_whole = bytes
        .len()
        .checked_sub(checksum_bytes)
        .map(|length| bytes.split_at(length))
        .is_some_and(|(members, line)| checksum_line(members).as_bytes() == line);
    if !is_whole {
        return Err(Error::corrupt(
            what,
            "its checksum does not fit; its bytes have changed, or bygone did not write it",
        ));
    }
    serde_json::from_slice(bytes).map_err(|error| Error::corrupt(what, error))
}

/// The end of the object whose other members are these.
fn checksum_line(members: &[u8]) -> String {
    let hash = blake3::hash(members).to_hex();
    format!("{CHECKSUM_BEFORE}{hash}{CHECKSUM_AFTER}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        name: String,
        #[serde(default)]
        count: u32,
    }

    fn sample() -> (Sample, Vec<u8>) {
        let sample = Sample {
            name: "a".into(),
            count: 5,
        };
        let bytes = encode_json("a sample", &sample).unwrap();
        (sample, bytes)
    }

    #[test]
    fn an_object_comes_back_and_is_json_for_everyone_else() {
        let (sample, bytes) = sample();
        assert_eq!(decode_json::<Sample>("a sample", &bytes).unwrap(), sample);
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["name"], "a");
        assert_eq!(value["checksum"].as_str().unwrap().len(), CHECKSUM_CHARS);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused() {
        let (_, bytes) = sample();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_json::<Sample>("a sample", &damaged).is_err());
        }
    }

    #[test]
    fn who_lacks_the_key_cannot_change_an_authentic_object() {
        let hash = |bytes: &[u8]| blake3::keyed_hash(&[1; 32], bytes);
        let other = |bytes: &[u8]| blake3::keyed_hash(&[2; 32], bytes);
        let (sample, plain) = sample();
        let bytes = encode_authenticated_json("a sample", &sample, &hash).unwrap();
        assert_eq!(decode_json::<Sample>("a sample", &bytes).unwrap(), sample);
        assert!(check_authentic_json("a sample", &bytes, &hash).is_ok());
        assert!(check_authentic_json("a sample", &bytes, &other).is_err());
        assert!(check_authentic_json("a sample", &plain, &hash).is_err());
        assert!(check_authentic_json("a sample", &bytes[1..], &hash).is_err());
        let forged = Sample { count: 6, ..sample };
        let forged = encode_authenticated_json("a sample", &forged, &other).unwrap();
        assert!(decode_json::<Sample>("a sample", &forged).is_ok());
        assert!(check_authentic_json("a sample", &forged, &hash).is_err());
    }

    #[test]
    fn an_object_cut_short_or_too_large_is_refused() {
        let (_, bytes) = sample();
        for length in 0..bytes.len() {
            assert!(decode_json::<Sample>("a sample", &bytes[..length]).is_err());
        }
        let name = "x".repeat(JSON_BYTES_MAX);
        assert!(encode_json("a sample", &Sample { name, count: 0 }).is_err());
        assert!(encode_json("a sample", &[1, 2]).is_err());
    }

    #[test]
    fn members_of_a_later_version_are_passed_over() {
        #[derive(Serialize)]
        struct Later {
            name: &'static str,
            more: [u8; 2],
        }
        let later = Later {
            name: "b",
            more: [1, 2],
        };
        let bytes = encode_json("a sample", &later).unwrap();
        let sample: Sample = decode_json("a sample", &bytes).unwrap();
        assert_eq!((sample.name.as_str(), sample.count), ("b", 0));
    }
}
