//! What may be kept of an object, by the folder that it lies in.

use crate::format::{
    CATALOGUE_PREFIX, CONFIG_NAME, INDEX_PREFIX, PACKS_PREFIX, POINTS_PREFIX, RUNS_PREFIX,
};

/// Where passwords' keys lie, which come and go in the ordinary course of things.
pub(super) const KEYS_PREFIX: &str = "keys/";

/// Folders whose listings are kept for when the store does not answer.
const LISTED_PREFIXES: [&str; 5] = [
    POINTS_PREFIX,
    INDEX_PREFIX,
    CATALOGUE_PREFIX,
    KEYS_PREFIX,
    "forgotten/",
];

/// How an object is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It never changes: what is kept is as good as what the store has. Leaves last.
    Metadata,
    /// Likewise, and leaves first.
    Data,
    /// It may change: the store is asked, and what is kept serves while it does not answer.
    Changing,
    /// Of what a running backup or prune says of itself only the newest counts.
    Unkept,
}

/// How an object of this name is kept.
pub(super) fn kind_of(name: &str) -> Kind {
    let is_in = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if name.starts_with(PACKS_PREFIX) {
        Kind::Data
    } else if is_in(&[POINTS_PREFIX, INDEX_PREFIX, RUNS_PREFIX, CATALOGUE_PREFIX]) {
        Kind::Metadata
    } else if name == CONFIG_NAME || is_in(&[KEYS_PREFIX]) {
        Kind::Changing
    } else {
        Kind::Unkept
    }
}

/// Is the listing of this folder kept?
pub(super) fn is_listing_kept(prefix: &str) -> bool {
    LISTED_PREFIXES.contains(&prefix)
}

impl Kind {
    /// Does it stay what it is?
    pub(super) fn is_lasting(self) -> bool {
        matches!(self, Self::Metadata | Self::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_told_from_what_does_not() {
        for (name, kind) in [
            ("config", Kind::Changing),
            ("keys/ab", Kind::Changing),
            ("points/2026-11-23T03-17-19Z-1f3a9c2e", Kind::Metadata),
            ("catalogue/x", Kind::Metadata),
            ("packs/ab/abcd", Kind::Data),
            ("leases/a", Kind::Unkept),
            ("trash/a", Kind::Unkept),
        ] {
            assert_eq!(kind_of(name), kind, "{name}");
        }
        assert!(is_listing_kept("points/") && !is_listing_kept("packs/") && !is_listing_kept(""));
    }
}
