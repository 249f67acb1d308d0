//! Sudden ends: of readers, of system calls, and of the mount's process.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use rustix::process::{Pid, Signal, kill_process};

use crate::files::{Files, forget_pages};
use crate::machine::{Machine, Mount, path_text, within};
use crate::{HANGS, descriptors, is_whole};

/// A mount with a small cache, of a source of some megabytes.
fn mounted(machine: &Machine, bytes: usize) -> (Files, Mount) {
    let files = Files::write(&machine.path("source"), bytes);
    machine.back_up("--full");
    let arguments = ["--point", "latest", "--cache-memory", "1M"];
    let mount = machine.mount("mnt", &arguments);
    (files, mount)
}

/// Where the mount shows the source.
fn shown(machine: &Machine, mount: &Mount) -> std::path::PathBuf {
    mount.path(machine.path("source").strip_prefix("/").unwrap())
}

#[test]
fn readers_that_are_killed_in_mid_read_leave_nothing_behind() {
    let machine = Machine::new();
    let (files, mount) = mounted(&machine, 8 << 20);
    let shown = shown(&machine, &mount);
    files.check_all(&shown, 0).unwrap();
    let before = descriptors(&mount);
    let rounds = if is_whole() { 1000 } else { 60 };
    for round in 0..rounds {
        let line = "while :; do cat \"$0\"/*/* | md5sum; done";
        let mut reader = Command::new("sh")
            .args(["-c", line, path_text(&shown)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let longest = File::open(shown.join(files.longest())).unwrap();
        forget_pages(&longest).unwrap();
        let mut other = Command::new("cat")
            .arg(shown.join(files.longest()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_micros(331 * (round % 60)));
        for child in [&mut other, &mut reader] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
    files.check_all(&shown, 0).unwrap();
    // The shells' children end when nobody takes what they print.
    assert!(within(HANGS, || descriptors(&mount) <= before));
    assert!(!mount.logged().contains("error"), "{}", mount.logged());
}

/// Interrupts nothing by itself: that it is called interrupts.
extern "C" fn notice(_signal: libc::c_int) {}

/// Has SIGUSR2 interrupt whatever system call a thread is in, and not have it begun anew.
fn let_usr2_interrupt() {
    // SAFETY: the action is filled in whole, and what it calls does nothing at all.
    let status = unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = notice as *const () as usize;
        libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut())
    };
    assert_eq!(status, 0, "{}", io::Error::last_os_error());
}

/// Calls that POSIX allows to be interrupted are made again; how often is counted.
fn again<T>(interrupted: &AtomicU64, mut call: impl FnMut() -> io::Result<T>) -> T {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                interrupted.fetch_add(1, Ordering::Relaxed);
            }
            result => return result.unwrap(),
        }
    }
}

/// Reads a tree, by calls that may be interrupted (open, read) and by those that may not.
fn read_under_signals(source: &Path, shown: &Path, interrupted: &AtomicU64) {
    for entry in fs::read_dir(shown).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (source.join(entry.file_name()), entry.path());
        let metadata = fs::symlink_metadata(&to).unwrap();
        assert_eq!(xattr::list(&to).unwrap().count(), 0);
        if metadata.is_dir() {
            read_under_signals(&from, &to, interrupted);
            continue;
        }
        let expected = fs::read(from).unwrap();
        let file = again(interrupted, || File::open(&to));
        let mut actual = vec![0; expected.len()];
        let mut length = 0;
        while length < actual.len() {
            let more = again(interrupted, || {
                file.read_at(&mut actual[length..], length as u64)
            });
            assert_ne!(more, 0, "{} ends at {length}", to.display());
            length += more;
        }
        assert!(actual == expected, "{}", to.display());
        forget_pages(&file).unwrap();
    }
}

#[test]
fn a_storm_of_signals_interrupts_only_what_may_be_interrupted() {
    let machine = Machine::new();
    let (_, mount) = mounted(&machine, 12 << 20);
    let (source, shown) = (machine.path("source"), shown(&machine, &mount));
    let_usr2_interrupt();
    let interrupted = AtomicU64::new(0);
    let mut signals = 0_u64;
    let rounds = if is_whole() { 100 } else { 2 };
    for _ in 0..rounds {
        let is_done = AtomicBool::new(false);
        let (sender, receiver) = bounded(1);
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                // SAFETY: it only says which thread this is.
                sender.send(unsafe { libc::pthread_self() }).unwrap();
                struct Done<'a>(&'a AtomicBool);
                impl Drop for Done<'_> {
                    fn drop(&mut self) {
                        self.0.store(true, Ordering::Relaxed);
                    }
                }
                let _done = Done(&is_done);
                read_under_signals(&source, &shown, &interrupted);
            });
            let thread = receiver.recv().unwrap();
            while !is_done.load(Ordering::Relaxed) {
                // SAFETY: the thread is joined below, so that its handle is valid even if it has ended.
                unsafe { libc::pthread_kill(thread, libc::SIGUSR2) };
                signals += 1;
                thread::sleep(Duration::from_micros(30));
            }
            reader.join().unwrap();
        });
    }
    let interrupted = interrupted.into_inner();
    println!("{signals} signals, {interrupted} calls to make again");
    assert!(signals > 100);
    assert!(!mount.logged().contains("error"), "{}", mount.logged());
}

/// Reads a file until it fails, from its descriptor; returns the errno.
fn read_until_it_fails(file: &File) -> i32 {
    let mut piece = vec![0; 100_000];
    loop {
        let mut offset = 0;
        loop {
            match file.read_at(&mut piece, offset) {
                Ok(0) => break,
                Ok(length) => offset += length as u64,
                Err(error) => return error.raw_os_error().unwrap(),
            }
        }
        let _best_effort = forget_pages(file);
    }
}

#[test]
fn readers_of_a_mount_that_is_killed_get_enotconn_and_the_next_mount_takes_its_place() {
    let machine = Machine::new();
    let (files, mut mount) = mounted(&machine, 8 << 20);
    for round in 0..if is_whole() { 100 } else { 5 } {
        let longest = shown(&machine, &mount).join(files.longest());
        thread::scope(|scope| {
            let readers: Vec<_> = (0..8)
                .map(|_| {
                    let longest = &longest;
                    scope.spawn(move || {
                        let file = File::open(longest).unwrap();
                        let first = read_until_it_fails(&file);
                        (first, file)
                    })
                })
                .collect();
            thread::sleep(Duration::from_millis(50 + round));
            mount.signal(Signal::KILL);
            for reader in readers {
                let (first, file) = reader.join().unwrap();
                // What waited for an answer was aborted; whatever is asked from then on is not connected.
                let allowed = [libc::ENOTCONN, libc::ECONNABORTED, libc::EIO];
                assert!(allowed.contains(&first), "errno {first}");
                let later = read_until_it_fails(&file);
                assert_eq!(later, libc::ENOTCONN);
            }
        });
        let start = Instant::now();
        while !mount.is_gone() {
            assert!(start.elapsed() < HANGS, "a killed process ends");
            thread::sleep(Duration::from_millis(10));
        }
        let error = rustix::fs::statfs(&mount.place).unwrap_err();
        assert_eq!(error.raw_os_error(), libc::ENOTCONN);
        let next = machine.mount("mnt", &["--point", "latest", "--cache-memory", "1M"]);
        // The one that died has nothing to take away any more.
        std::mem::forget(std::mem::replace(&mut mount, next));
        files.check_all(&shown(&machine, &mount), 0).unwrap();
    }
}

/// The processes named as a mount's watcher is that `process` started, or that whoever adopted them has by now.
fn watchers(of: Option<Pid>) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap());
    processes
        .filter(|process| {
            let status = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
            // PROCESS (NAME) STATE PARENT
            let Some((_, rest)) = status.split_once(" (mount-watch) ") else {
                return false;
            };
            let parent = rest.split(' ').nth(1).unwrap();
            of.is_none_or(|of| parent == of.as_raw_nonzero().to_string())
        })
        .map(|process| process.file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_watcher_outlives_every_signal_and_ends_with_its_mount() {
    let machine = Machine::new();
    let (files, mount) = mounted(&machine, 1 << 20);
    let one = watchers(Some(mount.process));
    assert_eq!(one.len(), 1, "{one:?}");
    let watcher = Pid::from_raw(one[0].parse().unwrap()).unwrap();
    // Of those that come from elsewhere, the one that means death is not believed either.
    for signal in [
        Signal::TERM,
        Signal::INT,
        Signal::HUP,
        Signal::USR1,
        Signal::USR2,
    ] {
        kill_process(watcher, signal).unwrap();
    }
    assert_eq!(watchers(Some(mount.process)), one);
    // It holds nothing of the mount's, nor of the terminal's.
    let held: BTreeSet<_> = fs::read_dir(format!("/proc/{}/fd", one[0]))
        .unwrap()
        .map(|entry| fs::read_link(entry.unwrap().path()).unwrap())
        .map(|target| target.display().to_string())
        .map(|target| target.split(':').next().unwrap().to_owned())
        .collect();
    assert!(
        held.iter()
            .all(|held| held == "/dev/null" || held == "socket" || held.ends_with("/abort")),
        "{held:?}"
    );
    files.check_all(&shown(&machine, &mount), 0).unwrap();
    machine.done(&["umount", path_text(&mount.place)]);
    let is_gone = || !watchers(None).contains(&one[0]);
    assert!(within(HANGS, is_gone));

    let other = machine.mount("other", &["--point", "latest"]);
    let one = watchers(Some(other.process));
    other.signal(Signal::TERM);
    assert!(within(HANGS, || other.is_gone()
        && one.iter().all(|one| !watchers(None).contains(one))));
}

#[test]
fn a_mount_that_fails_leaves_no_watcher() {
    let machine = Machine::new();
    let before = watchers(None);
    let place = machine.folder("mnt");
    machine.refused(2, &["mount", "--point", "latest", path_text(&place)]);
    // Those of other tests come and go.
    let is_orphan = |watcher: &String| {
        let status = fs::read_to_string(format!("/proc/{watcher}/stat")).unwrap_or_default();
        status.contains(") S 1 ") && !before.contains(watcher)
    };
    assert!(within(HANGS, || !watchers(None).iter().any(is_orphan)));
}
