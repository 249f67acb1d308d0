//! The requests that a file system which is never written to and keeps nothing open refuses, all at one place.
//!
//! A macro, since they are methods of one trait with those that are answered, and a trait is implemented in one block.

/// The methods of `fuser::Filesystem` that refuse: what would change something with EROFS, and what the kernel does
/// better by itself with ENOSYS, upon which it asks no more.
macro_rules! refusals {
    () => {
        /// The kernel does without open, flush and release from the first refusal on, and keeps files in its cache.
        fn open(
            &self,
            _request: &fuser::Request,
            _inode: fuser::INodeNo,
            _flags: fuser::OpenFlags,
            reply: fuser::ReplyOpen,
        ) {
            reply.error(fuser::Errno::ENOSYS);
        }

        fn flush(
            &self,
            _request: &fuser::Request,
            _inode: fuser::INodeNo,
            _handle: fuser::FileHandle,
            _owner: fuser::LockOwner,
            reply: fuser::ReplyEmpty,
        ) {
            reply.error(fuser::Errno::ENOSYS);
        }

        /// As with open; listings stay in the kernel's cache too.
        fn opendir(
            &self,
            _request: &fuser::Request,
            _inode: fuser::INodeNo,
            _flags: fuser::OpenFlags,
            reply: fuser::ReplyOpen,
        ) {
            reply.error(fuser::Errno::ENOSYS);
        }

        /// A file that is never written needs no sync: refused once, the kernel calls it done from then on.
        fn fsync(
            &self,
            _request: &fuser::Request,
            _inode: fuser::INodeNo,
            _handle: fuser::FileHandle,
            _data_only: bool,
            reply: fuser::ReplyEmpty,
        ) {
            reply.error(fuser::Errno::ENOSYS);
        }

        fn fsyncdir(
            &self,
            _request: &fuser::Request,
            _inode: fuser::INodeNo,
            _handle: fuser::FileHandle,
            _data_only: bool,
            reply: fuser::ReplyEmpty,
        ) {
            reply.error(fuser::Errno::ENOSYS);
        }

        /// No command is known.
        fn ioctl(
            &self,
            _request: &fuser::Request,
            _inode: fuser::INodeNo,
            _handle: fuser::FileHandle,
            _flags: fuser::IoctlFlags,
            _command: u32,
            _input: &[u8],
            _output_bytes: u32,
            reply: fuser::ReplyIoctl,
        ) {
            reply.error(fuser::Errno::ENOTTY);
        }

        /// Files are always ready; refused once, the kernel says so by itself.
        fn poll(
            &self,
            _request: &fuser::Request,
            _inode: fuser::INodeNo,
            _handle: fuser::FileHandle,
            _notifier: fuser::PollNotifier,
            _events: fuser::PollEvents,
            _flags: fuser::PollFlags,
            reply: fuser::ReplyPoll,
        ) {
            reply.error(fuser::Errno::ENOSYS);
        }

        fn setattr(
            &self,
            _request: &fuser::Request,
            _inode: fuser::INodeNo,
            _mode: Option<u32>,
            _uid: Option<u32>,
            _gid: Option<u32>,
            _size: Option<u64>,
            _atime: Option<fuser::TimeOrNow>,
            _mtime: Option<fuser::TimeOrNow>,
            _ctime: Option<std::time::SystemTime>,
            _handle: Option<fuser::FileHandle>,
            _crtime: Option<std::time::SystemTime>,
            _chgtime: Option<std::time::SystemTime>,
            _bkuptime: Option<std::time::SystemTime>,
            _flags: Option<fuser::BsdFileFlags>,
            reply: fuser::ReplyAttr,
        ) {
            reply.error(fuser::Errno::EROFS);
        }

        fn mknod(
            &self,
            _request: &fuser::Request,
            _parent: fuser::INodeNo,
            _name: &std::ffi::OsStr,
            _mode: u32,
            _umask: u32,
            _rdev: u32,
            reply: fuser::ReplyEntry,
        ) {
            reply.error(fuser::Errno::EROFS);
        }

        fn mkdir(
            &self,
            _request: &fuser::Request,
            _parent: fuser::INodeNo,
            _name: &std::ffi::OsStr,
            _mode: u32,
            _umask: u32,
            reply: fuser::ReplyEntry,
        ) {
            reply.error(fuser::Errno::EROFS);
        }

        fn unlink(
            &self,
            _request: &fuser::Request,
            _parent: fuser::INodeNo,
            _name: &std::ffi::OsStr,
            reply: fuser::ReplyEmpty,
        ) {
            reply.error(fuser::Errno::EROFS);
        }

        fn rmdir(
            &self,
            _request: &fuser::Request,
            _parent: fuser::INodeNo,
            _name: &std::ffi::OsStr,
            reply: fuser::ReplyEmpty,
        ) {
            reply.error(fuser::Errno::EROFS);
        }

        fn symlink(
            &self,
            _request: &fuser::Request,
            _parent: fuser::INodeNo,
            _name: &std::ffi::OsStr,
            _target: &std::path::Path,
            reply: fuser::ReplyEntry,
        ) {
            reply.error(fuser::Errno::EROFS);
        }

        fn rename(
            &self,
            _request: &fuser::Request,
            _parent: fuser::INodeNo,
            _name: &std::ffi::OsStr,
            _new_parent: fuser::INodeNo,
            _new_name: &std::ffi::OsStr,
            _flags: fuser::RenameFlags,
            reply: fuser::ReplyEmpty,
        ) {
            reply.error(fuser::Errno::EROFS);
        }

        fn link(
            &self,
            _request: &fuser::Request,
            _inode: fuser::INodeNo,
            _new_parent: fuser::INodeNo,
            _new_name: &std::ffi::OsStr,
            reply: fuser::ReplyEntry,
        ) {
            reply.error(fuser::Errno::EROFS);
        }

        fn write(
            &self,
            _request: &fuser::Request,
            _inode: fuser::INodeNo,
            _handle: fuser::FileHandle,
            _offset: u64,
            _data: &[u8],
            _write_flags: fuser::WriteFlags,
            _flags: fuser::OpenFlags,
            _owner: Option<fuser::LockOwner>,
            reply: fuser::ReplyWrite,
        ) {
            reply.error(fuser::Errno::EROFS);
        }

        fn create(
            &self,
            _request: &fuser::Request,
            _parent: fuser::INodeNo,
            _name: &std::ffi::OsStr,
            _mode: u32,
            _umask: u32,
            _flags: i32,
            reply: fuser::ReplyCreate,
        ) {
            reply.error(fuser::Errno::EROFS);
        }

        fn setxattr(
            &self,
            _request: &fuser::Request,
            _inode: fuser::INodeNo,
            _name: &std::ffi::OsStr,
            _value: &[u8],
            _flags: i32,
            _position: u32,
            reply: fuser::ReplyEmpty,
        ) {
            reply.error(fuser::Errno::EROFS);
        }

        fn removexattr(
            &self,
            _request: &fuser::Request,
            _inode: fuser::INodeNo,
            _name: &std::ffi::OsStr,
            reply: fuser::ReplyEmpty,
        ) {
            reply.error(fuser::Errno::EROFS);
        }

        fn fallocate(
            &self,
            _request: &fuser::Request,
            _inode: fuser::INodeNo,
            _handle: fuser::FileHandle,
            _offset: u64,
            _length: u64,
            _mode: i32,
            reply: fuser::ReplyEmpty,
        ) {
            reply.error(fuser::Errno::EROFS);
        }

        fn copy_file_range(
            &self,
            _request: &fuser::Request,
            _source: fuser::INodeNo,
            _source_handle: fuser::FileHandle,
            _source_offset: u64,
            _target: fuser::INodeNo,
            _target_handle: fuser::FileHandle,
            _target_offset: u64,
            _length: u64,
            _flags: fuser::CopyFileRangeFlags,
            reply: fuser::ReplyWrite,
        ) {
            reply.error(fuser::Errno::EROFS);
        }
    };
}

pub(super) use refusals;
