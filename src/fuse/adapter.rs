//! FUSE requests, each put to the tree and its answer put into a reply.
//!
//! Stateless like the tree: nothing is opened, so nothing is released, and forgetting a node costs nothing. Requests that
//! would change something are answered EROFS; the kernel answers most of them itself, as the mount is read-only.
//!
//! A request is answered on the thread that took it, if memory has the answer: a hand-over would cost more than that. So
//! is one that must wait for the store, as long as there is a thread that takes requests meanwhile; else it is handed to a
//! pool, so that what is in memory is served at once however long the store takes. A panic in a request is caught and
//! logged: the reply is dropped unanswered, which sends EIO, and the thread goes on.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use fuser::{
    AccessFlags, Errno, FileHandle, Filesystem, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyLseek, ReplyStatfs, ReplyXattr, Request,
};
use log::error;

use super::answers::Answers;
use super::attributes::{duration, fuse_type, placeholder};
use super::counts::RequestKind;
use super::errno::errno;
use super::near::{Asked, Near};
use super::options::MountOptions;
use super::patience::Patience;
use super::pool::Pool;
use super::refusals::refusals;
use super::replies::{reply_bytes, reply_xattr};
use crate::base::{Error, ErrorKind, NAME_BYTES_MAX, Result};
use crate::fetch::{WaitLimit, by_deadline};
use crate::format::FileType;
use crate::tree::{NodeId, SeekFor};

/// A node id never stands for two things one after the other, so that it needs no generation.
const GENERATION: Generation = Generation(0);

/// Requests of the kernel's own making (readahead and the like) that may wait at a time. With its default of 16, readers of
/// slow files held up those of files in memory for minutes.
const BACKGROUND_REQUESTS_MAX: u16 = 512;

/// The part of these that makes it hold back: three quarters, as the kernel's default has it.
const CONGESTION_THRESHOLD: u16 = BACKGROUND_REQUESTS_MAX / 4 * 3;

/// The unit in which `df` is told sizes.
const USAGE_BLOCK_BYTES: u32 = 4096;

/// Serves a tree.
pub(super) struct Adapter {
    answers: Arc<Answers>,
    obeys_acls: bool,
    near: Near,
    waiting: Arc<WaitLimit>,
    pool: Pool,
    /// How long a distant store may keep a request waiting.
    patience: Option<Arc<Patience>>,
}

/// One request: its kind, who asks, and how many bytes are read.
struct Question<'a> {
    kind: RequestKind,
    request: &'a Request,
    bytes: u32,
    /// The file and the place in it that is read.
    reads: Option<(NodeId, u64)>,
}

impl Adapter {
    /// An adapter that `threads` threads share, of which one never waits for the store.
    pub(super) fn new(
        answers: Answers,
        near: Near,
        threads: usize,
        options: &MountOptions,
    ) -> Self {
        let is_distant = answers.tree.is_distant();
        Self {
            patience: is_distant.then(|| Arc::new(Patience::new(options.timeout))),
            answers: Arc::new(answers),
            obeys_acls: options.obeys_acls(),
            near,
            waiting: WaitLimit::new(threads - 1, is_distant),
            pool: Pool::new(),
        }
    }

    /// Counts a request, then has it answered: `ask` finds the answer, and `tell` puts it into the reply. If the answer
    /// must be waited for and this thread may not wait, both are done by a thread of the pool, from the beginning.
    fn serve<R: Send + 'static, A>(
        &self,
        question: &Question<'_>,
        mut reply: R,
        mut ask: impl FnMut(&Answers, &mut R) -> Result<A> + Send + 'static,
        tell: impl FnOnce(&Answers, R, Result<A>) + Send + 'static,
    ) {
        let kind = question.kind;
        let serving = self.near.serve(question.asked());
        let answers = &self.answers;
        // First, so that whoever has an answer finds it counted.
        answers.counts.served(kind);
        let patience = self.patience.as_ref();
        let deadline = patience.map(|patience| patience.deadline(question.reads));
        let asking = || {
            in_time(deadline, || {
                self.waiting.within(|| ask(answers, &mut reply))
            })
        };
        match guard(kind, asking) {
            Some(Err(error)) if error.kind() == ErrorKind::WouldWait => {
                let answers = Arc::clone(answers);
                self.pool.run(Box::new(move || {
                    guard(kind, move || {
                        let result = in_time(deadline, || ask(&answers, &mut reply));
                        count_failure(&answers, &result);
                        tell(&answers, reply, result);
                    });
                }));
            }
            Some(result) => {
                count_failure(answers, &result);
                guard(kind, || tell(answers, reply, result));
            }
            None => {}
        }
        drop(serving);
        self.waiting.rest();
    }
}

impl<'a> Question<'a> {
    /// A request that reads no bytes of a file.
    fn new(kind: RequestKind, request: &'a Request) -> Self {
        Self {
            kind,
            request,
            bytes: 0,
            reads: None,
        }
    }

    /// Where it comes from.
    fn asked(&self) -> Asked {
        Asked {
            thread: self.request.pid(),
            bytes: self.bytes,
        }
    }
}

/// Does work that waits for the store no longer than until `deadline`, if there is one.
fn in_time<T>(deadline: Option<Instant>, work: impl FnOnce() -> T) -> T {
    match deadline {
        Some(deadline) => by_deadline(deadline, work),
        None => work(),
    }
}

/// Does a part of the work of a request; None after a panic, by which the reply is dropped, which sends EIO.
fn guard<T>(request: RequestKind, work: impl FnOnce() -> T) -> Option<T> {
    // The tree is whole after a panic: all that it remembers can be made again, and its locks survive one.
    let done = catch_unwind(AssertUnwindSafe(work));
    if done.is_err() {
        error!(
            "{} failed by an error in bygone itself: please report it",
            request.name()
        );
    }
    done.ok()
}

fn count_failure<T>(answers: &Answers, result: &Result<T>) {
    if result.is_err() {
        answers.counts.failed();
    }
}

/// Logs why a request fails, and gives the errno for it.
fn failed(request: RequestKind, error: &Error) -> Errno {
    error!("{}: {error}", request.name());
    errno(error.kind())
}

fn node(inode: INodeNo) -> NodeId {
    NodeId(inode.0)
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
        let question = Question::new(RequestKind::Lookup, request);
        let (parent, name) = (node(parent), name.as_bytes().to_vec());
        self.serve(
            &question,
            reply,
            move |answers, _| answers.tree.lookup(parent, &name),
            move |answers, reply, result| match result {
                Ok(Some(attributes)) => {
                    let lifetimes = answers.presenter.of_lookup(&attributes);
                    reply.entry_with_ttls(
                        &lifetimes.attributes,
                        &lifetimes.entry,
                        &answers.presenter.by_node(&attributes),
                        GENERATION,
                    );
                }
                Ok(None) => {
                    // Node 0 stands for no entry, which is remembered too.
                    let lifetime = duration(answers.tree.lifetime_of_names(parent));
                    let nothing = placeholder(NodeId(0), FileType::Regular);
                    reply.entry(&lifetime, &answers.presenter.by_node(&nothing), GENERATION);
                }
                Err(error) => reply.error(failed(RequestKind::Lookup, &error)),
            },
        );
    }

    fn forget(&self, _request: &Request, inode: INodeNo, times: u64) {
        self.answers.tree.forget(node(inode), times);
    }

    fn getattr(
        &self,
        request: &Request,
        inode: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        self.serve(
            &Question::new(RequestKind::Getattr, request),
            reply,
            move |answers, _| answers.tree.attributes(node(inode)),
            |answers, reply, result| match result {
                Ok(attributes) => reply.attr(
                    &duration(attributes.lifetime),
                    &answers.presenter.by_inode(&attributes),
                ),
                Err(error) => reply.error(failed(RequestKind::Getattr, &error)),
            },
        );
    }

    fn readlink(&self, request: &Request, inode: INodeNo, reply: ReplyData) {
        self.serve(
            &Question::new(RequestKind::Readlink, request),
            reply,
            move |answers, _| answers.tree.target(node(inode)),
            |_, reply, result| match result {
                Ok(target) => reply.data(&target),
                Err(error) => reply.error(failed(RequestKind::Readlink, &error)),
            },
        );
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
        let question = Question {
            bytes: size,
            reads: Some((node(inode), offset)),
            ..Question::new(RequestKind::Read, request)
        };
        let patience = self.patience.clone();
        self.serve(
            &question,
            reply,
            move |answers, _| answers.tree.read(node(inode), offset, size),
            move |answers, reply, result| {
                match result {
                    Ok(bytes) => {
                        answers.counts.read(bytes.len());
                        reply_bytes(reply, &bytes);
                        answers.littles.note(node(inode), &bytes);
                    }
                    Err(error) => {
                        if let Some(patience) = patience {
                            patience.failed(node(inode), offset, size, &error);
                        }
                        reply.error(failed(RequestKind::Read, &error));
                    }
                }
                if offset == 0 {
                    answers.note_beginning(node(inode));
                }
            },
        );
    }

    fn readdir(
        &self,
        request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        mut offset: u64,
        reply: ReplyDirectory,
    ) {
        self.serve(
            &Question::new(RequestKind::Readdir, request),
            reply,
            move |answers, reply| {
                answers.list(node(inode), &mut offset, &mut |entry| {
                    let kind = fuse_type(entry.file_type);
                    let name = OsStr::from_bytes(entry.name);
                    let is_full = reply.add(INodeNo(entry.node.0), entry.cookie, kind, name);
                    if !is_full {
                        // This form of a listing does not tell the kernel of the node.
                        answers.tree.forget(entry.node, 1);
                    }
                    !is_full
                })
            },
            |_, reply, result| match result {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(failed(RequestKind::Readdir, &error)),
            },
        );
    }

    fn readdirplus(
        &self,
        request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        mut offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        self.serve(
            &Question::new(RequestKind::Readdirplus, request),
            reply,
            move |answers, reply| {
                answers.list(node(inode), &mut offset, &mut |entry| {
                    let (attributes, lifetime) = answers.listed(entry);
                    let name = OsStr::from_bytes(entry.name);
                    !reply.add(
                        attributes.ino,
                        entry.cookie,
                        name,
                        &lifetime,
                        &attributes,
                        GENERATION,
                    )
                })
            },
            |_, reply, result| match result {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(failed(RequestKind::Readdirplus, &error)),
            },
        );
    }

    fn statfs(&self, request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        self.serve(
            &Question::new(RequestKind::Statfs, request),
            reply,
            |answers, _| Ok(answers.tree.usage()),
            |_, reply, result| match result {
                Ok(usage) => reply.statfs(
                    usage.bytes.div_ceil(u64::from(USAGE_BLOCK_BYTES)),
                    0,
                    0,
                    usage.entries,
                    0,
                    USAGE_BLOCK_BYTES,
                    NAME_BYTES_MAX as u32,
                    USAGE_BLOCK_BYTES,
                ),
                Err(error) => reply.error(failed(RequestKind::Statfs, &error)),
            },
        );
    }

    fn getxattr(
        &self,
        request: &Request,
        inode: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let name = name.as_bytes().to_vec();
        self.serve(
            &Question::new(RequestKind::Getxattr, request),
            reply,
            move |answers, _| answers.tree.xattr(node(inode), &name),
            move |_, reply, result| match result {
                Ok(Some(value)) => reply_xattr(reply, size, &value),
                Ok(None) => reply.error(Errno::ENODATA),
                Err(error) => reply.error(failed(RequestKind::Getxattr, &error)),
            },
        );
    }

    /// Never ENOSYS, which would save a question for each file of a point that has none: with it `tar --xattrs` warns of
    /// every file, and `getfattr -d` fails.
    fn listxattr(&self, request: &Request, inode: INodeNo, size: u32, reply: ReplyXattr) {
        self.serve(
            &Question::new(RequestKind::Listxattr, request),
            reply,
            move |answers, _| answers.names_of_xattrs(node(inode)),
            move |_, reply, result| match result {
                Ok(list) => reply_xattr(reply, size, &list),
                Err(error) => reply.error(failed(RequestKind::Listxattr, &error)),
            },
        );
    }

    fn access(&self, request: &Request, inode: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        self.serve(
            &Question::new(RequestKind::Access, request),
            reply,
            move |answers, _| answers.refuses(node(inode), mask),
            |_, reply, result| match result {
                Ok(None) => reply.ok(),
                Ok(Some(errno)) => reply.error(errno),
                Err(error) => reply.error(failed(RequestKind::Access, &error)),
            },
        );
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
        let what = match whence {
            libc::SEEK_DATA => SeekFor::Data,
            libc::SEEK_HOLE => SeekFor::Hole,
            // The kernel does all others by itself.
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else {
            return reply.error(Errno::ENXIO);
        };
        self.serve(
            &Question::new(RequestKind::Lseek, request),
            reply,
            move |answers, _| answers.tree.seek(node(inode), offset, what),
            |_, reply, result| match result {
                Ok(Some(place)) => match i64::try_from(place) {
                    Ok(place) => reply.offset(place),
                    Err(_) => reply.error(Errno::EOVERFLOW),
                },
                Ok(None) => reply.error(Errno::ENXIO),
                Err(error) => reply.error(failed(RequestKind::Lseek, &error)),
            },
        );
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
        guard(RequestKind::Read, || {
            let _reply = reply;
            panic!("on purpose");
        });
        assert!(is_dropped.get());
    }
}
