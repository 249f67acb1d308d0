//! What a mount shows: every promise about its content, on real mounts of the real binary.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bygone::format::pack_name;
use bygone::repo::{list_packs, read_pack_directory};
use bygone::store::LocalStore;
use rustix::fs::{AtFlags, CWD, FileType, Mode, SeekFrom, Timespec, Timestamps};
use rustix::io::Errno;

use crate::encryption;
use crate::machine::{Machine, assert_success, path_text, run, within};
use crate::snapshot::{assert_same, snapshot};

/// Bytes that no compression makes smaller, different for each seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

pub fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Fills `source` with everything that a backup keeps.
fn fill(source: &Path) {
    write_files(source);
    write_links(source);
    write_special(source);
    write_metadata(source);
    // So that SEEK_HOLE tells what is on the disk and not what is about to be.
    rustix::fs::sync();
}

fn write_files(source: &Path) {
    for size in [
        0,
        1,
        99,
        100,
        101,
        4096,
        131_071,
        131_072,
        131_073,
        1 << 20,
        5_000_001,
    ] {
        write(
            &source.join(format!("sizes/{size}")),
            &noise(size as u64, size),
        );
    }
    write(
        &source.join("text"),
        "once upon a time\n".repeat(40_000).as_bytes(),
    );
    write(&source.join("zeros"), &[0; 300_000]);
    for number in 0..300 {
        write(
            &source.join(format!("many/{number:03}")),
            format!("file {number}\n").repeat(number).as_bytes(),
        );
    }
    let sparse = File::create(source.join("sparse")).unwrap();
    sparse.write_all_at(&noise(7, 4096), 1 << 20).unwrap();
    sparse.write_all_at(b"end", 3 << 20).unwrap();
    sparse.set_len(5 << 20).unwrap();
    let hole = File::create(source.join("hole")).unwrap();
    hole.set_len(10 << 20).unwrap();
    for name in [
        &b"caf\xe9"[..],
        b"new\nline",
        b" blank ",
        b"-rf",
        b"back\\slash",
        b"\x01",
        "木".as_bytes(),
    ] {
        write(&source.join("names").join(OsStr::from_bytes(name)), name);
    }
    write(&source.join("names").join("n".repeat(255)), b"long");
    fs::create_dir_all(source.join("empty/deep/er")).unwrap();
}

fn write_links(source: &Path) {
    symlink("text", source.join("link")).unwrap();
    symlink("/nowhere/at/all", source.join("dangling")).unwrap();
    symlink("t".repeat(4000), source.join("long target")).unwrap();
    write(&source.join("linked/one"), &noise(11, 200_000));
    fs::create_dir_all(source.join("linked/below")).unwrap();
    fs::hard_link(source.join("linked/one"), source.join("linked/two")).unwrap();
    fs::hard_link(source.join("linked/one"), source.join("linked/below/three")).unwrap();
    fs::hard_link(source.join("dangling"), source.join("dangling too")).unwrap();
}

fn write_special(source: &Path) {
    let special = source.join("special");
    fs::create_dir_all(&special).unwrap();
    let make = |name: &str, file_type, major, minor| {
        let device = rustix::fs::makedev(major, minor);
        let mode = Mode::from_raw_mode(0o640);
        rustix::fs::mknodat(CWD, special.join(name), file_type, mode, device).unwrap();
    };
    make("fifo", FileType::Fifo, 0, 0);
    make("null", FileType::CharacterDevice, 1, 3);
    make("disk", FileType::BlockDevice, 259, 1_000_000);
    drop(UnixListener::bind(special.join("socket")).unwrap());
}

fn write_metadata(source: &Path) {
    for (name, mode) in [
        ("setuid", 0o4755),
        ("setgid", 0o2711),
        ("private", 0o600),
        ("nothing", 0o000),
    ] {
        let path = source.join("modes").join(name);
        write(&path, name.as_bytes());
        std::os::unix::fs::chown(&path, Some(1234), Some(4321)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let sticky = source.join("modes/sticky");
    fs::create_dir_all(&sticky).unwrap();
    fs::set_permissions(&sticky, fs::Permissions::from_mode(0o1777)).unwrap();
    let marked = source.join("marked");
    write(&marked, b"marked");
    xattr::set(&marked, "user.comment", b"\x00any\xffbytes").unwrap();
    xattr::set(&marked, "user.empty", b"").unwrap();
    xattr::set(&marked, "trusted.secret", &[7; 1000]).unwrap();
    xattr::set(source.join("empty"), "user.of.directory", b"yes").unwrap();
    xattr::set(source.join("dangling"), "trusted.of.link", b"yes").ok();
    run(
        "setfacl",
        &["-m", "u:1234:rw-,g:4321:---", path_text(&marked)],
    );
    run(
        "setfacl",
        &["-d", "-m", "u:1234:r-x", path_text(&source.join("empty"))],
    );
    set_mtime(&source.join("text"), 1_234_567_890, 123_456_789);
    set_mtime(&source.join("zeros"), -86_400, 999_999_999);
    set_mtime(&source.join("link"), 4_000_000_000, 1);
}

/// A machine whose source has everything, and its point.
fn filled() -> (Machine, String) {
    let machine = Machine::new();
    fill(&machine.path("source"));
    let point = machine.back_up("--full");
    (machine, point)
}

#[test]
fn a_mount_shows_what_was_backed_up_whether_of_all_points_or_of_one() {
    let (machine, point) = filled();
    let source = machine.path("source");
    let expected = snapshot(&source);
    let all = machine.mount("all", &[]);
    assert_same(
        "a point of all",
        &expected,
        &snapshot(&all.source(&point, &source)),
        |_| {},
    );
    let one = machine.mount("one", &["--point", &point]);
    let root = one.path(source.strip_prefix("/").unwrap());
    assert_same("a point alone", &expected, &snapshot(&root), |_| {});
    // Both serve at the same time, and what is above the source is there with its own metadata.
    let (real, shown) = (
        fs::metadata(source.parent().unwrap()).unwrap(),
        fs::metadata(root.parent().unwrap()).unwrap(),
    );
    assert_eq!((real.mode(), real.uid()), (shown.mode(), shown.uid()));
}

#[test]
fn what_a_copy_brings_back_is_what_went_in() {
    let (machine, point) = filled();
    let source = machine.path("source");
    let mount = machine.mount("mnt", &[]);
    let shown = mount.source(&point, &source);
    let copy = machine.path("copy");
    run("cp", &["-a", path_text(&shown), path_text(&copy)]);
    // Blocks and ctime are the copy's own.
    assert_same("cp -a", &snapshot(&source), &snapshot(&copy), |seen| {
        seen.ctime = (0, 0);
        seen.blocks = 0;
        seen.data = Vec::new();
    });
    let changes = run(
        "rsync",
        &[
            "-naHAXc",
            "--delete",
            "--itemize-changes",
            &format!("{}/", path_text(&shown)),
            &format!("{}/", path_text(&source)),
        ],
    );
    assert_eq!(changes, "");
}

#[test]
fn random_reads_and_seeks_are_those_of_the_source() {
    let (machine, point) = filled();
    let source = machine.path("source");
    let mount = machine.mount("mnt", &[]);
    let shown = mount.source(&point, &source);
    for name in ["sizes/5000001", "sparse", "text", "sizes/131073"] {
        let real = File::open(source.join(name)).unwrap();
        let seen = File::open(shown.join(name)).unwrap();
        let size = real.metadata().unwrap().len();
        for step in 0..200_u64 {
            let offset = step * 7_919_123 % (size + 5000);
            let (mut expected, mut actual) = (vec![0; 5000], vec![0; 5000]);
            let length = real.read_at(&mut expected, offset).unwrap();
            assert_eq!(seen.read_at(&mut actual, offset).unwrap(), length, "{name}");
            assert_eq!(expected, actual, "{name} at {offset}");
        }
        for offset in [
            0,
            1,
            4096,
            1 << 20,
            (1 << 20) + 5000,
            size - 1,
            size,
            size + 1,
        ] {
            for whence in [SeekFrom::Data(offset), SeekFrom::Hole(offset)] {
                assert_eq!(
                    rustix::fs::seek(&real, whence),
                    rustix::fs::seek(&seen, whence),
                    "{name} {whence:?}"
                );
            }
        }
    }
}

#[test]
fn xattrs_that_are_missing_are_enodata_and_lists_have_their_size() {
    let (machine, point) = filled();
    let source = machine.path("source");
    let mount = machine.mount("mnt", &[]);
    let shown = mount.source(&point, &source);
    let get = |path: &Path, name: &str, room: &mut [u8]| rustix::fs::lgetxattr(path, name, room);
    for path in [
        shown.join("marked"),
        shown.join("text"),
        shown.join("link"),
        shown.clone(),
    ] {
        assert_eq!(get(&path, "user.none", &mut [0; 10]), Err(Errno::NODATA));
    }
    let marked = shown.join("marked");
    assert_eq!(rustix::fs::lgetxattr_query(&marked, "user.comment"), Ok(10));
    assert_eq!(get(&marked, "user.comment", &mut [0; 5]), Err(Errno::RANGE));
    let mut names = [0; 1000];
    let length = rustix::fs::listxattr(&marked, &mut names[..]).unwrap();
    assert_eq!(rustix::fs::listxattr_query(&marked), Ok(length));
    assert_eq!(
        rustix::fs::listxattr(&marked, &mut names[..3]),
        Err(Errno::RANGE)
    );
    // What is asked about most by far does not fail either.
    assert_eq!(
        rustix::fs::listxattr(shown.join("text"), &mut names[..]),
        Ok(0)
    );
    assert_eq!(rustix::fs::listxattr(&mount.place, &mut names[..]), Ok(0));
}

#[test]
fn du_and_df_tell_the_truth() {
    let (machine, point) = filled();
    let source = machine.path("source");
    let mount = machine.mount("mnt", &[]);
    let shown = mount.source(&point, &source);
    for name in ["sizes/5000001", "sparse", "hole", "text"] {
        let used = |path: &Path| {
            run("du", &["-B1", path_text(path)])
                .split('\t')
                .next()
                .map(str::to_owned)
        };
        assert_eq!(used(&source.join(name)), used(&shown.join(name)), "{name}");
    }
    let figures = rustix::fs::statvfs(&mount.place).unwrap();
    let total: u64 = snapshot(&source).values().map(|seen| seen.size).sum();
    let bytes = figures.f_blocks * figures.f_frsize;
    assert!(
        bytes >= total / 2 && bytes <= total * 2,
        "{bytes} of {total}"
    );
    assert_eq!(
        (figures.f_bfree, figures.f_bavail, figures.f_ffree),
        (0, 0, 0)
    );
    assert!(figures.f_files > 300);
    assert_eq!(figures.f_namemax, 4095);
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(machine.path("repository/config")).unwrap()).unwrap();
    let id = config.to_string();
    let listed = run(
        "findmnt",
        &["-no", "FSTYPE,SOURCE,OPTIONS", path_text(&mount.place)],
    );
    let mut fields = listed.split_whitespace();
    assert_eq!(fields.next(), Some("fuse.bygone"));
    let name = fields.next().unwrap().strip_prefix("bygone:").unwrap();
    assert!(id.contains(name), "{name} in {id}");
    let options = fields.next().unwrap();
    for option in ["ro", "nosuid", "nodev", "default_permissions"] {
        assert!(options.split(',').any(|set| set == option), "{option}");
    }
    assert!(!options.contains("allow_other"));
}

#[test]
fn what_is_damaged_is_eio_and_logged_and_all_else_still_reads() {
    let machine = Machine::new();
    let source = machine.path("source");
    write(&source.join("good"), &noise(1, 1 << 20));
    write(&source.join("bad"), &noise(2, 1 << 20));
    for number in 0..50 {
        write(
            &source.join(format!("small/{number}")),
            &noise(number + 10, 3000),
        );
    }
    let point = machine.back_up("--full");
    let (pack, offset) = find_in_packs(&machine, &noise(2, 1 << 20)[600_000..600_064]);
    flip(&pack, offset);
    let mount = machine.mount("mnt", &[]);
    let shown = mount.source(&point, &source);
    let bad = File::open(shown.join("bad")).unwrap();
    assert_eq!(
        bad.read_at(&mut [0; 10], 600_000)
            .unwrap_err()
            .raw_os_error(),
        Some(libc::EIO)
    );
    let log = mount.logged();
    let line = log
        .lines()
        .find(|line| line.contains("error"))
        .unwrap_or_else(|| panic!("no error in {log}"));
    let name = pack.file_name().unwrap().to_str().unwrap();
    for part in [name, "chunk", "source/bad", "offset"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    // Other parts of the same file, and everything else.
    let mut room = [0; 1000];
    bad.read_exact_at(&mut room, 0).unwrap();
    assert_eq!(room, noise(2, 1 << 20)[..1000]);
    assert_eq!(fs::read(shown.join("good")).unwrap(), noise(1, 1 << 20));
    for number in 0..50 {
        let path = shown.join(format!("small/{number}"));
        assert_eq!(fs::read(path).unwrap(), noise(number + 10, 3000));
    }
    // It is tried anew each time, and never comes out wrong.
    let mut whole = Vec::new();
    let mut bad = File::open(shown.join("bad")).unwrap();
    bad.rewind().unwrap();
    assert!(bad.read_to_end(&mut whole).is_err());
    assert_eq!(whole, noise(2, 1 << 20)[..whole.len()]);
}

/// The pack in which these bytes are, and an offset in the frame that has them: of the very bytes, where they stand
/// there as they are.
pub fn find_in_packs(machine: &Machine, wanted: &[u8]) -> (PathBuf, u64) {
    let find = |bytes: &[u8]| {
        bytes
            .windows(wanted.len())
            .position(|window| window == wanted)
    };
    let place = machine.path("repository");
    let repository = encryption::open(Arc::new(LocalStore::open(&place).unwrap())).unwrap();
    for (pack, _) in list_packs(&repository).unwrap() {
        let path = place.join(pack_name(&pack));
        let object = fs::read(&path).unwrap();
        for frame in read_pack_directory(&repository, &pack).unwrap().frames() {
            let start = frame.offset as usize;
            let sealed = &object[start..start + frame.length as usize];
            let length = frame.plain_length as usize;
            let seal = repository.seal();
            let plain = seal.open(frame.kind, &[], sealed, length).unwrap();
            if find(&plain).is_some() {
                let offset = find(sealed).unwrap_or(sealed.len() / 2);
                return (path, (start + offset) as u64);
            }
        }
    }
    panic!("no pack has the bytes");
}

pub fn flip(object: &Path, offset: u64) {
    fs::set_permissions(object, fs::Permissions::from_mode(0o600)).unwrap();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(object)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

/// A source of some folders and files, and what `edit` does to it.
fn write_plain(source: &Path) {
    for folder in ["a", "a/b", "c"] {
        for number in 0..20 {
            let path = source.join(folder).join(format!("{number}"));
            write(
                &path,
                format!("{folder} {number}\n")
                    .repeat(number * 50)
                    .as_bytes(),
            );
        }
    }
    write(&source.join("big"), &noise(3, 3 << 20));
    write(&source.join("c/gone"), b"gone soon");
}

fn edit(source: &Path) {
    let file = OpenOptions::new()
        .append(true)
        .open(source.join("a/b/7"))
        .unwrap();
    (&file).write_all(b"and more\n").unwrap();
    fs::remove_file(source.join("c/gone")).unwrap();
    write(&source.join("c/new"), b"new");
}

/// The paths of files that `program` opens below `below`.
pub fn opened_by(log: &Path, below: &Path, program: &[&str]) -> BTreeSet<PathBuf> {
    let output = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=open,openat", "-o", path_text(log)])
        .args(program)
        .env("LC_ALL", "C")
        .output()
        .expect("this test needs strace");
    assert!(output.status.code().is_some_and(|code| code < 2));
    fs::read_to_string(log)
        .unwrap()
        .lines()
        .filter_map(|line| {
            // The path that the descriptor has, told by -y: `= 3</the/path>`.
            let path = line
                .rsplit_once("= ")?
                .1
                .split_once('<')?
                .1
                .strip_suffix('>')?;
            Some(PathBuf::from(path))
        })
        .filter(|path| path.starts_with(below) && path.is_file())
        .collect()
}

#[test]
fn a_diff_of_two_points_opens_only_what_differs() {
    let machine = Machine::new();
    let source = machine.path("source");
    write_plain(&source);
    let first = machine.back_up("--full");
    edit(&source);
    let second = machine.back_up("--incremental");
    // A later full reads everything and inherits all the same.
    let third = machine.back_up("--full");
    let mount = machine.mount("mnt", &[]);
    let [a, b, c] = [&first, &second, &third].map(|point| mount.source(point, &source));
    for other in [&b, &c] {
        let opened = opened_by(
            &machine.path("strace"),
            &mount.place,
            &["diff", "-r", path_text(&a), path_text(other)],
        );
        let changed: BTreeSet<PathBuf> = [a.join("a/b/7"), other.join("a/b/7")].into();
        assert_eq!(opened, changed);
    }
    let told = Command::new("diff")
        .args(["-rq", path_text(&a), path_text(&b)])
        .output()
        .unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert_eq!(told.lines().count(), 3, "{told}");
    let same = opened_by(
        &machine.path("strace"),
        &mount.place,
        &["diff", "-r", path_text(&b), path_text(&c)],
    );
    assert!(same.is_empty(), "{same:?}");
}

#[test]
fn what_points_inherit_is_one_inode_and_their_roots_are_not() {
    let machine = Machine::new();
    let source = machine.path("source");
    write_plain(&source);
    let first = machine.back_up("--full");
    edit(&source);
    let second = machine.back_up("--incremental");
    let third = machine.back_up("--full");
    let mount = machine.mount("mnt", &[]);
    let inode = |point: &str, name: &str| {
        let path = mount.source(point, &source).join(name);
        fs::symlink_metadata(path).unwrap().ino()
    };
    for _again in 0..2 {
        for name in ["a/3", "a/b/8", "big", "c/19"] {
            assert_eq!(inode(&first, name), inode(&second, name), "{name}");
            assert_eq!(inode(&first, name), inode(&third, name), "{name}");
        }
        // A change re-records what is above it, and nothing beside it.
        for name in ["a/b/7", "a/b", "a", "c"] {
            assert_ne!(inode(&first, name), inode(&second, name), "{name}");
            assert_eq!(inode(&second, name), inode(&third, name), "{name}");
        }
        let root = |point: &str| {
            fs::metadata(mount.path("points").join(point))
                .unwrap()
                .ino()
        };
        assert_ne!(root(&second), root(&third));
    }
    // find sees no loops and cp no hard links between points.
    run("find", &[path_text(&mount.place), "-size", "+1G"]);
    run(
        "cp",
        &[
            "-a",
            path_text(&mount.path("points")),
            path_text(&machine.path("copy")),
        ],
    );
}

#[test]
fn a_diff_of_two_mounts_of_one_point_each_gives_the_same_answer() {
    let machine = Machine::new();
    let source = machine.path("source");
    write_plain(&source);
    let first = machine.back_up("--full");
    edit(&source);
    let second = machine.back_up("--differential");
    let (one, two) = (
        machine.mount("one", &["--point", &first]),
        machine.mount("two", &["--point", &second]),
    );
    let all = machine.mount("all", &[]);
    let diff = |a: PathBuf, b: PathBuf| {
        let output = Command::new("diff")
            .arg("-r")
            .args([&a, &b])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8(output.stdout).unwrap();
        text.replace(path_text(&a), "A").replace(path_text(&b), "B")
    };
    let below = source.strip_prefix("/").unwrap();
    assert_eq!(
        diff(one.path(below), two.path(below)),
        diff(all.source(&first, &source), all.source(&second, &source))
    );
}

#[test]
fn new_points_appear_while_mounted_and_latest_moves() {
    let machine = Machine::new();
    let source = machine.path("source");
    write(&source.join("file"), b"one");
    let first = machine.back_up("--full");
    let mount = machine.mount("mnt", &[]);
    let host = run("uname", &["-n"]).trim().to_owned();
    let latest = || fs::read_link(mount.path("latest")).unwrap();
    let names = |folder: &str| -> BTreeSet<String> {
        fs::read_dir(mount.path(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    assert_eq!(latest(), Path::new("points").join(&first));
    assert_eq!(names("points"), [first.clone()].into());
    // Asked for before it is there, so that the kernel remembers that it is not.
    assert!(!mount.path("labels/why").exists());
    write(&source.join("file"), b"two");
    let second = machine.back_up_with(&["--label", "why=test"]);
    assert!(
        within(Duration::from_secs(5), || names("points").contains(&second)),
        "{second} is not there"
    );
    assert_eq!(names("points"), [first.clone(), second.clone()].into());
    let is_newest = || latest() == Path::new("points").join(&second);
    assert!(within(Duration::from_secs(1), is_newest));
    let of_host = fs::read(
        mount
            .path("hosts")
            .join(&host)
            .join("latest")
            .join(source.strip_prefix("/").unwrap())
            .join("file"),
    );
    assert_eq!(of_host.unwrap(), b"two");
    assert_eq!(
        fs::read(mount.source(&first, &source).join("file")).unwrap(),
        b"one"
    );
    let short = &second[second.len() - 8..];
    assert!(names("ids").contains(short));
    assert!(
        mount
            .path("labels/why/test")
            .join(&second)
            .join("etc")
            .parent()
            .unwrap()
            .is_dir()
    );
}

#[test]
fn the_points_of_a_mount_are_narrowed_as_those_of_a_command() {
    let machine = Machine::new();
    let source = machine.path("source");
    write(&source.join("file"), b"one");
    let backup = |host: &str| machine.back_up_with(&["--host", host]);
    let (moon, mars) = (backup("moon"), backup("mars"));
    let mount = machine.mount("mnt", &["--host", "moon"]);
    assert!(mount.path("points").join(&moon).is_dir());
    assert!(!mount.path("points").join(&mars).exists());
    assert!(mount.path("hosts/moon/latest").is_dir());
    assert!(!mount.path("hosts/mars").exists());
    let one = machine.mount("one", &["--host", "moon", "--point", "latest"]);
    let below = source.strip_prefix("/").unwrap();
    assert!(one.path(below).join("file").is_file());
    let listed = run("findmnt", &["-no", "SOURCE", path_text(&one.place)]);
    assert!(listed.contains(&moon), "{listed}");
}

#[test]
fn reads_of_many_at_once_are_right() {
    let machine = Machine::new();
    let source = machine.path("source");
    for number in 0..40 {
        write(&source.join(format!("{number}")), &noise(number, 400_000));
    }
    let point = machine.back_up("--full");
    let mount = machine.mount("mnt", &[]);
    let shown = mount.source(&point, &source);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let shown = &shown;
            scope.spawn(move || {
                for step in 0..40 {
                    let number = (step * 7 + thread * 5) % 40;
                    let bytes = fs::read(shown.join(format!("{number}"))).unwrap();
                    assert!(bytes == noise(number, 400_000), "{number}");
                }
            });
        }
    });
    let output = Command::new("tar")
        .args(["-cf", "-", "-C", path_text(&shown), "."])
        .output()
        .unwrap();
    assert_success(&output);
}
