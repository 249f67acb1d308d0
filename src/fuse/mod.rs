//! A tree as a mounted file system: FUSE requests in, answers out.
//!
//! Thin on purpose: what a file is and what its bytes are is the tree's to say; here it is put into the kernel's words
//! (attributes, lifetimes, errno), mounted, served and taken away again. Invariants: nothing is ever written; a request
//! is answered whole or with an error; a panic in one request costs that request only; a mount is taken away by its exact
//! place and only if the system lists it as the one that is meant.
//!
//! Not here: arguments, signals, the background (`cli`), and any cache but the kernel's.

mod adapter;
mod ahead;
mod answers;
mod attach;
mod attributes;
mod counts;
mod errno;
mod figures;
mod metrics;
mod mounts;
mod near;
mod options;
mod patience;
mod place;
mod pool;
mod read_ahead;
mod refusals;
mod replies;
mod session;
mod walk;
mod whole;

pub use figures::{Figures, figures};
pub use mounts::{MountRecord, mount_at, own_mounts, unmount_and_wait};
pub use options::{MountOptions, source_name, source_parts};
pub use place::{Protected, keep_apart, listed_place, prepare};
pub use session::{MountedTree, Order, Telling};
