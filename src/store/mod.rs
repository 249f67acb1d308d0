//! Where objects live: a narrow trait, its implementations, and decorators that add behaviour to any of them.
//!
//! Invariants: an object appears whole or not at all, is never changed once it is there, and its name is never given
//! to another content. The config alone may be replaced, by an explicit upgrade. Names are relative, of components
//! that need no quoting anywhere; a store knows nothing of what objects mean.

mod fault;
mod growing;
mod limited;
mod local;
mod location;
mod memory;
mod name;
mod open;
mod pace;
mod recording;
mod remote;
mod retrying;
mod runtime;
mod settings;
mod sftp;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use crate::base::{ErrorKind, Result};

pub use fault::{Effect, Fault, FaultPlan, Moment, Operations};
pub use growing::GrowingBody;
pub use limited::Limited;
pub use local::LocalStore;
pub use location::{Bucket, Location, SftpPlace};
pub use memory::MemoryStore;
pub use open::{create, open};
pub use pace::{Pace, Rates};
pub use recording::{Recording, Request, RequestKind};
pub use remote::RemoteStore;
pub use retrying::{Patience, Retrying};
pub use settings::Settings;
pub use sftp::SftpStore;

/// The largest object that is fetched as a whole, so that a file that does not belong here costs a refusal and not
/// the machine's memory. Packs and runs are read by ranges, which have bounds of their own.
pub const WHOLE_BYTES_MAX: u64 = 128 << 20;

/// What an object is made from. It can be read again from its start, so that a failed upload can be repeated.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// Bytes in memory, in pieces that follow one another.
    Bytes(&'a [&'a [u8]]),
    /// The same, in pieces that a store may hold on to without a copy of them: for large objects.
    Shared(&'a [Bytes]),
    /// A file from its first byte to its last.
    File(&'a File),
}

/// One object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its whole name, such as `points/2026-11-23T03-17-19Z-1f3a9c2e`.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
}

/// A place that keeps objects. All of it may be called from any thread.
pub trait Store: Send + Sync {
    /// The whole object, of at most `WHOLE_BYTES_MAX`.
    ///
    /// # Errors
    /// Missing, denied, unreachable or failed, like those of all the others. The message names the object.
    fn get(&self, name: &str) -> Result<Vec<u8>>;

    /// The bytes `range` of an object, exactly so many: a range that leaves the object is corrupt, since whoever
    /// asks knows from the repository how long it must be.
    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>>;

    /// The last bytes of an object, at most `length` of them, and the object's whole length.
    fn get_tail(&self, name: &str, length: u64) -> Result<(Vec<u8>, u64)>;

    /// Writes a new object, durably: when it returns, the object is there whole and survives a power cut.
    ///
    /// # Errors
    /// Exists, if the name is taken and the store can tell; the object that is there is not touched.
    fn put_new(&self, name: &str, body: Body<'_>) -> Result<()>;

    /// All objects whose names begin with `prefix` (which ends in a slash, or is empty for all) and sort at or after
    /// `from`, in order of names. Nothing at all is no error.
    fn list(&self, prefix: &str, from: &str) -> Result<Vec<Listed>>;

    /// The names of all objects that `list` would give: for who does not need their lengths, which cost a disk more than
    /// the names.
    fn names(&self, prefix: &str, from: &str) -> Result<Vec<String>> {
        let listed = self.list(prefix, from)?;
        Ok(listed.into_iter().map(|object| object.name).collect())
    }

    /// Removes an object. One that is not there is no error: another may have removed it.
    fn delete(&self, name: &str) -> Result<()>;

    /// How a person names this place, without credentials: for messages.
    fn location(&self) -> String;

    /// Does every request cost a round trip over a network, so that fewer and larger ones pay?
    fn is_distant(&self) -> bool {
        false
    }

    /// What `get_range` gives, if no place over a network has to be asked for it: for whoever must not wait so long.
    fn get_range_nearby(&self, _name: &str, _range: Range<u64>) -> Option<Vec<u8>> {
        None
    }

    /// Hears that what it gave of an object was not what the object must be. Returns whether asking again may give
    /// other bytes: a cache has dropped its copy.
    fn disbelieve(&self, _name: &str) -> bool {
        false
    }
}

/// What `read` makes of an object. If that is damaged, and the store may have given other bytes than the object has, it is
/// read once more.
///
/// # Errors
/// Those of `read`.
pub fn read_or_disbelieve<T>(
    store: &dyn Store,
    name: &str,
    read: impl Fn() -> Result<T>,
) -> Result<T> {
    match read() {
        Err(error) if error.kind() == ErrorKind::Corrupt && store.disbelieve(name) => read(),
        result => result,
    }
}

impl Body<'_> {
    /// How many bytes the object will have.
    ///
    /// # Errors
    /// The file's length cannot be read.
    pub fn length(&self) -> io::Result<u64> {
        match self {
            Self::Bytes(pieces) => Ok(pieces.iter().map(|piece| piece.len() as u64).sum()),
            Self::Shared(pieces) => Ok(pieces.iter().map(|piece| piece.len() as u64).sum()),
            Self::File(file) => Ok(file.metadata()?.len()),
        }
    }

    /// The last `length` bytes, which there are.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn tail(&self, length: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::Bytes(pieces) => Ok(tail_of(pieces, length)),
            Self::Shared(pieces) => Ok(tail_of(pieces, length)),
            Self::File(file) => {
                let mut bytes = vec![0; length];
                let start = file.metadata()?.len().saturating_sub(length as u64);
                file.read_exact_at(&mut bytes, start)?;
                Ok(bytes)
            }
        }
    }
}

/// The last `length` bytes of pieces that follow one another.
fn tail_of(pieces: &[impl AsRef<[u8]>], length: usize) -> Vec<u8> {
    let mut left = length;
    let mut parts: Vec<&[u8]> = Vec::new();
    for piece in pieces.iter().rev() {
        let piece = piece.as_ref();
        let part = &piece[piece.len().saturating_sub(left)..];
        left -= part.len();
        parts.push(part);
    }
    parts.reverse();
    parts.concat()
}
