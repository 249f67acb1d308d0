//! How often the store is asked: cold reads make exactly as few requests as the layout of a repository promises.

#[path = "support/written.rs"]
mod written;

use bygone::base::{Key, PointId};
use bygone::format::{Content, Extent, FileType, Record, Section};
use bygone::manifest::RunWriter;
use bygone::seal::SealedKind;
use bygone::tree::{NodeId, Tree, TreeOptions};

use written::{Written, entry};

/// So many files that their entries fill several dozen blocks.
const DIRECTORIES: usize = 150;
const FILES_EACH: usize = 200;
const DEPTH: usize = 12;
const FILES_IN_FRAME: usize = 50;

/// A point of one run, with a chain of directories above the many.
fn write_point(written: &Written) -> PointId {
    let mut frames = Vec::new();
    for directory in 0..DIRECTORIES {
        for frame in 0..FILES_EACH / FILES_IN_FRAME {
            let file = |number| {
                format!("{directory} {frame} {number} ")
                    .repeat(40 + number)
                    .into_bytes()
            };
            frames.push((0..FILES_IN_FRAME).map(file).collect());
        }
    }
    let mut places = written.pack(SealedKind::Data, &frames).into_iter();
    let mut run = RunWriter::create(&written.repository, false).unwrap();
    let mut append = |key: &Key, file_type: FileType, content| {
        let size = match &content {
            Content::Extents(extents) => extents.iter().map(Extent::length).sum(),
            _ => 0,
        };
        let record = Record::Entry(Box::new(entry(file_type, size, content)));
        run.append(key, file_type.section(), &record).unwrap();
    };
    let mut above = Key::root();
    append(&above, FileType::Directory, Content::Nothing);
    for depth in 0..DEPTH {
        above = above.child(format!("level {depth}").as_bytes()).unwrap();
        append(&above, FileType::Directory, Content::Nothing);
    }
    let directory = |number| {
        above
            .child(format!("directory {number:03}").as_bytes())
            .unwrap()
    };
    for number in 0..DIRECTORIES {
        append(&directory(number), FileType::Directory, Content::Nothing);
    }
    for number in 0..DIRECTORIES {
        for file in 0..FILES_EACH {
            let key = directory(number)
                .child(format!("file {file:03}").as_bytes())
                .unwrap();
            let content = Content::Extents(vec![Extent::Chunk(places.next().unwrap())]);
            append(&key, FileType::Regular, content);
        }
    }
    assert_eq!(
        run.next_row(Section::Files).0,
        (DIRECTORIES * FILES_EACH) as u64
    );
    written.commit(vec![run.finish().unwrap()], "host")
}

fn resolve(tree: &Tree, path: &str) -> Option<NodeId> {
    path.split('/').try_fold(NodeId::ROOT, |node, name| {
        let found = tree.lookup(node, name.as_bytes()).unwrap();
        found.map(|attributes| attributes.node)
    })
}

fn path(directory: usize, file: usize) -> String {
    let above: Vec<String> = (0..DEPTH).map(|depth| format!("level {depth}")).collect();
    format!(
        "{}/directory {directory:03}/file {file:03}",
        above.join("/")
    )
}

fn options(point: PointId) -> TreeOptions {
    TreeOptions {
        point: Some(point),
        ..TreeOptions::default()
    }
}

#[test]
fn a_cold_lookup_at_any_depth_takes_at_most_four_requests_and_a_small_file_one_more() {
    let written = Written::new();
    let point = write_point(&written);
    for (directory, file) in [(0, 0), (75, 120), (149, 199)] {
        let tree = written.tree(options(point));
        written.recording.take();
        let node = resolve(&tree, &path(directory, file)).unwrap();
        let requests = written.recording.take();
        assert!((1..=4).contains(&requests.len()), "{requests:#?}");
        let size = tree.attributes(node).unwrap().size;
        assert_eq!(tree.read(node, 0, 1 << 17).unwrap().len() as u64, size);
        assert_eq!(written.recording.take().len(), 1);
        let neighbour = if file % FILES_IN_FRAME == 0 {
            file + 1
        } else {
            file - 1
        };
        let neighbour = resolve(&tree, &path(directory, neighbour)).unwrap();
        assert!(!tree.read(neighbour, 0, 1 << 17).unwrap().is_empty());
        assert_eq!(written.recording.take(), []);
    }
}

#[test]
fn what_is_not_there_is_no_dearer_than_what_is() {
    let written = Written::new();
    let point = write_point(&written);
    let tree = written.tree(options(point));
    written.recording.take();
    assert_eq!(resolve(&tree, "level 0/level 1/absent"), None);
    assert!(written.recording.take().len() <= 4);
}

#[test]
fn a_directory_is_listed_with_as_few_requests_as_it_has_blocks() {
    let written = Written::new();
    let point = write_point(&written);
    let tree = written.tree(options(point));
    let file = resolve(&tree, &path(80, 0)).unwrap();
    assert!(!file.is_directory());
    let above = path(80, 0);
    let directory = resolve(&tree, above.rsplit_once('/').unwrap().0).unwrap();
    written.recording.take();
    let mut count = 0;
    tree.list(directory, 0, &mut |_| {
        count += 1;
        true
    })
    .unwrap();
    assert_eq!(count, FILES_EACH);
    assert!(written.recording.take().len() <= 2);
}

#[test]
fn the_views_are_listed_without_opening_a_point() {
    let written = Written::new();
    write_point(&written);
    let tree = written.tree(TreeOptions::default());
    written.recording.take();
    let points = resolve(&tree, "points").unwrap();
    let mut count = 0;
    tree.list(points, 0, &mut |_| {
        count += 1;
        true
    })
    .unwrap();
    assert_eq!(count, 1);
    assert_eq!(written.recording.take(), []);
}
