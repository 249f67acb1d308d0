//! Feature names in the config and in headers: what a reader or a writer has to know before it goes on.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::{Error, ErrorKind, Result};

/// The config's feature of a repository whose pieces are encrypted, so that who knows no encryption says so.
pub(super) const ENCRYPTION: &str = "encryption";

/// The incompatible features that this code knows.
const INCOMPATIBLE_KNOWN: &[&str] = &[ENCRYPTION];

/// The read-only compatible features that this code knows. None exists yet.
const READ_ONLY_COMPATIBLE_KNOWN: &[&str] = &[];

/// Names of features that what carries them makes use of, in three classes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Features {
    /// Whoever does not know these may read and write all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub compatible: Vec<String>,
    /// Whoever does not know one of these may read, and must not write.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read_only_compatible: Vec<String>,
    /// Whoever does not know one of these must not even read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub incompatible: Vec<String>,
}

impl Features {
    /// May this code read what has these features?
    ///
    /// # Errors
    /// Failed, with the names that it does not know.
    pub fn check_readable(&self, what: impl fmt::Display) -> Result<()> {
        check(what, "read", &self.incompatible, INCOMPATIBLE_KNOWN)
    }

    /// May this code write where these features are in use?
    ///
    /// # Errors
    /// Failed, with the names that it does not know.
    pub fn check_writable(&self, what: impl fmt::Display) -> Result<()> {
        check(&what, "write", &self.incompatible, INCOMPATIBLE_KNOWN)?;
        check(
            &what,
            "write",
            &self.read_only_compatible,
            READ_ONLY_COMPATIBLE_KNOWN,
        )
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

fn check(what: impl fmt::Display, verb: &str, names: &[String], known: &[&str]) -> Result<()> {
    let unknown: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| !known.contains(name))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Failed,
        format!(
            "{what} has features that this program cannot {verb}: {}; use a newer one",
            unknown.join(", ").escape_debug()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_feature_stops_whom_its_class_says() {
        let names = || vec!["glitter".to_string()];
        let compatible = Features {
            compatible: names(),
            ..Features::default()
        };
        assert!(compatible.check_readable("it").is_ok() && compatible.check_writable("it").is_ok());
        let read_only = Features {
            read_only_compatible: names(),
            ..Features::default()
        };
        assert!(read_only.check_readable("it").is_ok() && read_only.check_writable("it").is_err());
        let incompatible = Features {
            incompatible: names(),
            ..Features::default()
        };
        let error = incompatible.check_readable("it").unwrap_err();
        assert!(error.to_string().contains("glitter"));
        assert!(incompatible.check_writable("it").is_err());
    }
}
