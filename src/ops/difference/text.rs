//! The text differences between two versions of a file, as unified diffs that patch(1) takes.

use std::path::Path;
use std::time::Duration;

use similar::TextDiff;

use crate::base::{Error, Key, Result};
use crate::fetch::Fetcher;
use crate::format::{Content, Entry, Extent, decode_extents};

/// Files above this size are not compared line by line.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// A file with a NUL among so many bytes is no text, as for diff(1) and git.
const LOOKED_AT_BYTES: usize = 8 << 10;

/// Looking for the smallest difference ends after this long; a larger one that is as true is told then.
const PATIENCE: Duration = Duration::from_secs(2);

/// Lines around a change.
const CONTEXT_LINES: usize = 3;

/// Where a version's content is: a regular file's, since nothing else has text.
#[derive(Debug, Clone, Copy)]
pub enum Side<'a> {
    /// There is none.
    Absent,
    /// In the repository.
    Stored(&'a Entry),
    /// In the file system.
    Live(&'a Path),
}

/// How two contents differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextDifference {
    /// They are the same.
    None,
    /// A unified diff.
    Unified(Vec<u8>),
    /// One of them is no text.
    Binary,
    /// One of them is too large to be compared line by line.
    TooLarge,
}

/// What of a version there is to compare.
enum Text {
    Lines(Vec<u8>),
    Binary,
    TooLarge,
}

/// The text differences at a path.
///
/// # Errors
/// Those of fetching a chunk, and of reading a live file.
pub fn text_difference(
    fetcher: &Fetcher,
    key: &Key,
    old: Side<'_>,
    new: Side<'_>,
) -> Result<TextDifference> {
    let (old_text, new_text) = match (text(fetcher, key, old)?, text(fetcher, key, new)?) {
        (Text::TooLarge, _) | (_, Text::TooLarge) => return Ok(TextDifference::TooLarge),
        (Text::Binary, _) | (_, Text::Binary) => return Ok(TextDifference::Binary),
        (Text::Lines(old), Text::Lines(new)) => (old, new),
    };
    if old_text == new_text {
        return Ok(TextDifference::None);
    }
    let diff = TextDiff::configure()
        .timeout(PATIENCE)
        .diff_lines(&old_text[..], &new_text[..]);
    let mut unified = Vec::new();
    diff.unified_diff()
        .context_radius(CONTEXT_LINES)
        .to_writer(&mut unified)
        .map_err(|error| Error::io("write into memory", error))?;
    let mut whole = Vec::with_capacity(unified.len());
    for (mark, letter, side) in [("---", 'a', old), ("+++", 'b', new)] {
        whole.extend_from_slice(mark.as_bytes());
        whole.push(b' ');
        whole.extend_from_slice(&header_path(letter, key, side));
        whole.push(b'\n');
    }
    whole.extend_from_slice(&unified);
    Ok(TextDifference::Unified(whole))
}

/// The path as `patch -p1` takes it. One that would not fit in a line is quoted, as git does it.
fn header_path(letter: char, key: &Key, side: Side<'_>) -> Vec<u8> {
    if matches!(side, Side::Absent) {
        return b"/dev/null".to_vec();
    }
    let path = key.to_path();
    let is_plain = |byte: &u8| !byte.is_ascii_control() && *byte != b'"' && *byte != b'\\';
    let mut header = Vec::with_capacity(path.len() + 4);
    if path.iter().all(is_plain) {
        header.extend_from_slice(format!("{letter}/").as_bytes());
        header.extend_from_slice(&path);
        // What follows a tab is no part of the name, which may have spaces.
        if path.contains(&b' ') {
            header.push(b'\t');
        }
        return header;
    }
    header.extend_from_slice(format!("\"{letter}/").as_bytes());
    for byte in path {
        match byte {
            b'"' | b'\\' => header.extend_from_slice(&[b'\\', byte]),
            _ if is_plain(&byte) => header.push(byte),
            _ => header.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
        }
    }
    header.push(b'"');
    header
}

fn text(fetcher: &Fetcher, key: &Key, side: Side<'_>) -> Result<Text> {
    let bytes = match side {
        Side::Absent => Vec::new(),
        Side::Stored(entry) if entry.metadata.size > TEXT_BYTES_MAX => return Ok(Text::TooLarge),
        Side::Stored(entry) => {
            stored(fetcher, entry).map_err(|error| error.context(format_args!("{key}")))?
        }
        Side::Live(path) => {
            let in_path = |error| Error::io(format!("read {}", path.display()), error);
            if path.symlink_metadata().map_err(in_path)?.len() > TEXT_BYTES_MAX {
                return Ok(Text::TooLarge);
            }
            std::fs::read(path).map_err(in_path)?
        }
    };
    let start = &bytes[..bytes.len().min(LOOKED_AT_BYTES)];
    Ok(if start.contains(&0) {
        Text::Binary
    } else {
        Text::Lines(bytes)
    })
}

/// A file's bytes, no more than `TEXT_BYTES_MAX` of them.
fn stored(fetcher: &Fetcher, entry: &Entry) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match &entry.content {
        Content::Nothing => {}
        Content::Inline(inline) => bytes.extend_from_slice(inline),
        Content::Extents(extents) => append(fetcher, extents, &mut bytes)?,
        Content::Lists(lists) => {
            for list in lists {
                let encoded = fetcher.extent_list(&list.chunk)?;
                append(fetcher, &decode_extents(&encoded, list.span)?, &mut bytes)?;
            }
        }
    }
    if bytes.len() as u64 == entry.metadata.size {
        return Ok(bytes);
    }
    Err(Error::corrupt(
        "its content",
        format_args!("it covers {} bytes of {}", bytes.len(), entry.metadata.size),
    ))
}

fn append(fetcher: &Fetcher, extents: &[Extent], bytes: &mut Vec<u8>) -> Result<()> {
    for extent in extents {
        let length = bytes.len() as u64 + extent.length();
        if length > TEXT_BYTES_MAX {
            return Err(Error::corrupt("its content", "it is longer than the file"));
        }
        match extent {
            Extent::Chunk(place) => bytes.extend_from_slice(&fetcher.chunk(place)?),
            Extent::Hole(_) | Extent::Zeros(_) => bytes.resize(length as usize, 0),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_paths_as_patch_takes_them() {
        let entry = |path: &[u8]| {
            header_path(
                'a',
                &Key::from_path(path).unwrap(),
                Side::Live(Path::new("/")),
            )
        };
        assert_eq!(entry(b"etc/motd"), b"a/etc/motd");
        assert_eq!(entry(b"my letter"), b"a/my letter\t");
        assert_eq!(entry(b"caf\xe9"), b"a/caf\xe9");
        assert_eq!(entry(b"two\nlines \"x\""), b"\"a/two\\012lines \\\"x\\\"\"");
        let key = Key::from_path(b"x").unwrap();
        assert_eq!(header_path('b', &key, Side::Absent), b"/dev/null");
    }
}
