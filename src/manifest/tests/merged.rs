//! Runs merged into one.

use std::cell::Cell;

use super::*;
use crate::base::{Error, ErrorKind, Origin, Row};
use crate::format::run::{Counts, Owner};

/// What a chain shows, with the origins that make nodes of it.
fn shown(chain: &Chain) -> Vec<(Key, Origin, u64)> {
    all(chain.entries(&Key::root()))
        .unwrap()
        .into_iter()
        .map(|found| (found.key, found.origin, found.entry.metadata.inode))
        .collect()
}

fn tombstones(run: &Run) -> u64 {
    run.counts().file_tombstones + run.counts().directory_tombstones
}

#[test]
fn a_merged_run_leads_from_every_origin_to_its_row_and_names_the_runs_it_holds() {
    let bench = Bench::new();
    let base = bench.run(false, |writer| {
        append_tree(writer, 20, 50);
    });
    let keys = tree_keys(20, 50).1;
    let mut references = vec![base.clone()];
    for change in 0..4_usize {
        let run = bench.run(true, |writer| {
            for (number, key) in keys.iter().enumerate().skip(change).step_by(7) {
                let record = record(file((10_000 * (change + 1) + number) as u64));
                writer.append(key, Section::Files, &record).unwrap();
            }
        });
        references.insert(0, run);
    }
    let before = shown(&bench.chain(&references));
    for count in 2..=references.len() {
        let merged = bench.merge(&references, count);
        let chain = bench.chain(&merged);
        assert_eq!(shown(&chain), before, "{count} merged");
        let mut named: Vec<RunId> = merged[0].origins.clone();
        named.sort();
        let mut sources: Vec<RunId> = references[..count].iter().map(|run| run.id).collect();
        sources.sort();
        assert_eq!(named, sources);
        for (key, origin, _) in &before {
            let Some(found) = chain.lookup_in(Section::Files, key).unwrap() else {
                continue;
            };
            let place = chain.row_of_origin(*origin).unwrap();
            assert_eq!(place, Some((found.run, found.row)), "{key}");
        }
        let first = chain.runs().first().unwrap();
        assert_eq!(first.has_filters(), count < references.len());
        // What nobody sees any more is gone.
        let files: u64 = chain.runs().iter().map(|run| run.counts().files).sum();
        assert!(files <= before.len() as u64 + 1000 - 20);
    }
    // A version that was replaced within the merge is of no row there.
    let hidden = Origin {
        run: base.id,
        row: Row(0),
    };
    let whole = bench.chain(&bench.merge(&references, references.len()));
    assert_eq!(whole.row_of_origin(hidden).unwrap(), None);
}

#[test]
fn a_tombstone_stays_only_as_long_as_an_older_run_may_have_its_key() {
    let bench = Bench::new();
    let append = |writer: &mut RunWriter<'_>, path: &str, what: Record| {
        writer.append(&key(path), Section::Files, &what).unwrap();
    };
    let base = bench.run(false, |writer| {
        writer
            .append(&Key::root(), Section::Directories, &record(directory(1)))
            .unwrap();
        append(writer, "a", record(file(1)));
    });
    let middle = bench.run(true, |writer| append(writer, "b", record(file(2))));
    let newer = bench.run(true, |writer| append(writer, "c", record(file(3))));
    let newest = bench.run(true, |writer| {
        for path in ["a", "b", "c"] {
            append(
                writer,
                path,
                Record::Tombstone {
                    excluded: path == "a",
                },
            );
        }
    });
    let references = [newest, newer, middle, base];
    // Without filters, the base may have anything.
    for (count, expected) in [(2, 3), (3, 3), (4, 0)] {
        let merged = bench.merge(&references, count);
        let chain = bench.chain(&merged);
        assert_eq!(tombstones(&chain.runs()[0]), expected, "{count} merged");
        assert_eq!(shown(&chain).len(), 1);
        if count < 4 {
            let kept = chain.runs()[0].lookup(Section::Files, &key("a")).unwrap();
            assert_eq!(kept.unwrap().record, Record::Tombstone { excluded: true });
        }
    }
    // A run with filters knows what it has not.
    let [newest, newer, middle, _] = references;
    let chain = bench.merge(&[newest, newer, middle], 2);
    let run = bench.open(&chain[0]);
    assert_eq!(tombstones(&run), 1);
    assert!(run.lookup(Section::Files, &key("b")).unwrap().is_some());
}

#[test]
fn what_a_later_version_appended_and_all_that_entries_refer_to_is_copied() {
    let bench = Bench::new();
    let group = Origin {
        run: RunId([7; 16]),
        row: Row(70),
    };
    let mut odd = file(1);
    odd.unknown = b"of the year 2030".to_vec();
    odd.group = Some(group);
    odd.metadata.links = 2;
    odd.metadata.device = 3;
    odd.flags.unsettled = true;
    odd.content_hash = Some([5; 32]);
    let mut other = file(900);
    other.metadata.device = 3;
    let older = bench.run(true, |writer| {
        writer
            .append(&key("a"), Section::Files, &record(odd.clone()))
            .unwrap();
        writer.warning(b"a", "is odd").unwrap();
        writer.owner(&Owner::User {
            id: 1,
            name: b"old".to_vec(),
        });
        writer.owner(&Owner::Group {
            id: 1,
            name: b"staff".to_vec(),
        });
    });
    let newer = bench.run(true, |writer| {
        writer
            .append(&key("b"), Section::Files, &record(other.clone()))
            .unwrap();
        writer.owner(&Owner::User {
            id: 1,
            name: b"new".to_vec(),
        });
    });
    let merged = bench.merge(&[newer, older.clone()], 2);
    let run = bench.open(&merged[0]);
    let entry = |path| match run.lookup(Section::Files, &key(path)).unwrap() {
        Some(KeyedRecord {
            record: Record::Entry(entry),
            ..
        }) => entry,
        other => panic!("{other:?}"),
    };
    let mut copied = *entry("a");
    assert_ne!(copied.metadata.device, entry("b").metadata.device);
    copied.metadata.device = 3;
    odd.origin = Some(Origin {
        run: older.id,
        row: Row(0),
    });
    assert_eq!(copied, odd);
    assert_eq!(run.row_of_origin(group).unwrap(), Some(Row(0)));
    let expected = Counts {
        files: 2,
        linked: 1,
        ..Counts::default()
    };
    assert_eq!(run.counts(), &expected);
    let owners = run.owners().unwrap();
    assert_eq!(owners.users[&1], b"new");
    assert_eq!(owners.groups[&1], b"staff");
    assert!(run.warnings().unwrap().is_empty());
}

#[test]
fn a_merge_of_a_merge_still_names_the_first_origins() {
    let bench = Bench::new();
    let keys = tree_keys(3, 30).1;
    let mut references = vec![bench.run(false, |writer| {
        append_tree(writer, 3, 30);
    })];
    for change in 0..40_usize {
        let run = bench.run(true, |writer| {
            let record = record(file(1000 + change as u64));
            let key = &keys[change * 7 % keys.len()];
            writer.append(key, Section::Files, &record).unwrap();
        });
        references.insert(0, run);
        let before = shown(&bench.chain(&references));
        if change % 3 == 2 {
            references = bench.merge(&references, 2 + change % references.len().min(3));
        }
        let chain = bench.chain(&references);
        assert_eq!(shown(&chain), before);
        for found in all(chain.entries(&Key::root())).unwrap() {
            if found.entry.metadata.file_type == FileType::Regular {
                let place = chain.row_of_origin(found.origin).unwrap();
                assert_eq!(place, Some((found.run, found.row)));
            }
        }
    }
}

#[test]
fn a_merge_that_is_told_to_stop_or_meets_damage_leaves_nothing() {
    let bench = Bench::new();
    let references: Vec<RunReference> = (0..2)
        .map(|_| {
            bench.run(true, |writer| {
                append_tree(writer, 100, 100);
            })
        })
        .collect();
    let objects = bench.memory.objects().len();
    let looks = Cell::new(0);
    let chain = bench.chain(&references);
    let stopped = merge_newest(&bench.repository, &chain, 2, &|| {
        looks.set(looks.get() + 1);
        match looks.get() {
            3.. => Err(Error::new(ErrorKind::Interrupted, "stop")),
            _ => Ok(()),
        }
    });
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Interrupted);
    let mut bytes = bench.bytes_of(&references[1].id);
    bytes[5000] ^= 1;
    bench.memory.damage(&run_name(&references[1].id), &bytes);
    let damaged = merge_newest(&bench.repository, &bench.chain(&references), 2, &|| Ok(()));
    assert_eq!(damaged.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(bench.memory.objects().len(), objects);
}
