//! What a store needs to know beside its location: options, credentials and rates.
//!
//! Invariant: values are shown to nobody, since some are secret; a log, an error and `{:?}` have names only.

use std::collections::BTreeMap;
use std::fmt;

use super::{Patience, Rates};

/// Options by their names, in lower case, as the store's kind knows them.
#[derive(Clone, Default)]
pub struct Settings {
    values: BTreeMap<String, String>,
    /// How fast bytes may move.
    pub rates: Rates,
    /// How long to go on where a store does not answer.
    pub patience: Patience,
}

impl Settings {
    /// Sets an option, in the place of what it was before.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.values.insert(name.to_ascii_lowercase(), value.into());
    }

    /// Sets an option that is not set yet.
    pub fn set_default(&mut self, name: &str, value: impl Into<String>) {
        self.values
            .entry(name.to_ascii_lowercase())
            .or_insert_with(|| value.into());
    }

    /// An option's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Takes an option out.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        self.values.remove(name)
    }

    /// All options that are left.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("names", &self.values.keys())
            .field("rates", &self.rates)
            .field("patience", &self.patience)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_never_shown() {
        let mut settings = Settings::default();
        settings.set("SECRET_ACCESS_KEY", "hidden");
        settings.set_default("secret_access_key", "other");
        assert_eq!(settings.get("secret_access_key"), Some("hidden"));
        let shown = format!("{settings:?}");
        assert!(shown.contains("secret_access_key") && !shown.contains("hidden"));
    }
}
