//! How commands that tell of paths show them, and what they say of an entry beside.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::Serialize;

use super::ls::hex_unless_utf8;
use super::output::{Output, text_of};
use crate::base::{Key, Result};
use crate::format::Entry;

/// A path as JSON shows it.
#[derive(Serialize)]
pub(super) struct PathFields {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
}

impl From<&Key> for PathFields {
    fn from(key: &Key) -> Self {
        let path = key.to_path();
        Self {
            path: format!("/{}", String::from_utf8_lossy(&path)),
            path_hex: hex_unless_utf8(&path),
        }
    }
}

/// Appends a path from the root to a line: on a terminal as it may show it, else as it is, like ls(1).
pub(super) fn append_path(output: &Output, key: &Key, line: &mut Vec<u8>) {
    line.push(b'/');
    let path = key.to_path();
    if output.is_terminal() {
        line.extend_from_slice(text_of(&path).as_bytes());
    } else {
        line.extend_from_slice(&path);
    }
}

/// The key of a PATH that was typed.
///
/// # Errors
/// Usage, for a path that no entry can have.
pub(super) fn key_of(path: &Path) -> Result<Key> {
    Key::from_path(path.as_os_str().as_bytes())
}

/// The BLAKE3 of a file's content as hexadecimal digits, where it is recorded.
pub(super) fn hash_text(entry: &Entry) -> Option<String> {
    let hash = entry.content_hash?;
    Some(blake3::Hash::from_bytes(hash).to_hex().to_string())
}
