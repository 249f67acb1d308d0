//! Merging runs, so that a chain stands on few however long it is: a lookup asks each run that may have the key, and
//! a listing goes through all of them that have something in the directory.
//!
//! A backup merges the newest of the runs that it stands on, never its own: that one has the point's warnings, and
//! would be an object that no point names. The new point names the merged run in place of its sources; older points go
//! on naming those, which are not touched. So two backups at once may each merge the same runs, and one that is killed
//! leaves a run that nobody names, as it may leave packs.
//!
//! **Policy.** Counted from the newest, as many runs are merged as there are until the last one that is no longer, in
//! bytes, than all those before it together, if that is at least `MERGED_MIN`. Behind the merged run, every run is then
//! longer than all newer ones together, so that there are about as many as the chain's length has binary digits: 365
//! equal backups stand on a dozen at most (and of 1% of a tree each, at random, on eight), and `RUNS_MAX` is a bound for
//! the strangest of sizes only.
//!
//! **Cost.** Whatever is copied goes into a run at least twice as long as the one it was in, as long as the runs do not
//! record the same keys; where they do, versions that nobody sees are dropped instead. So each record is copied about
//! log2(N) - 2 times over N backups: six or seven times in a year of daily ones. Three backups in four merge nothing.
//!
//! **The base** (the run of the chain's full point, usually by far the longest) is merged by the same rule: not before
//! the newer runs together are as long. Until then copying it would cost more than all that the chain has recorded
//! since it was last written; from then on it pays, because every listing reads the base's dead records too, because
//! and because tombstones can go once nothing older is left. So a chain has twice the bytes of its base at most, but
//! for the runs of the last few backups.

use std::sync::Arc;

use crate::archive::interrupted;
use crate::base::{ErrorKind, Event, Monitor, Result};
use crate::fetch::Fetcher;
use crate::format::{Point, RunReference};
use crate::manifest::{Chain, merge_newest};
use crate::repo::Repository;

/// Runs that a point stands on at most: two dozen, its own among them.
const RUNS_MAX: usize = 24;

/// Runs that are merged at least: fewer are not worth a new object at every other backup.
const MERGED_MIN: usize = 4;

/// Bytes of memory for the runs that are merged.
const FETCHER_BYTES: u64 = 64 << 20;

/// The runs below the own one of a point that goes on from `base`: those of `base`, newest first, or a new one in place
/// of its newest, which is written here. Gives how many bytes that has, too.
///
/// A merge only saves later readers work. Where it fails, the runs stay as they are, and the monitor is told.
///
/// # Errors
/// Interrupted, if the monitor says so.
pub(super) fn runs_below(
    repository: &Arc<Repository>,
    base: &Point,
    monitor: &dyn Monitor,
) -> Result<(Vec<RunReference>, u64)> {
    let lengths: Vec<u64> = base.runs.iter().map(|run| run.length).collect();
    let Some(count) = count_to_merge(&lengths) else {
        return Ok((base.runs.clone(), 0));
    };
    match merged(repository, base, count, monitor) {
        Ok(merged) => {
            let bytes = merged.length;
            let rest = base.runs[count..].iter().cloned();
            Ok((std::iter::once(merged).chain(rest).collect(), bytes))
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
        Err(error) => {
            let message = format!(
                "{count} manifests could not be merged into one, and are used as they are: {error}"
            );
            monitor.event(Event::Warning(None, &message));
            Ok((base.runs.clone(), 0))
        }
    }
}

fn merged(
    repository: &Arc<Repository>,
    base: &Point,
    count: usize,
    monitor: &dyn Monitor,
) -> Result<RunReference> {
    let fetcher = Fetcher::new(Arc::clone(repository), FETCHER_BYTES);
    let chain = Chain::open(&fetcher, base)?;
    merge_newest(
        repository,
        &chain,
        count,
        &|| match monitor.is_interrupted() {
            true => Err(interrupted()),
            false => Ok(()),
        },
    )
}

/// How many of the newest runs, whose lengths these are, are to be merged into one.
fn count_to_merge(lengths: &[u64]) -> Option<usize> {
    let mut newer: u64 = 0;
    let mut by_length = 0;
    for (place, length) in lengths.iter().enumerate() {
        if *length <= newer {
            by_length = place + 1;
        }
        newer = newer.saturating_add(*length);
    }
    // The point's own run comes on top of what is left, and the merged one is one of that.
    let by_number = (lengths.len() + 2).saturating_sub(RUNS_MAX);
    let count = match by_length >= MERGED_MIN {
        true => by_length.max(by_number),
        false => by_number,
    };
    (count > 1).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The lengths after a merge, of runs that have no key in common, and the bytes that were copied.
    fn advance(lengths: &mut Vec<u64>, own: u64) -> u64 {
        let mut copied = 0;
        if let Some(count) = count_to_merge(lengths) {
            copied = lengths[..count].iter().sum();
            lengths.splice(..count, [copied]);
        }
        lengths.insert(0, own);
        copied
    }

    #[test]
    fn a_year_of_equal_backups_stands_on_a_dozen_runs_and_copies_each_record_seven_times() {
        let mut lengths = vec![100_000];
        let mut copied = 0;
        let mut runs_max = 0;
        for _ in 0..365 {
            copied += advance(&mut lengths, 1000);
            runs_max = runs_max.max(lengths.len());
        }
        assert!(runs_max <= 12, "{runs_max}");
        let base_copied = 100_000 * (365 / 100);
        assert!(copied < 7 * 365_000 + base_copied, "{copied}");
    }

    #[test]
    fn a_base_is_not_merged_before_the_newer_runs_are_as_long() {
        let mut lengths = vec![100_000];
        let mut recorded = 0;
        while *lengths.last().unwrap() == 100_000 {
            assert!(recorded < 110_000);
            advance(&mut lengths, 1000);
            recorded += 1000;
        }
        assert!(recorded >= 100_000, "{recorded}");
    }

    #[test]
    fn few_runs_are_left_alone() {
        assert_eq!(count_to_merge(&[]), None);
        assert_eq!(count_to_merge(&[5]), None);
        assert_eq!(count_to_merge(&[5, 5, 5]), None);
        assert_eq!(count_to_merge(&[5, 5, 5, 16]), None);
        assert_eq!(count_to_merge(&[5, 5, 5, 15]), Some(4));
    }

    #[test]
    fn runs_that_double_are_merged_when_there_are_too_many_and_not_before() {
        let doubling: Vec<u64> = (0..RUNS_MAX as u32).map(|place| 1 << place).collect();
        assert_eq!(count_to_merge(&doubling[..RUNS_MAX - 1]), None);
        assert_eq!(count_to_merge(&doubling), Some(2));
    }

    proptest! {
        #[test]
        fn no_chain_has_more_runs_than_the_bound(
            sizes in prop::collection::vec(0..40_u32, 1..400),
        ) {
            let mut lengths = vec![1 << 20];
            for size in sizes {
                advance(&mut lengths, 1 << size);
                prop_assert!(lengths.len() <= RUNS_MAX);
            }
        }

        #[test]
        fn what_is_copied_is_at_most_in_proportion_to_what_is_recorded(
            sizes in prop::collection::vec(1..1000_u64, 200),
        ) {
            let mut lengths = vec![sizes[0] * 50];
            let recorded: u64 = lengths[0] + sizes.iter().sum::<u64>();
            let copied: u64 = sizes.iter().map(|size| advance(&mut lengths, *size)).sum();
            prop_assert!(copied <= 9 * recorded, "{copied} of {recorded}");
        }
    }
}
