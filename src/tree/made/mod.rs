//! Directories that are made when somebody looks: `history` and `diff`, and all below them that no point has.
//!
//! Each has a number for as long as the kernel knows its node, and takes the node back by `forget`: then nothing is left of
//! it, so that nothing grows while people browse. Files have the nodes that they have under `points`. A directory may stand
//! in one place only, so that one of a point has another node here; its inode number is the same.
//!
//! Whoever may not enter a directory under `points` may not see here what is in it either: see `permissions` in `history`.

mod difference;
mod history;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::base::{Key, Result};
use crate::format::FileType;

use super::attributes::{Attributes, DirectoryEntry, Lifetime};
use super::node::{Node, NodeId, PointNumber};
use super::resolve::Directory;
use super::views::Views;
use super::{Tree, lock, no_node};

use difference::{Compared, Part};

pub(super) use difference::Comparisons;
pub use difference::ResolvePoint;
pub(super) use history::Histories;

/// Numbers of view directories from here on are of this module; those of the views are far below.
const FIRST: u64 = 1 << 36;
const DIFF_ROOT: u64 = FIRST + 1;
const FIRST_TAKEN_BACK: u64 = FIRST + 2;

/// The directories that the root of a mount of all points has of this module.
pub(super) const ROOTS: [(&str, u64); 2] = [("history", FIRST), ("diff", DIFF_ROOT)];

/// Set in every cookie, so that small ones stay free for whoever calls.
const COOKIE: u64 = 1 << 62;

/// What a directory of this module shows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Made {
    /// All that was ever in a path, and its versions.
    History(Key),
    /// A directory of a point, in one of the versions of the path `of`.
    Version { of: Key, node: NodeId },
    /// Pairs of points.
    Pairs,
    /// Two points, under one of the names that they have for now.
    Pair(Arc<Pair>),
    /// What differs between them in one way, in a directory.
    Part {
        pair: Arc<Pair>,
        part: Part,
        key: Key,
    },
}

/// Two points, as somebody named them.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Pair {
    name: Vec<u8>,
    old: PointNumber,
    new: PointNumber,
}

/// The directories whose nodes the kernel knows.
pub(super) struct MadeNodes(Mutex<Table>);

struct Table {
    next: u64,
    numbers: HashMap<Arc<Made>, u64>,
    known: HashMap<u64, Known>,
}

struct Known {
    made: Arc<Made>,
    /// How often the kernel was told of the node and has not taken that back.
    told: u64,
}

impl MadeNodes {
    pub(super) fn new() -> Self {
        let mut table = Table {
            next: FIRST,
            numbers: HashMap::new(),
            known: HashMap::new(),
        };
        for made in [Made::History(Key::root()), Made::Pairs] {
            table.name(made);
        }
        debug_assert_eq!(table.next, FIRST_TAKEN_BACK);
        Self(Mutex::new(table))
    }

    /// The node of a directory, of which the kernel is told now.
    fn name(&self, made: Made) -> NodeId {
        NodeId::view_directory(lock(&self.0).name(made))
    }

    pub(super) fn get(&self, number: u64) -> Option<Arc<Made>> {
        if number < FIRST {
            return None;
        }
        let table = lock(&self.0);
        table
            .known
            .get(&number)
            .map(|known| Arc::clone(&known.made))
    }

    /// The kernel takes back that it was told of a node, so many times.
    pub(super) fn forget(&self, node: NodeId, times: u64) {
        match node.decode() {
            Ok(Node::ViewDirectory(number)) if number >= FIRST_TAKEN_BACK => {
                lock(&self.0).forget(number, times);
            }
            _ => {}
        }
    }
}

impl Table {
    fn name(&mut self, made: Made) -> u64 {
        if let Some(number) = self.numbers.get(&made) {
            if let Some(known) = self.known.get_mut(number) {
                known.told += 1;
            }
            return *number;
        }
        let number = self.next;
        self.next += 1;
        let made = Arc::new(made);
        self.numbers.insert(Arc::clone(&made), number);
        self.known.insert(number, Known { made, told: 1 });
        number
    }

    fn forget(&mut self, number: u64, times: u64) {
        let Some(known) = self.known.get_mut(&number) else {
            return;
        };
        known.told = known.told.saturating_sub(times);
        if known.told == 0 {
            self.numbers.remove(&known.made);
            self.known.remove(&number);
        }
    }
}

/// What a directory of this module has under a name.
enum Child {
    Made(Made),
    /// What stands in a point, as it is there.
    Real(Attributes),
}

impl Tree {
    /// The kernel no longer knows a node, of which it was told so many times. Concerns directories of no point only.
    pub fn forget(&self, node: NodeId, times: u64) {
        self.made.forget(node, times);
    }

    /// The directory of a point that one of this module shows.
    pub(super) fn shown_directory(&self, made: &Made) -> Result<Option<Arc<Directory>>> {
        match made {
            Made::Version { node, .. } => self.directory(*node).map(Some),
            Made::Part { pair, part, key } => self.compared_directory(pair, *part, key).map(Some),
            Made::History(_) | Made::Pairs | Made::Pair(_) => Ok(None),
        }
    }

    pub(super) fn lookup_made(
        &self,
        views: &Arc<Views>,
        made: &Made,
        name: &[u8],
    ) -> Result<Option<Attributes>> {
        let child = match made {
            Made::History(key) => self.history_child(views, key, name)?,
            Made::Version { of, node } => {
                let found = self.lookup(*node, name)?;
                found.map(|attributes| child_of_version(of, attributes))
            }
            Made::Pairs => self
                .pair_named(views, name)?
                .map(Made::Pair)
                .map(Child::Made),
            Made::Pair(pair) => Part::named(name).map(|part| {
                Child::Made(Made::Part {
                    pair: Arc::clone(pair),
                    part,
                    key: Key::root(),
                })
            }),
            Made::Part { pair, part, key } => {
                let compared = self.compared(pair)?;
                compared.child(pair, *part, key, name)
            }
        };
        match child {
            None => Ok(None),
            Some(Child::Real(attributes)) => Ok(Some(attributes)),
            Some(Child::Made(made)) => {
                let node = self.made.name(made.clone());
                let attributes = self.attributes_of_made(views, node, &made);
                if attributes.is_err() {
                    self.made.forget(node, 1);
                }
                attributes.map(Some)
            }
        }
    }

    pub(super) fn attributes_of_made(
        &self,
        views: &Arc<Views>,
        node: NodeId,
        made: &Made,
    ) -> Result<Attributes> {
        let view = || {
            let root = views.directory_attributes(0);
            let root = root.ok_or_else(|| no_node(node))?;
            Ok(Attributes {
                node,
                inode: node.0,
                // As file systems have it that do not count what is in a directory.
                links: 1,
                ..root
            })
        };
        match made {
            Made::Pairs | Made::Pair(_) => view(),
            Made::History(key) => {
                let history = self.history_of(views, key)?;
                Ok(history.permitted(view()?))
            }
            Made::Version { node: real, .. } => Ok(Attributes {
                node,
                ..self.directory(*real)?.attributes
            }),
            Made::Part { pair, part, key } => Ok(Attributes {
                node,
                inode: node.0,
                links: 1,
                lifetime: Lifetime::Short,
                ..self.compared_directory(pair, *part, key)?.attributes
            }),
        }
    }

    pub(super) fn list_made(
        &self,
        views: &Arc<Views>,
        made: &Made,
        cookie: u64,
        emit: &mut dyn FnMut(DirectoryEntry<'_>) -> bool,
    ) -> Result<()> {
        match made {
            Made::History(key) => {
                let history = self.history_of(views, key)?;
                let children = history.children(key);
                self.emit_children(children, cookie, emit);
            }
            Made::Version { of, node } => {
                let mut emit_one = |entry: DirectoryEntry<'_>| {
                    let Some(attributes) = entry.attributes else {
                        return emit(entry);
                    };
                    let child = child_of_version(of, attributes);
                    self.emit_child(entry.name, child, entry.cookie, emit)
                };
                self.list(*node, cookie, &mut emit_one)?;
            }
            Made::Pairs => {
                let pairs = self.neighbours(views).into_iter().map(|pair| {
                    let name = pair.name.clone();
                    (name.into(), Child::Made(Made::Pair(Arc::new(pair))))
                });
                self.emit_children(pairs, cookie, emit);
            }
            Made::Pair(pair) => {
                let parts = Part::ALL.into_iter().map(|part| {
                    let made = Made::Part {
                        pair: Arc::clone(pair),
                        part,
                        key: Key::root(),
                    };
                    (part.name().as_bytes().into(), Child::Made(made))
                });
                self.emit_children(parts, cookie, emit);
            }
            Made::Part { pair, part, key } => {
                let compared: Arc<Compared> = self.compared(pair)?;
                self.emit_children(compared.children(pair, *part, key), cookie, emit);
            }
        }
        Ok(())
    }

    /// Gives children to `emit` until it is full. A cookie counts them.
    fn emit_children<'a>(
        &self,
        children: impl Iterator<Item = (std::borrow::Cow<'a, [u8]>, Child)>,
        cookie: u64,
        emit: &mut dyn FnMut(DirectoryEntry<'_>) -> bool,
    ) {
        let given = (cookie & !COOKIE) as usize;
        let given = if cookie & COOKIE == 0 { 0 } else { given };
        for (place, (name, child)) in children.enumerate().skip(given) {
            let cookie = COOKIE | (place as u64 + 1);
            if !self.emit_child(&name, child, cookie, emit) {
                return;
            }
        }
    }

    /// Gives one child to `emit`; false if that is full.
    fn emit_child(
        &self,
        name: &[u8],
        child: Child,
        cookie: u64,
        emit: &mut dyn FnMut(DirectoryEntry<'_>) -> bool,
    ) -> bool {
        let (node, file_type, attributes) = match child {
            Child::Real(attributes) => (attributes.node, attributes.file_type, Some(attributes)),
            // Its attributes may take long to make, and are asked for when they are needed.
            Child::Made(made) => (self.made.name(made), FileType::Directory, None),
        };
        let is_taken = emit(DirectoryEntry {
            name,
            node,
            file_type,
            cookie,
            attributes,
        });
        if !is_taken {
            self.made.forget(node, 1);
        }
        is_taken
    }
}

/// What stands in a directory of a version.
fn child_of_version(of: &Key, attributes: Attributes) -> Child {
    match attributes.node.is_directory() {
        false => Child::Real(attributes),
        true => Child::Made(Made::Version {
            of: of.clone(),
            node: attributes.node,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(path: &str) -> Made {
        Made::History(Key::from_path(path.as_bytes()).unwrap())
    }

    fn number(node: NodeId) -> u64 {
        match node.decode().unwrap() {
            Node::ViewDirectory(number) => number,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_node_lasts_until_the_kernel_has_taken_back_all_that_it_was_told() {
        let nodes = MadeNodes::new();
        let node = nodes.name(history("a"));
        assert_eq!(nodes.name(history("a")), node);
        assert_ne!(nodes.name(history("b")), node);
        nodes.forget(node, 1);
        assert_eq!(*nodes.get(number(node)).unwrap(), history("a"));
        nodes.forget(node, 1);
        assert_eq!(nodes.get(number(node)), None);
        // A number is given once.
        assert_ne!(nodes.name(history("a")), node);
    }

    #[test]
    fn the_roots_are_there_for_good() {
        let nodes = MadeNodes::new();
        for (_, number) in ROOTS {
            nodes.forget(NodeId::view_directory(number), 5);
            assert!(nodes.get(number).is_some());
        }
        assert!(nodes.get(1).is_none());
    }
}
