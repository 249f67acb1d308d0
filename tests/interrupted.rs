//! A backup that is killed at any change to its repository: what was committed stays whole, and what was uploaded is
//! not uploaded again.
//!
//! The real binary runs, with the environment variable by which a test asks for the fault.

#[expect(dead_code, reason = "other tests use the rest of it")]
#[path = "support/encryption.rs"]
mod encryption;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use bygone::repo::{Repository, list_packs, points};
use bygone::store::LocalStore;
use tempfile::TempDir;

/// Changes that a backup makes at the most, by far.
const CHANGES_MAX: usize = 60;

/// Bytes of the file that is backed up: two packs, so that the first one is put while the other fills.
const LARGE_BYTES: usize = 40 << 20;

struct Scene {
    source: PathBuf,
    place: PathBuf,
    folder: TempDir,
}

impl Scene {
    /// A repository without a point, and an empty source.
    fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        let scene = Self {
            source: top.join("source"),
            place: top.join("repository"),
            folder,
        };
        fs::create_dir(&scene.source).unwrap();
        assert!(
            scene
                .bygone(encryption::init_arguments(), None)
                .status
                .success()
        );
        scene
    }

    /// A repository with one point, and a source that has grown since.
    fn new() -> Self {
        let scene = Self::empty();
        fs::write(scene.source.join("first"), "of the first point").unwrap();
        assert!(scene.back_up(None).status.success());
        fs::write(scene.source.join("large"), noise(LARGE_BYTES)).unwrap();
        for number in 0..50 {
            fs::write(
                scene.source.join(format!("small {number}")),
                noise(1000 + number),
            )
            .unwrap();
        }
        scene
    }

    /// A repository whose next backup merges the runs of those before it.
    fn before_a_merge() -> Self {
        let scene = Self::empty();
        for number in 0..4 {
            fs::write(scene.source.join(format!("{number}")), noise(500 + number)).unwrap();
            assert!(scene.back_up(None).status.success());
        }
        fs::remove_file(scene.source.join("0")).unwrap();
        scene
    }

    fn bygone(&self, arguments: &[&str], fault: Option<&str>) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bygone"));
        command.arg("-r").arg(&self.place).args(arguments);
        command.env("XDG_STATE_HOME", self.folder.path().join("state"));
        encryption::unlock(&mut command);
        if let Some(fault) = fault {
            command.env("BYGONE_TEST_FAULT", fault);
        }
        command.output().unwrap()
    }

    fn back_up(&self, fault: Option<&str>) -> Output {
        let source = self.source.to_str().unwrap();
        self.bygone(&["--json", "backup", source], fault)
    }

    fn repository(&self) -> Arc<Repository> {
        encryption::open(Arc::new(LocalStore::open(&self.place).unwrap())).unwrap()
    }

    fn check(&self) {
        let check = self.bygone(&["check", "--read-data"], None);
        assert!(check.status.success(), "{}", text(&check));
    }

    fn packed_bytes(&self) -> u64 {
        let packs = list_packs(&self.repository()).unwrap();
        packs.iter().map(|(_, length)| length).sum()
    }
}

fn text(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(length as u64).to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// Kills a backup at its change `number`, then looks at what is left, and backs up once more.
fn kill_at(scene: &Scene, fault: &str, number: usize) -> bool {
    let killed = scene.back_up(Some(&format!("{fault}:{number}")));
    if killed.status.success() {
        return false;
    }
    assert!(killed.status.signal().is_some(), "{}", text(&killed));
    let uploaded = scene.packed_bytes();
    let committed = points(&scene.repository()).unwrap().len();
    assert!(committed == 1 || committed == 2);
    scene.check();
    let next = scene.back_up(None);
    assert!(next.status.success(), "{}", text(&next));
    let next: serde_json::Value = serde_json::from_slice(&next.stdout).unwrap();
    let again = next["newly_uploaded_stored_bytes"].as_u64().unwrap();
    let all = LARGE_BYTES as u64;
    if committed == 2 {
        assert_eq!(again, 0, "{fault}:{number}");
    } else {
        // Packs have directories too, and all content is noise, which no compression makes smaller.
        let slack = all / 50;
        assert!(
            again + uploaded < all + slack,
            "{fault}:{number}: {uploaded} were there, {again} were uploaded"
        );
    }
    assert_eq!(points(&scene.repository()).unwrap().len(), committed + 1);
    scene.check();
    true
}

#[test]
fn a_backup_killed_at_any_change_leaves_all_points_whole_and_its_uploads_found() {
    for fault in ["abort-before", "abort-after"] {
        let mut killed = 0;
        for number in 1..CHANGES_MAX {
            if !kill_at(&Scene::new(), fault, number) {
                break;
            }
            killed += 1;
        }
        // A lease, two packs, their index, a run, a point, and the lease's end.
        assert!(killed >= 6, "{fault}: only {killed} changes");
        assert!(killed < CHANGES_MAX - 1);
    }
}

/// What `bygone ls` tells of each point's files.
fn listed(scene: &Scene) -> Vec<String> {
    let ids = points(&scene.repository()).unwrap();
    let list = |id: String| {
        let output = scene.bygone(&["ls", "--recursive", &id], None);
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    ids.iter().map(|point| list(point.id.to_string())).collect()
}

#[test]
fn a_backup_killed_at_any_change_while_it_merges_runs_leaves_all_points_whole() {
    for fault in ["abort-before", "abort-after"] {
        let mut killed = 0;
        for number in 1..CHANGES_MAX {
            let scene = Scene::before_a_merge();
            let before = listed(&scene);
            let output = scene.back_up(Some(&format!("{fault}:{number}")));
            if output.status.success() {
                break;
            }
            assert!(output.status.signal().is_some(), "{}", text(&output));
            killed += 1;
            scene.check();
            assert_eq!(listed(&scene)[..before.len()], before);
            assert!(scene.back_up(None).status.success());
            scene.check();
            assert_eq!(listed(&scene)[..before.len()], before);
            let newest = points(&scene.repository()).unwrap().pop().unwrap();
            let merged = newest.runs.iter().find(|run| run.origins.len() == 4);
            assert!(merged.is_some(), "{:?}", newest.runs.len());
        }
        // A lease, a run, the merged one, a point, and the lease's end.
        assert!(killed >= 5, "{fault}: only {killed} changes");
        assert!(killed < CHANGES_MAX - 1);
    }
}

#[test]
fn a_repository_left_by_a_killed_backup_needs_no_repair() {
    let scene = Scene::new();
    for number in [1, 3, 5] {
        assert!(
            scene
                .back_up(Some(&format!("abort-before:{number}")))
                .status
                .signal()
                .is_some()
        );
    }
    assert!(scene.back_up(None).status.success());
    scene.check();
    assert!(is_tidy(&scene.place));
}

/// Are there no half-written files, but for those that a killed process could not take away?
fn is_tidy(place: &Path) -> bool {
    fs::read_dir(place.join("points")).unwrap().all(|entry| {
        let name = entry.unwrap().file_name();
        name.to_string_lossy()
            .parse::<bygone::base::PointId>()
            .is_ok()
    })
}
