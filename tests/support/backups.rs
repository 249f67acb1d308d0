//! Backups through the library, with a clock that a test sets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use bygone::archive::OwnerNames;
use bygone::base::{Event, Monitor, Timestamp};
use bygone::format::PointKind;
use bygone::ops::backup::{BackupOptions, BackupReport, backup};
use bygone::repo::Repository;

/// Names that no system has, to see that they come from here.
struct Names;

impl OwnerNames for Names {
    fn user(&self, id: u32) -> Option<Vec<u8>> {
        Some(format!("user-{id}").into_bytes())
    }

    fn group(&self, _id: u32) -> Option<Vec<u8>> {
        None
    }
}

/// Keeps the warnings.
#[derive(Default)]
pub struct Listening {
    pub warnings: Mutex<Vec<String>>,
}

impl Monitor for Listening {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning(path, message) = event {
            let path = path
                .map(|path| path.display().to_string())
                .unwrap_or_default();
            self.warnings
                .lock()
                .unwrap()
                .push(format!("{path}: {message}"));
        }
    }
}

/// The system's clock.
pub fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp {
        seconds: now.as_secs() as i64,
        nanoseconds: now.subsec_nanos(),
    }
}

/// A clock that is an hour ahead: by it, everything settled long ago.
pub fn later() -> Timestamp {
    Timestamp {
        seconds: now().seconds + 3600,
        ..now()
    }
}

/// An incremental backup of these paths when everything has settled.
pub fn options(paths: &[&Path]) -> BackupOptions {
    BackupOptions {
        kind: PointKind::Incremental,
        reupload: false,
        labels: BTreeMap::new(),
        host: "moon".into(),
        set: Some("test".into()),
        user: "selene".into(),
        parent: None,
        paths: paths
            .iter()
            .map(|path| path.to_path_buf())
            .collect::<Vec<PathBuf>>(),
        recorded_as: None,
        excludes: Vec::new(),
        exclude_caches: false,
        exclude_if_present: Vec::new(),
        one_file_system: false,
        skip_if_unchanged: false,
        dry_run: false,
        never: Vec::new(),
        names: Box::new(Names),
        clock: later,
        offset_seconds: 3600,
        workers: 2,
        estimates: false,
        tells_changes: false,
    }
}

/// Backs up, and gives the report with the warnings.
pub fn back_up_with(
    repository: &Arc<Repository>,
    options: &BackupOptions,
) -> (BackupReport, Vec<String>) {
    let monitor = Listening::default();
    let report = backup(repository, options, &monitor).unwrap();
    (report, monitor.warnings.into_inner().unwrap())
}
