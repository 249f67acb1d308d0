//! What differs between chains, against what a walk over both finds.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::model::{Edit, Model, a_path, an_edit};
use super::*;
use crate::manifest::{Aspect, Changes, Difference, Differences, Found};

/// The runs of a point, newest first.
type Runs = Vec<RunReference>;

type Edits = BTreeMap<Key, Edit>;

/// What two whole trees differ in, entry by entry, at `below` and below it.
fn naive(fetcher: &Fetcher, old: &Chain, new: &Chain, below: &Key) -> Vec<Difference> {
    let entries = |chain: &Chain| -> BTreeMap<Key, Found> {
        let entries = all(chain.entries(below)).unwrap().into_iter();
        entries.map(|found| (found.key.clone(), found)).collect()
    };
    let (old, new) = (entries(old), entries(new));
    let keys: BTreeSet<&Key> = old.keys().chain(new.keys()).collect();
    let pairs = keys.into_iter().map(|key| Difference {
        key: key.clone(),
        old: old.get(key).cloned(),
        new: new.get(key).cloned(),
        changes: match (old.get(key), new.get(key)) {
            (Some(old), Some(new)) => Changes::between(fetcher, &old.entry, &new.entry).unwrap(),
            _ => Changes::default(),
        },
    });
    let differs =
        |pair: &Difference| pair.old.is_none() || pair.new.is_none() || !pair.changes.is_empty();
    pairs.filter(differs).collect()
}

fn chain_with(fetcher: &Arc<Fetcher>, runs: &Runs) -> Chain {
    let runs = runs.iter().map(|run| Run::open(fetcher, run).unwrap());
    Chain::of_runs(runs.collect())
}

/// A point more than `runs`; up to `merged` of its newest runs become one.
fn grow(bench: &Bench, model: &mut Model, runs: &Runs, (edits, merged): &(Edits, usize)) -> Runs {
    let mut runs = runs.clone();
    runs.insert(0, model.write(bench, true, edits));
    // A merge of all is a synthetic full.
    match runs.len().min(*merged) {
        count if count > 1 => bench.merge(&runs, count),
        _ => runs,
    }
}

fn edits(count: usize) -> impl Strategy<Value = Edits> {
    prop::collection::btree_map(a_path(), an_edit(), 0..count)
}

fn points(count: usize) -> impl Strategy<Value = Vec<(Edits, usize)>> {
    prop::collection::vec((edits(10), 0..6_usize), 0..count)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn differences_are_what_a_walk_over_both_points_finds(
        base in edits(40),
        before in points(3),
        first in points(5),
        second in points(4),
        below in prop::collection::vec(a_path(), 2),
    ) {
        let bench = Bench::new();
        let mut model = Model::default();
        let mut trunk = vec![model.write(&bench, false, &base)];
        let mut all_points = vec![trunk.clone()];
        for point in &before {
            trunk = grow(&bench, &mut model, &trunk, point);
            all_points.push(trunk.clone());
        }
        // Two branches, as those of two differentials.
        for branch in [first, second] {
            let mut model = model.clone();
            let mut runs = trunk.clone();
            for point in &branch {
                runs = grow(&bench, &mut model, &runs, point);
                all_points.push(runs.clone());
            }
        }
        let fetcher = bench.fetcher();
        let chains: Vec<Chain> = all_points.iter().map(|runs| chain_with(&fetcher, runs)).collect();
        for old in &chains {
            for new in &chains {
                for below in [Key::root()].iter().chain(&below) {
                    let found = all(Differences::between(&fetcher, old, new, below)).unwrap();
                    prop_assert_eq!(found, naive(&fetcher, old, new, below), "below {}", below);
                }
            }
        }
    }
}

/// A base of 200 folders of 50 files, and 20 runs that each change one file; the chain of each.
fn long_chain(bench: &Bench) -> Vec<Runs> {
    let mut runs = vec![bench.run(false, |writer| {
        append_tree(writer, 200, 50);
    })];
    let mut points = vec![runs.clone()];
    for number in 0..20 {
        let changed = key(&format!("home/folder {:05}/file 00007.txt", number * 9));
        let run = bench.run(true, |writer| {
            let entry = record(file(1_000_000 + number));
            writer.append(&changed, Section::Files, &entry).unwrap();
        });
        runs.insert(0, run);
        points.push(runs.clone());
    }
    points
}

#[test]
fn neighbours_are_compared_without_reading_what_both_inherit() {
    let bench = Bench::new();
    let points = long_chain(&bench);
    let whole: u64 = points[0][0].length;
    let fetcher = bench.fetcher();
    let (old, new) = (
        chain_with(&fetcher, &points[19]),
        chain_with(&fetcher, &points[20]),
    );
    bench.store.take();
    let found = all(Differences::between(&fetcher, &old, &new, &Key::root())).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].key, key("home/folder 00171/file 00007.txt"));
    assert!(found[0].changes.has(Aspect::Content));
    let requests = bench.store.take();
    let bytes: u64 = requests.iter().map(|request| request.bytes).sum();
    // The new run, and the one block of the base that has the old entry.
    assert!(requests.len() <= 3, "{} requests", requests.len());
    assert!(bytes < whole / 4, "{bytes} of {whole} bytes");
}

#[test]
fn a_point_does_not_differ_from_itself_and_nothing_is_read_to_say_so() {
    let bench = Bench::new();
    let points = long_chain(&bench);
    let fetcher = bench.fetcher();
    let chain = chain_with(&fetcher, &points[20]);
    bench.store.take();
    let found = all(Differences::between(&fetcher, &chain, &chain, &Key::root())).unwrap();
    assert_eq!(found, []);
    assert_eq!(bench.requests(), 0);
}

#[test]
fn a_row_that_only_says_that_something_below_changed_is_no_difference() {
    let bench = Bench::new();
    let folder = key("home");
    let at = |time: u64, below: bool| {
        let mut entry = directory(time);
        entry.flags.changed_below = below;
        record(entry)
    };
    let write = |filters, entry: &Record| {
        bench.run(filters, |writer| {
            writer.append(&folder, Section::Directories, entry).unwrap();
        })
    };
    let base = write(false, &at(1, false));
    let below = write(true, &at(1, true));
    let itself = write(true, &at(2, false));
    let fetcher = bench.fetcher();
    let compare = |newer: &RunReference| {
        let old = chain_with(&fetcher, &vec![base.clone()]);
        let new = chain_with(&fetcher, &vec![newer.clone(), base.clone()]);
        all(Differences::between(&fetcher, &old, &new, &folder)).unwrap()
    };
    assert_eq!(compare(&below), []);
    let found = compare(&itself);
    assert_eq!(found[0].changes.iter().collect::<Vec<_>>(), [Aspect::Time]);
}

#[test]
fn a_damaged_run_is_told_once_and_ends_the_comparison() {
    let bench = Bench::new();
    let points = long_chain(&bench);
    let fetcher = bench.fetcher();
    let (old, new) = (
        chain_with(&fetcher, &points[0]),
        chain_with(&fetcher, &points[2]),
    );
    let run = &points[2][0].id;
    let damaged: Vec<u8> = bench.bytes_of(run).iter().map(|byte| !byte).collect();
    bench.memory.damage(&run_name(run), &damaged);
    let mut differences = Differences::between(&fetcher, &old, &new, &Key::root());
    let told: Vec<_> = differences.by_ref().collect();
    assert!(matches!(told.last(), Some(Err(_))), "{told:?}");
    assert!(differences.next().is_none());
}
