//! Dump: a file's bytes, or a directory as an archive, as one stream.
//!
//! Three parts work side by side. One goes through the tree depth first, a directory's files before its directories, which
//! is about the order of packs, and cuts what it meets into batches. Several fetch the chunks of a batch, each frame once.
//! The caller's thread writes batch after batch, in order. The first batches are small, so that the first byte comes early;
//! memory is bounded by the batches that are under way.
//!
//! Deliberately not here: seeking. What was written is gone.

mod archive;
mod batches;
mod tape;
mod walk;
mod zipped;

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use crate::base::{Error, ErrorKind, Event, Key, Monitor, Result};
use crate::fetch::Fetcher;
use crate::format::{FileType, Point};
use crate::manifest::Chain;
use crate::repo::Repository;

use archive::{Archive, Plain};
use batches::{Batch, Pipeline, Step};
use tape::Tape;
use zipped::Zipped;

/// Bytes of memory for pieces of runs, extent lists and the frames that files share.
const MEMORY_BYTES: u64 = 64 << 20;

/// Threads that fetch where each request waits out a network's delay.
const DISTANT_THREADS: usize = 8;

/// How hard zstd tries: as for what a repository stores.
const ZSTD_LEVEL: i32 = 3;

/// The form of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// POSIX tar (PAX), with all metadata.
    Tar,
    /// The same, compressed.
    TarZstd,
    /// Zip: names, contents, symlinks, permissions and times.
    Zip,
}

/// What to dump, and how.
#[derive(Debug, Clone)]
pub struct DumpOptions {
    pub path: Key,
    /// None for a file's bytes, or a directory's usual form.
    pub format: Option<ArchiveFormat>,
    /// Threads that fetch.
    pub threads: usize,
}

/// What was dumped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DumpReport {
    /// Things that are in it.
    pub entries: u64,
    /// Those that are not, or not as they should be.
    pub errors: u64,
}

/// Writes what is at a path of a point to `out`: a file's bytes, or an archive, whose members are named from there.
///
/// What goes wrong with one member of an archive is a warning, counted in the report.
///
/// # Errors
/// Usage, if the point has no such path, or nothing there can be written; whatever `out` fails with; and those of reading
/// the point.
pub fn dump(
    repository: &Arc<Repository>,
    point: &Point,
    options: &DumpOptions,
    out: &mut dyn Write,
    monitor: &dyn Monitor,
) -> Result<DumpReport> {
    let fetcher = Fetcher::new(Arc::clone(repository), MEMORY_BYTES);
    let chain = Chain::open(&fetcher, point)?;
    let file_type = type_of(&chain, &options.path)?;
    let format = match (options.format, file_type) {
        (None, FileType::Directory) => Some(ArchiveFormat::Tar),
        (None, FileType::Regular) => None,
        (None, _) => {
            return Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "{} is neither a file nor a directory: --format puts it into an archive",
                    options.path
                ),
            ));
        }
        (format, _) => format,
    };
    let threads = match repository.store().is_distant() {
        true => options.threads.max(DISTANT_THREADS),
        false => options.threads,
    };
    let pipeline = Pipeline {
        fetcher: &fetcher,
        chain: &chain,
        path: &options.path,
        threads,
        monitor,
        follows_links: !matches!(format, Some(ArchiveFormat::Tar | ArchiveFormat::TarZstd)),
    };
    match format {
        None => run(&pipeline, Plain::new(out)),
        Some(ArchiveFormat::Tar) => run(&pipeline, Tape::new(out, &chain)),
        Some(ArchiveFormat::TarZstd) => {
            let compressed = zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)
                .map_err(archive::cannot_write)?;
            run(&pipeline, Tape::compressed(compressed, &chain))
        }
        Some(ArchiveFormat::Zip) => run(&pipeline, Zipped::new(out)),
    }
}

fn type_of(chain: &Chain, path: &Key) -> Result<FileType> {
    match chain.lookup(path)? {
        Some(found) => Ok(found.entry.metadata.file_type),
        None if path.is_root() => Ok(FileType::Directory),
        None => Err(Error::new(
            ErrorKind::Usage,
            format!("the point has no {path}"),
        )),
    }
}

/// Has the batches of a pipeline written to an archive.
fn run<A: Archive>(pipeline: &Pipeline<'_>, archive: A) -> Result<DumpReport> {
    let mut writing = Writing {
        archive,
        monitor: pipeline.monitor,
        report: DumpReport::default(),
        open: None,
    };
    pipeline.run(&mut |batch| writing.write(&batch))?;
    writing.archive.finish()?;
    Ok(writing.report)
}

/// Writes batches to an archive.
struct Writing<'a, A> {
    archive: A,
    monitor: &'a dyn Monitor,
    report: DumpReport,
    /// The member that is begun, and whether something was wrong with it.
    open: Option<(Vec<u8>, bool)>,
}

impl<A: Archive> Writing<'_, A> {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let mut steps = batch.steps.iter().enumerate();
        while let Some((number, step)) = steps.next() {
            match step {
                Step::Begin(member) => {
                    // Of what is known to be damaged nothing is written, if that can be told in time.
                    let rest = &batch.steps[number + 1..];
                    if let Some((length, problem)) = failure_ahead(rest) {
                        self.complain(&member.path, &problem.to_string())?;
                        steps.nth(length - 1);
                        continue;
                    }
                    match self.archive.begin(member)? {
                        None => {
                            self.open = Some((member.path.clone(), false));
                            self.monitor.event(Event::Path(path_of(&member.path)));
                        }
                        Some(problem) => {
                            self.pass_over(&member.path, &problem);
                            steps.nth(rest.iter().position(Step::is_end).unwrap_or(rest.len()));
                        }
                    }
                }
                Step::Bytes(range) => {
                    self.archive.bytes(&batch.bytes[range.clone()])?;
                    let bytes = range.len() as u64;
                    self.monitor.event(Event::Done { files: 0, bytes });
                }
                Step::Zeros(length) => self.archive.zeros(*length)?,
                Step::Failed { length, problem } => {
                    let path = self.open.as_ref().map(|(path, _)| path.clone());
                    let problem = format!("{problem}; zeros stand in its place");
                    self.complain(&path.unwrap_or_default(), &problem)?;
                    self.archive.zeros(*length)?;
                }
                Step::End => {
                    self.archive.end()?;
                    self.monitor.event(Event::Done { files: 1, bytes: 0 });
                    if self.open.take().is_some_and(|(_, is_damaged)| !is_damaged) {
                        self.report.entries += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// Something is wrong with a member.
    fn complain(&mut self, path: &[u8], problem: &str) -> Result<()> {
        if A::IS_WHOLE_OR_NOTHING {
            return Err(Error::new(ErrorKind::Corrupt, problem));
        }
        // Of one member it is told once.
        match &mut self.open {
            Some((_, is_damaged)) if *is_damaged => return Ok(()),
            Some((_, is_damaged)) => *is_damaged = true,
            None => {}
        }
        self.report.errors += 1;
        self.warn(path, problem);
        Ok(())
    }

    /// A member is of a type that the archive has not.
    fn pass_over(&mut self, path: &[u8], problem: &str) {
        self.warn(path, problem);
    }

    fn warn(&self, path: &[u8], problem: &str) {
        let event = Event::Warning(Some(path_of(path)), problem);
        self.monitor.event(event);
    }
}

fn path_of(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

/// If the member whose steps begin here ends in this batch, and one of its parts failed: how many steps it has, and why.
fn failure_ahead(steps: &[Step]) -> Option<(usize, &Error)> {
    let length = steps.iter().position(Step::is_end)? + 1;
    steps[..length].iter().find_map(|step| match step {
        Step::Failed { problem, .. } => Some((length, problem)),
        _ => None,
    })
}
