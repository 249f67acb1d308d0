//! A repository of 24 points with plain copies beside it: the releases of a public project, each brought into the same
//! folder as an update would bring it, and things of our own that change owner, mode and type, vanish and return.
//!
//! It is made once for all tests of the binary, which only read it; who writes takes a `machine` with a copy. The points
//! are a day apart, the first an hour ahead of now: by such a clock everything settled long ago. The archives are kept
//! below `target/`, and each is held against the checksum in the list.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bygone::base::Timestamp;
use bygone::format::PointKind;
use bygone::repo::Repository;
use bygone::store::LocalStore;

use crate::backups::{back_up_with, later, options};
use crate::encryption;
use crate::machine::{Machine, assert_success, path_text, run};

const PROJECT: &str = "bytes";

/// Releases, oldest first, with the SHA-256 of their archives.
const RELEASES: [(&str, &str); 24] = [
    (
        "0.4.2",
        "3941933da81d8717b427c2ddc2d73567cd15adb6c57514a2726d9ee598a5439a",
    ),
    (
        "0.4.3",
        "f9edb851115d67d1f18680f9326901768a91d37875b87015518357c6ce22b553",
    ),
    (
        "0.4.4",
        "8b24f16593f445422331a5eed46b72f7f171f910fead4f2ea8f17e727e9c5c14",
    ),
    (
        "0.4.5",
        "d828f97b58cc5de3e40c421d0cf2132d6b2da4ee0e11b8632fa838f0f9333ad6",
    ),
    (
        "0.4.6",
        "1b7db437d718977f6dc9b2e3fd6fc343c02ac6b899b73fdd2179163447bd9ce9",
    ),
    (
        "0.4.7",
        "2f1d50c876fb7545f5f289cd8b2aee3f359d073ae819eed5d6373638e2c61e59",
    ),
    (
        "0.4.8",
        "7dd32989a66957d3f0cba6588f15d4281a733f4e9ffc43fcd2385f57d3bf99ff",
    ),
    (
        "0.4.9",
        "e178b8e0e239e844b083d5a0d4a156b2654e67f9f80144d48398fcd736a24fb8",
    ),
    (
        "0.4.10",
        "0ce55bd354b095246fc34caf4e9e242f5297a7fd938b090cadfea6eee614aa62",
    ),
    (
        "0.4.11",
        "40ade3d27603c2cb345eb0912aec461a6dec7e06a4ae48589904e808335c7afa",
    ),
    (
        "0.4.12",
        "206fdffcfa2df7cbe15601ef46c813fce0965eb3286db6b56c583b814b51c81c",
    ),
    (
        "0.5.2",
        "1c85319f157e4e26c703678e68e26ab71a46c0199286fa670b21cc9fec13d895",
    ),
    (
        "0.5.3",
        "10004c15deb332055f7a4a208190aed362cf9a7c2f6ab70a305fba50e1105f38",
    ),
    (
        "0.5.4",
        "130aac562c0dd69c56b3b1cc8ffd2e17be31d0b6c25b61c96b76231aa23e39e1",
    ),
    (
        "0.5.6",
        "0e4cec68f03f32e44924783795810fa50a7035d8c8ebe78580ad7e6c703fba38",
    ),
    (
        "0.6.0",
        "e0dcbc35f504eb6fc275a6d20e4ebcda18cf50d40ba6fabff8c711fa16cb3b16",
    ),
    (
        "1.0.0",
        "ad1f8e949d755f9d79112b5bb46938e0ef9d3804a0b16dfab13aafcaa5f0fa72",
    ),
    (
        "1.0.1",
        "b700ce4376041dcd0a327fd0097c41095743c4c8af8887265942faf1100bd040",
    ),
    (
        "1.1.0",
        "c4872d67bab6358e59559027aa3b9157c53d9358c51423c17554809a8858e0f8",
    ),
    (
        "1.2.0",
        "f0b3de4a0c5e67e16066a0715723abd91edc2f9001d09c46e1dca929351e130e",
    ),
    (
        "1.3.0",
        "dfb24e866b15a1af2a1b663f10c6b6b8f397a84aadb828f12e5b289ec23a3a3c",
    ),
    (
        "1.4.0",
        "89b2fd2a0dcf38d7971e2194b6b6eebab45ae01067456a7fd93d5547a61b70be",
    ),
    (
        "1.5.0",
        "a2bd12c1caf447e69cd4528f47f94d203fd2582878ecb9e9465484c4148a8223",
    ),
    (
        "1.7.1",
        "8318a53db07bb3f8dca91a600466bdb3f2eaadeedfdbcf02e1accbad9271ba50",
    ),
];

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Bytes of the large file among the things of our own: several chunks.
const LARGE_BYTES: usize = 3 << 20;

/// The repository, what it is of, and the copies.
pub struct Chain {
    folder: tempfile::TempDir,
    pub repository: PathBuf,
    /// The folder that every point is of, as it was left after the last one. The project lies in it, and `own`.
    pub source: PathBuf,
    /// Oldest first.
    pub points: Vec<Kept>,
}

/// A point, and what the source was then.
pub struct Kept {
    pub id: String,
    pub version: &'static str,
    pub kind: PointKind,
    /// A copy of the source, by `cp -a`.
    pub tree: PathBuf,
}

/// The one chain of this process.
pub fn chain() -> &'static Chain {
    static CHAIN: OnceLock<Chain> = OnceLock::new();
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();

    /// Nothing else ends what lives as long as the process.
    extern "C" fn clean_up() {
        if let Some(folder) = FOLDER.get() {
            let _gone = fs::remove_dir_all(folder);
        }
    }

    CHAIN.get_or_init(|| {
        let chain = Chain::make();
        if FOLDER.set(chain.folder.path().to_owned()).is_ok() {
            // SAFETY: the function takes nothing, and calls nothing that needs what may be gone at the end.
            let status = unsafe { libc::atexit(clean_up) };
            assert_eq!(status, 0, "the folder would be left behind");
        }
        chain
    })
}

impl Chain {
    /// The point of a release.
    pub fn of(&self, version: &str) -> &Kept {
        let point = self.points.iter().find(|point| point.version == version);
        point.unwrap_or_else(|| panic!("no point is of {version}"))
    }

    /// A path in the source, as points record it.
    pub fn path(&self, name: &str) -> String {
        path_text(&self.source.join(name)).to_owned()
    }

    /// The binary, with this repository and a state of its own.
    pub fn bygone<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bygone"));
        command
            .env("BYGONE_REPO", &self.repository)
            .env("XDG_STATE_HOME", self.folder.path().join("state"))
            .args(arguments)
            .stdin(Stdio::null());
        encryption::unlock(&mut command);
        command
    }

    /// Runs it; panics with what it said unless it ends with this exit code. Returns what it printed.
    pub fn ends<S: AsRef<OsStr>>(&self, exit_code: i32, arguments: &[S]) -> String {
        let output = self.bygone(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(exit_code), "{told}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it; panics with what it said unless all went well. Returns what it printed.
    pub fn done<S: AsRef<OsStr>>(&self, arguments: &[S]) -> String {
        self.ends(0, arguments)
    }

    /// The objects that it prints, one a line, ending with this exit code.
    pub fn objects<S: AsRef<OsStr>>(
        &self,
        exit_code: i32,
        arguments: &[S],
    ) -> Vec<serde_json::Value> {
        let printed = self.ends(exit_code, arguments);
        let lines = printed.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// A machine of its own with a copy of the repository, for a test that mounts it or writes to it.
    pub fn machine(&self) -> Machine {
        let machine = Machine::bare();
        let copy = machine.path("repository");
        run("cp", &["-a", path_text(&self.repository), path_text(&copy)]);
        machine
    }

    fn make() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test changes owners: run it as root"
        );
        let folder = tempfile::Builder::new()
            .prefix("bygone-chain-")
            .tempdir()
            .unwrap();
        // Other users look at mounts of it.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let top = folder.path().canonicalize().unwrap();
        let mut chain = Self {
            repository: top.join("repository"),
            source: top.join("source"),
            points: Vec::new(),
            folder,
        };
        fs::create_dir(&chain.source).unwrap();
        assert_success(&chain.bygone(encryption::init_arguments()).output().unwrap());
        let store = Arc::new(LocalStore::open(&chain.repository).unwrap());
        let repository = encryption::open(store).unwrap();
        let archives = archives();
        for (number, archive) in archives.iter().enumerate() {
            chain.update(archive);
            edit(number, &chain.source.join("own"));
            let kept = chain.back_up(&repository, number);
            chain.points.push(kept);
        }
        chain
    }

    /// Brings a release into the source: only what differs is written.
    fn update(&self, archive: &Path) {
        let unpacked = self.folder.path().join("unpacked");
        fs::create_dir(&unpacked).unwrap();
        let options = [
            "--extract",
            "--gzip",
            "--strip-components=1",
            "--no-same-owner",
        ];
        let places = [
            "--file",
            path_text(archive),
            "--directory",
            path_text(&unpacked),
        ];
        run("tar", &[options, places].concat());
        let (from, to) = (unpacked.join(""), self.source.join("project"));
        let options = ["--archive", "--checksum", "--delete"];
        run(
            "rsync",
            &[&options[..], &[path_text(&from), path_text(&to)]].concat(),
        );
        fs::remove_dir_all(&unpacked).unwrap();
    }

    fn back_up(&self, repository: &Arc<Repository>, number: usize) -> Kept {
        let kind = kind(number);
        DAY.store(number as i64, Ordering::Relaxed);
        let mut options = options(&[&self.source]);
        options.kind = kind;
        options.clock = clock;
        options.labels = [("release".to_owned(), RELEASES[number].0.to_owned())].into();
        let (report, warnings) = back_up_with(repository, &options);
        assert!(warnings.is_empty(), "{warnings:?}");
        let tree = self.folder.path().join(format!("tree-{number:02}"));
        run("cp", &["-a", path_text(&self.source), path_text(&tree)]);
        Kept {
            id: report.point.unwrap().id.to_string(),
            version: RELEASES[number].0,
            kind,
            tree,
        }
    }
}

/// Two fulls, differentials here and there, and incrementals.
fn kind(number: usize) -> PointKind {
    match number {
        0 | 13 => PointKind::Full,
        5 | 10 | 18 => PointKind::Differential,
        _ => PointKind::Incremental,
    }
}

static DAY: AtomicI64 = AtomicI64::new(0);

fn clock() -> Timestamp {
    static START: OnceLock<Timestamp> = OnceLock::new();
    let start = START.get_or_init(later);
    Timestamp {
        seconds: start.seconds + DAY.load(Ordering::Relaxed) * DAY_SECONDS,
        nanoseconds: start.nanoseconds,
    }
}

/// The archives of all releases, fetched unless they are there.
fn archives() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("releases");
    fs::create_dir_all(&folder).unwrap();
    let archives = RELEASES.map(|(version, checksum)| {
        let name = format!("{PROJECT}-{version}.crate");
        let archive = folder.join(&name);
        if !archive.exists() {
            fetch(&name, checksum, &archive);
        }
        archive
    });
    archives.into()
}

/// Fetches an archive, which is at its place only when it is whole.
fn fetch(name: &str, checksum: &str, archive: &Path) {
    let part = archive.with_extension(format!("part-{}", std::process::id()));
    let url = format!("https://static.crates.io/crates/{PROJECT}/{name}");
    let options = [
        "--silent",
        "--show-error",
        "--fail",
        "--location",
        "--retry",
        "3",
    ];
    let fetched = Command::new("curl")
        .args(options)
        .args(["--output", path_text(&part), &url])
        .output()
        .unwrap_or_else(|error| panic!("this test needs curl: {error}"));
    assert!(
        fetched.status.success(),
        "this test needs the network once, for {url}: {}",
        String::from_utf8_lossy(&fetched.stderr)
    );
    let sum = run("sha256sum", &[path_text(&part)]);
    assert!(sum.starts_with(checksum), "{url} is not what it was: {sum}");
    fs::rename(&part, archive).unwrap();
}

/// What happens to things of our own before a point, beside what the release brings.
fn edit(number: usize, own: &Path) {
    let at = |name: &str| own.join(name);
    match number {
        0 => begin(own),
        2 => write(&at("diary.txt"), "first day\nsecond day\n", 2),
        3 => fs::set_permissions(at("script"), Permissions::from_mode(0o755)).unwrap(),
        4 => chown(at("letter"), Some(1234), Some(4321)).unwrap(),
        5 => xattr::set(at("letter"), "user.mood", b"merry").unwrap(),
        6 => fs::remove_file(at("diary.txt")).unwrap(),
        7 => {
            fs::remove_file(at("turns")).unwrap();
            fs::create_dir(at("turns")).unwrap();
            write(&at("turns/inside"), "below what was a file\n", 7);
        }
        8 => {
            let large = File::options().write(true).open(at("large")).unwrap();
            large
                .write_all_at(b"changed in the middle", 1 << 20)
                .unwrap();
        }
        9 => {
            write(&at("diary.txt"), "a new diary\n", 9);
            fs::rename(at("old name"), at("new name")).unwrap();
        }
        11 => {
            fs::remove_file(at("link")).unwrap();
            symlink("elsewhere", at("link")).unwrap();
        }
        12 => touch(&at("letter"), 12),
        14 => {
            fs::remove_dir_all(at("turns")).unwrap();
            write(&at("turns"), "a file again\n", 14);
        }
        15 => xattr::remove(at("letter"), "user.mood").unwrap(),
        16 => fs::remove_dir_all(at("folder")).unwrap(),
        17 => write(&at("diary.txt"), "a new diary\nwith a line more\n", 17),
        19 => {
            fs::create_dir_all(at("folder/deep")).unwrap();
            write(&at("folder/deep/leaf"), "back again\n", 19);
        }
        20 => fs::remove_file(at("diary.txt")).unwrap(),
        _ => {}
    }
}

/// The things of our own, as they are at first.
fn begin(own: &Path) {
    let at = |name: &str| own.join(name);
    fs::create_dir_all(at("folder/deep")).unwrap();
    fs::create_dir(at("empty folder")).unwrap();
    write(&at("diary.txt"), "first day\n", 0);
    write(&at("script"), "#!/bin/sh\necho a script\n", 0);
    write(&at("letter"), "Dear Selene,\n", 0);
    write(&at("turns"), "a file at first\n", 0);
    write(&at("old name"), "what is in a name\n", 0);
    write(&at("folder/deep/leaf"), "a leaf\n", 0);
    write(&at("empty"), "", 0);
    fs::write(own.join(OsStr::from_bytes(b"no text \xff")), "of no text\n").unwrap();
    symlink("diary.txt", at("link")).unwrap();
    lchown(at("link"), Some(1234), Some(4321)).unwrap();
    fs::write(at("one"), "one file by two names\n").unwrap();
    fs::hard_link(at("one"), at("two")).unwrap();
    run("mkfifo", &[path_text(&at("fifo"))]);
    let mut large = vec![0; LARGE_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut large);
    fs::write(at("large"), &large).unwrap();
    let sparse = File::create(at("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    sparse.write_all_at(b"in the middle", 4 << 20).unwrap();
}

/// Writes a file whose time says in which step.
fn write(path: &Path, text: &str, number: usize) {
    fs::write(path, text).unwrap();
    touch(path, number);
}

fn touch(path: &Path, number: usize) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000 + 1000 * number as u64);
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}
