//! What requests are answered with, from the tree: made on whichever thread may wait for it.

use std::sync::Arc;
use std::time::Duration;

use fuser::{AccessFlags, Errno, FileAttr};

use super::ahead::Reads;
use super::attributes::{Presenter, placeholder};
use super::counts::Counts;
use super::walk::Walks;
use super::whole::Littles;
use crate::base::Result;
use crate::format::FileType;
use crate::tree::{DirectoryEntry, NodeId, Tree};

/// The first and the second entry of every directory; the tree leaves their cookies free.
const DOTS: [&str; 2] = [".", ".."];

/// A tree, and how it is shown.
pub(super) struct Answers {
    pub(super) tree: Arc<Tree>,
    pub(super) presenter: Presenter,
    pub(super) counts: Arc<Counts>,
    pub(super) reads: Reads,
    pub(super) littles: Littles,
    /// Of a distant repository.
    pub(super) walks: Option<Walks>,
}

impl Answers {
    /// The beginning of `node` was read.
    pub(super) fn note_beginning(&self, node: NodeId) {
        self.reads.note(node);
        if let Some(walks) = &self.walks {
            walks.note(node);
        }
    }

    /// Lists a directory from `cookie`, which then stands behind what was taken, so that a listing that failed goes on
    /// there. `emit` takes a name, its entry and the cookie behind it, until it is full.
    pub(super) fn list(
        &self,
        directory: NodeId,
        cookie: &mut u64,
        emit: &mut dyn FnMut(&DirectoryEntry<'_>) -> bool,
    ) -> Result<()> {
        let dots = DOTS.len() as u64;
        for (dot, place) in DOTS.iter().zip(1..).skip((*cookie).min(dots) as usize) {
            let taken = emit(&DirectoryEntry {
                name: dot.as_bytes(),
                node: directory,
                file_type: FileType::Directory,
                cookie: place,
                attributes: Some(placeholder(directory, FileType::Directory)),
            });
            if !taken {
                return Ok(());
            }
            *cookie = place;
        }
        let place = if *cookie <= dots { 0 } else { *cookie };
        self.tree.list(directory, place, &mut |entry| {
            let taken = emit(&entry);
            if taken {
                *cookie = entry.cookie;
            }
            taken
        })
    }

    /// The attributes of an entry of a listing, and how long they are to be believed.
    pub(super) fn listed(&self, entry: &DirectoryEntry<'_>) -> (FileAttr, Duration) {
        match &entry.attributes {
            Some(attributes) => (
                self.presenter.by_node(attributes),
                self.presenter.of_listing(attributes),
            ),
            None => (self.presenter.unknown(entry), Duration::ZERO),
        }
    }

    /// Answers the access(2) of a mount that leaves permissions unchecked: only what can never work is refused, with
    /// the errno that is returned.
    pub(super) fn refuses(&self, node: NodeId, mask: AccessFlags) -> Result<Option<Errno>> {
        if mask.contains(AccessFlags::W_OK) {
            return Ok(Some(Errno::EROFS));
        }
        if mask.contains(AccessFlags::X_OK) {
            let attributes = self.tree.attributes(node)?;
            if attributes.file_type == FileType::Regular && attributes.mode & 0o111 == 0 {
                return Ok(Some(Errno::EACCES));
            }
        }
        Ok(None)
    }

    /// The names as listxattr(2) has them: each ended by a NUL.
    pub(super) fn names_of_xattrs(&self, node: NodeId) -> Result<Vec<u8>> {
        let names = self.tree.xattr_names(node)?;
        let mut list = Vec::new();
        for name in names {
            list.extend_from_slice(&name);
            list.push(0);
        }
        Ok(list)
    }
}
