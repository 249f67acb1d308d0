//! Where a mount's threads serve: beside a reader that asks without pause, and wherever they may at all other times.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::machine::{Machine, Mount, within};
use crate::shown::write;

/// What a burst may take to be noticed, and its end, on a machine that does much else.
const SOON: Duration = Duration::from_secs(60);

/// SCHED_OTHER, SCHED_BATCH and SCHED_IDLE of <linux/sched.h>.
const USUAL: &str = "0";
const BATCH: &str = "3";
const IDLE: &str = "5";

/// The policy of each serving thread, and the processors it may run on.
fn standing(mount: &Mount) -> Vec<(String, String)> {
    let process = mount.process.as_raw_nonzero();
    let of_thread = |thread: &String| {
        let folder = format!("/proc/{process}/task/{thread}");
        let stat = fs::read_to_string(format!("{folder}/stat")).unwrap();
        let fields = stat.rsplit_once(')').unwrap().1;
        // Field 41 of proc(5); these begin with the third.
        let policy = fields.split_whitespace().nth(41 - 3).unwrap();
        let status = fs::read_to_string(format!("{folder}/status")).unwrap();
        let mut lines = status.lines();
        let allowed = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        (policy.to_owned(), allowed.unwrap().trim().to_owned())
    };
    mount.threads("fuser-").iter().map(of_thread).collect()
}

/// Do they come near within `limit`? On a busy machine it lasts no longer than a few milliseconds at a time.
fn comes_near(mount: &Mount, limit: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < limit {
        let is_near = |(policy, allowed): &(String, String)| {
            policy == IDLE && allowed.parse::<usize>().is_ok()
        };
        if standing(mount).iter().any(is_near) {
            return true;
        }
        thread::sleep(Duration::from_millis(1));
    }
    false
}

/// Asks one small thing.
fn ask(path: &Path) {
    assert!(xattr::list(path).unwrap().next().is_none());
}

fn machine_with_file() -> (Machine, Mount) {
    let machine = Machine::new();
    write(&machine.path("source").join("file"), b"text");
    machine.back_up("--full");
    let mount = machine.mount("mnt", &["--point", "latest"]);
    (machine, mount)
}

fn shown(machine: &Machine, mount: &Mount) -> PathBuf {
    let file = machine.path("source/file");
    mount.path(file.strip_prefix("/").unwrap())
}

#[test]
fn serving_threads_come_to_a_reader_that_asks_without_pause_and_leave_again() {
    let (machine, mount) = machine_with_file();
    let file = shown(&machine, &mount);
    ask(&file);
    let usual = standing(&mount);
    assert!(usual.iter().all(|(policy, _)| policy == USUAL), "{usual:?}");
    let can_come = thread::available_parallelism().unwrap().get() > 1;
    let asks = AtomicBool::new(true);
    let came = thread::scope(|scope| {
        scope.spawn(|| {
            while asks.load(Ordering::Relaxed) {
                ask(&file);
            }
        });
        let limit = if can_come {
            SOON
        } else {
            Duration::from_secs(1)
        };
        let came = comes_near(&mount, limit);
        asks.store(false, Ordering::Relaxed);
        came
    });
    assert_eq!(came, can_come, "with one processor they have nowhere to go");
    assert!(
        within(SOON, || standing(&mount) == usual),
        "{:?}",
        standing(&mount)
    );
    ask(&file);
}

#[test]
fn a_mount_that_was_given_a_policy_keeps_it() {
    let machine = Machine::new();
    write(&machine.path("source").join("file"), b"text");
    machine.back_up("--full");
    // What this thread starts takes its policy over.
    let this = rustix::thread::gettid().as_raw_nonzero().to_string();
    let given = Command::new("chrt")
        .args(["--batch", "--pid", "0", &this])
        .status();
    assert!(given.unwrap().success(), "chrt of util-linux is needed");
    let mount = machine.mount("mnt", &["--point", "latest"]);
    let file = shown(&machine, &mount);
    ask(&file);
    let given = standing(&mount);
    assert!(given.iter().all(|(policy, _)| policy == BATCH), "{given:?}");
    // Far more than bring the threads of others near and, when they end, away again.
    for _ in 0..20 {
        for _ in 0..1000 {
            ask(&file);
        }
        assert_eq!(standing(&mount), given);
    }
    thread::sleep(Duration::from_millis(100));
    assert_eq!(standing(&mount), given);
}

#[test]
fn a_reader_is_served_though_others_keep_every_processor_busy() {
    let (machine, mount) = machine_with_file();
    let file = shown(&machine, &mount);
    let processors = thread::available_parallelism().unwrap().get();
    let (runs, answers) = (AtomicBool::new(true), AtomicU32::new(0));
    let is_served = thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                while runs.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        scope.spawn(|| {
            while runs.load(Ordering::Relaxed) {
                ask(&file);
                answers.fetch_add(1, Ordering::Relaxed);
            }
        });
        // Starved, they would come to a few hundred.
        let is_served = within(SOON, || answers.load(Ordering::Relaxed) >= 5_000);
        runs.store(false, Ordering::Relaxed);
        is_served
    });
    assert!(is_served, "{} answers", answers.into_inner());
}
