//! A mounted tree: from the first answer to the last, and how it ends.
//!
//! As many threads serve requests as there are cores, each with a descriptor of its own; more were slower. One more rests
//! until these wait for the store for long, and a pool has the requests that must wait then. One thread looks for new
//! points and tells the kernel what it must forget, and one puts into the page cache what will be read next: never a
//! serving thread, for the kernel may hold a lock that a request waits with. A session ends when its mount is taken away,
//! by whomever, or when it is told to.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, never, select, tick};
use fuser::{Config, INodeNo, Notifier, Session, SessionACL};
use log::{error, info, warn};

use super::adapter::Adapter;
use super::ahead::{Gate, ahead};
use super::answers::Answers;
use super::attach::attach;
use super::attributes::Presenter;
use super::counts::Counts;
use super::figures::{self, Source};
use super::metrics::{MetricsFile, WRITTEN_EVERY};
use super::mounts::{self, MountRecord};
use super::near::near;
use super::options::MountOptions;
use super::read_ahead::set_read_ahead;
use super::walk::walk;
use super::whole::whole;
use crate::base::{Error, ErrorKind, Result};
use crate::tree::Tree;

/// How often a mount of a whole repository looks for new points: they are promised within 5 seconds.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// The same where a request costs a round trip, and often money: a thousand and a half a day.
const DISTANT_POLL_INTERVAL: Duration = Duration::from_secs(60);

/// How long the threads may take to end once the mount is gone: each finishes the request that it serves.
const THREADS_END_WITHIN: Duration = Duration::from_secs(10);

/// How long a push may take to end: as long as the read does that it waits for.
const PUSH_ENDS_WITHIN: Duration = Duration::from_secs(2);

/// What a mount may be told while it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Log what was done so far.
    Tell,
    /// Take the mount away and end.
    Stop,
}

/// What a mount tells of itself.
#[derive(Debug, Default)]
pub struct Telling {
    /// Where the repository is, as whoever asks is told.
    pub repository: String,
    /// The file in which Prometheus finds what the mount has done; it is written now and then, and at the end.
    pub metrics_file: Option<PathBuf>,
}

/// A tree that is mounted and answers; it is taken away when dropped, should it still be there.
pub struct MountedTree {
    record: MountRecord,
    ended: Receiver<io::Result<()>>,
    pushes: Gate,
    source: Source,
    metrics: Option<MetricsFile>,
    /// The mount is gone: whatever is at its place is someone else's, even if it looks alike.
    is_gone: bool,
    /// Dropped, it ends the thread that looks for new points.
    _poll_until_dropped: Option<Sender<()>>,
}

impl MountedTree {
    /// Mounts `tree` at `place`, as `place::prepare` returned it, under the name `source`; returns once it answers.
    ///
    /// # Errors
    /// As `attach`; Failed if the kernel cannot do what is needed.
    pub fn mount(tree: Tree, place: &Path, source: &str, options: &MountOptions) -> Result<Self> {
        let tree = Arc::new(tree);
        let device = attach(place, source, options)?;
        let Some(record) = mounts::mount_at(place)?.filter(MountRecord::is_bygone) else {
            return Err(Error::new(
                ErrorKind::Failed,
                format!("{} was mounted and is not there", place.display()),
            ));
        };
        let mounted = start(&tree, device, &record, options);
        if mounted.is_err() {
            detach_and_warn(&record);
        }
        mounted
    }

    /// The number of the device that the mount is, `major:minor`.
    pub fn device(&self) -> &str {
        &self.record.device
    }

    /// Serves until the mount is taken away, or until it is ordered to stop or nobody can order anything any more, upon
    /// which it is taken away here, even if it is in use: what is open then fails once this process ends, which it should
    /// do next. In the end, and when it is ordered to, it logs what it did.
    ///
    /// # Errors
    /// Failed, if serving ended by itself.
    pub fn serve(mut self, orders: &Receiver<Order>) -> Result<()> {
        // Not before: the first line of a log looks the local zone up, in all folders of /usr/share/zoneinfo.
        info!("{} is mounted", self.record.place.display());
        let due = self
            .metrics
            .as_ref()
            .map_or_else(never, |_| tick(WRITTEN_EVERY));
        let result = loop {
            select! {
                recv(self.ended) -> result => break self.finish(result.ok()),
                recv(due) -> _ => self.write_metrics(true),
                recv(orders) -> order => match order {
                    Ok(Order::Tell) => self.tell(),
                    Ok(Order::Stop) | Err(_) => break self.unmount(),
                },
            }
        };
        self.tell();
        self.write_metrics(false);
        result
    }

    /// Has it tell what it does, to whoever asks and, if one is named, in a file of metrics, which is written at once.
    ///
    /// # Errors
    /// That file cannot be written.
    pub fn begin_telling(&mut self, telling: &Telling) -> Result<()> {
        self.source.repository.clone_from(&telling.repository);
        if let Err(error) = tell_whoever_asks(&self.source, &self.record.device) {
            warn!("`bygone mounts` will not know what this mount does: {error}");
        }
        if let Some(path) = &telling.metrics_file {
            let file = MetricsFile::new(path, &self.record.place, &telling.repository);
            file.write(&self.source, true)?;
            self.metrics = Some(file);
        }
        Ok(())
    }

    fn write_metrics(&self, is_up: bool) {
        let file = self.metrics.as_ref();
        if let Some(Err(error)) = file.map(|file| file.write(&self.source, is_up)) {
            warn!("{error}");
        }
    }

    /// Logs what was done so far.
    fn tell(&self) {
        info!("{}", self.source.counts.line(&self.source.tree.fetched()));
    }

    /// Takes the mount away and waits for the threads to end.
    fn unmount(&mut self) -> Result<()> {
        match mounts::unmount(&self.record) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Locked => {
                warn!(
                    "{} was in use: what is open there fails from now on",
                    self.record.place.display()
                );
                // Its threads would serve until the last file is closed; the process ends before. Dropping detaches.
                return Ok(());
            }
            // Someone else has just taken it away.
            Err(error) if error.kind() == ErrorKind::Missing => {}
            Err(error) => return Err(error),
        }
        let result = self.ended.recv_timeout(THREADS_END_WITHIN);
        self.finish(result.ok())
    }

    /// Tells how serving ended; it ends by itself only if something is wrong, with the mount still there.
    fn finish(&mut self, result: Option<io::Result<()>>) -> Result<()> {
        if let Some(Err(error)) = result {
            return Err(Error::io(
                format!("serve {} any longer", self.record.place.display()),
                error,
            ));
        }
        self.is_gone = true;
        info!("{} is unmounted", self.record.place.display());
        Ok(())
    }
}

impl Drop for MountedTree {
    fn drop(&mut self) {
        if !self.is_gone {
            detach_and_warn(&self.record);
            // The process ends next, and with it the threads that a push may wait for.
            self.pushes.close(PUSH_ENDS_WITHIN);
        }
    }
}

/// Takes a mount away that cannot be served; if it is gone already, all the better.
fn detach_and_warn(record: &MountRecord) {
    match mounts::detach(record) {
        Err(error) if error.kind() != ErrorKind::Missing => warn!("{error}"),
        _ => {}
    }
}

/// Serves `device`, and returns once the mount answers.
fn start(
    tree: &Arc<Tree>,
    device: OwnedFd,
    record: &MountRecord,
    options: &MountOptions,
) -> Result<MountedTree> {
    let pushing = device
        .try_clone()
        .map_err(|error| Error::io("share the mount's device", error))?;
    let giving = device
        .try_clone()
        .map_err(|error| Error::io("share the mount's device", error))?;
    let watched = device
        .try_clone()
        .map_err(|error| Error::io("share the mount's device", error))?;
    let counts = Arc::new(Counts::default());
    let (near, watch) = near(watched);
    let (reads, pusher) = ahead(tree, pushing, &counts);
    let pushes = pusher.gate();
    let (littles, giver) = whole(giving, pushes.clone());
    let (walks, walker) = tree.is_distant().then(|| walk(tree)).unzip();
    let answers = Answers {
        tree: Arc::clone(tree),
        presenter: Presenter::new(options, !tree.is_one_point()),
        counts: Arc::clone(&counts),
        reads,
        littles,
        walks,
    };
    let threads = serving_threads();
    let adapter = Adapter::new(answers, near, threads, options);
    let access = if options.allow_other {
        SessionACL::All
    } else {
        SessionACL::Owner
    };
    let mut config = Config::default();
    config.n_threads = Some(threads);
    config.clone_fd = true;
    let session = Session::from_fd(adapter, device, access, config)
        .map_err(|error| Error::io("agree with the kernel on how to serve the mount", error))?;
    let notifier = session.notifier();
    for (name, work) in [
        (
            "bygone-ahead",
            Box::new(|| pusher.run()) as Box<dyn FnOnce() + Send>,
        ),
        ("bygone-whole", Box::new(|| giver.run())),
    ] {
        let keeper = watch.keeper();
        spawn(name, move || {
            keeper.keep_this_thread_off();
            work();
        })?;
    }
    if let Some(walker) = walker {
        spawn("bygone-walk", move || walker.run())?;
    }
    spawn("bygone-near", move || watch.run())?;
    let (ending, ended) = bounded(1);
    spawn("bygone-session", move || {
        // The receiver is gone only when nobody waits any more.
        let _nobody_waits = ending.send(session.run());
    })?;
    let poll_until_dropped = match tree.is_one_point() {
        true => None,
        false => {
            let interval = options.refresh.unwrap_or(match tree.is_distant() {
                true => DISTANT_POLL_INTERVAL,
                false => POLL_INTERVAL,
            });
            Some(start_polling(Arc::clone(tree), notifier, interval)?)
        }
    };
    // The first question of all: it waits until a thread answers.
    std::fs::metadata(&record.place).map_err(|error| {
        Error::io(
            format!("get an answer at {}", record.place.display()),
            error,
        )
    })?;
    set_read_ahead(&record.device);
    announce(&record.device);
    Ok(MountedTree {
        record: record.clone(),
        ended,
        pushes,
        source: Source {
            counts,
            tree: Arc::clone(tree),
            repository: String::new(),
            since: figures::now(),
        },
        metrics: None,
        is_gone: false,
        _poll_until_dropped: poll_until_dropped,
    })
}

/// One more than there are cores: it rests until all others wait for the store for long, and takes requests then.
fn serving_threads() -> usize {
    1 + thread::available_parallelism().map_or(1, usize::from)
}

/// Lets whoever unmounts notice when this process has ended.
fn announce(device: &str) {
    match mounts::announce_process(device) {
        // Never closed here: the kernel does it when the process ends, which is what it tells.
        Ok(listener) => std::mem::forget(listener),
        Err(error) => warn!("`bygone umount` will not wait for this process: {error}"),
    }
}

/// Answers whoever asks what the mount has done.
fn tell_whoever_asks(source: &Source, device: &str) -> Result<()> {
    let answering = source.clone().listen(device);
    let answering = answering.map_err(|error| Error::io("listen on a socket", error))?;
    spawn("bygone-figures", answering).map(|_| ())
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| Error::io("start a thread", error))
}

/// Looks for new points until what is returned is dropped.
fn start_polling(tree: Arc<Tree>, notifier: Notifier, interval: Duration) -> Result<Sender<()>> {
    let (sender, dropped) = bounded(0);
    spawn("bygone-poll", move || {
        let mut failing = false;
        while dropped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            match poll(&tree, &notifier) {
                Ok(()) => failing = false,
                // Told once, not every few seconds of an outage.
                Err(_) if failing => {}
                Err(error) => {
                    failing = true;
                    error!("cannot look for new points, and will try again: {error}");
                }
            }
        }
    })?;
    Ok(sender)
}

/// Takes new points in, and has the kernel forget what it knows of the directories that show them.
fn poll(tree: &Tree, notifier: &Notifier) -> Result<()> {
    let changes = tree.poll()?;
    if changes.is_empty() {
        return Ok(());
    }
    let told = |error| Error::io("tell the kernel of new points", error);
    for (directory, name) in &changes.entries {
        notifier
            .inval_entry(INodeNo(directory.0), OsStr::from_bytes(name))
            .map_err(told)?;
    }
    for directory in &changes.inodes {
        // The whole of it: attributes and the listing that is kept.
        notifier
            .inval_inode(INodeNo(directory.0), 0, 0)
            .map_err(told)?;
    }
    Ok(())
}
