//! What reading asks of a distant store: few requests, several at a time, little that nobody reads, and the right bytes.

use std::fs;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use bygone::fuse::MountOptions;

use crate::far::{CACHE_BYTES, DELAY, Far, Place};
use crate::random::noise;

const FOLDERS: usize = 20;
const FILES: usize = 400;
const FILE_BYTES: usize = 20_000;

const LARGE_BYTES: usize = 40 << 20;

/// A point with many files in folders that follow one another.
fn of_many() -> Place {
    Place::new(|source| {
        for number in 0..FILES {
            let path = source.join(many(number));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, noise(number as u64, FILE_BYTES)).unwrap();
        }
    })
}

fn many(number: usize) -> String {
    let each = FILES / FOLDERS;
    format!("{:02}/{:02}", number / each, number % each)
}

/// A point with one large file.
fn of_one() -> Place {
    Place::new(|source| fs::write(source.join("large"), noise(1, LARGE_BYTES)).unwrap())
}

fn walk(folder: &Path, take: &mut dyn FnMut(PathBuf)) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.metadata().unwrap().is_dir(), entry.path()))
        .collect();
    entries.sort();
    for (is_directory, path) in entries {
        if is_directory {
            walk(&path, take);
        } else {
            take(path);
        }
    }
}

/// Reads all that there is, in the order of a walk.
fn read_many(far: &Far) {
    let mut number = 0;
    walk(far.source(), &mut |path| {
        assert!(path.ends_with(many(number)), "{}", path.display());
        assert!(fs::read(&path).unwrap() == noise(number as u64, FILE_BYTES));
        number += 1;
    });
    assert_eq!(number, FILES);
}

#[test]
fn a_walk_has_the_files_that_follow_under_way_several_frames_at_a_time() {
    let place = of_many();
    let far = place.mount();
    far.traffic();
    read_many(&far);
    let traffic = far.traffic();
    println!("{traffic:?}");
    let bytes = (FILES * FILE_BYTES) as u64;
    assert!(traffic.bytes < bytes * 11 / 10, "{traffic:?}");
    assert!(traffic.requests < 8 + bytes / (384 << 10), "{traffic:?}");
    assert!(traffic.together >= 3, "{traffic:?}");
    assert!(traffic.rounds <= 14, "{traffic:?}");
}

#[test]
fn a_small_memory_costs_requests_and_no_wrong_byte() {
    let place = of_many();
    let far = place.mount_with(Duration::from_millis(5), 1 << 20, MountOptions::default());
    read_many(&far);
}

#[test]
fn a_large_file_that_is_read_in_order_comes_in_several_requests_at_a_time_and_once() {
    let place = of_one();
    let far = place.mount();
    far.traffic();
    assert!(fs::read(far.path("large")).unwrap() == noise(1, LARGE_BYTES));
    let traffic = far.traffic();
    println!("{traffic:?}");
    assert!(traffic.bytes < LARGE_BYTES as u64 * 21 / 20, "{traffic:?}");
    assert!(
        traffic.requests < 20 + traffic.bytes / (384 << 10),
        "{traffic:?}"
    );
    assert!(traffic.together >= 3, "{traffic:?}");
}

/// Bytes of which an eighth cannot be compressed.
fn compressible() -> Vec<u8> {
    let mut bytes = noise(1, LARGE_BYTES);
    for block in bytes.chunks_mut(8 << 10) {
        block[1 << 10..].fill(b'a');
    }
    bytes
}

#[test]
fn what_compresses_well_comes_in_as_long_requests() {
    let place = Place::new(|source| fs::write(source.join("large"), compressible()).unwrap());
    let far = place.mount();
    far.traffic();
    assert!(fs::read(far.path("large")).unwrap() == compressible());
    let traffic = far.traffic();
    println!("{traffic:?}");
    assert!(traffic.bytes < LARGE_BYTES as u64 / 6, "{traffic:?}");
    assert!(
        traffic.requests < 12 + traffic.bytes / (256 << 10),
        "{traffic:?}"
    );
    assert!(traffic.together >= 3, "{traffic:?}");
}

#[test]
fn who_begins_a_directory_is_followed_from_its_first_file_on_and_who_reads_one_elsewhere_is_not() {
    let place = of_many();
    let far = place.mount();
    fs::metadata(far.path(&many(0))).unwrap();
    for (number, others) in [(0, true), (FILES / 2 + 5, false)] {
        far.traffic();
        assert!(fs::read(far.path(&many(number))).unwrap() == noise(number as u64, FILE_BYTES));
        thread::sleep(4 * DELAY);
        let traffic = far.traffic();
        println!("{traffic:?}");
        assert_eq!(traffic.bytes > 800 << 10, others, "{traffic:?}");
    }
}

#[test]
fn whoever_jumps_gets_what_it_asks_for_and_what_was_ahead_is_given_up() {
    const READ_BYTES: usize = 256 << 10;
    let place = of_one();
    let far = place.mount();
    let expected = noise(1, LARGE_BYTES);
    let file = File::open(far.path("large")).unwrap();
    far.traffic();
    let mut buffer = vec![0; READ_BYTES];
    for place in [0, 20, 3, 33, 11, 27, 8] {
        let offset = place << 20;
        file.read_exact_at(&mut buffer, offset as u64).unwrap();
        assert!(buffer == expected[offset..offset + READ_BYTES]);
    }
    thread::sleep(4 * DELAY);
    let traffic = far.traffic();
    println!("{traffic:?}");
    // The kernel reads ahead too: up to a mebibyte a jump.
    assert!(traffic.bytes < 10 << 20, "{traffic:?}");
}

#[test]
fn two_who_read_the_same_at_once_fetch_it_once() {
    let place = of_one();
    let far = place.mount_with(DELAY, CACHE_BYTES, MountOptions::default());
    far.traffic();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut bytes = Vec::new();
                let mut file = File::open(far.path("large")).unwrap();
                file.read_to_end(&mut bytes).unwrap();
                assert!(bytes == noise(1, LARGE_BYTES));
            });
        }
    });
    let traffic = far.traffic();
    println!("{traffic:?}");
    assert!(traffic.bytes < LARGE_BYTES as u64 * 3 / 2, "{traffic:?}");
}
