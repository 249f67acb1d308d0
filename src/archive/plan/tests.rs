//! The plan over streams that are made by hand.

use super::*;
use crate::archive::status::{Details, Status};
use crate::base::{Row, RunId, Timestamp};
use crate::format::Content;

/// A file as the walk sees it: `path:version`, a directory with a slash at its end of the path.
fn status(file_type: FileType, version: i64, links: u64, inode: u64) -> Status {
    let time = Timestamp {
        seconds: version,
        nanoseconds: 0,
    };
    Status {
        file_type,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: time,
        ctime: time,
        btime: None,
        size: 10,
        blocks: 8,
        links,
        rdev: 0,
        inode,
        device: 1,
    }
}

fn key(path: &str) -> Key {
    Key::from_path(path.as_bytes()).unwrap()
}

fn type_of(path: &str) -> FileType {
    if path.is_empty() || path.ends_with('/') {
        FileType::Directory
    } else {
        FileType::Regular
    }
}

/// An inode for each name, wherever it lies.
fn inode_of(path: &str) -> u64 {
    path.bytes()
        .fold(7, |inode, byte| inode * 31 % 1_000_003 + u64::from(byte))
}

fn seen(path: &str, version: i64) -> Result<Sighting<()>> {
    linked(path, version, 1, inode_of(path))
}

fn linked(path: &str, version: i64, links: u64, inode: u64) -> Result<Sighting<()>> {
    Ok(Sighting::Entry(Seen {
        key: key(path),
        status: status(type_of(path), version, links, inode),
        place: (),
        repeats: false,
    }))
}

fn origin(row: u64) -> Origin {
    Origin {
        run: RunId([1; 16]),
        row: Row(row),
    }
}

fn known(path: &str, version: i64) -> Found {
    Found {
        key: key(path),
        run: 0,
        row: Row(1),
        origin: origin(1),
        entry: Box::new(Entry {
            metadata: status(type_of(path), version, 1, inode_of(path))
                .with_details(Details::default()),
            origin: None,
            group: None,
            flags: EntryFlags::default(),
            content_hash: None,
            content: Content::Nothing,
            unknown: Vec::new(),
        }),
    }
}

fn with(mut found: Found, change: impl FnOnce(&mut Found)) -> Found {
    change(&mut found);
    found
}

type Streams = (Vec<Result<Sighting<()>>>, Vec<Found>);

fn steps_with(streams: Streams, base: Base<Vec<Found>>, reads_everything: bool) -> Vec<Step<()>> {
    let (sightings, reference) = streams;
    let mut linked_before = LinkedBefore::default();
    reference
        .iter()
        .for_each(|found| linked_before.learn(found));
    let base = match base {
        Base::Nothing => Base::Nothing,
        Base::Reference => Base::Reference,
        Base::Other(entries) => Base::Other(entries.into_iter().map(Ok)),
    };
    let reference = reference.into_iter().map(Ok);
    Plan::new(
        sightings.into_iter(),
        reference,
        base,
        reads_everything,
        linked_before,
    )
    .collect::<Result<Vec<_>>>()
    .unwrap()
}

/// What an incremental does, a line for each step.
fn incremental(sightings: Vec<Result<Sighting<()>>>, reference: Vec<Found>) -> Vec<String> {
    lines(&steps_with((sightings, reference), Base::Reference, false))
}

fn lines(steps: &[Step<()>]) -> Vec<String> {
    steps.iter().map(line).collect()
}

fn line(step: &Step<()>) -> String {
    match step {
        Step::Keep(seen) => format!("keep {}", seen.key),
        Step::Inherit(inherit) if inherit.entry.flags.carried => format!("carry {}", inherit.key),
        Step::Inherit(inherit) if inherit.is_change => format!("update {}", inherit.key),
        Step::Inherit(inherit) => format!("inherit {}", inherit.key),
        Step::Observe(file) => match file.linked {
            Linked::Alone => format!("read {}", file.seen.key),
            Linked::Leads(..) => format!("lead {}", file.seen.key),
            Linked::Follows { is_last, .. } => format!("follow {} {is_last}", file.seen.key),
            Linked::Joins(joined) => format!("join {} {}", file.seen.key, joined.group.row.0),
        },
        Step::Tombstone {
            key,
            section,
            excluded,
            is_change,
        } => {
            let kind = if *section == Section::Directories {
                "directory"
            } else {
                "file"
            };
            let why = if *excluded { "hide" } else { "bury" };
            let change = if *is_change { "" } else { " again" };
            format!("{why} {kind} {key}{change}")
        }
        Step::Forget { key } => format!("forget {key}"),
        Step::Warn {
            key, is_partial, ..
        } => format!("warn {key} {is_partial}"),
    }
}

#[test]
fn what_is_unchanged_is_kept_and_directories_are_inherited() {
    let lines = incremental(
        vec![seen("", 1), seen("a/", 1), seen("b", 1), seen("a/x", 1)],
        vec![known("", 1), known("a/", 1), known("b", 1), known("a/x", 1)],
    );
    assert_eq!(lines, ["inherit /", "inherit /a", "keep /b", "keep /a/x"]);
}

#[test]
fn what_is_new_or_changed_is_read() {
    let lines = incremental(
        vec![seen("", 2), seen("changed", 2), seen("new", 1)],
        vec![known("", 1), known("changed", 1)],
    );
    assert_eq!(lines, ["read /", "read /changed", "read /new"]);
}

#[test]
fn any_of_type_size_times_and_inode_makes_a_version() {
    let differences: [fn(&mut Metadata); 5] = [
        |metadata| metadata.size += 1,
        |metadata| metadata.mtime.nanoseconds = 1,
        |metadata| metadata.ctime.nanoseconds = 1,
        |metadata| metadata.inode += 1,
        |metadata| metadata.file_type = FileType::Symlink,
    ];
    for difference in differences {
        let before = with(known("a", 1), |found| difference(&mut found.entry.metadata));
        assert_eq!(incremental(vec![seen("a", 1)], vec![before]), ["read /a"]);
    }
    let elsewhere = with(known("a", 1), |found| found.entry.metadata.device = 9);
    assert_eq!(
        incremental(vec![seen("a", 1)], vec![elsewhere]),
        ["keep /a"]
    );
}

#[test]
fn blocks_that_moved_alone_make_a_version_of_the_same_content() {
    let before = with(known("a", 1), |found| found.entry.metadata.blocks = 16);
    assert_eq!(incremental(vec![seen("a", 1)], vec![before]), ["update /a"]);
}

#[test]
fn what_is_not_settled_or_changed_while_read_is_read_again() {
    let unsettled = with(known("a", 1), |found| found.entry.flags.unsettled = true);
    assert_eq!(
        incremental(vec![seen("a", 1)], vec![unsettled]),
        ["read /a"]
    );
    let changed = with(known("a", 1), |found| {
        found.entry.flags.changed_while_read = true
    });
    assert_eq!(incremental(vec![seen("a", 1)], vec![changed]), ["read /a"]);
}

#[test]
fn what_is_gone_is_buried_with_all_below_it() {
    let lines = incremental(
        vec![seen("", 1)],
        vec![
            known("", 1),
            known("d/", 1),
            known("d/e/", 1),
            known("d/x", 1),
            known("d/e/y", 1),
        ],
    );
    assert_eq!(
        lines,
        [
            "inherit /",
            "bury directory /d",
            "bury directory /d/e",
            "bury file /d/x",
            "bury file /d/e/y"
        ]
    );
}

#[test]
fn another_type_buries_what_was_in_the_old_section() {
    let lines = incremental(
        vec![seen("a/", 1), seen("b", 1)],
        vec![known("a", 1), known("b/", 1), known("b/x", 1)],
    );
    assert_eq!(
        lines,
        [
            "bury file /a",
            "read /a",
            "bury directory /b",
            "read /b",
            "bury file /b/x"
        ]
    );
}

#[test]
fn what_cannot_be_looked_at_is_carried_with_all_below_it() {
    let unreadable = Ok(Sighting::Unreadable {
        key: key("d"),
        problem: "denied".into(),
    });
    let lines = incremental(
        vec![seen("", 1), unreadable, seen("e", 1)],
        vec![
            known("", 1),
            known("d/", 1),
            known("e", 1),
            known("f", 1),
            known("d/x", 1),
        ],
    );
    assert_eq!(
        lines,
        [
            "inherit /",
            "warn /d true",
            "carry /d",
            "keep /e",
            "bury file /f",
            "carry /d/x"
        ]
    );
}

#[test]
fn what_a_directory_that_cannot_be_listed_had_is_carried() {
    let unlisted = Ok(Sighting::Unlisted {
        key: key("d/e"),
        problem: "denied".into(),
    });
    let lines = incremental(
        vec![
            seen("d/", 1),
            seen("d/e/", 1),
            seen("d/x", 1),
            unlisted,
            seen("d/e/seen", 1),
        ],
        vec![
            known("d/", 1),
            known("d/e/", 1),
            known("d/e/deep/", 1),
            known("d/e/z", 1),
            known("d/e/deep/y", 1),
        ],
    );
    assert_eq!(
        lines,
        [
            "inherit /d",
            "inherit /d/e",
            "read /d/x",
            "warn /d/e true",
            "carry /d/e/deep",
            "read /d/e/seen",
            "carry /d/e/z",
            "carry /d/e/deep/y"
        ]
    );
}

#[test]
fn what_is_left_out_is_hidden_and_not_buried() {
    let excluded = Ok(Sighting::Excluded { key: key("c") });
    let below = Ok(Sighting::ExcludedBelow { key: key("m") });
    let lines = incremental(
        vec![excluded, seen("m/", 1), below, seen("m/tag", 1)],
        vec![
            known("c/", 1),
            known("m/", 1),
            known("c/x", 1),
            known("m/tag", 1),
            known("m/y", 1),
        ],
    );
    assert_eq!(
        lines,
        [
            "hide directory /c",
            "inherit /m",
            "hide file /c/x",
            "keep /m/tag",
            "hide file /m/y"
        ]
    );
}

#[test]
fn what_vanished_is_told_of_and_buried() {
    let vanished = Ok(Sighting::Vanished { key: key("a") });
    assert_eq!(
        incremental(vec![vanished], vec![known("a", 1)]),
        ["warn /a false", "bury file /a"]
    );
}

#[test]
fn a_full_reads_everything_and_records_what_is_carried() {
    let unreadable = Ok(Sighting::Unreadable {
        key: key("b"),
        problem: "denied".into(),
    });
    let streams = (
        vec![seen("", 1), seen("a", 1), unreadable],
        vec![known("", 1), known("a", 1), known("b", 1)],
    );
    let steps = steps_with(streams, Base::Nothing, true);
    assert_eq!(
        lines(&steps),
        ["read /", "read /a", "warn /b true", "carry /b"]
    );
}

#[test]
fn a_differential_compares_with_the_reference_and_records_against_the_base() {
    let moved_on = |path| with(known(path, 2), |found| found.origin = origin(2));
    let reference = vec![moved_on("changed"), known("same", 1), known("since", 1)];
    let base = vec![known("changed", 1), known("gone", 1), known("same", 1)];
    let sightings = vec![seen("changed", 2), seen("same", 1)];
    let steps = steps_with((sightings, reference), Base::Other(base), false);
    assert_eq!(
        lines(&steps),
        [
            "inherit /changed",
            "bury file /gone again",
            "keep /same",
            "forget /since"
        ]
    );
}

#[test]
fn links_of_one_file_are_read_once() {
    let sightings = vec![
        linked("a", 2, 3, 50),
        linked("b", 2, 3, 50),
        linked("c", 2, 3, 50),
    ];
    assert_eq!(
        incremental(sightings, vec![known("a", 1)]),
        ["lead /a", "follow /b false", "follow /c true"]
    );
}

#[test]
fn a_link_that_is_new_joins_the_group_that_its_file_has() {
    let member = |path: &str, row| {
        with(known(path, 1), |found| {
            found.row = Row(row);
            found.origin = origin(row);
            found.entry.group = Some(origin(4));
            found.entry.metadata.links = 2;
            found.entry.metadata.inode = 50;
        })
    };
    let sightings = vec![linked("a", 1, 2, 50), linked("moved", 1, 2, 50)];
    let lines = incremental(sightings, vec![member("a", 4), member("was", 5)]);
    assert_eq!(lines, ["keep /a", "join /moved 4", "bury file /was"]);
}

#[test]
fn an_error_of_any_stream_ends_the_plan_with_it() {
    let failure = || Err(crate::base::Error::missing("a block"));
    let reference = vec![Ok(known("a", 1)), failure()].into_iter();
    let base: Base<std::vec::IntoIter<Result<Found>>> = Base::Reference;
    let sightings = vec![seen("a", 1), seen("b", 1)].into_iter();
    let steps: Vec<_> = Plan::new(sightings, reference, base, false, LinkedBefore::default())
        .take(3)
        .collect();
    assert!(steps.iter().any(Result::is_err));
}
