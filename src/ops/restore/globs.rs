//! What is restored of what was named: globs as gitignore(5) has them, relative to each PATH.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::base::{Error, ErrorKind, Result};

/// Globs that choose, and globs that leave out.
#[derive(Debug)]
pub(super) struct Globs {
    include: Option<Gitignore>,
    exclude: Option<Gitignore>,
}

impl Globs {
    /// Those of `include` and of `exclude`. Without any of the former, all is included.
    ///
    /// # Errors
    /// Usage, for a glob that cannot be read.
    pub(super) fn new(include: &[String], exclude: &[String]) -> Result<Self> {
        Ok(Self {
            include: compile("include", include)?,
            exclude: compile("exclude", exclude)?,
        })
    }

    /// Is everything restored?
    pub(super) fn are_none(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }

    /// Is what is at `path` below its PATH to be restored? A file that was named itself, at the empty path, is.
    pub(super) fn choose(&self, path: &[u8], is_directory: bool) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        let matches = |globs: &Gitignore| {
            globs
                .matched_path_or_any_parents(path, is_directory)
                .is_ignore()
        };
        let is_named = path.as_os_str().is_empty();
        match (&self.include, &self.exclude) {
            (_, Some(exclude)) if !is_named && matches(exclude) => false,
            (Some(_), _) if is_named => !is_directory,
            (Some(include), _) => matches(include),
            (None, _) => true,
        }
    }
}

fn compile(what: &str, globs: &[String]) -> Result<Option<Gitignore>> {
    if globs.is_empty() {
        return Ok(None);
    }
    let bad = |glob: &str, error: &ignore::Error| {
        Error::new(
            ErrorKind::Usage,
            format!("{glob:?} cannot be used to {what} files: {error}"),
        )
    };
    let mut builder = GitignoreBuilder::new("");
    for glob in globs {
        builder
            .add_line(None, glob)
            .map_err(|error| bad(glob, &error))?;
    }
    let all = globs.join(", ");
    builder.build().map(Some).map_err(|error| bad(&all, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(include: &[&str], exclude: &[&str]) -> Globs {
        let owned = |globs: &[&str]| globs.iter().map(ToString::to_string).collect::<Vec<_>>();
        Globs::new(&owned(include), &owned(exclude)).unwrap()
    }

    #[test]
    fn all_is_chosen_but_what_is_left_out_and_what_lies_below_that() {
        let globs = globs(&[], &["*.o", "/top/"]);
        for (path, is_directory, is_chosen) in [
            ("a", false, true),
            ("a/b.o", false, false),
            ("top", true, false),
            ("top/deep/file", false, false),
            ("deep/top", true, true),
            ("", true, true),
        ] {
            assert_eq!(
                globs.choose(path.as_bytes(), is_directory),
                is_chosen,
                "{path}"
            );
        }
    }

    #[test]
    fn only_what_is_included_is_chosen_with_all_below_it_unless_it_is_left_out() {
        let globs = globs(&["docs", "*.md"], &["draft*"]);
        for (path, is_directory, is_chosen) in [
            ("docs", true, true),
            ("docs/a/b", false, true),
            ("docs/draft", false, false),
            ("a/b.md", false, true),
            ("a", true, false),
            ("", true, false),
            ("", false, true),
        ] {
            assert_eq!(
                globs.choose(path.as_bytes(), is_directory),
                is_chosen,
                "{path}"
            );
        }
    }

    #[test]
    fn a_glob_that_cannot_be_read_is_refused_by_its_text_and_use() {
        let error = Globs::new(&["[z-a]".to_owned()], &[]).unwrap_err();
        let told = error.to_string();
        assert!(told.contains("[z-a]") && told.contains("include"), "{told}");
    }
}
