//! One suite over every store: what is written once for all of them is what the layers above may rely on.
//!
//! Each check is given an empty store of its own. Any store can be handed in: `tests/store_suite.rs` runs those of this
//! machine, `tests/remote/` those that need a server.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;

use bygone::base::{ErrorKind, Result};
use bygone::store::{Body, Store};

/// A behaviour and what checks it.
type Check = (&'static str, fn(&dyn Store));

/// Every check of the suite, by name, so that a failure says which store and which behaviour.
const SUITE: &[Check] = &[
    ("an object reads back", an_object_reads_back),
    (
        "a file reads back from its start",
        a_file_reads_back_from_its_start,
    ),
    ("an object is never replaced", an_object_is_never_replaced),
    ("ranges are exact", ranges_are_exact),
    (
        "tails are as long as they can be",
        tails_are_as_long_as_they_can_be,
    ),
    ("what is not there is missing", what_is_not_there_is_missing),
    (
        "listings are whole and in order",
        listings_are_whole_and_in_order,
    ),
    (
        "deletion is final and repeatable",
        deletion_is_final_and_repeatable,
    ),
    ("bad names are refused", bad_names_are_refused),
    (
        "one of many writers of a name wins",
        one_of_many_writers_of_a_name_wins,
    ),
    (
        "many threads write and read at once",
        many_threads_write_and_read_at_once,
    ),
];

/// Runs every check on an empty store of its own.
pub fn run_suite(make: impl Fn() -> Arc<dyn Store>) {
    for (name, check) in SUITE {
        let store = make();
        println!("{}: {name}", store.location());
        check(&*store);
    }
}

fn put(store: &dyn Store, name: &str, bytes: &[u8]) -> Result<()> {
    store.put_new(name, Body::Bytes(&[bytes]))
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

fn names(store: &dyn Store, prefix: &str, from: &str) -> Vec<String> {
    let listed = store.list(prefix, from).unwrap();
    listed.into_iter().map(|listed| listed.name).collect()
}

fn an_object_reads_back(store: &dyn Store) {
    store
        .put_new("packs/ab/abcd", Body::Bytes(&[b"one ", b"", b"object"]))
        .unwrap();
    assert_eq!(store.get("packs/ab/abcd").unwrap(), b"one object");
    put(store, "config", b"").unwrap();
    assert_eq!(store.get("config").unwrap(), b"");
}

fn a_file_reads_back_from_its_start(store: &dyn Store) {
    let bytes: Vec<u8> = (0..3_000_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    let mut file: File = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    for name in ["manifests/a", "manifests/b"] {
        file.seek(SeekFrom::Start(1000)).unwrap();
        store.put_new(name, Body::File(&file)).unwrap();
        assert!(store.get(name).unwrap() == bytes);
    }
}

fn an_object_is_never_replaced(store: &dyn Store) {
    put(store, "points/a", b"first").unwrap();
    assert_eq!(kind(put(store, "points/a", b"second")), ErrorKind::Exists);
    assert_eq!(store.get("points/a").unwrap(), b"first");
    assert_eq!(names(store, "", ""), ["points/a"]);
}

fn ranges_are_exact(store: &dyn Store) {
    put(store, "index/a", b"0123456789").unwrap();
    assert_eq!(store.get_range("index/a", 0..10).unwrap(), b"0123456789");
    assert_eq!(store.get_range("index/a", 3..4).unwrap(), b"3");
    for beyond in [0..11, 9..11, 10..11, 100..200, 0..u64::MAX] {
        assert_eq!(kind(store.get_range("index/a", beyond)), ErrorKind::Corrupt);
    }
    assert_eq!(kind(store.get_range("index/a", 3..3)), ErrorKind::Usage);
    assert_eq!(kind(store.get_range("index/b", 0..1)), ErrorKind::Missing);
}

fn tails_are_as_long_as_they_can_be(store: &dyn Store) {
    put(store, "index/a", b"0123456789").unwrap();
    assert_eq!(
        store.get_tail("index/a", 4).unwrap(),
        (b"6789".to_vec(), 10)
    );
    assert_eq!(
        store.get_tail("index/a", 40).unwrap(),
        (b"0123456789".to_vec(), 10)
    );
    put(store, "index/b", b"").unwrap();
    assert_eq!(store.get_tail("index/b", 4).unwrap(), (Vec::new(), 0));
}

fn what_is_not_there_is_missing(store: &dyn Store) {
    put(store, "points/a", b"here").unwrap();
    for name in ["points/b", "packs/ab/abcd", "points/a/b"] {
        assert_eq!(kind(store.get(name)), ErrorKind::Missing, "{name}");
        assert_eq!(
            kind(store.get_range(name, 0..1)),
            ErrorKind::Missing,
            "{name}"
        );
        assert_eq!(kind(store.get_tail(name, 1)), ErrorKind::Missing, "{name}");
    }
    assert!(
        store
            .get("points/b")
            .unwrap_err()
            .to_string()
            .contains("points/b")
    );
}

fn listings_are_whole_and_in_order(store: &dyn Store) {
    assert!(store.list("", "").unwrap().is_empty());
    assert!(store.list("packs/", "").unwrap().is_empty());
    // A folder's slash sorts after '-' and '.', which a listing folder by folder gets wrong.
    for name in [
        "packs/ab/2",
        "packs/ab-1",
        "packs/ab.1",
        "packs/aa/1",
        "packs/ab/1",
        "points/1",
        "config",
    ] {
        put(store, name, name.as_bytes()).unwrap();
    }
    assert_eq!(
        names(store, "packs/", ""),
        [
            "packs/aa/1",
            "packs/ab-1",
            "packs/ab.1",
            "packs/ab/1",
            "packs/ab/2"
        ]
    );
    assert_eq!(
        names(store, "packs/", "packs/ab/1"),
        ["packs/ab/1", "packs/ab/2"]
    );
    assert_eq!(names(store, "packs/ab/", "packs/ab/11"), ["packs/ab/2"]);
    assert_eq!(names(store, "", "points/"), ["points/1"]);
    assert_eq!(names(store, "", "").len(), 7);
    let lengths: BTreeSet<u64> = store
        .list("packs/ab/", "")
        .unwrap()
        .iter()
        .map(|listed| listed.length)
        .collect();
    assert_eq!(lengths, BTreeSet::from([10]));
}

fn deletion_is_final_and_repeatable(store: &dyn Store) {
    put(store, "leases/a", b"lease").unwrap();
    store.get_range("leases/a", 0..1).unwrap();
    store.delete("leases/a").unwrap();
    assert_eq!(kind(store.get("leases/a")), ErrorKind::Missing);
    assert_eq!(kind(store.get_range("leases/a", 0..1)), ErrorKind::Missing);
    store.delete("leases/a").unwrap();
    store.delete("leases/never/there").unwrap();
    assert!(store.list("leases/", "").unwrap().is_empty());
}

fn bad_names_are_refused(store: &dyn Store) {
    for name in [
        "",
        "../config",
        "/etc/passwd",
        "points/",
        "a b",
        "points/.",
        "points//a",
    ] {
        assert_eq!(kind(put(store, name, b"")), ErrorKind::Usage, "{name}");
        assert_eq!(kind(store.get(name)), ErrorKind::Usage, "{name}");
        assert_eq!(
            kind(store.get_range(name, 0..1)),
            ErrorKind::Usage,
            "{name}"
        );
        assert_eq!(kind(store.get_tail(name, 1)), ErrorKind::Usage, "{name}");
        assert_eq!(kind(store.delete(name)), ErrorKind::Usage, "{name}");
    }
    assert_eq!(kind(store.list("points", "")), ErrorKind::Usage);
    assert_eq!(kind(store.list("points/", "packs/")), ErrorKind::Usage);
}

fn one_of_many_writers_of_a_name_wins(store: &dyn Store) {
    let outcomes: Vec<(usize, Result<()>)> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                scope.spawn(move || {
                    (
                        writer,
                        put(store, "points/one", format!("{writer}").as_bytes()),
                    )
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = outcomes
        .into_iter()
        .partition(|(_, outcome)| outcome.is_ok());
    assert_eq!(won.len(), 1);
    assert!(
        lost.into_iter()
            .all(|(_, outcome)| kind(outcome) == ErrorKind::Exists)
    );
    assert_eq!(
        store.get("points/one").unwrap(),
        format!("{}", won[0].0).as_bytes()
    );
    assert_eq!(names(store, "", ""), ["points/one"]);
}

fn many_threads_write_and_read_at_once(store: &dyn Store) {
    std::thread::scope(|scope| {
        for thread in 0..8_u8 {
            scope.spawn(move || {
                for number in 0..40 {
                    let name = format!("packs/{number:02}/{thread}-{number}");
                    put(store, &name, &[thread; 100]).unwrap();
                    assert_eq!(store.get_range(&name, 99..100).unwrap(), [thread]);
                    assert_eq!(store.get_tail(&name, 1).unwrap(), (vec![thread], 100));
                }
            });
        }
    });
    assert_eq!(store.list("packs/", "").unwrap().len(), 320);
}
