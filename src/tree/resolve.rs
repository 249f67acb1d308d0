//! From a node id to what it stands for: the directory or file, made from its entry or remembered.

use std::sync::Arc;

use crate::base::{Error, Key, Origin, Result, Row};
use crate::format::{Metadata, Section};
use crate::manifest::Found;

use super::attributes::{Attributes, Lifetime};
use super::file::File;
use super::node::{Node, NodeId, PointNumber, point_root_inode};
use super::points::OpenPoint;
use super::root::Root;
use super::views::Views;
use super::{Tree, no_node};

/// A directory of a point.
pub(super) struct Directory {
    pub(super) point: Arc<OpenPoint>,
    pub(super) key: Key,
    pub(super) metadata: Metadata,
    pub(super) attributes: Attributes,
    pub(super) origin: Origin,
}

impl Tree {
    /// The views and the directory's number in them, if it is a directory of theirs.
    pub(super) fn view_directory(&self, node: NodeId) -> Result<Option<(Arc<Views>, u64)>> {
        let number = match node.decode()? {
            Node::Root => 0,
            Node::ViewDirectory(number) => number,
            _ => return Ok(None),
        };
        match self.views() {
            Some(views) => Ok(Some((views, number))),
            None if node == NodeId::ROOT => Ok(None),
            None => Err(no_node(node)),
        }
    }

    /// The attributes of what was found, and note of it: it is likely to be asked about next.
    pub(super) fn take_note(&self, point: &Arc<OpenPoint>, found: Found) -> Result<Attributes> {
        let attributes = self.points.attributes(point, &found)?;
        if attributes.node.is_directory() {
            self.remember_directory(Directory {
                point: Arc::clone(point),
                key: found.key,
                metadata: found.entry.metadata,
                attributes,
                origin: found.origin,
            });
        } else {
            self.remember_file(attributes.node, File::new(found.key, *found.entry));
        }
        Ok(attributes)
    }

    /// The directory of a point that a node stands for.
    pub(super) fn directory(&self, node: NodeId) -> Result<Arc<Directory>> {
        if let Some(directory) = self.directories.get(&node) {
            return Ok(directory);
        }
        let directory = match node.decode()? {
            Node::Directory { point, place, row } => self.inner_directory(node, point, place, row),
            Node::PointRoot(point) => self.root_directory(node, point),
            Node::Root => match self.root {
                Root::Point(point) => self.root_directory(node, point),
                Root::Views(_) => Err(no_node(node)),
            },
            Node::File { .. } | Node::ViewSymlink { .. } | Node::ViewDirectory(_) => {
                Err(no_node(node))
            }
        }?;
        Ok(self.remember_directory(directory))
    }

    fn inner_directory(
        &self,
        node: NodeId,
        point: PointNumber,
        place: usize,
        row: Row,
    ) -> Result<Directory> {
        let point = self.points.open(point)?;
        let found = (place < point.chain.runs().len())
            .then(|| point.chain.row(place, Section::Directories, row))
            .transpose()?
            .flatten()
            .ok_or_else(|| no_node(node))?;
        let inode = self.points.directory_inode(found.origin)?;
        Ok(Directory {
            attributes: Attributes::of_entry(node, inode, &found.entry.metadata),
            metadata: found.entry.metadata,
            key: found.key,
            origin: found.origin,
            point,
        })
    }

    /// A point's root, which shares its inode with no other.
    fn root_directory(&self, node: NodeId, number: PointNumber) -> Result<Directory> {
        let point = self.points.open(number)?;
        let found = point.chain.lookup(&Key::root())?.ok_or_else(|| {
            Error::corrupt(
                format_args!("point {}", point.id),
                "it has no root directory",
            )
        })?;
        let (inode, lifetime) = match node {
            NodeId::ROOT => (node.0, Lifetime::Forever),
            _ => (point_root_inode(number), Lifetime::Short),
        };
        Ok(Directory {
            attributes: Attributes {
                lifetime,
                ..Attributes::of_entry(node, inode, &found.entry.metadata)
            },
            metadata: found.entry.metadata,
            key: found.key,
            origin: found.origin,
            point,
        })
    }

    fn remember_directory(&self, directory: Directory) -> Arc<Directory> {
        let directory = Arc::new(directory);
        let (node, weight) = (directory.attributes.node, directory.weight());
        self.directories
            .insert(node, Arc::clone(&directory), weight);
        directory
    }

    /// What a node stands for that is no directory, and is in a point.
    pub(super) fn file(&self, node: NodeId) -> Result<Arc<File>> {
        if let Some(file) = self.files.get(&node) {
            return Ok(file);
        }
        let Node::File { run, row } = node.decode()? else {
            return Err(no_node(node));
        };
        let (key, entry) = self.points.entry_of_origin(run, row)?;
        Ok(self.remember_file(node, File::new(key, *entry)))
    }

    fn remember_file(&self, node: NodeId, file: File) -> Arc<File> {
        let file = Arc::new(file);
        self.files.insert(node, Arc::clone(&file), file.weight());
        file
    }

    /// None for a node of the views, which have no metadata of their own.
    pub(super) fn with_metadata<T>(
        &self,
        node: NodeId,
        work: impl FnOnce(&Metadata) -> T,
    ) -> Result<Option<T>> {
        match node.decode()? {
            Node::File { .. } => return Ok(Some(work(&self.file(node)?.metadata))),
            Node::Directory { .. } | Node::PointRoot(_) => {}
            Node::Root if matches!(self.root, Root::Point(_)) => {}
            Node::ViewDirectory(number) => {
                let made = self.made.get(number);
                let directory = made.map(|made| self.shown_directory(&made)).transpose()?;
                if let Some(directory) = directory.flatten() {
                    return Ok(Some(work(&directory.metadata)));
                }
                return self.attributes(node).map(|_| None);
            }
            Node::Root | Node::ViewSymlink { .. } => {
                return self.attributes(node).map(|_| None);
            }
        }
        Ok(Some(work(&self.directory(node)?.metadata)))
    }
}

impl Directory {
    /// Memory that it takes, in bytes.
    fn weight(&self) -> u64 {
        let xattrs: usize = self
            .metadata
            .xattrs
            .iter()
            .map(|xattr| size_of_val(xattr) + xattr.name.len() + xattr.value.len())
            .sum();
        (size_of::<Self>() + self.key.as_bytes().len() + xattrs) as u64
    }
}
