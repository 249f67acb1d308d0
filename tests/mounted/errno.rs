//! What system calls on a mount answer: EROFS for what would write, and what POSIX says for all else.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{
    Access, AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, SeekFrom, Timespec, Timestamps,
    Uid, XattrFlags,
};
use rustix::io::{Errno, Result};

use crate::machine::{Machine, Mount, path_text};

/// What is called, what it must answer, and the call itself, given the root of what the mount shows.
type Call = (&'static str, Errno, fn(&Path) -> Result<()>);

const MODE: Mode = Mode::RUSR;

const TIMES: Timestamps = Timestamps {
    last_access: Timespec {
        tv_sec: 1,
        tv_nsec: 1,
    },
    last_modification: Timespec {
        tv_sec: 1,
        tv_nsec: 1,
    },
};

const WRITING: [Call; 19] = [
    ("open for writing", Errno::ROFS, |root| {
        open(root, "file", OFlags::WRONLY)
    }),
    ("open for both", Errno::ROFS, |root| {
        open(root, "file", OFlags::RDWR)
    }),
    ("open and truncate", Errno::ROFS, |root| {
        open(root, "file", OFlags::WRONLY | OFlags::TRUNC)
    }),
    ("create", Errno::ROFS, |root| {
        open(root, "none", OFlags::WRONLY | OFlags::CREATE)
    }),
    ("make a temporary file", Errno::ROFS, |root| {
        open(root, "folder", OFlags::WRONLY | OFlags::TMPFILE)
    }),
    ("mkdir", Errno::ROFS, |root| {
        rustix::fs::mkdir(root.join("none"), MODE)
    }),
    ("mknod", Errno::ROFS, |root| {
        rustix::fs::mknodat(CWD, root.join("none"), FileType::Fifo, MODE, 0)
    }),
    ("symlink", Errno::ROFS, |root| {
        rustix::fs::symlink("x", root.join("none"))
    }),
    ("link", Errno::ROFS, |root| {
        rustix::fs::link(root.join("file"), root.join("none"))
    }),
    ("rename", Errno::ROFS, |root| {
        rustix::fs::rename(root.join("file"), root.join("none"))
    }),
    ("unlink", Errno::ROFS, |root| {
        rustix::fs::unlink(root.join("file"))
    }),
    ("rmdir", Errno::ROFS, |root| {
        rustix::fs::rmdir(root.join("folder/empty"))
    }),
    ("chmod", Errno::ROFS, |root| {
        rustix::fs::chmod(root.join("file"), MODE)
    }),
    ("chown", Errno::ROFS, |root| {
        rustix::fs::chown(root.join("file"), Some(Uid::ROOT), None)
    }),
    ("utimes", Errno::ROFS, |root| {
        rustix::fs::utimensat(CWD, root.join("file"), &TIMES, AtFlags::empty())
    }),
    ("truncate", Errno::ROFS, |root| truncate(&root.join("file"))),
    ("setxattr", Errno::ROFS, |root| {
        rustix::fs::setxattr(root.join("file"), "user.a", b"b", XattrFlags::empty())
    }),
    ("removexattr", Errno::ROFS, |root| {
        rustix::fs::removexattr(root.join("file"), "user.comment")
    }),
    ("access for writing", Errno::ROFS, |root| {
        rustix::fs::access(root.join("file"), Access::WRITE_OK)
    }),
];

const OTHER: [Call; 20] = [
    ("stat of nothing", Errno::NOENT, |root| stat(root, "none")),
    ("stat below nothing", Errno::NOENT, |root| {
        stat(root, "none/none")
    }),
    ("stat below a file", Errno::NOTDIR, |root| {
        stat(root, "file/none")
    }),
    ("stat through a dangling link", Errno::NOENT, |root| {
        stat(root, "dangling")
    }),
    ("stat through a loop of links", Errno::LOOP, |root| {
        stat(root, "loop")
    }),
    (
        "stat of a name that is too long",
        Errno::NAMETOOLONG,
        |root| stat(root, &"n".repeat(4096)),
    ),
    ("open nothing", Errno::NOENT, |root| {
        open(root, "none", OFlags::RDONLY)
    }),
    ("open a folder for writing", Errno::ISDIR, |root| {
        open(root, "folder", OFlags::RDWR)
    }),
    ("open a file as a folder", Errno::NOTDIR, |root| {
        open(root, "file", OFlags::DIRECTORY)
    }),
    ("open a link without following", Errno::LOOP, |root| {
        open(root, "link", OFlags::NOFOLLOW)
    }),
    ("open a device", Errno::ACCESS, |root| {
        open(root, "null", OFlags::RDONLY)
    }),
    ("open a socket", Errno::NXIO, |root| {
        open(root, "socket", OFlags::RDONLY)
    }),
    ("create what exists", Errno::EXIST, |root| {
        open(root, "file", OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }),
    ("make a folder that exists", Errno::EXIST, |root| {
        rustix::fs::mkdir(root.join("folder"), MODE)
    }),
    ("read a folder", Errno::ISDIR, |root| {
        let folder = rustix::fs::open(root.join("folder"), OFlags::RDONLY, MODE)?;
        rustix::io::read(folder, &mut [0; 10]).map(drop)
    }),
    ("list a file", Errno::NOTDIR, |root| {
        let listed = fs::read_dir(root.join("file"));
        listed
            .map(drop)
            .map_err(|error| Errno::from_io_error(&error).unwrap())
    }),
    ("read the target of a file", Errno::INVAL, |root| {
        rustix::fs::readlink(root.join("file"), Vec::new()).map(drop)
    }),
    ("seek data behind the end", Errno::NXIO, |root| {
        let file = rustix::fs::open(root.join("file"), OFlags::RDONLY, MODE)?;
        rustix::fs::seek(file, SeekFrom::Data(1 << 40)).map(drop)
    }),
    ("an ioctl that is not there", Errno::NOTTY, |root| {
        let file = rustix::fs::open(root.join("file"), OFlags::RDONLY, MODE)?;
        rustix::fs::ioctl_getflags(file).map(drop)
    }),
    (
        "ask whether a file without the bit can be run",
        Errno::ACCESS,
        |root| rustix::fs::access(root.join("file"), Access::EXEC_OK),
    ),
];

fn open(root: &Path, name: &str, flags: OFlags) -> Result<()> {
    rustix::fs::open(root.join(name), flags | OFlags::CLOEXEC, MODE).map(drop)
}

fn stat(root: &Path, name: &str) -> Result<()> {
    rustix::fs::stat(root.join(name)).map(drop)
}

fn truncate(path: &Path) -> Result<()> {
    let path = CString::new(path_text(path)).unwrap();
    // SAFETY: a string that ends with a NUL.
    match unsafe { libc::truncate(path.as_ptr(), 0) } {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap()),
    }
}

fn fill(source: &Path) {
    fs::write(source.join("file"), "some bytes").unwrap();
    xattr::set(source.join("file"), "user.comment", b"text").unwrap();
    fs::create_dir_all(source.join("folder/empty")).unwrap();
    symlink("file", source.join("link")).unwrap();
    symlink("none", source.join("dangling")).unwrap();
    symlink("loop", source.join("loop")).unwrap();
    drop(UnixListener::bind(source.join("socket")).unwrap());
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(
        CWD,
        source.join("null"),
        FileType::CharacterDevice,
        Mode::RUSR | Mode::WUSR,
        null,
    )
    .unwrap();
}

/// A mounted point with all that the calls are made on.
fn shown(machine: &Machine, mount_arguments: &[&str]) -> Mount {
    fill(&machine.path("source"));
    let point = machine.back_up("--full");
    let mut arguments = vec!["--point", &point];
    arguments.extend(mount_arguments);
    machine.mount("mnt", &arguments)
}

#[test]
fn what_would_write_is_erofs() {
    let machine = Machine::new();
    let mount = shown(&machine, &[]);
    let root = mount.path(machine.path("source").strip_prefix("/").unwrap());
    for (call, expected, make) in WRITING {
        assert_eq!(make(&root), Err(expected), "{call}");
    }
}

#[test]
fn every_other_call_answers_what_posix_says() {
    let machine = Machine::new();
    let mount = shown(&machine, &[]);
    let root = mount.path(machine.path("source").strip_prefix("/").unwrap());
    for (call, expected, make) in OTHER {
        assert_eq!(make(&root), Err(expected), "{call}");
    }
    // These work: there is nothing to do.
    let file = File::open(root.join("file")).unwrap();
    rustix::fs::fsync(&file).unwrap();
    rustix::fs::fdatasync(&file).unwrap();
    File::open(&root).unwrap().sync_all().unwrap();
    rustix::fs::flock(&file, FlockOperation::LockShared).unwrap();
    rustix::fs::access(root.join("file"), Access::READ_OK).unwrap();
    rustix::fs::access(root.join("folder"), Access::EXEC_OK).unwrap();
}

#[test]
fn a_mount_that_checks_no_permissions_answers_alike() {
    let machine = Machine::new();
    let mount = shown(&machine, &["--no-permissions"]);
    let root = mount.path(machine.path("source").strip_prefix("/").unwrap());
    for (call, expected, make) in WRITING.into_iter().chain(OTHER) {
        assert_eq!(make(&root), Err(expected), "{call}");
    }
}
