use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::base::{ErrorKind, PointId, Silent};
use crate::store::{
    Body, Effect, Fault, FaultPlan, MemoryStore, Moment, Operations, Recording, Request, Store,
};

/// A store in memory whose requests are counted, and a cache of it with a clock that the test moves.
struct Bench {
    folder: tempfile::TempDir,
    memory: Arc<MemoryStore>,
    recording: Arc<Recording>,
    clock: Arc<AtomicI64>,
    bytes_max: Option<u64>,
}

impl Bench {
    fn new(bytes_max: Option<u64>) -> Self {
        let memory = Arc::new(MemoryStore::new());
        Self {
            folder: tempfile::tempdir().unwrap(),
            recording: Arc::new(Recording::new(memory.clone())),
            memory,
            clock: Arc::new(AtomicI64::new(1_000_000)),
            bytes_max,
        }
    }

    fn options(&self) -> CacheOptions {
        CacheOptions {
            directory: self.folder.path().join("cache"),
            bytes_max: self.bytes_max,
        }
    }

    fn open_over(&self, store: Arc<dyn Store>) -> CachedStore {
        let clock = Arc::clone(&self.clock);
        let now = Box::new(move || clock.load(Ordering::Relaxed));
        CachedStore::with_clock(store, &self.options(), now).unwrap()
    }

    fn open(&self) -> CachedStore {
        self.open_over(self.recording.clone())
    }

    /// The store does not answer a single question.
    fn open_offline(&self) -> CachedStore {
        self.open_over(Arc::new(Fault::new(
            self.recording.clone(),
            FaultPlan {
                operations: Operations::Reads,
                at: 1,
                moment: Moment::Before,
                effect: Effect::FailFromThenOn(ErrorKind::Unreachable),
            },
        )))
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        self.memory.put_new(name, Body::Bytes(&[bytes])).unwrap();
    }

    fn asked(&self) -> usize {
        self.recording.take().len()
    }

    fn later(&self, milliseconds: i64) {
        self.clock.fetch_add(milliseconds, Ordering::Relaxed);
    }

    fn cache_folder(&self) -> CacheFolder {
        folder_of(&self.options().directory, &self.memory.location())
    }

    /// All files of objects that the cache has, by path.
    fn files(&self) -> Vec<std::path::PathBuf> {
        let entries = fs::read_dir(self.cache_folder().path()).unwrap();
        let folders = entries.map(|entry| entry.unwrap().path());
        folders
            .filter(|path| path.is_dir())
            .flat_map(|path| {
                fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path())
            })
            .collect()
    }
}

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length)
        .map(|number| (number as u8).wrapping_mul(31) ^ (number >> 8) as u8 ^ seed)
        .collect()
}

#[test]
fn what_was_read_once_is_read_again_without_a_request_by_another_process_too() {
    let bench = Bench::new(None);
    let pack = pattern(3 << 20, 1);
    bench.put("packs/ab/abcd", &pack);
    bench.put("points/a", b"a header");
    let first = bench.open();
    assert_eq!(
        first.get_range("packs/ab/abcd", 100..2_000_000).unwrap(),
        pack[100..2_000_000]
    );
    assert_eq!(first.get("points/a").unwrap(), b"a header");
    assert_eq!(first.get_tail("packs/ab/abcd", 1000).unwrap().1, 3 << 20);
    assert_eq!(bench.asked(), 3);
    drop(first);
    let second = bench.open();
    assert_eq!(
        second.get_range("packs/ab/abcd", 500..1_500_000).unwrap(),
        pack[500..1_500_000]
    );
    assert_eq!(second.get("points/a").unwrap(), b"a header");
    let (tail, length) = second.get_tail("packs/ab/abcd", 1000).unwrap();
    assert_eq!((&tail[..], length), (&pack[pack.len() - 1000..], 3 << 20));
    assert_eq!(bench.asked(), 0);
}

#[test]
fn of_a_range_only_what_lacks_is_fetched() {
    let bench = Bench::new(None);
    let pack = pattern(100_000, 2);
    bench.put("packs/ab/abcd", &pack);
    let store = bench.open();
    store.get_range("packs/ab/abcd", 0..10_000).unwrap();
    store.get_range("packs/ab/abcd", 30_000..40_000).unwrap();
    bench.recording.take();
    assert_eq!(
        store.get_range("packs/ab/abcd", 5_000..35_000).unwrap(),
        pack[5_000..35_000]
    );
    let asked: Vec<u64> = bench
        .recording
        .take()
        .iter()
        .map(|request: &Request| request.bytes)
        .collect();
    assert_eq!(asked, [20_000]);
    assert_eq!(
        store.get_range("packs/ab/abcd", 0..40_000).unwrap(),
        pack[..40_000]
    );
    assert_eq!(bench.asked(), 0);
}

#[test]
fn two_that_share_a_cache_see_what_the_other_fetched_and_dropped() {
    let bench = Bench::new(None);
    bench.put("packs/ab/abcd", &pattern(50_000, 3));
    let (one, other) = (bench.open(), bench.open());
    one.get_range("packs/ab/abcd", 0..20_000).unwrap();
    other.get_range("packs/ab/abcd", 0..20_000).unwrap();
    assert_eq!(bench.asked(), 1);
    assert!(other.disbelieve("packs/ab/abcd"));
    one.get_range("packs/ab/abcd", 0..20_000).unwrap();
    assert_eq!(bench.asked(), 1);
}

#[test]
fn what_is_kept_at_rest_is_what_came_and_nobody_elses_to_read() {
    use std::os::unix::fs::MetadataExt;
    let bench = Bench::new(None);
    bench.put("manifests/ab", b"sealed bytes");
    bench.open().get_range("manifests/ab", 2..8).unwrap();
    let [file] = &bench.files()[..] else {
        panic!("one object is kept")
    };
    assert_eq!(fs::read(file).unwrap()[2..], b"sealed bytes"[2..8]);
    assert_eq!(fs::metadata(file).unwrap().mode() & 0o077, 0);
    let folder = fs::metadata(bench.cache_folder().path()).unwrap();
    assert_eq!(folder.mode() & 0o777, 0o700);
}

#[test]
fn the_longest_unused_leaves_first_and_metadata_stays() {
    let bench = Bench::new(Some(1 << 20));
    for number in 0..40 {
        bench.put(&format!("packs/ab/{number}"), &pattern(64 << 10, number));
    }
    bench.put("manifests/ab", &pattern(64 << 10, 99));
    let store = bench.open();
    store.get_range("manifests/ab", 0..65536).unwrap();
    let read = |number: usize| {
        store
            .get_range(&format!("packs/ab/{number}"), 0..65536)
            .unwrap()
    };
    for number in 0..40 {
        bench.later(20_000);
        read(number);
        read(0);
    }
    assert_eq!(bench.asked(), 41);
    let figures = bench.cache_folder().figures().unwrap();
    assert!(
        figures.data_bytes + figures.metadata_bytes <= 1 << 20,
        "{figures:?}"
    );
    assert!(figures.data_bytes >= 10 << 16, "{figures:?}");
    store.get_range("manifests/ab", 0..65536).unwrap();
    for number in [0, 39, 38, 37, 30] {
        read(number);
    }
    assert_eq!(bench.asked(), 0);
    read(1);
    assert_eq!(bench.asked(), 1);
    let taken: u64 = bench.files().iter().map(|file| blocks(file)).sum();
    assert!(taken <= (1 << 20) + (64 << 10), "{taken} bytes of the disk");
}

fn blocks(file: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(file).unwrap().blocks() * 512
}

#[test]
fn ranges_of_one_pack_leave_one_by_one() {
    let bench = Bench::new(Some(4 << 20));
    bench.put("packs/ab/abcd", &pattern(16 << 20, 5));
    let store = bench.open();
    for megabyte in 0..16_u64 {
        bench.later(1000);
        store
            .get_range("packs/ab/abcd", megabyte << 20..(megabyte + 1) << 20)
            .unwrap();
    }
    let [file] = &bench.files()[..] else {
        panic!("one object is kept")
    };
    assert!(blocks(file) <= 4 << 20, "{} bytes", blocks(file));
    bench.recording.take();
    store
        .get_range("packs/ab/abcd", 15 << 20..16 << 20)
        .unwrap();
    assert_eq!(bench.asked(), 0);
}

#[test]
fn bytes_that_were_damaged_on_disk_are_dropped_when_they_are_disbelieved() {
    let bench = Bench::new(None);
    let pack = pattern(10_000, 6);
    bench.put("packs/ab/abcd", &pack);
    let store = bench.open();
    store.get_range("packs/ab/abcd", 0..10_000).unwrap();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&bench.files()[0])
        .unwrap();
    file.write_all_at(b"hostile", 100).unwrap();
    assert_ne!(store.get_range("packs/ab/abcd", 0..10_000).unwrap(), pack);
    assert!(store.disbelieve("packs/ab/abcd"));
    assert_eq!(store.get_range("packs/ab/abcd", 0..10_000).unwrap(), pack);
    assert!(!store.disbelieve("packs/ab/other"));
}

#[test]
fn a_file_that_was_cut_short_or_removed_is_fetched_anew() {
    let bench = Bench::new(None);
    let pack = pattern(10_000, 7);
    bench.put("packs/ab/abcd", &pack);
    bench.open().get_range("packs/ab/abcd", 0..10_000).unwrap();
    fs::File::create(&bench.files()[0]).unwrap();
    assert_eq!(
        bench.open().get_range("packs/ab/abcd", 0..10_000).unwrap(),
        pack
    );
    for file in bench.files() {
        fs::remove_file(file).unwrap();
    }
    assert_eq!(
        bench.open().get_range("packs/ab/abcd", 0..10_000).unwrap(),
        pack
    );
    assert_eq!(bench.asked(), 3);
}

#[test]
fn a_damaged_index_is_begun_anew_wherever_it_is_damaged() {
    let bench = Bench::new(None);
    let pack = pattern(10_000, 8);
    bench.put("packs/ab/abcd", &pack);
    let index = bench.cache_folder().index();
    for number in 0..20_u64 {
        let store = bench.open();
        assert_eq!(store.get_range("packs/ab/abcd", 0..10_000).unwrap(), pack);
        drop(store);
        let length = fs::metadata(&index).unwrap().len();
        let file = fs::OpenOptions::new().write(true).open(&index).unwrap();
        file.write_all_at(&[0xa5; 2048], length * number / 20)
            .unwrap();
        let store = bench.open();
        for _ in 0..3 {
            assert_eq!(store.get_range("packs/ab/abcd", 0..10_000).unwrap(), pack);
        }
    }
    fs::write(&index, b"not a database at all").unwrap();
    assert_eq!(
        bench.open().get_range("packs/ab/abcd", 0..10_000).unwrap(),
        pack
    );
}

#[test]
fn lies_in_the_index_make_nobody_allocate_or_fail() {
    let bench = Bench::new(None);
    let pack = pattern(10_000, 9);
    bench.put("packs/ab/abcd", &pack);
    bench.put("points/a", b"a header");
    for lie in [
        "UPDATE ranges SET end = 1 << 60",
        "UPDATE ranges SET start = -5",
        "UPDATE objects SET length = 1 << 62",
        "UPDATE objects SET length = -1",
        "UPDATE totals SET blocks = -7",
        "DROP TABLE ranges",
        "DELETE FROM about",
    ] {
        let store = bench.open();
        store.get_range("packs/ab/abcd", 0..10_000).unwrap();
        store.get("points/a").unwrap();
        drop(store);
        let index = rusqlite::Connection::open(bench.cache_folder().index()).unwrap();
        index.execute_batch(lie).unwrap();
        drop(index);
        let store = bench.open();
        assert_eq!(
            store.get_range("packs/ab/abcd", 0..10_000).unwrap(),
            pack,
            "{lie}"
        );
        assert_eq!(store.get("points/a").unwrap(), b"a header", "{lie}");
        drop(store);
        bench.cache_folder().clear(true).unwrap();
    }
}

#[test]
fn without_a_network_what_is_known_is_given_and_the_rest_is_unreachable() {
    let bench = Bench::new(None);
    bench.put("config", b"the config");
    bench.put("points/a", b"a header");
    bench.put("points/b", b"another");
    let store = bench.open();
    assert_eq!(store.get("config").unwrap(), b"the config");
    assert_eq!(store.list("points/", "").unwrap().len(), 2);
    assert_eq!(store.list("index/", "index/b").unwrap().len(), 0);
    store.get("points/a").unwrap();
    drop(store);
    let offline = bench.open_offline();
    assert_eq!(offline.get("config").unwrap(), b"the config");
    assert_eq!(offline.list("points/", "").unwrap().len(), 2);
    assert_eq!(
        offline.list("points/", "points/b").unwrap()[0].name,
        "points/b"
    );
    assert_eq!(offline.get("points/a").unwrap(), b"a header");
    for error in [
        offline.get("points/b").unwrap_err(),
        offline.get_range("packs/ab/abcd", 0..5).unwrap_err(),
        offline.list("leases/", "").unwrap_err(),
        offline.list("index/", "").unwrap_err(),
        offline.list("keys/", "").unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unreachable);
    }
}

#[test]
fn what_may_change_is_asked_for_each_time_and_what_is_gone_is_forgotten() {
    let bench = Bench::new(None);
    bench.put("config", b"the config");
    bench.put("points/a", b"a header");
    let store = bench.open();
    store.get("config").unwrap();
    store.list("points/", "").unwrap();
    bench.memory.damage("config", b"a newer one");
    bench.memory.lose("points/a");
    bench.put("points/c", b"");
    assert_eq!(store.get("config").unwrap(), b"a newer one");
    assert_eq!(store.list("points/", "").unwrap()[0].name, "points/c");
    let offline = bench.open_offline();
    assert_eq!(offline.get("config").unwrap(), b"a newer one");
    assert_eq!(offline.list("points/", "").unwrap()[0].name, "points/c");
    bench.memory.lose("config");
    assert_eq!(store.get("config").unwrap_err().kind(), ErrorKind::Missing);
    let offline = bench.open_offline();
    assert_eq!(
        offline.get("config").unwrap_err().kind(),
        ErrorKind::Unreachable
    );
}

#[test]
fn what_this_process_put_need_not_be_fetched_and_what_it_deleted_is_gone() {
    let bench = Bench::new(None);
    let store = bench.open();
    store.list("points/", "").unwrap();
    store
        .put_new("points/a", Body::Bytes(&[b"a ", b"header"]))
        .unwrap();
    bench.recording.take();
    assert_eq!(store.get("points/a").unwrap(), b"a header");
    assert_eq!(bench.asked(), 0);
    assert_eq!(bench.open_offline().list("points/", "").unwrap().len(), 1);
    store.delete("points/a").unwrap();
    assert_eq!(
        store.get("points/a").unwrap_err().kind(),
        ErrorKind::Missing
    );
    assert_eq!(bench.open_offline().list("points/", "").unwrap().len(), 0);
}

fn point() -> PointId {
    "2026-11-23T03-17-19Z-1f3a9c2e".parse().unwrap()
}

#[test]
fn what_is_pinned_stays_whatever_else_is_read_until_it_is_unpinned() {
    let bench = Bench::new(Some(1 << 20));
    for number in 0..40 {
        bench.put(&format!("packs/ab/{number}"), &pattern(64 << 10, number));
    }
    let store = bench.open();
    let read = |number: usize| {
        store
            .get_range(&format!("packs/ab/{number}"), 0..65536)
            .unwrap()
    };
    read(1);
    let pinning = store.pin(&point(), b"home/selene").unwrap();
    read(0);
    read(1);
    pinning.finish().unwrap();
    for number in 2..40 {
        bench.later(20_000);
        read(number);
    }
    bench.recording.take();
    read(0);
    read(1);
    assert_eq!(bench.asked(), 0);
    let pins = store.pins().unwrap();
    assert_eq!(pins.len(), 1);
    assert_eq!((pins[0].bytes, pins[0].is_complete), (128 << 10, true));
    bench.cache_folder().clear(false).unwrap();
    read(0);
    assert_eq!(bench.asked(), 0);
    assert_eq!(store.unpin(&point(), None).unwrap(), 1);
    bench.cache_folder().clear(false).unwrap();
    read(0);
    assert_eq!(bench.asked(), 1);
}

#[test]
fn a_pin_that_does_not_fit_says_so_and_reads_go_on() {
    let bench = Bench::new(Some(256 << 10));
    for number in 0..8 {
        bench.put(&format!("packs/ab/{number}"), &pattern(64 << 10, number));
    }
    let store = bench.open();
    let pinning = store.pin(&point(), b"").unwrap();
    for number in 0..8 {
        store
            .get_range(&format!("packs/ab/{number}"), 0..65536)
            .unwrap();
    }
    assert_eq!(pinning.finish().unwrap_err().kind(), ErrorKind::Full);
    assert!(!store.pins().unwrap()[0].is_complete);
}

#[test]
fn verifying_finds_what_changed_on_disk_and_what_nobody_knows_of() {
    let bench = Bench::new(None);
    bench.put("packs/ab/abcd", &pattern(3 << 20, 1));
    bench.put("packs/ab/abce", &pattern(1000, 2));
    let store = bench.open();
    store.get_range("packs/ab/abcd", 0..3 << 20).unwrap();
    store.get_range("packs/ab/abce", 0..1000).unwrap();
    let good = bench.cache_folder().verify(&Silent).unwrap();
    assert_eq!(
        (good.good_ranges, good.dropped_ranges, good.strays),
        (4, 0, 0)
    );
    let mut files = bench.files();
    files.sort_by_key(|file| fs::metadata(file).unwrap().len());
    let large = fs::OpenOptions::new().write(true).open(&files[1]).unwrap();
    large.write_all_at(b"x", (1 << 20) + 17).unwrap();
    fs::write(files[0].with_file_name("4711"), b"left by kill -9").unwrap();
    let found = bench.cache_folder().verify(&Silent).unwrap();
    assert_eq!(
        (found.good_ranges, found.dropped_ranges, found.strays),
        (3, 1, 1)
    );
    bench.recording.take();
    store.get_range("packs/ab/abcd", 0..3 << 20).unwrap();
    assert_eq!(bench.recording.take()[0].bytes, 1 << 20);
}

#[test]
fn many_threads_read_and_evict_and_never_get_a_wrong_byte_that_stays() {
    let bench = Bench::new(Some(2 << 20));
    let packs: Vec<Vec<u8>> = (0..10).map(|number| pattern(1 << 20, number)).collect();
    for (number, pack) in packs.iter().enumerate() {
        bench.put(&format!("packs/ab/{number}"), pack);
    }
    std::thread::scope(|scope| {
        for seed in 0..4_usize {
            let (bench, packs) = (&bench, &packs);
            scope.spawn(move || {
                let store = bench.open();
                for round in 0..200 {
                    let number = (round * 7 + seed * 3) % 10;
                    let start = (round * 40_961) % (900 << 10);
                    let range = start as u64..start as u64 + 100_000;
                    let name = format!("packs/ab/{number}");
                    let expected = &packs[number][start..start + 100_000];
                    if store.get_range(&name, range.clone()).unwrap() != expected {
                        store.disbelieve(&name);
                        assert!(store.get_range(&name, range).unwrap() == expected);
                    }
                }
            });
        }
    });
}
