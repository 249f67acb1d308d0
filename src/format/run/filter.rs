//! Filters: whether a run may have a key, asked before any block is read.
//!
//! A part covers the keys of one range, about 32,768 of them, and is a binary fuse filter with 16-bit fingerprints
//! (Graf and Lemire, "Binary Fuse Filters: Fast and Smaller Than Xor Filters", 2022): some 18 bits a key, and a
//! wrong yes once in 65,536 times. What is filtered are 64-bit hashes: the first eight bytes of a key's BLAKE3.
//!
//! Plain bytes of a part: u64 seed, u32 segment length, u32 length of all segments but the last two, then the u16
//! fingerprints. They are probed where they lie: a hash is mixed with the seed (the finalizer of MurmurHash3), its
//! high half picks a place in all segments but the last two, other bits one in each of the two segments that follow,
//! and the three fingerprints there, by exclusive or, must be the mixed hash's own.

use xorf::{BinaryFuse16, DmaSerializable};

use crate::base::{ByteReader, ByteWriter, Error, ErrorKind, Result};

/// Keys of one part: about 72 KiB of filter, one request's worth.
pub const FILTER_PART_KEYS: usize = 32 << 10;

const WHAT: &str = "a run's filter";

/// What a filter knows of a key, or of a directory by what its children's keys begin with.
pub fn filter_hash(bytes: &[u8]) -> u64 {
    let hash = blake3::hash(bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// The plain bytes of a part for these hashes, which are used up.
///
/// # Errors
/// Failed, if no filter can be made of them, which happens to none but hashes that were chosen for it.
pub fn build_filter(hashes: &mut Vec<u64>) -> Result<Vec<u8>> {
    hashes.sort_unstable();
    hashes.dedup();
    let filter = BinaryFuse16::try_from(&hashes[..]).map_err(|problem| {
        Error::new(
            ErrorKind::Failed,
            format!("cannot make a filter: {problem}"),
        )
    })?;
    hashes.clear();
    // Seed, segment length, a mask that follows from it, and the length of all segments but two, little-endian.
    let mut descriptor = [0; BinaryFuse16::DESCRIPTOR_LEN];
    filter.dma_copy_descriptor_to(&mut descriptor);
    let mut writer = ByteWriter::new();
    writer.raw(&descriptor[..12]);
    writer.raw(&descriptor[16..]);
    for fingerprint in &filter.fingerprints {
        writer.raw(&fingerprint.to_le_bytes());
    }
    Ok(writer.into_bytes())
}

/// May the part have this hash? A no is certain.
///
/// # Errors
/// Corrupt, if these bytes are no filter.
pub fn filter_contains(plain: &[u8], hash: u64) -> Result<bool> {
    let mut reader = ByteReader::new(WHAT, plain);
    let seed = reader.u64()?;
    let segment = reader.u32()?;
    let segments = reader.u32()?;
    let fingerprints = reader.rest();
    // Given these, no index below lies beyond the fingerprints.
    let length = u64::from(segments) + 2 * u64::from(segment);
    if !segment.is_power_of_two()
        || segments == 0
        || !segments.is_multiple_of(segment)
        || length > u64::from(u32::MAX)
        || fingerprints.len() as u64 != 2 * length
    {
        return Err(reader.corrupt("its segments do not fit its length"));
    }
    let mixed = mix(hash.wrapping_add(seed));
    let first = ((u128::from(mixed) * u128::from(segments)) >> 64) as u32;
    let second = (first + segment) ^ ((mixed >> 18) as u32 & (segment - 1));
    let third = (first + 2 * segment) ^ (mixed as u32 & (segment - 1));
    let fingerprint = |index: u32| {
        let start = 2 * index as usize;
        u16::from_le_bytes([fingerprints[start], fingerprints[start + 1]])
    };
    let expected = (mixed ^ (mixed >> 32)) as u16;
    Ok(expected == fingerprint(first) ^ fingerprint(second) ^ fingerprint(third))
}

/// MurmurHash3's 64-bit finalizer.
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hashes(range: std::ops::Range<u32>) -> Vec<u64> {
        range
            .map(|number| filter_hash(&number.to_le_bytes()))
            .collect()
    }

    #[test]
    fn what_is_in_is_always_found_and_what_is_not_hardly_ever() {
        for count in [1, 2, 3, 10, 1000, FILTER_PART_KEYS as u32] {
            let plain = build_filter(&mut hashes(0..count)).unwrap();
            assert!(
                hashes(0..count)
                    .iter()
                    .all(|hash| filter_contains(&plain, *hash).unwrap())
            );
            let wrong = hashes(1_000_000..1_020_000)
                .iter()
                .filter(|hash| filter_contains(&plain, **hash).unwrap())
                .count();
            assert!(wrong < 10, "{wrong} of 20,000 wrong with {count} keys");
        }
    }

    #[test]
    fn a_full_part_has_about_18_bits_a_key() {
        let plain = build_filter(&mut hashes(0..FILTER_PART_KEYS as u32)).unwrap();
        let bits = 8.0 * plain.len() as f64 / FILTER_PART_KEYS as f64;
        assert!(bits < 20.0, "{bits}");
    }

    #[test]
    fn equal_hashes_count_once() {
        let mut twice = hashes(0..100);
        twice.extend(hashes(0..100));
        let plain = build_filter(&mut twice).unwrap();
        assert_eq!(plain, build_filter(&mut hashes(0..100)).unwrap());
    }

    proptest! {
        #[test]
        fn bytes_that_are_no_filter_do_no_harm(plain: Vec<u8>, hash: u64) {
            let _ = filter_contains(&plain, hash);
        }

        #[test]
        fn a_descriptor_that_lies_is_refused_or_harmless(
            place in 8..16_usize, byte: u8, probes in prop::collection::vec(any::<u64>(), 50),
        ) {
            let mut plain = build_filter(&mut hashes(0..100)).unwrap();
            plain[place] = byte;
            for probe in probes {
                let _ = filter_contains(&plain, probe);
            }
        }
    }
}
