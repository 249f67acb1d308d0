//! Mounts of chains whose runs were merged on the way: nothing that is unchanged becomes another file by it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::machine::{Machine, Mount, path_text, within};
use crate::shown::{noise, opened_by, write};
use crate::snapshot::{Snapshot, assert_same, snapshot};

/// Points that are made: a full and so many incrementals, of which the backups merge runs several times.
const POINTS: usize = 14;

/// A source that is changed a little before each point, and what it was then.
struct Points {
    machine: Machine,
    source: PathBuf,
    made: Vec<(String, Snapshot)>,
}

impl Points {
    fn new() -> Self {
        let machine = Machine::new();
        let source = machine.path("source");
        for folder in ["a", "a/b", "c", "still"] {
            for number in 0..20 {
                let path = source.join(folder).join(format!("{number}"));
                write(&path, &noise(number, 300 + 40 * number as usize));
            }
        }
        fs::hard_link(source.join("a/3"), source.join("still/link")).unwrap();
        Self {
            machine,
            source,
            made: Vec::new(),
        }
    }

    fn advance(&mut self) {
        let number = self.made.len();
        if number > 0 {
            write(&self.source.join("a/b/7"), &noise(number as u64, 5000));
            write(&self.source.join(format!("c/new {number}")), b"new");
            let gone = self.source.join(format!("c/new {}", number - 1));
            if number > 1 {
                fs::remove_file(gone).unwrap();
            }
        }
        let point = self.machine.back_up("--incremental");
        self.made.push((point, snapshot(&self.source)));
    }

    /// Waits until a mount shows the newest point.
    fn appear(&self, mount: &Mount) {
        let newest = self.shown(mount, self.made.len() - 1);
        let appears = within(Duration::from_secs(10), || newest.exists());
        assert!(appears, "{} is not there", newest.display());
    }

    /// How many runs the newest point stands on.
    fn runs(&self) -> usize {
        let (newest, _) = self.made.last().unwrap();
        let told = self.machine.done(&["show", "--json", newest]);
        let point: serde_json::Value = serde_json::from_str(&told).unwrap();
        point["runs"].as_array().unwrap().len()
    }

    fn inode(&self, mount: &Mount, point: usize, name: &str) -> u64 {
        let path = self.shown(mount, point).join(name);
        fs::symlink_metadata(path).unwrap().ino()
    }

    fn shown(&self, mount: &Mount, point: usize) -> PathBuf {
        mount.source(&self.made[point].0, &self.source)
    }
}

/// What is unchanged since the first point: files, directories, links.
const UNCHANGED: [&str; 6] = ["a/3", "a/b/8", "c/19", "still/link", "still/0", "still"];

#[test]
fn what_is_unchanged_across_merges_is_one_inode_and_a_diff_opens_only_what_differs() {
    let mut points = Points::new();
    points.advance();
    // This one is mounted before anything is merged, and its files are asked about.
    let mount = points.machine.mount("mnt", &[]);
    let first: Vec<u64> = UNCHANGED.map(|name| points.inode(&mount, 0, name)).to_vec();
    for _ in 1..POINTS {
        points.advance();
    }
    assert!(points.runs() <= 5, "{}", points.runs());
    let last = POINTS - 1;
    points.appear(&mount);
    let mounts = [mount, points.machine.mount("later", &[])];
    for mount in &mounts {
        for point in [0, 3, 4, 5, 8, 9, last] {
            let (id, seen) = &points.made[point];
            assert_same(id, seen, &snapshot(&points.shown(mount, point)), |_| ());
            let inodes = UNCHANGED.map(|name| points.inode(mount, point, name));
            assert_eq!(inodes.to_vec(), first, "{id}");
        }
        // A change re-records what is above it.
        for name in ["a/b/7", "a/b", "a", "c"] {
            let [one, other] = [0, last].map(|point| points.inode(mount, point, name));
            assert_ne!(one, other, "{name}");
        }
    }
    let [mount, _] = mounts;
    let (a, b) = (points.shown(&mount, 0), points.shown(&mount, last));
    let changed: BTreeSet<PathBuf> = [a.join("a/b/7"), b.join("a/b/7")].into();
    assert_eq!(opened(&points, &mount, &a, &b), changed);
    // Between the points on both sides of a merge as well.
    for point in 1..POINTS {
        let (a, b) = (points.shown(&mount, point - 1), points.shown(&mount, point));
        let changed: BTreeSet<PathBuf> = [a.join("a/b/7"), b.join("a/b/7")].into();
        assert_eq!(opened(&points, &mount, &a, &b), changed, "{point}");
    }
}

fn opened(points: &Points, mount: &Mount, a: &Path, b: &Path) -> BTreeSet<PathBuf> {
    let log = points.machine.path("strace");
    opened_by(
        &log,
        &mount.place,
        &["diff", "-r", path_text(a), path_text(b)],
    )
}

#[test]
fn a_file_read_before_a_merge_is_in_the_page_cache_after_it() {
    let mut points = Points::new();
    let big = noise(77, 2 << 20);
    write(&points.source.join("still/big"), &big);
    points.advance();
    let mount = points.machine.mount("mnt", &[]);
    let path = |points: &Points, point| points.shown(&mount, point).join("still/big");
    assert!(fs::read(path(&points, 0)).unwrap() == big);
    for _ in 1..POINTS {
        points.advance();
    }
    points.appear(&mount);
    let [before, after] =
        [0, POINTS - 1].map(|point| fs::File::open(path(&points, point)).unwrap());
    // Others on this machine may have emptied the page cache meanwhile.
    if resident_pages(&before, big.len()) < big.len() / 4096 {
        assert!(fs::read(path(&points, 0)).unwrap() == big);
    }
    // The kernel may have let go of some; a file that it had not met has none.
    let resident = resident_pages(&after, big.len());
    assert!(resident > big.len() / 4096 / 2, "{resident} pages");
    assert!(fs::read(path(&points, POINTS - 1)).unwrap() == big);
    // The merged chain alone has it too, by the same content.
    let alone = ["--point", &points.made[POINTS - 1].0];
    let one = points.machine.mount("one", &alone);
    let below = points.source.strip_prefix("/").unwrap();
    assert!(fs::read(one.path(below).join("still/big")).unwrap() == big);
    let (id, seen) = &points.made[POINTS - 1];
    assert_same(id, seen, &snapshot(&one.path(below)), |_| ());
}

/// How many pages of a file the kernel has, without reading it.
fn resident_pages(file: &fs::File, length: usize) -> usize {
    use std::os::fd::AsRawFd;
    let mut resident = vec![0_u8; length.div_ceil(4096)];
    // SAFETY: a new mapping of a file that is open, only asked about and then given back, and room for its pages.
    unsafe {
        let descriptor = file.as_raw_fd();
        let place = libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ,
            libc::MAP_SHARED,
            descriptor,
            0,
        );
        assert_ne!(place, libc::MAP_FAILED);
        assert_eq!(libc::mincore(place, length, resident.as_mut_ptr()), 0);
        assert_eq!(libc::munmap(place, length), 0);
    }
    resident.iter().filter(|page| **page & 1 == 1).count()
}
