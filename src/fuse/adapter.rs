//! FUSE requests, each put to the tree and its answer put into a reply.
//!
//! Stateless like the tree: nothing is opened, so nothing is released, and forgetting a node costs nothing. Requests that
//! would change something are answered EROFS; the kernel answers most of them itself, as the mount is read-only.
//!
//! Every request is answered on the thread that took it. A panic in one is caught and logged: the reply is dropped
//! unanswered, which sends EIO, and the thread goes on.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use fuser::{
    AccessFlags, Errno, FileAttr, FileHandle, Filesystem, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyLseek, ReplyStatfs, ReplyXattr, Request,
};
use log::error;

use super::ahead::Reads;
use super::attributes::{Presenter, duration, fuse_type, placeholder};
use super::errno::errno;
use super::near::{Asked, Near, Serving};
use super::options::MountOptions;
use super::refusals::refusals;
use crate::base::{Error, NAME_BYTES_MAX, Result};
use crate::format::FileType;
use crate::tree::{DirectoryEntry, NodeId, SeekFor, Tree};

/// A node id never stands for two things one after the other, so that it needs no generation.
const GENERATION: Generation = Generation(0);

/// Requests of the kernel's own making (readahead and the like) that may wait at a time. With its default of 16, readers of
/// slow files held up those of files in memory for minutes.
const BACKGROUND_REQUESTS_MAX: u16 = 512;

/// The part of these that makes it hold back: three quarters, as the kernel's default has it.
const CONGESTION_THRESHOLD: u16 = BACKGROUND_REQUESTS_MAX / 4 * 3;

/// The unit in which `df` is told sizes.
const USAGE_BLOCK_BYTES: u32 = 4096;

/// The first and the second entry of every directory; the tree leaves their cookies free.
const DOTS: [&str; 2] = [".", ".."];

/// Serves a tree.
pub(super) struct Adapter {
    tree: Arc<Tree>,
    presenter: Presenter,
    obeys_acls: bool,
    reads: Reads,
    near: Near,
}

impl Adapter {
    pub(super) fn new(tree: Arc<Tree>, reads: Reads, near: Near, options: &MountOptions) -> Self {
        Self {
            reads,
            near,
            presenter: Presenter::new(options, !tree.is_one_point()),
            obeys_acls: options.obeys_acls(),
            tree,
        }
    }

    /// A request begins that reads so many bytes.
    fn serve(&self, request: &Request, bytes: u32) -> Serving<'_> {
        let thread = request.pid();
        self.near.serve(Asked { thread, bytes })
    }

    /// Lists a directory from `cookie`; `emit` takes a name, its entry and the cookie behind it, until it is full.
    fn list(
        &self,
        directory: NodeId,
        cookie: u64,
        emit: &mut dyn FnMut(&DirectoryEntry<'_>) -> bool,
    ) -> Result<()> {
        let dots = DOTS.len() as u64;
        for (dot, place) in DOTS.iter().zip(1..).skip(cookie.min(dots) as usize) {
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
        }
        let place = if cookie <= dots { 0 } else { cookie };
        self.tree.list(directory, place, &mut |entry| emit(&entry))
    }

    /// The attributes of an entry of a listing, and how long they are to be believed.
    fn listed(&self, entry: &DirectoryEntry<'_>) -> (FileAttr, Duration) {
        match &entry.attributes {
            Some(attributes) => (
                self.presenter.by_node(attributes),
                self.presenter.of_listing(attributes),
            ),
            None => (self.presenter.unknown(entry), Duration::ZERO),
        }
    }

    /// Answers the access(2) of a mount that leaves permissions unchecked: only what can never work is refused.
    fn may(&self, node: NodeId, mask: AccessFlags) -> std::result::Result<(), Errno> {
        if mask.contains(AccessFlags::W_OK) {
            return Err(Errno::EROFS);
        }
        if mask.contains(AccessFlags::X_OK) {
            let attributes = self
                .tree
                .attributes(node)
                .map_err(|error| failed("access", &error))?;
            if attributes.file_type == FileType::Regular && attributes.mode & 0o111 == 0 {
                return Err(Errno::EACCES);
            }
        }
        Ok(())
    }

    fn names_of_xattrs(&self, node: NodeId) -> Result<Vec<u8>> {
        let names = self.tree.xattr_names(node)?;
        let mut list = Vec::new();
        for name in names {
            list.extend_from_slice(&name);
            list.push(0);
        }
        Ok(list)
    }
}

/// Does the work of a request; `request` names it in the log.
fn guard(request: &str, work: impl FnOnce()) {
    // The tree is whole after a panic: all that it remembers can be made again, and its locks survive one.
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        error!("{request} failed by an error in bygone itself: please report it");
    }
}

/// Logs why a request fails, and gives the errno for it.
fn failed(request: &str, error: &Error) -> Errno {
    error!("{request}: {error}");
    errno(error.kind())
}

fn node(inode: INodeNo) -> NodeId {
    NodeId(inode.0)
}

/// Answers with what `result` has, as listxattr(2) and getxattr(2) want it: its size, if that was asked for.
fn reply_xattr(reply: ReplyXattr, size: u32, value: &[u8]) {
    match u32::try_from(value.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let mut wanted = InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_ASYNC_READ
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_MAX_PAGES
            | InitFlags::FUSE_NO_OPEN_SUPPORT
            | InitFlags::FUSE_NO_OPENDIR_SUPPORT;
        if self.obeys_acls {
            wanted |= InitFlags::FUSE_POSIX_ACL;
        }
        config.add_capabilities(wanted).map_err(|missing| {
            io::Error::new(
                io::ErrorKind::Unsupported,
                format!(
                    "this kernel's FUSE is too old (Linux 5.1 is needed): it lacks {missing:?}"
                ),
            )
        })?;
        // Both are refused for 0 only.
        let _previous = config.set_max_background(BACKGROUND_REQUESTS_MAX);
        let _previous = config.set_congestion_threshold(CONGESTION_THRESHOLD);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _serving = self.serve(request, 0);
        guard("lookup", || {
            match self.tree.lookup(node(parent), name.as_bytes()) {
                Ok(Some(attributes)) => {
                    let lifetimes = self.presenter.of_lookup(&attributes);
                    reply.entry_with_ttls(
                        &lifetimes.attributes,
                        &lifetimes.entry,
                        &self.presenter.by_node(&attributes),
                        GENERATION,
                    );
                }
                Ok(None) => {
                    // Node 0 stands for no entry, which is remembered too.
                    let lifetime = duration(self.tree.lifetime_of_names(node(parent)));
                    let nothing = placeholder(NodeId(0), FileType::Regular);
                    reply.entry(&lifetime, &self.presenter.by_node(&nothing), GENERATION);
                }
                Err(error) => reply.error(failed("lookup", &error)),
            }
        });
    }

    fn getattr(
        &self,
        request: &Request,
        inode: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        let _serving = self.serve(request, 0);
        guard("getattr", || match self.tree.attributes(node(inode)) {
            Ok(attributes) => reply.attr(
                &duration(attributes.lifetime),
                &self.presenter.by_inode(&attributes),
            ),
            Err(error) => reply.error(failed("getattr", &error)),
        });
    }

    fn readlink(&self, request: &Request, inode: INodeNo, reply: ReplyData) {
        let _serving = self.serve(request, 0);
        guard("readlink", || match self.tree.target(node(inode)) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(failed("readlink", &error)),
        });
    }

    fn read(
        &self,
        request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let _serving = self.serve(request, size);
        guard("read", || {
            match self.tree.read(node(inode), offset, size) {
                Ok(bytes) => match bytes.contiguous() {
                    Some(bytes) => reply.data(bytes),
                    None => {
                        let mut whole = Vec::with_capacity(bytes.len());
                        bytes.append_to(&mut whole);
                        reply.data(&whole);
                    }
                },
                Err(error) => reply.error(failed("read", &error)),
            }
            if offset == 0 {
                self.reads.note(node(inode));
            }
        });
    }

    fn readdir(
        &self,
        request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let _serving = self.serve(request, 0);
        guard("readdir", move || {
            let result = self.list(node(inode), offset, &mut |entry| {
                let kind = fuse_type(entry.file_type);
                let name = OsStr::from_bytes(entry.name);
                !reply.add(INodeNo(entry.node.0), entry.cookie, kind, name)
            });
            match result {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(failed("readdir", &error)),
            }
        });
    }

    fn readdirplus(
        &self,
        request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let _serving = self.serve(request, 0);
        guard("readdirplus", move || {
            let result = self.list(node(inode), offset, &mut |entry| {
                let (attributes, lifetime) = self.listed(entry);
                let name = OsStr::from_bytes(entry.name);
                !reply.add(
                    attributes.ino,
                    entry.cookie,
                    name,
                    &lifetime,
                    &attributes,
                    GENERATION,
                )
            });
            match result {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(failed("readdirplus", &error)),
            }
        });
    }

    fn statfs(&self, request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        let _serving = self.serve(request, 0);
        guard("statfs", || {
            let usage = self.tree.usage();
            let blocks = usage.bytes.div_ceil(u64::from(USAGE_BLOCK_BYTES));
            reply.statfs(
                blocks,
                0,
                0,
                usage.entries,
                0,
                USAGE_BLOCK_BYTES,
                NAME_BYTES_MAX as u32,
                USAGE_BLOCK_BYTES,
            );
        });
    }

    fn getxattr(
        &self,
        request: &Request,
        inode: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let _serving = self.serve(request, 0);
        guard("getxattr", || {
            match self.tree.xattr(node(inode), name.as_bytes()) {
                Ok(Some(value)) => reply_xattr(reply, size, &value),
                Ok(None) => reply.error(Errno::ENODATA),
                Err(error) => reply.error(failed("getxattr", &error)),
            }
        });
    }

    /// Never ENOSYS, which would save a question for each file of a point that has none: with it `tar --xattrs` warns of
    /// every file, and `getfattr -d` fails.
    fn listxattr(&self, request: &Request, inode: INodeNo, size: u32, reply: ReplyXattr) {
        let _serving = self.serve(request, 0);
        guard("listxattr", || match self.names_of_xattrs(node(inode)) {
            Ok(list) => reply_xattr(reply, size, &list),
            Err(error) => reply.error(failed("listxattr", &error)),
        });
    }

    fn access(&self, request: &Request, inode: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let _serving = self.serve(request, 0);
        guard("access", || match self.may(node(inode), mask) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        });
    }

    fn lseek(
        &self,
        request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let _serving = self.serve(request, 0);
        guard("lseek", || {
            let what = match whence {
                libc::SEEK_DATA => SeekFor::Data,
                libc::SEEK_HOLE => SeekFor::Hole,
                // The kernel does all others by itself.
                _ => return reply.error(Errno::EINVAL),
            };
            let Ok(offset) = u64::try_from(offset) else {
                return reply.error(Errno::ENXIO);
            };
            match self.tree.seek(node(inode), offset, what) {
                Ok(Some(place)) => match i64::try_from(place) {
                    Ok(place) => reply.offset(place),
                    Err(_) => reply.error(Errno::EOVERFLOW),
                },
                Ok(None) => reply.error(Errno::ENXIO),
                Err(error) => reply.error(failed("lseek", &error)),
            }
        });
    }

    refusals!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_its_request_and_nothing_else() {
        /// Stands for a reply, which answers EIO when it is dropped unanswered.
        struct Reply<'a>(&'a std::cell::Cell<bool>);
        impl Drop for Reply<'_> {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let is_dropped = std::cell::Cell::new(false);
        let reply = Reply(&is_dropped);
        guard("read", || {
            let _reply = reply;
            panic!("on purpose");
        });
        assert!(is_dropped.get());
    }
}
