//! Goes through a tree depth first: a directory, its files, then each of its directories with all that is in it.

use std::collections::HashMap;

use super::archive::Member;
use crate::base::{Key, Origin, Result};
use crate::format::{FileType, Section};
use crate::manifest::{Chain, Entries};

/// The members of a dump, in their order.
pub(super) struct Walk<'a> {
    chain: &'a Chain,
    /// Bytes of each path before what is its name in the archive.
    stripped: usize,
    /// Are further names of a file members that say only that?
    links: Option<HashMap<Origin, Vec<u8>>>,
}

impl<'a> Walk<'a> {
    /// What is at `path`, and below it. With `follows_links`, every name of a file is a whole member.
    pub(super) fn new(
        chain: &'a Chain,
        path: &Key,
        follows_links: bool,
        is_directory: bool,
    ) -> Self {
        let base = match is_directory {
            true => Some(path.clone()),
            false => path.parent(),
        };
        Self {
            chain,
            stripped: base.map_or(0, |base| base.to_path().len()),
            links: (!follows_links).then(HashMap::new),
        }
    }

    /// Gives every member to `emit`.
    ///
    /// # Errors
    /// Those of reading the chain, and of `emit`.
    pub(super) fn each(
        &mut self,
        path: &Key,
        emit: &mut dyn FnMut(Member) -> Result<()>,
    ) -> Result<()> {
        let root = self.chain.lookup(path)?;
        let is_directory = match root {
            Some(root) => {
                let is_directory = root.entry.metadata.file_type == FileType::Directory;
                emit(self.member(root))?;
                is_directory
            }
            None => true,
        };
        // One iterator for each level that is open.
        let mut levels = Vec::new();
        if is_directory {
            levels.push(self.enter(path, emit)?);
        }
        while let Some(level) = levels.last_mut() {
            match level.next() {
                None => {
                    levels.pop();
                }
                Some(directory) => {
                    let directory = directory?;
                    let key = directory.key.clone();
                    emit(self.member(directory))?;
                    levels.push(self.enter(&key, emit)?);
                }
            }
        }
        Ok(())
    }

    /// Gives the files of a directory, and returns its directories.
    fn enter(&mut self, key: &Key, emit: &mut dyn FnMut(Member) -> Result<()>) -> Result<Entries> {
        for found in self.chain.children(key, Section::Files, None) {
            emit(self.member(found?))?;
        }
        Ok(self.chain.children(key, Section::Directories, None))
    }

    fn member(&mut self, found: crate::manifest::Found) -> Member {
        let whole = found.key.to_path();
        let rest = whole.get(self.stripped..).unwrap_or_default();
        let path = rest.strip_prefix(b"/").unwrap_or(rest).to_vec();
        let link = match (&mut self.links, found.entry.group) {
            (Some(links), Some(group)) => {
                let known = links.get(&group).cloned();
                if known.is_none() {
                    links.insert(group, path.clone());
                }
                known
            }
            _ => None,
        };
        Member { path, found, link }
    }
}
