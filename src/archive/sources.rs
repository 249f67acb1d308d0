//! What is to be backed up: the named sources, merged into one tree of the paths that the point records.

use std::collections::{BTreeMap, HashSet};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::{Error, ErrorKind, Key, Result};

/// The sources of a backup.
#[derive(Debug, Clone)]
pub struct Sources {
    named: Vec<Named>,
    root: Arc<Node>,
    elsewhere: bool,
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Named {
    /// Where it lies: absolute, of no "." or "..", and no component but the last is a symlink.
    pub live: PathBuf,
    /// What the point records it as; absolute.
    pub recorded: PathBuf,
}

/// A recorded path that is a source, lies above one, or both.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// What lies below it and is a source or above one.
    pub children: BTreeMap<Vec<u8>, Arc<Node>>,
    /// The source's number.
    pub source: Option<usize>,
    /// Where the source lies, if not at its recorded path.
    pub live: Option<PathBuf>,
}

impl Sources {
    /// The sources at `paths`, which are absolute; recorded at `recorded_as` instead of their own path, if given.
    /// Symlinks above a source are resolved; a path that ends in a slash means what a symlink there points to.
    ///
    /// # Errors
    /// Usage: no path, one that is not absolute or cannot be a recorded one, or several for one `recorded_as`.
    pub fn resolve(paths: &[PathBuf], recorded_as: Option<&Path>) -> Result<Self> {
        if paths.is_empty() {
            return Err(usage("there is nothing to back up: name at least one path"));
        }
        if recorded_as.is_some() && paths.len() > 1 {
            return Err(usage("only one path can be recorded as another one"));
        }
        let mut named = Vec::new();
        let mut known = HashSet::new();
        for path in paths {
            let live = resolve(path)?;
            let recorded = match recorded_as {
                Some(other) if other.is_absolute() => lexical(other)?,
                Some(other) => {
                    return Err(usage(format!(
                        "{} is not an absolute path",
                        other.display()
                    )));
                }
                None => live.clone(),
            };
            let one = Named { live, recorded };
            // There may be as many as a list has lines.
            if known.insert(one.clone()) {
                named.push(one);
            }
        }
        let mut root = Node::default();
        for (number, source) in named.iter().enumerate() {
            root.add(source, number)?;
        }
        Ok(Self {
            named,
            root: Arc::new(root),
            elsewhere: recorded_as.is_some(),
        })
    }

    /// No place at all, but a stream that is recorded as `path`.
    pub fn of_stream(path: &Path) -> Self {
        Self {
            named: vec![Named {
                live: path.to_owned(),
                recorded: path.to_owned(),
            }],
            root: Arc::default(),
            elsewhere: false,
        }
    }

    /// The sources, without repetitions.
    pub fn named(&self) -> &[Named] {
        &self.named
    }

    /// The recorded root.
    pub fn root(&self) -> &Arc<Node> {
        &self.root
    }

    /// Do sources lie below this recorded path, and it in none of them?
    pub fn lie_below(&self, key: &Key) -> bool {
        let mut node = &self.root;
        for name in key.components() {
            match (node.source, node.children.get(name)) {
                (None, Some(child)) => node = child,
                _ => return false,
            }
        }
        node.source.is_none()
    }

    /// Are the sources recorded elsewhere than they lie? Then what lies above them may not exist.
    pub fn are_elsewhere(&self) -> bool {
        self.elsewhere
    }
}

impl Node {
    fn add(&mut self, source: &Named, number: usize) -> Result<()> {
        let key = Key::from_path(source.recorded.as_os_str().as_bytes())?;
        let mut node = self;
        for name in key.components() {
            node = Arc::make_mut(node.children.entry(name.to_vec()).or_default());
        }
        node.source = Some(number);
        node.live = (source.live != source.recorded).then(|| source.live.clone());
        Ok(())
    }
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, message)
}

/// `path` without symlinks above its last component (or at it, where a slash follows).
fn resolve(path: &Path) -> Result<PathBuf> {
    if !path.is_absolute() {
        return Err(usage(format!("{} is not an absolute path", path.display())));
    }
    let bytes = path.as_os_str().as_bytes();
    let ends_in_name =
        !bytes.ends_with(b"/") && !bytes.ends_with(b"/.") && !bytes.ends_with(b"/..");
    let whole = path.canonicalize();
    if !ends_in_name && let Ok(whole) = whole {
        return Ok(whole);
    }
    match (path.parent(), path.file_name()) {
        (Some(above), Some(name)) => match above.canonicalize() {
            Ok(above) => Ok(above.join(name)),
            // It does not exist, or is longer than PATH_MAX: the walk will tell.
            Err(_) => lexical(path),
        },
        _ => lexical(path),
    }
}

/// `path` without "." and doubled slashes.
fn lexical(path: &Path) -> Result<PathBuf> {
    let key = Key::from_path(path.as_os_str().as_bytes())?;
    let mut absolute = vec![b'/'];
    absolute.extend_from_slice(&key.to_path());
    Ok(PathBuf::from(std::ffi::OsString::from_vec(absolute)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(paths: &[&str], recorded_as: Option<&str>) -> Result<Sources> {
        let paths: Vec<_> = paths.iter().map(PathBuf::from).collect();
        Sources::resolve(&paths, recorded_as.map(Path::new))
    }

    #[test]
    fn sources_become_one_tree_with_what_lies_above_them() {
        let sources = resolved(&["/no/such/b", "/no/such/a/", "/no/such/b"], None).unwrap();
        assert_eq!(sources.named().len(), 2);
        let such = &sources.root().children[&b"no"[..]].children[&b"such"[..]];
        assert_eq!(such.source, None);
        assert_eq!(such.children[&b"b"[..]].source, Some(0));
        assert_eq!(such.children[&b"a"[..]].source, Some(1));
    }

    #[test]
    fn symlinks_above_a_source_are_resolved_and_the_source_itself_only_with_a_slash() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("real/below")).unwrap();
        std::os::unix::fs::symlink("real", top.join("link")).unwrap();
        let live = |path: &str| {
            let sources = Sources::resolve(&[PathBuf::from(path)], None).unwrap();
            sources.named()[0].live.clone()
        };
        let link = format!("{}/link", top.display());
        assert_eq!(live(&link), top.join("link"));
        assert_eq!(live(&format!("{link}/")), top.join("real"));
        assert_eq!(live(&format!("{link}/below")), top.join("real/below"));
        assert_eq!(live(&format!("{link}/below/..")), top.join("real"));
    }

    #[test]
    fn one_source_may_be_recorded_as_another_path() {
        let sources = resolved(&["/no/snapshot"], Some("/home//user/")).unwrap();
        assert_eq!(sources.named()[0].recorded, Path::new("/home/user"));
        let user = &sources.root().children[&b"home"[..]].children[&b"user"[..]];
        assert_eq!(user.live.as_deref(), Some(Path::new("/no/snapshot")));
    }

    #[test]
    fn what_names_no_source_is_refused() {
        assert!(resolved(&[], None).is_err());
        assert!(resolved(&["relative"], None).is_err());
        assert!(resolved(&["/a", "/b"], Some("/c")).is_err());
        assert!(resolved(&["/a"], Some("c")).is_err());
        assert!(resolved(&["/no/../such"], None).is_err());
    }
}
