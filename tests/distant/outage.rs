//! A line that is cut: whoever needs the store gets an error in time, whoever does not notices nothing, and it heals.

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use bygone::fuse::MountOptions;

use crate::far::{CACHE_BYTES, DELAY, Far, Place};
use crate::random::noise;

/// How long the mount may keep a reader waiting.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What an answer may come late by, where other programs have the processors.
const LATE: Duration = Duration::from_secs(4);

/// What is in memory is answered within this, whoever waits for the store.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Readers at a time: more than threads that may wait for the store.
const READERS: usize = 100;

/// One read that fails takes no longer than this part of the timeout: less than two waits one after the other, and all that
/// a machine with other things to do may take.
const ONE_WAIT: f64 = 1.8;

/// How long one reader may be kept waiting, where that is measured.
const MEASURED_TIMEOUT: Duration = Duration::from_secs(8);

/// So long reads of what has just failed fail at once.
const FAILS_AT_ONCE: Duration = Duration::from_secs(1);

/// What healing never takes, unless it does not happen.
const HEALS: Duration = Duration::from_secs(60);

const FOLDERS: usize = 8;
const FILE_BYTES: usize = 200_000;
const LARGE_BYTES: usize = 8 << 20;

fn fill(source: &Path) {
    for number in 0..READERS {
        let folder = source.join(format!("{}", number % FOLDERS));
        fs::create_dir_all(&folder).unwrap();
        fs::write(
            folder.join(format!("{number}")),
            noise(number as u64, FILE_BYTES),
        )
        .unwrap();
    }
}

fn mount(place: &Place) -> Far {
    let options = MountOptions {
        timeout: TIMEOUT,
        ..MountOptions::default()
    };
    place.mount_with(DELAY, CACHE_BYTES, options)
}

/// Reads what is not in memory, and makes sure that it fails as it must.
fn assert_in_time(path: &Path) {
    let start = Instant::now();
    let error = fs::read(path).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO), "{error}");
    let took = start.elapsed();
    assert!(took < TIMEOUT + LATE, "{took:?}");
}

fn names(folder: &Path) -> io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(folder)? {
        entry?.metadata()?;
        count += 1;
    }
    Ok(count)
}

#[test]
fn an_uncached_read_fails_in_time_a_cached_one_succeeds_and_it_heals() {
    let place = Place::new(fill);
    let far = mount(&place);
    for folder in 0..FOLDERS {
        names(&far.path(&folder.to_string())).unwrap();
    }
    let read = far.path("0/0");
    let expected = noise(0, FILE_BYTES);
    assert!(fs::read(&read).unwrap() == expected);
    // Nothing is on its way any more.
    thread::sleep(Duration::from_millis(500));
    far.line.cut();
    thread::scope(|scope| {
        for number in 50..READERS {
            let path = far.path(&format!("{}/{number}", number % FOLDERS));
            scope.spawn(move || assert_in_time(&path));
        }
        for _ in 0..5 {
            let start = Instant::now();
            assert!(fs::read(&read).unwrap() == expected);
            assert!(names(&far.path("0")).unwrap() > 0);
            assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
            thread::sleep(TIMEOUT / 10);
        }
    });
    far.line.mend();
    thread::sleep(FAILS_AT_ONCE);
    for number in 0..READERS {
        let path = far.path(&format!("{}/{number}", number % FOLDERS));
        assert!(fs::read(path).unwrap() == noise(number as u64, FILE_BYTES));
    }
}

/// Names that do not compress, so many that they are not all brought along with the first.
fn many_names(source: &Path) {
    for number in 0..4000 {
        fs::write(source.join(name(number)), b"").unwrap();
    }
}

fn name(number: u64) -> String {
    let noise = noise(number, 50);
    noise.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_name_that_is_not_in_memory_fails_in_time_too() {
    let place = Place::new(many_names);
    let far = mount(&place);
    // Nothing is on its way any more.
    thread::sleep(Duration::from_millis(500));
    far.line.cut();
    let start = Instant::now();
    let error = fs::metadata(far.path(&name(7))).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO), "{error}");
    assert!(start.elapsed() < TIMEOUT + LATE);
    far.line.mend();
    assert_eq!(names(&far.path("")).unwrap(), 4000);
}

/// Reads from the beginning of a file as `cat` does, and returns how long it took to fail.
fn time_to_fail(path: &Path) -> Duration {
    let mut file = fs::File::open(path).unwrap();
    let start = Instant::now();
    let error = file.read(&mut vec![0; 128 << 10]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO), "{error}");
    start.elapsed()
}

/// Has several read the same at once, as pages of it that were not to be had are asked for by one after the other.
fn assert_one_wait(path: &Path, readers: usize) {
    thread::scope(|scope| {
        let times: Vec<_> = (0..readers)
            .map(|_| scope.spawn(|| time_to_fail(path)))
            .collect();
        for time in times {
            let took = time.join().unwrap();
            let waits = took.as_secs_f64() / MEASURED_TIMEOUT.as_secs_f64();
            assert!((0.9..ONE_WAIT).contains(&waits), "{waits} waits");
        }
    });
}

fn measured_options() -> MountOptions {
    MountOptions {
        timeout: MEASURED_TIMEOUT,
        ..MountOptions::default()
    }
}

#[test]
fn a_reader_waits_once_though_the_kernel_asks_again_for_what_reading_ahead_did_not_bring() {
    let place =
        Place::new(|source| fs::write(source.join("large"), noise(1, LARGE_BYTES)).unwrap());
    let far = place.mount_with(DELAY, CACHE_BYTES, measured_options());
    let large = far.path("large");
    fs::metadata(&large).unwrap();
    far.line.cut();
    assert_one_wait(&large, 3);
    far.line.mend();
    thread::sleep(FAILS_AT_ONCE);
    assert!(fs::read(&large).unwrap() == noise(1, LARGE_BYTES));
}

#[test]
fn a_reader_waits_once_though_all_before_came_from_the_cache() {
    let place = Place::new(|source| {
        fs::write(source.join("kept"), noise(1, LARGE_BYTES)).unwrap();
        // So far behind it in the pack that no request for what is kept brings the other one along.
        fs::write(source.join("long"), noise(3, LARGE_BYTES)).unwrap();
        fs::write(source.join("other"), noise(2, FILE_BYTES)).unwrap();
    });
    let folder = tempfile::tempdir().unwrap();
    let kept = |far: &Far| assert!(fs::read(far.path("kept")).unwrap() == noise(1, LARGE_BYTES));
    kept(&place.mount_cached(folder.path()));
    let far = place.mount_cached_with(folder.path(), 1 << 20, &measured_options());
    fs::metadata(far.path("other")).unwrap();
    kept(&far);
    far.traffic();
    far.line.cut();
    let other = far.path("other");
    thread::scope(|scope| {
        // Without the network's end in sight nobody would end who waits for it.
        let (ended, end) = crossbeam_channel::bounded::<()>(0);
        let line = &far.line;
        scope.spawn(move || {
            let _ended = end.recv_timeout(3 * MEASURED_TIMEOUT);
            line.mend();
        });
        let ended = ended;
        assert_one_wait(&other, 2);
        drop(ended);
    });
    // A store that was gone is asked every few seconds whether it is back.
    let start = Instant::now();
    while fs::read(&other).is_err() {
        assert!(
            start.elapsed() < HEALS,
            "it is not noticed that the store is back"
        );
        thread::sleep(FAILS_AT_ONCE);
    }
    assert!(fs::read(&other).unwrap() == noise(2, FILE_BYTES));
}
