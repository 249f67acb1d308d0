//! Things to put in place, many at a time: the chunks that they need are fetched in the order of packs, each once for all
//! files that share it, and written by several threads.
//!
//! A window holds so many things and parts at most, whatever the size of a file: the parts of one that is larger are
//! written while the rest of it is still to be planned.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::content::each_extent;
use super::metadata::{Problems, describe, late_flags};
use super::report::{Count, Tally};
use super::target::{Descent, Target};
use super::task::{Manner, Settled, Task, Work, failure};
use crate::base::{Event, Result};
use crate::fetch::Fetcher;
use crate::format::{ChunkPlace, Content, Extent, FileType};

/// Things in a window: some 40 MiB with their metadata.
const TASKS_MAX: usize = 64 << 10;

/// Parts in a window: some 20 MiB, and 32 GiB of large files.
const PARTS_MAX: usize = 256 << 10;

/// Stored bytes that a thread fetches at a time.
const JOB_BYTES: u64 = 4 << 20;

/// Things that a thread takes at a time.
const BATCH: usize = 64;

/// A chunk, and where its bytes go.
struct Part {
    place: ChunkPlace,
    task: u32,
    offset: u64,
}

/// What all windows of a restore share.
pub(super) struct Windows<'a> {
    pub(super) fetcher: &'a Fetcher,
    pub(super) target: &'a Target,
    pub(super) manner: Manner,
    pub(super) tally: &'a Tally<'a>,
    pub(super) threads: usize,
    /// Flags of chattr(1) for files that are in place.
    pub(super) late: Mutex<Vec<(Vec<u8>, u32)>>,
}

/// The present window.
#[derive(Default)]
pub(super) struct Window {
    tasks: Vec<Task>,
    parts: Vec<Part>,
}

impl Window {
    /// Is it time to run it?
    pub(super) fn is_full(&self) -> bool {
        self.tasks.len() >= TASKS_MAX || self.parts.len() >= PARTS_MAX
    }

    /// Takes something that has its content, to see to its metadata.
    pub(super) fn settle(&mut self, task: Task) {
        self.tasks.push(task);
    }

    /// Takes something to be made, of this content.
    ///
    /// # Errors
    /// See `Tally::failed`.
    pub(super) fn make(
        &mut self,
        windows: &Windows<'_>,
        task: Task,
        content: &Content,
    ) -> Result<()> {
        let number = self.tasks.len();
        let bytes = task.metadata.size;
        self.tasks.push(task);
        windows
            .tally
            .monitor()
            .event(Event::Expected { files: 1, bytes });
        let mut descent = windows.target.descent();
        let planned = each_extent(windows.fetcher, content, &mut |offset, extent| {
            self.plan(windows, &mut descent, number, offset, extent)
        });
        match planned {
            Ok(()) => Ok(()),
            Err(error) => windows.fail(&self.tasks[number], error),
        }
    }

    fn plan(
        &mut self,
        windows: &Windows<'_>,
        descent: &mut Descent<'_>,
        number: usize,
        offset: u64,
        extent: &Extent,
    ) -> Result<()> {
        let task = &self.tasks[number];
        match extent {
            Extent::Hole(_) => task.expect_hole(),
            Extent::Zeros(_) if windows.manner.sparse => task.expect_hole(),
            Extent::Zeros(length) => task
                .write_zeros(descent, &windows.manner, offset, *length)
                .map_err(|error| failure("write it", error))?,
            Extent::Chunk(place) => {
                task.expect_part();
                self.parts.push(Part {
                    place: *place,
                    // A window has far fewer.
                    task: number as u32,
                    offset,
                });
                if self.parts.len() >= PARTS_MAX {
                    self.write_parts(windows)?;
                }
            }
        }
        Ok(())
    }

    /// Does all that there is to do, and is empty then.
    ///
    /// # Errors
    /// See `Tally::failed`, and interrupted: what is under way is not in place then, and leaves nothing behind.
    pub(super) fn run(&mut self, windows: &Windows<'_>) -> Result<()> {
        let next = AtomicUsize::new(0);
        let done = windows
            .side_by_side(&|| windows.release(&self.tasks, &next))
            .and_then(|()| self.write_parts(windows));
        if done.is_err() {
            self.abandon(windows);
        }
        self.tasks.clear();
        self.parts.clear();
        done
    }

    /// Takes away what is not in place.
    pub(super) fn abandon(&self, windows: &Windows<'_>) {
        let mut descent = windows.target.descent();
        for task in &self.tasks {
            task.abandon(&mut descent, &windows.manner);
        }
    }

    fn write_parts(&mut self, windows: &Windows<'_>) -> Result<()> {
        self.parts
            .sort_unstable_by_key(|part| (part.place.hint, part.task, part.offset));
        let jobs = jobs(&self.parts);
        let next = AtomicUsize::new(0);
        let work = || {
            let mut descent = windows.target.descent();
            while let Some(parts) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                windows.tally.go_on()?;
                if let Some(first) = parts.first() {
                    windows.show(&self.tasks[first.task as usize]);
                }
                windows.write(&self.tasks, parts, &mut descent)?;
            }
            Ok(())
        };
        let written = windows.side_by_side(&work);
        drop(jobs);
        self.parts.clear();
        written
    }
}

/// Cuts parts, which are in order of places, into stretches of one pack and no more than `JOB_BYTES`, no frame in two.
fn jobs(parts: &[Part]) -> Vec<&[Part]> {
    let mut start = parts.first().map_or(0, |part| part.place.hint.frame_offset);
    parts
        .chunk_by(|one, next| {
            let (one, next) = (&one.place.hint, &next.place.hint);
            let end = u64::from(next.frame_offset) + u64::from(next.frame_length);
            let is_same_frame = one.pack == next.pack && one.frame_offset == next.frame_offset;
            let together =
                is_same_frame || one.pack == next.pack && end - u64::from(start) <= JOB_BYTES;
            if !together {
                start = next.frame_offset;
            }
            together
        })
        .collect()
}

impl Windows<'_> {
    /// Has all threads do `work`.
    pub(super) fn side_by_side(&self, work: &(dyn Fn() -> Result<()> + Sync)) -> Result<()> {
        thread::scope(|scope| {
            let workers: Vec<_> = (0..self.threads).map(|_| scope.spawn(work)).collect();
            let results: Vec<Result<()>> = workers
                .into_iter()
                .map(|worker| match worker.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
                .collect();
            // Those that end because another one failed say only that.
            let (mut first, mut interrupted) = (Ok(()), Ok(()));
            for result in results {
                match &result {
                    Err(error) if error.kind() == crate::base::ErrorKind::Interrupted => {
                        interrupted = result;
                    }
                    Err(_) if first.is_ok() => first = result,
                    _ => {}
                }
            }
            first.and(interrupted)
        })
    }

    /// Tells tasks that they are planned: those that wait for no part are done.
    fn release(&self, tasks: &[Task], next: &AtomicUsize) -> Result<()> {
        let mut descent = self.target.descent();
        loop {
            let start = next.fetch_add(BATCH, Ordering::Relaxed);
            let Some(batch) = tasks.get(start..) else {
                return Ok(());
            };
            self.tally.go_on()?;
            for task in &batch[..batch.len().min(BATCH)] {
                if task.part_done() {
                    self.finish(task, &mut descent)?;
                }
            }
        }
    }

    fn write(&self, tasks: &[Task], parts: &[Part], descent: &mut Descent<'_>) -> Result<()> {
        let places: Vec<ChunkPlace> = parts.iter().map(|part| part.place).collect();
        let mut outcome = Ok(());
        self.fetcher.scan(&places, &mut |number, chunk| {
            if outcome.is_ok() {
                outcome = self.write_part(tasks, &parts[number], chunk, descent);
            }
        });
        outcome
    }

    fn write_part(
        &self,
        tasks: &[Task],
        part: &Part,
        chunk: Result<&[u8]>,
        descent: &mut Descent<'_>,
    ) -> Result<()> {
        let task = &tasks[part.task as usize];
        if !task.has_failed() {
            let written = chunk.and_then(|bytes| {
                task.write(descent, &self.manner, part.offset, bytes)
                    .map_err(|error| failure("write it", error))
            });
            match written {
                Ok(()) => self.written(u64::from(part.place.length)),
                Err(error) => self.fail(task, error)?,
            }
        }
        match task.part_done() {
            true => self.finish(task, descent),
            false => Ok(()),
        }
    }

    fn written(&self, bytes: u64) {
        self.tally.monitor().event(Event::Done { files: 0, bytes });
    }

    fn fail(&self, task: &Task, error: crate::base::Error) -> Result<()> {
        if task.fail() {
            return self.tally.failed(&self.target.shown(&task.path), error);
        }
        Ok(())
    }

    /// Shows what is being worked on.
    fn show(&self, task: &Task) {
        let path = self.target.shown(&task.path);
        self.tally.monitor().event(Event::Path(&path));
    }

    fn finish(&self, task: &Task, descent: &mut Descent<'_>) -> Result<()> {
        if task.has_failed() {
            task.abandon(descent, &self.manner);
            return Ok(());
        }
        self.show(task);
        match &task.work {
            Work::Settle => match task.settle(descent, &self.manner) {
                Ok(Settled::Unchanged) => self.tally.add(Count::Unchanged, 1),
                Ok(Settled::Changed(problems)) => {
                    self.tally.add(Count::Metadata, 1);
                    self.tell(&task.path, problems);
                }
                Err(error) => self.fail(task, failure("look at it", error))?,
            },
            Work::Make { .. } => match task.finish(descent, &self.manner) {
                Ok(problems) => {
                    self.tell(&task.path, problems);
                    self.count(task);
                }
                Err(error) => return self.fail(task, error),
            },
        }
        if let Some(flags) = late_flags(&task.metadata) {
            let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
            late.push((task.path.clone(), flags));
        }
        Ok(())
    }

    fn count(&self, task: &Task) {
        if task.metadata.file_type == FileType::Regular {
            self.tally.add(Count::Files, 1);
            self.tally.add(Count::Bytes, task.metadata.size);
        } else {
            self.tally.add(Count::Others, 1);
        }
        self.tally
            .monitor()
            .event(Event::Done { files: 1, bytes: 0 });
    }

    /// Tells what could not be given to what is at `path`.
    pub(super) fn tell(&self, path: &[u8], problems: Problems) {
        if problems.owner {
            self.tally.keeps_owner();
        }
        for problem in problems.others {
            self.tally.complain(&self.target.shown(path), &problem);
        }
    }

    /// Tells why something was not done to `path`.
    pub(super) fn tell_errno(&self, path: &[u8], action: &str, error: rustix::io::Errno) {
        let problem = format!("cannot {action}: {}", describe(error));
        self.tally.complain(&self.target.shown(path), &problem);
    }
}
