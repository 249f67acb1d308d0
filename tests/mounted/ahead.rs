//! Small files that are put into the page cache before anyone asks: few requests, and no file's bytes but its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::machine::{Machine, figure, path_text, within};
use crate::shown::{find_in_packs, flip, noise, write};

/// Files of the directory that is read in order.
const FILES: u64 = 400;

/// Bytes of each, so that some 85 share a frame.
const FILE_BYTES: usize = 6000;

/// What a reader in a test waits between two files, so that whoever pushes is ahead of it on any machine.
const PAUSE: Duration = Duration::from_millis(2);

/// What an unmount or a signal may take to end a process that was pushing.
const SOON: Duration = Duration::from_secs(5);

/// Files of a folder by their paths, each with its bytes.
type Files = BTreeMap<PathBuf, Vec<u8>>;

fn write_many(source: &Path) {
    for number in 0..FILES {
        write(
            &source.join(format!("many/{number:03}")),
            &noise(number, FILE_BYTES),
        );
    }
}

/// A machine whose source has these files, the source, and its point.
fn machine_of_many() -> (Machine, PathBuf, String) {
    let machine = Machine::new();
    let source = machine.path("source");
    write_many(&source);
    let point = machine.back_up("--full");
    (machine, source, point)
}

/// Lists `folder` with what `stat` tells, as everybody does who then reads it: the kernel knows its files after that.
fn names(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.metadata().unwrap().is_file(), entry.path())
    });
    entries
        .filter(|(is_file, _)| *is_file)
        .map(|(_, path)| path)
        .collect()
}

/// Reads the files of `folder` in the order in which it lists them, unhurriedly.
fn read_in_order(folder: &Path) -> BTreeMap<PathBuf, io::Result<Vec<u8>>> {
    let read = |path: PathBuf| {
        thread::sleep(PAUSE);
        let bytes = fs::read(&path);
        (path.strip_prefix(folder).unwrap().to_owned(), bytes)
    };
    names(folder).into_iter().map(read).collect()
}

/// The files of a folder, all of which can be read.
fn files(folder: &Path) -> Files {
    let read = read_in_order(folder);
    read.into_iter()
        .map(|(path, bytes)| (path, bytes.unwrap()))
        .collect()
}

fn assert_same_files(what: &str, expected: &Files, actual: &Files) {
    assert!(expected.keys().eq(actual.keys()), "{what}: other names");
    for (path, bytes) in expected {
        assert!(*bytes == actual[path], "{what}: {}", path.display());
    }
}

#[test]
fn reading_many_small_files_in_order_asks_for_few_of_them() {
    let (machine, source, point) = machine_of_many();
    // Whoever pushes falls behind where other programs have the processors: then once more.
    let few = (0..5).any(|_| {
        let mount = machine.mount("mnt", &[]);
        let shown = mount.source(&point, &source).join("many");
        assert_eq!(names(&shown).len() as u64, FILES);
        let actual = files(&shown);
        assert_same_files("the point", &files(&source.join("many")), &actual);
        let did = mount.did();
        println!("{did}");
        figure(&did, "served ", "read") < FILES / 4
    });
    assert!(few, "a read for more than one in four of {FILES} files");
}

#[test]
fn what_is_pushed_is_the_files_own_whatever_its_size_links_and_points() {
    let machine = Machine::new();
    let source = machine.path("source");
    let many = source.join("many");
    write_many(&source);
    for (number, size) in [0, 1, 90, 4095, 4096, 4097, 131_071, 131_072, 131_073]
        .into_iter()
        .cycle()
        .take(90)
        .enumerate()
    {
        let bytes = noise(1000 + number as u64, size);
        write(&many.join(format!("{:03}b", number * 4)), &bytes);
    }
    for number in (0..FILES).step_by(5) {
        // Some sort behind their first name, and some before it.
        let name = format!("{number:03}");
        let (link, other) = (format!("{number:03}a"), format!("{:03}c", number / 2));
        fs::hard_link(many.join(&name), many.join(link)).unwrap();
        fs::hard_link(many.join(&name), many.join(other)).unwrap();
    }
    for number in 0..50 {
        write(&many.join(format!("{:03}e", number * 7)), &noise(1, 3000));
    }
    let mut copies = vec![(machine.back_up("--full"), files(&many))];
    for number in (0..FILES).step_by(7) {
        let path = many.join(format!("{number:03}"));
        match number % 3 {
            0 => write(&path, &noise(5000 + number, FILE_BYTES + number as usize)),
            1 => fs::remove_file(&path).unwrap(),
            _ => fs::rename(&path, many.join(format!("{number:03}r"))).unwrap(),
        }
    }
    for kind in ["--incremental", "--full"] {
        copies.push((machine.back_up(kind), files(&many)));
    }
    let all = machine.mount("all", &[]);
    let one = machine.mount("one", &["--point", &copies[1].0, "--owner", "12:34"]);
    for (point, copy) in copies.iter().rev().chain(&copies) {
        assert_same_files(point, copy, &files(&all.source(point, &many)));
    }
    let shown = one.path(many.strip_prefix("/").unwrap());
    assert_same_files("the one", &copies[1].1, &files(&shown));
    for log in [all.logged(), one.logged()] {
        assert!(!log.contains("error") && !log.contains("panic"), "{log}");
    }
}

#[test]
fn a_damaged_frame_is_eio_for_its_files_and_its_neighbours_are_right() {
    let (machine, source, point) = machine_of_many();
    let bad = FILES / 2;
    let (pack, offset) = find_in_packs(&machine, &noise(bad, FILE_BYTES)[3000..3064]);
    flip(&pack, offset);
    let mount = machine.mount("mnt", &[]);
    let shown = mount.source(&point, &source).join("many");
    // Twice: what was pushed, or was not, the first time.
    for _ in 0..2 {
        let actual = read_in_order(&shown);
        let mut lost = Vec::new();
        for number in 0..FILES {
            let path = PathBuf::from(format!("{number:03}"));
            match &actual[&path] {
                Ok(bytes) => assert!(*bytes == noise(number, FILE_BYTES), "{number}"),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::EIO), "{number}: {error}");
                    lost.push(number);
                }
            }
        }
        assert!(lost.contains(&bad), "{lost:?}");
        let frame_files = (512 << 10) / FILE_BYTES as u64 + 1;
        let span = lost[lost.len() - 1] - lost[0] + 1;
        assert!(span == lost.len() as u64 && span <= frame_files, "{lost:?}");
    }
}

/// Several programs that read all of `folder` again and again, in order, until they fail or are told to end.
fn readers(folder: &Path) -> Vec<Child> {
    let read = || {
        Command::new("sh")
            .args(["-c", "while cat \"$0\"/*; do :; done", path_text(folder)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    (0..3).map(|_| read()).collect()
}

#[test]
fn unmounting_right_after_much_was_read_in_order_returns_and_ends_the_process() {
    let (machine, source, point) = machine_of_many();
    for round in 0..10 {
        let mount = machine.mount("mnt", &[]);
        let folder = mount.source(&point, &source).join("many");
        for path in names(&folder).iter().skip(round) {
            let mut byte = [0];
            File::open(path).unwrap().read_exact(&mut byte).unwrap();
        }
        let start = Instant::now();
        machine.done(&["umount", path_text(&mount.place)]);
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        assert!(mount.is_gone() && !mount.is_listed());
    }
}

#[test]
fn a_signal_while_many_read_in_order_ends_the_process() {
    let (machine, source, point) = machine_of_many();
    for round in 0..10 {
        let mount = machine.mount("mnt", &[]);
        let folder = mount.source(&point, &source).join("many");
        let mut readers = readers(&folder);
        let stays = AtomicBool::new(false);
        thread::scope(|scope| {
            // What is in the page cache already would be asked for no more.
            scope.spawn(|| {
                while !stays.load(Ordering::Relaxed) {
                    drop_pages(&folder);
                }
            });
            thread::sleep(Duration::from_millis(200 + 13 * round));
            mount.signal(Signal::TERM);
            let gone = within(SOON, || mount.is_gone());
            stays.store(true, Ordering::Relaxed);
            assert!(gone, "round {round}");
        });
        for reader in &mut readers {
            let _ended = reader.kill();
            reader.wait().unwrap();
        }
    }
}

/// Delays a system call of these threads, by tracing them; returns once it does.
fn delay(machine: &Machine, threads: &[String], call: &str, time: Duration) -> Child {
    let mut command = Command::new("strace");
    let log = machine.path(format!("strace.{call}"));
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:delay_enter={}", time.as_micros());
    command.args(["-o", path_text(&log), "-e", &trace, "-e", &inject]);
    for thread in threads {
        command.args(["-p", thread]);
    }
    let mut tracer = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(tracer.stderr.as_mut().unwrap());
    for _ in threads {
        let mut line = String::new();
        told.read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "{line}");
    }
    tracer
}

#[test]
fn a_signal_ends_the_process_though_a_push_waits_for_a_read_that_takes_its_time() {
    let (machine, source, point) = machine_of_many();
    let mount = machine.mount("mnt", &[]);
    let folder = mount.source(&point, &source).join("many");
    let names = names(&folder);
    fs::read(&names[0]).unwrap();
    // The first push is of the file of number 2, the second one, of number 3, comes when its read is under way.
    let mut pushing = delay(
        &machine,
        &mount.threads("bygone-ahead"),
        "writev",
        Duration::from_secs(1),
    );
    fs::read(&names[1]).unwrap();
    let serving = mount.threads("fuser-");
    let mut reading = delay(&machine, &serving, "pread64", Duration::from_secs(60));
    let far = (0..serving.len()).map(|number| &names[names.len() - 1 - number * 100]);
    let mut readers: Vec<Child> = far
        .chain([&names[3]])
        .map(|path| {
            thread::sleep(Duration::from_millis(100));
            Command::new("cat")
                .arg(path)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    thread::sleep(Duration::from_millis(2500));
    mount.signal(Signal::TERM);
    let is_gone = within(SOON, || mount.is_gone());
    for child in readers.iter_mut().chain([&mut pushing, &mut reading]) {
        let _ended = child.kill();
        child.wait().unwrap();
    }
    assert!(is_gone);
}

/// Takes the files of `folder` out of the page cache, those that can be opened.
fn drop_pages(folder: &Path) {
    for number in 0..FILES {
        if let Ok(file) = File::open(folder.join(format!("{number:03}"))) {
            let _best_effort = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        }
    }
}
