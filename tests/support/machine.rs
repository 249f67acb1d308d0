//! A machine of its own for a test: a folder, a mount namespace that nobody else sees, the real binary, and mounts that
//! are taken away at the end however the test went.
//!
//! Each test runs in a thread of its own, which leaves the namespace of the others first of all: whatever it mounts is
//! invisible outside it, and gone with its last process. What is taken away is taken away by its exact path all the
//! same, and only below the test's own folder.

use std::cell::{Cell, RefCell};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::encryption;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// A user who is not root and whom every Debian has: `nobody`.
pub const OTHER_UID: u32 = 65534;
pub const OTHER_GID: u32 = 65534;

/// A folder, a repository in it, and the binary that works on it.
pub struct Machine {
    folder: tempfile::TempDir,
    /// The second of the last backup's end.
    last_backup: Cell<Option<u64>>,
    /// Where the test has mounted something else, the last one last.
    covered: RefCell<Vec<PathBuf>>,
}

impl Machine {
    /// A machine with an empty repository and an empty source.
    pub fn new() -> Self {
        let machine = Self::bare();
        machine.done(encryption::init_arguments());
        fs::create_dir(machine.path("source")).unwrap();
        machine
    }

    /// A machine without a repository.
    pub fn bare() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test mounts, changes owners and makes devices: run it as root"
        );
        assert!(
            Path::new("/dev/fuse").exists(),
            "this test needs FUSE and this system has no /dev/fuse"
        );
        leave_the_others_namespace();
        let folder = tempfile::Builder::new()
            .prefix("bygone-test-")
            .tempdir()
            .unwrap();
        // Other users look at mounts in it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            folder,
            last_backup: Cell::new(None),
            covered: RefCell::new(Vec::new()),
        }
    }

    /// A path in the machine's folder.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    /// A folder in it, made if it is not there.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        if !path.is_dir() {
            fs::create_dir_all(&path).unwrap();
        }
        path
    }

    /// The binary, with the machine's repository and a state of its own.
    pub fn bygone<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bygone"));
        command
            .env("BYGONE_REPO", self.path("repository"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("BYGONE_CONFIG", "")
            .args(arguments)
            .stdin(Stdio::null());
        encryption::unlock(&mut command);
        command
    }

    /// Runs it; panics with what it said unless all went well. Returns what it printed.
    pub fn done<S: AsRef<OsStr>>(&self, arguments: &[S]) -> String {
        let output = self.bygone(arguments).output().unwrap();
        assert_success(&output);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it; panics unless it fails with this exit code. Returns what it said on standard error.
    pub fn refused<S: AsRef<OsStr>>(&self, exit_code: i32, arguments: &[S]) -> String {
        let output = self.bygone(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(exit_code), "{told}");
        told
    }

    /// Backs the source up as `kind` (`--full` and its like) and returns the point's id.
    pub fn back_up(&self, kind: &str) -> String {
        self.back_up_with(&[kind])
    }

    /// Backs the source up with these arguments and returns the point's id.
    pub fn back_up_with(&self, arguments: &[&str]) -> String {
        // Ids of points that commit within one second are in no order that a test could rely on.
        let last = self.last_backup.take();
        while last == Some(second_now()) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let source = self.path("source");
        let mut all = vec!["backup", "--json", "--set", "test"];
        all.extend(arguments);
        all.push(path_text(&source));
        let point: serde_json::Value = serde_json::from_str(&self.done(&all)).unwrap();
        self.last_backup.set(Some(second_now()));
        point["id"].as_str().unwrap().to_owned()
    }

    /// Shows the folder `from` at a folder of this name too.
    pub fn bind(&self, from: &Path, name: &str) -> PathBuf {
        let place = self.folder(name);
        mount_bind(from, &place).unwrap();
        self.covered.borrow_mut().push(place.clone());
        place
    }

    /// Mounts an empty file system in memory at a folder of this name.
    pub fn mount_memory(&self, name: &str) -> PathBuf {
        let place = self.folder(name);
        mount("tmpfs", &place, "tmpfs", MountFlags::empty(), None).unwrap();
        self.covered.borrow_mut().push(place.clone());
        place
    }

    /// Mounts at a folder of this name, with these arguments, and logs to a file of its own.
    pub fn mount(&self, name: &str, arguments: &[&str]) -> Mount {
        self.mount_under(name, arguments, |_| {})
    }

    /// Like `mount`, with a command that `limit` has put under a limit.
    pub fn mount_under(
        &self,
        name: &str,
        arguments: &[&str],
        limit: impl FnOnce(&mut Command),
    ) -> Mount {
        let place = self.folder(name);
        let log = self.path(format!("{name}.log"));
        let mut all = vec!["mount", "--json", "--log-file", path_text(&log)];
        all.extend(arguments);
        all.push(path_text(&place));
        let mut command = self.bygone(&all);
        limit(&mut command);
        let output = command.output().unwrap();
        assert_success(&output);
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let process = told["process"].as_i64().unwrap();
        Mount {
            below: self.path(""),
            place,
            log,
            process: Pid::from_raw(i32::try_from(process).unwrap()).unwrap(),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let own = self.path("");
        for place in self.covered.take().iter().rev() {
            unmount_below(&own, place);
        }
    }
}

/// Takes what is mounted at `place` away, however many still look at it; `place` lies below the test's own folder.
fn unmount_below(own: &Path, place: &Path) {
    assert!(
        place.starts_with(own) && place != own && place.is_absolute(),
        "only what lies below the test's own folder is unmounted"
    );
    let _gone = unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
}

fn second_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// Puts this thread, and the processes that it starts, into a mount namespace of its own.
fn leave_the_others_namespace() {
    // SAFETY: it concerns this thread only, which has no descriptor or path that depends on the namespace left.
    let status = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    assert_eq!(status, 0, "{}", std::io::Error::last_os_error());
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).unwrap();
}

/// A mount and the process that serves it; taken away when dropped.
pub struct Mount {
    below: PathBuf,
    pub place: PathBuf,
    pub log: PathBuf,
    pub process: Pid,
}

impl Mount {
    /// A path in the mount.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.place.join(name)
    }

    /// The path of a point's copy of `source`, in a mount of all points.
    pub fn source(&self, point: &str, source: &Path) -> PathBuf {
        self.place
            .join("points")
            .join(point)
            .join(source.strip_prefix("/").unwrap())
    }

    /// What it has logged so far.
    pub fn logged(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Asks what it has done so far, and returns its line.
    pub fn did(&self) -> String {
        let lines = |log: &str| log.matches(DID).count();
        let before = lines(&self.logged());
        self.signal(Signal::USR1);
        let has_told = within(Duration::from_secs(60), || lines(&self.logged()) > before);
        assert!(has_told, "{}", self.logged());
        self.did_last()
    }

    /// The last line of what it has done that it logged.
    pub fn did_last(&self) -> String {
        let log = self.logged();
        let line = log.lines().rfind(|line| line.contains(DID));
        let (_, told) = line.unwrap().split_once("info: ").unwrap();
        told.to_owned()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.process, signal).unwrap();
    }

    /// The threads of its process whose names begin so.
    pub fn threads(&self, name: &str) -> Vec<String> {
        let tasks = format!("/proc/{}/task", self.process.as_raw_nonzero());
        let threads = fs::read_dir(tasks).unwrap().map(|task| task.unwrap());
        threads
            .filter(|task| {
                let own = fs::read_to_string(task.path().join("comm")).unwrap();
                own.starts_with(name)
            })
            .map(|task| task.file_name().into_string().unwrap())
            .collect()
    }

    /// Has its process ended?
    pub fn is_gone(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/stat", self.process.as_raw_nonzero()));
        // One that has ended and that nobody has asked about yet is a zombie.
        status.map_or(true, |status| status.contains(") Z "))
    }

    /// Does this thread's namespace list it?
    pub fn is_listed(&self) -> bool {
        is_mounted(&self.place)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.is_listed() {
            unmount_below(&self.below, &self.place);
        }
        if !self.is_gone() && test_kill_process(self.process).is_ok() {
            let _gone = kill_process(self.process, Signal::TERM);
            let gone = within(Duration::from_secs(5), || self.is_gone());
            if !gone && !std::thread::panicking() {
                panic!("the process of {} does not end", self.place.display());
            }
        }
    }
}

/// How a mount's line of what it did begins, as it stands in its log.
const DID: &str = "info: served";

/// The number after `name=` in a line of what a mount did, within the part that begins with `part`; 0 if there is none,
/// as of requests that never came.
pub fn figure(did: &str, part: &str, name: &str) -> u64 {
    let part = did
        .split("; ")
        .find_map(|words| words.strip_prefix(part))
        .unwrap_or_else(|| panic!("{part}: {did}"));
    let mut words = part.split_whitespace();
    let number = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    number.map_or(0, |number| number.parse().unwrap())
}

/// Is anything mounted at `place`?
pub fn is_mounted(place: &Path) -> bool {
    let text = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let place = place.to_str().unwrap();
    text.lines()
        .any(|line| line.split(' ').nth(4) == Some(place))
}

/// Waits until `is_so`, at most this long.
pub fn within(limit: Duration, is_so: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if is_so() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs a program; panics with what it said unless all went well. Returns what it printed.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("this test needs {program}: {error}"));
    assert_success(&output);
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a line of shell as another user; true if it succeeded.
pub fn other_user_can(line: &str) -> bool {
    Command::new("sh")
        .args(["-c", line])
        .uid(OTHER_UID)
        .gid(OTHER_GID)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

pub fn assert_success(output: &Output) {
    assert!(
        output.status.success(),
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

pub fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}
