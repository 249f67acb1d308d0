//! Chains of random runs against a map of what should be live.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::base::Origin;
use crate::manifest::Found;

/// What a run does to one key.
#[derive(Debug, Clone)]
pub(super) enum Edit {
    Delete {
        excluded: bool,
    },
    Directory,
    File,
    /// Recorded as it is, with its origin.
    Again,
    /// A file of the group of the live file that is so many further on.
    Link(usize),
}

/// A path in a small universe, where one thing is often above another or has been of another type.
pub(super) fn a_path() -> impl Strategy<Value = Key> {
    prop::collection::vec(prop::sample::select(vec!["a", "a-b", "b", "c\u{1}"]), 0..4)
        .prop_map(|names| key(&names.join("/")))
}

pub(super) fn an_edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        2 => any::<bool>().prop_map(|excluded| Edit::Delete { excluded }),
        3 => Just(Edit::Directory),
        4 => Just(Edit::File),
        2 => Just(Edit::Again),
        2 => (0..5_usize).prop_map(Edit::Link),
    ]
}

/// The live tree beside the chain.
#[derive(Default, Clone)]
pub(super) struct Model {
    live: BTreeMap<Key, (Entry, Origin)>,
    made: u64,
}

impl Model {
    /// What a run records for these edits, in each section, and what is live then, with origins yet to be known.
    fn records(&mut self, edits: &BTreeMap<Key, Edit>) -> BTreeMap<(Section, Key), Record> {
        let mut records = BTreeMap::new();
        for (key, edit) in edits {
            let old = self.live.get(key).cloned();
            let Some(new) = self.edited(key, edit, old.as_ref()) else {
                if let Some((old, _)) = old {
                    let Edit::Delete { excluded } = *edit else {
                        continue;
                    };
                    let section = old.metadata.file_type.section();
                    records.insert((section, key.clone()), Record::Tombstone { excluded });
                }
                continue;
            };
            let section = new.metadata.file_type.section();
            if let Some((old, _)) = old
                && old.metadata.file_type.section() != section
            {
                records.insert((old.metadata.file_type.section(), key.clone()), TOMBSTONE);
            }
            records.insert((section, key.clone()), record(new));
        }
        records
    }

    fn edited(&mut self, key: &Key, edit: &Edit, old: Option<&(Entry, Origin)>) -> Option<Entry> {
        self.made += 1;
        let mut entry = match edit {
            Edit::Delete { .. } => return None,
            Edit::Directory => directory(self.made),
            // The root is one for good.
            _ if key.is_root() => directory(self.made),
            Edit::File => file(self.made),
            Edit::Again => {
                let (entry, origin) = old?;
                let mut entry = entry.clone();
                entry.origin = Some(*origin);
                return Some(entry);
            }
            Edit::Link(distance) => {
                let files = self
                    .live
                    .iter()
                    .filter(|(_, (entry, _))| entry.metadata.file_type.section() == Section::Files);
                let (_, (entry, origin)) = files.clone().nth(distance % files.count().max(1))?;
                let mut entry = entry.clone();
                entry.group = entry.group.or(Some(*origin));
                entry.metadata.links = 2;
                entry.origin = None;
                entry
            }
        };
        // Some entries fill much of a block.
        if self.made.is_multiple_of(3) {
            entry.metadata.xattrs = vec![noise(self.made, 20_000)];
        }
        Some(entry)
    }

    /// Writes a run of edits and learns what it recorded.
    pub(super) fn write(
        &mut self,
        bench: &Bench,
        filters: bool,
        edits: &BTreeMap<Key, Edit>,
    ) -> RunReference {
        let records = self.records(edits);
        bench.run(filters, |writer| {
            for ((section, key), record) in &records {
                let row = writer.append(key, *section, record).unwrap();
                let own = Origin {
                    run: writer.id(),
                    row,
                };
                match record {
                    Record::Entry(entry) => {
                        let origin = entry.origin.unwrap_or(own);
                        self.live.insert(key.clone(), ((**entry).clone(), origin));
                    }
                    Record::Tombstone { .. } => {
                        // Directories come first: this one may have become a file, which follows.
                        self.live.remove(key);
                    }
                }
            }
            // What turned into a directory had its tombstone after that.
            for ((section, key), record) in &records {
                if let (Section::Directories, Record::Entry(entry)) = (section, record) {
                    let row = records
                        .keys()
                        .filter(|(section, other)| *section == Section::Directories && other < key)
                        .count() as u64;
                    let own = Origin {
                        run: writer.id(),
                        row: crate::base::Row(row),
                    };
                    let origin = entry.origin.unwrap_or(own);
                    self.live.insert(key.clone(), ((**entry).clone(), origin));
                }
            }
        })
    }
}

/// What counts of a live entry, wherever it is recorded.
fn seen(found: &Found) -> (Key, Entry, Origin) {
    live(&found.key, &found.entry, found.origin)
}

/// A merge names origins, and numbers devices anew.
fn live(key: &Key, entry: &Entry, origin: Origin) -> (Key, Entry, Origin) {
    let mut entry = entry.clone();
    entry.origin = None;
    entry.metadata.device = 0;
    (key.clone(), entry, origin)
}

fn check_everything(chain: &Chain, model: &Model, probes: &BTreeSet<Key>) {
    let live: Vec<_> = model
        .live
        .iter()
        .map(|(key, (entry, origin))| live(key, entry, *origin))
        .collect();
    let entries = all(chain.entries(&Key::root())).unwrap();
    assert_eq!(entries.iter().map(seen).collect::<Vec<_>>(), live);
    for found in &entries {
        let section = found.entry.metadata.file_type.section();
        assert_eq!(chain.lookup(&found.key).unwrap().as_ref(), Some(found));
        assert_eq!(
            chain.lookup_in(section, &found.key).unwrap().as_ref(),
            Some(found)
        );
        assert_eq!(
            chain.row(found.run, section, found.row).unwrap().as_ref(),
            Some(found)
        );
        if section == Section::Files {
            check_origin(chain, found.origin);
            if let Some(group) = found.entry.group {
                check_origin(chain, group);
            }
        }
    }
    for probe in probes {
        let expected = model.live.contains_key(probe);
        assert_eq!(chain.lookup(probe).unwrap().is_some(), expected, "{probe}");
        check_listing(chain, &live, probe);
        let below: Vec<_> = live
            .iter()
            .filter(|(key, ..)| {
                key == probe || key.as_bytes().starts_with(&probe.descendants_prefix())
            })
            .cloned()
            .collect();
        let entries = all(chain.entries(probe)).unwrap();
        assert_eq!(
            entries.iter().map(seen).collect::<Vec<_>>(),
            below,
            "below {probe}"
        );
    }
}

fn check_listing(chain: &Chain, live: &[(Key, Entry, Origin)], directory: &Key) {
    for section in [Section::Directories, Section::Files] {
        let children: Vec<_> = live
            .iter()
            .filter(|(key, entry, _)| {
                entry.metadata.file_type.section() == section
                    && key.parent().as_ref() == Some(directory)
            })
            .cloned()
            .collect();
        let listed = all(chain.children(directory, section, None)).unwrap();
        assert_eq!(
            listed.iter().map(seen).collect::<Vec<_>>(),
            children,
            "in {directory}"
        );
        for (place, (key, ..)) in children.iter().enumerate() {
            let rest = all(chain.children(directory, section, Some(key.name()))).unwrap();
            assert_eq!(
                rest.iter().map(seen).collect::<Vec<_>>(),
                children[place + 1..]
            );
        }
    }
}

/// Whatever row an origin leads to has that origin, or is of that group.
fn check_origin(chain: &Chain, origin: Origin) {
    let (run, row) = chain
        .row_of_origin(origin)
        .unwrap()
        .expect("a live entry has it");
    let found = chain
        .row(run, Section::Files, row)
        .unwrap()
        .expect("it is no tombstone");
    assert!(found.origin == origin || found.entry.group == Some(origin));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_chain_shows_what_its_runs_left(
        base in prop::collection::btree_map(a_path(), an_edit(), 0..40),
        later in prop::collection::vec(
            (prop::collection::btree_map(a_path(), an_edit(), 0..12), prop::bool::weighted(0.8), 0..5_usize), 0..8),
        probes in prop::collection::btree_set(a_path(), 10),
    ) {
        let bench = Bench::new();
        let mut model = Model::default();
        let mut references = vec![model.write(&bench, false, &base)];
        for (edits, filters, merged) in &later {
            references.insert(0, model.write(&bench, *filters, edits));
            // Now and then up to four of the newest become one, or all of them.
            let count = references.len().min(*merged);
            if count > 1 {
                references = bench.merge(&references, count);
            }
        }
        check_everything(&bench.chain(&references), &model, &probes);
    }
}
