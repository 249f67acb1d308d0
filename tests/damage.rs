//! Damage of every kind, in every object: a check finds it, reading refuses it, and nothing else is lost.

#[path = "support/sample.rs"]
mod sample;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bygone::base::{Error, ErrorKind, Event, Monitor, PointId, Silent};
use bygone::ops::check::{CheckOptions, Finding, ObjectState, check};
use bygone::repo::{InitOptions, Repository, add_key};
use bygone::seal::Password;
use bygone::store::{Body, MemoryStore, Store};

use sample::{Contents, Place, Reading};

type Objects = BTreeMap<String, Arc<[u8]>>;

/// Places of a pack in which a bit is flipped.
const PACK_PLACES: usize = 1000;

/// Files of the wide point, and places of its manifest in which a bit is flipped.
const WIDE_FILES: usize = 600;
const WIDE_PLACES: usize = 400;

/// The repository as it was made, and what it holds.
struct Sample {
    objects: Objects,
    contents: Contents,
}

impl Sample {
    fn new(options: &InitOptions) -> Self {
        let store = Arc::new(MemoryStore::new());
        let (repository, contents) = sample::make_with(store.clone(), options);
        if options.encryption.is_some() {
            let other = Password::new(b"another".to_vec()).unwrap();
            add_key(&repository, &other, sample::QUICK, &sample::description()).unwrap();
        }
        Self::of(&store, contents)
    }

    /// One whose only point has a manifest with every piece by itself.
    fn wide(options: &InitOptions) -> Self {
        let store = Arc::new(MemoryStore::new());
        let repository = Repository::init(store.clone(), options).unwrap();
        let contents = sample::add_wide(&repository, WIDE_FILES);
        Self::of(&store, contents)
    }

    fn of(store: &MemoryStore, contents: Contents) -> Self {
        let sample = Self {
            objects: store.objects(),
            contents,
        };
        let clean = sample.examine(&sample.objects);
        assert_eq!(clean.findings, []);
        assert_eq!(clean.reading.errors, Vec::<String>::new());
        assert_eq!(clean.reading.contents, sample.contents);
        sample
    }

    /// The objects with one of them changed; None takes it away.
    fn with(&self, name: &str, bytes: Option<&[u8]>) -> Objects {
        let mut objects = self.objects.clone();
        match bytes {
            Some(bytes) => objects.insert(name.to_owned(), bytes.into()),
            None => objects.remove(name),
        };
        objects
    }

    /// Checks and reads a repository of these objects.
    fn examine(&self, objects: &Objects) -> Examined {
        let store = Arc::new(MemoryStore::new());
        for (name, bytes) in objects {
            store.put_new(name, Body::Bytes(&[bytes])).unwrap();
        }
        let found = Mutex::new(Vec::new());
        let options = CheckOptions {
            read_data: true,
            points: None,
        };
        let checked = sample::open(store.clone()).and_then(|repository| {
            let take = |finding: &Finding| {
                found.lock().unwrap().push(finding.clone());
                Ok(())
            };
            check(&repository, &options, &take, &Silent)
        });
        let mut findings = found.into_inner().unwrap();
        match checked {
            Ok(report) => assert_eq!(report.is_clean(), findings.is_empty()),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Corrupt | ErrorKind::Missing | ErrorKind::NoRepository
                ) =>
            {
                findings.push(Finding::Object {
                    name: self.named_in(&error),
                    state: ObjectState::Damaged,
                    problem: error.to_string(),
                });
            }
            Err(error) => panic!("a check fails over damage: {error}"),
        }
        Examined {
            findings,
            reading: sample::read_all(store),
        }
    }

    /// What does not let the repository be opened: the key that is named, or else the config.
    fn named_in(&self, error: &Error) -> String {
        let text = error.to_string();
        let mut names = self.objects.keys();
        let named = names.find(|name| name.starts_with("keys/") && text.contains(name.as_str()));
        named.cloned().unwrap_or_else(|| "config".into())
    }

    /// Holds an examination of a repository whose object `name` is damaged against what must hold of any: it was
    /// found, nothing wrong was read, and nothing was lost that the check did not tell of.
    fn assert_found_and_contained(&self, name: &str, what: &str, examined: &Examined) {
        let Examined { findings, reading } = examined;
        let names_object = findings.iter().any(|finding| match finding {
            Finding::Object { name: found, .. } => found == name,
            _ => false,
        });
        let names_any = !findings.is_empty();
        assert!(names_any, "{name}, {what}: not found");
        assert!(
            names_object || name == "config",
            "{name}, {what}: not named in {findings:?}"
        );
        for (place, bytes) in &reading.contents {
            let expected = self.contents.get(place).map(Vec::as_slice);
            assert_eq!(
                Some(&bytes[..]),
                expected,
                "{name}, {what}: wrong bytes of {place:?}"
            );
        }
        if name == "config" || name.starts_with("keys/") {
            return;
        }
        let told = told_paths(findings);
        let torn = torn_points(findings);
        for place in self.contents.keys() {
            let is_read = reading.contents.contains_key(place);
            let is_told = told.contains(place);
            let may_be_torn = torn.contains(&place.0);
            assert!(
                is_read || is_told || may_be_torn,
                "{name}, {what}: {place:?} is lost and the check does not tell: {findings:?}"
            );
            assert!(
                !(is_read && is_told),
                "{name}, {what}: {place:?} is read and told to be lost"
            );
        }
        if reading.errors.is_empty() {
            assert_eq!(
                reading.contents.len(),
                self.contents.len(),
                "{name}, {what}: something vanished in silence"
            );
        }
    }
}

/// What a check found and what could be read.
struct Examined {
    findings: Vec<Finding>,
    reading: Reading,
}

/// The paths that a check tells to be lost.
fn told_paths(findings: &[Finding]) -> BTreeSet<Place> {
    findings
        .iter()
        .filter_map(|finding| match finding {
            Finding::Path { point, key, .. } => Some((*point, key.to_path())),
            _ => None,
        })
        .collect()
}

/// The points of which parts cannot be named.
fn torn_points(findings: &[Finding]) -> BTreeSet<PointId> {
    findings
        .iter()
        .filter_map(|finding| match finding {
            Finding::Part { point, .. } => Some(*point),
            _ => None,
        })
        .collect()
}

/// Does `work` with a sample of each seal.
fn each(make: fn(&InitOptions) -> Sample, work: impl Fn(&Sample)) {
    let seals = [InitOptions::default(), sample::encrypted(false)];
    seals.iter().for_each(|options| work(&make(options)));
}

/// Does `work` for every number below `count`, on all cores.
fn in_parallel(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    work(number);
                }
            });
        }
    });
}

fn is_pack(name: &str) -> bool {
    name.starts_with("packs/")
}

#[test]
fn a_flipped_bit_in_any_byte_of_a_small_object_is_found_and_nothing_wrong_is_read() {
    each(Sample::new, |sample| {
        let places: Vec<(&str, usize)> = sample
            .objects
            .iter()
            .filter(|(name, _)| !is_pack(name))
            .flat_map(|(name, bytes)| (0..bytes.len()).map(move |offset| (&name[..], offset)))
            .collect();
        assert!(places.len() > 1000);
        in_parallel(places.len(), |number| {
            let (name, offset) = places[number];
            let mut bytes = sample.objects[name].to_vec();
            bytes[offset] ^= 1 << (offset % 8);
            let examined = sample.examine(&sample.with(name, Some(&bytes)));
            sample.assert_found_and_contained(name, &format!("bit flipped at {offset}"), &examined);
        });
    });
}

#[test]
fn a_flipped_bit_anywhere_in_a_pack_is_found_and_costs_the_files_of_its_frame_alone() {
    each(Sample::new, |sample| {
        let (name, bytes) = sample
            .objects
            .iter()
            .find(|(name, _)| is_pack(name))
            .unwrap();
        let step = bytes.len() as f64 / PACK_PLACES as f64;
        in_parallel(PACK_PLACES, |number| {
            let offset = (number as f64 * step) as usize;
            let mut damaged = bytes.to_vec();
            damaged[offset] ^= 1 << (number % 8);
            let examined = sample.examine(&sample.with(name, Some(&damaged)));
            sample.assert_found_and_contained(name, &format!("bit flipped at {offset}"), &examined);
            assert_eq!(torn_points(&examined.findings), BTreeSet::new());
            let lost = sample.contents.len() - examined.reading.contents.len();
            assert!(lost <= 7, "a flip at {offset} costs {lost} paths");
        });
    });
}

#[test]
fn a_flipped_bit_in_any_piece_of_a_manifest_is_found_and_nothing_wrong_is_read() {
    each(Sample::wide, |sample| {
        let (name, bytes) = sample
            .objects
            .iter()
            .find(|(name, _)| name.starts_with("manifests/"))
            .unwrap();
        let step = bytes.len() as f64 / WIDE_PLACES as f64;
        in_parallel(WIDE_PLACES, |number| {
            let offset = (number as f64 * step) as usize;
            let mut damaged = bytes.to_vec();
            damaged[offset] ^= 1 << (number % 8);
            let examined = sample.examine(&sample.with(name, Some(&damaged)));
            sample.assert_found_and_contained(name, &format!("bit flipped at {offset}"), &examined);
        });
    });
}

#[test]
fn an_object_that_is_gone_is_missed_and_nothing_else_is_lost() {
    each(Sample::new, |sample| {
        for name in sample.objects.keys() {
            // Without its key a password is a wrong one, and nothing names the keys of others.
            if name.starts_with("keys/") {
                continue;
            }
            let examined = sample.examine(&sample.with(name, None));
            // Nothing names the newest point, and a lease ends by being deleted.
            if *name == format!("points/{}", sample::INCREMENTAL) || name.starts_with("leases/") {
                assert_eq!(examined.findings, []);
                continue;
            }
            if name.starts_with("index/") {
                assert!(!examined.findings.is_empty(), "{name} is not missed");
                assert_eq!(examined.reading.contents, sample.contents);
                continue;
            }
            if name.starts_with("points/") {
                let kept = |contents: &Contents| {
                    contents
                        .keys()
                        .filter(|(point, _)| *point == sample::id(sample::INCREMENTAL))
                        .count()
                };
                assert_eq!(kept(&examined.reading.contents), kept(&sample.contents));
                assert!(!examined.findings.is_empty(), "{name} is not missed");
                continue;
            }
            sample.assert_found_and_contained(name, "gone", &examined);
        }
    });
}

#[test]
fn an_object_that_is_cut_short_anywhere_is_found() {
    each(Sample::new, |sample| {
        let places: Vec<(&str, usize)> = sample
            .objects
            .iter()
            .flat_map(|(name, bytes)| {
                let step = (bytes.len() / 40).max(1);
                (0..bytes.len())
                    .step_by(step)
                    .chain([bytes.len() - 1])
                    .map(move |length| (&name[..], length))
            })
            .collect();
        in_parallel(places.len(), |number| {
            let (name, length) = places[number];
            let bytes = &sample.objects[name][..length];
            let examined = sample.examine(&sample.with(name, Some(bytes)));
            sample.assert_found_and_contained(name, &format!("cut to {length} bytes"), &examined);
        });
    });
}

#[test]
fn an_object_with_bytes_behind_its_end_is_found() {
    each(Sample::new, |sample| {
        for (name, bytes) in &sample.objects {
            let longer = [&bytes[..], b"\0"].concat();
            let examined = sample.examine(&sample.with(name, Some(&longer)));
            sample.assert_found_and_contained(name, "a byte longer", &examined);
        }
    });
}

#[test]
fn an_object_in_the_place_of_another_of_its_kind_is_found() {
    each(Sample::new, |sample| {
        for prefix in ["points/", "manifests/"] {
            let names: Vec<&String> = sample
                .objects
                .keys()
                .filter(|name| name.starts_with(prefix))
                .collect();
            let [one, other] = names[..] else {
                panic!("two of {prefix} were made");
            };
            let examined = sample.examine(&sample.with(one, Some(&sample.objects[other])));
            sample.assert_found_and_contained(one, "replaced by another", &examined);
        }
    });
}

#[test]
fn a_damaged_chunk_that_has_a_good_twin_costs_nothing() {
    each(Sample::new, |sample| {
        let store = Arc::new(MemoryStore::new());
        for (name, bytes) in &sample.objects {
            store.put_new(name, Body::Bytes(&[bytes])).unwrap();
        }
        let (first_pack, bytes) = sample
            .objects
            .iter()
            .find(|(name, _)| is_pack(name))
            .unwrap();
        let repository = sample::open(store.clone()).unwrap();
        let packs = bygone::repo::PackWriter::create(Arc::clone(&repository), true).unwrap();
        let small: Vec<Vec<u8>> = (0..4)
            .map(|seed| sample::noise(seed, 700 + 100 * seed as usize))
            .collect();
        sample::frame(&repository, &packs, bygone::seal::SealedKind::Data, &small);
        packs.finish().unwrap();
        let mut damaged = bytes.to_vec();
        damaged[100] ^= 1;
        store.damage(first_pack, &damaged);
        let examined = sample.examine(&store.objects());
        assert_eq!(examined.reading.contents, sample.contents);
        assert_eq!(told_paths(&examined.findings), BTreeSet::new());
        assert!(
            matches!(&examined.findings[..], [Finding::Object { name, .. }] if name == first_pack)
        );
    });
}

#[test]
fn a_check_that_is_interrupted_stops_as_such() {
    struct Interrupted;
    impl Monitor for Interrupted {
        fn event(&self, _event: Event<'_>) {}
        fn is_interrupted(&self) -> bool {
            true
        }
    }
    let store = Arc::new(MemoryStore::new());
    let (repository, _) = sample::make(store);
    let error = check(
        &repository,
        &CheckOptions::default(),
        &|_| Ok(()),
        &Interrupted,
    )
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
}

#[test]
fn without_reading_data_everything_but_the_chunks_bytes_is_checked() {
    each(Sample::new, |sample| {
        let (pack, bytes) = sample
            .objects
            .iter()
            .find(|(name, _)| is_pack(name))
            .unwrap();
        let store = Arc::new(MemoryStore::new());
        for (name, bytes) in &sample.objects {
            store.put_new(name, Body::Bytes(&[bytes])).unwrap();
        }
        let findings = || {
            let repository = sample::open(store.clone()).unwrap();
            let count = AtomicUsize::new(0);
            let take = |_: &Finding| {
                count.fetch_add(1, Ordering::Relaxed);
                Ok(())
            };
            check(&repository, &CheckOptions::default(), &take, &Silent).unwrap();
            count.into_inner()
        };
        let mut damaged = bytes.to_vec();
        damaged[100] ^= 1;
        store.damage(pack, &damaged);
        assert_eq!(findings(), 0, "a chunk's bytes are not read");
        store.lose(pack);
        assert!(
            findings() > 1,
            "a lost pack is missed, and so are the files in it"
        );
    });
}
