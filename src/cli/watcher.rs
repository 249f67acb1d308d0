//! The watcher: a second process of each mount, which cuts the mount's connection if the first one is killed.
//!
//! Of a process that is killed the kernel closes the connection once its last thread has ended. A thread that is just
//! handing pages over may wait in the kernel for one that a reader has asked for; only this very process could answer,
//! and it no longer does, so that neither ever ends and the readers hang. Someone else must cut the connection then, as
//! `echo 1 > /sys/fs/fuse/connections/N/abort` does, and the mount stays behind, dead, like any whose process was killed.
//!
//! Neither a pipe nor a process descriptor tells, as the process has not ended. The signal of prctl(2)'s
//! PR_SET_PDEATHSIG does: it comes when the thread that forked the watcher ends, the first one, which waits where a kill
//! reaches it. What is written to is opened while the mount lives, so that it is that mount's and no later one's. The
//! watcher has nothing else open, and never returns into the program.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use log::debug;
use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::process::{
    Pid, Signal, chdir, getpid, getppid, set_parent_process_death_signal, setsid,
};
use rustix::thread::set_name;

use super::background::{replace_standard_streams, threads};
use crate::base::{Error, Result};

/// What tells the watcher that the thread which forked it has ended.
const DEATH: Signal = Signal::USR2;

/// What ends a group of processes, or asks a mount for something: the mount decides what becomes of it.
const PASSED_OVER: [libc::c_int; 6] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGPIPE,
];

/// Where the kernel's connections are, each below its number, if the system shows them.
const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// As `ps -o comm` shows it, and unlike the mount's own, so that a kill by that name leaves it.
const NAME: &std::ffi::CStr = c"mount-watch";

/// The mount's end of the line to its watcher, which ends by itself when this process has ended.
pub(super) struct Watcher {
    line: UnixStream,
}

impl Watcher {
    /// Starts the watcher of this process, which must have one thread yet and whose first thread must live as long as it
    /// does.
    ///
    /// # Errors
    /// As the system says. A mount works without a watcher.
    pub(super) fn start() -> Result<Self> {
        assert_eq!(threads()?, 1, "a watcher is started before any thread is");
        let (line, other) =
            UnixStream::pair().map_err(|error| Error::io("make a pair of sockets", error))?;
        let mount = getpid();
        // SAFETY: this process has one thread, as was checked, so the copy may do whatever this one may.
        match unsafe { libc::fork() } {
            process if process < 0 => {
                let error = io::Error::last_os_error();
                Err(Error::io("start the watcher of a mount", error))
            }
            0 => {
                drop(line);
                // Whatever fails, nobody is left to tell: the mount learns it from the end of the line.
                let _ended = watch(other, mount);
                // SAFETY: it ends this process without the clean-up of the one that it was copied from.
                unsafe { libc::_exit(0) }
            }
            _ => Ok(Self { line }),
        }
    }

    /// Has it watch the connection of the mount whose device is `device`, `major:minor`. Where it cannot, that is logged.
    pub(super) fn watch(&mut self, device: &str) {
        let Some(number) = connection_number(device) else {
            debug!("{device} is no mount's device, so that it is not watched");
            return;
        };
        let mut errno = [0; 4];
        let answered = self
            .line
            .write_all(&number.to_le_bytes())
            .and_then(|()| self.line.read_exact(&mut errno));
        let problem = match (answered, i32::from_le_bytes(errno)) {
            (Ok(()), 0) => return,
            (Ok(()), errno) => io::Error::from_raw_os_error(errno),
            (Err(error), _) => error,
        };
        debug!(
            "cannot open the mount's connection ({problem}): if this process is killed, readers may hang until the mount \
             is taken away by force"
        );
    }
}

/// The number by which the kernel lists the connection: that of the device, `dev_t` as the kernel has it.
fn connection_number(device: &str) -> Option<u32> {
    let (major, minor) = device.split_once(':')?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    Some(major << 20 | minor)
}

/// What the watcher does, until `mount` has ended.
fn watch(mut line: UnixStream, mount: Pid) -> io::Result<()> {
    block_signals()?;
    let _session = setsid();
    set_parent_process_death_signal(Some(DEATH))?;
    if getppid() != Some(mount) {
        return Ok(());
    }
    let_go(&line)?;
    set_name(NAME)?;
    let mut number = [0; 4];
    line.read_exact(&mut number)?;
    let opened = open_abort(u32::from_le_bytes(number));
    let errno = match &opened {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
    };
    line.write_all(&errno.to_le_bytes())?;
    let mut abort = opened?;
    wait_for_death_of(mount)?;
    abort.write_all(b"1")
}

/// Signals stay pending, so that they neither end this process nor run what the mount has set up for them.
fn block_signals() -> io::Result<()> {
    let set = signal_set(&[&PASSED_OVER[..], &[DEATH.as_raw()]].concat());
    // SAFETY: the set is filled in, and the old one is not asked for.
    match unsafe { libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn signal_set(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset fills the set in; the others change a set that is filled in.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

/// Closes and leaves all that would be held for as long as the mount lives, but for the line to it.
fn let_go(line: &UnixStream) -> io::Result<()> {
    chdir("/")?;
    let nothing = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    replace_standard_streams(&nothing).map_err(|error| io::Error::other(error.to_string()))?;
    let line = line.as_raw_fd() as libc::c_uint;
    for (first, last) in [(3, line - 1), (line + 1, libc::c_uint::MAX)] {
        if first <= last {
            // SAFETY: this process goes on in `watch` alone, which has nothing open but the line and standard streams.
            // Where the call is missing, descriptors stay open, and nothing else is wrong.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
    // It is among those that are closed already.
    std::mem::forget(nothing);
    Ok(())
}

/// Opens what cuts the connection `number`: where the system shows it, or else in a mount that nobody else sees.
fn open_abort(number: u32) -> io::Result<File> {
    let name = format!("{number}/abort");
    let shown = Path::new(CONNECTIONS).join(&name);
    match OpenOptions::new().write(true).open(shown) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    let context = fsopen("fusectl", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let mount = fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )?;
    Ok(File::from(openat(
        &mount,
        name,
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?))
}

/// Waits for the signal that the kernel sends in the name of `mount` when its first thread ends.
fn wait_for_death_of(mount: Pid) -> io::Result<()> {
    let set = signal_set(&[DEATH.as_raw()]);
    loop {
        let mut from = MaybeUninit::uninit();
        // SAFETY: the set is filled in, and what came is filled in by the call if it succeeds.
        let came = unsafe { libc::sigwaitinfo(&set, from.as_mut_ptr()) };
        if came < 0 {
            match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => continue,
                error => return Err(error),
            }
        }
        // SAFETY: the call has filled it in, and each signal that a process sent has the sender's number.
        let sender = unsafe { from.assume_init().si_pid() };
        // Anybody may send the same signal. The kernel names the process that dies, or nobody.
        if sender == 0 || sender == mount.as_raw_nonzero().get() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_the_number_of_its_device() {
        assert_eq!(connection_number("0:45"), Some(45));
        assert_eq!(connection_number("1:2"), Some(1_048_578));
        for device in ["", "45", "0:", ":1", "a:b"] {
            assert_eq!(connection_number(device), None, "{device}");
        }
    }
}
