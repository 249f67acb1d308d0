//! Mounts under limits of the system: few descriptors, little memory.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use crate::files::Files;
use crate::machine::{Machine, figure, path_text};
use crate::random::Random;
use crate::{is_whole, memory};

/// Puts what `command` starts under a limit of setrlimit(2).
fn set_limit(command: &mut Command, resource: libc::__rlimit_resource_t, most: u64) {
    let limit = libc::rlimit {
        rlim_cur: most,
        rlim_max: most,
    };
    // SAFETY: between fork and exec it makes one system call, with what it has on its own stack.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(resource, &limit) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
}

#[test]
fn sixty_four_descriptors_are_enough_for_many_readers_of_many_packs() {
    let machine = Machine::new();
    let source = machine.path("source");
    // Each of a set of its own, and so of a run and a pack of its own.
    let sets: Vec<(PathBuf, Files)> = (0..40)
        .map(|number| {
            let folder = source.join(number.to_string());
            let files = Files::write(&folder, (400 << 10) + number);
            let set = number.to_string();
            machine.done(&["backup", "--set", &set, path_text(&folder)]);
            (folder, files)
        })
        .collect();
    let mount = machine.mount_under("mnt", &["--cache-memory", "1M"], |command| {
        set_limit(command, libc::RLIMIT_NOFILE, 64);
    });
    let points: Vec<PathBuf> = fs::read_dir(mount.path("points"))
        .unwrap()
        .map(|point| point.unwrap().path())
        .collect();
    assert_eq!(points.len(), sets.len());
    let show = |folder: &Path| {
        let inside = folder.strip_prefix("/").unwrap();
        let shown = points.iter().map(|point| point.join(inside));
        shown.into_iter().find(|shown| shown.is_dir()).unwrap()
    };
    let sets: Vec<(PathBuf, Files)> = sets
        .into_iter()
        .map(|(folder, files)| (show(&folder), files))
        .collect();
    thread::scope(|scope| {
        for reader in 0..32 {
            let sets = &sets;
            scope.spawn(move || {
                let mut random = Random::new(reader);
                for _ in 0..if is_whole() { 10_000 } else { 200 } {
                    let (shown, files) = random.pick(sets);
                    files.check_any(shown, &mut random).unwrap();
                }
            });
        }
    });
    for (shown, files) in &sets {
        files.check_all(shown, 0).unwrap();
    }
    assert!(!mount.logged().contains("error"), "{}", mount.logged());
}

/// The memory that the mount below may have.
const MEMORY_BYTES: u64 = 256 << 20;

/// A group of processes whose memory is limited; taken away when dropped.
struct Group(PathBuf);

impl Group {
    /// None where this system, or this container, lets no such group be made.
    fn limited(bytes: u64) -> Option<Self> {
        let name = format!("bygone-test-{}", std::process::id());
        let attempts = [
            (Path::new("/sys/fs/cgroup"), "memory.max"),
            (Path::new("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        ];
        attempts.iter().find_map(|(parent, limit)| {
            let group = Self(parent.join(&name));
            fs::create_dir(&group.0).ok()?;
            // In what is no file system of groups nothing is written, and the folder goes again.
            let is_group = group.0.join("cgroup.procs").exists() && group.0.join(limit).exists();
            (is_group && fs::write(group.0.join(limit), bytes.to_string()).is_ok()).then_some(group)
        })
    }

    fn take_in(&self, command: &mut Command) {
        let list = fs::OpenOptions::new()
            .write(true)
            .open(self.0.join("cgroup.procs"))
            .unwrap();
        // SAFETY: between fork and exec it makes one system call, on a descriptor that it owns.
        unsafe {
            command.pre_exec(move || Ok(rustix::io::write(&list, b"0").map(drop)?));
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It has no process once the mount has ended, and may not be there at all.
        let _gone = fs::remove_dir(&self.0);
    }
}

/// What is in a file: too long to stand in its entry.
fn content(number: usize) -> Vec<u8> {
    let line = format!("the file of number {number}\n");
    line.repeat(8 + number % 40).into_bytes()
}

#[test]
fn two_hundred_and_fifty_six_mebibytes_are_enough_for_a_point_of_many_files() {
    let count = if is_whole() { 1_000_000 } else { 12_000 };
    let machine = Machine::new();
    let source = machine.path("source");
    let path = |root: &Path, number: usize| root.join(format!("{}/{number}", number / 500));
    for number in 0..count {
        if number % 500 == 0 {
            fs::create_dir(source.join((number / 500).to_string())).unwrap();
        }
        fs::write(path(&source, number), content(number)).unwrap();
    }
    machine.back_up("--full");
    let group = Group::limited(MEMORY_BYTES);
    let mount = machine.mount_under("mnt", &["--point", "latest"], |command| match &group {
        Some(group) => {
            println!("the limit is that of {}", group.0.display());
            group.take_in(command);
        }
        None => {
            println!("no group of processes can be limited here: RLIMIT_DATA limits the mount");
            set_limit(command, libc::RLIMIT_DATA, MEMORY_BYTES);
        }
    });
    let shown = mount.path(source.strip_prefix("/").unwrap());
    let mut seen = 0;
    for folder in fs::read_dir(&shown).unwrap() {
        for entry in fs::read_dir(folder.unwrap().path()).unwrap() {
            assert!(entry.unwrap().metadata().unwrap().is_file());
            seen += 1;
        }
    }
    assert_eq!(seen, count);
    thread::scope(|scope| {
        for reader in 0..8 {
            let shown = &shown;
            scope.spawn(move || {
                let mut random = Random::new(reader as u64);
                for step in 0..count / 8 {
                    let number = match reader % 2 {
                        0 => reader * count / 8 + step,
                        _ => random.below(count),
                    };
                    let bytes = fs::read(path(shown, number)).unwrap();
                    assert!(bytes == content(number), "{number}");
                }
            });
        }
    });
    let did = mount.did();
    println!("{did}\nmemory at most {} bytes", memory(&mount, "VmHWM"));
    let (peak, limit) = (
        figure(&did, "cache ", "peak"),
        figure(&did, "cache ", "limit"),
    );
    assert!(limit == 64 << 20 && peak <= limit, "{did}");
    assert!(!mount.logged().contains("error"), "{}", mount.logged());
    machine.done(&["umount", path_text(&mount.place)]);
    assert!(mount.is_gone());
}
