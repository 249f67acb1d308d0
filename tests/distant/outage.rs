//! A line that is cut: whoever needs the store gets an error in time, whoever does not notices nothing, and it heals.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
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
    let error = fs::read(path).map(drop).unwrap_err();
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

/// Files that are read before the line is cut, all of one folder: so few that nobody takes it for a walk of everything.
const KEPT: usize = 3;

/// What the kernel reads at least.
const PAGE_BYTES: usize = 4096;

/// What one read at this place gives, at most so many bytes.
fn read_at(path: &Path, offset: usize, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let count = fs::File::open(path)?.read_at(&mut bytes, offset as u64)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// A file of the first folder.
fn kept(far: &Far, number: usize) -> PathBuf {
    far.path(&format!("0/{}", number * FOLDERS))
}

#[test]
fn with_the_line_cut_a_new_mount_works_as_far_as_the_cache_reaches_and_heals() {
    let large = noise(1000, LARGE_BYTES);
    let place = Place::new(|source| {
        fill(source);
        fs::write(source.join("large"), &large).unwrap();
    });
    let folder = tempfile::tempdir().unwrap();
    let middle = LARGE_BYTES / 2;
    let read_kept = |far: &Far| {
        for folder in 0..FOLDERS {
            assert!(names(&far.path(&folder.to_string())).unwrap() > 0);
        }
        for number in 0..KEPT {
            let expected = noise((number * FOLDERS) as u64, FILE_BYTES);
            assert!(fs::read(kept(far, number)).unwrap() == expected);
        }
    };
    let far = place.mount_cached(folder.path());
    read_kept(&far);
    let read = read_at(&far.path("large"), middle, PAGE_BYTES).unwrap();
    assert!(read == large[middle..middle + PAGE_BYTES]);
    drop(far);

    let options = MountOptions {
        timeout: TIMEOUT,
        ..MountOptions::default()
    };
    let far = place.mount_cut_off(folder.path(), &options);
    // Of a file that is there in part it gives that part, though the kernel asks for more at once.
    let read = read_at(&far.path("large"), middle, LARGE_BYTES / 4).unwrap();
    assert!((PAGE_BYTES..LARGE_BYTES / 4).contains(&read.len()));
    assert!(read == large[middle..middle + read.len()]);
    let uncached = far.path("7/95");
    read_kept(&far);
    assert_in_time(&uncached);
    read_kept(&far);
    far.line.mend();
    let start = Instant::now();
    while fs::read(&uncached).is_err() {
        assert!(start.elapsed() < HEALS, "it does not heal");
        thread::sleep(FAILS_AT_ONCE);
    }
    for number in 0..READERS {
        let path = far.path(&format!("{}/{number}", number % FOLDERS));
        assert!(fs::read(path).unwrap() == noise(number as u64, FILE_BYTES));
    }
    assert!(fs::read(far.path("large")).unwrap() == large);
}

#[test]
fn of_a_file_that_the_cache_has_in_part_that_part_is_read_though_the_kernel_asks_for_more() {
    let large = noise(1, LARGE_BYTES);
    let place = Place::new(|source| {
        fs::write(source.join("large"), &large).unwrap();
        fs::write(source.join("other"), noise(2, LARGE_BYTES)).unwrap();
    });
    let folder = tempfile::tempdir().unwrap();
    let options = MountOptions {
        timeout: TIMEOUT,
        ..MountOptions::default()
    };
    let far = place.mount_cached_with(folder.path(), 1 << 20, &options);
    let middle = LARGE_BYTES / 2;
    let read = read_at(&far.path("large"), middle, PAGE_BYTES).unwrap();
    assert!(read == large[middle..middle + PAGE_BYTES]);
    // From far away, and until nothing of the other is in memory.
    assert!(fs::read(far.path("other")).unwrap() == noise(2, LARGE_BYTES));
    far.line.cut();
    let next = middle + PAGE_BYTES;
    let read = read_at(&far.path("large"), next, LARGE_BYTES / 4).unwrap();
    println!("{} bytes", read.len());
    assert!((PAGE_BYTES..LARGE_BYTES / 4).contains(&read.len()));
    assert!(read == large[next..next + read.len()]);
}
