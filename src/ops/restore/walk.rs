//! Which entries of a point are restored, and where to: goes through them in the point's order.
//!
//! A directory comes before all that is below it. One that no glob chooses comes only before something below it that one
//! does; so do the directories above a PATH.

use std::collections::HashSet;

use super::globs::Globs;
use super::target::join;
use crate::base::{Error, ErrorKind, Key, Result};
use crate::format::{FileType, Section};
use crate::manifest::{Chain, Found};

/// What is restored of a point.
pub(super) struct Selection {
    chain: Chain,
    /// No one below another.
    roots: Vec<Key>,
    /// Bytes of each path that are not part of where it is put.
    stripped: usize,
    globs: Globs,
}

/// One entry, and where it is put.
pub(super) struct Selected {
    pub(super) found: Found,
    /// Its path below the target; empty for the target itself.
    pub(super) path: Vec<u8>,
    /// It is there for the sake of what is below it.
    pub(super) is_above: bool,
}

impl Selection {
    /// What is at `paths` below `subtree`, which becomes the root; all of it, if there are none.
    ///
    /// # Errors
    /// Usage, if the point has no such path; and those of reading the chain.
    pub(super) fn new(chain: Chain, subtree: &Key, paths: &[Key], globs: Globs) -> Result<Self> {
        let missing = |key: &Key| Error::new(ErrorKind::Usage, format!("the point has no {key}"));
        let is_directory = subtree.is_root()
            || match chain.lookup(subtree)? {
                Some(found) => found.entry.metadata.file_type == FileType::Directory,
                None => return Err(missing(subtree)),
            };
        let mut roots = Vec::new();
        for path in paths {
            let path = join(&subtree.to_path(), &path.to_path());
            let key = Key::from_path(&path)?;
            if !key.is_root() && chain.lookup(&key)?.is_none() {
                return Err(missing(&key));
            }
            roots.push(key);
        }
        if roots.is_empty() {
            roots.push(subtree.clone());
        }
        let base = match is_directory {
            true => Some(subtree.clone()),
            false => subtree.parent(),
        };
        Ok(Self {
            chain,
            roots: outermost(roots),
            stripped: base.map_or(0, |base| base.to_path().len()),
            globs,
        })
    }

    /// The chain that all comes from.
    pub(super) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Where the entry of `key` is put.
    pub(super) fn path(&self, key: &Key) -> Vec<u8> {
        let path = key.to_path();
        let rest = path.get(self.stripped..).unwrap_or_default();
        rest.strip_prefix(b"/").unwrap_or(rest).to_vec()
    }

    /// Is what is at `path`, the whole of it below the target, chosen by the globs of `root`?
    pub(super) fn chooses(&self, root: &Key, path: &[u8], is_directory: bool) -> bool {
        if self.globs.are_none() {
            return true;
        }
        let root = self.path(root);
        let below = path.get(root.len()..).unwrap_or_default();
        let below = below.strip_prefix(b"/").unwrap_or(below);
        self.globs.choose(below, is_directory)
    }

    /// Gives every entry to `emit`.
    ///
    /// # Errors
    /// Those of reading the chain, and of `emit`.
    pub(super) fn each(&self, emit: &mut dyn FnMut(Selected) -> Result<()>) -> Result<()> {
        // Directories that were given. Where there are no globs, only those above the roots matter.
        let mut given = HashSet::new();
        for root in &self.roots {
            self.above(root, &mut given, emit)?;
            for found in self.chain.entries(root) {
                let found = found?;
                let is_directory = found.entry.metadata.file_type == FileType::Directory;
                let path = self.path(&found.key);
                if !self.chooses(root, &path, is_directory) {
                    continue;
                }
                if !self.globs.are_none() {
                    self.above(&found.key, &mut given, emit)?;
                    if is_directory && !given.insert(found.key.clone()) {
                        continue;
                    }
                }
                emit(Selected {
                    found,
                    path,
                    is_above: false,
                })?;
            }
        }
        Ok(())
    }

    /// Gives the directories of all roots that were chosen themselves, or stand above something that was.
    ///
    /// # Errors
    /// Those of `each`.
    pub(super) fn each_directory(
        &self,
        emit: &mut dyn FnMut(&Key, Selected) -> Result<()>,
    ) -> Result<()> {
        for root in &self.roots {
            for found in self.chain.entries_in(Section::Directories, root) {
                let found = found?;
                let path = self.path(&found.key);
                if self.chooses(root, &path, true) {
                    let selected = Selected {
                        found,
                        path,
                        is_above: false,
                    };
                    emit(root, selected)?;
                }
            }
        }
        Ok(())
    }

    /// Gives the directories above `key`, as far as they are below the target and were not given.
    fn above(
        &self,
        key: &Key,
        given: &mut HashSet<Key>,
        emit: &mut dyn FnMut(Selected) -> Result<()>,
    ) -> Result<()> {
        let mut above = Vec::new();
        let mut next = key.parent();
        while let Some(directory) = next {
            if self.path(&directory).is_empty() || given.contains(&directory) {
                break;
            }
            next = directory.parent();
            above.push(directory);
        }
        for directory in above.into_iter().rev() {
            let Some(found) = self.chain.lookup_in(Section::Directories, &directory)? else {
                return Err(Error::corrupt(
                    "the point",
                    format_args!("it has {key} and not {directory}"),
                ));
            };
            let path = self.path(&directory);
            given.insert(directory);
            emit(Selected {
                found,
                path,
                is_above: true,
            })?;
        }
        Ok(())
    }
}

/// Those that are not below another one, in order.
fn outermost(mut keys: Vec<Key>) -> Vec<Key> {
    keys.sort();
    keys.dedup();
    let all = keys.clone();
    let is_below = |key: &Key| {
        let mut above = key.parent();
        while let Some(directory) = above {
            if all.binary_search(&directory).is_ok() {
                return true;
            }
            above = directory.parent();
        }
        false
    };
    keys.retain(|key| !is_below(key));
    keys
}
