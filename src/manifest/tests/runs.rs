//! One run, written and read back.

use std::collections::BTreeMap;

use super::*;
use crate::base::{ErrorKind, Origin, Row};
use crate::format::run::{
    Counts, Filter, Owner, Owners, RUN_TRAILER_BYTES, Sequence, decode_run_trailer, filter_hash,
};

#[test]
fn records_come_back_by_key_by_row_and_in_order() {
    let bench = Bench::new();
    for filters in [false, true] {
        let reference = bench.run(filters, |writer| {
            append_tree(writer, 40, 100);
        });
        let run = bench.open(&reference);
        let (directories, files) = tree_keys(40, 100);
        for (section, keys) in [
            (Section::Directories, &directories),
            (Section::Files, &files),
        ] {
            let records = all(run.records(section, b"")).unwrap();
            assert_eq!(records.len(), keys.len());
            for (number, (keyed, key)) in records.iter().zip(keys).enumerate() {
                assert_eq!((&keyed.key, keyed.row), (key, Row(number as u64)));
                assert_eq!(run.lookup(section, key).unwrap().as_ref(), Some(keyed));
                assert_eq!(&run.row(section, keyed.row).unwrap(), keyed);
                assert!(
                    run.may_have_children(&key.parent().unwrap_or_default())
                        .unwrap()
                );
            }
            let middle = keys.len() / 2;
            let rest = all(run.records(section, keys[middle].as_bytes())).unwrap();
            assert_eq!(rest, records[middle..]);
            let end = Row(keys.len() as u64);
            assert_eq!(
                run.row(section, end).unwrap_err().kind(),
                ErrorKind::Corrupt
            );
        }
        let absent = key("home/folder 00007/file 00007.tx");
        assert_eq!(run.lookup(Section::Files, &absent).unwrap(), None);
        assert_eq!(run.may_have_children(&absent).unwrap(), !filters);
    }
}

#[test]
fn an_empty_run_is_tiny_and_answers() {
    let bench = Bench::new();
    let empty = bench.run(true, |_| ());
    let touched = bench.run(true, |writer| {
        writer
            .append(&Key::root(), Section::Directories, &record(directory(1)))
            .unwrap();
    });
    for (reference, entries) in [(empty, 0), (touched, 1)] {
        assert!(reference.length < 512, "{} bytes", reference.length);
        assert!(reference.footer.is_some());
        let run = bench.open(&reference);
        assert_eq!(run.counts().directories, entries);
        assert_eq!(all(run.records(Section::Files, b"")).unwrap(), []);
        assert_eq!(run.lookup(Section::Files, &key("a")).unwrap(), None);
        assert!(run.warnings().unwrap().is_empty());
        assert_eq!(run.owners().unwrap(), Owners::default());
        let chain = bench.chain(&[reference]);
        assert_eq!(
            all(chain.entries(&Key::root())).unwrap().len() as u64,
            entries
        );
    }
}

#[test]
fn counts_warnings_and_owners_come_back() {
    let bench = Bench::new();
    let message = |number: usize| format!("cannot be read: reason {}", number * 7919);
    let reference = bench.run(true, |writer| {
        writer
            .append(&Key::root(), Section::Directories, &record(directory(1)))
            .unwrap();
        writer
            .append(&key("b"), Section::Directories, &TOMBSTONE)
            .unwrap();
        let mut linked = file(1);
        linked.metadata.links = 2;
        linked.metadata.xattrs = vec![noise(1, 100)];
        writer
            .append(&key("a"), Section::Files, &record(linked))
            .unwrap();
        writer
            .append(&key("b"), Section::Files, &record(file(2)))
            .unwrap();
        writer
            .append(&key("c"), Section::Files, &TOMBSTONE)
            .unwrap();
        for number in 0..5000 {
            let path = format!("home/{number}");
            writer.warning(path.as_bytes(), &message(number)).unwrap();
        }
        writer.owner(&Owner::User {
            id: 0,
            name: b"root".to_vec(),
        });
        writer.owner(&Owner::Group {
            id: 0,
            name: b"wheel".to_vec(),
        });
    });
    let run = bench.open(&reference);
    let counts = Counts {
        directories: 2,
        files: 3,
        directory_tombstones: 1,
        file_tombstones: 1,
        linked: 1,
        with_xattrs: 1,
    };
    assert_eq!(run.counts(), &counts);
    let warnings = run.warnings().unwrap();
    assert_eq!(warnings.len(), 5000);
    for (number, warning) in warnings.into_iter().enumerate() {
        assert_eq!(
            warning,
            (format!("home/{number}").into_bytes(), message(number))
        );
    }
    let owners = run.owners().unwrap();
    assert_eq!(owners.users, BTreeMap::from([(0, b"root".to_vec())]));
    assert_eq!(owners.groups, BTreeMap::from([(0, b"wheel".to_vec())]));
}

#[test]
fn rows_are_found_by_inherited_origins_and_by_groups() {
    let bench = Bench::new();
    let old = RunId([9; 16]);
    let from = |row: u64| Origin {
        run: old,
        row: Row(row),
    };
    let reference = bench.run(true, |writer| {
        let mut inherited = file(1);
        inherited.origin = Some(from(70));
        writer
            .append(&key("a"), Section::Files, &record(inherited))
            .unwrap();
        // Two that joined a group whose first member stayed behind.
        for name in ["b", "c"] {
            let mut member = file(2);
            member.group = Some(from(5));
            writer
                .append(&key(name), Section::Files, &record(member))
                .unwrap();
        }
        let mut first = file(3);
        let own = Origin {
            run: writer.id(),
            row: writer.next_row(Section::Files),
        };
        first.group = Some(own);
        writer
            .append(&key("d"), Section::Files, &record(first))
            .unwrap();
        let mut second = file(3);
        second.group = Some(own);
        writer
            .append(&key("e"), Section::Files, &record(second))
            .unwrap();
    });
    assert_eq!(reference.origins, [old]);
    let run = bench.open(&reference);
    let find = |origin| run.row_of_origin(origin).unwrap().map(|row| row.0);
    assert_eq!(find(from(70)), Some(0));
    assert_eq!(find(from(5)), Some(1));
    assert_eq!(find(from(6)), None);
    assert_eq!(
        find(Origin {
            run: RunId([8; 16]),
            row: Row(5)
        }),
        None
    );
    let own = |row| Origin {
        run: reference.id,
        row: Row(row),
    };
    assert_eq!(find(own(3)), Some(3));
    assert_eq!(find(own(5)), None);
    let chain = bench.chain(&[reference]);
    let found = chain.lookup(&key("a")).unwrap().unwrap();
    assert_eq!(found.origin, from(70));
    assert_eq!(chain.row_of_origin(from(5)).unwrap(), Some((0, Row(1))));
}

#[test]
fn what_is_out_of_order_or_in_the_wrong_section_is_not_written() {
    let bench = Bench::new();
    bench.run(true, |writer| {
        let mut append = |path, section, entry| {
            writer
                .append(&key(path), section, &record(entry))
                .map(|row| row.0)
        };
        assert_eq!(append("b", Section::Files, file(1)).unwrap(), 0);
        assert!(append("a", Section::Files, file(1)).is_err());
        assert!(append("b", Section::Files, file(1)).is_err());
        assert!(append("c", Section::Files, directory(1)).is_err());
        assert!(append("c", Section::Directories, file(1)).is_err());
        assert_eq!(append("c", Section::Files, file(1)).unwrap(), 1);
        assert_eq!(append("a", Section::Directories, directory(1)).unwrap(), 0);
    });
}

#[test]
fn a_run_with_index_parts_and_filter_parts_beyond_one_and_a_file_to_spill_to() {
    let bench = Bench::with_compression(Compression::Off);
    // Long names make many blocks and a long index; each entry fills a block by itself.
    let keys: Vec<Key> = (0..400)
        .map(|number| key(&format!("{number:04}{}", "x".repeat(4000))))
        .collect();
    let entry_at = |number: usize| {
        let mut entry = file(number as u64);
        entry.metadata.xattrs = vec![noise(number as u64, 64 << 10)];
        entry
    };
    let reference = bench.run(true, |writer| {
        for (number, key) in keys.iter().enumerate() {
            writer
                .append(key, Section::Files, &record(entry_at(number)))
                .unwrap();
        }
    });
    assert!(reference.length > 20 << 20);
    let run = bench.open(&reference);
    assert_eq!(run.pieces.footer.sequence(Sequence::Files).index.len(), 2);
    let records = all(run.records(Section::Files, b"")).unwrap();
    assert_eq!(records.len(), keys.len());
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(records[number].record, record(entry_at(number)));
        assert_eq!(
            run.lookup(Section::Files, key).unwrap().as_ref(),
            Some(&records[number])
        );
        assert_eq!(
            run.row(Section::Files, Row(number as u64)).unwrap(),
            records[number]
        );
    }
    let chain = bench.chain(&[reference]);
    assert_eq!(all(chain.entries(&Key::root())).unwrap().len(), 400);
}

#[test]
fn many_keys_have_filters_of_several_parts() {
    let bench = Bench::new();
    let reference = bench.run(true, |writer| {
        append_tree(writer, 100, 700);
    });
    let run = bench.open(&reference);
    let parts = run.pieces.footer.filter(Filter::FileKeys).map(<[_]>::len);
    assert_eq!(parts, Some(3));
    let may_have = |key: &Key| {
        run.may_have(Section::Files, key.as_bytes(), filter_hash(key.as_bytes()))
            .unwrap()
    };
    let (directories, files) = tree_keys(100, 700);
    assert!(files.iter().all(may_have));
    let wrong = files
        .iter()
        .filter(|file| may_have(&file.child(b"x").unwrap()))
        .count();
    assert!(wrong < 20, "{wrong} of {} wrong", files.len());
    for folder in &directories[2..] {
        assert!(run.may_have_children(folder).unwrap());
    }
    assert!(!run.may_have_children(&key("elsewhere")).unwrap());
}

#[test]
fn a_trailer_leads_to_the_footer_that_a_point_would_have() {
    let bench = Bench::new();
    let reference = bench.run(true, |writer| {
        append_tree(writer, 3, 3);
    });
    let bytes = bench.bytes_of(&reference.id);
    assert_eq!(bytes.len() as u64, reference.length);
    let trailer: [u8; RUN_TRAILER_BYTES] =
        bytes[bytes.len() - RUN_TRAILER_BYTES..].try_into().unwrap();
    let (start, length) = decode_run_trailer(&trailer, reference.length).unwrap();
    assert_eq!(length, reference.footer_length);
    let sealed = &bytes[start as usize..start as usize + length as usize];
    assert_eq!(reference.footer.as_deref(), Some(sealed));
    // A reference without it leads to the same run.
    let run = bench.open(&RunReference {
        footer: None,
        ..reference
    });
    assert_eq!(run.counts().files, 9);
}

#[test]
fn folders_that_begin_and_end_anywhere_in_blocks_are_listed_whole() {
    let bench = Bench::new();
    let (folders, files) = (12, 450);
    let reference = bench.run(true, |writer| {
        append_tree(writer, folders, files);
    });
    let chain = bench.chain(&[reference]);
    let (directories, in_folders) = tree_keys(folders, files);
    for folder in &directories[2..] {
        let expected: Vec<&Key> = in_folders
            .iter()
            .filter(|key| key.parent().as_ref() == Some(folder))
            .collect();
        let listed = all(chain.children(folder, Section::Files, None)).unwrap();
        assert!(
            listed
                .iter()
                .map(|found| &found.key)
                .eq(expected.iter().copied())
        );
        for (place, key) in expected.iter().enumerate().step_by(50) {
            let next = chain
                .children(folder, Section::Files, Some(key.name()))
                .next()
                .transpose()
                .unwrap();
            assert_eq!(
                next.as_ref().map(|found| &found.key),
                expected.get(place + 1).copied()
            );
        }
    }
    let found = all(chain.children(&key("home"), Section::Directories, None)).unwrap();
    assert_eq!(found.len(), folders);
}

#[test]
fn a_fetcher_that_keeps_nothing_gives_the_same_answers() {
    let bench = Bench::new();
    let reference = bench.run(true, |writer| {
        append_tree(writer, 20, 100);
    });
    let expected = all(bench
        .chain(std::slice::from_ref(&reference))
        .entries(&Key::root()))
    .unwrap();
    let forgetful = Fetcher::new(Arc::clone(&bench.repository), 0);
    let chain = Chain::of_runs(vec![Run::open(&forgetful, &reference).unwrap()]);
    assert_eq!(all(chain.entries(&Key::root())).unwrap(), expected);
    for found in expected.iter().step_by(97) {
        assert_eq!(chain.lookup(&found.key).unwrap().as_ref(), Some(found));
    }
}
