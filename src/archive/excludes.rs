//! What is left out by name: globs as gitignore(5) has them, relative to each source.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::base::{Error, ErrorKind, Result};

/// What a cache directory's tag begins with: <https://bford.info/cachedir/>.
pub const CACHE_TAG_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// The tag's name.
pub const CACHE_TAG_NAME: &[u8] = b"CACHEDIR.TAG";

/// Globs that leave files out. A later one overrules an earlier one, and `!` takes back.
#[derive(Debug, Clone)]
pub struct Excludes {
    globs: Gitignore,
}

impl Excludes {
    /// Those of `globs`, in order, each as a line of a gitignore file.
    ///
    /// # Errors
    /// Usage, for a glob that cannot be read.
    pub fn new(globs: &[String]) -> Result<Self> {
        let mut builder = GitignoreBuilder::new(".");
        for glob in globs {
            builder
                .add_line(None, glob)
                .map_err(|error| bad(glob, &error))?;
        }
        let all = globs.join(", ");
        let globs = builder.build().map_err(|error| bad(&all, &error))?;
        Ok(Self { globs })
    }

    /// Is nothing left out?
    pub fn is_empty(&self) -> bool {
        self.globs.is_empty()
    }

    /// Is the file at `path` left out? `path` is relative to its source, and nothing above it is left out.
    pub fn match_path(&self, path: &[u8], is_directory: bool) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        self.globs.matched(path, is_directory).is_ignore()
    }
}

fn bad(glob: &str, error: &ignore::Error) -> Error {
    Error::new(
        ErrorKind::Usage,
        format!("{glob:?} cannot be used to exclude files: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excludes(globs: &[&str]) -> Excludes {
        let globs: Vec<_> = globs.iter().map(ToString::to_string).collect();
        Excludes::new(&globs).unwrap()
    }

    #[test]
    fn globs_are_those_of_gitignore() {
        let excludes = excludes(&["*.o", "/top", "build/", "!keep.o", "a/**/z", "# nothing"]);
        for (path, is_directory, is_left_out) in [
            ("x.o", false, true),
            ("deep/x.o", false, true),
            ("keep.o", false, false),
            ("top", false, true),
            ("deep/top", false, false),
            ("build", true, true),
            ("build", false, false),
            ("a/b/c/z", false, true),
            ("# nothing", false, false),
        ] {
            assert_eq!(
                excludes.match_path(path.as_bytes(), is_directory),
                is_left_out,
                "{path}"
            );
        }
    }

    #[test]
    fn names_that_are_not_utf_8_are_matched_too() {
        assert!(excludes(&["*.o"]).match_path(b"\xff\xfe.o", false));
        assert!(!excludes(&["*.o"]).match_path(b"\xff\xfe", false));
    }

    #[test]
    fn a_glob_that_cannot_be_read_is_refused_by_its_text() {
        let error = Excludes::new(&["[z-a]".to_string()]).unwrap_err();
        assert!(error.to_string().contains("[z-a]"), "{error}");
        assert!(excludes(&[]).is_empty());
    }
}
