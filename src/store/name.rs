//! What every store asks of names, prefixes and ranges, so that what one store takes no other refuses.

use std::ops::Range;

use crate::base::{Error, ErrorKind, Result};

use super::WHOLE_BYTES_MAX;

/// The longest name of an object: object stores take 1,024 bytes with their prefix, file systems 255 a component.
const NAME_BYTES_MAX: usize = 255;

/// Fails unless `name` is relative, of components that need no quoting in a path, a URL or a shell.
pub(super) fn check_name(name: &str) -> Result<()> {
    if name.len() <= NAME_BYTES_MAX && name.split('/').all(is_component) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Usage,
        format!("{name:?} cannot be the name of an object"),
    ))
}

/// Fails unless `prefix` is empty or a name with a slash after it, and `from` is empty or begins with it.
pub(super) fn check_listing(prefix: &str, from: &str) -> Result<()> {
    if let Some(folder) = prefix.strip_suffix('/') {
        check_name(folder)?;
    } else if !prefix.is_empty() {
        return Err(Error::new(
            ErrorKind::Usage,
            format!("{prefix:?} cannot be listed: it lacks the slash at its end"),
        ));
    }
    if from.is_empty() || from.starts_with(prefix) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Usage,
        format!("{prefix:?} cannot be listed from {from:?}, which does not begin with it"),
    ))
}

/// The length of `range`, which must have a byte at least: no store answers an empty range as others do.
pub(super) fn range_length(name: &str, range: &Range<u64>) -> Result<usize> {
    range
        .end
        .checked_sub(range.start)
        .filter(|length| *length > 0)
        .and_then(|length| usize::try_from(length).ok())
        .ok_or_else(|| {
            Error::new(
                ErrorKind::Usage,
                format!("{name} has no bytes {} to {}", range.start, range.end),
            )
        })
}

/// What a range that leaves its object is.
pub(super) fn range_error(name: &str, range: &Range<u64>, length: u64) -> Error {
    Error::corrupt(
        name,
        format!(
            "it has {length} bytes, and bytes {} to {} were expected",
            range.start, range.end
        ),
    )
}

/// Fails if an object of `length` bytes is not one to be fetched whole.
pub(super) fn check_whole(name: &str, length: u64) -> Result<()> {
    if length <= WHOLE_BYTES_MAX {
        return Ok(());
    }
    Err(Error::corrupt(
        name,
        format!("it has {length} bytes, and at most {WHOLE_BYTES_MAX} were expected"),
    ))
}

fn is_component(component: &str) -> bool {
    !component.is_empty()
        && !component.starts_with('.')
        && component
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_need_quoting_or_leave_the_store_are_refused() {
        for name in [
            "config",
            "packs/ab/abcd",
            "points/2026-11-23T03-17-19Z-1f3a9c2e",
        ] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in [
            "", "/", "/config", "a//b", "a/", "../a", "a/..", "a b", "é", ".hidden", "a\\b", "a:b",
        ] {
            assert_eq!(
                check_name(name).unwrap_err().kind(),
                ErrorKind::Usage,
                "{name}"
            );
        }
        assert!(check_name(&"a".repeat(256)).is_err());
    }

    #[test]
    fn a_listing_begins_within_its_prefix() {
        assert!(check_listing("", "").is_ok());
        assert!(check_listing("points/", "points/2026").is_ok());
        assert!(check_listing("points", "").is_err());
        assert!(check_listing("points/", "packs/").is_err());
        assert!(check_listing("../", "").is_err());
    }
}
