//! The order of everything: an entry's key.
//!
//! Entries sort by (parent path, name), parent paths component by component, so that a directory's children are
//! contiguous and a depth-first walk meets them in order. A key is the encoding of a path whose bytewise order is
//! that order: each component of the parent followed by a zero byte, then one more zero byte, then the name. The
//! root's key is empty. Names hold neither NUL nor '/', so that nothing has to be escaped.
//!
//! `/etc/ssh/sshd_config` is `etc\0ssh\0\0sshd_config`; what lies directly in `/etc/ssh` begins with
//! `etc\0ssh\0\0`, and all below it with `etc\0ssh\0`.

use std::fmt;

use super::error::{Error, ErrorKind, Result};

/// The longest name of an entry, in bytes. FUSE and ZFS exceed the usual 255.
pub const NAME_BYTES_MAX: usize = 4095;

/// A path as the order sees it. Compares bytewise.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(Vec<u8>);

impl Key {
    /// The root's key, which sorts before all others.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// The key of a path from the root. Slashes at its ends, doubled ones and "." are passed over.
    ///
    /// # Errors
    /// Usage, for "..", a NUL, or a name that is too long.
    pub fn from_path(path: &[u8]) -> Result<Self> {
        let mut key = Self::root();
        for name in path.split(|byte| *byte == b'/') {
            if !name.is_empty() && name != b"." {
                key = key.child(name)?;
            }
        }
        Ok(key)
    }

    /// The key that `bytes` encode.
    ///
    /// # Errors
    /// Corrupt, if no path has this encoding.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        if is_well_formed(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(Error::corrupt(
                "a key",
                format!(
                    "no path is written as {:?}",
                    bytes.escape_ascii().to_string()
                ),
            ))
        }
    }

    /// The encoding itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Is it the root's?
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path from the root, without a slash at either end; empty for the root.
    pub fn to_path(&self) -> Vec<u8> {
        let mut path = Vec::with_capacity(self.0.len());
        for name in self.components() {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        path
    }

    /// The names on the way from the root, the entry's own last.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
    }

    /// The entry's own name; empty for the root.
    pub fn name(&self) -> &[u8] {
        match self.0.iter().rposition(|byte| *byte == 0) {
            Some(zero) => &self.0[zero + 1..],
            None => &self.0,
        }
    }

    /// The key of the directory that holds this entry; None for the root.
    pub fn parent(&self) -> Option<Self> {
        let above = &self.0[..self.0.len() - self.name().len()];
        // Of `etc\0ssh\0\0` the last zero ends the parent, the one before it the parent's own name.
        let above = above.strip_suffix(b"\0")?;
        let Some(above) = above.strip_suffix(b"\0") else {
            return Some(Self::root());
        };
        let name_start = above
            .iter()
            .rposition(|byte| *byte == 0)
            .map_or(0, |zero| zero + 1);
        let mut parent = above[..name_start].to_vec();
        parent.push(0);
        parent.extend_from_slice(&above[name_start..]);
        Some(Self(parent))
    }

    /// The key of `name` in this directory.
    ///
    /// # Errors
    /// Usage, for a name that no entry can have.
    pub fn child(&self, name: &[u8]) -> Result<Self> {
        if !is_name(name) {
            return Err(Error::new(
                ErrorKind::Usage,
                format!(
                    "{:?} cannot be the name of a file: names have 1 to {NAME_BYTES_MAX} bytes, \
                     neither '/' nor NUL, and are not \".\" or \"..\"",
                    name.escape_ascii().to_string()
                ),
            ));
        }
        let mut bytes = self.children_prefix();
        bytes.extend_from_slice(name);
        Ok(Self(bytes))
    }

    /// What the keys of all below this directory, and no others, begin with; empty for the root.
    pub fn descendants_prefix(&self) -> Vec<u8> {
        if self.is_root() {
            return Vec::new();
        }
        let name_start = self.0.len() - self.name().len();
        let mut prefix = Vec::with_capacity(self.0.len() + 2);
        prefix.extend_from_slice(&self.0[..name_start - 1]);
        prefix.extend_from_slice(self.name());
        prefix.push(0);
        prefix
    }

    /// What the keys of this directory's own children, and no others, begin with.
    pub fn children_prefix(&self) -> Vec<u8> {
        let mut prefix = self.descendants_prefix();
        prefix.push(0);
        prefix
    }
}

impl fmt::Display for Key {
    /// The path with a leading slash, bytes that are not UTF-8 replaced: for messages, not for programs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.to_path()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.to_string())
    }
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| *byte == b'/' || *byte == 0)
}

/// Is it empty, or `component\0`..., a zero, and a name?
fn is_well_formed(bytes: &[u8]) -> bool {
    if bytes.is_empty() {
        return true;
    }
    let Some(last_zero) = bytes.iter().rposition(|byte| *byte == 0) else {
        return false;
    };
    let (above, name) = (&bytes[..last_zero], &bytes[last_zero + 1..]);
    is_name(name)
        && (above.is_empty()
            || above
                .strip_suffix(b"\0")
                .is_some_and(|names| names.split(|byte| *byte == 0).all(is_name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(path: &str) -> Key {
        Key::from_path(path.as_bytes()).unwrap()
    }

    #[test]
    fn a_key_is_the_parents_components_a_zero_and_the_name() {
        assert_eq!(
            key("/etc/ssh/sshd_config").as_bytes(),
            b"etc\0ssh\0\0sshd_config"
        );
        assert_eq!(key("/etc").as_bytes(), b"\0etc");
        assert_eq!(key("/").as_bytes(), b"");
    }

    #[test]
    fn children_are_contiguous_and_precede_grandchildren() {
        let mut paths = ["a", "a-b", "b", "a/z", "a/b", "a/b/c", "a-b/a", "a/z/a"].map(key);
        paths.sort();
        let sorted: Vec<_> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(
            sorted,
            [
                "/a", "/a-b", "/b", "/a/b", "/a/z", "/a/b/c", "/a/z/a", "/a-b/a"
            ]
        );
    }

    #[test]
    fn names_that_no_file_can_have_are_refused() {
        for path in ["..", "a/../b", "a\0b"] {
            assert!(Key::from_path(path.as_bytes()).is_err());
        }
        assert!(Key::root().child(&[b'x'; NAME_BYTES_MAX]).is_ok());
        assert!(Key::root().child(&[b'x'; NAME_BYTES_MAX + 1]).is_err());
        for bytes in [
            &b"a"[..],
            b"a\0b",
            b"\0",
            b"\0\0a",
            b"a\0\0",
            b"a\0\0..",
            b"a/b\0\0c",
        ] {
            assert!(Key::from_bytes(bytes.to_vec()).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn paths_and_parents_come_back(names in prop::collection::vec("[^/\0]{1,8}", 0..5)) {
            prop_assume!(names.iter().all(|name| name != "." && name != ".."));
            let path = names.join("/");
            let whole = Key::from_path(path.as_bytes()).unwrap();
            prop_assert_eq!(whole.to_path(), path.as_bytes());
            prop_assert_eq!(Key::from_bytes(whole.as_bytes().to_vec()).unwrap(), whole.clone());
            match names.split_last() {
                None => prop_assert!(whole.parent().is_none()),
                Some((name, above)) => {
                    let parent = Key::from_path(above.join("/").as_bytes()).unwrap();
                    prop_assert_eq!(whole.name(), name.as_bytes());
                    prop_assert_eq!(whole.parent().unwrap(), parent.clone());
                    prop_assert!(whole.as_bytes().starts_with(&parent.children_prefix()));
                    prop_assert!(whole.as_bytes().starts_with(&parent.descendants_prefix()));
                }
            }
        }
    }
}
