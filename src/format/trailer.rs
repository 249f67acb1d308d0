//! What packs and index runs end with: where their directory or footer begins, and the features in front of it.
//!
//! The trailer is eight bytes of length (of the sealed piece before it), little-endian, and eight that tell the kind
//! of object. It has no tag of its own: a wrong length leads to a piece whose tag does not fit.

use crate::base::{ByteReader, ByteWriter, Error, Result};

use super::Features;

/// Bytes of a trailer.
pub const TRAILER_BYTES: usize = 16;

/// Features of one class.
const FEATURES_MAX: usize = 1024;

/// The longest name of a feature, in bytes.
const FEATURE_BYTES_MAX: usize = 256;

/// The trailer behind a sealed piece of `length` bytes.
pub(super) fn encode_trailer(length: usize, magic: [u8; 8]) -> [u8; TRAILER_BYTES] {
    let mut trailer = [0; TRAILER_BYTES];
    trailer[..8].copy_from_slice(&(length as u64).to_le_bytes());
    trailer[8..].copy_from_slice(&magic);
    trailer
}

/// The length of the sealed piece before the trailer that ends `tail`, the last bytes of an object of `object_length`
/// bytes. `what` names the object.
///
/// # Errors
/// Corrupt, if there is no such trailer or no room for such a piece.
pub(super) fn decode_trailer(
    what: &'static str,
    tail: &[u8],
    object_length: u64,
    magic: [u8; 8],
) -> Result<u64> {
    let corrupt = |problem: &str| Error::corrupt(what, problem);
    let trailer = tail
        .last_chunk::<TRAILER_BYTES>()
        .ok_or_else(|| corrupt("it is shorter than its trailer"))?;
    let (length, found) = trailer.split_at(8);
    if found != magic {
        return Err(corrupt("it does not end as such an object must"));
    }
    ByteReader::new(what, length)
        .u64()
        .ok()
        .filter(|length| {
            length
                .checked_add(TRAILER_BYTES as u64)
                .is_some_and(|end| end <= object_length)
        })
        .ok_or_else(|| corrupt("its trailer leads out of it"))
}

/// Three counted lists of framed names: compatible, read-only compatible, incompatible.
pub(super) fn encode_features(features: &Features, writer: &mut ByteWriter) {
    for names in [
        &features.compatible,
        &features.read_only_compatible,
        &features.incompatible,
    ] {
        writer.varint(names.len() as u64);
        for name in names {
            writer.framed(name.as_bytes());
        }
    }
}

/// Reads features, and fails if what has them is beyond this program.
///
/// # Errors
/// Corrupt, if they are no such lists; failed, with the features that are unknown.
pub(super) fn check_features(what: &'static str, reader: &mut ByteReader<'_>) -> Result<()> {
    let mut names = || -> Result<Vec<String>> {
        let count = reader.count(FEATURES_MAX.min(reader.rest().len()))?;
        (0..count)
            .map(|_| {
                let name = reader.framed(FEATURE_BYTES_MAX)?;
                Ok(String::from_utf8_lossy(name).into_owned())
            })
            .collect()
    };
    Features {
        compatible: names()?,
        read_only_compatible: names()?,
        incompatible: names()?,
    }
    .check_readable(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ErrorKind;

    const MAGIC: [u8; 8] = *b"bygone-t";

    #[test]
    fn a_trailer_comes_back_and_lies_are_refused() {
        let trailer = encode_trailer(100, MAGIC);
        let decode = |tail: &[u8], length| decode_trailer("a test", tail, length, MAGIC);
        assert_eq!(decode(&trailer, 116).unwrap(), 100);
        assert!(decode(&trailer, 115).is_err());
        assert!(decode(&trailer[1..], 200).is_err());
        assert!(decode(&encode_trailer(100, *b"bygone-x"), 200).is_err());
        assert!(decode(&encode_trailer(usize::MAX, MAGIC), u64::MAX).is_err());
    }

    #[test]
    fn unknown_features_stop_readers_only_where_they_are_incompatible() {
        let mut features = Features {
            compatible: vec!["a".into()],
            read_only_compatible: vec!["b".into()],
            incompatible: Vec::new(),
        };
        let check = |features: &Features| {
            let mut writer = ByteWriter::new();
            encode_features(features, &mut writer);
            check_features("a test", &mut ByteReader::new("a test", writer.as_bytes()))
        };
        assert!(check(&features).is_ok());
        features.incompatible.push("glitter".into());
        let error = check(&features).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert!(error.to_string().contains("glitter"));
    }
}
