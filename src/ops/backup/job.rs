//! One attempt at a backup whose options were checked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::archive::{
    Base, ChunkStore, Cutting, DryStore, Frames, LinkedBefore, Plan, Recorder, Reference, Sighting,
    Sources, Step, Stream, StreamContent, Totals, Walk, WalkOptions, Workshop, interrupted,
    record_stream, run, sightings_of_stream,
};
use crate::base::{Error, ErrorKind, Event, Key, Monitor, PointId, Result};
use crate::fetch::Fetcher;
use crate::format::{Features, Figures, Moment, PathMapping, Point, PointKind, RunReference};
use crate::manifest::{Chain, RunWriter};
use crate::ops::merging::runs_below;
use crate::ops::standing::Standing;
use crate::repo::{PackWriter, Repository, UploadFigures, commit, new_point_id, roll_up};

use super::{BackupOptions, BackupReport, moment};

/// Bytes of manifests that are kept in memory.
const FETCHER_BYTES: u64 = 64 << 20;

/// Frames that wait to be sealed, for each worker.
const FRAMES_QUEUED: usize = 4;

/// What is backed up.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// What a walk over the sources sees that leaves out what these say.
    Tree(&'a WalkOptions),
    /// A stream.
    Stream(&'a StreamInput),
}

/// A stream, which is read once, however often the backup is tried.
pub struct StreamInput(Mutex<StreamState>);

enum StreamState {
    Unread(Stream),
    Read(Box<StreamContent>),
    /// It could not be read.
    Lost,
}

impl StreamInput {
    pub fn new(stream: Stream) -> Self {
        Self(Mutex::new(StreamState::Unread(stream)))
    }

    fn content(&self, workshop: &Workshop<'_>) -> Result<Box<StreamContent>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let content = match std::mem::replace(&mut *state, StreamState::Lost) {
            StreamState::Unread(stream) => Box::new(StreamContent::read(workshop, stream)?),
            StreamState::Read(content) => content,
            StreamState::Lost => {
                let message = "the stream that was to be backed up cannot be read twice";
                return Err(Error::new(ErrorKind::Failed, message));
            }
        };
        *state = StreamState::Read(content.clone());
        Ok(content)
    }
}

/// A backup whose options were checked.
pub struct Job<'a> {
    pub repository: &'a Arc<Repository>,
    pub options: &'a BackupOptions,
    pub monitor: &'a dyn Monitor,
    pub sources: &'a Sources,
    pub input: Input<'a>,
    pub standing: &'a Standing,
    /// A warning that is of no one file.
    pub notice: Option<&'a str>,
}

impl Job<'_> {
    /// Backs up.
    pub fn run(&self, start: Moment) -> Result<BackupReport> {
        let writer = PackWriter::create(Arc::clone(self.repository), self.options.reupload)?;
        let archived = self.archive(&writer);
        // Whatever became of it, what was uploaded is indexed: the next backup finds it.
        let uploaded = writer.finish();
        let (recorder, read_bytes) = archived?;
        let uploaded = uploaded?;
        if self.monitor.is_interrupted() {
            return Err(interrupted());
        }
        if let Some(latest) = self.unchanged_since(&recorder) {
            let totals = recorder.abandon()?;
            let figures = figures(&totals, &uploaded, read_bytes);
            return Ok(self.report_without_point(Some(latest), start, &totals, figures));
        }
        let (own_run, totals) = recorder.finish()?;
        let mut figures = figures(&totals, &uploaded, read_bytes);
        figures.stored_bytes += own_run.length;
        let mut runs = vec![own_run];
        if let Some(base) = &self.standing.base {
            let (below, merged_bytes) = runs_below(self.repository, base, self.monitor)?;
            runs.extend(below);
            figures.stored_bytes += merged_bytes;
        }
        let end = moment((self.options.clock)(), self.options);
        figures.duration_seconds = end.time.duration_since(start.time).as_secs_f64().max(0.0);
        let point = self.point(runs, start, end, &totals, figures)?;
        commit(self.repository, &point)?;
        if self.standing.is_roll_up_due {
            self.roll_up();
        }
        Ok(BackupReport {
            kind: point.kind,
            parent: point.parent,
            set: point.set.clone(),
            point: Some(point),
            unchanged_since: None,
            figures,
            warnings: totals.warnings,
            partial: totals.is_partial,
        })
    }

    /// The point that nothing differs from, if that is reason to make none.
    fn unchanged_since(&self, recorder: &Recorder<'_>) -> Option<PointId> {
        let latest = self.standing.reference.as_ref()?;
        (self.options.skip_if_unchanged && !recorder.has_changes()).then_some(latest.id)
    }

    fn report_without_point(
        &self,
        unchanged_since: Option<PointId>,
        start: Moment,
        totals: &Totals,
        mut figures: Figures,
    ) -> BackupReport {
        let end = moment((self.options.clock)(), self.options).time;
        figures.duration_seconds = end.duration_since(start.time).as_secs_f64().max(0.0);
        BackupReport {
            point: None,
            unchanged_since,
            kind: self.standing.kind,
            parent: self.standing.base.as_ref().map(|point| point.id),
            set: self.standing.set.clone(),
            figures,
            warnings: totals.warnings,
            partial: totals.is_partial,
        }
    }

    /// Rolls headers up. The point is committed: a failure costs later readers some time and nobody anything else.
    fn roll_up(&self) {
        if let Err(error) = roll_up(self.repository) {
            log::info!("the headers of points are not rolled up: {error}");
        }
    }

    /// Does all of it but writing.
    pub fn run_dry(&self, start: Moment) -> Result<BackupReport> {
        let store = DryStore::open(self.repository, self.options.reupload)?;
        let (recorder, read_bytes) = self.archive(&store)?;
        let unchanged_since = self.unchanged_since(&recorder);
        let totals = recorder.abandon()?;
        let figures = figures(&totals, &store.figures(), read_bytes);
        Ok(self.report_without_point(unchanged_since, start, &totals, figures))
    }

    /// Walks, reads and records everything; gives what is recorded and how many bytes were read.
    fn archive(&self, store: &dyn ChunkStore) -> Result<(Recorder<'_>, u64)> {
        let reference = self.open(self.standing.reference.as_deref())?;
        let base = match (&self.standing.base, &self.standing.reference) {
            (None, _) => None,
            (Some(base), Some(latest)) if base.id == latest.id => reference.clone(),
            (Some(base), _) => self.open(Some(base))?,
        };
        let config = self.repository.config();
        let seal = self.repository.seal();
        let queued = self.options.workers * FRAMES_QUEUED;
        let frames = Frames::new(store, seal, config.compression, queued);
        let cutting = Cutting::new(&config.chunking, seal.chunking_seed())?;
        let read_bytes = AtomicU64::new(0);
        let workshop = Workshop {
            frames: &frames,
            cutting: &cutting,
            monitor: self.monitor,
            clock: self.options.clock,
            frame_bytes: config.chunking.frame_bytes as usize,
            workers: self.options.workers.max(1),
            read_bytes: &read_bytes,
        };
        let filters = !self.standing.kind.is_base();
        let mut recorder = Recorder::new(
            RunWriter::create(self.repository, filters)?,
            reference.clone(),
            &*self.options.names,
            self.sources,
            self.monitor,
            self.options.tells_changes,
        );
        if let Some(notice) = self.notice {
            recorder.warn(&Key::root(), notice, false)?;
        }
        let (reference, base) = (reference.as_ref(), base.as_ref());
        match self.input {
            Input::Tree(options) => {
                let walk = Walk::new(self.sources, options.clone())?;
                let steps = self.plan(walk, reference, base)?;
                self.while_counting(options, || run(&workshop, steps, &mut recorder))?;
            }
            Input::Stream(stream) => {
                let content = stream.content(&workshop)?;
                let sightings = sightings_of_stream(&content)?.into_iter().map(Ok);
                let steps = self.plan(sightings, reference, base)?;
                record_stream(&content, steps, reference, &mut recorder)?;
            }
        }
        Ok((recorder, read_bytes.into_inner()))
    }

    /// The steps: what is there, merged with the points that it is compared with.
    fn plan<P>(
        &self,
        sightings: impl Iterator<Item = Result<Sighting<P>>>,
        reference: Option<&Reference>,
        base: Option<&Reference>,
    ) -> Result<impl Iterator<Item = Result<Step<P>>>> {
        let root = Key::root();
        let entries = |point: Option<&Reference>| {
            let entries = point.map(|point| point.chain.entries(&root));
            entries.into_iter().flatten()
        };
        let base = match (base, &self.standing.base, &self.standing.reference) {
            (None, ..) => Base::Nothing,
            (_, Some(base), Some(latest)) if base.id == latest.id => Base::Reference,
            (base, ..) => Base::Other(entries(base)),
        };
        Ok(Plan::new(
            sightings,
            entries(reference),
            base,
            self.standing.kind == PointKind::Full,
            linked_before(reference)?,
        ))
    }

    /// The chain of a point, for reading.
    fn open(&self, point: Option<&Point>) -> Result<Option<Reference>> {
        let Some(point) = point else {
            return Ok(None);
        };
        let fetcher = Fetcher::new(Arc::clone(self.repository), FETCHER_BYTES);
        let chain = Chain::open(&fetcher, point)?;
        Ok(Some(Reference { chain, fetcher }))
    }

    /// Does `work`, and beside it tells the monitor what is ahead, if that is wanted.
    fn while_counting<T>(&self, options: &WalkOptions, work: impl FnOnce() -> T) -> T {
        if !self.options.estimates {
            return work();
        }
        if let Some(latest) = &self.standing.reference {
            self.monitor.event(Event::Expected {
                files: latest.figures.files,
                bytes: latest.figures.bytes,
            });
            return work();
        }
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| self.count_ahead(options, &is_done));
            let result = work();
            is_done.store(true, Ordering::Relaxed);
            result
        })
    }

    /// Walks the sources once more, for their number and size only.
    fn count_ahead(&self, options: &WalkOptions, is_done: &AtomicBool) {
        const TOLD_AT_ONCE: u64 = 256;
        let Ok(walk) = Walk::new(self.sources, options.clone()) else {
            return;
        };
        let (mut files, mut bytes) = (0, 0);
        for sighting in walk {
            if is_done.load(Ordering::Relaxed) {
                return;
            }
            if let Ok(Sighting::Entry(seen)) = sighting
                && !seen.status.is_directory()
            {
                files += 1;
                bytes += seen.status.content_bytes();
            }
            if files == TOLD_AT_ONCE {
                self.monitor.event(Event::Expected { files, bytes });
                (files, bytes) = (0, 0);
            }
        }
        self.monitor.event(Event::Expected { files, bytes });
    }

    fn point(
        &self,
        runs: Vec<RunReference>,
        start: Moment,
        end: Moment,
        totals: &Totals,
        figures: Figures,
    ) -> Result<Point> {
        let id = new_point_id(end.time.as_second(), self.standing.newest.as_ref())?;
        let base = self.standing.base.as_deref();
        let mut lineage = vec![id];
        lineage.extend(base.into_iter().flat_map(|base| &base.lineage));
        let named = self.sources.named();
        Ok(Point {
            id,
            features: Features::default(),
            kind: self.standing.kind,
            parent: base.map(|base| base.id),
            base: base.map_or(id, |base| base.base),
            lineage,
            sequence: self.standing.sequence,
            runs,
            host: self.options.host.clone(),
            set: self.standing.set.clone(),
            user: self.options.user.clone(),
            sources: named.iter().map(|source| source.live.clone()).collect(),
            mapping: named
                .iter()
                .filter(|source| source.live != source.recorded)
                .map(|source| PathMapping {
                    live: source.live.clone(),
                    recorded: source.recorded.clone(),
                })
                .collect(),
            excludes: self.options.excludes.clone(),
            labels: self.options.labels.clone(),
            start,
            end,
            partial: totals.is_partial,
            warnings: totals.warnings,
            figures,
        })
    }
}

/// The reference's files with several links, if it has any: a link that is new or was moved is then known by them.
fn linked_before(reference: Option<&Reference>) -> Result<LinkedBefore> {
    let mut linked = LinkedBefore::default();
    let Some(reference) = reference else {
        return Ok(linked);
    };
    let runs = reference.chain.runs();
    if runs.iter().any(|run| run.counts().linked > 0) {
        for found in reference.chain.entries(&Key::root()) {
            linked.learn(&found?);
        }
    }
    Ok(linked)
}

fn figures(totals: &Totals, uploaded: &UploadFigures, read_bytes: u64) -> Figures {
    Figures {
        read_bytes,
        newly_uploaded_bytes: uploaded.newly_uploaded_bytes,
        newly_uploaded_stored_bytes: uploaded.newly_uploaded_stored_bytes,
        reuploaded_bytes: uploaded.reuploaded_bytes,
        reuploaded_stored_bytes: uploaded.reuploaded_stored_bytes,
        stored_bytes: uploaded.stored_bytes,
        ..totals.figures
    }
}
