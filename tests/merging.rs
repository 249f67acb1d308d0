//! Backups that merge the runs of those before them, through the library: what a merge that fails costs, and what a
//! check finds of merged runs.

mod support {
    pub mod backups;
    #[expect(dead_code, reason = "other tests use the rest of it")]
    pub mod encryption;
    pub mod findings;
    pub mod library;
    pub mod snapshot;
}

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use bygone::base::{ErrorKind, PointId};
use bygone::format::{Point, PointKind};
use bygone::ops::backup::{BackupOptions, backup};
use bygone::repo::{Repository, commit, points};
use bygone::store::{Effect, Fault, FaultPlan, MemoryStore, Moment, Operations, Store};

use support::backups::{Listening, back_up_with, options};
use support::encryption;
use support::findings::findings;
use support::library::read_point;
use support::snapshot::{assert_same, snapshot};

/// A source, and a repository of it whose next backup merges runs.
struct Scene {
    _folder: tempfile::TempDir,
    source: PathBuf,
    store: Arc<MemoryStore>,
    repository: Arc<Repository>,
}

/// Points before the merge.
const POINTS: usize = 4;

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        fs::create_dir(&source).unwrap();
        let store = Arc::new(MemoryStore::new());
        let repository = Repository::init(store.clone(), &encryption::init_options()).unwrap();
        let scene = Self {
            _folder: folder,
            source,
            store,
            repository,
        };
        for number in 0..POINTS {
            scene.write(number);
            scene.back_up(PointKind::Incremental);
        }
        scene.write(POINTS);
        fs::remove_file(scene.source.join("file 0")).unwrap();
        scene
    }

    fn write(&self, number: usize) {
        let path = self.source.join(format!("file {number}"));
        fs::write(path, "of a file ".repeat(100 + number)).unwrap();
    }

    fn back_up(&self, kind: PointKind) -> Point {
        let (report, warnings) = back_up_with(&self.repository, &self.options(kind));
        assert!(warnings.is_empty(), "{warnings:?}");
        report.point.expect("it was no dry run")
    }

    fn options(&self, kind: PointKind) -> BackupOptions {
        BackupOptions {
            kind,
            ..options(&[&self.source])
        }
    }

    fn findings(&self) -> Vec<String> {
        findings(&self.repository)
    }

    fn assert_kept(&self, point: PointId) {
        let found = read_point(&self.repository, point, &self.source);
        assert_same("the point", &snapshot(&self.source), &found, |_| ());
    }
}

#[test]
fn a_merge_that_cannot_be_written_costs_no_backup() {
    let mut without_merge = 0;
    for at in 1..50 {
        let scene = Scene::new();
        let plan = FaultPlan {
            operations: Operations::Changes,
            at,
            moment: Moment::Before,
            effect: Effect::Fail(ErrorKind::Full),
        };
        let store: Arc<dyn Store> = Arc::new(Fault::new(scene.store.clone(), plan));
        let faulty = encryption::open(store).unwrap();
        let monitor = Listening::default();
        let report = backup(&faulty, &scene.options(PointKind::Incremental), &monitor);
        assert_eq!(scene.findings(), Vec::<String>::new(), "change {at}");
        let warnings = monitor.warnings.into_inner().unwrap();
        let Ok(report) = report else {
            continue;
        };
        let point = report.point.unwrap();
        scene.assert_kept(point.id);
        if warnings.is_empty() {
            assert!(point.runs.len() < POINTS);
            break;
        }
        assert!(warnings[0].contains("could not be merged"), "{warnings:?}");
        assert_eq!((point.runs.len(), point.warnings), (POINTS + 1, 0));
        without_merge += 1;
        // The next one does it.
        scene.write(7);
        let next = scene.back_up(PointKind::Incremental);
        assert!(next.runs.len() < POINTS);
        scene.assert_kept(next.id);
    }
    assert_eq!(without_merge, 1);
}

#[test]
fn differentials_and_fulls_stand_on_their_own_and_chains_go_on_from_them() {
    let scene = Scene::new();
    let merged = scene.back_up(PointKind::Incremental);
    assert!(merged.runs[1].origins.len() >= POINTS - 1);
    // What the merged run takes with it counts as stored.
    let merged_bytes = merged.runs[0].length + merged.runs[1].length;
    assert!(merged.figures.stored_bytes > merged_bytes);
    for kind in [
        PointKind::Differential,
        PointKind::Incremental,
        PointKind::Full,
        PointKind::Incremental,
    ] {
        scene.write(20);
        let point = scene.back_up(kind);
        let runs = match kind {
            PointKind::Full => 1,
            PointKind::Differential => 2,
            _ => point.lineage.len(),
        };
        assert_eq!(point.runs.len(), runs, "{kind:?}");
        scene.assert_kept(point.id);
    }
    assert_eq!(scene.findings(), Vec::<String>::new());
    assert_eq!(points(&scene.repository).unwrap().len(), POINTS + 5);
}

#[test]
fn a_check_finds_a_point_that_does_not_know_whose_rows_a_run_holds() {
    let scene = Scene::new();
    let mut lying = scene.back_up(PointKind::Incremental);
    lying.id.random = lying.id.random.wrapping_add(1);
    lying.lineage[0] = lying.id;
    lying.runs[1].origins.pop();
    commit(&scene.repository, &lying).unwrap();
    let findings = scene.findings();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].contains(&lying.id.to_string()), "{findings:?}");
    assert!(findings[0].contains("whose rows"), "{findings:?}");
}
