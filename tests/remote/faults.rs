//! A store behind a bad line: what comes is right or an error, and mostly it comes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bygone::base::{ErrorKind, Result};
use bygone::store::{Body, Store};

use super::fault_proxy::{Fault, FaultProxy, one_in_ten};
use super::places::s3_at;
use super::random::Random;
use super::servers::server;

/// How long a stalled answer stalls: longer than the store waits for the next byte.
const STALL: Duration = Duration::from_secs(12);

/// What a reader of a mount waits for at the most.
const DEADLINE: Duration = Duration::from_secs(30);

const THREADS: u64 = 8;
const READS_OF_A_THREAD: usize = 120;

fn proxied() -> (FaultProxy, Arc<dyn Store>) {
    let proxy = FaultProxy::before(&server("radosgw", "endpoint"));
    let store = s3_at("radosgw", &proxy.endpoint).open();
    (proxy, store)
}

fn objects() -> BTreeMap<String, Vec<u8>> {
    let mut random = Random::new(7);
    (0..40)
        .map(|number| {
            let length = [1, 100, 5_000, 70_000, 3_000_000][number % 5];
            (
                format!("packs/{:02x}/{number}", number % 7),
                random.bytes(length),
            )
        })
        .collect()
}

fn put_all(store: &dyn Store, objects: &BTreeMap<String, Vec<u8>>) {
    for (name, bytes) in objects {
        store.put_new(name, Body::Bytes(&[bytes])).unwrap();
    }
}

/// Reads at random, and compares; the longest time that one took.
fn read_at_random(store: &dyn Store, objects: &BTreeMap<String, Vec<u8>>, seed: u64) -> Duration {
    let mut random = Random::new(seed);
    let names: Vec<&String> = objects.keys().collect();
    let mut longest = Duration::ZERO;
    for _ in 0..READS_OF_A_THREAD {
        let name = *random.pick(&names);
        let bytes = &objects[name];
        let begun = Instant::now();
        match random.below(4) {
            0 => {
                let tail = 1 + random.below(2 * bytes.len());
                let (got, length) = store.get_tail(name, tail as u64).unwrap();
                let start = bytes.len().saturating_sub(tail);
                assert!(
                    got == bytes[start..] && length == bytes.len() as u64,
                    "{name}"
                );
            }
            // Nobody but the object itself, which is sealed, knows how long the whole of it must be.
            1 => assert!(bytes.starts_with(&store.get(name).unwrap()), "{name}"),
            _ => {
                let start = random.below(bytes.len());
                let end = start + 1 + random.below(bytes.len() - start);
                let got = store.get_range(name, start as u64..end as u64).unwrap();
                assert!(got == bytes[start..end], "{name} {start}..{end}");
            }
        }
        longest = longest.max(begun.elapsed());
    }
    longest
}

#[test]
fn at_one_fault_in_ten_every_read_is_right_and_within_the_deadline() {
    let (proxy, store) = proxied();
    let objects = objects();
    proxy.set(one_in_ten(1, STALL));
    put_all(&*store, &objects);
    let longest = std::thread::scope(|scope| {
        let (store, objects) = (&*store, &objects);
        let readers: Vec<_> = (0..THREADS)
            .map(|seed| scope.spawn(move || read_at_random(store, objects, seed)))
            .collect();
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .max()
            .unwrap()
    });
    assert!(longest < DEADLINE, "{longest:?}");
    let listed: Vec<String> = store
        .list("packs/", "")
        .unwrap()
        .into_iter()
        .map(|listed| listed.name)
        .collect();
    assert!(listed.iter().eq(objects.keys()), "{listed:?}");
    let asked = proxy.take();
    let faulty = asked.iter().filter(|asked| asked.fault.is_some()).count();
    assert!(
        faulty * 20 > asked.len(),
        "{faulty} of {} requests",
        asked.len()
    );
}

/// Asks for everything in every way, and gives the errors.
fn errors_of(store: &dyn Store, name: &str, bytes: &[u8]) -> Vec<ErrorKind> {
    let whole = bytes.len() as u64;
    let mut errors = Vec::new();
    let mut check = |got: Result<Vec<u8>>, expected: &[u8]| match got {
        Ok(got) => assert!(got == expected, "{name}: {} wrong bytes", got.len()),
        Err(error) => errors.push(error.kind()),
    };
    check(
        store.get_range(name, 10..whole / 2),
        &bytes[10..bytes.len() / 2],
    );
    check(
        store.get_tail(name, 100).map(|(tail, _)| tail),
        &bytes[bytes.len() - 100..],
    );
    check(store.get_tail(name, 2 * whole).map(|(tail, _)| tail), bytes);
    errors
}

#[test]
fn a_server_that_does_nothing_else_is_an_error_and_never_a_wrong_byte() {
    let bytes = Random::new(3).bytes(200_000);
    for fault in [
        Fault::Status(500),
        Fault::Status(503),
        Fault::Reset,
        Fault::ResetInBody,
        Fault::EndInBody,
        Fault::ShortBody,
        Fault::ErrorDocument,
    ] {
        let proxy = FaultProxy::before(&server("radosgw", "endpoint"));
        let mut place = s3_at("radosgw", &proxy.endpoint);
        place.settings.patience.read = Duration::from_secs(1);
        let store = place.open();
        store.put_new("packs/00/a", Body::Bytes(&[&bytes])).unwrap();
        proxy.set(move |asked| (!asked.is_change()).then_some(fault));
        let errors = errors_of(&*store, "packs/00/a", &bytes);
        // A connection that breaks is resumed where it broke, so that everything may come after all.
        let may_heal = matches!(
            fault,
            Fault::ResetInBody | Fault::EndInBody | Fault::ShortBody
        );
        assert!(may_heal || errors.len() == 3, "{fault:?}: {errors:?}");
        for error in errors {
            let is_told = matches!(
                error,
                ErrorKind::Unreachable | ErrorKind::Corrupt | ErrorKind::Failed
            );
            assert!(is_told, "{fault:?}: {error:?}");
        }
    }
}

#[test]
fn a_put_whose_answer_is_lost_has_happened_once() {
    let (proxy, store) = proxied();
    proxy.set(|asked| (asked.is_change() && asked.number % 2 == 1).then_some(Fault::LostAnswer));
    for number in 0..6 {
        let name = format!("points/{number}");
        store
            .put_new(&name, Body::Bytes(&[name.as_bytes()]))
            .unwrap();
        let again = store
            .put_new(&name, Body::Bytes(&[b"another"]))
            .unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Exists);
        assert_eq!(store.get(&name).unwrap(), name.as_bytes());
    }
    assert!(
        proxy
            .take()
            .iter()
            .any(|asked| asked.fault == Some(Fault::LostAnswer))
    );
}

#[test]
fn what_is_refused_for_good_is_asked_for_once() {
    let (proxy, store) = proxied();
    store.put_new("points/a", Body::Bytes(&[b"a"])).unwrap();
    proxy.take();
    assert_eq!(
        store.get("points/b").unwrap_err().kind(),
        ErrorKind::Missing
    );
    assert_eq!(proxy.take().len(), 1);
    proxy.set(|_| Some(Fault::Status(403)));
    assert_eq!(store.get("points/a").unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(proxy.take().len(), 1);
}

#[test]
fn a_wrong_bucket_a_wrong_key_and_a_wrong_server_are_told_apart() {
    let mut place = s3_at("radosgw", &server("radosgw", "endpoint"));
    place.url = "s3://no-such-bucket/x".to_owned();
    let error = place.open().list("points/", "").unwrap_err();
    assert!(error.to_string().contains("no-such-bucket"), "{error}");

    let mut place = s3_at("radosgw", &server("radosgw", "endpoint"));
    place.settings.set("secret_access_key", "hidden-and-wrong");
    let error = place.open().list("points/", "").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(!error.to_string().contains("hidden-and-wrong"), "{error}");

    // Nobody listens on the port of discarded bytes.
    let mut place = s3_at("radosgw", "http://127.0.0.1:9");
    place.settings.patience.first = Duration::from_millis(300);
    let error = place.open().list("points/", "").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(error.to_string().contains("127.0.0.1:9"), "{error}");
}
