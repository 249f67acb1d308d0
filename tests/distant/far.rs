//! A repository that is far away, and mounts of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bygone::base::PointId;
use bygone::cache::{CacheOptions, CachedStore};
use bygone::fetch::Fetcher;
use bygone::fuse::{MountOptions, MountedTree, prepare, source_name};
use bygone::repo::{InitOptions, Repository};
use bygone::store::{LocalStore, Store};
use bygone::tree::{Numbers, Tree, TreeOptions};

use crate::backups::{back_up_with, options};
use crate::distant::{Distant, Traffic};

/// The line of the table.
pub const DELAY: Duration = Duration::from_millis(40);
pub const BYTES_PER_SECOND: u64 = 20_000_000;

/// What a mount keeps in memory, unless told otherwise.
pub const CACHE_BYTES: u64 = 64 << 20;

/// A source, and a local repository with a point of it.
pub struct Place {
    folder: tempfile::TempDir,
    pub point: PointId,
}

/// A mount of it.
pub struct Mount {
    mounted: Option<MountedTree>,
    place: PathBuf,
    source: PathBuf,
}

/// A mount of it from far away.
pub struct Far {
    pub line: Arc<Distant>,
    mount: Mount,
}

impl Place {
    /// A place whose source `fill` has filled, backed up.
    pub fn new(fill: impl FnOnce(&Path)) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test mounts: run it as root"
        );
        let folder = tempfile::Builder::new()
            .prefix("bygone-test-")
            .tempdir()
            .unwrap();
        let source = folder.path().join("source");
        fs::create_dir(&source).unwrap();
        fill(&source);
        fs::create_dir(folder.path().join("repository")).unwrap();
        let store = LocalStore::create(&folder.path().join("repository")).unwrap();
        let repository = Repository::init(Arc::new(store), &InitOptions::default()).unwrap();
        let (report, warnings) = back_up_with(&repository, &options(&[&source]));
        assert_eq!(warnings, Vec::<String>::new());
        Self {
            folder,
            point: report.point.unwrap().id,
        }
    }

    pub fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    /// Mounts the point, cold, over a line as in the table.
    pub fn mount(&self) -> Far {
        self.mount_with(DELAY, CACHE_BYTES, MountOptions::default())
    }

    /// Mounts it over a line of this delay.
    pub fn mount_with(&self, delay: Duration, cache_bytes: u64, options: MountOptions) -> Far {
        let line = Arc::new(self.line(delay));
        let store = Arc::clone(&line) as Arc<dyn Store>;
        Far {
            line,
            mount: self.mount_over(store, cache_bytes, &options),
        }
    }

    /// Mounts it as in the table, with what was read kept on disk, below `folder`.
    pub fn mount_cached(&self, folder: &Path) -> Far {
        self.mount_cached_with(folder, CACHE_BYTES, &MountOptions::default())
    }

    /// The same with so much kept in memory.
    pub fn mount_cached_with(
        &self,
        folder: &Path,
        cache_bytes: u64,
        options: &MountOptions,
    ) -> Far {
        self.mount_cached_over(self.line(DELAY), folder, cache_bytes, options)
    }

    /// The same while the line is cut.
    pub fn mount_cut_off(&self, folder: &Path, options: &MountOptions) -> Far {
        let line = self.line(DELAY);
        line.cut();
        self.mount_cached_over(line, folder, CACHE_BYTES, options)
    }

    fn mount_cached_over(
        &self,
        line: Distant,
        folder: &Path,
        cache_bytes: u64,
        options: &MountOptions,
    ) -> Far {
        let (line, cached) = cached_over(line, folder);
        Far {
            line,
            mount: self.mount_over(Arc::new(cached), cache_bytes, options),
        }
    }

    /// The repository's store behind a line as in the table and a cache below `folder`.
    pub fn cached(&self, folder: &Path) -> (Arc<Distant>, CachedStore) {
        cached_over(self.line(DELAY), folder)
    }

    /// Mounts it where it is.
    pub fn mount_near(&self) -> Mount {
        self.mount_over(
            Arc::new(self.local()),
            CACHE_BYTES,
            &MountOptions::default(),
        )
    }

    fn local(&self) -> LocalStore {
        LocalStore::open(&self.folder.path().join("repository")).unwrap()
    }

    fn line(&self, delay: Duration) -> Distant {
        Distant::new(Arc::new(self.local()), delay, BYTES_PER_SECOND)
    }

    fn mount_over(&self, store: Arc<dyn Store>, cache_bytes: u64, options: &MountOptions) -> Mount {
        let repository = Repository::open(store).unwrap();
        let fetcher = Fetcher::with_timeout(Arc::clone(&repository), cache_bytes, options.timeout);
        let tree_options = TreeOptions {
            point: Some(self.point),
            ..TreeOptions::default()
        };
        let tree = Tree::open(fetcher, Numbers::in_memory().unwrap(), tree_options).unwrap();
        let named = tempfile::Builder::new()
            .prefix("mnt-")
            .tempdir_in(self.folder.path())
            .unwrap()
            .keep();
        let place = prepare(&named, &[], false).unwrap();
        let source = source_name(repository.id(), Some(self.point));
        let mounted = MountedTree::mount(tree, &place, &source, options).unwrap();
        Mount {
            mounted: Some(mounted),
            source: place.join(self.source().strip_prefix("/").unwrap()),
            place,
        }
    }
}

impl Mount {
    /// Where the source's files are shown.
    pub fn path(&self, name: &str) -> PathBuf {
        self.source.join(name)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(self.mounted.take());
        // An empty folder by now; if it is not, it stays for the one that holds it.
        let _left = fs::remove_dir(&self.place);
    }
}

impl Far {
    /// Where the source's files are shown.
    pub fn path(&self, name: &str) -> PathBuf {
        self.mount.path(name)
    }

    /// The source's files.
    pub fn source(&self) -> &Path {
        &self.mount.source
    }

    /// What went over the line since the last call of this.
    pub fn traffic(&self) -> Traffic {
        self.line.take()
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // A line that is cut would keep the threads that end with the mount.
        self.line.mend();
    }
}

/// A store behind `line` and a cache below `folder`.
fn cached_over(line: Distant, folder: &Path) -> (Arc<Distant>, CachedStore) {
    let line = Arc::new(line);
    let cache = CacheOptions {
        directory: folder.to_owned(),
        bytes_max: Some(1 << 30),
    };
    let cached = CachedStore::open(Arc::clone(&line) as Arc<dyn Store>, &cache).unwrap();
    (line, cached)
}
