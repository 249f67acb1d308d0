//! A line that is cut: whoever needs the store gets an error in time, whoever does not notices nothing, and it heals.

use std::fs;
use std::io;
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

const FOLDERS: usize = 8;
const FILE_BYTES: usize = 200_000;

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
