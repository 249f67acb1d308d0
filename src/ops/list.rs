//! Lists what lies in a directory of a point, or all below it.

use crate::base::{Error, ErrorKind, Key, Result};
use crate::format::{FileType, Section};
use crate::manifest::{Chain, Found};

/// Gives the entries at `path` to `emit`, in order of keys: a directory's children, or all below it where `recursive`
/// says so; anything else by itself.
///
/// # Errors
/// Usage, if nothing is at `path`; whatever `emit` fails with; and those of reading the chain.
pub fn list(
    chain: &Chain,
    path: &Key,
    recursive: bool,
    emit: &mut dyn FnMut(&Found) -> Result<()>,
) -> Result<()> {
    let Some(root) = chain.lookup(path)? else {
        return Err(absent(chain, path)?);
    };
    if root.entry.metadata.file_type != FileType::Directory {
        return emit(&root);
    }
    if recursive {
        return chain
            .entries(path)
            .filter(|found| !found.as_ref().is_ok_and(|found| found.key == *path))
            .try_for_each(|found| emit(&found?));
    }
    children(chain, path, emit)
}

/// Nothing is at `path`: says down to where there is something.
fn absent(chain: &Chain, path: &Key) -> Result<Error> {
    let mut above = path.parent();
    while let Some(key) = above {
        if chain.lookup(&key)?.is_some() {
            return Ok(Error::new(
                ErrorKind::Usage,
                format!("the point has no {path}; what it has in {key}, `bygone ls` lists"),
            ));
        }
        above = key.parent();
    }
    let message = format!("the point has no {path}");
    Ok(Error::new(ErrorKind::Usage, message))
}

/// The children of both sections, merged: each is in order, and no name is in both.
fn children(chain: &Chain, path: &Key, emit: &mut dyn FnMut(&Found) -> Result<()>) -> Result<()> {
    let mut directories = chain.children(path, Section::Directories, None).peekable();
    let mut files = chain.children(path, Section::Files, None).peekable();
    loop {
        let next = match (directories.peek(), files.peek()) {
            (None, None) => return Ok(()),
            (Some(Ok(directory)), Some(Ok(file))) if directory.key > file.key => files.next(),
            (Some(_), _) => directories.next(),
            (None, Some(_)) => files.next(),
        };
        if let Some(found) = next {
            emit(&found?)?;
        }
    }
}
