//! A moment as file systems tell it.

use serde::{Deserialize, Serialize};

/// Seconds since 1970-01-01T00:00:00Z, negative before it, and the nanoseconds (0 to 999,999,999) that follow.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// Nanoseconds after them.
    pub nanoseconds: u32,
}
