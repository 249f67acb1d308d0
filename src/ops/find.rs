//! Finds entries in many points at once: each match once a version, with the points that show it.
//!
//! One pass over the runs that the points stand on. Names are looked at first, where they lie; only what they match is
//! decoded.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use regex::bytes::Regex;

use super::recorded::RecordedSources;
use crate::base::{Error, ErrorKind, Key, Result, Timestamp};
use crate::fetch::Fetcher;
use crate::format::{Entry, FileType, Point, Section};
use crate::manifest::{Chain, Chains, Changes, PathVersions, Timeline, Version};

/// What is looked for: what meets all of this.
#[derive(Debug, Default)]
pub struct FindOptions {
    /// One of these matches the name, if there are any.
    pub names: Option<Globs>,
    /// The same, whatever the case.
    pub names_of_any_case: Option<Globs>,
    /// One of these matches the whole path.
    pub paths: Option<Globs>,
    /// It matches somewhere in the whole path, which begins with a slash.
    pub regex: Option<Regex>,
    /// Of one of these types, if there are any.
    pub types: Vec<FileType>,
    /// A size in bytes, of what is no directory.
    pub size: Option<SizeTest>,
    /// Modified after this.
    pub newer: Option<Timestamp>,
}

/// A size to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeTest {
    Over(u64),
    Under(u64),
    Is(u64),
}

impl SizeTest {
    fn accepts(self, size: u64) -> bool {
        match self {
            Self::Over(limit) => size > limit,
            Self::Under(limit) => size < limit,
            Self::Is(wanted) => size == wanted,
        }
    }
}

/// Globs as gitignore(5) has them. A later one overrules an earlier one, and `!` takes back.
#[derive(Debug)]
pub struct Globs {
    globs: Gitignore,
    /// All that they can match lies below this directory.
    below: Key,
}

impl Globs {
    /// Globs that match names. One with a slash in it never could.
    ///
    /// # Errors
    /// Usage, for a glob that cannot be read, or that is of whole paths.
    pub fn of_names(globs: &[String], is_any_case: bool) -> Result<Self> {
        for glob in globs {
            if glob.trim_end_matches('/').contains('/') {
                let problem =
                    "it has a slash, and is matched against names: give --path for whole paths";
                return Err(bad(glob, problem));
            }
        }
        Self::new(globs, is_any_case)
    }

    /// Globs that match whole paths from the root: one with a slash from its beginning, one without by the name.
    ///
    /// # Errors
    /// Usage, for a glob that cannot be read.
    pub fn of_paths(globs: &[String]) -> Result<Self> {
        let mut paths = Self::new(globs, false)?;
        // Of several, what they have in common is seldom of use.
        if let [glob] = globs {
            paths.below = literal_directory(glob);
        }
        Ok(paths)
    }

    fn new(globs: &[String], is_any_case: bool) -> Result<Self> {
        let mut builder = GitignoreBuilder::new("/");
        let all = globs.join(", ");
        builder
            .case_insensitive(is_any_case)
            .map_err(|error| bad(&all, error))?;
        for glob in globs {
            builder
                .add_line(None, glob)
                .map_err(|error| bad(glob, error))?;
        }
        let globs = builder.build().map_err(|error| bad(&all, error))?;
        Ok(Self {
            globs,
            below: Key::root(),
        })
    }

    fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        self.globs.matched(path, is_directory).is_ignore()
    }
}

/// The directory that the beginning of a glob names without leaving anything open, and below which all that it matches lies;
/// the root where there is none.
fn literal_directory(glob: &str) -> Key {
    let mut key = Key::root();
    // One without a slash but at its end matches names, wherever they are.
    let names = glob.trim_start_matches('/').split('/');
    let is_open = |name: &str| name.contains(['*', '?', '[', ']', '{', '}', '\\']);
    let is_whole_path = glob.trim_end_matches('/').contains('/') && !glob.starts_with(['!', '#']);
    if !is_whole_path || glob.ends_with(char::is_whitespace) {
        return key;
    }
    let mut names = names.peekable();
    while let Some(name) = names.next()
        && names.peek().is_some_and(|next| !next.is_empty())
        && !is_open(name)
        && let Ok(child) = key.child(name.as_bytes())
    {
        key = child;
    }
    key
}

fn bad(glob: &str, problem: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::Usage,
        format!("{glob:?} cannot be looked for: {problem}"),
    )
}

/// A version of an entry that was found.
#[derive(Debug)]
pub struct Match<'a> {
    pub key: &'a Key,
    pub entry: &'a Entry,
    /// The first point that shows it, and the last.
    pub first: &'a Point,
    pub last: &'a Point,
    /// How many do.
    pub points: u64,
}

/// Gives what is found over `points`, which are in order of time, to `emit`: in order of keys, the versions of a key in order
/// of time.
///
/// # Errors
/// Whatever `emit` fails with; and those of reading runs.
pub fn find(
    fetcher: &Arc<Fetcher>,
    points: &[Arc<Point>],
    options: &FindOptions,
    emit: &mut dyn FnMut(&Match<'_>) -> Result<()>,
) -> Result<()> {
    let mut chains = Chains::new(fetcher);
    let open = points.iter().map(|point| {
        let chain = chains.open(point);
        chain.map_err(|error| error.context(format_args!("point {}", point.id)))
    });
    let open: Vec<Chain> = open.collect::<Result<_>>()?;
    let below = options.paths.as_ref().map(|paths| &paths.below);
    let mut timeline = Timeline::open(&open, below.unwrap_or(&Key::root()))?;
    let looked_at = PointsLookedAt::new(points)?;
    let mut names = Names::new(options);
    let mut is_wanted = |key: &[u8], section| names.match_key(key, section);
    let mut next = timeline.next(&mut is_wanted)?;
    while let Some(path) = next {
        next = timeline.next(&mut is_wanted)?;
        // What was a directory for some time comes twice, and its versions are told in order of time all the same.
        let other = next.take_if(|next| next.key == path.key);
        let mut spans = looked_at.spans(fetcher, &path)?;
        if let Some(other) = &other {
            spans.extend(looked_at.spans(fetcher, other)?);
            spans.sort_by_key(|span| span.first);
            next = timeline.next(&mut is_wanted)?;
        }
        spans.retain(|span| options.accepts(&span.version.entry));
        for span in spans {
            emit(&Match {
                key: &path.key,
                entry: &span.version.entry,
                first: &points[span.first],
                last: &points[span.last],
                points: span.count,
            })?;
        }
    }
    Ok(())
}

impl FindOptions {
    /// Is this what is looked for, its name apart?
    fn accepts(&self, entry: &Entry) -> bool {
        let metadata = &entry.metadata;
        let is_directory = metadata.file_type == FileType::Directory;
        let is_newer = |newer: Timestamp| {
            let mtime = metadata.mtime;
            (mtime.seconds, mtime.nanoseconds) > (newer.seconds, newer.nanoseconds)
        };
        let is_of_size = |size: SizeTest| !is_directory && size.accepts(metadata.size);
        (self.types.is_empty() || self.types.contains(&metadata.file_type))
            && self.size.is_none_or(is_of_size)
            && self.newer.is_none_or(is_newer)
    }
}

/// Matches names and paths, as keys have them.
struct Names<'a> {
    options: &'a FindOptions,
    path: Vec<u8>,
}

impl<'a> Names<'a> {
    fn new(options: &'a FindOptions) -> Self {
        Self {
            options,
            path: Vec::new(),
        }
    }

    fn match_key(&mut self, key: &[u8], section: Section) -> bool {
        let options = self.options;
        let is_directory = section == Section::Directories;
        let has_type = |file_type: &FileType| file_type.section() == section;
        if !options.types.is_empty() && !options.types.iter().any(has_type) {
            return false;
        }
        let name = key.rsplit(|byte| *byte == 0).next().unwrap_or(key);
        let matches = |globs: &Option<Globs>, text: &[u8]| {
            let globs = globs.as_ref();
            // The root has no name.
            globs.is_none_or(|globs| !text.is_empty() && globs.matches(text, is_directory))
        };
        if !matches(&options.names, name) || !matches(&options.names_of_any_case, name) {
            return false;
        }
        if options.paths.is_none() && options.regex.is_none() {
            return true;
        }
        self.path.clear();
        for name in key.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            self.path.push(b'/');
            self.path.extend_from_slice(name);
        }
        let from_root = self.path.get(1..).unwrap_or_default();
        if self.path.is_empty() {
            self.path.push(b'/');
            return options.paths.is_none() && self.matches_regex();
        }
        matches(&options.paths, from_root) && self.matches_regex()
    }

    fn matches_regex(&self) -> bool {
        let regex = self.options.regex.as_ref();
        regex.is_none_or(|regex| regex.is_match(&self.path))
    }
}

/// The points, and what is to be known of them for each path.
struct PointsLookedAt {
    /// The number of each one's set.
    sets: Vec<usize>,
    set_count: usize,
    sources: Vec<RecordedSources>,
}

/// A version, with the numbers of the first and last point that show it, and how many do.
struct Span<'a> {
    version: &'a Version,
    first: usize,
    last: usize,
    count: u64,
}

impl PointsLookedAt {
    fn new(points: &[Arc<Point>]) -> Result<Self> {
        let mut numbers = HashMap::new();
        let number_of_set = |point: &Arc<Point>| {
            let next = numbers.len();
            *numbers
                .entry((point.host.clone(), point.set.clone()))
                .or_insert(next)
        };
        let sets = points.iter().map(number_of_set).collect();
        let sources = points.iter().map(|point| RecordedSources::of([&**point]));
        Ok(Self {
            sets,
            set_count: numbers.len(),
            sources: sources.collect::<Result<_>>()?,
        })
    }

    /// The versions of a path. What a set's next point has unchanged, as far as a person sees it, is the same version;
    /// what comes back after it was gone is another.
    fn spans<'a>(&self, fetcher: &Fetcher, path: &'a PathVersions) -> Result<Vec<Span<'a>>> {
        let mut spans: Vec<Span<'a>> = Vec::new();
        let mut current: Vec<Option<usize>> = vec![None; self.set_count];
        for (point, version) in path.by_point().enumerate() {
            let current = &mut current[self.sets[point]];
            let Some(version) = version else {
                // A point of other paths says nothing.
                if current.is_some() && self.sources[point].can_have(&path.key) {
                    *current = None;
                }
                continue;
            };
            if let Some(span) = current.and_then(|span| spans.get_mut(span))
                && is_same(fetcher, span.version, version)?
            {
                span.last = point;
                span.count += 1;
                continue;
            }
            *current = Some(spans.len());
            spans.push(Span {
                version,
                first: point,
                last: point,
                count: 1,
            });
        }
        Ok(spans)
    }
}

fn is_same(fetcher: &Fetcher, old: &Version, new: &Version) -> Result<bool> {
    Ok(old.origin == new.origin || Changes::between(fetcher, &old.entry, &new.entry)?.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(globs: &[&str]) -> Vec<String> {
        globs.iter().map(ToString::to_string).collect()
    }

    fn matches(options: &FindOptions, path: &str) -> bool {
        let key = Key::from_path(path.as_bytes()).unwrap();
        Names::new(options).match_key(key.as_bytes(), Section::Files)
    }

    #[test]
    fn names_are_matched_wherever_they_are() {
        let options = FindOptions {
            names: Some(Globs::of_names(&globs(&["*.txt", "!secret*"]), false).unwrap()),
            ..FindOptions::default()
        };
        assert!(matches(&options, "a.txt") && matches(&options, "deep/down/b.txt"));
        for path in ["a.TXT", "x.txt/y", "deep/secret.txt", "/"] {
            assert!(!matches(&options, path), "{path}");
        }
        let any_case = FindOptions {
            names_of_any_case: Some(Globs::of_names(&globs(&["*.txt"]), true).unwrap()),
            ..FindOptions::default()
        };
        assert!(matches(&any_case, "A.TXT") && matches(&any_case, "a.txt"));
    }

    #[test]
    fn whole_paths_are_matched_from_the_root() {
        let options = FindOptions {
            paths: Some(Globs::of_paths(&globs(&["/home/*/x", "etc/**"])).unwrap()),
            ..FindOptions::default()
        };
        assert!(matches(&options, "home/me/x") && matches(&options, "etc/a/b"));
        for path in ["home/me/y/x", "x", "var/etc/a", "/"] {
            assert!(!matches(&options, path), "{path}");
        }
        let by_regex = FindOptions {
            regex: Some(Regex::new(r"^/home/.*\.(txt|md)$").unwrap()),
            ..FindOptions::default()
        };
        assert!(matches(&by_regex, "home/me/deep/a.md"));
        assert!(!matches(&by_regex, "srv/home/a.md") && !matches(&by_regex, "/"));
    }

    #[test]
    fn only_the_directory_is_read_that_all_matches_lie_below() {
        for (glob, directory) in [
            ("/home/me/**", "/home/me"),
            ("home/me/*.txt", "/home/me"),
            ("/home/me/letter.txt", "/home/me"),
            ("/home/me/", "/home"),
            ("/home/*/x", "/home"),
            ("/home/m\\e/x", "/home"),
            ("/home", "/"),
            ("*.txt", "/"),
            ("home/", "/"),
            ("**/x", "/"),
            ("!/home/me/x", "/"),
            ("/../x", "/"),
        ] {
            assert_eq!(literal_directory(glob).to_string(), directory, "{glob}");
        }
    }

    #[test]
    fn a_glob_of_names_with_a_slash_is_refused() {
        let error = Globs::of_names(&globs(&["etc/fstab"]), false).unwrap_err();
        assert!(error.to_string().contains("--path"), "{error}");
        assert!(Globs::of_names(&globs(&["build/"]), false).is_ok());
    }

    #[test]
    fn sizes_are_over_under_or_just_that() {
        assert!(SizeTest::Over(5).accepts(6) && !SizeTest::Over(5).accepts(5));
        assert!(SizeTest::Under(5).accepts(4) && !SizeTest::Under(5).accepts(5));
        assert!(SizeTest::Is(5).accepts(5) && !SizeTest::Is(5).accepts(4));
    }
}
