//! `bygone dump`, held against the plain trees by what other programs unpack of it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::chain::chain;
use crate::machine::{Machine, path_text, run};

/// A folder for what is unpacked, taken away at the end of a test.
fn folder() -> tempfile::TempDir {
    let prefix = "bygone-dumped-";
    tempfile::Builder::new().prefix(prefix).tempdir().unwrap()
}

/// Gives what a command prints to another one, and returns what that prints; both have to succeed.
fn piped(from: &mut Command, to: &mut Command) -> String {
    let mut from = from.stdout(Stdio::piped()).spawn().unwrap();
    let stream = from.stdout.take().unwrap();
    let output = to.stdin(stream).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(from.wait().unwrap().success());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn untar(to: &Path) -> Command {
    let mut command = Command::new("tar");
    command
        .args([
            "--extract",
            "--preserve-permissions",
            "--same-owner",
            "--numeric-owner",
        ])
        .args(["--xattrs", "--xattrs-include=*", "--file=-", "--directory"])
        .arg(to);
    command
}

/// What rsync finds to differ.
fn differences(tree: &Path, found: &Path) -> String {
    let (tree, found) = (tree.join(""), found.join(""));
    let places = [path_text(&tree), path_text(&found)];
    run(
        "rsync",
        &[&["-naHAXi", "--checksum", "--delete"][..], &places].concat(),
    )
}

#[test]
fn tar_unpacks_every_point_as_it_was() {
    let chain = chain();
    let folder = folder();
    for (number, point) in chain.points.iter().enumerate() {
        let to = folder.path().join(&point.id);
        fs::create_dir(&to).unwrap();
        let source = path_text(&chain.source);
        if number % 2 == 0 {
            piped(
                &mut chain.bygone(&["dump", &point.id, source]),
                &mut untar(&to),
            );
        } else {
            let dump = ["dump", "--format", "tar.zst", &point.id, source];
            piped(&mut chain.bygone(&dump), untar(&to).arg("--zstd"));
        }
        assert_eq!(differences(&point.tree, &to), "", "{}", point.id);
    }
}

#[test]
fn tar_has_what_is_rare_too() {
    let machine = Machine::new();
    let source = machine.folder("rare");
    let at = |name: &str| source.join(name);
    let long = "long".repeat(60);
    fs::create_dir_all(at(&long).join(&long)).unwrap();
    fs::write(at(&long).join(&long).join("leaf"), "deep down").unwrap();
    symlink(format!("{long}/{long}"), at("far")).unwrap();
    run("mknod", &[path_text(&at("device")), "c", "1", "3"]);
    run("mknod", &[path_text(&at("disk")), "b", "259", "70000"]);
    fs::write(at("listed"), "with an ACL").unwrap();
    let mut acl = vec![2, 0, 0, 0];
    for (tag, rights, id) in [
        (1_u16, 6_u16, u32::MAX),
        (2, 4, 1234),
        (4, 4, u32::MAX),
        (16, 6, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        acl.extend(tag.to_le_bytes());
        acl.extend(rights.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    xattr::set(at("listed"), "system.posix_acl_access", &acl).unwrap();
    xattr::set(at("listed"), "user.a=b", b"a value\nof two lines").unwrap();
    std::os::unix::fs::lchown(at("far"), Some(3_000_000_000), Some(2_097_152)).unwrap();
    run(
        "touch",
        &["-d", "1960-01-02 03:04:05.678", path_text(&at("old"))],
    );
    let big = fs::File::create(at("big")).unwrap();
    big.set_len(9 << 30).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    let point = machine.back_up_with(&[path_text(&source)]);
    fs::remove_file(at("socket")).unwrap();
    let time = fs::metadata(&source).unwrap().modified().unwrap();
    let to = machine.folder("out");
    let dump = ["dump", "-q", &point, path_text(&source)];
    // Sparsely: nobody wants to write 9 GiB.
    let listed = piped(
        &mut machine.bygone(&dump),
        Command::new("tar").args(["-tvf", "-", "--numeric-owner"]),
    );
    assert!(
        listed.contains("9663676416") && listed.contains("259,70000"),
        "{listed}"
    );
    piped(
        &mut machine.bygone(&dump),
        untar(&to).args(["--exclude", "./big", "--exclude", "big"]),
    );
    fs::remove_file(at("big")).unwrap();
    fs::File::open(&source).unwrap().set_modified(time).unwrap();
    let left = differences(&source, &to);
    // The root's own time is that of a folder that has lost its socket and the large file.
    let left: Vec<&str> = left.lines().filter(|line| !line.ends_with(" ./")).collect();
    assert_eq!(left, Vec::<&str>::new());
    let value = xattr::get(to.join("listed"), "user.a=b").unwrap().unwrap();
    assert_eq!(value, b"a value\nof two lines");
}

#[test]
fn zip_is_read_by_python_and_has_names_contents_modes_and_symlinks() {
    let chain = chain();
    let folder = folder();
    let point = chain.points.last().unwrap();
    let archive = folder.path().join("out.zip");
    let dump = [
        "dump",
        "--format",
        "zip",
        &point.id,
        path_text(&chain.source),
    ];
    let status = chain
        .bygone(&dump)
        .stdout(fs::File::create(&archive).unwrap())
        .status()
        .unwrap();
    assert!(status.success());
    let program = "
import os, stat, sys, zipfile
archive, tree = zipfile.ZipFile(sys.argv[1]), sys.argv[2]
assert archive.testzip() is None
members = {info.filename.rstrip('/'): info for info in archive.infolist()}
count = 0
for directory, directories, files in os.walk(tree):
    for name in directories + files:
        path = os.path.join(directory, name)
        status = os.lstat(path)
        inner = os.path.relpath(path, tree).encode(errors='surrogateescape').decode(errors='replace')
        if stat.S_ISFIFO(status.st_mode):
            assert inner not in members
            continue
        info = members[inner]
        count += 1
        mode = info.external_attr >> 16
        if stat.S_ISLNK(status.st_mode):
            assert stat.S_ISLNK(mode) and archive.read(info) == os.fsencode(os.readlink(path))
        else:
            assert mode & 0o7777 == status.st_mode & 0o7777, inner
        if stat.S_ISREG(status.st_mode):
            assert archive.read(info) == open(path, 'rb').read(), inner
        extra, times = info.extra, None
        while extra:
            number, length = int.from_bytes(extra[:2], 'little'), int.from_bytes(extra[2:4], 'little')
            if number == 0x5455:
                times = int.from_bytes(extra[5:9], 'little', signed=True)
            extra = extra[4 + length:]
        assert times == int(status.st_mtime), inner
assert count == len(members), (count, len(members))
print(count)
";
    let printed = run(
        "python3",
        &["-c", program, path_text(&archive), path_text(&point.tree)],
    );
    assert!(printed.trim().parse::<u32>().unwrap() > 50);
}

#[test]
fn a_file_comes_byte_for_byte_and_in_an_archive_if_wished() {
    let chain = chain();
    let point = chain.points.last().unwrap();
    for name in ["large", "sparse", "letter", "empty", "one"] {
        let path = chain.path(&format!("own/{name}"));
        let output = chain.bygone(&["dump", &point.id, &path]).output().unwrap();
        assert!(output.status.success());
        let kept = fs::read(point.tree.join("own").join(name)).unwrap();
        assert!(output.stdout == kept, "{name}");
    }
    let folder = folder();
    let dump = [
        "dump",
        "--format",
        "tar",
        &point.id,
        &chain.path("own/letter"),
    ];
    piped(&mut chain.bygone(&dump), &mut untar(folder.path()));
    let names: Vec<PathBuf> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(names, [folder.path().join("letter")]);
    let kept = fs::metadata(point.tree.join("own/letter")).unwrap();
    let found = fs::metadata(&names[0]).unwrap();
    assert_eq!(
        (kept.uid(), kept.mode(), kept.mtime(), kept.mtime_nsec()),
        (found.uid(), found.mode(), found.mtime(), found.mtime_nsec())
    );
    let refused = chain.ends(2, &["dump", &point.id, &chain.path("own/fifo")]);
    assert_eq!(refused, "");
    chain.ends(2, &["dump", &point.id, "/no/such/path"]);
}

#[test]
fn a_reader_who_goes_ends_it_quietly() {
    let chain = chain();
    let point = chain.points.last().unwrap();
    for path in [path_text(&chain.source), &chain.path("own/large")] {
        let mut dump = chain
            .bygone(&["dump", &point.id, path])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 1000];
        dump.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let ended = dump.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(141));
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
    }
}
