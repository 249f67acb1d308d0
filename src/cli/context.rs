//! What every command is given: the repository's place, how to print, and what else comes from outside the library.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use etcetera::BaseStrategy;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::arguments::{GlobalArguments, PointFilterArguments};
use super::cache_use::CacheUse;
use super::config::Config;
use super::outcome;
use super::output::Output;
use super::password::PasswordSource;
use super::place::{StoreArguments, create_store, open_store};
use super::progress::Progress;
use super::remembered::Remembered;
use crate::base::{Error, ErrorKind, KeyId, Result};
use crate::format::Point;
use crate::ops::select::{PointSpec, select};
use crate::repo::{Catalogue, Closed, Repository};
use crate::seal::Password;
use crate::store::{Location, Store};

/// The surroundings of one run of a command.
pub struct Context {
    config: Config,
    place: Option<Location>,
    store: StoreArguments,
    cache: CacheUse,
    output: Output,
    password: PasswordSource,
    /// The repository that the command works on, and what is remembered of its place.
    opened: Mutex<Option<(Arc<Repository>, Remembered)>>,
}

impl Context {
    /// What the global options say, and the configuration beside them. `may_page`: output is read in a pager, where a person
    /// sits at a terminal.
    pub(super) fn new(global: &GlobalArguments, config: Config, may_page: bool) -> Self {
        Self {
            config,
            place: global.repo.clone(),
            store: global.store.clone(),
            cache: CacheUse::new(&global.cache),
            output: Output::new(global.json, global.quiet, global.verbose)
                .on_terminal(global.color, may_page && !global.no_pager),
            password: PasswordSource::from(&global.password),
            opened: Mutex::new(None),
        }
    }

    /// What the configuration says of sets and of backups; of the repository, the options have it.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// Where results, warnings and errors go.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// Was JSON asked for?
    pub fn json(&self) -> bool {
        self.output.is_json()
    }

    /// Should nothing be printed but what was asked for?
    pub fn quiet(&self) -> bool {
        self.output.is_quiet()
    }

    /// How often `-v` was given.
    pub fn verbose(&self) -> u8 {
        self.output.verbose()
    }

    /// Where the repository is.
    ///
    /// # Errors
    /// Usage, if nobody said so.
    pub fn repository_place(&self) -> Result<&Location> {
        self.place.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::Usage,
                "no repository is named: give -r REPO, set BYGONE_REPO, or configure default_repository; see bygone-config(5)",
            )
        })
    }

    /// Is a repository named?
    pub fn names_repository(&self) -> bool {
        self.place.is_some()
    }

    /// The store that the repository is in.
    ///
    /// # Errors
    /// Usage, if none is named; NoRepository, if nothing is there; and those of the store.
    pub fn open_store(&self) -> Result<Arc<dyn Store>> {
        self.cache.behind(self.open_store_itself()?)
    }

    /// The store, with no cache before it: for whoever must know what the store really has.
    ///
    /// # Errors
    /// Those of `open_store`.
    pub fn open_store_itself(&self) -> Result<Arc<dyn Store>> {
        let place = self.repository_place()?;
        open_store(place, &self.store.settings(place)?)
    }

    /// The disk cache, as the options have it, and as it is once a store was opened.
    pub(super) fn cache(&self) -> &CacheUse {
        &self.cache
    }

    /// The store at `place` for a new repository.
    ///
    /// # Errors
    /// Exists, if something is there already; and those of the store.
    pub(super) fn create_store(&self, place: &Location) -> Result<Arc<dyn Store>> {
        create_store(place, &self.store.settings(place)?)
    }

    /// Where the repository's password is.
    pub fn password(&self) -> &PasswordSource {
        &self.password
    }

    /// The repository. If it is encrypted, its password comes from where the options say, or a person is asked for it.
    ///
    /// # Errors
    /// Those of `open_repository_asking`.
    pub fn open_repository(&self) -> Result<Arc<Repository>> {
        let ask = &mut || self.password.existing(&self.output);
        self.open_repository_asking(self.password.tries(), ask)
    }

    /// The repository, with the password that `ask` gives if it is encrypted; it is asked up to so many times, if what it
    /// gives does not open.
    ///
    /// # Errors
    /// Those of `open_store`, and of opening it; corrupt, if it was encrypted when it was last used here and is not any
    /// more; usage, if a password is given, it is not encrypted, and nobody has used it so here.
    pub fn open_repository_asking(
        &self,
        tries: u32,
        ask: &mut dyn FnMut() -> Result<Password>,
    ) -> Result<Arc<Repository>> {
        let closed = Closed::read(self.open_store()?)?;
        let location = closed.store().location();
        let remembered = Remembered::recall(&location, self.state_directory(), &self.output);
        remembered.check(&closed, &self.output)?;
        let is_encrypted = closed.config().seal.is_encrypted();
        if !is_encrypted && remembered.memory().is_none() && self.password.is_given() {
            return Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "a password is given, and the repository at {location} is not encrypted; if that is as it should \
                     be, leave the password out this once"
                ),
            ));
        }
        let likely = remembered.memory().and_then(|memory| memory.key());
        let repository = self.opened_by_trying(&closed, likely, tries, ask)?;
        if let Some(memory) = remembered.memory() {
            repository.observed().remembers(memory.clone());
        }
        self.opened(Arc::clone(&repository), remembered);
        Ok(repository)
    }

    fn opened_by_trying(
        &self,
        closed: &Closed,
        likely: Option<KeyId>,
        tries: u32,
        ask: &mut dyn FnMut() -> Result<Password>,
    ) -> Result<Arc<Repository>> {
        for _ in 1..tries {
            let mut was_given = false;
            let mut give = || ask().inspect(|_| was_given = true);
            match closed.open(likely, &mut give) {
                Err(error) if error.kind() == ErrorKind::WrongPassword && was_given => {
                    self.output.warning(None, &format!("{error}; try again"));
                }
                result => return result,
            }
        }
        closed.open(likely, ask)
    }

    /// Remembers a repository that was just made.
    pub fn made(&self, repository: &Arc<Repository>) {
        let location = repository.store().location();
        let remembered = Remembered::recall(&location, self.state_directory(), &self.output);
        self.opened(Arc::clone(repository), remembered);
    }

    fn opened(&self, repository: Arc<Repository>, remembered: Remembered) {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        *opened = Some((repository, remembered));
    }

    /// Remembers what was seen of the repository until now, and warns of what should not be.
    pub fn remember(&self) {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((repository, remembered)) = &mut *opened {
            remembered.learn(repository, &self.output);
        }
    }

    /// The point that `text` means, among those that `filter` leaves.
    ///
    /// # Errors
    /// Usage, if it means none or several; what is wrong with it, if it is damaged; and those of the store.
    pub fn point(
        &self,
        repository: &Repository,
        text: &str,
        filter: &PointFilterArguments,
    ) -> Result<Arc<Point>> {
        let catalogue = Catalogue::load(repository)?;
        let spec = PointSpec::parse(text, &|| self.now());
        select(&spec, &catalogue, &filter.to_filter())
    }

    /// Warns if TZ names a zone that this machine does not know: times would be shown, and read, in UTC.
    pub(super) fn warn_of_zone(&self) {
        let Some(zone) = std::env::var_os("TZ").filter(|zone| !zone.is_empty()) else {
            return;
        };
        if jiff::tz::TimeZone::try_system().is_err() {
            let zone = zone.to_string_lossy();
            self.output.warning(
                None,
                &format!("TZ names a time zone that is not known here, {zone}: times are in UTC"),
            );
        }
    }

    /// Now, in the zone of this machine.
    pub fn now(&self) -> jiff::Zoned {
        jiff::Zoned::now()
    }

    /// The folder in which this client keeps what outlives a run, made if it is not there:
    /// `$XDG_STATE_HOME/bygone` or `~/.local/state/bygone`.
    ///
    /// # Errors
    /// There is no home directory, or the folder cannot be made.
    pub fn state_directory(&self) -> Result<PathBuf> {
        let base = etcetera::base_strategy::Xdg::new()
            .map_err(|error| {
                Error::new(
                    ErrorKind::Failed,
                    format!("cannot tell where to keep this client's state: {error}; set HOME"),
                )
            })?
            .state_dir()
            .ok_or_else(|| Error::new(ErrorKind::Failed, "this system has no place for state"))?;
        let directory = base.join("bygone");
        std::fs::create_dir_all(&directory)
            .map_err(|error| Error::io(format!("make {}", directory.display()), error))?;
        Ok(directory)
    }

    /// A monitor that shows progress on a terminal, prints warnings, and is interrupted by SIGINT and SIGTERM. The
    /// second of these signals ends the process at once.
    ///
    /// A command that minds signals itself (mount) does not call it.
    ///
    /// # Errors
    /// The system refuses to have its signals caught.
    pub fn monitor(&self) -> Result<Progress<'_>> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal finds the flag unset, passes the shutdown by, and sets it.
            signal_hook::flag::register_conditional_shutdown(
                signal,
                i32::from(outcome::INTERRUPTED),
                Arc::clone(&interrupted),
            )
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&interrupted)))
            .map_err(|error| Error::io("catch signals", error))?;
        }
        Ok(Progress::new(&self.output, interrupted))
    }
}
