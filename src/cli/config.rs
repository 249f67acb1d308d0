//! What the configuration says: names of repositories, what every backup leaves out, and sets to back up.
//!
//! It is what was not typed: an argument and a variable go before it. The system's file is read first, then the user's,
//! which goes before it; `config_file` reads one of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use super::arguments::GlobalArguments;
use super::config_file;
use super::near::{listed, nearest};
use crate::base::{Error, ErrorKind, Result};
use crate::store::Location;

/// Names the one file that is read, instead of both; if it is empty, none is.
const VARIABLE: &str = "BYGONE_CONFIG";

/// The system's file.
const SYSTEM_FILE: &str = "/etc/bygone/config.toml";

/// All that the files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The repository that is meant where none is named: a name or a place.
    pub default_repository: Option<String>,
    pub repositories: BTreeMap<String, NamedRepository>,
    /// What every backup leaves out.
    pub backup: LeaveOut,
    pub sets: BTreeMap<String, ConfiguredSet>,
}

/// A repository that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRepository {
    pub place: Location,
    pub password_file: Option<PathBuf>,
    pub password_command: Option<String>,
    pub cache_dir: Option<PathBuf>,
    /// Bytes.
    pub cache_size: Option<u64>,
    pub store_options: Vec<(String, String)>,
    /// Bytes a second.
    pub limit_upload: Option<NonZeroU64>,
    pub limit_download: Option<NonZeroU64>,
}

/// What a backup leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaveOut {
    pub exclude: Vec<String>,
    pub exclude_from: Vec<PathBuf>,
    pub exclude_if_present: Vec<OsString>,
    pub exclude_caches: Option<bool>,
    pub one_file_system: Option<bool>,
}

/// What `bygone backup --set NAME` backs up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfiguredSet {
    /// A name or a place.
    pub repository: Option<String>,
    /// Absolute.
    pub paths: Vec<PathBuf>,
    pub leave_out: LeaveOut,
    pub labels: Vec<(String, String)>,
    pub host: Option<String>,
    pub skip_if_unchanged: bool,
}

impl Config {
    /// Reads the files that there are.
    ///
    /// # Errors
    /// Usage, with the file and the line, for what cannot be meant.
    pub(super) fn load() -> Result<Self> {
        if let Some(file) = std::env::var_os(VARIABLE) {
            return match file.is_empty() {
                true => Ok(Self::default()),
                false => config_file::read(Path::new(&file)),
            };
        }
        let mut config = Self::default();
        for file in std::iter::once(PathBuf::from(SYSTEM_FILE)).chain(user_file()) {
            if file.exists() {
                config = config.overruled_by(config_file::read(&file)?);
            }
        }
        Ok(config)
    }

    /// What this and `other` say, which goes before this.
    fn overruled_by(mut self, other: Self) -> Self {
        self.repositories.extend(other.repositories);
        self.sets.extend(other.sets);
        Self {
            default_repository: other.default_repository.or(self.default_repository),
            repositories: self.repositories,
            backup: self.backup.and(other.backup),
            sets: self.sets,
        }
    }

    /// The set of this name.
    ///
    /// # Errors
    /// Usage, if there is none: says what is near, and how to make one.
    pub(super) fn set(&self, name: &str) -> Result<&ConfiguredSet> {
        self.sets.get(name).ok_or_else(|| {
            let near = nearest(name, self.sets.keys().map(String::as_str));
            let hint = match near.is_empty() {
                true => format!("describe [set.{name}] in {}", shown_file()),
                false => format!("near are {}", listed(&near)),
            };
            usage(format!(
                "there is nothing to back up: no PATH is named, and no set {name:?} is configured; {hint}"
            ))
        })
    }

    /// Fills in what the arguments leave open, for the repository that they name, or that the set `set` is backed up to,
    /// or that is meant where none is named.
    ///
    /// # Errors
    /// Usage, if a repository is named that is none.
    pub(super) fn apply(&self, set: Option<&str>, arguments: &mut GlobalArguments) -> Result<()> {
        if arguments.repo.is_none() {
            let of_set = set.and_then(|set| self.sets.get(set)?.repository.as_ref());
            arguments.repo = match of_set.or(self.default_repository.as_ref()) {
                Some(text) => Some(Location::parse(text.as_ref())?),
                None => None,
            };
        }
        let Some(name) = arguments.repo.as_ref().and_then(name_in) else {
            return Ok(());
        };
        match self.repositories.get(name) {
            Some(repository) => {
                repository.apply(arguments);
                Ok(())
            }
            None if Path::new(name).exists() => Ok(()),
            None => match nearest(name, self.repositories.keys().map(String::as_str)) {
                near if near.is_empty() => Ok(()),
                near => Err(usage(format!(
                    "there is neither a folder {name:?} here nor a repository of this name; near are {}",
                    listed(&near)
                ))),
            },
        }
    }
}

impl NamedRepository {
    fn apply(&self, arguments: &mut GlobalArguments) {
        arguments.repo = Some(self.place.clone());
        let cache = &mut arguments.cache;
        cache.cache_dir = cache.cache_dir.take().or_else(|| self.cache_dir.clone());
        cache.cache_size = cache.cache_size.or(self.cache_size);
        arguments
            .store
            .fill_in(&self.store_options, self.limit_upload, self.limit_download);
        arguments.password.fill_in(
            self.password_file.as_deref(),
            self.password_command.as_deref(),
        );
    }
}

impl LeaveOut {
    /// What this and `other` leave out; where they contradict one another, as `other` says.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.exclude.extend(other.exclude);
        self.exclude_from.extend(other.exclude_from);
        self.exclude_if_present.extend(other.exclude_if_present);
        Self {
            exclude_caches: other.exclude_caches.or(self.exclude_caches),
            one_file_system: other.one_file_system.or(self.one_file_system),
            ..self
        }
    }
}

/// The text of a location that may be a name: one word without a slash.
fn name_in(location: &Location) -> Option<&str> {
    let text = location.folder()?.to_str()?;
    (!text.contains('/') && text != "." && text != "..").then_some(text)
}

fn user_file() -> Option<PathBuf> {
    let base = etcetera::base_strategy::Xdg::new().ok()?;
    Some(base.config_dir().join("bygone/config.toml"))
}

/// The file to tell a person of.
fn shown_file() -> String {
    let file = user_file().unwrap_or_else(|| PathBuf::from(SYSTEM_FILE));
    file.display().to_string()
}

fn usage(message: String) -> Error {
    Error::new(ErrorKind::Usage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        config_file::parse(Path::new("/f"), text).unwrap()
    }

    #[test]
    fn the_later_file_goes_before_the_earlier_one() {
        let system = config(
            "default_repository = 'a'\n[repository.a]\nplace = '/a'\n[repository.b]\nplace = '/b'\n\
             [backup]\nexclude = ['*.o']\nexclude_caches = true\n[set.x]\npaths = ['/x']",
        );
        let user = config(
            "default_repository = 'b'\n[repository.b]\nplace = '/c'\n[backup]\nexclude = ['*.a']\nexclude_caches = false",
        );
        let both = system.overruled_by(user);
        assert_eq!(both.default_repository.as_deref(), Some("b"));
        let place = |name: &str| both.repositories[name].place.to_string();
        assert_eq!((place("a"), place("b")), ("/a".to_owned(), "/c".to_owned()));
        assert_eq!(both.backup.exclude, ["*.o", "*.a"]);
        assert_eq!(both.backup.exclude_caches, Some(false));
        assert_eq!(both.sets["x"].paths, [Path::new("/x")]);
    }

    #[test]
    fn only_a_word_without_a_slash_can_be_a_name() {
        let name = |text: &str| {
            let location = Location::parse(text.as_ref()).unwrap();
            name_in(&location).map(ToOwned::to_owned)
        };
        assert_eq!(name("home").as_deref(), Some("home"));
        for text in ["./home", "/home", "a/b", "s3://home", ".", ".."] {
            assert_eq!(name(text), None, "{text}");
        }
    }
}
