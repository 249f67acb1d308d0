//! Batches: so many members, or so much of one, whose chunks are fetched together, ahead of whoever writes them.

use std::ops::Range;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::archive::Member;
use super::walk::Walk;
use crate::base::{Error, ErrorKind, Key, Monitor, Result};
use crate::fetch::Fetcher;
use crate::format::{ChunkPlace, Content, Extent, FileType};
use crate::manifest::Chain;
use crate::ops::restore::each_extent;

/// Plain bytes of the first batch, and of later ones.
const FIRST_BYTES: usize = 128 << 10;
const BATCH_BYTES: usize = 4 << 20;

/// Members of a batch.
const MEMBERS_MAX: usize = 2048;

/// Batches that are fetched, or wait to be written, for each thread.
const AHEAD: usize = 2;

/// What is written of a batch.
pub(super) struct Batch {
    pub(super) steps: Vec<Step>,
    pub(super) bytes: Vec<u8>,
}

/// One thing after another.
pub(super) enum Step {
    Begin(Box<Member>),
    /// These bytes of the batch.
    Bytes(Range<usize>),
    Zeros(u64),
    /// So many bytes cannot be had.
    Failed {
        length: u64,
        problem: Error,
    },
    End,
}

impl Step {
    pub(super) fn is_end(&self) -> bool {
        matches!(self, Self::End)
    }
}

/// From a point to batches in order.
pub(super) struct Pipeline<'a> {
    pub(super) fetcher: &'a Fetcher,
    pub(super) chain: &'a Chain,
    pub(super) path: &'a Key,
    pub(super) threads: usize,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) follows_links: bool,
}

/// A batch whose chunks are still to be fetched.
#[derive(Default)]
struct Plan {
    steps: Vec<Step>,
    /// Each with the number of its step.
    chunks: Vec<(ChunkPlace, usize)>,
    /// Inline bytes, with the number of theirs.
    inline: Vec<(Vec<u8>, usize)>,
    bytes: usize,
    members: usize,
}

/// A plan, and where its batch is waited for.
type Job = (Plan, Sender<Batch>);

impl Pipeline<'_> {
    /// Gives every batch to `write`, in order, on this thread.
    ///
    /// # Errors
    /// The first of `write`, interrupted, or those of reading the point.
    pub(super) fn run(&self, write: &mut dyn FnMut(Batch) -> Result<()>) -> Result<()> {
        let (job_in, job_out) = bounded::<Job>(self.threads * AHEAD);
        let (due_in, due_out) = bounded::<Receiver<Batch>>(self.threads * AHEAD);
        thread::scope(|scope| {
            let walker = scope.spawn(move || self.walk(&job_in, &due_in));
            for _ in 0..self.threads {
                let jobs = job_out.clone();
                scope.spawn(move || {
                    for (plan, done) in jobs {
                        // If nobody waits for it any more, all is over.
                        let _gone = done.send(self.fetch(plan));
                    }
                });
            }
            drop(job_out);
            let mut written = Ok(());
            for due in &due_out {
                // A thread that panicked sends nothing, and is heard of when the scope ends.
                let Ok(batch) = due.recv() else { break };
                written = self.go_on().and_then(|()| write(batch));
                if written.is_err() {
                    break;
                }
            }
            drop(due_out);
            let walked = match walker.join() {
                Ok(walked) => walked,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            written.and(walked)
        })
    }

    fn go_on(&self) -> Result<()> {
        match self.monitor.is_interrupted() {
            true => Err(Error::new(ErrorKind::Interrupted, "interrupted")),
            false => Ok(()),
        }
    }

    /// Cuts the tree into plans. Ends early, and well, when nobody wants more.
    fn walk(&self, jobs: &Sender<Job>, due: &Sender<Receiver<Batch>>) -> Result<()> {
        let mut planning = Planning {
            fetcher: self.fetcher,
            plan: Plan::default(),
            bytes_max: FIRST_BYTES,
            is_over: false,
            jobs,
            due,
        };
        let is_directory = match self.chain.lookup(self.path)? {
            Some(root) => root.entry.metadata.file_type == FileType::Directory,
            None => true,
        };
        let mut walk = Walk::new(self.chain, self.path, self.follows_links, is_directory);
        let walked = walk.each(self.path, &mut |member| planning.take(member));
        if planning.is_over {
            return Ok(());
        }
        planning.send();
        walked
    }

    /// Fetches the chunks of a plan.
    fn fetch(&self, plan: Plan) -> Batch {
        let Plan {
            mut steps,
            mut chunks,
            inline,
            bytes,
            ..
        } = plan;
        let mut room = vec![0; bytes];
        for (bytes, step) in inline {
            if let Step::Bytes(range) = &steps[step] {
                room[range.clone()].copy_from_slice(&bytes);
            }
        }
        chunks.sort_unstable_by_key(|(place, step)| (place.hint, *step));
        let places: Vec<ChunkPlace> = chunks.iter().map(|(place, _)| *place).collect();
        self.fetcher.scan(&places, &mut |number, chunk| {
            let step = &mut steps[chunks[number].1];
            match (chunk, &*step) {
                (Ok(bytes), Step::Bytes(range)) => room[range.clone()].copy_from_slice(bytes),
                (Err(problem), Step::Bytes(range)) => {
                    let length = range.len() as u64;
                    *step = Step::Failed { length, problem };
                }
                _ => {}
            }
        });
        Batch { steps, bytes: room }
    }
}

/// Makes plans of members.
struct Planning<'a> {
    fetcher: &'a Fetcher,
    plan: Plan,
    bytes_max: usize,
    /// Nobody wants more.
    is_over: bool,
    jobs: &'a Sender<Job>,
    due: &'a Sender<Receiver<Batch>>,
}

impl Planning<'_> {
    fn take(&mut self, mut member: Member) -> Result<()> {
        let entry = &mut member.found.entry;
        let has_content = entry.metadata.file_type == FileType::Regular && member.link.is_none();
        let content = std::mem::replace(&mut entry.content, Content::Nothing);
        let size = entry.metadata.size;
        self.plan.members += 1;
        self.plan.steps.push(Step::Begin(Box::new(member)));
        if has_content {
            self.content(content, size)?;
        }
        self.plan.steps.push(Step::End);
        if self.plan.members >= MEMBERS_MAX || self.plan.bytes >= self.bytes_max {
            self.send();
        }
        self.check()
    }

    fn content(&mut self, content: Content, size: u64) -> Result<()> {
        if let Content::Inline(bytes) = content {
            let step = self.room(bytes.len());
            self.plan.inline.push((bytes, step));
            return Ok(());
        }
        let mut covered = 0;
        let fetcher = self.fetcher;
        let told = each_extent(fetcher, &content, &mut |_, extent| {
            covered += extent.length();
            match extent {
                Extent::Chunk(place) => {
                    if self.plan.bytes >= self.bytes_max {
                        self.send();
                        self.check()?;
                    }
                    let step = self.room(place.length as usize);
                    self.plan.chunks.push((*place, step));
                }
                Extent::Hole(length) | Extent::Zeros(length) => {
                    self.plan.steps.push(Step::Zeros(*length));
                }
            }
            Ok(())
        });
        match told {
            Err(problem) if !self.is_over => {
                let length = size.saturating_sub(covered);
                self.plan.steps.push(Step::Failed { length, problem });
                Ok(())
            }
            told => told,
        }
    }

    /// Room for bytes that are to come. Returns the number of their step.
    fn room(&mut self, bytes: usize) -> usize {
        let start = self.plan.bytes;
        self.plan.bytes += bytes;
        self.plan.steps.push(Step::Bytes(start..start + bytes));
        self.plan.steps.len() - 1
    }

    /// Has what is planned fetched.
    fn send(&mut self) {
        let (done, waiting) = bounded(1);
        let plan = std::mem::take(&mut self.plan);
        self.bytes_max = (self.bytes_max * 2).min(BATCH_BYTES);
        self.is_over |= self.due.send(waiting).is_err() || self.jobs.send((plan, done)).is_err();
    }

    /// # Errors
    /// Nobody wants more: whoever went away has said why.
    fn check(&self) -> Result<()> {
        match self.is_over {
            true => Err(Error::new(ErrorKind::Interrupted, "nobody reads any more")),
            false => Ok(()),
        }
    }
}
