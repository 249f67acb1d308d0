//! Names that a mistyped one may have meant.

use strsim::damerau_levenshtein;

/// How many are told at most.
const NEAR_MAX: usize = 3;

/// Of `known`, those that are near `name`, nearest first: a third of its letters may be wrong, and one may always be.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let far = (name.chars().count() / 3).max(1);
    let mut near: Vec<_> = known
        .map(|known| (damerau_levenshtein(name, known), known))
        .filter(|(distance, known)| {
            *distance <= far || (!name.is_empty() && known.starts_with(name))
        })
        .collect();
    near.sort_unstable();
    near.truncate(NEAR_MAX);
    near.into_iter().map(|(_, known)| known).collect()
}

/// Names as a message lists them.
pub(super) fn listed(names: &[&str]) -> String {
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_differ_by_few_letters_or_go_on() {
        let known = ["exclude", "exclude_from", "paths", "labels"];
        let near = |name| nearest(name, known.iter().copied());
        assert_eq!(near("exlude"), ["exclude"]);
        assert_eq!(near("path"), ["paths"]);
        assert_eq!(near("exclude_"), ["exclude", "exclude_from"]);
        assert_eq!(near("colour"), [""; 0]);
        assert_eq!(near(""), [""; 0]);
    }
}
