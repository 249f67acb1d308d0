//! Which bytes of an object are kept: ranges that do not overlap, each with the time of its last use. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

/// Longer ranges are kept as several, so that what is used stays and what lies beside it may go.
pub(super) const PIECE_BYTES_MAX: u64 = 1 << 20;

/// The kept ranges of one object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    /// First byte to end and time of use.
    by_start: BTreeMap<u64, (u64, i64)>,
}

impl Ranges {
    /// Adds a range that overlaps no other one.
    pub(super) fn insert(&mut self, range: Range<u64>, used: i64) {
        self.by_start.insert(range.start, (range.end, used));
    }

    /// Gives a range up.
    pub(super) fn remove(&mut self, start: u64) {
        self.by_start.remove(&start);
    }

    /// The starts of the ranges that cover `wanted` together, with the times of their last use. None if they do not.
    pub(super) fn covering(&self, wanted: &Range<u64>) -> Option<Vec<(u64, i64)>> {
        let mut covering = Vec::new();
        let mut next = wanted.start;
        for (range, used) in self.overlapping(wanted) {
            if range.start > next {
                return None;
            }
            covering.push((range.start, used));
            next = range.end;
        }
        (next >= wanted.end).then_some(covering)
    }

    /// What lacks of `wanted`, in order.
    pub(super) fn gaps(&self, wanted: &Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut next = wanted.start;
        for (range, _) in self.overlapping(wanted) {
            if range.start > next {
                gaps.push(next..range.start);
            }
            next = next.max(range.end);
        }
        if next < wanted.end {
            gaps.push(next..wanted.end);
        }
        gaps
    }

    /// Notes that the range that begins here was used.
    pub(super) fn touch(&mut self, start: u64, used: i64) {
        if let Some((_, last)) = self.by_start.get_mut(&start) {
            *last = used;
        }
    }

    fn overlapping(&self, wanted: &Range<u64>) -> impl Iterator<Item = (Range<u64>, i64)> {
        let before = self.by_start.range(..wanted.start).next_back();
        let (start, end) = (wanted.start, wanted.end);
        before
            .into_iter()
            .chain(self.by_start.range(start..end.max(start)))
            .filter(move |(_, (last, _))| *last > start)
            .map(|(first, (last, used))| (*first..*last, *used))
    }
}

/// Cuts a range at multiples of `PIECE_BYTES_MAX`.
pub(super) fn pieces(range: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    let mut next = range.start;
    std::iter::from_fn(move || {
        let start = next;
        next = end.min((start / PIECE_BYTES_MAX + 1).saturating_mul(PIECE_BYTES_MAX));
        (start < next).then_some(start..next)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_range_is_cut_where_pieces_end() {
        let piece = PIECE_BYTES_MAX;
        let cut: Vec<_> = pieces(&(piece - 1..2 * piece + 5)).collect();
        assert_eq!(
            cut,
            [piece - 1..piece, piece..2 * piece, 2 * piece..2 * piece + 5]
        );
        assert_eq!(pieces(&(7..7)).count(), 0);
    }

    proptest! {
        #[test]
        fn gaps_and_covering_agree_with_a_set_of_bytes(
            added in proptest::collection::vec((0_u64..60, 1_u64..12), 0..12),
            start in 0_u64..60,
            length in 1_u64..20,
        ) {
            let mut ranges = Ranges::default();
            let mut bytes = [false; 100];
            for (start, length) in added {
                for gap in ranges.gaps(&(start..start + length)) {
                    bytes[gap.start as usize..gap.end as usize].fill(true);
                    ranges.insert(gap, 1);
                }
            }
            let wanted = start..start + length;
            let lacking: Vec<u64> = wanted.clone().filter(|byte| !bytes[*byte as usize]).collect();
            let gaps: Vec<u64> = ranges.gaps(&wanted).into_iter().flatten().collect();
            prop_assert_eq!(&gaps, &lacking);
            prop_assert_eq!(ranges.covering(&wanted).is_some(), lacking.is_empty());
        }
    }
}
