//! The walk over real trees in a temporary folder.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType as SystemType, Mode, OFlags, mkdirat, mknodat, openat};
use tempfile::TempDir;

use super::*;
use crate::format::FileType;

/// A folder whose path has no symlink.
struct Folder {
    top: PathBuf,
    _guard: TempDir,
}

impl Folder {
    fn new() -> Self {
        let guard = tempfile::tempdir().unwrap();
        let top = guard.path().canonicalize().unwrap();
        Self { top, _guard: guard }
    }

    /// Makes files that hold their own path, and a directory for what ends in a slash.
    fn with(paths: &[&str]) -> Self {
        let folder = Self::new();
        for path in paths {
            let whole = folder.path(path);
            if path.ends_with('/') {
                fs::create_dir_all(&whole).unwrap();
            } else {
                fs::create_dir_all(whole.parent().unwrap()).unwrap();
                fs::write(&whole, path).unwrap();
            }
        }
        folder
    }

    fn path(&self, below: &str) -> PathBuf {
        self.top.join(below)
    }

    fn sources(&self, below: &[&str]) -> Sources {
        let paths: Vec<_> = below.iter().map(|path| self.path(path)).collect();
        Sources::resolve(&paths, None).unwrap()
    }

    /// A walk over the whole folder.
    fn walk(&self, options: WalkOptions) -> Walk {
        Walk::new(&self.sources(&[""]), options).unwrap()
    }

    /// A walk over the whole folder that looks at nothing before it tells of it.
    fn walk_without_scouts(&self) -> Walk {
        let mut walk = self.walk(options());
        walk.scouts = Scouts::none(options());
        walk
    }

    /// What a walk tells of what is below the folder, one line each.
    fn told(&self, walk: Walk) -> Vec<String> {
        walk.map(|sighting| sighting.unwrap())
            .filter_map(|sighting| self.line(&sighting))
            .collect()
    }

    fn line(&self, sighting: &Sighting) -> Option<String> {
        let below = |key: &Key| {
            let path = PathBuf::from(format!("{key}"));
            let below = path.strip_prefix(&self.top).ok()?.display().to_string();
            (!below.is_empty()).then_some(below)
        };
        Some(match sighting {
            Sighting::Entry(seen) => below(&seen.key)?,
            Sighting::Unreadable { key, .. } => format!("unreadable {}", below(key)?),
            Sighting::Unlisted { key, .. } => format!("unlisted {}", below(key)?),
            Sighting::Excluded { key } => format!("excluded {}", below(key)?),
            Sighting::ExcludedBelow { key } => format!("excluded below {}", below(key)?),
            Sighting::Vanished { key } => format!("vanished {}", below(key)?),
        })
    }

    fn seen(&self, name: &str) -> Seen {
        let wanted = Key::from_path(self.path(name).as_os_str().as_bytes()).unwrap();
        entries(self.walk(options()))
            .into_iter()
            .find(|seen| seen.key == wanted)
            .unwrap()
    }
}

fn options() -> WalkOptions {
    options_with(&[])
}

fn options_with(globs: &[&str]) -> WalkOptions {
    let globs: Vec<_> = globs.iter().map(ToString::to_string).collect();
    WalkOptions {
        excludes: Excludes::new(&globs).unwrap(),
        exclude_caches: false,
        markers: Vec::new(),
        one_file_system: false,
        never: Vec::new(),
    }
}

fn entries(walk: Walk) -> Vec<Seen> {
    walk.filter_map(|sighting| match sighting.unwrap() {
        Sighting::Entry(seen) => Some(seen),
        _ => None,
    })
    .collect()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_tree_comes_in_the_order_of_keys() {
    let folder = Folder::with(&["a/z", "a/b/c", "a-b/a", "b", "a/b.c", "B", "a/empty/"]);
    let told = folder.told(folder.walk(options()));
    assert_eq!(
        told,
        [
            "B", "a", "a-b", "b", "a/b", "a/b.c", "a/empty", "a/z", "a/b/c", "a-b/a"
        ]
    );
    let keys: Vec<_> = entries(folder.walk(options()))
        .into_iter()
        .map(|seen| seen.key)
        .collect();
    assert!(keys.is_sorted_by(|one, next| one < next), "{keys:?}");
}

#[test]
fn what_lies_above_a_source_appears_with_its_own_status_and_nothing_beside_it() {
    let folder = Folder::with(&["above/source/file", "above/beside", "beside/"]);
    fs::set_permissions(folder.path("above"), fs::Permissions::from_mode(0o751)).unwrap();
    let walk = Walk::new(&folder.sources(&["above/source"]), options()).unwrap();
    let seen = entries(walk);
    assert!(seen[0].key.is_root() && seen[0].status.is_directory());
    assert_eq!(seen[0].status.inode, fs::metadata("/").unwrap().ino());
    let names: Vec<_> = seen.iter().map(|seen| seen.key.name()).collect();
    assert_eq!(
        names[names.len() - 3..],
        [&b"above"[..], b"source", b"file"]
    );
    assert_eq!(seen[seen.len() - 3].status.mode, 0o751);
}

#[test]
fn every_type_of_file_is_seen_without_touching_it() {
    let folder = Folder::with(&["regular", "directory/"]);
    symlink("nowhere", folder.path("symlink")).unwrap();
    mknodat(CWD, folder.path("fifo"), SystemType::Fifo, Mode::RUSR, 0).unwrap();
    let _socket = UnixListener::bind(folder.path("socket")).unwrap();
    let mut expected = vec![
        ("directory", FileType::Directory),
        ("fifo", FileType::Fifo),
        ("regular", FileType::Regular),
        ("socket", FileType::Socket),
        ("symlink", FileType::Symlink),
    ];
    let device = rustix::fs::makedev(7, 99);
    let made = is_root()
        && mknodat(
            CWD,
            folder.path("block"),
            SystemType::BlockDevice,
            Mode::RUSR,
            device,
        )
        .is_ok()
        && mknodat(
            CWD,
            folder.path("character"),
            SystemType::CharacterDevice,
            Mode::RUSR,
            device,
        )
        .is_ok();
    if made {
        expected.extend([
            ("block", FileType::BlockDevice),
            ("character", FileType::CharacterDevice),
        ]);
    }
    for (name, file_type) in expected {
        let status = folder.seen(name).status;
        assert_eq!(status.file_type, file_type, "{name}");
        let is_device = name == "block" || name == "character";
        assert_eq!(status.rdev, if is_device { device } else { 0 }, "{name}");
    }
}

#[test]
fn a_status_is_what_stat_says() {
    let folder = Folder::with(&["file"]);
    fs::set_permissions(folder.path("file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(folder.path("file"), folder.path("link")).unwrap();
    let stat = fs::metadata(folder.path("file")).unwrap();
    let status = folder.seen("file").status;
    assert_eq!(status.mode, 0o4751);
    assert_eq!((status.uid, status.gid), (stat.uid(), stat.gid()));
    assert_eq!((status.size, status.blocks), (stat.size(), stat.blocks()));
    assert_eq!(
        (status.links, status.inode, status.device),
        (2, stat.ino(), stat.dev())
    );
    assert_eq!(status.mtime.seconds, stat.mtime());
    assert_eq!(i64::from(status.mtime.nanoseconds), stat.mtime_nsec());
    assert_eq!(status.ctime.seconds, stat.ctime());
    assert_eq!(i64::from(status.ctime.nanoseconds), stat.ctime_nsec());
    assert!(status.btime.is_none_or(|btime| btime <= status.ctime));
}

#[test]
fn names_of_any_bytes_and_of_255_are_seen() {
    let folder = Folder::new();
    let names = [
        vec![b'x'; 255],
        b"\xff\xfe\x01".to_vec(),
        b" a\nb\\*?[".to_vec(),
        "Ж\u{301}".as_bytes().to_vec(),
        b"...".to_vec(),
    ];
    for name in &names {
        File::create(folder.top.join(OsStr::from_bytes(name))).unwrap();
    }
    let mut expected = names.to_vec();
    expected.sort();
    let seen = entries(folder.walk(options()));
    let got: Vec<_> = seen[seen.len() - names.len()..]
        .iter()
        .map(|seen| seen.key.name().to_vec())
        .collect();
    assert_eq!(got, expected);
}

/// Makes directories inside one another, each by the handle of the one above.
fn dig(folder: &Folder, depth: usize, name: &str) {
    let open = |at: &rustix::fd::OwnedFd, name: &str| {
        openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
    };
    let mut at = openat(
        CWD,
        &folder.top,
        OFlags::RDONLY | OFlags::DIRECTORY,
        Mode::empty(),
    )
    .unwrap();
    for level in 0..depth {
        mkdirat(&at, name, Mode::RWXU).unwrap();
        if level % 50 == 0 {
            mkdirat(&at, "zz", Mode::RWXU).unwrap();
            let beside = open(&at, "zz");
            openat(&beside, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
        }
        at = open(&at, name);
    }
    openat(&at, "deepest", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
}

#[test]
fn paths_longer_than_path_max_are_walked_with_few_handles() {
    let folder = Folder::new();
    let depth = 600;
    dig(&folder, depth, "a-directory-of-thirty-bytes-long");
    let mut handles_max = 0;
    let mut longest = 0;
    let mut beside = 0;
    let mut walk = folder.walk(options());
    while let Some(sighting) = walk.next() {
        let Sighting::Entry(seen) = sighting.unwrap() else {
            panic!("something was not seen");
        };
        longest = longest.max(seen.key.to_path().len());
        beside += usize::from(seen.key.name() == b"file");
        handles_max = handles_max.max(
            walk.levels
                .iter()
                .filter(|level| level.handle.is_some())
                .count(),
        );
    }
    assert!(longest > 4 * 4096, "{longest}");
    assert_eq!(beside, depth / 50);
    assert!(handles_max <= HANDLES_MAX + 1, "{handles_max}");
}

#[test]
fn a_directory_moved_while_the_walk_is_deep_below_it_is_not_mistaken_for_another() {
    let folder = Folder::new();
    dig(&folder, HANDLES_MAX + 30, "d");
    let walk = folder.walk(options());
    let mut told = Vec::new();
    let mut is_moved = false;
    for sighting in walk {
        let sighting = sighting.unwrap();
        if let Sighting::Entry(seen) = &sighting
            && seen.key.name() == b"deepest"
        {
            // The seventh from the top, whose handle is closed by now, goes elsewhere.
            let middle = folder.path(&["d"; 7].join("/"));
            fs::create_dir(folder.path("elsewhere")).unwrap();
            fs::rename(middle, folder.path("elsewhere/d")).unwrap();
            is_moved = true;
        }
        told.push(sighting);
    }
    assert!(is_moved);
    let files = told
        .iter()
        .filter(|sighting| matches!(sighting, Sighting::Entry(seen) if seen.key.name() == b"file"))
        .count();
    let unlisted = told
        .iter()
        .filter(|sighting| matches!(sighting, Sighting::Unlisted { .. }))
        .count();
    assert_eq!(
        files + unlisted,
        4,
        "each directory beside is listed or told of"
    );
    assert!(unlisted >= 1);
}

#[test]
fn a_directory_swapped_for_a_symlink_after_it_was_seen_is_not_followed() {
    let folder = Folder::with(&["inside/kept", "outside/secret"]);
    let walk = Walk::new(&folder.sources(&["inside"]), options()).unwrap();
    let mut told = Vec::new();
    for sighting in walk {
        let sighting = sighting.unwrap();
        told.extend(folder.line(&sighting));
        if told.last().is_some_and(|line| line == "inside") {
            fs::rename(folder.path("inside"), folder.path("moved")).unwrap();
            symlink("outside", folder.path("inside")).unwrap();
        }
    }
    assert_eq!(told, ["inside", "unlisted inside"]);
}

#[test]
fn a_directory_swapped_for_another_one_is_not_listed() {
    let folder = Folder::with(&["in/file", "other/secret"]);
    let walk = Walk::new(&folder.sources(&["in"]), options()).unwrap();
    let mut told = Vec::new();
    for sighting in walk {
        told.extend(folder.line(&sighting.unwrap()));
        if told.last().is_some_and(|line| line == "in") {
            fs::rename(folder.path("in"), folder.path("moved")).unwrap();
            fs::rename(folder.path("other"), folder.path("in")).unwrap();
        }
    }
    assert_eq!(told, ["in", "unlisted in"]);
}

#[test]
fn a_symlink_to_a_directory_is_a_symlink() {
    let folder = Folder::with(&["outside/secret", "inside/"]);
    symlink("../outside", folder.path("inside/link")).unwrap();
    let walk = Walk::new(&folder.sources(&["inside"]), options()).unwrap();
    assert_eq!(folder.told(walk), ["inside", "inside/link"]);
}

#[test]
fn a_file_that_vanishes_between_listing_and_looking_is_told() {
    let folder = Folder::with(&["a", "b", "c"]);
    let walk = folder.walk_without_scouts();
    let mut told = Vec::new();
    for sighting in walk {
        told.extend(folder.line(&sighting.unwrap()));
        if told.last().is_some_and(|line| line == "a") {
            fs::remove_file(folder.path("b")).unwrap();
        }
    }
    assert_eq!(told, ["a", "vanished b", "c"]);
}

#[test]
fn a_directory_that_vanishes_before_it_is_listed_is_told() {
    let folder = Folder::with(&["a/", "b"]);
    let walk = folder.walk_without_scouts();
    let mut told = Vec::new();
    for sighting in walk {
        told.extend(folder.line(&sighting.unwrap()));
        if told.last().is_some_and(|line| line == "b") {
            fs::remove_dir(folder.path("a")).unwrap();
        }
    }
    assert_eq!(told, ["a", "b", "unlisted a"]);
}

#[test]
fn a_source_that_does_not_exist_is_unreadable_and_others_go_on() {
    let folder = Folder::with(&["there/file"]);
    let walk = Walk::new(&folder.sources(&["missing/deep", "there"]), options()).unwrap();
    assert_eq!(
        folder.told(walk),
        ["unreadable missing", "there", "there/file"]
    );
}

#[test]
fn one_file_can_be_a_source() {
    let folder = Folder::with(&["folder/one", "folder/two"]);
    let walk = Walk::new(&folder.sources(&["folder/one"]), options()).unwrap();
    assert_eq!(folder.told(walk), ["folder", "folder/one"]);
}

#[test]
fn several_sources_are_one_tree() {
    let folder = Folder::with(&["b/x", "a/y/z", "c/no", "a/no"]);
    let walk = Walk::new(&folder.sources(&["b", "a/y"]), options()).unwrap();
    assert_eq!(folder.told(walk), ["a", "b", "a/y", "a/y/z", "b/x"]);
}

#[test]
fn a_source_within_another_is_seen_once() {
    let folder = Folder::with(&["a/b/c", "a/d"]);
    let walk = Walk::new(&folder.sources(&["a", "a/b"]), options()).unwrap();
    assert_eq!(folder.told(walk), ["a", "a/b", "a/d", "a/b/c"]);
}

#[test]
fn globs_leave_out_files_and_whole_directories() {
    let folder = Folder::with(&[
        "keep.c",
        "drop.o",
        "build/x",
        "deep/build/y",
        "deep/z.o",
        "deep/keep",
    ]);
    let told = folder.told(folder.walk(options_with(&["*.o", "build/"])));
    assert_eq!(
        told,
        [
            "excluded build",
            "deep",
            "excluded drop.o",
            "keep.c",
            "excluded deep/build",
            "deep/keep",
            "excluded deep/z.o"
        ]
    );
}

#[test]
fn globs_are_relative_to_each_source() {
    let folder = Folder::with(&["a/top", "a/deep/top", "b/top"]);
    let walk = Walk::new(&folder.sources(&["a", "b"]), options_with(&["/top"])).unwrap();
    assert_eq!(
        folder.told(walk),
        [
            "a",
            "b",
            "a/deep",
            "excluded a/top",
            "a/deep/top",
            "excluded b/top"
        ]
    );
}

#[test]
fn a_later_glob_takes_back_an_earlier_one() {
    let folder = Folder::with(&["a.log", "keep.log"]);
    let told = folder.told(folder.walk(options_with(&["*.log", "!keep.log"])));
    assert_eq!(told, ["excluded a.log", "keep.log"]);
}

#[test]
fn what_is_named_is_seen_even_where_a_glob_matches_it() {
    let folder = Folder::with(&["a/cache/wanted/x", "a/cache/other", "a/y"]);
    let sources = folder.sources(&["a", "a/cache/wanted"]);
    let walk = Walk::new(&sources, options_with(&["cache", "wanted"])).unwrap();
    let told = folder.told(walk);
    assert_eq!(
        told,
        ["a", "a/cache", "a/y", "a/cache/wanted", "a/cache/wanted/x"]
    );
}

#[test]
fn marked_caches_keep_their_tag_only() {
    let folder = Folder::with(&[
        "cache/data",
        "cache/deep/x",
        "like/data",
        "like/CACHEDIR.TAG",
    ]);
    let tag = b"Signature: 8a477f597d28d172789f06886806bc55\n# a comment";
    fs::write(folder.path("cache/CACHEDIR.TAG"), tag).unwrap();
    let mut options = options();
    options.exclude_caches = true;
    assert_eq!(
        folder.told(folder.walk(options)),
        [
            "cache",
            "like",
            "excluded below cache",
            "cache/CACHEDIR.TAG",
            "like/CACHEDIR.TAG",
            "like/data"
        ]
    );
}

#[test]
fn a_cache_is_walked_unless_caches_are_excluded_or_it_is_named() {
    let folder = Folder::with(&["cache/data"]);
    fs::write(
        folder.path("cache/CACHEDIR.TAG"),
        crate::archive::excludes::CACHE_TAG_SIGNATURE,
    )
    .unwrap();
    let everything = ["cache", "cache/CACHEDIR.TAG", "cache/data"];
    assert_eq!(folder.told(folder.walk(options())), everything);
    let mut excluding = options();
    excluding.exclude_caches = true;
    let walk = Walk::new(&folder.sources(&["cache"]), excluding).unwrap();
    assert_eq!(folder.told(walk), everything);
}

#[test]
fn what_lies_beside_a_marker_is_left_out_unless_it_is_named() {
    let folder = Folder::with(&[
        "kept/data",
        "left/.nobackup",
        "left/data",
        "left/named/data",
    ]);
    let mut options = options();
    options.markers = vec![b".nobackup".to_vec()];
    let told = folder.told(folder.walk(options.clone()));
    assert_eq!(
        told,
        [
            "kept",
            "left",
            "kept/data",
            "excluded below left",
            "left/.nobackup"
        ]
    );
    let walk = Walk::new(&folder.sources(&["left/named"]), options.clone()).unwrap();
    assert_eq!(folder.told(walk), ["left", "left/named", "left/named/data"]);
    let walk = Walk::new(&folder.sources(&["left"]), options).unwrap();
    let everything = folder.told(walk);
    assert!(
        everything.contains(&"left/data".to_string()),
        "{everything:?}"
    );
}

#[test]
fn a_cache_tag_that_is_a_fifo_does_not_block() {
    let folder = Folder::with(&["cache/data"]);
    let tag = folder.path("cache/CACHEDIR.TAG");
    mknodat(CWD, tag, SystemType::Fifo, Mode::RUSR, 0).unwrap();
    let mut options = options();
    options.exclude_caches = true;
    let told = folder.told(folder.walk(options));
    assert_eq!(told, ["cache", "cache/CACHEDIR.TAG", "cache/data"]);
}

#[test]
fn the_repository_itself_is_left_out() {
    let folder = Folder::with(&["repository/config", "file"]);
    let mut options = options();
    let identity = Status::of(CWD, folder.path("repository").as_os_str().as_bytes())
        .unwrap()
        .identity();
    options.never.push(identity);
    assert_eq!(
        folder.told(folder.walk(options)),
        ["file", "excluded repository"]
    );
}

#[test]
fn pseudo_file_systems_are_left_out_unless_named() {
    let has_proc = |sources: &[&str]| {
        let sources =
            Sources::resolve(&sources.iter().map(PathBuf::from).collect::<Vec<_>>(), None).unwrap();
        let mut hidden = false;
        for sighting in
            Walk::new(&sources, options_with(&["/*", "!/proc", "/[0-9]*", "/sys"])).unwrap()
        {
            match sighting.unwrap() {
                Sighting::ExcludedBelow { key } if key.to_path() == b"proc" => hidden = true,
                Sighting::Entry(seen) if seen.key.to_path() == b"proc/version" => {
                    return (hidden, true);
                }
                _ => {}
            }
        }
        (hidden, false)
    };
    assert_eq!(has_proc(&["/"]), (true, false));
    assert_eq!(has_proc(&["/proc/version"]), (false, true));
}

#[test]
fn a_mount_is_a_border_where_one_file_system_is_wanted() {
    // /dev/shm is a tmpfs of its own on every system that has it.
    let device = |path: &str| fs::metadata(path).map(|stat| stat.dev()).ok();
    let (Some(outer), Some(inner)) = (device("/dev"), device("/dev/shm")) else {
        return;
    };
    if outer == inner {
        return;
    }
    let below = |one_file_system| {
        let mut options = options_with(&["/*", "!/shm"]);
        options.one_file_system = one_file_system;
        let sources = Sources::resolve(&[PathBuf::from("/dev")], None).unwrap();
        Walk::new(&sources, options)
            .unwrap()
            .map(|sighting| sighting.unwrap())
            .any(|sighting| matches!(sighting, Sighting::ExcludedBelow { key } if key.to_path() == b"dev/shm"))
    };
    assert!(below(true));
    assert!(!below(false));
}

#[test]
fn a_source_may_be_recorded_as_another_path_whose_parents_need_not_exist() {
    let folder = Folder::with(&["snapshot/file", "snapshot/deep/x"]);
    let sources =
        Sources::resolve(&[folder.path("snapshot")], Some(Path::new("/no-such/data"))).unwrap();
    let seen = entries(Walk::new(&sources, options()).unwrap());
    let paths: Vec<_> = seen.iter().map(|seen| seen.key.to_string()).collect();
    assert_eq!(
        paths,
        [
            "/",
            "/no-such",
            "/no-such/data",
            "/no-such/data/deep",
            "/no-such/data/file",
            "/no-such/data/deep/x"
        ]
    );
    let snapshot = fs::metadata(folder.path("snapshot")).unwrap();
    assert_eq!(seen[2].status.inode, snapshot.ino());
    assert!(seen[1].status.is_directory());
}

#[test]
fn a_source_may_be_recorded_as_the_root() {
    let folder = Folder::with(&["snapshot/file"]);
    let sources = Sources::resolve(&[folder.path("snapshot")], Some(Path::new("/"))).unwrap();
    let seen = entries(Walk::new(&sources, options()).unwrap());
    let paths: Vec<_> = seen.iter().map(|seen| seen.key.to_string()).collect();
    assert_eq!(paths, ["/", "/file"]);
    assert_eq!(
        seen[0].status.inode,
        fs::metadata(folder.path("snapshot")).unwrap().ino()
    );
}

#[test]
fn a_large_directory_is_sorted() {
    let folder = Folder::new();
    for number in 0..10_000 {
        File::create(folder.path(&format!("{:x}", number * 7919 % 10_007))).unwrap();
    }
    let seen = entries(folder.walk(options()));
    assert!(seen.is_sorted_by(|one, next| one.key < next.key));
    assert!(seen.len() >= 10_000);
}

#[test]
fn places_open_what_was_seen_and_neither_fifos_nor_symlinks_block_or_lead_away() {
    let folder = Folder::with(&["file"]);
    symlink("file", folder.path("link")).unwrap();
    mknodat(CWD, folder.path("fifo"), SystemType::Fifo, Mode::RUSR, 0).unwrap();
    assert!(folder.seen("file").place.open(OFlags::empty()).is_ok());
    assert_eq!(
        folder.seen("link").place.open(OFlags::empty()).unwrap_err(),
        Errno::LOOP
    );
    // It opens at once though nobody writes.
    assert!(folder.seen("fifo").place.open(OFlags::empty()).is_ok());
}

#[test]
fn an_unreadable_directory_is_told_and_all_else_goes_on() {
    if is_root() {
        // Root reads everything; `tests/kept.rs` has this case with another user.
        return;
    }
    let folder = Folder::with(&["closed/file", "open/file"]);
    fs::set_permissions(folder.path("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    let told = folder.told(folder.walk(options()));
    fs::set_permissions(folder.path("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(told, ["closed", "open", "unlisted closed", "open/file"]);
}
