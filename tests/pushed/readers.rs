//! Many readers at once, with a cache that is far too small.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::files::Files;
use crate::machine::{Machine, Mount, figure, path_text, within};
use crate::random::Random;
use crate::{HANGS, descriptors, is_whole, memory};

const READERS: usize = 32;

/// After this long a mount takes as much memory as it ever will.
const GROWN_AFTER: Duration = Duration::from_secs(120);

/// A reader: one in two reads all files in order, the others here and there.
fn read(files: &Files, shown: &Path, number: usize, ends: &AtomicBool) -> std::io::Result<()> {
    let mut random = Random::new(number as u64);
    while !ends.load(Ordering::Relaxed) {
        match number % 2 {
            0 => files.check_all(shown, random.below(1000))?,
            _ => files.check_any(shown, &mut random)?,
        }
    }
    Ok(())
}

/// The most memory that the mount took in the first minutes, and in the last one.
fn watch(mount: &Mount, time: Duration) -> (u64, u64) {
    let start = Instant::now();
    let (mut first, mut last) = (0, VecDeque::new());
    while start.elapsed() < time {
        thread::sleep(Duration::from_millis(500));
        let bytes = memory(mount, "VmRSS");
        if start.elapsed() < GROWN_AFTER {
            first = first.max(bytes);
        } else {
            last.push_back(bytes);
            last.truncate(120);
        }
    }
    (first, last.into_iter().max().unwrap_or(0))
}

#[test]
fn thirty_two_readers_and_a_tenth_of_the_data_in_the_cache() {
    let (bytes, time) = match is_whole() {
        true => (400 << 20, Duration::from_secs(600)),
        false => (60 << 20, Duration::from_secs(12)),
    };
    let machine = Machine::new();
    let source = machine.path("source");
    let files = Files::write(&source, bytes);
    machine.back_up("--full");
    let limit = bytes as u64 / 10;
    let arguments = ["--point", "latest", "--cache-memory", &limit.to_string()];
    let mount = machine.mount("mnt", &arguments);
    let shown = mount.path(source.strip_prefix("/").unwrap());
    // From here on all that it keeps open is open.
    files.check_all(&shown, 0).unwrap();
    let before = descriptors(&mount);
    let ends = AtomicBool::new(false);
    let (first, last) = thread::scope(|scope| {
        let (files, shown, ends) = (&files, &shown, &ends);
        let readers: Vec<_> = (0..READERS)
            .map(|number| scope.spawn(move || read(files, shown, number, ends)))
            .collect();
        let watched = watch(&mount, time);
        ends.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap().unwrap();
        }
        watched
    });
    assert!(
        within(HANGS, || descriptors(&mount) <= before),
        "{} descriptors, {before} before",
        descriptors(&mount)
    );
    let did = mount.did();
    println!("{did}\nmemory at most {first}, later {last}");
    assert!(last <= first + first / 20, "{first} bytes became {last}");
    assert_eq!(figure(&did, "cache ", "limit"), limit);
    let peak = figure(&did, "cache ", "peak");
    assert!(peak > limit / 2 && peak <= limit, "{did}");
    assert!(figure(&did, "frames ", "opened") > 200, "{did}");
    machine.done(&["umount", path_text(&mount.place)]);
    assert!(within(HANGS, || mount.is_gone()));
    assert!(!mount.logged().contains("error"), "{}", mount.logged());
}

#[test]
fn a_mount_that_is_taken_away_ends_all_who_read() {
    let machine = Machine::new();
    let source = machine.path("source");
    let files = Files::write(&source, 8 << 20);
    machine.back_up("--full");
    let mount = machine.mount("mnt", &["--point", "latest", "--cache-memory", "1M"]);
    let shown = mount.path(source.strip_prefix("/").unwrap());
    thread::scope(|scope| {
        let (files, shown) = (&files, &shown);
        let readers: Vec<_> = (0..READERS)
            .map(|number| scope.spawn(move || read(files, shown, number, &AtomicBool::new(false))))
            .collect();
        thread::sleep(Duration::from_millis(500));
        mount.signal(Signal::TERM);
        for reader in readers {
            reader.join().unwrap().unwrap_err();
        }
    });
    assert!(within(HANGS, || mount.is_gone()));
}
