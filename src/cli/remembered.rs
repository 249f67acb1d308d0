//! What this client remembers of the repositories that it has used, in its state directory: a file for each place.

use std::path::{Path, PathBuf};

use super::output::Output;
use crate::base::{Error, Result};
use crate::repo::{Closed, Memory, Repository};

/// The memory of one place, and where it is kept.
pub(super) struct Remembered {
    /// None where there is no place for state, as on a rescue system.
    path: Option<PathBuf>,
    memory: Option<Memory>,
}

impl Remembered {
    /// What is remembered of the place `location`, in the state directory `state`. What cannot be read is told of, and
    /// then nothing is remembered.
    pub(super) fn recall(location: &str, state: Result<PathBuf>, output: &Output) -> Self {
        let path = state.and_then(|state| path_of(location, &state));
        let memory = path.as_ref().map_or(Ok(None), |path| Memory::load(path));
        Self {
            memory: memory.unwrap_or_else(|error| {
                let message = format!("what was remembered of {location} is lost: {error}");
                output.warning(None, &message);
                None
            }),
            path: path
                .inspect_err(|error| log::debug!("nothing is remembered: {error}"))
                .ok(),
        }
    }

    /// What is known of the place.
    pub(super) fn memory(&self) -> Option<&Memory> {
        self.memory.as_ref()
    }

    /// Is the repository the one that is remembered? Warns if it is another one.
    ///
    /// # Errors
    /// Corrupt, if it was encrypted and is not any more.
    pub(super) fn check(&self, closed: &Closed, output: &Output) -> Result<()> {
        let Some(memory) = &self.memory else {
            return Ok(());
        };
        let warning = memory.check(closed).map_err(|error| match &self.path {
            Some(path) => Error::new(
                error.kind(),
                format!(
                    "{error}; if that is as it should be, remove {}",
                    path.display()
                ),
            ),
            None => error,
        })?;
        if let Some(warning) = warning {
            output.warning(None, &warning.to_string());
        }
        Ok(())
    }

    /// Remembers what was seen of the repository, and warns of what should not be. Returns what is remembered now.
    pub(super) fn learn(&mut self, repository: &Repository, output: &Output) {
        let (learned, warnings) = Memory::learn(self.memory.as_ref(), repository);
        for warning in warnings {
            output.warning(None, &warning.to_string());
        }
        if self.memory.as_ref() == Some(&learned) {
            return;
        }
        if let Some(path) = &self.path
            && let Err(error) = learned.save(path)
        {
            output.warning(None, &format!("what was seen is not remembered: {error}"));
        }
        self.memory = Some(learned);
    }
}

/// The file of a place. Its name is a hash, since a place's own may be long and have any characters.
fn path_of(location: &str, state: &Path) -> Result<PathBuf> {
    let folder = state.join("repositories");
    std::fs::create_dir_all(&folder)
        .map_err(|error| Error::io(format!("make {}", folder.display()), error))?;
    // A folder has one name from here on, wherever it was named from.
    let place = std::fs::canonicalize(location)
        .map_or_else(|_| location.into(), |path| path.into_os_string());
    let hash = blake3::hash(place.as_encoded_bytes()).to_hex();
    Ok(folder.join(format!("{}.json", &hash[..32])))
}
