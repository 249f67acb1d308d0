//! Chunks that the kernel is given whole once a page of each was read: hardly any request for who comes back, and no
//! other bytes than the file's.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::machine::{Machine, Mount, figure};
use crate::shown::{noise, write};

const PAGE_BYTES: usize = 4096;

/// Pages of the file: it has some 40 chunks, cut anywhere.
const PAGES: usize = 1280;

/// A mount with a memory that keeps none of a chunk's neighbours, and a file of many chunks: in the source and shown.
fn shown_file(machine: &Machine) -> (Mount, PathBuf, PathBuf) {
    let source = machine.path("source");
    let path = source.join("large");
    write(&path, &noise(3, PAGES * PAGE_BYTES - 1000));
    let point = machine.back_up("--full");
    let mount = machine.mount("mnt", &["--cache-memory", "1M"]);
    let shown = mount.source(&point, &source).join("large");
    (mount, path, shown)
}

/// Reads each page once, far from the one before, and returns them in order.
fn read_all_over(shown: &PathBuf, pause: Duration) -> Vec<u8> {
    let file = File::open(shown).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
    let mut bytes = vec![0; PAGES * PAGE_BYTES - 1000];
    for step in 0..PAGES {
        let start = step * 509 % PAGES * PAGE_BYTES;
        let end = (start + PAGE_BYTES).min(bytes.len());
        file.read_exact_at(&mut bytes[start..end], start as u64)
            .unwrap();
        thread::sleep(pause);
    }
    bytes
}

#[test]
fn reading_pages_at_random_asks_for_few_of_them_and_gets_the_files_bytes() {
    let machine = Machine::new();
    let (mount, path, shown) = shown_file(&machine);
    let pause = Duration::from_micros(500);
    assert!(read_all_over(&shown, pause) == fs::read(&path).unwrap());
    // From the page cache, as it was given.
    assert!(fs::read(&shown).unwrap() == fs::read(&path).unwrap());
    let did = mount.did();
    let reads = figure(&did, "served ", "read");
    assert!(reads < PAGES as u64 / 2, "{did}");
    let log = mount.logged();
    assert!(!log.contains("error") && !log.contains("panic"), "{log}");
}
