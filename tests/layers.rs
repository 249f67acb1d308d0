//! The rules of the code's shape, held against every source file: layers import downward only and by name, files
//! are short, modules say what they are for, and the code map is in the order of the layers.

use std::fs;
use std::path::{Path, PathBuf};

/// The floors of the building, each importing only from those before it.
const LAYERS: [&str; 14] = [
    "base", "store", "seal", "chunk", "format", "cache", "repo", "fetch", "manifest", "tree",
    "archive", "ops", "fuse", "cli",
];

/// Lines of a file before its tests.
const CODE_LINES_MAX: usize = 500;

/// One source file, as the rules see it.
struct Source {
    /// Below `src`.
    path: PathBuf,
    text: String,
}

impl Source {
    /// The folder that it lies in; None for `lib.rs` and `main.rs`.
    fn layer(&self) -> Option<&str> {
        let mut components = self.path.components();
        let first = components.next()?.as_os_str().to_str()?;
        components.next().map(|_| first)
    }

    /// All lines with their numbers, comments blanked.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| {
            let is_comment = line.trim_start().starts_with("//");
            (index + 1, if is_comment { "" } else { line })
        })
    }

    /// How many lines come before the module of tests.
    fn code_lines(&self) -> usize {
        let is_test = |part: std::path::Component<'_>| {
            part.as_os_str() == "tests" || part.as_os_str() == "tests.rs"
        };
        if self.path.components().any(is_test) {
            return 0;
        }
        let lines: Vec<&str> = self.text.lines().collect();
        lines
            .windows(2)
            .position(|pair| pair[0] == "#[cfg(test)]" && is_module(pair[1]))
            .unwrap_or(lines.len())
    }

    /// How many modules it lies below the crate: `base/key.rs` two, `base/mod.rs` one.
    fn depth(&self) -> usize {
        let is_mod = self.path.file_name().is_some_and(|name| name == "mod.rs");
        self.path.components().count() - usize::from(is_mod)
    }

    fn complaint(&self, line: usize, problem: impl std::fmt::Display) -> String {
        format!("src/{}:{line}: {problem}", self.path.display())
    }
}

/// Does a module begin in this line?
fn is_module(line: &str) -> bool {
    line.starts_with("mod ") || (line.starts_with("pub(") && line.contains(") mod "))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    collect(&root().join("src"), &mut sources);
    assert!(sources.len() > 20, "the sources were not found");
    sources
}

fn collect(folder: &Path, sources: &mut Vec<Source>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(Source {
                text: fs::read_to_string(&path).unwrap(),
                path: path.strip_prefix(root().join("src")).unwrap().to_owned(),
            });
        }
    }
}

/// Holds every file against `rule`, which gives what is wrong, and fails with all of it at once.
fn assert_rule(rule: impl Fn(&Source) -> Vec<String>) {
    let complaints: Vec<String> = sources().iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

fn floor(layer: &str) -> usize {
    LAYERS
        .iter()
        .position(|known| *known == layer)
        .unwrap_or_else(|| panic!("{layer} is no layer"))
}

/// The first components of all `crate::` paths in a line.
fn crate_paths(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("crate::").map(|(start, prefix)| {
        let rest = &line[start + prefix.len()..];
        let end = rest
            .find(|character: char| !character.is_alphanumeric() && character != '_')
            .unwrap_or(rest.len());
        &rest[..end]
    })
}

/// How many `super::` stand in a row at the most.
fn supers(line: &str) -> usize {
    let mut longest = 0;
    let mut rest = line;
    while let Some(start) = rest.find("super::") {
        rest = &rest[start..];
        let mut count = 0;
        while let Some(after) = rest.strip_prefix("super::") {
            count += 1;
            rest = after;
        }
        longest = longest.max(count);
    }
    longest
}

#[test]
fn layers_import_downward_only() {
    assert_rule(|source| {
        let Some(layer) = source.layer() else {
            return Vec::new();
        };
        let mut complaints = Vec::new();
        for (number, line) in source.lines() {
            for imported in crate_paths(line) {
                if imported.is_empty() {
                    complaints.push(source.complaint(number, "name the layer: crate::LAYER::..."));
                } else if floor(imported) > floor(layer) {
                    complaints
                        .push(source.complaint(number, format!("{layer} is below {imported}")));
                }
            }
        }
        complaints
    });
}

#[test]
fn relative_imports_stay_within_their_layer() {
    assert_rule(|source| {
        let tests_start = source.code_lines();
        source
            .lines()
            // A module of tests is one deeper.
            .filter(|(number, line)| {
                supers(line) >= source.depth() + usize::from(*number > tests_start)
            })
            .map(|(number, _)| {
                source.complaint(number, "super leaves the layer: write crate::LAYER::...")
            })
            .collect()
    });
}

#[test]
fn nothing_is_imported_by_glob() {
    assert_rule(|source| {
        let tests_start = source.code_lines();
        source
            .lines()
            .filter(|(number, line)| {
                let line = line.trim().trim_start_matches("pub ");
                let is_test_idiom = *number > tests_start && !line.contains("crate::");
                (line.starts_with("use ") || line.starts_with("pub("))
                    && line.ends_with("::*;")
                    && !is_test_idiom
            })
            .map(|(number, _)| source.complaint(number, "import by name"))
            .collect()
    });
}

#[test]
fn files_are_short() {
    assert_rule(|source| {
        let lines = source.code_lines();
        if lines > CODE_LINES_MAX {
            vec![source.complaint(
                lines,
                format!("over {CODE_LINES_MAX} lines of code: split it"),
            )]
        } else {
            Vec::new()
        }
    });
    let main = fs::read_to_string(root().join("src/main.rs")).unwrap();
    assert!(main.lines().count() < 30, "main parses, runs and exits");
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    assert_rule(|source| {
        if source.text.starts_with("//! ") || source.code_lines() == 0 {
            Vec::new()
        } else {
            vec![source.complaint(1, "begin with a module comment")]
        }
    });
}

#[test]
fn nothing_is_left_half_done_or_waved_through() {
    // Written apart, so that the rule does not find itself.
    let never = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("#[al", "low"),
        concat!("#![al", "low"),
        concat!("db", "g!("),
    ];
    assert_rule(|source| {
        let tests_start = source.code_lines();
        let mut complaints = Vec::new();
        for (number, line) in source.lines() {
            complaints.extend(
                never
                    .iter()
                    .filter(|word| line.contains(*word))
                    .map(|word| source.complaint(number, format!("no {word}"))),
            );
            if number <= tests_start && line.contains(".unwrap()") {
                complaints.push(source.complaint(number, "no unwrap outside tests"));
            }
        }
        complaints
    });
}

#[test]
fn names_of_modules_say_what_they_are_for() {
    assert_rule(|source| {
        let vague = ["util", "utils", "misc", "common", "helpers"];
        let is_vague = source
            .path
            .with_extension("")
            .components()
            .any(|component| vague.iter().any(|word| component.as_os_str() == *word));
        if is_vague {
            vec![source.complaint(1, "a vague name")]
        } else {
            Vec::new()
        }
    });
}

#[test]
fn folders_are_the_layers_and_the_code_map_names_them_in_order() {
    let mut folders: Vec<String> = fs::read_dir(root().join("src"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    folders.sort_by_key(|folder| floor(folder));
    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let mapped: Vec<&str> = map
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    assert_eq!(mapped, folders);
}

#[test]
fn the_rules_see_what_they_are_meant_to_see() {
    let source = Source {
        path: "base/key.rs".into(),
        text: "//! x\nuse crate::cli::Context;\n// crate::ops\n#[cfg(test)]\nmod tests {\n}\n"
            .into(),
    };
    assert_eq!(source.layer(), Some("base"));
    assert_eq!((source.code_lines(), source.depth()), (3, 2));
    let paths: Vec<&str> = source
        .lines()
        .flat_map(|(_, line)| crate_paths(line))
        .collect();
    assert_eq!(paths, ["cli"]);
    assert_eq!(supers("use super::super::a; super::b"), 2);
}
