//! Random edits of real trees, points of random kinds on long chains, and every point compared with what the tree was
//! when it was made: through the library for all of them, through a real mount for every tenth. On the way there,
//! backups merge the runs of the chain many times.
//!
//! What a point is compared with is twofold: a plain copy (`cp -a`) that is kept beside it, read again at the end; and,
//! since no copy can keep ctime and few keep blocks, what was seen of the source itself at that time.
//!
//! The seed is printed; `BYGONE_TEST_SEED=N` repeats a run.

mod support {
    pub mod backups;
    pub mod edits;
    #[expect(dead_code, reason = "other tests use the rest of it")]
    pub mod encryption;
    pub mod findings;
    pub mod library;
    pub mod random;
    pub mod snapshot;
}

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bygone::base::PointId;
use bygone::format::{PointKind, point_name};
use bygone::ops::backup::BackupOptions;
use bygone::repo::{Repository, points};
use bygone::store::LocalStore;

use support::backups::{back_up_with, later, now, options};
use support::edits::Editor;
use support::encryption;
use support::findings::findings;
use support::library::read_point;
use support::random::Random;
use support::snapshot::{Seen, Snapshot, assert_same, snapshot};

/// Runs that a point stands on at most.
const RUNS_MAX: usize = 24;

/// Bytes of a point's header at most, in chains as long as these.
const HEADER_BYTES_MAX: usize = 24 << 10;

/// A tree, its repository, and what the tree was at each point.
struct Chain {
    temp: tempfile::TempDir,
    editor: Editor,
    repository: Arc<Repository>,
    points: Vec<Kept>,
    /// Edits before a point, at most.
    edits_max: usize,
}

struct Kept {
    id: PointId,
    seen: Snapshot,
    copy: PathBuf,
}

impl Chain {
    fn create(seed: u64, entries: usize, wide: usize) -> Self {
        println!("seed {seed} (BYGONE_TEST_SEED={seed} repeats this run)");
        let temp = tempfile::tempdir().unwrap();
        let editor = Editor::create(temp.path().join("source"), seed, entries, wide);
        let repository = create_repository(&temp.path().join("repository"));
        Self {
            temp,
            editor,
            repository,
            points: Vec::new(),
            edits_max: 40,
        }
    }

    /// Edits, backs up as `kind`, and keeps what the tree is now.
    fn advance(&mut self, kind: PointKind) {
        let edits = self.editor.random.below(self.edits_max);
        self.editor.edit(edits);
        // What is written out later than it is backed up may take other blocks than it took then.
        rustix::fs::syncfs(std::fs::File::open(&self.editor.root).unwrap()).unwrap();
        // Now and then the clock has moved on, so that what did not change is settled.
        let settled = !self.editor.random.once_in(4);
        let id = back_up(&self.repository, &self.editor.root, kind, settled);
        let copy = self.temp.path().join(format!("copy-{}", self.points.len()));
        let copied = Command::new("cp")
            .arg("-a")
            .arg(&self.editor.root)
            .arg(&copy)
            .status()
            .unwrap();
        assert!(copied.success(), "cp -a of the source");
        let seen = snapshot(&self.editor.root);
        self.points.push(Kept { id, seen, copy });
    }

    /// Long stretches of incrementals, with differentials and fulls between them.
    fn grow(&mut self, points: usize) {
        for number in 0..points {
            let kind = match self.editor.random.below(20) {
                _ if number <= 25 => PointKind::Incremental,
                0 => PointKind::Full,
                1..=3 => PointKind::Differential,
                _ => PointKind::Incremental,
            };
            self.advance(kind);
        }
    }

    fn compare(&self) {
        for (number, point) in self.points.iter().enumerate() {
            let what = format!("point {number}, {}, through the library", point.id);
            let found = read_point(&self.repository, point.id, &self.editor.root);
            assert_kept(&what, point, &found);
            if number % 10 == 9 {
                self.compare_mounted(number, point);
            }
            std::fs::remove_dir_all(&point.copy).unwrap();
        }
    }

    fn compare_mounted(&self, number: usize, point: &Kept) {
        let mount = Mount::of(self.temp.path(), Some(point.id));
        let inside = mount.path.join(self.editor.root.strip_prefix("/").unwrap());
        let what = format!("point {number}, {}, through a mount", point.id);
        assert_kept(&what, point, &snapshot(&inside));
        let rsync = Command::new("rsync")
            .args(["-nacXAH", "--delete", "--itemize-changes"])
            .arg(format!("{}/", inside.display()))
            .arg(format!("{}/", point.copy.display()))
            .output()
            .unwrap();
        assert!(
            rsync.status.success(),
            "{what}: {}",
            String::from_utf8_lossy(&rsync.stderr)
        );
        assert!(
            rsync.stdout.is_empty(),
            "{what}: {}",
            String::from_utf8_lossy(&rsync.stdout)
        );
    }

    /// Does every point stand on few runs, and name them in a small header? Gives how many merged runs there are: those
    /// that hold the rows of at least as many others as a backup merges.
    fn count_merged(&self) -> usize {
        let mut merged = BTreeSet::new();
        for point in points(&self.repository).unwrap() {
            assert!(point.runs.len() <= RUNS_MAX, "{}", point.runs.len());
            let header = self.repository.store().get(&point_name(&point.id)).unwrap();
            assert!(header.len() <= HEADER_BYTES_MAX, "{} bytes", header.len());
            let holding = point.runs.iter().filter(|run| run.origins.len() >= 3);
            merged.extend(holding.map(|run| run.id));
        }
        merged.len()
    }

    fn check(&self) {
        assert_eq!(findings(&self.repository), Vec::<String>::new());
    }
}

fn create_repository(path: &Path) -> Arc<Repository> {
    let store = LocalStore::create(path).unwrap();
    Repository::init(Arc::new(store), &encryption::init_options()).unwrap()
}

/// Backs `source` up. If it is `settled`, what did not change is not read again.
fn back_up(repository: &Arc<Repository>, source: &Path, kind: PointKind, settled: bool) -> PointId {
    let options = BackupOptions {
        kind,
        clock: if settled { later } else { now },
        ..options(&[source])
    };
    let (report, warnings) = back_up_with(repository, &options);
    assert!(warnings.is_empty(), "{warnings:?}");
    report.point.expect("it was no dry run").id
}

/// Is `found` what the source was seen to be, and what its copy is?
fn assert_kept(what: &str, point: &Kept, found: &Snapshot) {
    assert_same(what, &point.seen, found, |_| ());
    // A copy has its own ctime, and its file system's idea of blocks and of where data begins.
    let copied = |seen: &mut Seen| {
        seen.ctime = (0, 0);
        seen.blocks = 0;
        seen.data.clear();
    };
    assert_same(
        &format!("{what}, with its copy"),
        &snapshot(&point.copy),
        found,
        copied,
    );
}

/// A mount of the real binary, below a temporary folder, taken away when dropped.
struct Mount {
    path: PathBuf,
}

impl Mount {
    fn of(temp: &Path, point: Option<PointId>) -> Self {
        let path = temp.join("mount");
        std::fs::create_dir_all(&path).unwrap();
        let mut command = bygone(temp);
        command.arg("mount");
        if let Some(point) = point {
            command.args(["--point", &point.to_string()]);
        }
        let output = command.arg(&path).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Self { path }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        assert!(self.path.starts_with(std::env::temp_dir()) && self.path.ends_with("mount"));
        let output = Command::new(env!("CARGO_BIN_EXE_bygone"))
            .arg("umount")
            .arg(&self.path)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

fn bygone(temp: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bygone"));
    command
        .arg("--repo")
        .arg(temp.join("repository"))
        .env("XDG_STATE_HOME", temp.join("state"));
    encryption::unlock(&mut command);
    command
}

/// A seed for each test: the one that was asked for, or a new one.
fn seed(test: u64) -> u64 {
    match std::env::var("BYGONE_TEST_SEED") {
        Ok(seed) => seed.parse().expect("BYGONE_TEST_SEED is a number"),
        Err(_) => {
            let nanoseconds = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_nanos() as u64;
            Random::new(nanoseconds ^ test).next()
        }
    }
}

#[test]
fn a_chain_of_150_points_of_a_small_tree_is_kept() {
    let mut chain = Chain::create(seed(1), 500, 0);
    chain.grow(150);
    chain.compare();
    chain.check();
}

#[test]
fn a_chain_of_130_points_of_a_larger_tree_is_kept() {
    let mut chain = Chain::create(seed(2), 1500, 0);
    chain.grow(130);
    chain.compare();
    chain.check();
}

#[test]
fn a_chain_of_120_incrementals_of_few_changes_stands_on_few_runs_and_is_kept() {
    let mut chain = Chain::create(seed(6), 120, 0);
    chain.edits_max = 5;
    for _ in 0..120 {
        chain.advance(PointKind::Incremental);
    }
    assert!(chain.count_merged() >= 25);
    chain.compare();
    chain.check();
}

#[test]
fn a_chain_of_20_points_with_a_directory_of_10_000_is_kept() {
    let mut chain = Chain::create(seed(3), 500, 10_000);
    chain.grow(20);
    chain.compare();
    chain.check();
}

#[test]
fn two_backups_of_one_set_at_once_both_commit() {
    let mut chain = Chain::create(seed(4), 500, 0);
    chain.advance(PointKind::Full);
    for _ in 0..8 {
        chain.editor.edit(30);
        let (root, repository) = (&chain.editor.root, &chain.repository);
        let ids = std::thread::scope(|scope| {
            let one = scope.spawn(|| back_up(repository, root, PointKind::Incremental, true));
            let other = scope.spawn(|| back_up(repository, root, PointKind::Incremental, false));
            [one.join().unwrap(), other.join().unwrap()]
        });
        let seen = snapshot(root);
        assert_ne!(ids[0], ids[1]);
        for id in ids {
            let found = read_point(repository, id, root);
            assert_same(
                &format!("point {id}, made beside another"),
                &seen,
                &found,
                |_| (),
            );
        }
    }
    // Each of the two merged, without knowing of the other.
    assert!(chain.count_merged() >= 2);
    chain.check();
}

#[test]
fn backups_under_a_live_mount_commit_and_appear_in_it() {
    let mut chain = Chain::create(seed(5), 500, 0);
    chain.advance(PointKind::Full);
    let mount = Mount::of(chain.temp.path(), None);
    let inside = chain.editor.root.strip_prefix("/").unwrap().to_path_buf();
    for kind in [
        PointKind::Incremental,
        PointKind::Differential,
        PointKind::Full,
        PointKind::Incremental,
    ] {
        // The mount is walked while the backup runs.
        let first = mount
            .path
            .join("points")
            .join(chain.points[0].id.to_string())
            .join(&inside);
        let walker = std::thread::spawn(move || snapshot(&first));
        chain.advance(kind);
        assert_same(
            "the first point, read while another is made",
            &chain.points[0].seen,
            &walker.join().unwrap(),
            |_| (),
        );
        let newest = chain.points.last().unwrap();
        let path = mount.path.join("points").join(newest.id.to_string());
        let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !path.exists() {
            assert!(
                std::time::Instant::now() < patience,
                "{path:?} does not appear in a minute"
            );
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        assert_same(
            "the newest point, in a mount older than it",
            &newest.seen,
            &snapshot(&path.join(&inside)),
            |_| (),
        );
    }
    drop(mount);
    chain.check();
}
