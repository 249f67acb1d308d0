//! Bytes inside JSON: paths, which need not be UTF-8, and short runs of binary as hexadecimal.
//!
//! For `#[serde(with = "...")]`. A path that is UTF-8 is a string; any other is an object with one member, `hex`, so
//! that no escape can be mistaken for a path that merely looks like one.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes as lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hex(Vec<u8>);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
        let text: String = self
            .0
            .iter()
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
            .collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (pairs, odd) = text.as_bytes().as_chunks::<2>();
        let bytes: Option<Vec<u8>> = pairs
            .iter()
            .map(|[high, low]| Some(digit_value(*high)? << 4 | digit_value(*low)?))
            .collect();
        match bytes {
            Some(bytes) if odd.is_empty() => Ok(Self(bytes)),
            _ => Err(de::Error::custom("expected pairs of hexadecimal digits")),
        }
    }
}

fn digit_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// A path as it stands in JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum PathText {
    Utf8(String),
    Bytes { hex: Hex },
}

impl From<&Path> for PathText {
    fn from(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Self::Utf8(text.to_owned()),
            None => Self::Bytes {
                hex: Hex(path.as_os_str().as_bytes().to_vec()),
            },
        }
    }
}

impl From<PathText> for PathBuf {
    fn from(text: PathText) -> Self {
        match text {
            PathText::Utf8(text) => text.into(),
            PathText::Bytes { hex: Hex(bytes) } => std::ffi::OsString::from_vec(bytes).into(),
        }
    }
}

/// A number of bytes that is known beforehand.
pub(super) mod hex_array {
    use super::{Deserialize, Deserializer, Hex, Serialize, Serializer, de};

    pub fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        Hex(bytes.to_vec()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[u8; N], D::Error> {
        let Hex(bytes) = Hex::deserialize(deserializer)?;
        bytes
            .try_into()
            .map_err(|_| de::Error::custom(format_args!("expected {N} bytes in hexadecimal")))
    }
}

/// Any number of bytes.
pub(super) mod hex_bytes {
    use super::{Deserialize, Deserializer, Hex, Serialize, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        Hex(bytes.to_vec()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        Hex::deserialize(deserializer).map(|Hex(bytes)| bytes)
    }
}

/// One path.
pub(super) mod path {
    use super::{Deserialize, Deserializer, Path, PathBuf, PathText, Serialize, Serializer};

    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        PathText::from(path).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        PathText::deserialize(deserializer).map(PathBuf::from)
    }
}

/// A list of paths.
pub(super) mod paths {
    use super::{Deserialize, Deserializer, PathBuf, PathText, Serializer};

    pub fn serialize<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(paths.iter().map(|path| PathText::from(path.as_path())))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<PathBuf>, D::Error> {
        let texts = Vec::<PathText>::deserialize(deserializer)?;
        Ok(texts.into_iter().map(PathBuf::from).collect())
    }
}

/// Bytes that may be absent.
pub(super) mod optional_hex {
    use super::{Deserialize, Deserializer, Hex, Serialize, Serializer};

    pub fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.clone().map(Hex).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        Ok(Option::<Hex>::deserialize(deserializer)?.map(|Hex(bytes)| bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_path_comes_back(bytes: Vec<u8>) {
            let path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
            let text = serde_json::to_string(&PathText::from(path.as_path())).unwrap();
            let back: PathText = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(PathBuf::from(back), path);
        }
    }

    #[test]
    fn a_utf8_path_is_a_string_and_any_other_is_not() {
        let text = |bytes| {
            let path = Path::new(std::ffi::OsStr::from_bytes(bytes));
            serde_json::to_string(&PathText::from(path)).unwrap()
        };
        assert_eq!(text("/srv/ä".as_bytes()), "\"/srv/ä\"");
        assert_eq!(text(b"/\xff"), "{\"hex\":\"2fff\"}");
        for other in ["{\"hex\":\"2ff\"}", "{\"hex\":\"2FFF\"}", "{}", "7"] {
            assert!(serde_json::from_str::<PathText>(other).is_err(), "{other}");
        }
    }
}
