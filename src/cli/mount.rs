//! `bygone mount`: shows points as files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use jiff::Zoned;
use log::{error, warn};
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use super::arguments::{GlobalArguments, PointFilterArguments, parse_size, parse_timeout};
use super::background::{Beginning, Side, Working, fork};
use super::context::Context;
use super::mount_help::AFTER_OPTIONS;
use super::mount_log;
use super::mount_options;
use super::outcome::{Outcome, error_code};
use super::password::PasswordSource;
use super::watcher::Watcher;
use crate::base::{Error, ErrorKind, PointId, Result};
use crate::fetch::Fetcher;
use crate::format::Point;
use crate::fuse::{
    MountOptions, MountedTree, Order, Protected, Telling, keep_apart, prepare, source_name,
};
use crate::ops::select::{PointSpec, resolve, select, select_from};
use crate::repo::{Catalogue, PointFilter, Repository, newest_of_chains};
use crate::seal::Password;
use crate::tree::{Numbers, Owner, Tree, TreeOptions};

/// Show restore points as files, read-only
///
/// Without --point all points are there: by id below points/, by host below hosts/, by label below labels/, and the
/// newest as latest; history/PATH has all versions of a path, and diff/A..B what differs between two points. New ones
/// appear while it is mounted. Copy out with cp, search with find and grep, compare two points with diff -r. The command returns once the mount answers, and serves it from the background.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = AFTER_OPTIONS)]
pub struct Arguments {
    /// Show only this point, with its root as the folder's; resolved once
    #[arg(long, value_name = "POINT")]
    pub(super) point: Option<String>,

    /// Stay in the foreground until the mount is taken away or a signal comes
    #[arg(long)]
    pub(super) foreground: bool,

    /// Let other users in, each to what the files' permissions and ACLs allow
    #[arg(long)]
    pub(super) allow_other: bool,

    /// Show all files as owned by this user and group, by number
    #[arg(long, value_name = "UID:GID", value_parser = parse_owner)]
    pub(super) owner: Option<Owner>,

    /// Let whoever may enter the mount read everything, whatever the files' permissions are
    #[arg(long)]
    pub(super) no_permissions: bool,

    /// Run no program from the mount
    #[arg(skip)]
    pub(super) no_exec: bool,

    /// Hide what is in the folder, should something be
    #[arg(skip)]
    pub(super) nonempty: bool,

    /// Look for new points so often; every 2 seconds by default, and every 60 of a distant repository
    #[arg(long, value_name = "SECONDS", value_parser = parse_refresh)]
    pub(super) refresh: Option<Duration>,

    /// How much of what was read to keep in memory; see Tuning
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse_size)]
    pub(super) cache_memory: u64,

    /// How long a repository over a network may take to answer before whoever reads gets an error, EIO
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_timeout)]
    pub(super) timeout: Duration,

    /// Log to this file rather than to the system's log, or to the terminal in the foreground
    #[arg(long, value_name = "FILE")]
    pub(super) log_file: Option<PathBuf>,

    /// Keep what the mount has done in this file, for the textfile collector of Prometheus; see Metrics
    #[arg(long, value_name = "FILE")]
    pub(super) metrics_file: Option<PathBuf>,

    /// Where the password is, if fstab says so
    #[arg(skip)]
    pub(super) password: PasswordSource,

    /// Options as in fstab: noexec, those above without their dashes, such as point=POINT, and some that all commands
    /// have; see fstab
    #[arg(short = 'o', value_name = "OPT", value_delimiter = ',')]
    pub(super) options: Vec<String>,

    /// The folder to mount at
    #[arg(value_name = "MNT")]
    pub(super) place: PathBuf,

    #[command(flatten)]
    pub(super) filter: PointFilterArguments,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct MountObject<'a> {
    mount_point: &'a Path,
    repository: String,
    point: Option<PointId>,
    process: u32,
}

/// Reads `UID:GID`, both numbers.
///
/// # Errors
/// Says what was expected.
pub(super) fn parse_owner(text: &str) -> std::result::Result<Owner, String> {
    text.split_once(':')
        .and_then(|(uid, gid)| {
            let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
            Some(Owner { uid, gid })
        })
        // The system keeps the last number for "no one".
        .filter(|owner| owner.uid != u32::MAX && owner.gid != u32::MAX)
        .ok_or_else(|| "expected two numbers, as in 1000:1000".to_owned())
}

/// Reads a number of seconds, at least one.
///
/// # Errors
/// Says what was expected.
pub(super) fn parse_refresh(text: &str) -> std::result::Result<Duration, String> {
    text.parse()
        .ok()
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
        .ok_or_else(|| "expected a number of seconds, at least 1".to_owned())
}

/// Puts what follows `-o` where it belongs: to the mount's own arguments and to those of all commands.
///
/// # Errors
/// Usage, if an option makes no sense.
pub(super) fn apply_options(arguments: &mut Arguments, global: &mut GlobalArguments) -> Result<()> {
    std::mem::take(&mut arguments.options)
        .iter()
        .try_for_each(|option| mount_options::apply(arguments, global, option))
}

/// Mounts, and serves the mount until it is taken away.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Outcome> {
    // A rescue system may have no place for state, and that is when a mount is needed most.
    let state = context.state_directory();
    let mut protected = Vec::new();
    if let Some(folder) = context.repository_place()?.folder() {
        protected.push(keep_off(folder, "the repository", false));
    }
    if let Ok(state) = &state {
        protected.push(keep_off(
            state,
            "what bygone keeps about its mounts in",
            false,
        ));
    }
    if let Ok(cache) = context.cache().directory() {
        protected.push(keep_off(&cache, "the disk cache", false));
    }
    // Before anything is loaded: whoever mistypes a place is told at once.
    let place = prepare(&arguments.place, &protected, arguments.nonempty)?;
    if arguments.foreground {
        return serve(arguments, context, &place, state, None);
    }
    match fork()? {
        Side::Working(working) => serve(arguments, context, &place, state, Some(working)),
        Side::Waiting(waiting) => match waiting.wait(&mut || password(arguments, context))? {
            Beginning::Ready => Ok(Outcome::Done),
            // It said what went wrong, on the same terminal; its exit code is this command's.
            Beginning::Ended(code) => std::process::exit(code),
        },
    }
}

/// The file of metrics, wherever this process goes.
fn metrics_file(arguments: &Arguments) -> Result<Option<PathBuf>> {
    let path = arguments.metrics_file.as_ref();
    let whole = path.map(std::path::absolute).transpose();
    whole.map_err(|error| Error::io("find the file of metrics", error))
}

fn keep_off(path: &Path, noun: &'static str, inside_is_allowed: bool) -> Protected {
    Protected {
        path: path.to_owned(),
        noun,
        inside_is_allowed,
    }
}

/// Opens, mounts, tells the process that waits, if there is one, and serves until the end.
fn serve(
    arguments: &Arguments,
    context: &Context,
    place: &Path,
    state: Result<PathBuf>,
    working: Option<Working>,
) -> Result<Outcome> {
    // Before any thread is.
    let watcher = Watcher::start();
    // Before anything that takes long, so that no signal ends the process with a mount behind it that nobody serves.
    let orders = orders_by_signal()?;
    let tries = context.password().or(&arguments.password).tries();
    let repository = context.open_repository_asking(tries, &mut || match &working {
        Some(working) => password_from(working),
        None => password(arguments, context),
    })?;
    let known = Known::load(arguments, &repository)?;
    keep_apart(place, &sources_on_this_host(&known.newest))?;
    let point = point_to_show(arguments, context, &repository, known.catalogue.as_ref())?;
    let tree = open_tree(arguments, &repository, point, known.catalogue, state)?;
    let in_background = working.is_some();
    settle_log(arguments, context, in_background)?;
    let options = MountOptions {
        allow_other: arguments.allow_other,
        owner: arguments.owner,
        no_permissions: arguments.no_permissions,
        no_exec: arguments.no_exec,
        refresh: arguments.refresh,
        timeout: arguments.timeout,
    };
    let source = source_name(repository.id(), point);
    let mut mounted = MountedTree::mount(tree, place, &source, &options)?;
    mounted.begin_telling(&Telling {
        repository: context.repository_place()?.to_string(),
        metrics_file: metrics_file(arguments)?,
    })?;
    match watcher {
        Ok(mut watcher) => watcher.watch(mounted.device()),
        Err(error) => warn!("{error}"),
    }
    // While there is a terminal to warn at; a mount may live for long.
    context.remember();
    tell(context, &repository, point, place)?;
    if let Some(working) = working {
        working.ready()?;
    }
    let served = mounted.serve(&orders);
    if let Err(error) = &served
        && in_background
    {
        error!("{error}");
    }
    served.map(|()| Outcome::Done)
}

/// The repository's password.
fn password(arguments: &Arguments, context: &Context) -> Result<Password> {
    let source = context.password().or(&arguments.password);
    source.existing(context.output())
}

/// The repository's password, from the process that has the terminal.
fn password_from(working: &Working) -> Result<Password> {
    match working.ask_password()? {
        Some(password) => Ok(password),
        // Nothing is mounted yet, and the other process has told why there is no password.
        None => std::process::exit(i32::from(error_code(&Error::new(
            ErrorKind::WrongPassword,
            "no password",
        )))),
    }
}

/// What must be known of the points before anything is mounted.
struct Known {
    /// The newest point of each chain.
    newest: Vec<Arc<Point>>,
    /// All points, unless one is to be shown of a repository that is near: a mount is to be ready as soon in one of a
    /// thousand points as in one of one, and then a few headers are enough.
    catalogue: Option<Catalogue>,
}

impl Known {
    fn load(arguments: &Arguments, repository: &Repository) -> Result<Self> {
        if arguments.point.is_some() && !repository.store().is_distant() {
            let newest = newest_of_chains(repository)?;
            return Ok(Self {
                newest: newest.into_iter().map(Arc::new).collect(),
                catalogue: None,
            });
        }
        let catalogue = Catalogue::load_hastily(repository)?;
        Ok(Self {
            newest: catalogue.newest_of_chains(),
            catalogue: Some(catalogue),
        })
    }
}

/// The one point to show, if one was named.
fn point_to_show(
    arguments: &Arguments,
    context: &Context,
    repository: &Repository,
    catalogue: Option<&Catalogue>,
) -> Result<Option<PointId>> {
    let Some(text) = &arguments.point else {
        return Ok(None);
    };
    let spec = PointSpec::parse(text, &|| context.now());
    let filter = arguments.filter.to_filter();
    let point = match catalogue {
        Some(catalogue) => match select(&spec, catalogue, &filter) {
            // It may be one that came late, from elsewhere.
            Err(_) if catalogue.is_hasty() => {
                select(&spec, &Catalogue::load(repository)?, &filter)?
            }
            result => result?,
        },
        None => select_from(repository, &spec, &filter)?,
    };
    Ok(Some(point.id))
}

/// Sends the log to where it stays, panics too.
fn settle_log(arguments: &Arguments, context: &Context, in_background: bool) -> Result<()> {
    std::panic::set_hook(Box::new(|panic| error!("{panic}")));
    let file = arguments.log_file.as_deref();
    if in_background && file.is_none() && !mount_log::system_log_listens() {
        warn!(
            "nothing listens at /dev/log, so that what this mount logs is lost; --log-file keeps it"
        );
    }
    mount_log::settle(file, in_background, context.verbose())
}

/// What signals order, each as it comes.
fn orders_by_signal() -> Result<Receiver<Order>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])
        .map_err(|error| Error::io("catch signals", error))?;
    let (sender, receiver) = bounded(1);
    std::thread::Builder::new()
        .name("bygone-signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                let order = match signal {
                    SIGUSR1 => Order::Tell,
                    _ => Order::Stop,
                };
                if sender.send(order).is_err() {
                    return;
                }
            }
        })
        .map_err(|error| Error::io("start a thread", error))?;
    Ok(receiver)
}

/// What was backed up on this very host by these points, the newest of each chain: a mount over or around it would
/// hide it from its next backup.
fn sources_on_this_host(points: &[Arc<Point>]) -> Vec<Protected> {
    let host = rustix::system::uname().nodename().to_bytes().to_vec();
    let mut paths: Vec<&PathBuf> = points
        .iter()
        .filter(|point| point.host.as_bytes() == host)
        .flat_map(|point| &point.sources)
        .collect();
    paths.sort_unstable();
    paths.dedup();
    paths
        .into_iter()
        .map(|path| keep_off(path, "what was backed up from", true))
        .collect()
}

fn open_tree(
    arguments: &Arguments,
    repository: &Arc<Repository>,
    point: Option<PointId>,
    catalogue: Option<Catalogue>,
    state: Result<PathBuf>,
) -> Result<Tree> {
    share_freed_memory();
    let numbers = match state.and_then(|state| open_numbers(repository, &state)) {
        Ok(numbers) => numbers,
        Err(error) => {
            warn!("{error}; inode numbers will not be those of other mounts");
            Numbers::in_memory()?
        }
    };
    let user = Owner {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
    };
    let options = TreeOptions {
        point,
        filter: arguments.filter.to_filter(),
        owner: arguments.owner.unwrap_or(user),
        resolve_point: Some(meant_point),
        catalogue,
    };
    let fetcher = Fetcher::with_timeout(
        Arc::clone(repository),
        arguments.cache_memory,
        arguments.timeout,
    );
    Tree::open(fetcher, numbers, options)
}

/// The point that a name in the mount means, of those that it shows.
fn meant_point(text: &str, points: &[Arc<Point>]) -> Result<PointId> {
    let spec = PointSpec::parse(text, &Zoned::now);
    let point = resolve(&spec, points, &PointFilter::default())?;
    Ok(point.id)
}

/// Makes all threads share one heap, so that the room of a frame that one of them gives up serves all. With a heap for
/// each thread, reading everything took half as much memory again, and no less time.
#[cfg(target_env = "gnu")]
fn share_freed_memory() {
    // SAFETY: it sets a number in the allocator, and may be called at any time.
    let is_set = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    if is_set == 0 {
        warn!("the allocator keeps a heap for each thread, which takes more memory");
    }
}

/// Other allocators have heaps of their own kind.
#[cfg(not(target_env = "gnu"))]
fn share_freed_memory() {}

fn open_numbers(repository: &Repository, state: &Path) -> Result<Numbers> {
    let directory = state.join("mounts");
    std::fs::create_dir_all(&directory)
        .map_err(|error| Error::io(format!("make {}", directory.display()), error))?;
    Numbers::open(&directory.join(format!("{}.sqlite", repository.id())))
}

/// Says what is mounted where, if that was asked for.
fn tell(
    context: &Context,
    repository: &Repository,
    point: Option<PointId>,
    place: &Path,
) -> Result<()> {
    if context.json() {
        context.output().document(&MountObject {
            mount_point: place,
            repository: repository.id().to_string(),
            point,
            process: std::process::id(),
        })?;
    }
    context.output().flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_two_numbers() {
        assert_eq!(parse_owner("0:65534"), Ok(Owner { uid: 0, gid: 65534 }));
        for text in [
            "",
            "1",
            "1:",
            ":1",
            "me:us",
            "-1:0",
            "1:2:3",
            "4294967295:0",
        ] {
            assert!(parse_owner(text).is_err(), "{text}");
        }
    }
}
