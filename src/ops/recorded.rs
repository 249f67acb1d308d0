//! The source paths that points record, as keys: which entries they can have, and which lie only above them.

use std::os::unix::ffi::OsStrExt;

use crate::base::{Key, Result};
use crate::format::Point;
use crate::repo::recorded_paths;

/// The sources of one point or of several.
pub(super) struct RecordedSources {
    keys: Vec<Key>,
}

impl RecordedSources {
    /// Those of these points.
    ///
    /// # Errors
    /// Usage, for a path that no entry can have.
    pub(super) fn of<'a>(points: impl IntoIterator<Item = &'a Point>) -> Result<Self> {
        let paths = points.into_iter().flat_map(recorded_paths);
        let keys = paths.map(|path| Key::from_path(path.as_os_str().as_bytes()));
        Ok(Self {
            keys: keys.collect::<Result<_>>()?,
        })
    }

    /// Those that lie in no other, in order.
    pub(super) fn outermost(&self) -> Vec<Key> {
        let mut keys = self.keys.clone();
        keys.sort();
        keys.dedup();
        keys.retain(|key| {
            let mut others = self.keys.iter().filter(|other| *other != key);
            !others.any(|other| is_within(key, other))
        });
        keys
    }

    /// Does `key` lie at, below or above one of them?
    pub(super) fn can_have(&self, key: &Key) -> bool {
        let mut keys = self.keys.iter();
        keys.any(|source| is_within(key, source) || is_within(source, key))
    }

    /// Is `key` of a directory that is recorded only because a source lies in it?
    pub(super) fn lie_below(&self, key: &Key) -> bool {
        let is_above = |source: &Key| is_within(source, key);
        self.keys.iter().any(is_above) && !self.keys.iter().any(|source| is_within(key, source))
    }
}

/// Is `key` the one of `directory`, or of something below it?
pub(super) fn is_within(key: &Key, directory: &Key) -> bool {
    key == directory || key.as_bytes().starts_with(&directory.descendants_prefix())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> Key {
        Key::from_path(path.as_bytes()).unwrap()
    }

    fn sources(paths: &[&str]) -> RecordedSources {
        RecordedSources {
            keys: paths.iter().map(|path| key(path)).collect(),
        }
    }

    #[test]
    fn what_lies_above_all_sources_is_told_from_what_lies_in_one() {
        let some = sources(&["home/me/work", "home/me", "etc"]);
        for path in ["", "home"] {
            assert!(some.lie_below(&key(path)), "{path}");
        }
        for path in [
            "home/me",
            "home/me/work",
            "home/me/other",
            "etc",
            "etc/x",
            "var",
            "home/you",
        ] {
            assert!(!some.lie_below(&key(path)), "{path}");
        }
        assert!(!sources(&["/", "etc"]).lie_below(&Key::root()));
    }

    #[test]
    fn a_point_can_have_what_lies_on_the_way_to_its_sources_and_in_them() {
        let some = sources(&["home/me", "etc"]);
        for path in ["", "home", "home/me", "home/me/x", "etc/x/y"] {
            assert!(some.can_have(&key(path)), "{path}");
        }
        for path in ["home/you", "etcetera", "var"] {
            assert!(!some.can_have(&key(path)), "{path}");
        }
    }

    #[test]
    fn sources_in_sources_are_not_outermost() {
        let some = sources(&["home/me/work", "home/me", "etc", "etc"]);
        assert_eq!(some.outermost(), [key("etc"), key("home/me")]);
    }
}
