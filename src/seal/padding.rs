//! Padding, which hides how long what is sealed was.
//!
//! Lengths are rounded up to those that Padmé leaves: numbers whose binary floating-point form has a mantissa no longer
//! than its exponent. Of a length below 2^n so many as log2(n) bits remain to be seen, and no piece grows by more than
//! an eighth, those of 64 KiB and above by a thirty-second at most. From: Nikitin, Barman, Lueks, Underwood, Hubaux
//! and Ford, "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", PETS 2019, section 4.

/// The shortest padded length: of what is shorter, an eighth would tell almost everything.
const PADDED_BYTES_MIN: usize = 512;

/// The last bytes of a padded body: how many bytes before the padding count.
pub(super) const LENGTH_BYTES: usize = 4;

/// The length that a body of so many bytes is given, its own length behind it included.
pub(super) const fn padded_length(body_bytes: usize) -> usize {
    let length = body_bytes + LENGTH_BYTES;
    if length <= PADDED_BYTES_MIN {
        return PADDED_BYTES_MIN;
    }
    let exponent = length.ilog2();
    let mantissa_bits = exponent.ilog2() + 1;
    let below = (1 << (exponent - mantissa_bits)) - 1;
    (length + below) & !below
}

/// Appends what makes a body of `body_bytes`, which ends `out`, a padded one.
pub(super) fn pad(body_bytes: usize, out: &mut Vec<u8>) {
    let zeros = padded_length(body_bytes) - body_bytes - LENGTH_BYTES;
    out.resize(out.len() + zeros, 0);
    // A body is no longer than its plain bytes, whose length has four bytes too.
    out.extend_from_slice(&(body_bytes as u32).to_le_bytes());
}

/// The bytes of a padded body that count; None if it cannot be one.
pub(super) fn unpadded(body: &[u8]) -> Option<&[u8]> {
    let (padded, length) = body.split_last_chunk::<LENGTH_BYTES>()?;
    padded.get(..u32::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_are_those_of_padme() {
        // From the definition, by hand: 2^16 + 1 has exponent 16 and five bits of mantissa, so that eleven are cleared.
        for (length, padded) in [
            (513, 544),
            (1000, 1024),
            (1025, 1088),
            (65_536, 65_536),
            (65_537, 67_584),
            (131_073, 135_168),
        ] {
            assert_eq!(padded_length(length - LENGTH_BYTES), padded, "{length}");
        }
        assert_eq!(padded_length(0), PADDED_BYTES_MIN);
    }

    proptest! {
        #[test]
        fn a_body_comes_back_and_grows_by_no_more_than_is_said(body: Vec<u8>, repeats in 1..5000_usize) {
            let body = body.repeat(repeats);
            let mut padded = body.clone();
            pad(body.len(), &mut padded);
            prop_assert_eq!(padded.len(), padded_length(body.len()));
            prop_assert_eq!(unpadded(&padded), Some(&body[..]));
            let length = body.len() + LENGTH_BYTES;
            if length > PADDED_BYTES_MIN {
                prop_assert!(padded.len() - length <= length / 8);
            }
            if length >= 64 << 10 {
                prop_assert!(padded.len() - length <= length / 32);
            }
        }
    }

    #[test]
    fn what_nobody_padded_is_refused() {
        assert_eq!(unpadded(&[0; 3]), None);
        assert_eq!(unpadded(&[7, 1, 0, 0, 0]), Some(&[7][..]));
        assert_eq!(unpadded(&[7, 2, 0, 0, 0]), None);
        assert_eq!(unpadded(&[255; 8]), None);
    }
}
