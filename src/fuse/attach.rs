//! Attaches a FUSE device to a place: by mount(2) as root, by the FUSE package's set-user-id helper otherwise.
//!
//! fuser could do it, and would unmount the place once more when a session ends: whatever is mounted there by then,
//! the disk below included. So the mount is made here, and taken away by `mounts` only, which looks first.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::options::{MountOptions, SUBTYPE};
use crate::base::{Error, ErrorKind, Result};

/// The device by which a process serves a file system.
const FUSE_DEVICE: &str = "/dev/fuse";

/// The set-user-id helper that mounts for users.
const HELPER: &str = "fusermount3";

/// Mounts a file system that is not served yet at `place`, listed as `source`, and returns the device to serve it by.
///
/// # Errors
/// Denied if this user may not; Failed or Missing if the system has no FUSE.
pub(super) fn attach(place: &Path, source: &str, options: &MountOptions) -> Result<OwnedFd> {
    let device = open_device()?;
    match mount_device(&device, place, source, options) {
        Ok(()) => Ok(device.into()),
        Err(Errno::PERM) => attach_by_helper(place, source, options),
        Err(error) => Err(Error::io(
            format!("mount at {}", place.display()),
            error.into(),
        )),
    }
}

fn open_device() -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(FUSE_DEVICE)
        .map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => {
                    "open /dev/fuse (does this system have FUSE? try `modprobe fuse`)"
                }
                io::ErrorKind::PermissionDenied => {
                    "open /dev/fuse (its permissions, or this container, forbid it to this user)"
                }
                _ => "open /dev/fuse",
            };
            Error::io(hint, error)
        })
}

fn mount_device(
    device: &File,
    place: &Path,
    source: &str,
    options: &MountOptions,
) -> rustix::io::Result<()> {
    let mut flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    if options.no_exec {
        flags |= MountFlags::NOEXEC;
    }
    let mut data = format!(
        "fd={},rootmode={:o},user_id={},group_id={},subtype={SUBTYPE}",
        device.as_raw_fd(),
        libc::S_IFDIR,
        rustix::process::getuid(),
        rustix::process::getgid(),
    );
    for option in shared_options(options) {
        data.push(',');
        data.push_str(option);
    }
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;
    mount(source, place, "fuse", flags, data.as_c_str())
}

/// The options that the kernel and the helper call by the same names.
fn shared_options(options: &MountOptions) -> impl Iterator<Item = &'static str> {
    let check = (!options.no_permissions).then_some("default_permissions");
    let others = options.allow_other.then_some("allow_other");
    check.into_iter().chain(others)
}

/// Has the helper mount; it opens a device of its own and sends it over a socket.
fn attach_by_helper(place: &Path, source: &str, options: &MountOptions) -> Result<OwnedFd> {
    let (own, its) =
        UnixStream::pair().map_err(|error| Error::io("make a pair of sockets", error))?;
    let mut list = format!("ro,nosuid,nodev,fsname={source},subtype={SUBTYPE}");
    for option in shared_options(options).chain(options.no_exec.then_some("noexec")) {
        list.push(',');
        list.push_str(option);
    }
    let mut helper = Command::new(HELPER)
        .args(["-o", &list, "--"])
        .arg(place)
        // The socket is its standard input: the one descriptor that is passed on without further ado.
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(OwnedFd::from(its)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| Error::io(format!("run {HELPER}, which mounts for users"), error))?;
    let device = receive_descriptor(&own);
    let mut told = String::new();
    if let Some(mut stderr) = helper.stderr.take() {
        // What it said is only for the message below.
        let _unread = stderr.read_to_string(&mut told);
    }
    let status = helper
        .wait()
        .map_err(|error| Error::io(format!("wait for {HELPER}"), error))?;
    match device {
        Ok(Some(device)) if status.success() => Ok(device),
        Err(error) => Err(Error::io(format!("hear from {HELPER}"), error.into())),
        Ok(_) => Err(Error::new(
            ErrorKind::Denied,
            format!("cannot mount at {}: {}", place.display(), told.trim()),
        )),
    }
}

/// The descriptor that comes over `socket`; None if it ends without one.
fn receive_descriptor(socket: &UnixStream) -> rustix::io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::io::retry_on_intr(|| {
        recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(descriptor)
}
