//! The figures of the table, printed: `cargo test --release --test distant -- --ignored --nocapture figures`.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::far::{BYTES_PER_SECOND, Far, Place};
use crate::random::noise;

/// Files of the tree that is copied, and bytes of each: 40 MB.
const FILES: usize = 2000;
const FILE_BYTES: usize = 20_000;

/// Bytes of the file that is read in order.
const LARGE_BYTES: usize = 300_000_000;

fn fill(source: &Path) {
    for number in 0..40 {
        let folder = source.join(format!("many/{number:02}"));
        fs::create_dir_all(&folder).unwrap();
        for file in 0..FILES / 40 {
            fs::write(
                folder.join(format!("{file:02}")),
                noise((number * FILES + file) as u64, FILE_BYTES),
            )
            .unwrap();
        }
    }
    let deep = source.join("a/b/c/d/e/f");
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("small"), noise(u64::MAX, 5000)).unwrap();
    fs::write(source.join("large"), noise(u64::MAX / 2, LARGE_BYTES)).unwrap();
}

/// One line of the table: what a step took, and what went over the line for it.
fn tell(name: &str, took: Duration, far: Option<&Far>) {
    print!("{name:<24} {:6.2} s", took.as_secs_f64());
    if let Some(traffic) = far.map(Far::traffic).filter(|traffic| traffic.requests > 0) {
        let line = traffic.bytes as f64 / BYTES_PER_SECOND as f64;
        print!(
            "  {:4} requests, {:3} rounds, {:2} together, {:6.1} MB, for which the line takes {line:.2} s",
            traffic.requests,
            traffic.rounds,
            traffic.together,
            traffic.bytes as f64 / 1e6,
        );
    }
    println!();
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Does one step on a fresh mount, cold.
fn cold(place: &Place, name: &str, work: impl FnOnce(&Far)) {
    let far = place.mount();
    far.traffic();
    let took = timed(|| work(&far));
    tell(name, took, Some(&far));
}

/// Does one step with an empty disk cache, then on a new mount with what it left, then on a local repository.
fn warm(place: &Place, name: &str, work: impl Fn(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    for again in ["cache filled", "cache"] {
        let far = place.mount_cached(folder.path());
        far.traffic();
        let took = timed(|| work(far.source()));
        tell(&format!("{name}, {again}"), took, Some(&far));
    }
    for _ in 0..3 {
        let far = place.mount_cached(folder.path());
        far.traffic();
        let took = timed(|| work(far.source()));
        tell(&format!("{name}, cache"), took, Some(&far));
        drop(far);
        let near = place.mount_near();
        let took = timed(|| work(&near.path("")));
        tell(&format!("{name}, local"), took, None);
    }
}

#[test]
#[ignore = "measures, and is worth its minute only with optimisation"]
fn figures() {
    let place = Place::new(fill);
    let start = Instant::now();
    let far = place.mount();
    tell("ready", start.elapsed(), Some(&far));
    drop(far);
    cold(&place, "ls -l", |far| list(&far.path("many/07")));
    cold(&place, "first byte, 6 deep", |far| {
        let mut byte = [0];
        let mut file = fs::File::open(far.path("a/b/c/d/e/f/small")).unwrap();
        file.read_exact(&mut byte).unwrap();
    });
    cold(&place, "find", |far| {
        let mut find = Command::new("find");
        let status = find.arg(far.source()).args(["-size", "+1G"]).status();
        assert!(status.unwrap().success());
    });
    cold(&place, "cp -a", |far| copy(far.source()));
    cold(&place, "sequential", |far| read_large(far.source()));
    warm(&place, "cp -a", copy);
    warm(&place, "sequential", read_large);
}

fn copy(source: &Path) {
    let target = tempfile::tempdir().unwrap();
    let mut command = Command::new("cp");
    let status = command
        .arg("-a")
        .arg(source.join("many"))
        .arg(target.path());
    assert!(status.status().unwrap().success());
}

fn read_large(source: &Path) {
    assert_eq!(read_all(&source.join("large")), LARGE_BYTES);
}

fn list(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        entry.unwrap().metadata().unwrap();
    }
}

fn read_all(path: &Path) -> usize {
    let mut file = fs::File::open(path).unwrap();
    let mut buffer = vec![0; 1 << 17];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return bytes,
            count => bytes += count,
        }
    }
}
