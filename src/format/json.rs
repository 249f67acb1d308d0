//! The small objects that are plain JSON (config, leases, keys): readable with any tool, and checked against damage.
//!
//! The last member of the object is `checksum`, the BLAKE3 hash of every byte before its line. It is compared as
//! bytes, before anything is parsed, so that a flipped bit anywhere is refused: one in a string would otherwise be
//! another valid object. Nothing reads the hash from JSON, and nothing else about white space or order is promised.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::limits::JSON_BYTES_MAX;
use crate::base::{Error, ErrorKind, Result};

/// The last line but one, up to the hash.
const CHECKSUM_BEFORE: &str = "  \"checksum\": \"";

/// What follows the hash: the end of its string, of the object and of the file.
const CHECKSUM_AFTER: &str = "\"\n}\n";

/// Hexadecimal digits of the hash.
const CHECKSUM_CHARS: usize = 64;

/// A struct as a checked JSON object.
///
/// # Errors
/// Failed, if it cannot be a JSON object of at most `JSON_BYTES_MAX`.
pub fn encode_json(what: impl fmt::Display, value: &impl Serialize) -> Result<Vec<u8>> {
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
    let checksum = checksum_line(text.as_bytes());
    text.push_str(&checksum);
    if text.len() > JSON_BYTES_MAX {
        return Err(failed("it is too large"));
    }
    Ok(text.into_bytes())
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
