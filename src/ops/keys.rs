//! The passwords of an encrypted repository, by the names that a person gives to their keys.

use crate::base::{Error, ErrorKind, KeyId, Result};
use crate::repo::{Repository, keys, remove_key};

/// The key whose id begins with `text`.
///
/// # Errors
/// Usage, if none or several do, or the repository is not encrypted; and those of the store.
pub fn find_key(repository: &Repository, text: &str) -> Result<KeyId> {
    let mut found: Vec<KeyId> = keys(repository)?.into_iter().map(|key| key.id).collect();
    found.retain(|id| id.to_string().starts_with(text));
    let problem = match found.as_slice() {
        [id] if !text.is_empty() => return Ok(*id),
        [] => format!("there is no key {text:?}: `bygone key list` shows them"),
        _ => format!("{text:?} means {} keys: give more of its id", found.len()),
    };
    Err(Error::new(ErrorKind::Usage, problem))
}

/// Takes the key away whose id begins with `text`: its password then opens the repository no more.
///
/// # Errors
/// Usage, if none or several do, or it is the one that the given password opened; and those of the store.
pub fn remove(repository: &Repository, text: &str) -> Result<KeyId> {
    let id = find_key(repository, text)?;
    remove_key(repository, id)?;
    Ok(id)
}
