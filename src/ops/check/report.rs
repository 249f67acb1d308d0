//! What a check finds, told as it comes and counted.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::is_about_object;
use crate::base::{Error, ErrorKind, Key, PointId, Result};

/// Something that is wrong with a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// An object, or a part of it, is not what was written, or is not there.
    Object {
        /// Its name in the store.
        name: String,
        state: ObjectState,
        /// What was expected and what was found.
        problem: String,
    },
    /// A path of a point cannot be read whole.
    Path {
        point: PointId,
        key: Key,
        problem: String,
    },
    /// A part of a point, or all of it, cannot be listed, so that its paths cannot be named one by one.
    Part { point: PointId, problem: String },
}

/// How an object is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectState {
    Damaged,
    Missing,
}

/// What a check looked at and found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckReport {
    pub points: u64,
    pub runs: u64,
    /// Records of all runs.
    pub records: u64,
    pub packs: u64,
    /// Chunks in the directories of packs.
    pub chunks: u64,
    pub index_runs: u64,
    /// Chunks that were fetched, opened and verified.
    pub verified_chunks: u64,
    /// Bytes of frames that were fetched for that.
    pub verified_stored_bytes: u64,
    /// Findings about objects.
    pub objects_damaged: u64,
    pub objects_missing: u64,
    /// Findings of paths, each counted once for each point.
    pub paths_lost: u64,
    /// Findings of parts of points.
    pub parts_lost: u64,
}

impl CheckReport {
    /// Was nothing found?
    pub fn is_clean(&self) -> bool {
        self.objects_damaged == 0
            && self.objects_missing == 0
            && self.paths_lost == 0
            && self.parts_lost == 0
    }
}

/// Passes findings on, each once, and counts. Any thread may use it.
pub(super) struct Reporter<'a> {
    found: &'a (dyn Fn(&Finding) -> Result<()> + Sync),
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    report: CheckReport,
    /// Objects that are told to be missing, which many others may miss.
    missing: HashSet<String>,
    parts: HashSet<(PointId, String)>,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(found: &'a (dyn Fn(&Finding) -> Result<()> + Sync)) -> Self {
        Self {
            found,
            state: Mutex::new(State::default()),
        }
    }

    /// Counts what was looked at.
    pub(super) fn count(&self, count: impl FnOnce(&mut CheckReport)) {
        self.change(|state| count(&mut state.report));
    }

    /// A part of an object is damaged.
    pub(super) fn damaged(&self, name: &str, problem: impl Into<String>) -> Result<()> {
        self.change(|state| state.report.objects_damaged += 1);
        self.tell(&Finding::Object {
            name: name.to_owned(),
            state: ObjectState::Damaged,
            problem: problem.into(),
        })
    }

    /// An object is not there; told once.
    pub(super) fn missing(&self, name: &str, problem: impl Into<String>) -> Result<()> {
        if !self.change(|state| state.missing.insert(name.to_owned())) {
            return Ok(());
        }
        self.change(|state| state.report.objects_missing += 1);
        self.tell(&Finding::Object {
            name: name.to_owned(),
            state: ObjectState::Missing,
            problem: problem.into(),
        })
    }

    /// Reading an object failed: a finding, if that is about the object.
    ///
    /// # Errors
    /// The failure itself, if it is about the store.
    pub(super) fn failed(&self, name: &str, error: Error) -> Result<()> {
        match error.kind() {
            ErrorKind::Missing => self.missing(name, error.to_string()),
            _ if is_about_object(&error) => self.damaged(name, error.to_string()),
            _ => Err(error),
        }
    }

    /// A path of a point is lost.
    pub(super) fn path_lost(&self, point: PointId, key: Key, problem: String) -> Result<()> {
        self.change(|state| state.report.paths_lost += 1);
        self.tell(&Finding::Path {
            point,
            key,
            problem,
        })
    }

    /// A part of a point is lost; told once.
    pub(super) fn part_lost(&self, point: PointId, problem: String) -> Result<()> {
        if !self.change(|state| state.parts.insert((point, problem.clone()))) {
            return Ok(());
        }
        self.change(|state| state.report.parts_lost += 1);
        self.tell(&Finding::Part { point, problem })
    }

    /// All that was counted.
    pub(super) fn finish(self) -> CheckReport {
        self.state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .report
    }

    fn tell(&self, finding: &Finding) -> Result<()> {
        (self.found)(finding)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        // Counters and sets stay what they are, whatever a thread panicked over.
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
