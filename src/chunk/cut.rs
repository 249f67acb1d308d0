//! Where a large file is cut: by its content (FastCDC), or into blocks of a fixed length.

use std::borrow::Cow;

use fastcdc::v2020::{Normalization, cut_gear, get_gear_with_seed, select_masks};

use crate::base::{Error, ErrorKind, Result};

/// The lengths of chunks that are cut by content, in bytes, all even.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentSizes {
    /// No chunk but a file's last one is shorter.
    pub min: usize,
    /// What most chunks come close to (the mean is 20 to 60% above it).
    pub average: usize,
    /// No chunk is longer.
    pub max: usize,
}

/// Decides where the next chunk of a file ends.
#[derive(Debug, Clone)]
pub struct Cutter {
    rule: Rule,
}

#[derive(Debug, Clone)]
enum Rule {
    Content(Box<Gear>),
    Fixed(u64),
}

/// FastCDC's parameters, ready for use: the 2020 paper's two masks, each also shifted for its two-byte steps, and the
/// gear table under the repository's seed.
#[derive(Debug, Clone)]
struct Gear {
    sizes: ContentSizes,
    strict: u64,
    relaxed: u64,
    gear: Cow<'static, [u64]>,
    gear_shifted: Cow<'static, [u64]>,
}

impl Cutter {
    /// Cuts by content: FastCDC as the crate's `v2020` does it, at normalization level 1, its gear table under `seed`
    /// so that cut points tell nothing to who does not know it.
    ///
    /// # Errors
    /// Usage, if the sizes are odd, out of order or outside of what the algorithm takes.
    pub fn by_content(sizes: ContentSizes, seed: u64) -> Result<Self> {
        check(&sizes)?;
        let (strict, relaxed) = select_masks(sizes.average, Normalization::Level1);
        let (gear, gear_shifted) = get_gear_with_seed(seed);
        let gear = Gear {
            sizes,
            strict,
            relaxed,
            gear,
            gear_shifted,
        };
        Ok(Self {
            rule: Rule::Content(Box::new(gear)),
        })
    }

    /// Cuts at multiples of `bytes` in the file, so that a block's chunk stays where it is whatever holes are about it.
    ///
    /// # Errors
    /// Usage, for blocks of no length.
    pub fn fixed(bytes: u64) -> Result<Self> {
        if bytes == 0 {
            return Err(Error::new(
                ErrorKind::Usage,
                "a fixed block must have at least one byte",
            ));
        }
        Ok(Self {
            rule: Rule::Fixed(bytes),
        })
    }

    /// The length of the chunk that begins with `bytes`, which lie at `offset` in the file; None if more bytes must be
    /// at hand to tell. `is_end`: nothing follows them. Never 0, unless `bytes` are empty and nothing follows.
    pub fn cut(&self, bytes: &[u8], offset: u64, is_end: bool) -> Option<usize> {
        let (wanted, length) = match &self.rule {
            Rule::Content(gear) => (gear.sizes.max, gear.cut(bytes)),
            Rule::Fixed(block) => {
                let wanted = usize::try_from(block - offset % block).unwrap_or(usize::MAX);
                (wanted, wanted.min(bytes.len()))
            }
        };
        (is_end || bytes.len() >= wanted).then_some(length)
    }

    /// So many bytes at hand are always enough for [`Cutter::cut`] to answer.
    pub fn bytes_wanted(&self) -> usize {
        match &self.rule {
            Rule::Content(gear) => gear.sizes.max,
            Rule::Fixed(block) => usize::try_from(*block).unwrap_or(usize::MAX),
        }
    }
}

impl Gear {
    fn cut(&self, bytes: &[u8]) -> usize {
        let (_, length) = cut_gear(
            bytes,
            self.sizes.min,
            self.sizes.average,
            self.sizes.max,
            self.strict,
            self.relaxed,
            self.strict << 1,
            self.relaxed << 1,
            &self.gear,
            &self.gear_shifted,
        );
        length
    }
}

/// The bounds are the crate's; it looks at bytes in pairs, hence even sizes.
fn check(sizes: &ContentSizes) -> Result<()> {
    let in_bounds = (64..=1 << 20).contains(&sizes.min)
        && (256..=4 << 20).contains(&sizes.average)
        && (1024..=16 << 20).contains(&sizes.max);
    let even = [sizes.min, sizes.average, sizes.max]
        .iter()
        .all(|size| size.is_multiple_of(2));
    if in_bounds && even && sizes.min < sizes.average && sizes.average < sizes.max {
        Ok(())
    } else {
        Err(Error::new(
            ErrorKind::Usage,
            format!(
                "chunks cannot have {} bytes at least, {} on average and {} at most: they must be even, rise, and lie \
                 within 64 bytes to 1 MiB, 256 bytes to 4 MiB and 1 KiB to 16 MiB",
                sizes.min, sizes.average, sizes.max
            ),
        ))
    }
}

/// Are all bytes zero? True of none at all.
pub fn is_zero(bytes: &[u8]) -> bool {
    // In steps, so that the compiler can look at many bytes at once and other content is told after the first step.
    const STEP: usize = 256;
    bytes
        .chunks(STEP)
        .all(|step| step.iter().fold(0, |all, byte| all | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZES: ContentSizes = ContentSizes {
        min: 2 << 10,
        average: 8 << 10,
        max: 32 << 10,
    };

    /// Bytes that look random and are the same for the same seed.
    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        let mut bytes = vec![0; length];
        hasher.finalize_xof().fill(&mut bytes);
        bytes
    }

    fn lengths(cutter: &Cutter, bytes: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        let mut done = 0;
        while done < bytes.len() {
            let length = cutter.cut(&bytes[done..], done as u64, true).unwrap();
            lengths.push(length);
            done += length;
        }
        lengths
    }

    #[test]
    fn content_is_cut_within_the_bounds_and_covers_everything() {
        let bytes = noise(1, 1 << 20);
        let lengths = lengths(&Cutter::by_content(SIZES, 7).unwrap(), &bytes);
        assert_eq!(lengths.iter().sum::<usize>(), bytes.len());
        let (_, all_but_last) = lengths.split_last().unwrap();
        assert!(
            all_but_last
                .iter()
                .all(|length| (SIZES.min..=SIZES.max).contains(length))
        );
        assert!(lengths.len() > 50, "{} chunks", lengths.len());
    }

    #[test]
    fn an_insertion_moves_only_the_cuts_near_it() {
        let cutter = Cutter::by_content(SIZES, 7).unwrap();
        let before = noise(2, 1 << 20);
        let mut after = before.clone();
        after.splice(500_000..500_000, *b"inserted");
        let chunks = |bytes: &[u8]| -> std::collections::BTreeSet<Vec<u8>> {
            let mut rest = bytes;
            lengths(&cutter, bytes)
                .iter()
                .map(|length| rest.split_off(..*length).unwrap().to_vec())
                .collect()
        };
        let (before, after) = (chunks(&before), chunks(&after));
        assert!(after.difference(&before).count() <= 3);
    }

    #[test]
    fn another_seed_cuts_elsewhere() {
        let bytes = noise(3, 1 << 18);
        let cuts = |seed| lengths(&Cutter::by_content(SIZES, seed).unwrap(), &bytes);
        assert_ne!(cuts(1), cuts(2));
        assert_eq!(cuts(1), cuts(1));
    }

    #[test]
    fn a_cut_waits_until_enough_bytes_are_at_hand() {
        let cutter = Cutter::by_content(SIZES, 0).unwrap();
        let bytes = noise(4, SIZES.max);
        assert_eq!(cutter.cut(&bytes[..SIZES.max - 1], 0, false), None);
        assert!(cutter.cut(&bytes, 0, false).is_some());
        assert_eq!(cutter.cut(&bytes[..100], 0, true), Some(100));
        assert_eq!(cutter.cut(&[], 0, true), Some(0));
        assert_eq!(cutter.bytes_wanted(), SIZES.max);
    }

    #[test]
    fn fixed_blocks_end_at_multiples_in_the_file_even_after_a_hole() {
        let cutter = Cutter::fixed(4096).unwrap();
        assert_eq!(cutter.cut(&[1; 5000], 0, false), Some(4096));
        assert_eq!(cutter.cut(&[1; 5000], 1000, false), Some(3096));
        assert_eq!(cutter.cut(&[1; 3000], 1000, false), None);
        assert_eq!(cutter.cut(&[1; 3000], 1000, true), Some(3000));
        assert!(Cutter::fixed(0).is_err());
    }

    #[test]
    fn sizes_that_the_algorithm_cannot_take_are_refused() {
        for (min, average, max) in [
            (2048, 8191, 32768),
            (32, 8192, 32768),
            (8192, 2048, 32768),
            (2048, 8192, 32 << 20),
        ] {
            assert!(Cutter::by_content(ContentSizes { min, average, max }, 0).is_err());
        }
    }

    proptest! {
        #[test]
        fn zeros_are_told_from_all_else(length in 0usize..2000, place: prop::sample::Index) {
            let mut bytes = vec![0; length];
            prop_assert!(is_zero(&bytes));
            if length > 0 {
                bytes[place.index(length)] = 1;
                prop_assert!(!is_zero(&bytes));
            }
        }

        #[test]
        fn cuts_are_the_same_however_the_bytes_arrive(seed: u64, length in 1usize..200_000, step in 1usize..50_000) {
            let cutter = Cutter::by_content(SIZES, 11).unwrap();
            let bytes = noise(seed, length);
            let mut arrived = 0;
            let mut start = 0;
            let mut streamed = Vec::new();
            while start < length {
                match cutter.cut(&bytes[start..arrived], start as u64, arrived == length) {
                    Some(cut) => {
                        streamed.push(cut);
                        start += cut;
                    }
                    None => arrived = length.min(arrived + step),
                }
            }
            prop_assert_eq!(streamed, lengths(&cutter, &bytes));
        }
    }
}
