//! The system's mounts: which there are, taking one away, and waiting until its process has gone.
//!
//! Everything is read from `/proc/self/mountinfo`, never from the mounts themselves: a mount whose process is dead or
//! hangs answers nothing, and asking it would hang too. A mount is taken away by its exact path, and only after
//! mountinfo said that it is the one that was meant.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use rustix::net::sockopt::socket_peercred;
use rustix::process::getpid;

use crate::base::{Error, ErrorKind, Result};

/// The file system type under which every mount of this program is listed.
pub const FILE_SYSTEM_TYPE: &str = "fuse.bygone";

/// How long a process may take to end after its mount has gone: it only has to write down what it knows.
const PROCESS_ENDS_WITHIN: Duration = Duration::from_secs(30);

/// How long a mount waits for the process that had its device number before, at most.
const FORMER_PROCESS_ENDS_WITHIN: Duration = Duration::from_secs(5);

/// Where the system lists the mounts that this process sees.
const MOUNT_INFO: &str = "/proc/self/mountinfo";

/// One line of mountinfo: see proc_pid_mountinfo(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountRecord {
    /// The device number that `stat` shows for what is in it, `major:minor`. No two live file systems share one.
    pub device: String,
    /// Where it is mounted.
    pub place: PathBuf,
    /// Its file system type, with the subtype: `fuse.bygone`.
    pub file_system: String,
    /// What is mounted: for this program, `bygone:` and the repository's id.
    pub source: OsString,
}

impl MountRecord {
    /// Is it a mount of this program?
    pub fn is_bygone(&self) -> bool {
        self.file_system == FILE_SYSTEM_TYPE
    }
}

/// The mount that is seen at `place`, an absolute path without links; None if nothing is mounted there.
///
/// # Errors
/// `/proc` cannot be read.
pub fn mount_at(place: &Path) -> Result<Option<MountRecord>> {
    Ok(topmost(&mount_info()?, place))
}

/// All mounts of this program that this process sees, in the order in which they were made.
///
/// # Errors
/// `/proc` cannot be read.
pub fn own_mounts() -> Result<Vec<MountRecord>> {
    let text = mount_info()?;
    Ok(records(&text).filter(MountRecord::is_bygone).collect())
}

fn mount_info() -> Result<Vec<u8>> {
    std::fs::read(MOUNT_INFO).map_err(|error| Error::io(format!("read {MOUNT_INFO}"), error))
}

/// The last mount of `mountinfo` at `place`: a later one covers an earlier one.
fn topmost(mountinfo: &[u8], place: &Path) -> Option<MountRecord> {
    records(mountinfo)
        .filter(|record| record.place == place)
        .last()
}

fn records(mountinfo: &[u8]) -> impl Iterator<Item = MountRecord> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    lines.filter_map(parse_record)
}

fn parse_record(line: &[u8]) -> Option<MountRecord> {
    let mut fields = line.split(|byte| *byte == b' ');
    // The mount's id and its parent's come first, the root of the mount within its file system after the device.
    let device = fields.nth(2)?;
    let place = fields.nth(1)?;
    // Optional fields, as many as there are, end with a dash.
    fields.find(|field| *field == b"-")?;
    let file_system = fields.next()?;
    let source = fields.next()?;
    Some(MountRecord {
        device: String::from_utf8_lossy(device).into_owned(),
        place: PathBuf::from(unescape(place)),
        file_system: String::from_utf8_lossy(&unescape(file_system).into_vec()).into_owned(),
        source: unescape(source),
    })
}

/// Undoes the kernel's escapes: a space, a tab, a newline and a backslash are three octal digits after a backslash.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        match (first, octal_byte(after)) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

/// The byte that the first three characters tell in octal.
fn octal_byte(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits.get(..3)?).ok()?;
    u8::from_str_radix(digits, 8).ok()
}

/// Takes the mount at `record.place` away, and waits until the process that served it has gone.
///
/// # Errors
/// Locked if it is in use; Denied if this user may not; what the system says otherwise.
pub fn unmount_and_wait(record: &MountRecord) -> Result<()> {
    let process = ServingProcess::find(&record.device);
    unmount_exactly(record, UnmountFlags::empty())?;
    match process {
        Some(process) => process.wait_until_gone(&record.place),
        None => Ok(()),
    }
}

/// Takes the mount at `record.place` away, by the process that serves it.
///
/// # Errors
/// Like those of `unmount_and_wait`; Missing if it is there no longer.
pub(super) fn unmount(record: &MountRecord) -> Result<()> {
    unmount_exactly(record, UnmountFlags::empty())
}

/// Takes the mount at `record.place` away even though it is in use: what is open in it fails from now on, or, where only
/// the helper may unmount, from when its process ends, which it must do next.
///
/// # Errors
/// As the system says.
pub(super) fn detach(record: &MountRecord) -> Result<()> {
    // By force, all that waits for an answer fails at once. A thread of a process that dies could wait for one of the
    // same process, and then neither would ever end.
    unmount_exactly(record, UnmountFlags::DETACH | UnmountFlags::FORCE)
}

/// Takes away what is mounted at `record.place`, after making sure that it still is what `record` says.
fn unmount_exactly(record: &MountRecord, flags: UnmountFlags) -> Result<()> {
    let place = &record.place;
    assert!(
        place.is_absolute() && place.parent().is_some(),
        "only the exact place of a mount is ever unmounted, and never the root"
    );
    if mount_at(place)?.as_ref() != Some(record) {
        return Err(Error::new(
            ErrorKind::Missing,
            format!("{} is no longer mounted", place.display()),
        ));
    }
    match rustix::mount::unmount(place, flags | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::PERM) => unmount_as_user(place, flags.contains(UnmountFlags::DETACH)),
        Err(Errno::BUSY) => Err(in_use(place)),
        Err(error) => Err(Error::io(
            format!("unmount {}", place.display()),
            error.into(),
        )),
    }
}

fn in_use(place: &Path) -> Error {
    Error::new(
        ErrorKind::Locked,
        format!(
            "{} is in use: leave it in every shell and close what is open there (`fuser -vm {0}` lists who)",
            place.display()
        ),
    )
}

/// Lets the helper of the FUSE package do what the kernel grants to root only.
fn unmount_as_user(place: &Path, detach: bool) -> Result<()> {
    let mut command = Command::new("fusermount3");
    command.arg("-u");
    if detach {
        command.arg("-z");
    }
    let output = command
        .arg("--")
        .arg(place)
        .output()
        .map_err(|error| Error::io("run fusermount3, which unmounts for users", error))?;
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    if told.contains("busy") {
        return Err(in_use(place));
    }
    Err(Error::new(
        ErrorKind::Denied,
        format!("cannot unmount {}: {}", place.display(), told.trim()),
    ))
}

/// Binds the name by which others notice that this process, which serves the file system `device`, has ended.
///
/// It is a socket that nobody ever accepts from, in the abstract namespace: the kernel resets every connection to it
/// when the process ends, however that happens, and nothing is left behind. The kernel gives a device's number away
/// again as soon as it is unmounted, which is before the process that served it has ended: that one is waited for.
///
/// # Errors
/// Another process has bound the name and does not end, or the system has no abstract namespace.
pub(super) fn announce_process(device: &str) -> io::Result<UnixListener> {
    let name = process_name(device)?;
    let deadline = Instant::now() + FORMER_PROCESS_ENDS_WITHIN;
    loop {
        match UnixListener::bind_addr(&name) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if let Some(former) = ServingProcess::find(device)
                    && (former.is_this_one()? || !former.ends_before(deadline)?)
                {
                    return Err(error);
                }
            }
            bound => return bound,
        }
    }
}

fn process_name(device: &str) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("bygone/mount/{device}"))
}

/// A connection to the process that serves a mount, which ends with that process.
struct ServingProcess(UnixStream);

impl ServingProcess {
    /// None if there is none: it is dead, or runs in another network namespace.
    fn find(device: &str) -> Option<Self> {
        let address = process_name(device).ok()?;
        UnixStream::connect_addr(&address).ok().map(Self)
    }

    fn is_this_one(&self) -> io::Result<bool> {
        Ok(socket_peercred(&self.0)?.pid == getpid())
    }

    /// Waits for the process to end; false if it has not by `deadline`.
    fn ends_before(mut self, deadline: Instant) -> io::Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        self.0.set_read_timeout(Some(left))?;
        let answer = self.0.read(&mut [0]);
        Ok(!answer.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock))
    }

    fn wait_until_gone(self, place: &Path) -> Result<()> {
        let ended = self
            .ends_before(Instant::now() + PROCESS_ENDS_WITHIN)
            .map_err(|error| Error::io("wait for the mount's process", error))?;
        if ended {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Failed,
            format!(
                "{} is unmounted, but its process has not ended within {} seconds",
                place.display(),
                PROCESS_ENDS_WITHIN.as_secs()
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &[u8] = b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        41 27 0:40 / /mnt/a\\040b ro,nosuid,nodev - fuse.bygone bygone:0011 ro,user_id=0\n\
        42 27 0:41 / /mnt/c rw shared:3 master:1 - tmpfs tmpfs rw\n\
        43 27 0:42 / /mnt/c ro - fuse.bygone bygone:2233 ro\n\
        malformed\n";

    #[test]
    fn a_mount_is_found_by_its_place_with_escapes_undone() {
        let record = topmost(MOUNTINFO, Path::new("/mnt/a b")).unwrap();
        assert_eq!(record.device, "0:40");
        assert_eq!(record.source, "bygone:0011");
        assert!(record.is_bygone());
    }

    #[test]
    fn the_last_of_several_mounts_at_a_place_is_the_one_that_is_seen() {
        let record = topmost(MOUNTINFO, Path::new("/mnt/c")).unwrap();
        assert_eq!(record.device, "0:42");
        assert!(topmost(MOUNTINFO, Path::new("/mnt")).is_none());
    }

    #[test]
    fn optional_fields_are_passed_over() {
        let line = b"42 27 0:41 / /mnt/c rw shared:3 master:1 - tmpfs tmpfs rw";
        assert_eq!(parse_record(line).unwrap().file_system, "tmpfs");
    }

    #[test]
    fn a_backslash_that_escapes_nothing_stays() {
        assert_eq!(unescape(b"a\\134b\\9"), "a\\b\\9");
    }

    #[test]
    fn the_root_is_listed_as_a_mount_and_never_as_one_of_ours() {
        let record = mount_at(Path::new("/")).unwrap().unwrap();
        assert!(!record.is_bygone());
    }

    #[test]
    fn a_process_that_ends_is_noticed() {
        let device = format!("test-{}", std::process::id());
        assert!(ServingProcess::find(&device).is_none());
        let listener = announce_process(&device).unwrap();
        let process = ServingProcess::find(&device).unwrap();
        drop(listener);
        process.wait_until_gone(Path::new("/nowhere")).unwrap();
    }

    #[test]
    fn a_number_that_a_process_has_until_it_ends_is_had_then() {
        let device = format!("test-again-{}", std::process::id());
        let program = "import socket, sys, time\n\
            listener = socket.socket(socket.AF_UNIX)\n\
            listener.bind(chr(0) + 'bygone/mount/' + sys.argv[1])\n\
            listener.listen()\n\
            print('bound', flush=True)\n\
            time.sleep(0.3)\n";
        let mut other = Command::new("python3")
            .args(["-c", program, &device])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        other
            .stdout
            .take()
            .unwrap()
            .read_exact(&mut [0; 5])
            .unwrap();
        drop(announce_process(&device).unwrap());
        other.wait().unwrap();
    }

    #[test]
    fn a_number_that_this_process_has_itself_is_refused_at_once() {
        let device = format!("test-twice-{}", std::process::id());
        let _listener = announce_process(&device).unwrap();
        let error = announce_process(&device).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn what_is_no_longer_mounted_is_not_unmounted() {
        let record = MountRecord {
            device: "0:999999".to_owned(),
            place: PathBuf::from("/nowhere/at/all"),
            file_system: FILE_SYSTEM_TYPE.to_owned(),
            source: OsString::from("bygone:00"),
        };
        let error = unmount_and_wait(&record).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Missing);
    }
}
