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
