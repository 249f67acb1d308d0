//! What whoever runs the storage of an encrypted repository may try: each kind of object flipped, cut, swapped with
//! another of its kind, put under another name, or replaced by an older one. Each is refused, and named.

#[expect(
    dead_code,
    reason = "it serves several test binaries, each of which uses a part"
)]
#[path = "support/sample.rs"]
mod sample;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bygone::base::{ErrorKind, IndexId, KeyId, LeaseId, PackId, PointId, RepositoryId, Silent};
use bygone::format::{
    CONFIG_NAME, Config, Features, LeaseKind, LeaseRecord, Point, RollUp, RollUpId, SealMethod,
    index_name, key_name, lease_name, pack_name, point_name, roll_up_name,
};
use bygone::ops::check::{CheckOptions, Finding, check};
use bygone::repo::{Closed, InitOptions, Memory, PackWriter, Repository, add_key};
use bygone::seal::{Password, Seal, SealedKind};
use bygone::store::{Body, MemoryStore, Store};

use sample::{Contents, Reading};

type Objects = BTreeMap<String, Arc<[u8]>>;

/// The folders of objects, all but the config.
const FOLDERS: [&str; 7] = [
    "points/",
    "catalogue/",
    "manifests/",
    "packs/",
    "index/",
    "leases/",
    "keys/",
];

/// A repository with two objects of each kind at least, and what its points hold.
struct Victim {
    objects: Objects,
    contents: Contents,
    /// Opens by the password; the other keys by another one.
    key: String,
}

/// What a check names, and what can be read.
struct Seen {
    named: Vec<String>,
    reading: Reading,
}

impl Victim {
    fn new(options: &InitOptions) -> Self {
        let store = Arc::new(MemoryStore::new());
        let (repository, contents) = sample::make_with(store.clone(), options);
        let other = Password::new(b"another".to_vec()).unwrap();
        add_key(&repository, &other, sample::QUICK, &sample::description()).unwrap();
        add_key(&repository, &other, sample::QUICK, &sample::description()).unwrap();
        let packs = PackWriter::create(Arc::clone(&repository), true).unwrap();
        let chunks = [sample::noise(40, 8000), sample::noise(41, 8000)];
        for chunk in chunks {
            sample::frame(&repository, &packs, SealedKind::Data, &[chunk]);
        }
        packs.finish().unwrap();
        put_lease(&repository, LeaseId([8; 16]));
        put_roll_ups(&repository);
        let victim = Self {
            objects: store.objects(),
            contents,
            key: key_name(&repository.key().unwrap()),
        };
        let seen = victim.look(&victim.objects);
        assert_eq!(seen.named, Vec::<String>::new());
        assert_eq!(seen.reading.contents, victim.contents);
        victim
    }

    fn names(&self, folder: &str) -> Vec<&String> {
        let mut names: Vec<&String> = self.objects.keys().collect();
        names.retain(|name| name.starts_with(folder));
        assert!(names.len() >= 2, "there are two of {folder}");
        names
    }

    /// Opens, checks and reads a repository of these objects.
    fn look(&self, objects: &Objects) -> Seen {
        let store = store_of(objects);
        let found = Mutex::new(Vec::new());
        let options = CheckOptions {
            read_data: true,
            points: None,
        };
        let take = |finding: &Finding| {
            if let Finding::Object { name, .. } = finding {
                found.lock().unwrap().push(name.clone());
            }
            Ok(())
        };
        let checked = sample::open(store.clone())
            .and_then(|repository| check(&repository, &options, &take, &Silent));
        let mut named = found.into_inner().unwrap();
        if let Err(error) = checked {
            assert!(
                matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Missing),
                "{error}"
            );
            named.push(error.to_string());
        }
        Seen {
            named,
            reading: sample::read_all(store),
        }
    }

    /// Holds what is seen of a tampered repository against what must hold: the object is named, and no byte is wrong.
    fn assert_refused(&self, objects: &Objects, name: &str, what: &str) {
        let seen = self.look(objects);
        assert!(
            seen.named.iter().any(|named| named.contains(name)),
            "{name} {what}: only {:?} are named",
            seen.named
        );
        for (place, bytes) in &seen.reading.contents {
            let expected = self.contents.get(place);
            assert_eq!(Some(bytes), expected, "{name} {what}: wrong bytes");
        }
    }

    fn with(&self, changes: &[(&String, Arc<[u8]>)]) -> Objects {
        let mut objects = self.objects.clone();
        for (name, bytes) in changes {
            objects.insert((*name).clone(), Arc::clone(bytes));
        }
        objects
    }
}

fn victims() -> [Victim; 2] {
    [false, true].map(|is_padded| Victim::new(&sample::encrypted(is_padded)))
}

fn store_of(objects: &Objects) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    for (name, bytes) in objects {
        store.put_new(name, Body::Bytes(&[bytes])).unwrap();
    }
    store
}

fn put_lease(repository: &Repository, id: LeaseId) {
    let lease = LeaseRecord {
        id,
        features: Features::default(),
        kind: LeaseKind::Backup,
        host: "moon".into(),
        process: 4712,
        parent: None,
        began: jiff::Timestamp::UNIX_EPOCH,
        refreshed: jiff::Timestamp::UNIX_EPOCH,
        replaces: None,
    };
    let bytes = lease.encode(repository.seal()).unwrap();
    repository
        .store()
        .put_new(&lease_name(&id), Body::Bytes(&[&bytes]))
        .unwrap();
}

/// Rolls the sample's points up twice: as far as the one and as far as the other.
fn put_roll_ups(repository: &Repository) {
    let points: Vec<Point> = [sample::FULL, sample::INCREMENTAL]
        .map(|id| bygone::repo::read_point(repository, sample::id(id)).unwrap())
        .map(|mut point| {
            point.runs.iter_mut().for_each(|run| run.footer = None);
            point
        })
        .to_vec();
    for count in 1..=points.len() {
        let id = RollUpId {
            oldest: points[0].id,
            newest: points[count - 1].id,
            random: count as u64,
        };
        let roll_up = RollUp {
            supersedes: Vec::new(),
            points: points[..count].to_vec(),
        };
        let bytes = roll_up.encode(repository.seal(), &id).unwrap();
        repository
            .store()
            .put_new(&roll_up_name(&id), Body::Bytes(&[&bytes]))
            .unwrap();
    }
}

#[test]
fn nothing_that_is_stored_tells_what_was_backed_up() {
    for victim in victims() {
        for (name, bytes) in &victim.objects {
            for word in ["selene", "moon", "docs", "image", "a.txt", "nightly", "*.o"] {
                let is_told = bytes
                    .windows(word.len())
                    .any(|window| window == word.as_bytes());
                assert!(!is_told, "{name} tells {word}");
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_any_object_is_refused_and_named() {
    for victim in victims() {
        for (name, bytes) in &victim.objects {
            let step = (bytes.len() / 50).max(1);
            for offset in (0..bytes.len()).step_by(step) {
                let mut flipped = bytes.to_vec();
                flipped[offset] ^= 1 << (offset % 8);
                let objects = victim.with(&[(name, flipped.into())]);
                victim.assert_refused(&objects, name, &format!("flipped at {offset}"));
            }
        }
    }
}

#[test]
fn an_object_that_is_cut_short_is_refused_and_named() {
    for victim in victims() {
        for (name, bytes) in &victim.objects {
            for length in [0, 1, bytes.len() / 2, bytes.len() - 1] {
                let objects = victim.with(&[(name, bytes[..length].into())]);
                victim.assert_refused(&objects, name, &format!("cut to {length}"));
            }
        }
    }
}

#[test]
fn two_objects_of_a_kind_that_were_swapped_are_refused_and_named() {
    for victim in victims() {
        for folder in FOLDERS {
            let names = victim.names(folder);
            for (number, one) in names.iter().enumerate() {
                for other in &names[number + 1..] {
                    let bytes = |name: &String| Arc::clone(&victim.objects[name]);
                    let objects = victim.with(&[(one, bytes(other)), (other, bytes(one))]);
                    for name in [one, other] {
                        // Where the password's own key does not open, nobody comes to look at another.
                        if !opens_still(&victim, one, other) && **name != victim.key {
                            continue;
                        }
                        victim.assert_refused(&objects, name, "swapped");
                    }
                }
            }
        }
    }
}

/// Is the key of the password left as it was?
fn opens_still(victim: &Victim, one: &str, other: &str) -> bool {
    victim.key != one && victim.key != other
}

#[test]
fn an_older_object_in_the_place_of_a_newer_one_is_refused_and_named() {
    for victim in victims() {
        for folder in FOLDERS {
            let names = victim.names(folder);
            for newer in &names {
                for older in names.iter().filter(|older| older != &newer) {
                    let replayed = Arc::clone(&victim.objects[*older]);
                    let objects = victim.with(&[(newer, replayed)]);
                    victim.assert_refused(&objects, newer, "replaced by an older one");
                }
            }
        }
    }
}

#[test]
fn an_object_under_another_name_is_refused_and_named() {
    for victim in victims() {
        let newer = PointId {
            seconds: 1_790_000_000,
            random: 9,
        };
        let roll_up = RollUpId {
            oldest: sample::id(sample::FULL),
            newest: sample::id(sample::FULL),
            random: 9,
        };
        let renamed = [
            ("points/", point_name(&newer)),
            ("catalogue/", roll_up_name(&roll_up)),
            ("packs/", pack_name(&PackId([9; 16]))),
            ("index/", index_name(&IndexId([9; 16]))),
            ("leases/", lease_name(&LeaseId([9; 16]))),
            ("keys/", key_name(&KeyId([9; 16]))),
        ];
        for (folder, name) in renamed {
            for copied in victim.names(folder) {
                let copy = Arc::clone(&victim.objects[copied]);
                let objects = victim.with(&[(&name, copy)]);
                victim.assert_refused(&objects, &name, "a copy under a new name");
            }
        }
    }
}

#[test]
fn frames_that_were_swapped_within_a_pack_are_refused_and_their_pack_is_named() {
    for victim in victims() {
        let repository = sample::open(store_of(&victim.objects)).unwrap();
        let mut swapped = 0;
        for name in victim.names("packs/") {
            let id: PackId = name.rsplit('/').next().unwrap().parse().unwrap();
            let directory = bygone::repo::read_pack_directory(&repository, &id).unwrap();
            for one in directory.frames() {
                for other in directory.frames() {
                    if one.offset >= other.offset || one.length != other.length {
                        continue;
                    }
                    let mut bytes = victim.objects[name].to_vec();
                    let range = |offset: u32| offset as usize..(offset + one.length) as usize;
                    let first = bytes[range(one.offset)].to_vec();
                    bytes.copy_within(range(other.offset), one.offset as usize);
                    bytes[range(other.offset)].copy_from_slice(&first);
                    let objects = victim.with(&[(name, bytes.into())]);
                    victim.assert_refused(&objects, name, "with two frames swapped");
                    swapped += 1;
                }
            }
        }
        assert!(swapped >= 2, "frames of one length were swapped");
    }
}

#[test]
fn what_is_not_encrypted_is_refused_whoever_made_it() {
    for victim in victims() {
        let store = store_of(&victim.objects);
        let config = Config::decode(&store.get(CONFIG_NAME).unwrap()).unwrap();
        let repository = sample::open(store).unwrap();
        let id: PointId = sample::id(sample::FULL);
        let point: Point = bygone::repo::read_point(&repository, id).unwrap();
        // The keys of unencrypted pieces are known to all.
        let forged = point
            .encode(&Seal::unencrypted(&config.repository))
            .unwrap();
        let name = point_name(&id);
        let objects = victim.with(&[(&name, forged.into())]);
        victim.assert_refused(&objects, &name, "not encrypted");
    }
}

#[test]
fn a_config_that_turns_encryption_or_padding_off_is_refused() {
    for victim in victims() {
        let store = store_of(&victim.objects);
        let config = Config::decode(&victim.objects[CONFIG_NAME]).unwrap();
        let (memory, _) = Memory::learn(None, &sample::open(store.clone()).unwrap());
        for repository in [config.repository, RepositoryId([9; 16])] {
            let off = Config::new(
                repository,
                SealMethod::Unencrypted,
                config.chunking,
                config.compression,
                config.created,
            );
            store.damage(CONFIG_NAME, &off.encode().unwrap());
            let closed = Closed::read(store.clone()).unwrap();
            let refused = memory.check(&closed).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Corrupt);
            assert!(refused.to_string().contains("was encrypted"), "{refused}");
        }
        let other = match config.seal {
            SealMethod::Encrypted => SealMethod::EncryptedPadded,
            _ => SealMethod::Encrypted,
        };
        let changed = Config {
            seal: other,
            ..config
        };
        store.damage(CONFIG_NAME, &changed.encode().unwrap());
        let refused = sample::open(store).err().expect("it must be refused");
        assert_eq!(refused.kind(), ErrorKind::Corrupt);
        assert!(refused.to_string().contains(&victim.key), "{refused}");
    }
}
