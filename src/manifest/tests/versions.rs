//! One path, and all of them, over many points, against a look into each of them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::model::{Model, a_path, an_edit};
use super::*;
use crate::base::Origin;
use crate::format::Point;
use crate::manifest::{Chains, Timeline, Versions};

fn chains(bench: &Bench, points: &[Vec<RunReference>]) -> Vec<Chain> {
    let mut chains = Chains::new(&bench.fetcher());
    let open = points.iter().map(|runs| {
        let id = "2026-11-23T03-17-19Z-1f3a9c2e".parse().unwrap();
        let point = Point {
            runs: runs.clone(),
            ..Point::sample(id)
        };
        chains.open(&point).unwrap()
    });
    open.collect()
}

/// Every point's entries below a directory, from all points at once and from each by itself.
fn check_timeline(chains: &[Chain], below: &Key) {
    let mut by_point: Vec<BTreeMap<Key, (Origin, Entry)>> = vec![BTreeMap::new(); chains.len()];
    let mut timeline = Timeline::open(chains, below).unwrap();
    let mut last = None;
    while let Some(path) = timeline.next(&mut |_, _| true).unwrap() {
        let place = Some((path.key.clone(), path.section));
        assert!(last < place, "keys rise");
        last = place;
        for (point, version) in path.by_point().enumerate() {
            if let Some(version) = version {
                let entry = (version.origin, (*version.entry).clone());
                assert!(by_point[point].insert(path.key.clone(), entry).is_none());
            }
        }
    }
    for (chain, found) in chains.iter().zip(by_point) {
        let entries = all(chain.entries(below)).unwrap().into_iter();
        let entries = entries.filter(|found| below.is_root() || found.key != *below);
        let entries: BTreeMap<_, _> = entries
            .map(|found| (found.key, (found.origin, *found.entry)))
            .collect();
        assert_eq!(found, entries);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn versions_are_what_a_lookup_in_each_point_finds(
        base in prop::collection::btree_map(a_path(), an_edit(), 0..40),
        later in prop::collection::vec(
            (prop::collection::btree_map(a_path(), an_edit(), 0..12), 0..5_usize), 0..10),
        probes in prop::collection::btree_set(a_path(), 10),
    ) {
        let bench = Bench::new();
        let mut model = Model::default();
        let mut runs = vec![model.write(&bench, false, &base)];
        let mut points = vec![runs.clone()];
        for (edits, merged) in &later {
            runs.insert(0, model.write(&bench, true, edits));
            let count = runs.len().min(*merged);
            if count > 1 {
                runs = bench.merge(&runs, count);
            }
            points.push(runs.clone());
        }
        let chains = chains(&bench, &points);
        check_timeline(&chains, &Key::root());
        for probe in &probes {
            check_timeline(&chains, probe);
            let mut versions = Versions::of(probe);
            for chain in chains.iter().chain(chains.iter().rev()) {
                prop_assert_eq!(versions.in_chain(chain).unwrap(), chain.lookup(probe).unwrap());
            }
        }
    }
}

#[test]
fn only_runs_that_have_the_path_are_read_and_each_once() {
    let bench = Bench::new();
    let changed = key("home/folder 00007/file 00007.txt");
    let mut runs = vec![bench.run(false, |writer| {
        append_tree(writer, 20, 20);
    })];
    let mut points = vec![runs.clone()];
    for number in 0..100 {
        let path = match number % 25 {
            7 => changed.clone(),
            _ => key("home/other"),
        };
        let run = bench.run(true, |writer| {
            let entry = record(file(number));
            writer.append(&path, Section::Files, &entry).unwrap();
        });
        runs.insert(0, run);
        points.push(runs.clone());
    }
    let chains = chains(&bench, &points);
    bench.store.take();
    let mut versions = Versions::of(&changed);
    let found: Vec<_> = chains
        .iter()
        .map(|chain| versions.in_chain(chain).unwrap().unwrap())
        .collect();
    let origins: BTreeSet<_> = found.iter().map(|found| found.origin).collect();
    assert_eq!(origins.len(), 5);
    let requests = bench.requests();
    // Four small runs, and the base's two sections.
    assert!(requests <= 6, "{requests} requests");
}

#[test]
fn all_paths_of_many_points_are_read_once_and_what_is_not_wanted_is_passed_over() {
    let bench = Bench::new();
    let mut runs = vec![bench.run(false, |writer| {
        append_tree(writer, 100, 100);
    })];
    let mut points = vec![runs.clone()];
    for number in 0..50 {
        let path = key(&format!("home/folder {number:05}/file 00000.txt"));
        let run = bench.run(true, |writer| {
            let entry = record(file(number));
            writer.append(&path, Section::Files, &entry).unwrap();
        });
        runs.insert(0, run);
        points.push(runs.clone());
    }
    let whole: u64 = runs.iter().map(|run| run.length).sum();
    let chains = chains(&bench, &points);
    bench.store.take();
    let mut timeline = Timeline::open(&chains, &Key::root()).unwrap();
    let mut is_wanted =
        |key: &[u8], section| section == Section::Files && key.ends_with(b"\0file 00000.txt");
    let (mut paths, mut versions) = (0, 0);
    while let Some(path) = timeline.next(&mut is_wanted).unwrap() {
        let origins: BTreeSet<_> = path
            .by_point()
            .map(|version| version.unwrap().origin)
            .collect();
        paths += 1;
        versions += origins.len();
    }
    assert_eq!((paths, versions), (100, 150));
    let bytes: u64 = bench.store.take().iter().map(|request| request.bytes).sum();
    assert!(bytes <= whole, "{bytes} of {whole} bytes");
}
