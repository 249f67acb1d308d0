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

fn step(name: &str, far: &Far, work: impl FnOnce()) {
    far.traffic();
    let start = Instant::now();
    work();
    tell(name, start.elapsed(), far);
}

fn tell(name: &str, took: Duration, far: &Far) {
    let traffic = far.traffic();
    let line = traffic.bytes as f64 / BYTES_PER_SECOND as f64;
    println!(
        "{name:<20} {:6.2} s, {:8.2} of the line's time; {} requests, {} rounds, {} together, {:.1} MB",
        took.as_secs_f64(),
        took.as_secs_f64() / line,
        traffic.requests,
        traffic.rounds,
        traffic.together,
        traffic.bytes as f64 / 1e6,
    );
}

#[test]
#[ignore = "measures, and is worth its minute only with optimisation"]
fn figures() {
    let place = Place::new(fill);
    let start = Instant::now();
    let far = place.mount();
    tell("ready", start.elapsed(), &far);
    step("ls -l", &far, || {
        list(&far.path("many/07"));
    });
    drop(far);
    let far = place.mount();
    step("first byte, 6 deep", &far, || {
        let mut byte = [0];
        let mut file = fs::File::open(far.path("a/b/c/d/e/f/small")).unwrap();
        file.read_exact(&mut byte).unwrap();
    });
    drop(far);
    let far = place.mount();
    let target = tempfile::tempdir().unwrap();
    step("cp -a", &far, || {
        let status = Command::new("cp")
            .arg("-a")
            .arg(far.path("many"))
            .arg(target.path())
            .status();
        assert!(status.unwrap().success());
    });
    drop(far);
    let far = place.mount();
    step("sequential", &far, || {
        assert_eq!(read_all(&far.path("large")), LARGE_BYTES);
    });
    drop(far);
    let far = place.mount();
    step("find", &far, || {
        let status = Command::new("find")
            .arg(far.source())
            .arg("-size")
            .arg("+1G")
            .status();
        assert!(status.unwrap().success());
    });
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
