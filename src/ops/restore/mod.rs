//! Restore: what a point has, put back as files.
//!
//! The entries are gone through in the point's order. Directories are made as they come; of everything else so much is
//! gathered as fits a window, whose chunks are then fetched in the order of packs and written by several threads, each
//! file under a temporary name until it is whole. Then come hard links, what is to be deleted, and the metadata of the
//! directories, which all of that would change.
//!
//! Invariants: no symlink below the target is followed; what is there under its own name is whole, before, while and after;
//! run again, it goes on where it was stopped, as what is right already is left as it is. Memory is bounded by a window,
//! but for hard links of which not all have come, and directories that are not where they belong.
//!
//! Deliberately not here: fsync. Who pulls the plug runs it again.

mod conflict;
mod content;
mod directories;
mod globs;
mod links;
mod metadata;
mod remove;
mod report;
mod target;
mod task;
mod verify;
mod walk;
mod window;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fd::AsFd;

use crate::base::{Error, ErrorKind, Event, Key, Monitor, Result};
use crate::fetch::Fetcher;
use crate::format::{Content, Entry, FileType, Metadata, Point};
use crate::manifest::Chain;
use crate::repo::Repository;

use conflict::{Verdict, judge};
use directories::{Directories, Making};
use globs::Globs;
use links::Links;
use report::{Count, Tally};
use target::{Descent, Target, join, look, split};
use task::{Manner, Task, Work, failure};
use walk::{Selected, Selection};
use window::{Window, Windows};

pub use conflict::OnConflict;
pub(super) use content::each_extent;
pub use report::RestoreReport;

/// Bytes of memory for pieces of runs and extent lists: each is read about once.
const MEMORY_BYTES: u64 = 32 << 20;

/// Threads where each request waits out a network's delay.
const DISTANT_THREADS: usize = 12;

/// What to restore, where to, and how.
#[derive(Debug)]
pub struct RestoreOptions {
    /// What becomes the root of what is restored.
    pub subtree: Key,
    /// What is restored of it, relative to it; all of it, if there are none.
    pub paths: Vec<Key>,
    /// The directory under which it is put; None for the paths that the point records.
    pub target: Option<PathBuf>,
    /// Tell what would be done, and do nothing.
    pub dry_run: bool,
    pub on_conflict: OnConflict,
    /// Take away what the point does not have.
    pub delete: bool,
    /// Read everything back and hold it against the point.
    pub verify: bool,
    /// Globs that choose what is restored; without any, all is.
    pub include: Vec<String>,
    /// Globs that leave out.
    pub exclude: Vec<String>,
    /// Make holes of zeros that were written, too.
    pub sparse: bool,
    /// Give files to their owners.
    pub owner: bool,
    /// Threads that write.
    pub threads: usize,
    /// Is each thing to be told of in a note?
    pub tells_each: bool,
}

/// Restores what `options` say of `point`.
///
/// What goes wrong with one thing is a warning, counted in the report.
///
/// # Errors
/// Usage, if the point has no such path, or --delete with recorded paths names none; full, if the disk is; interrupted;
/// and those of reading the point.
pub fn restore(
    repository: &Arc<Repository>,
    point: &Point,
    options: &RestoreOptions,
    monitor: &dyn Monitor,
) -> Result<RestoreReport> {
    let fetcher = Fetcher::new(Arc::clone(repository), MEMORY_BYTES);
    let selection = select(&fetcher, point, options)?;
    let tally = Tally::new(monitor);
    let target = target(options)?;
    let Some(target) = target else {
        // In a dry run, with nothing there: all would be made.
        Restorer::new(&selection, options, &tally, None, point).plan(&mut None)?;
        return Ok(tally.finish());
    };
    let distant = repository.store().is_distant();
    let windows = Windows {
        fetcher: &fetcher,
        target: &target,
        manner: Manner::new(options.owner, options.sparse, options.delete),
        tally: &tally,
        threads: match distant {
            true => options.threads.max(DISTANT_THREADS),
            false => options.threads,
        },
        late: Mutex::default(),
    };
    let mut restorer = Restorer::new(&selection, options, &tally, Some(&windows), point);
    let mut descent = Some(target.descent());
    let planned = restorer.plan(&mut descent);
    if planned.is_err() {
        restorer.window.abandon(&windows);
    }
    planned?;
    if options.delete {
        remove::remove(&selection, &restorer.directories, &windows, options.dry_run)?;
    }
    if !options.dry_run {
        restorer.complete(&windows)?;
    }
    Ok(tally.finish())
}

/// What is restored.
fn select(fetcher: &Arc<Fetcher>, point: &Point, options: &RestoreOptions) -> Result<Selection> {
    let chain = Chain::open(fetcher, point)?;
    let globs = Globs::new(&options.include, &options.exclude)?;
    let is_in_place = options.target.is_none();
    if is_in_place && options.delete && options.paths.is_empty() && options.subtree.is_root() {
        return Err(Error::new(
            ErrorKind::Usage,
            "--delete with --in-place takes a PATH: only below it is anything taken away",
        ));
    }
    if !is_in_place {
        return Selection::new(chain, &options.subtree, &options.paths, globs);
    }
    // Recorded paths are from the root, whatever was named as one.
    let mut paths = Vec::new();
    for path in &options.paths {
        let path = join(&options.subtree.to_path(), &path.to_path());
        paths.push(Key::from_path(&path)?);
    }
    if paths.is_empty() && !options.subtree.is_root() {
        paths.push(options.subtree.clone());
    }
    if paths.is_empty() {
        paths = recorded_sources(&chain, point)?;
    }
    Selection::new(chain, &Key::root(), &paths, globs)
}

/// The paths that were backed up, as the point records them.
fn recorded_sources(chain: &Chain, point: &Point) -> Result<Vec<Key>> {
    use std::os::unix::ffi::OsStrExt;
    let mut keys = Vec::new();
    for source in &point.sources {
        let mapped = point.mapping.iter().find(|mapping| mapping.live == *source);
        let recorded = mapped.map_or(source, |mapping| &mapping.recorded);
        let key = Key::from_path(recorded.as_os_str().as_bytes())?;
        if key.is_root() || chain.lookup(&key)?.is_some() {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// Where it is put; None in a dry run, if that is not there.
fn target(options: &RestoreOptions) -> Result<Option<Target>> {
    match &options.target {
        None => Target::open(Path::new("/")).map(Some),
        Some(path) if !options.dry_run => Target::make(path).map(Some),
        Some(path) => match Target::open(path) {
            Err(error) if error.kind() == ErrorKind::Missing => Ok(None),
            target => target.map(Some),
        },
    }
}

/// Goes through the selection.
struct Restorer<'a> {
    selection: &'a Selection,
    options: &'a RestoreOptions,
    tally: &'a Tally<'a>,
    /// None if nothing is there that could be looked at, nor will be.
    windows: Option<&'a Windows<'a>>,
    window: Window,
    directories: Directories,
    links: Links,
    /// What may have its content: it is read to know.
    likely: Vec<(Vec<u8>, Box<Entry>)>,
    /// What is not as the point has it, and is not to be: only kept where all is verified.
    passed_over: HashSet<Vec<u8>>,
    /// Ends the names of what is renamed.
    suffix: String,
}

impl<'a> Restorer<'a> {
    fn new(
        selection: &'a Selection,
        options: &'a RestoreOptions,
        tally: &'a Tally<'a>,
        windows: Option<&'a Windows<'a>>,
        point: &Point,
    ) -> Self {
        Self {
            selection,
            options,
            tally,
            windows,
            window: Window::default(),
            directories: Directories::default(),
            links: Links::default(),
            likely: Vec::new(),
            passed_over: HashSet::new(),
            suffix: format!(".restored-{}", point.id),
        }
    }

    /// Restores all but hard links, and metadata of directories.
    fn plan(&mut self, descent: &mut Option<Descent<'_>>) -> Result<()> {
        let selection = self.selection;
        selection.each(&mut |selected| {
            self.tally.go_on()?;
            if selected.found.entry.metadata.file_type == FileType::Directory {
                return self.directory(&selected, descent.as_mut());
            }
            self.leaf(selected, descent.as_mut())?;
            match self.window.is_full() || self.likely.len() >= verify::LIKELY_MAX {
                true => self.run(),
                false => Ok(()),
            }
        })?;
        self.run()
    }

    fn directory(&mut self, selected: &Selected, descent: Option<&mut Descent<'_>>) -> Result<()> {
        let making = Making {
            rule: self.options.on_conflict,
            dry_run: self.options.dry_run,
            in_place: self.options.target.is_none(),
            suffix: &self.suffix,
        };
        let windows = self.windows;
        let shown = |path: &[u8]| match windows {
            Some(windows) => windows.target.shown(path),
            None => PathBuf::from(String::from_utf8_lossy(path).into_owned()),
        };
        self.directories
            .make(selected, descent, &making, self.tally, &shown)
    }

    fn leaf(&mut self, selected: Selected, descent: Option<&mut Descent<'_>>) -> Result<()> {
        let Some(mut path) = self.directories.path_of(&selected.path) else {
            self.pass_over(selected.path);
            return Ok(());
        };
        let entry = selected.found.entry;
        let verdict = match self.verdict(&mut path, &entry, descent) {
            Ok(verdict) => verdict,
            Err(error) => {
                let shown = match self.windows {
                    Some(windows) => windows.target.shown(&path),
                    None => PathBuf::from(String::from_utf8_lossy(&path).into_owned()),
                };
                self.pass_over(path);
                return self.tally.failed(&shown, error);
            }
        };
        match verdict {
            Verdict::Skip => self.pass_over(path),
            Verdict::Same { is_sure: false } => self.likely.push((path, entry)),
            Verdict::Same { is_sure: true } => self.same(path, entry),
            Verdict::Write | Verdict::Rename => self.write(path, entry)?,
        }
        Ok(())
    }

    /// What to do with `entry`. Where it is renamed, `path` is the new one then.
    fn verdict(
        &mut self,
        path: &mut Vec<u8>,
        entry: &Entry,
        descent: Option<&mut Descent<'_>>,
    ) -> Result<Verdict> {
        let Some(descent) = descent else {
            return Ok(Verdict::Write);
        };
        let rule = self.options.on_conflict;
        for is_renamed in [false, true] {
            let (directory, name) = match descent.place(path) {
                Ok(place) => place,
                Err(rustix::io::Errno::NOENT) if self.options.dry_run => return Ok(Verdict::Write),
                Err(error) => return Err(failure("open its directory", error)),
            };
            let there = look(directory, name).map_err(|error| failure("look at it", error))?;
            let Some(there) = there else {
                return Ok(Verdict::Write);
            };
            // A new name was chosen by an earlier restore of the same point, if by anyone.
            let rule = if is_renamed {
                OnConflict::IfChanged
            } else {
                rule
            };
            match judge(rule, entry, &there, (directory.as_fd(), name)) {
                Verdict::Rename => *path = self.beside(path),
                verdict => return Ok(verdict),
            }
        }
        Ok(Verdict::Write)
    }

    /// The path beside `path` for what may not replace what is there.
    fn beside(&mut self, path: &[u8]) -> Vec<u8> {
        self.tally.add(Count::Renamed, 1);
        if self.options.verify {
            self.passed_over.insert(path.to_vec());
        }
        let (parent, name) = split(path);
        join(parent, &[name, self.suffix.as_bytes()].concat())
    }

    fn note(&self, does: &str, path: &[u8]) {
        if self.options.tells_each {
            let note = format!("{does} {}", String::from_utf8_lossy(path));
            self.tally.monitor().event(Event::Note(&note));
        }
    }

    fn pass_over(&mut self, path: Vec<u8>) {
        self.note("skip", &path);
        self.tally.add(Count::Skipped, 1);
        if self.options.verify {
            self.passed_over.insert(path);
        }
    }

    /// Takes note that `path` has its content.
    fn same(&mut self, path: Vec<u8>, entry: Box<Entry>) {
        self.note("unchanged", &path);
        if self.is_link(&path, &entry) {
            return;
        }
        if self.options.dry_run || self.options.on_conflict == OnConflict::Rename {
            self.tally.add(Count::Unchanged, 1);
        } else {
            self.window
                .settle(Task::new(path, entry.metadata, Work::Settle));
        }
    }

    /// Is it one more name of a file that came before? Then it becomes one.
    fn is_link(&mut self, path: &[u8], entry: &Entry) -> bool {
        let Some(group) = entry.group else {
            return false;
        };
        let is_known = self.links.is_known(group);
        if is_known {
            self.links.follow(group, path.to_vec());
        } else {
            self.links.lead(group, path, entry.metadata.links);
        }
        is_known
    }

    /// Writes `entry` at `path`, or counts it in a dry run.
    fn write(&mut self, path: Vec<u8>, mut entry: Box<Entry>) -> Result<()> {
        self.note("restore", &path);
        if self.is_link(&path, &entry) {
            return Ok(());
        }
        let content = std::mem::replace(&mut entry.content, Content::Nothing);
        match self.windows.filter(|_| !self.options.dry_run) {
            Some(windows) => return self.make(windows, path, entry.metadata, content),
            None if entry.metadata.file_type == FileType::Regular => {
                self.tally.add(Count::Files, 1);
                self.tally.add(Count::Bytes, entry.metadata.size);
            }
            None => self.tally.add(Count::Others, 1),
        }
        Ok(())
    }

    fn make(
        &mut self,
        windows: &Windows<'_>,
        path: Vec<u8>,
        metadata: Metadata,
        content: Content,
    ) -> Result<()> {
        // A block device's content is the device's.
        let content = match metadata.file_type {
            FileType::Regular => content,
            _ => Content::Nothing,
        };
        let (inline, content) = match content {
            Content::Inline(bytes) => (bytes, Content::Nothing),
            content => (Vec::new(), content),
        };
        let task = Task::new(path, metadata, Work::Make { inline });
        self.window.make(windows, task, &content)
    }

    /// Does what was planned.
    fn run(&mut self) -> Result<()> {
        let Some(windows) = self.windows else {
            self.links.count(self.tally, None);
            return Ok(());
        };
        let likely = std::mem::take(&mut self.likely);
        let found = verify::compare(windows, &likely)?;
        for ((path, entry), is_same) in likely.into_iter().zip(found) {
            if is_same {
                self.same(path, entry);
            } else if self.options.on_conflict == OnConflict::Rename {
                let beside = self.beside(&path);
                self.write(beside, entry)?;
            } else {
                self.write(path, entry)?;
            }
        }
        if self.options.dry_run {
            self.links.count(self.tally, Some(windows.target));
            return Ok(());
        }
        self.window.run(windows)?;
        self.links.make(windows, self.options.on_conflict)
    }

    /// What comes after all else is in place.
    fn complete(&mut self, windows: &Windows<'_>) -> Result<()> {
        let mut descent = windows.target.descent();
        self.selection.each_directory(&mut |_, selected| {
            self.tally.go_on()?;
            self.directories.settle(&selected, &mut descent, windows);
            Ok(())
        })?;
        let mut descent = windows.target.descent();
        self.directories.settle_last(&mut descent, windows);
        if self.options.verify {
            verify::verify(
                self.selection,
                &self.directories,
                &self.passed_over,
                windows,
            )?;
        }
        directories::close(windows);
        Ok(())
    }
}
