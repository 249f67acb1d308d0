//! A store that does not answer: it is in a mount of its own, whose process is stopped.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use rustix::process::Signal;

use crate::HANGS;
use crate::encryption;
use crate::files::forget_pages;
use crate::machine::{Machine, Mount, figure, path_text, within};
use crate::random::Random;

const READERS: usize = 64;

/// Bytes of each file that a reader hangs on: more than a frame.
const COLD_BYTES: usize = 700_000;

/// A mount whose process goes on when this is dropped, however the test went: else nothing that waits would ever end.
struct Stopped<'a>(&'a Mount);

impl<'a> Stopped<'a> {
    fn stop(mount: &'a Mount) -> Self {
        mount.signal(Signal::STOP);
        Self(mount)
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.signal(Signal::CONT);
    }
}

/// A mount of `source`, from a repository that lies in another mount, which is the first of the two.
fn mounted_twice(machine: &Machine) -> (Mount, Mount) {
    machine.back_up("--full");
    let inner = machine.path("repository");
    let outer = machine.path("outer");
    let outer = ["-r", path_text(&outer)];
    machine.done(&[&outer, encryption::init_arguments()].concat());
    machine.done(&[outer[0], outer[1], "backup", path_text(&inner)]);
    let store = machine.mount("store", &[outer[0], outer[1], "--point", "latest"]);
    let repository = store.path(inner.strip_prefix("/").unwrap());
    let arguments = ["-r", path_text(&repository), "--point", "latest"];
    let mount = machine.mount("mnt", &arguments);
    (store, mount)
}

/// Compares a file with its source, in a process of its own.
fn compare(shown: &Path, source: &Path) -> Child {
    Command::new("cmp")
        .args(["-s", path_text(shown), path_text(source)])
        .stdin(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("this test needs cmp: {error}"))
}

/// What is in the mount's memory and the kernel must ask it for: content, listings, attributes, names that are not there.
fn use_cached(shown: &Path, warm: &[u8], directories: std::ops::Range<usize>) {
    for _ in 0..20 {
        let file = File::open(shown.join("warm")).unwrap();
        forget_pages(&file).unwrap();
        assert!(fs::read(shown.join("warm")).unwrap() == warm);
    }
    for number in directories {
        let folder = shown.join(format!("folder-{number:03}"));
        let names: Vec<PathBuf> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(names.len(), 10);
        for name in &names {
            assert_eq!(fs::symlink_metadata(name).unwrap().size(), 7);
            assert_eq!(xattr::list(name).unwrap().count(), 0);
        }
        assert!(fs::symlink_metadata(folder.join("none")).is_err());
    }
}

#[test]
fn sixty_four_readers_hang_on_the_store_and_what_is_in_memory_is_served() {
    let machine = Machine::new();
    let source = machine.path("source");
    let mut random = Random::new(64);
    for number in 0..READERS + 2 {
        let path = source.join(format!("cold-{number:02}"));
        fs::write(path, random.bytes(COLD_BYTES)).unwrap();
    }
    for number in 0..100 {
        let folder = source.join(format!("folder-{number:03}"));
        fs::create_dir(&folder).unwrap();
        for name in 0..10 {
            fs::write(folder.join(name.to_string()), "a file\n").unwrap();
        }
    }
    let warm = random.bytes(100_000);
    fs::write(source.join("warm"), &warm).unwrap();
    let (store, mount) = mounted_twice(&machine);
    let shown = mount.path(source.strip_prefix("/").unwrap());
    assert_eq!(fs::read_dir(&shown).unwrap().count(), READERS + 2 + 101);
    let start = Instant::now();
    use_cached(&shown, &warm, 0..50);
    let as_ever = start.elapsed();

    let stopped = Stopped::stop(&store);
    let before = figure(&mount.did(), "served ", "read");
    let name = |number: usize| format!("cold-{number:02}");
    let mut readers: Vec<Child> = (0..READERS)
        .map(|number| compare(&shown.join(name(number)), &source.join(name(number))))
        .collect();
    let hang = within(HANGS, || {
        figure(&mount.did(), "served ", "read") >= before + READERS as u64
    });
    assert!(hang, "{}", mount.did());
    let (done, ended) = bounded(0);
    let folder = shown.clone();
    thread::spawn(move || {
        let start = Instant::now();
        use_cached(&folder, &warm, 50..100);
        // The test has failed if nobody listens.
        let _late = done.send(start.elapsed());
    });
    let meanwhile = ended
        .recv_timeout(HANGS)
        .expect("what is in memory is served");
    println!("{as_ever:?} as ever, {meanwhile:?} while {READERS} readers hang");
    for reader in &mut readers {
        assert!(reader.try_wait().unwrap().is_none(), "the store hangs");
    }
    // Who is killed ends at once, and those that wait with him read on.
    for number in [READERS, READERS + 1] {
        let mut reader = compare(&shown.join(name(number)), &source.join(name(number)));
        thread::sleep(Duration::from_millis(100));
        reader.kill().unwrap();
        assert!(within_child(&mut reader), "a killed reader ends");
    }
    drop(stopped);
    for reader in &mut readers {
        assert!(reader.wait().unwrap().success());
    }
    assert!(!mount.logged().contains("error"), "{}", mount.logged());
    machine.done(&["umount", path_text(&mount.place)]);
    assert!(mount.is_gone());
}

/// Does a process end?
fn within_child(child: &mut Child) -> bool {
    let start = Instant::now();
    while start.elapsed() < HANGS {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}
