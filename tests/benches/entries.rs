//! From a path to an entry: merging the runs of a chain, looking names up, listing directories.

use bygone::base::{Key, PointId};
use bygone::fetch::Fetcher;
use bygone::format::{Content, FileType, Record, RunReference};
use bygone::manifest::{Chain, RunWriter};
use bygone::repo::{Repository, read_point};
use bygone::tree::{NodeId, Tree, TreeOptions};
use divan::Bencher;
use divan::counter::ItemsCount;

use crate::written::{Written, entry};

const DIRECTORIES: usize = 100;
const FILES_EACH: usize = 200;

/// Each run above the full one has every so many-th file anew.
const CHANGED_EVERY: usize = 100;

/// Room for all that is read here.
const CACHE_BYTES: u64 = 64 << 20;

fn directory_name(directory: usize) -> Vec<u8> {
    format!("directory {directory:03}").into_bytes()
}

fn file_name(file: usize) -> Vec<u8> {
    format!("file {file:03}").into_bytes()
}

/// A run of the files for which `has` says so, and of the directories that have any.
fn write_run(written: &Written, has: impl Fn(usize) -> bool) -> RunReference {
    let mut run = RunWriter::create(&written.repository, true).unwrap();
    let mut append = |key: &Key, file_type: FileType| {
        let content = match file_type {
            FileType::Directory => Content::Nothing,
            _ => Content::Inline(vec![7; 20]),
        };
        let size = match file_type {
            FileType::Directory => 0,
            _ => 20,
        };
        let record = Record::Entry(Box::new(entry(file_type, size, content)));
        run.append(key, file_type.section(), &record).unwrap();
    };
    let root = Key::root();
    append(&root, FileType::Directory);
    let directories: Vec<Key> = (0..DIRECTORIES)
        .map(|directory| root.child(&directory_name(directory)).unwrap())
        .collect();
    for directory in &directories {
        append(directory, FileType::Directory);
    }
    for (number, directory) in directories.iter().enumerate() {
        for file in (0..FILES_EACH).filter(|file| has(number * FILES_EACH + file)) {
            append(
                &directory.child(&file_name(file)).unwrap(),
                FileType::Regular,
            );
        }
    }
    run.finish().unwrap()
}

/// A point that stands on so many runs.
fn point(written: &Written, runs: usize) -> PointId {
    let full = write_run(written, |_| true);
    let changes =
        (1..runs).map(|run| write_run(written, |file| (file + run * 7) % CHANGED_EVERY == 0));
    let mut newest_first: Vec<RunReference> = changes.collect();
    newest_first.push(full);
    written.commit(newest_first, "host")
}

fn chain(runs: usize) -> Chain {
    let written = Written::new();
    let id = point(&written, runs);
    let repository = Repository::open(written.memory.clone()).unwrap();
    let fetcher = Fetcher::new(repository, CACHE_BYTES);
    let point = read_point(fetcher.repository(), id).unwrap();
    Chain::open(&fetcher, &point).unwrap()
}

fn tree(runs: usize) -> Tree {
    let written = Written::new();
    let options = TreeOptions {
        point: Some(point(&written, runs)),
        ..TreeOptions::default()
    };
    written.tree(options)
}

/// All entries of a chain in order, from memory.
#[divan::bench(args = [1, 8, 24])]
fn merge(bencher: Bencher, runs: usize) {
    let chain = chain(runs);
    bencher
        .counter(ItemsCount::new(DIRECTORIES * FILES_EACH))
        .bench_local(|| {
            chain
                .entries(&Key::root())
                .map(|found| found.map(|_| 1).unwrap())
                .sum::<usize>()
        });
}

/// One name in a chain, another each time, that is there or is not.
#[divan::bench(args = [(1, true), (24, true), (24, false)])]
fn lookup(bencher: Bencher, (runs, is_there): (usize, bool)) {
    let tree = tree(runs);
    let directories: Vec<NodeId> = (0..DIRECTORIES)
        .map(|directory| {
            let found = tree.lookup(NodeId::ROOT, &directory_name(directory));
            found.unwrap().unwrap().node
        })
        .collect();
    let names: Vec<Vec<u8>> = (0..FILES_EACH)
        .map(|file| match is_there {
            true => file_name(file),
            false => [&file_name(file)[..], b" not"].concat(),
        })
        .collect();
    let mut number = 0;
    bencher.bench_local(|| {
        number += 1;
        let directory = directories[number * 31 % DIRECTORIES];
        let found = tree.lookup(directory, &names[number * 7 % FILES_EACH]);
        assert_eq!(found.unwrap().is_some(), is_there);
    });
}

/// A directory with all attributes, as `ls -l` and `find` ask for it.
#[divan::bench(args = [1, 24])]
fn list(bencher: Bencher, runs: usize) {
    let tree = tree(runs);
    let found = tree.lookup(NodeId::ROOT, &directory_name(50)).unwrap();
    let directory = found.unwrap().node;
    bencher
        .counter(ItemsCount::new(FILES_EACH))
        .bench_local(|| {
            let mut count = 0;
            tree.list(directory, 0, &mut |_| {
                count += 1;
                true
            })
            .unwrap();
            assert_eq!(count, FILES_EACH);
        });
}
