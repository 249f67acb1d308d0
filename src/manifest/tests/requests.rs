//! How many requests reading makes of the store: what the design promises is counted here.

use super::*;

/// A point of one run with empty caches: footer, index, block of directories, block of files.
const COLD_LOOKUP_REQUESTS_MAX: usize = 4;

#[test]
fn a_cold_lookup_at_any_depth_takes_at_most_four_requests() {
    let bench = Bench::new();
    let mut deep = String::from("home");
    let reference = bench.run(false, |writer| {
        let (mut directories, mut files) = tree_keys(3000, 10);
        for level in 0..40 {
            deep.push_str(&format!("/level {level}"));
            directories.push(key(&deep));
        }
        files.push(key(&format!("{deep}/file")));
        directories.sort();
        files.sort();
        for (number, key) in directories.iter().enumerate() {
            writer
                .append(key, Section::Directories, &record(directory(number as u64)))
                .unwrap();
        }
        for (number, key) in files.iter().enumerate() {
            writer
                .append(key, Section::Files, &record(file(number as u64)))
                .unwrap();
        }
    });
    assert!(reference.length > 1 << 20, "{} bytes", reference.length);
    let reference = RunReference {
        footer: None,
        ..reference
    };
    for path in [
        "home/folder 01500/file 00005.txt",
        &format!("{deep}/file"),
        "home/folder 00000/x",
    ] {
        // Level by level, as the kernel asks, and with nothing in memory.
        let chain = bench.chain(std::slice::from_ref(&reference));
        let mut folder = Key::root();
        for name in path.split('/') {
            assert!(chain.lookup(&folder).unwrap().is_some());
            folder = folder.child(name.as_bytes()).unwrap();
        }
        assert_eq!(
            chain.lookup(&folder).unwrap().is_some(),
            !path.ends_with('x')
        );
        let requests = bench.requests();
        assert!(
            requests <= COLD_LOOKUP_REQUESTS_MAX,
            "{requests} requests for {path}"
        );
        // And once more, from memory.
        chain.lookup(&folder).unwrap();
        assert_eq!(bench.requests(), 0);
    }
}

#[test]
fn a_small_run_takes_one_request_for_each_section() {
    let bench = Bench::new();
    let reference = bench.run(true, |writer| {
        append_tree(writer, 3, 3);
    });
    let chain = bench.chain(&[reference]);
    assert_eq!(bench.requests(), 0, "its footer is in the point");
    chain.lookup(&key("home/folder 00001")).unwrap().unwrap();
    assert_eq!(bench.requests(), 1);
    chain
        .lookup(&key("home/folder 00001/file 00001.txt"))
        .unwrap()
        .unwrap();
    assert_eq!(bench.requests(), 1);
    assert!(chain.lookup(&key("home/none")).unwrap().is_none());
    assert_eq!(
        all(chain.children(&key("none"), Section::Files, None)).unwrap(),
        []
    );
    assert_eq!(bench.requests(), 0, "its filters are in the footer");
}

#[test]
fn walking_a_run_brings_many_blocks_with_one_request() {
    let bench = Bench::new();
    let reference = bench.run(false, |writer| {
        append_tree(writer, 500, 100);
    });
    let length = reference.length;
    let chain = bench.chain(std::slice::from_ref(&reference));
    assert_eq!(all(chain.entries(&Key::root())).unwrap().len(), 50_502);
    let walked = bench.requests();
    let whole = (length >> 19) as usize;
    assert!(walked <= whole + 10, "{walked} requests for {length} bytes");
    // Folder by folder, as `find` does, is as good.
    let chain = bench.chain(&[reference]);
    for folder in &tree_keys(500, 0).0 {
        all(chain.children(folder, Section::Files, None)).unwrap();
    }
    let listed = bench.requests();
    assert!(
        listed <= walked + 2,
        "{listed} requests, {walked} in one go"
    );
}

#[test]
fn listing_one_folder_fetches_no_block_beyond_it() {
    let bench = Bench::new();
    let reference = bench.run(false, |writer| {
        append_tree(writer, 50, 2000);
    });
    let chain = bench.chain(&[reference]);
    all(chain.children(&key("home/folder 00025"), Section::Files, None)).unwrap();
    let fetched: u64 = bench.store.take().iter().map(|request| request.bytes).sum();
    assert!(fetched < 400 << 10, "{fetched} bytes");
}

#[test]
fn a_run_without_what_is_asked_for_is_passed_over() {
    let bench = Bench::new();
    let mut references: Vec<RunReference> = (0..20)
        .map(|number| {
            bench.run(true, |writer| {
                let path = key(&format!("home/new {number}"));
                writer
                    .append(&path, Section::Files, &record(file(number)))
                    .unwrap();
            })
        })
        .collect();
    references.push(bench.run(false, |writer| {
        append_tree(writer, 3, 3);
    }));
    let chain = bench.chain(&references);
    bench.requests();
    chain
        .lookup(&key("home/folder 00001/file 00001.txt"))
        .unwrap()
        .unwrap();
    all(chain.children(&key("home/folder 00001"), Section::Files, None)).unwrap();
    // The base's sections, and no other run's.
    assert_eq!(bench.requests(), 2);
}
