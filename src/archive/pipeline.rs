//! From steps to packs and a run: reading, hashing, sealing and recording overlap, and records keep the order of keys.
//!
//! One thread walks, plans, groups small chunks and records; workers read files and seal frames. Steps stand in a
//! window from being planned to being recorded, which bounds memory: so many steps, so many bytes of small files. A
//! large file is read, cut and placed by the worker that has it, frame by frame, while the others seal.
//!
//! Small files go to the workers in batches: to wake a thread costs more than to read one of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rustix::fd::OwnedFd;

use super::content::{Clock, Cutting, Reader};
use super::frames::{Frames, Placing};
use super::handle::Place;
use super::links::Linked;
use super::plan::{Observe, Step};
use super::record::{Observation, Recorder, interrupted, path_of};
use super::small::SmallChunks;
use super::steps::record_step;
use super::visit::{Outcome, visit};
use crate::base::{ChunkId, Error, ErrorKind, Event, Monitor, Result};
use crate::format::{ChunkPlace, Content, Extent, FileType};

/// Steps in the window.
const STEPS_MAX: usize = 8192;

/// Directories that the window's files hold open, within the usual limit of 1,024 files.
const DIRECTORIES_MAX: usize = 256;

/// Bytes of small files that were read, or are being read, and are in no group yet.
const HELD_BYTES_MAX: u64 = 16 << 20;

/// A batch has so many files, or so many bytes of them.
const BATCH_FILES_MAX: usize = 64;
const BATCH_BYTES_MAX: u64 = 512 << 10;

/// How long the recording thread waits for a worker before it looks whether one failed.
const PATIENCE: Duration = Duration::from_millis(200);

/// A file that a worker is to visit.
struct Visit {
    number: u64,
    place: Place,
    file_type: FileType,
}

/// A step in the window.
enum Waiting {
    /// It needs no reading.
    Ready(Step<Place>),
    /// A file whose content another link of it, or the reference, has.
    Linked(Box<Observe<Place>>),
    /// Nothing: it is in the hands of a function that puts it back.
    Taken,
    /// A worker has it.
    Visited(Box<Observe<Place>>),
    /// It came back.
    Back(Box<Observe<Place>>, Outcome),
    /// Its one chunk is in a group, or known.
    Grouped {
        file: Box<Observe<Place>>,
        observation: Box<Observation>,
        id: ChunkId,
        length: u32,
        placing: Placing,
    },
}

/// What the pipeline works with.
pub struct Workshop<'a> {
    pub frames: &'a Frames<'a>,
    pub cutting: &'a Cutting,
    pub monitor: &'a dyn Monitor,
    /// The time now.
    pub clock: Clock,
    /// A frame of small chunks is full at so many bytes.
    pub frame_bytes: usize,
    /// Threads that read and seal.
    pub workers: usize,
    /// Counts the bytes that are read from files.
    pub read_bytes: &'a AtomicU64,
}

/// Does all `steps`, records their results with `recorder`.
///
/// # Errors
/// Those of the steps, of the reference and of the store; interrupted, if the monitor says so.
pub fn run(
    workshop: &Workshop<'_>,
    steps: impl Iterator<Item = Result<Step<Place>>>,
    recorder: &mut Recorder<'_>,
) -> Result<()> {
    let reader = Reader {
        frames: workshop.frames,
        cutting: workshop.cutting,
        monitor: workshop.monitor,
        clock: workshop.clock,
        read_bytes: workshop.read_bytes,
    };
    std::thread::scope(|scope| {
        let (requests, to_visit) = crossbeam_channel::unbounded();
        let (results, outcomes) = crossbeam_channel::unbounded();
        for _ in 0..workshop.workers {
            let (to_visit, results, reader) = (to_visit.clone(), results.clone(), &reader);
            scope.spawn(move || work(reader, &to_visit, &results));
        }
        drop(results);
        let mut pipeline = Pipeline {
            workshop,
            reader: &reader,
            recorder,
            requests,
            outcomes,
            window: VecDeque::new(),
            met_at: VecDeque::new(),
            walked: 0,
            first: 0,
            grouped: 0,
            batch: Vec::new(),
            batch_bytes: 0,
            held_bytes: 0,
            held_directories: VecDeque::new(),
            small: SmallChunks::new(workshop.frames, workshop.frame_bytes),
        };
        if let Err(error) = pipeline.run(steps) {
            // Or else the workers would read their files to the end first.
            workshop.frames.fail(error);
        }
        // The workers end when the pipeline, and with it their requests, is dropped.
    });
    workshop.frames.take_failure().map_or(Ok(()), Err)
}

/// What a worker does until there is nothing more to visit.
fn work(
    reader: &Reader<'_>,
    to_visit: &Receiver<Vec<Visit>>,
    results: &Sender<Vec<(u64, Outcome)>>,
) {
    let _watch = Watch(reader.frames);
    reader.frames.work(to_visit, |batch: Vec<Visit>| {
        let outcomes = batch
            .into_iter()
            .map(|file| (file.number, visit(reader, &file.place, file.file_type)))
            .collect();
        // Nobody listens any more once the backup failed.
        drop(results.send(outcomes));
    });
}

/// Tells the others when a worker panics, so that nobody waits for it.
pub struct Watch<'a>(pub &'a Frames<'a>);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let message = "a thread of the backup panicked";
            self.0.fail(Error::new(ErrorKind::Failed, message));
        }
    }
}

struct Pipeline<'a, 'r> {
    workshop: &'a Workshop<'a>,
    reader: &'a Reader<'a>,
    recorder: &'a mut Recorder<'r>,
    requests: Sender<Vec<Visit>>,
    outcomes: Receiver<Vec<(u64, Outcome)>>,
    window: VecDeque<Waiting>,
    /// How many steps the walk had come when it met each of those, what needed no place in the window among them.
    met_at: VecDeque<u64>,
    walked: u64,
    /// The number of the window's first step.
    first: u64,
    /// The number of the first step whose chunk is not grouped yet.
    grouped: u64,
    batch: Vec<Visit>,
    batch_bytes: u64,
    held_bytes: u64,
    /// The directories that files in the window hold open, in the order of steps, each with its last file's number.
    held_directories: VecDeque<(Arc<OwnedFd>, u64)>,
    small: SmallChunks<'a>,
}

impl Pipeline<'_, '_> {
    fn run(&mut self, mut steps: impl Iterator<Item = Result<Step<Place>>>) -> Result<()> {
        let mut has_more = true;
        while has_more || !self.window.is_empty() {
            self.workshop.frames.check()?;
            if self.workshop.monitor.is_interrupted() {
                return Err(interrupted());
            }
            has_more = has_more && self.fill(&mut steps)?;
            while let Ok(outcomes) = self.outcomes.try_recv() {
                self.take_back(outcomes);
            }
            self.group()?;
            if !self.record()? && !self.window.is_empty() {
                self.wait_for_first()?;
            }
        }
        Ok(())
    }

    /// Plans ahead as far as the window allows; false if there is nothing more to plan.
    fn fill(&mut self, steps: &mut impl Iterator<Item = Result<Step<Place>>>) -> Result<bool> {
        while self.has_room() {
            let Some(step) = steps.next().transpose()? else {
                self.send_batch();
                return Ok(false);
            };
            self.walked += 1;
            let waiting = match step {
                Step::Keep(seen) => {
                    self.recorder.keep(&seen);
                    continue;
                }
                Step::Warn {
                    key,
                    message,
                    is_partial,
                } => {
                    self.recorder.warn(&key, &message, is_partial)?;
                    continue;
                }
                Step::Observe(file) => self.begin(file),
                step => Waiting::Ready(step),
            };
            self.window.push_back(waiting);
            self.met_at.push_back(self.walked);
        }
        Ok(true)
    }

    fn has_room(&self) -> bool {
        self.window.len() < STEPS_MAX
            && self.held_bytes < HELD_BYTES_MAX
            && self.held_directories.len() < DIRECTORIES_MAX
    }

    fn begin(&mut self, file: Box<Observe<Place>>) -> Waiting {
        let number = self.first + self.window.len() as u64;
        let directory = &file.seen.place.directory;
        match self.held_directories.back_mut() {
            Some((held, last)) if Arc::ptr_eq(held, directory) => *last = number,
            _ => self
                .held_directories
                .push_back((Arc::clone(directory), number)),
        }
        match file.linked {
            Linked::Follows { .. } | Linked::Joins(_) => Waiting::Linked(file),
            Linked::Alone | Linked::Leads(..) => {
                self.request(&file, number);
                Waiting::Visited(file)
            }
        }
    }

    /// Sends a file to the workers, in a batch if it is small.
    fn request(&mut self, file: &Observe<Place>, number: u64) {
        let status = &file.seen.status;
        let visit = Visit {
            number,
            place: file.seen.place.clone(),
            file_type: status.file_type,
        };
        if status.file_type == FileType::Regular && !self.workshop.cutting.is_small(status.size) {
            self.send_batch();
            self.batch.push(visit);
            self.send_batch();
            return;
        }
        self.batch.push(visit);
        let bytes = held_bytes(file, self.workshop.cutting);
        self.batch_bytes += bytes;
        self.held_bytes += bytes;
        if self.batch.len() >= BATCH_FILES_MAX || self.batch_bytes >= BATCH_BYTES_MAX {
            self.send_batch();
        }
    }

    fn send_batch(&mut self) {
        self.batch_bytes = 0;
        if !self.batch.is_empty() {
            // The workers listen for as long as the pipeline lives; one that panicked is noticed elsewhere.
            drop(self.requests.send(std::mem::take(&mut self.batch)));
        }
    }

    fn take_back(&mut self, outcomes: Vec<(u64, Outcome)>) {
        for (number, outcome) in outcomes {
            let place = number
                .checked_sub(self.first)
                .and_then(|place| usize::try_from(place).ok());
            let Some(waiting) = place.and_then(|place| self.window.get_mut(place)) else {
                continue;
            };
            *waiting = match std::mem::replace(waiting, Waiting::Taken) {
                Waiting::Visited(file) => Waiting::Back(file, outcome),
                other => other,
            };
        }
    }

    /// Groups the small chunks of what came back, in order, as far as there is no gap.
    fn group(&mut self) -> Result<()> {
        loop {
            let place = usize::try_from(self.grouped - self.first).unwrap_or(usize::MAX);
            let Some(waiting) = self.window.get_mut(place) else {
                return Ok(());
            };
            if matches!(waiting, Waiting::Visited(_)) {
                return Ok(());
            }
            self.grouped += 1;
            if let Waiting::Back(..) = waiting {
                let back = std::mem::replace(waiting, Waiting::Taken);
                let grouped = self.group_one(back, self.met_at[place])?;
                self.window[place] = grouped;
            }
        }
    }

    fn group_one(&mut self, back: Waiting, met_at: u64) -> Result<Waiting> {
        let Waiting::Back(file, outcome) = back else {
            return Ok(back);
        };
        self.held_bytes -= held_bytes(&file, self.workshop.cutting);
        let (observation, id, bytes) = match outcome {
            Outcome::Stopped(error) => return Err(error),
            Outcome::Small {
                observation,
                id,
                bytes,
            } => (observation, id, bytes),
            outcome => return Ok(Waiting::Back(file, outcome)),
        };
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let owner = observation.status.uid;
        let placing = self.small.place(id, &bytes, owner, met_at)?;
        Ok(Waiting::Grouped {
            file,
            observation,
            id,
            length,
            placing,
        })
    }

    /// Records the window's first steps, as many as are done; false if none was.
    fn record(&mut self) -> Result<bool> {
        let mut has_recorded = false;
        while let Some(waiting) = self.window.pop_front() {
            let is_done = match &waiting {
                Waiting::Visited(_) => false,
                Waiting::Grouped { placing, .. } => placing.is_known(),
                Waiting::Taken | Waiting::Ready(_) | Waiting::Linked(_) | Waiting::Back(..) => true,
            };
            if !is_done {
                self.window.push_front(waiting);
                break;
            }
            let met_at = self.met_at.pop_front().unwrap_or(self.walked);
            self.record_one(waiting, met_at)?;
            self.first += 1;
            while let Some((_, last)) = self.held_directories.front()
                && *last < self.first
            {
                self.held_directories.pop_front();
            }
            has_recorded = true;
        }
        Ok(has_recorded)
    }

    fn record_one(&mut self, waiting: Waiting, met_at: u64) -> Result<()> {
        match waiting {
            Waiting::Visited(_) | Waiting::Taken => Ok(()),
            Waiting::Ready(step) => match record_step(self.recorder, step)? {
                Some(file) => self.record_linked(file, met_at),
                None => Ok(()),
            },
            Waiting::Linked(file) => self.record_linked(file, met_at),
            Waiting::Back(file, outcome) => self.record_outcome(*file, outcome),
            Waiting::Grouped {
                file,
                mut observation,
                id,
                length,
                placing,
            } => {
                let hint = self.workshop.frames.wait(&placing)?.hint;
                let place = ChunkPlace { id, length, hint };
                observation.content = Content::Extents(vec![Extent::Chunk(place)]);
                self.record_outcome(*file, Outcome::Observed(observation))
            }
        }
    }

    /// Records one more link of a file, which is read after all if the link that was to be read could not be.
    fn record_linked(&mut self, file: Box<Observe<Place>>, met_at: u64) -> Result<()> {
        if self.recorder.linked(&file)? {
            return Ok(());
        }
        let outcome = visit(self.reader, &file.seen.place, file.seen.status.file_type);
        let outcome = match outcome {
            Outcome::Small {
                mut observation,
                id,
                bytes,
            } => {
                let owner = observation.status.uid;
                let placing = self.small.place(id, &bytes, owner, met_at)?;
                let place = self.small.wait(&id, &placing)?;
                observation.content = Content::Extents(vec![Extent::Chunk(place)]);
                Outcome::Observed(observation)
            }
            outcome => outcome,
        };
        self.record_outcome(*file, outcome)
    }

    fn record_outcome(&mut self, file: Observe<Place>, outcome: Outcome) -> Result<()> {
        self.workshop
            .monitor
            .event(Event::Path(&path_of(&file.seen.key)));
        match outcome {
            Outcome::Observed(observation) => self.recorder.observed(file, *observation),
            Outcome::Gone => self.recorder.failed(file, None),
            Outcome::Unreadable(problem) => self.recorder.failed(file, Some(&problem)),
            Outcome::Stopped(error) => Err(error),
            Outcome::Small { .. } => Err(Error::new(
                ErrorKind::Failed,
                format!("{} was read and not placed", file.seen.key),
            )),
        }
    }

    /// Waits until something moves the window's first step on.
    fn wait_for_first(&mut self) -> Result<()> {
        self.send_batch();
        // Files that a worker still has may join the open group: slow reading must not make short frames.
        let has_more_to_group = self.grouped < self.first + self.window.len() as u64;
        if let Some(Waiting::Grouped { placing, id, .. }) = self.window.front()
            && !(has_more_to_group && self.small.is_open(id))
        {
            return self.small.wait(id, placing).map(drop);
        }
        match self.outcomes.recv_timeout(PATIENCE) {
            Ok(outcomes) => self.take_back(outcomes),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                self.workshop.frames.check()?;
                let message = "the threads of the backup have ended before it was done";
                return Err(Error::new(ErrorKind::Failed, message));
            }
        }
        Ok(())
    }
}

/// Bytes that a file's outcome holds until they are grouped, as far as can be told before.
fn held_bytes(file: &Observe<Place>, cutting: &Cutting) -> u64 {
    match file.seen.status.file_type {
        FileType::Regular if cutting.is_small(file.seen.status.size) => file.seen.status.size,
        _ => 0,
    }
}
