//! One file of the configuration, as TOML. Whatever cannot be meant is an error that names the file and the line: a
//! mistyped key must not silently leave a backup without what it was to have.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::arguments::{parse_name, parse_size, repository_place};
use super::backup::parse_marker;
use super::config::{Config, ConfiguredSet, LeaveOut, NamedRepository};
use super::near::{listed, nearest};
use super::place::{parse_rate, parse_store_option};
use crate::base::{Error, ErrorKind, Result};
use crate::store::Location;

/// Reads the file at `path`.
///
/// # Errors
/// Usage, if it cannot be read, or says what cannot be meant.
pub(super) fn read(path: &Path) -> Result<Config> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let action = format!("read the configuration in {}", path.display());
        Error::io(action, error).with_kind(ErrorKind::Usage)
    })?;
    parse(path, &text)
}

/// Reads `text`, which stands in the file at `path`.
///
/// # Errors
/// Usage, with the line.
pub(super) fn parse(path: &Path, text: &str) -> Result<Config> {
    let file = File { path, text };
    let table = DeTable::parse(text)
        .map_err(|error| file.problem(&error.span().unwrap_or(0..0), error.message()))?;
    let top = Section::new(&file, String::new(), table.into_inner());
    let config = Config {
        default_repository: top.text("default_repository")?,
        repositories: top.sections("repository", named_repository)?,
        backup: match top.section("backup")? {
            Some(section) => {
                let leave_out = leave_out(&section)?;
                section.finish()?;
                leave_out
            }
            None => LeaveOut::default(),
        },
        sets: top.sections("set", configured_set)?,
    };
    top.finish()?;
    Ok(config)
}

fn named_repository(section: &Section<'_>) -> Result<NamedRepository> {
    let place = section.parsed("place", parse_place)?;
    Ok(NamedRepository {
        place: place.ok_or_else(|| section.lack("place"))?,
        password_file: section.path("password_file")?,
        password_command: section.text("password_command")?,
        cache_dir: section.path("cache_dir")?,
        cache_size: section.parsed("cache_size", parse_size)?,
        store_options: section.all_parsed("store_option", parse_store_option)?,
        limit_upload: section.parsed("limit_upload", parse_rate)?,
        limit_download: section.parsed("limit_download", parse_rate)?,
    })
}

fn configured_set(section: &Section<'_>) -> Result<ConfiguredSet> {
    let set = ConfiguredSet {
        repository: section.text("repository")?,
        paths: section.all_parsed("paths", parse_path)?,
        leave_out: leave_out(section)?,
        labels: section.labels("labels")?,
        host: section.parsed("host", parse_name)?,
        skip_if_unchanged: section.flag("skip_if_unchanged")?.unwrap_or_default(),
    };
    match set.paths.is_empty() {
        true => Err(section.lack("paths")),
        false => Ok(set),
    }
}

fn leave_out(section: &Section<'_>) -> Result<LeaveOut> {
    Ok(LeaveOut {
        exclude: section.all_parsed("exclude", |text| Ok(text.to_owned()))?,
        exclude_from: section.all_parsed("exclude_from", parse_path)?,
        exclude_if_present: section.all_parsed("exclude_if_present", |text| {
            parse_marker(OsString::from(text))
        })?,
        exclude_caches: section.flag("exclude_caches")?,
        one_file_system: section.flag("one_file_system")?,
    })
}

/// An absolute path, or one that `~/` begins.
fn parse_path(text: &str) -> std::result::Result<PathBuf, String> {
    let path = match text.strip_prefix("~/") {
        Some(below) => std::env::home_dir()
            .ok_or_else(|| "there is no home directory; set HOME".to_owned())?
            .join(below),
        None => PathBuf::from(text),
    };
    match path.is_absolute() {
        true => Ok(path),
        // It would mean another thing in each directory.
        false => Err("expected a path that begins with / or ~/".to_owned()),
    }
}

fn parse_place(text: &str) -> std::result::Result<Location, String> {
    let location = repository_place(OsString::from(text))?;
    match location.folder() {
        Some(_) if !text.contains("://") => parse_path(text).map(Location::Folder),
        _ => Ok(location),
    }
}

/// The file that is read.
struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn problem(&self, place: &Range<usize>, problem: impl std::fmt::Display) -> Error {
        let before = self.text.get(..place.start).unwrap_or(self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        Error::new(
            ErrorKind::Usage,
            format!("{}, line {line}: {problem}", self.path.display()),
        )
    }
}

/// A table: what is asked for is taken, and what is left in the end is unknown.
struct Section<'a> {
    file: &'a File<'a>,
    /// As a heading has it: `set.laptop`; empty for the top.
    name: String,
    place: Range<usize>,
    table: RefCell<DeTable<'a>>,
    known: RefCell<Vec<&'static str>>,
}

type Value<'a> = Spanned<DeValue<'a>>;

impl<'a> Section<'a> {
    fn new(file: &'a File<'a>, name: String, table: DeTable<'a>) -> Self {
        Self {
            file,
            name,
            place: 0..0,
            table: RefCell::new(table),
            known: RefCell::new(Vec::new()),
        }
    }

    /// The section at `key`, and where it stands.
    fn below(&self, key: &str, place: Range<usize>, value: Value<'a>) -> Result<Self> {
        let name = match self.name.is_empty() {
            true => key.to_owned(),
            false => format!("{}.{key}", self.name),
        };
        let found = value.span();
        match value.into_inner() {
            DeValue::Table(table) => Ok(Self {
                place,
                ..Self::new(self.file, name, table)
            }),
            other => Err(self.file.problem(
                &found,
                format!("expected a table, [{name}], and found {}", other.type_str()),
            )),
        }
    }

    fn take(&self, key: &'static str) -> Option<(Range<usize>, Value<'a>)> {
        self.known.borrow_mut().push(key);
        let (key, value) = self.table.borrow_mut().remove_entry(key)?;
        Some((key.span(), value))
    }

    fn section(&self, key: &'static str) -> Result<Option<Self>> {
        self.take(key)
            .map(|(place, value)| self.below(key, place, value))
            .transpose()
    }

    /// All sections below the one at `key`, by their names.
    fn sections<T>(
        &self,
        key: &'static str,
        read: impl Fn(&Section<'a>) -> Result<T>,
    ) -> Result<BTreeMap<String, T>> {
        let Some(all) = self.section(key)? else {
            return Ok(BTreeMap::new());
        };
        let mut sections = BTreeMap::new();
        for (key, value) in all.table.take() {
            let name = key.get_ref().to_string();
            let section = all.below(&name, key.span(), value)?;
            sections.insert(name, read(&section)?);
            section.finish()?;
        }
        Ok(sections)
    }

    fn text(&self, key: &'static str) -> Result<Option<String>> {
        self.parsed(key, |text| Ok(text.to_owned()))
    }

    fn path(&self, key: &'static str) -> Result<Option<PathBuf>> {
        self.parsed(key, parse_path)
    }

    fn flag(&self, key: &'static str) -> Result<Option<bool>> {
        let Some((_, value)) = self.take(key) else {
            return Ok(None);
        };
        match value.get_ref() {
            DeValue::Boolean(flag) => Ok(Some(*flag)),
            other => Err(self.wrong_type(key, "true or false", &value, other)),
        }
    }

    /// What `parse` makes of one text; a number is taken for its digits.
    fn parsed<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> std::result::Result<T, String>,
    ) -> Result<Option<T>> {
        self.take(key)
            .map(|(_, value)| self.parse_one(key, &value, &parse))
            .transpose()
    }

    /// The same of each text of a list; one text alone is a list, too.
    fn all_parsed<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> std::result::Result<T, String>,
    ) -> Result<Vec<T>> {
        let Some((_, value)) = self.take(key) else {
            return Ok(Vec::new());
        };
        match value.get_ref() {
            DeValue::Array(values) => values
                .iter()
                .map(|value| self.parse_one(key, value, &parse))
                .collect(),
            _ => Ok(vec![self.parse_one(key, &value, &parse)?]),
        }
    }

    fn parse_one<T>(
        &self,
        key: &str,
        value: &Value<'a>,
        parse: impl Fn(&str) -> std::result::Result<T, String>,
    ) -> Result<T> {
        let parsed = match value.get_ref() {
            DeValue::String(text) => parse(text),
            DeValue::Integer(number) => parse(number.as_str()),
            other => return Err(self.wrong_type(key, "a text in quotes", value, other)),
        };
        parsed.map_err(|problem| {
            self.file
                .problem(&value.span(), format!("{}: {problem}", self.key(key)))
        })
    }

    fn labels(&self, key: &'static str) -> Result<Vec<(String, String)>> {
        let Some(section) = self.section(key)? else {
            return Ok(Vec::new());
        };
        let labels = section.table.take();
        let labels = labels.into_iter().map(|(key, value)| {
            let name = key.get_ref().to_string();
            let text = section.parse_one(&name, &value, |text| Ok(text.to_owned()))?;
            Ok((name, text))
        });
        labels.collect()
    }

    fn wrong_type(
        &self,
        key: &str,
        expected: &str,
        value: &Value<'a>,
        found: &DeValue<'a>,
    ) -> Error {
        let problem = format!(
            "{}: expected {expected} and found {} of type {}",
            self.key(key),
            self.file.text.get(value.span()).unwrap_or("something"),
            found.type_str()
        );
        self.file.problem(&value.span(), problem)
    }

    fn lack(&self, key: &str) -> Error {
        let problem = format!("[{}] lacks the key {key:?}", self.name);
        self.file.problem(&self.place, problem)
    }

    fn key(&self, key: &str) -> String {
        match self.name.is_empty() {
            true => format!("{key:?}"),
            false => format!("{key:?} in [{}]", self.name),
        }
    }

    /// Complains of the first key that nobody asked for.
    fn finish(&self) -> Result<()> {
        let table = self.table.borrow();
        let Some((key, _)) = table.iter().min_by_key(|(key, _)| key.span().start) else {
            return Ok(());
        };
        let known = self.known.borrow();
        let near = nearest(key.get_ref(), known.iter().copied());
        let hint = match near.is_empty() {
            true => format!("known are {}", listed(&known)),
            false => format!("near are {}", listed(&near)),
        };
        let problem = format!("unknown key {}; {hint}", self.key(key.get_ref()));
        Err(self.file.problem(&key.span(), problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Config> {
        parse(Path::new("/f"), text)
    }

    #[track_caller]
    fn refused(text: &str) -> String {
        read_text(text).unwrap_err().to_string()
    }

    #[test]
    fn the_example_that_is_installed_can_be_read_and_names_every_key() {
        let example = include_str!("../../scripts/install.d/config.toml");
        let whole: String = example
            .lines()
            .map(|line| line.strip_prefix("#: ").unwrap_or(line))
            .flat_map(|line| [line, "\n"])
            .collect();
        let config = read_text(&whole).unwrap();
        assert_eq!(
            read_text(example).unwrap(),
            Config::default(),
            "all is a comment"
        );
        let laptop = &config.sets["laptop"];
        assert!(laptop.paths.len() > 1 && laptop.repository.is_some() && laptop.host.is_some());
        assert!(!laptop.labels.is_empty() && laptop.skip_if_unchanged);
        assert!(config.default_repository.is_some());
        let repositories: Vec<_> = config.repositories.values().collect();
        let has = |is_set: &dyn Fn(&NamedRepository) -> bool| {
            repositories.iter().any(|repository| is_set(repository))
        };
        assert!(
            has(&|one| one.password_file.is_some()) && has(&|one| one.password_command.is_some())
        );
        assert!(has(&|one| one.cache_dir.is_some()) && has(&|one| one.cache_size.is_some()));
        assert!(has(&|one| one.limit_upload.is_some()) && has(&|one| one.limit_download.is_some()));
        assert!(has(&|one| !one.store_options.is_empty()));
        let leave_out = &config.backup;
        assert!(!leave_out.exclude.is_empty() && !leave_out.exclude_from.is_empty());
        assert!(!leave_out.exclude_if_present.is_empty());
        assert!(leave_out.exclude_caches.is_some() && leave_out.one_file_system.is_some());
    }

    #[test]
    fn an_unknown_key_is_told_with_its_file_its_line_and_what_is_near() {
        assert_eq!(
            refused("[set.x]\npaths = ['/x']\n\nexlude = ['*.o']\n"),
            "/f, line 4: unknown key \"exlude\" in [set.x]; near are exclude"
        );
        assert_eq!(
            refused("colour = 1"),
            "/f, line 1: unknown key \"colour\"; known are default_repository, repository, backup, set"
        );
        assert_eq!(
            refused("[reposit.x]"),
            "/f, line 1: unknown key \"reposit\"; near are repository"
        );
    }

    #[test]
    fn what_cannot_be_meant_is_told_with_its_line() {
        for (text, message) in [
            (
                "[repository.x]",
                "/f, line 1: [repository.x] lacks the key \"place\"",
            ),
            (
                "\n[set.x]\npaths = []",
                "/f, line 2: [set.x] lacks the key \"paths\"",
            ),
            (
                "set = 1",
                "/f, line 1: expected a table, [set], and found integer",
            ),
            (
                "[set.x]\npaths = ['x']",
                "/f, line 2: \"paths\" in [set.x]: expected a path that begins with / or ~/",
            ),
            (
                "[backup]\nexclude_caches = 'yes'",
                "/f, line 2: \"exclude_caches\" in [backup]: expected true or false and found 'yes' of type string",
            ),
            (
                "[repository.x]\nplace = 'a'",
                "/f, line 2: \"place\" in [repository.x]: expected a path that begins with / or ~/",
            ),
            (
                "[repository.x]\nplace = '/a'\ncache_size = 'much'",
                "/f, line 3: \"cache_size\" in [repository.x]: expected a size such as 4096, 128K or 1.5MiB",
            ),
            (
                "[backup]\nexclude_if_present = 'a/b'",
                "/f, line 2: \"exclude_if_present\" in [backup]: expected the name of a file, without a slash",
            ),
        ] {
            assert_eq!(refused(text), message);
        }
        assert!(refused("a = \nb = 2").starts_with("/f, line 1: "));
        assert!(refused("[set.x]\n[set.x]").starts_with("/f, line 2: "));
    }

    #[test]
    fn a_place_is_a_url_or_a_path_that_means_the_same_everywhere() {
        let config = read_text(
            "[repository.a]\nplace = 's3://bucket/a'\n[repository.b]\nplace = '~/b'\n\
             [repository.c]\nplace = '/c'\nstore_option = ['region=x']\ncache_size = 4096",
        )
        .unwrap();
        let place = |name: &str| config.repositories[name].place.to_string();
        assert_eq!(place("a"), "s3://bucket/a");
        assert!(Path::new(&place("b")).is_absolute());
        assert_eq!(config.repositories["c"].cache_size, Some(4096));
        let options = &config.repositories["c"].store_options;
        assert_eq!(options[..], [("region".to_owned(), "x".to_owned())]);
    }
}
