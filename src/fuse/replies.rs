//! Replies that take more than one call: bytes and extended attributes.

use fuser::{Errno, ReplyData, ReplyXattr};

use crate::tree::ReadBytes;

/// Answers with a value as listxattr(2) and getxattr(2) want it: with its size alone, if `size` is 0.
pub(super) fn reply_xattr(reply: ReplyXattr, size: u32, value: &[u8]) {
    match u32::try_from(value.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}

/// Answers with bytes of a file, copied only where they lie in several places.
pub(super) fn reply_bytes(reply: ReplyData, bytes: &ReadBytes) {
    match bytes.contiguous() {
        Some(bytes) => reply.data(bytes),
        None => {
            let mut whole = Vec::with_capacity(bytes.len());
            bytes.append_to(&mut whole);
            reply.data(&whole);
        }
    }
}
