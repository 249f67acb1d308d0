//! Directories: listed with all below them, made and synced.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::temporaries::writer_of;
use super::{DIRECTORY_MODE, TEMPORARY_FOLDER};

/// What file systems put into their topmost directory by themselves.
const LOST_AND_FOUND: &str = "lost+found";

/// The names of all files below `root` that begin with `prefix`, in no order. What cannot be the name of an object is
/// listed as well, as far as text can tell it: a place with such files is not empty.
///
/// # Errors
/// As the system says.
pub(super) fn file_names(root: &Path, prefix: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut folders = vec![prefix.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(root.join(&folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if is_hidden(&folder, &name) {
                continue;
            }
            let mut kind = entry.file_type()?;
            if kind.is_symlink() {
                // Whoever runs out of room may move a folder to another disk.
                match fs::metadata(entry.path()) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    metadata => kind = metadata?.file_type(),
                }
            }
            match kind.is_dir() {
                true => folders.push(format!("{folder}{name}/")),
                false => names.push(format!("{folder}{name}")),
            }
        }
    }
    Ok(names)
}

/// Is it something that lies in the store's directory and is no object?
fn is_hidden(folder: &str, name: &str) -> bool {
    match folder.strip_suffix('/') {
        None => name == LOST_AND_FOUND,
        Some(folder) => folder == TEMPORARY_FOLDER && writer_of(name).is_some(),
    }
}

/// Makes `folder` and those above it, below `root`, durably.
pub(super) fn make_directories(root: &Path, folder: &Path) -> io::Result<()> {
    if folder == root {
        return Ok(());
    }
    let above = folder.parent().unwrap_or(root);
    match fs::DirBuilder::new().mode(DIRECTORY_MODE).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_directories(root, above)?;
            make_directories(root, folder)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result.and_then(|()| sync_directory(above)),
    }
}

/// Waits until the disk has a directory's names. A file system that cannot do this has nothing to wait for.
pub(super) fn sync_directory(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        result => result,
    }
}
