//! A store before a server of S3's protocol that misbehaves as it is told: on its next requests, each in one way.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::super::{Body, Bucket, Patience, Retrying, Settings, Store};
use super::RemoteStore;
use crate::base::ErrorKind;

/// An error's description.
fn refusal(status: u16) -> String {
    let code = match status {
        400..=499 => "Told",
        _ => "SlowDown",
    };
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>Later.</Message></Error>")
}

/// What the server does to a request instead of what it should.
#[derive(Clone, Copy)]
enum Trick {
    /// Answers with this status and an error's description.
    Status(u16),
    /// Does what it was asked to, and answers with this status all the same.
    DoneBut(u16),
    /// Answers with so many bytes of the body, and hangs up.
    CutAfter(usize),
    /// Answers as if the object were so many bytes long.
    Shortened(usize),
    /// Answers a range with all of the object.
    Whole,
    /// Says that there is nothing.
    EmptyListing,
    /// Hangs up.
    HangUp,
    /// Sends to another place.
    Redirect,
}

/// One request as the server saw it.
#[derive(Debug, Clone, Default)]
struct Seen {
    method: String,
    path: String,
    range: Option<String>,
    depth: Option<String>,
    is_conditional: bool,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    parts: BTreeMap<usize, Vec<u8>>,
    tricks: VecDeque<Option<Trick>>,
    seen: Vec<Seen>,
    /// Are conditions of puts not minded?
    is_lax: bool,
}

struct Server {
    address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, state) = (stream.unwrap(), Arc::clone(&shared));
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address, state }
    }

    fn store(&self) -> RemoteStore {
        let mut settings = Settings::default();
        settings.set("endpoint", &self.address);
        settings.set("access_key_id", "id");
        settings.set("secret_access_key", "secret");
        let bucket = Bucket {
            name: "moon".to_owned(),
            prefix: "a/b".to_owned(),
        };
        RemoteStore::s3(&bucket, settings).unwrap()
    }

    fn patient(&self) -> Retrying {
        let patience = Patience {
            wait_first: std::time::Duration::from_millis(1),
            ..Patience::default()
        };
        Retrying::new(Arc::new(self.store()), patience)
    }

    /// Plays these tricks on the next requests; None lets one pass.
    fn play(&self, tricks: impl IntoIterator<Item = Option<Trick>>) {
        self.state.lock().unwrap().tricks.extend(tricks);
    }

    fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state.lock().unwrap().seen)
    }

    fn methods(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.method).collect()
    }

    fn object(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state.lock().unwrap();
        state.objects.get(&format!("a/b/{name}")).cloned()
    }

    fn add(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap();
        state.objects.insert(format!("a/b/{name}"), bytes.to_vec());
    }
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    while let Some((seen, body)) = read_request(&mut reader) {
        let (answer, sent) = {
            let mut state = state.lock().unwrap();
            state.seen.push(seen.clone());
            let trick = state.tricks.pop_front().flatten();
            respond(&mut state, &seen, body, trick)
        };
        let Some(answer) = answer else { return };
        let mut head = format!("HTTP/1.1 {} Told\r\n", answer.status);
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", answer.body.len());
        stream.write_all(head.as_bytes()).unwrap();
        let is_head = seen.method == "HEAD";
        let bytes = if is_head { &[][..] } else { &answer.body[..] };
        let _ = stream.write_all(&bytes[..sent.unwrap_or(bytes.len()).min(bytes.len())]);
        if sent.is_some() {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<(Seen, Vec<u8>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace();
    let mut seen = Seen {
        method: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
        ..Seen::default()
    };
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "range" => seen.range = Some(value.to_owned()),
            "depth" => seen.depth = Some(value.to_owned()),
            "if-none-match" => seen.is_conditional = true,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((seen, body))
}

/// The answer, if there is one, and how much of its body is sent before the server hangs up.
fn respond(
    state: &mut State,
    seen: &Seen,
    body: Vec<u8>,
    trick: Option<Trick>,
) -> (Option<Answer>, Option<usize>) {
    match trick {
        None => (Some(honest(state, seen, body)), None),
        Some(Trick::Status(status)) => (Some(Answer::new(status, refusal(status))), None),
        Some(Trick::DoneBut(status)) => {
            honest(state, seen, body);
            (Some(Answer::new(status, refusal(status))), None)
        }
        Some(Trick::CutAfter(sent)) => (Some(honest(state, seen, body)), Some(sent)),
        Some(Trick::Shortened(length)) => {
            let mut answer = honest(state, seen, body);
            answer.body.truncate(length);
            (Some(answer), None)
        }
        Some(Trick::Whole) => {
            let without_range = Seen {
                range: None,
                ..seen.clone()
            };
            (Some(honest(state, &without_range, body)), None)
        }
        Some(Trick::EmptyListing) => (Some(listing(&[])), None),
        Some(Trick::HangUp) => (None, None),
        Some(Trick::Redirect) => (
            Some(Answer::new(307, "").with("Location", "http://127.0.0.1:1/")),
            None,
        ),
    }
}

fn honest(state: &mut State, seen: &Seen, body: Vec<u8>) -> Answer {
    let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
    let name = path
        .trim_start_matches("/moon")
        .trim_matches('/')
        .to_owned();
    let number = |key: &str| {
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(key)?.parse().ok())
    };
    match seen.method.as_str() {
        "GET" if query.contains("list-type=2") => list(state, query),
        "GET" | "HEAD" => read(state, &name, seen.range.as_deref()),
        "POST" if query.contains("uploads") => {
            Answer::new(200, "<Result><UploadId>1</UploadId></Result>")
        }
        "POST" => {
            let whole = std::mem::take(&mut state.parts).into_values().flatten();
            state.objects.insert(name, whole.collect());
            Answer::new(200, "<Result><ETag>\"x\"</ETag></Result>")
        }
        "PUT" => match number("partNumber=") {
            Some(number) => {
                state.parts.insert(number, body);
                Answer::new(200, "").with("ETag", "\"x\"")
            }
            None if seen.is_conditional && !state.is_lax && state.objects.contains_key(&name) => {
                Answer::new(412, "<Error><Code>PreconditionFailed</Code></Error>")
            }
            None => {
                state.objects.insert(name, body);
                Answer::new(200, "").with("ETag", "\"x\"")
            }
        },
        "PROPFIND" if seen.depth.as_deref() == Some("1") => folder(state, path),
        "PROPFIND" => Answer::new(403, "<error><propfind-finite-depth/></error>"),
        "DELETE" => {
            state.objects.remove(&name);
            Answer::new(204, "")
        }
        method => panic!("a request of kind {method}"),
    }
}

fn read(state: &State, name: &str, range: Option<&str>) -> Answer {
    let Some(object) = state.objects.get(name) else {
        return Answer::new(404, "<Error><Code>NoSuchKey</Code></Error>");
    };
    let length = object.len();
    let Some(range) = range else {
        return Answer::new(200, object.clone()).with("ETag", "\"x\"");
    };
    let (first, last) = range
        .strip_prefix("bytes=")
        .unwrap()
        .split_once('-')
        .unwrap();
    let (start, end) = match first {
        "" => (length.saturating_sub(last.parse().unwrap()), length),
        first => {
            let end = last.parse::<usize>().unwrap().saturating_add(1);
            (first.parse().unwrap(), end.min(length))
        }
    };
    if start >= end {
        return Answer::new(416, "<Error><Code>InvalidRange</Code></Error>");
    }
    Answer::new(206, &object[start..end]).with(
        "Content-Range",
        format!("bytes {start}-{}/{length}", end - 1),
    )
}

fn list(state: &State, query: &str) -> Answer {
    let value = |key: &str| {
        let pair = query.split('&').find_map(|pair| pair.strip_prefix(key));
        pair.unwrap_or_default().replace("%2F", "/")
    };
    let (prefix, after) = (value("prefix="), value("start-after="));
    let found: Vec<(&String, usize)> = state
        .objects
        .iter()
        .filter(|(name, _)| name.starts_with(&prefix) && **name > after)
        .map(|(name, object)| (name, object.len()))
        .collect();
    listing(&found)
}

fn listing(objects: &[(&String, usize)]) -> Answer {
    let mut page = "<ListBucketResult>".to_owned();
    for (name, length) in objects {
        page += &format!(
            "<Contents><Key>{name}</Key><Size>{length}</Size>\
             <LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        );
    }
    Answer::new(200, page + "</ListBucketResult>")
}

/// What lies in a folder and in none below it, as WebDAV tells.
fn folder(state: &State, path: &str) -> Answer {
    const COLLECTION: &str = "<resourcetype><collection/></resourcetype>";
    let prefix = format!("{}/", path.trim_matches('/'));
    let mut responses = BTreeMap::new();
    for (name, object) in &state.objects {
        let Some(rest) = name.strip_prefix(&prefix) else {
            continue;
        };
        match rest.split_once('/') {
            Some((folder, _)) => responses.insert(folder.to_owned(), COLLECTION.to_owned()),
            None => responses.insert(
                rest.to_owned(),
                format!(
                    "<resourcetype/><getcontentlength>{}</getcontentlength>",
                    object.len()
                ),
            ),
        };
    }
    if responses.is_empty() {
        return Answer::new(404, "");
    }
    responses.insert(String::new(), COLLECTION.to_owned());
    let mut page = "<multistatus>".to_owned();
    for (name, properties) in responses {
        page += &format!(
            "<response><href>/{prefix}{name}</href><propstat><prop>{properties}\
             <getlastmodified>Thu, 01 Jan 2026 00:00:00 GMT</getlastmodified></prop>\
             <status>HTTP/1.1 200 OK</status></propstat></response>"
        );
    }
    Answer::new(207, page + "</multistatus>")
}

fn bytes(length: u32) -> Vec<u8> {
    (0..length).map(|number| (number % 251) as u8).collect()
}

#[test]
fn a_range_that_breaks_off_goes_on_where_it_was() {
    let server = Server::start();
    let object = bytes(300_000);
    server.add("packs/ab/a", &object);
    let store = server.store();
    server.play([Some(Trick::CutAfter(1000)), Some(Trick::Shortened(70))]);
    assert!(store.get_range("packs/ab/a", 100..200_100).unwrap() == object[100..200_100]);
    let ranges: Vec<String> = server
        .seen()
        .into_iter()
        .filter_map(|seen| seen.range)
        .collect();
    assert_eq!(
        ranges,
        ["bytes=100-200099", "bytes=1100-200099", "bytes=1170-200099"]
    );
    server.play([Some(Trick::CutAfter(10))]);
    assert!(store.get("packs/ab/a").unwrap() == object);
    server.play([Some(Trick::CutAfter(10))]);
    let (tail, length) = store.get_tail("packs/ab/a", 100).unwrap();
    assert!(tail == object[299_900..] && length == 300_000);
}

#[test]
fn a_server_that_sends_everything_gives_what_was_asked_for() {
    let server = Server::start();
    let object = bytes(100_000);
    server.add("packs/ab/a", &object);
    let store = server.store();
    server.play([Some(Trick::Whole), Some(Trick::Whole)]);
    assert!(store.get_range("packs/ab/a", 5000..5100).unwrap() == object[5000..5100]);
    assert_eq!(
        store.get_tail("packs/ab/a", 3).unwrap(),
        (object[99_997..].to_vec(), 100_000)
    );
    server.play([Some(Trick::Whole)]);
    let error = store.get_range("packs/ab/a", 99_999..100_001).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn an_error_with_status_200_is_never_taken_for_what_was_asked_for() {
    let server = Server::start();
    let object = bytes(1000);
    server.add("packs/ab/a", &object);
    let trick = || server.play([Some(Trick::Status(200))]);
    let store = server.store();
    let unreachable = |error: crate::base::Error| assert_eq!(error.kind(), ErrorKind::Unreachable);
    trick();
    unreachable(store.get("packs/ab/a").unwrap_err());
    trick();
    unreachable(store.get_range("packs/ab/a", 0..20).unwrap_err());
    trick();
    unreachable(store.get_tail("packs/ab/a", 20).unwrap_err());
    trick();
    unreachable(store.list("packs/", "").unwrap_err());
    trick();
    unreachable(store.delete("packs/ab/a").unwrap_err());
    server.play([None, Some(Trick::Status(200))]);
    unreachable(store.put_new("points/a", Body::Bytes(&[b"a"])).unwrap_err());
    assert_eq!(server.object("points/a"), None);
    // A look that says yes where nothing is, after a put whose answer was lost.
    let patient = server.patient();
    server.play([None, Some(Trick::HangUp), Some(Trick::Status(200))]);
    patient.put_new("points/b", Body::Bytes(&[b"b"])).unwrap();
    assert_eq!(server.object("points/b"), Some(b"b".to_vec()));
    trick();
    assert!(patient.get("packs/ab/a").unwrap() == object);
    trick();
    assert_eq!(patient.list("packs/", "").unwrap().len(), 1);
    server.play([Some(Trick::Status(200))]);
    patient.put_new("points/a", Body::Bytes(&[b"a"])).unwrap();
    assert_eq!(server.object("points/a"), Some(b"a".to_vec()));
}

#[test]
fn an_empty_listing_is_asked_for_again_before_it_is_believed() {
    let server = Server::start();
    server.add("points/a", b"a");
    let store = server.store();
    server.play([Some(Trick::EmptyListing)]);
    assert_eq!(store.list("points/", "").unwrap().len(), 1);
    assert_eq!(server.methods().len(), 2);
    assert!(store.list("index/", "").unwrap().is_empty());
    assert_eq!(server.methods().len(), 2);
    assert!(store.list("index/", "").unwrap().is_empty());
    assert_eq!(server.methods().len(), 1);
}

#[test]
fn a_put_is_tried_out_once_and_conditional_from_then_on() {
    let server = Server::start();
    let store = server.store();
    store.put_new("leases/a", Body::Bytes(&[b"a"])).unwrap();
    assert_eq!(server.methods(), ["HEAD", "PUT", "PUT"]);
    store.put_new("leases/b", Body::Bytes(&[b"b"])).unwrap();
    let seen = server.seen();
    assert!(seen.len() == 1 && seen[0].is_conditional);
    let error = store.put_new("leases/a", Body::Bytes(&[b"c"])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);
    assert_eq!(server.object("leases/a"), Some(b"a".to_vec()));
}

#[test]
fn where_conditions_are_ignored_a_look_keeps_objects_from_being_replaced() {
    let server = Server::start();
    server.state.lock().unwrap().is_lax = true;
    server.add("points/there", b"others");
    for fresh in [true, false] {
        let store = server.store();
        if !fresh {
            store.put_new("leases/a", Body::Bytes(&[b"a"])).unwrap();
        }
        let error = store
            .put_new("points/there", Body::Bytes(&[b"mine"]))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exists);
        assert_eq!(server.object("points/there"), Some(b"others".to_vec()));
    }
}

#[test]
fn what_cannot_heal_is_asked_for_once_and_what_can_until_it_does() {
    let server = Server::start();
    server.add("points/a", b"a");
    let patient = server.patient();
    for status in [400, 401, 403, 404] {
        server.play([Some(Trick::Status(status))]);
        patient.get("points/a").unwrap_err();
        assert_eq!(server.methods().len(), 1, "{status}");
    }
    server.play([Some(Trick::Redirect)]);
    assert_eq!(
        patient.get("points/a").unwrap_err().kind(),
        ErrorKind::Usage
    );
    assert_eq!(server.methods().len(), 1);
    for trick in [Trick::Status(500), Trick::Status(503), Trick::HangUp] {
        server.play([Some(trick), Some(trick)]);
        assert_eq!(patient.get("points/a").unwrap(), b"a");
        assert_eq!(server.methods().len(), 3);
    }
}

#[test]
fn a_put_that_was_done_and_denied_is_done() {
    let server = Server::start();
    let patient = server.patient();
    patient.put_new("leases/a", Body::Bytes(&[b"a"])).unwrap();
    for trick in [Trick::DoneBut(500), Trick::DoneBut(200)] {
        server.play([Some(trick)]);
        let name = format!("points/{}", server.seen().len());
        patient.put_new(&name, Body::Bytes(&[b"a", b"b"])).unwrap();
        assert_eq!(server.object(&name), Some(b"ab".to_vec()));
    }
}

#[test]
fn a_large_object_goes_up_in_parts_and_outlives_the_failure_of_one() {
    let server = Server::start();
    let store = server.store();
    let object = bytes(70 << 20);
    let (front, back) = object.split_at(1_000_003);
    server.play([
        None,
        None,
        None,
        Some(Trick::Status(500)),
        Some(Trick::HangUp),
    ]);
    store
        .put_new("packs/ab/a", Body::Bytes(&[front, back]))
        .unwrap();
    assert!(server.object("packs/ab/a").unwrap() == object);
    let methods = server.methods();
    let count = |method: &str| methods.iter().filter(|seen| *seen == method).count();
    assert_eq!((count("POST"), count("PUT")), (2, 5 + 2), "{methods:?}");
}

#[test]
fn a_web_server_that_lists_one_folder_at_a_time_is_asked_so() {
    let server = Server::start();
    for name in [
        "config",
        "packs/ab/1",
        "packs/ab/2",
        "packs/cd/3",
        "points/4",
    ] {
        server.add(name, name.as_bytes());
    }
    let url = format!("{}/a/b", server.address).parse().unwrap();
    let store = RemoteStore::web_dav(&url, Settings::default()).unwrap();
    let names = |prefix: &str| -> Vec<String> {
        let listed = store.list(prefix, "").unwrap();
        listed.into_iter().map(|listed| listed.name).collect()
    };
    assert_eq!(names("packs/"), ["packs/ab/1", "packs/ab/2", "packs/cd/3"]);
    assert_eq!(names("").len(), 5);
    assert!(names("index/").is_empty());
    assert_eq!(store.list("packs/ab/", "packs/ab/2").unwrap()[0].length, 10);
}
