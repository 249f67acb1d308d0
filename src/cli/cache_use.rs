//! Whether and how a command uses the disk cache.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use etcetera::BaseStrategy;

use super::arguments::parse_size;
use crate::base::{Error, ErrorKind, Result};
use crate::cache::{CacheOptions, CachedStore};
use crate::store::Store;

/// Where the disk cache is, and how large.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct CacheArguments {
    /// The folder of the disk cache, and keep what is read of a local repository, too; ~/.cache/bygone by default
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    pub cache_dir: Option<PathBuf>,

    /// How much of the disk each repository's cache may take, 0 for none; by default 10 GiB or a tenth of what is free
    #[arg(long, global = true, value_name = "SIZE", value_parser = parse_size, help_heading = "Global options")]
    pub cache_size: Option<u64>,
}

/// The cache of one run of a command.
pub(super) struct CacheUse {
    arguments: CacheArguments,
    is_bypassed: Mutex<bool>,
    opened: Mutex<Option<Arc<CachedStore>>>,
}

impl CacheUse {
    /// As the arguments say.
    pub(super) fn new(arguments: &CacheArguments) -> Self {
        Self {
            arguments: arguments.clone(),
            is_bypassed: Mutex::new(false),
            opened: Mutex::new(None),
        }
    }

    /// The folder below which each repository has one of its own: `$XDG_CACHE_HOME/bygone` or `~/.cache/bygone`, unless
    /// another one is named. It need not be there.
    ///
    /// # Errors
    /// Usage, if the one named is no place; failed, if there is no home directory.
    pub(super) fn directory(&self) -> Result<PathBuf> {
        if let Some(named) = &self.arguments.cache_dir {
            return std::path::absolute(named)
                .map_err(|error| Error::io(format!("use {}", named.display()), error));
        }
        let base = etcetera::base_strategy::Xdg::new().map_err(|error| {
            Error::new(
                ErrorKind::Failed,
                format!("cannot tell where the cache is: {error}; set HOME, or give --cache-dir"),
            )
        })?;
        Ok(base.cache_dir().join("bygone"))
    }

    /// From now on stores are opened without a cache.
    pub(super) fn bypass(&self) {
        *self
            .is_bypassed
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// `store` behind its cache, if it is to have one: a distant store has one unless it is refused, a local one if
    /// somebody named the place.
    ///
    /// # Errors
    /// Denied, full or failed, if there can be no cache at the place that was named. Without a name, a command goes on
    /// without a cache.
    pub(super) fn behind(&self, store: Arc<dyn Store>) -> Result<Arc<dyn Store>> {
        let is_named = self.arguments.cache_dir.is_some();
        let is_bypassed = *self
            .is_bypassed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let is_wanted = (store.is_distant() || is_named) && self.arguments.cache_size != Some(0);
        if is_bypassed || !is_wanted {
            return Ok(store);
        }
        let opened = self.directory().and_then(|directory| {
            let options = CacheOptions {
                directory,
                bytes_max: self.arguments.cache_size,
            };
            CachedStore::open(Arc::clone(&store), &options)
        });
        match opened {
            Ok(cached) => {
                let cached = Arc::new(cached);
                let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
                *opened = Some(Arc::clone(&cached));
                Ok(cached)
            }
            Err(error) if is_named => Err(error),
            Err(error) => {
                log::warn!("{error}; what is read is not kept on this machine");
                Ok(store)
            }
        }
    }

    /// The cache of the store that was opened last.
    ///
    /// # Errors
    /// Usage, if it has none.
    pub(super) fn opened(&self) -> Result<Arc<CachedStore>> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.clone().ok_or_else(|| {
            Error::new(
                ErrorKind::Usage,
                "this repository has no cache: a local one has one with --cache-dir, a distant one unless --cache-size is 0",
            )
        })
    }
}
