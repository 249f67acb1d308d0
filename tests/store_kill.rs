//! A writer of packs is killed at each of its changes of a local store, before, in the middle of and after it: what
//! is there afterwards is whole and told truly, and the next writer goes on from there.
//!
//! The test runs itself as the process that is killed.

use std::collections::BTreeSet;
use std::env;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bygone::format::{Chunking, FrameChunk};
use bygone::repo::{
    Index, InitOptions, Lease, PackWriter, Repository, leases, list_packs, read_pack_directory,
};
use bygone::seal::{Compression, SealedKind};
use bygone::store::{Fault, FaultPlan, LocalStore};

/// Where the process that is to be killed works, and when it is killed.
const PLACE: &str = "BYGONE_TEST_KILL_PLACE";
const PLAN: &str = "BYGONE_TEST_KILL_PLAN";

const FRAMES: u32 = 60;

fn options() -> InitOptions {
    InitOptions {
        chunking: Chunking {
            pack_bytes: 5000,
            ..Chunking::default()
        },
        ..InitOptions::default()
    }
}

/// Adds all frames that the repository has not, and returns how many those were.
fn write_all(repository: &Arc<Repository>) -> usize {
    let _lease = Lease::acquire(repository, None).unwrap();
    let writer = PackWriter::create(Arc::clone(repository), false).unwrap();
    let mut added = 0;
    for number in 0..FRAMES {
        let mut plain = vec![0; 1000];
        blake3::Hasher::new()
            .update(&number.to_le_bytes())
            .finalize_xof()
            .fill(&mut plain);
        let id = repository.seal().chunk_id(&plain);
        if writer.find(&id, 1000).unwrap().is_some() {
            continue;
        }
        let mut sealed = Vec::new();
        let (kind, off) = (SealedKind::Data, Compression::Off);
        repository
            .seal()
            .seal(kind, b"", &plain, off, &mut sealed)
            .unwrap();
        let chunk = FrameChunk {
            id,
            offset: 0,
            length: 1000,
        };
        writer.add_frame(kind, &sealed, 1000, &[chunk]).unwrap();
        added += 1;
    }
    writer.finish().unwrap();
    added
}

/// Every location that the index names is in its pack's directory; returns how many chunks are known.
fn assert_index_is_true(repository: &Arc<Repository>) -> usize {
    let index = Index::open(repository).unwrap();
    assert!(index.damaged().is_empty());
    let mut known = BTreeSet::new();
    for run in index.run_ids() {
        index
            .for_each_location(&run, |location| {
                let directory = read_pack_directory(repository, &location.hint.pack)?;
                assert!(directory.frames().iter().any(|frame| {
                    frame.offset == location.hint.frame_offset
                        && frame
                            .chunks
                            .iter()
                            .any(|chunk| chunk.id.0.starts_with(&location.prefix))
                }));
                known.insert(location.prefix);
                Ok(())
            })
            .unwrap();
    }
    known.len()
}

/// Not a test of its own: the process that is killed.
#[test]
fn the_process_that_is_killed() {
    let (Some(place), Ok(plan)) = (env::var_os(PLACE), env::var(PLAN)) else {
        return;
    };
    let local = LocalStore::open(Path::new(&place)).unwrap();
    let plan: FaultPlan = plan.parse().unwrap();
    let fault = Arc::new(Fault::over_local(local, plan));
    let repository = Repository::open(fault.clone()).unwrap();
    write_all(&repository);
}

/// Runs the process; was it killed?
fn run(place: &Path, plan: &str) -> bool {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "the_process_that_is_killed", "--nocapture"])
        .env(PLACE, place)
        .env(PLAN, plan)
        .output()
        .unwrap();
    let was_killed = output.status.code().is_none();
    assert!(was_killed || output.status.success(), "{output:?}");
    was_killed
}

/// In memory where there is such a folder: a killed process loses nothing that it wrote, synced or not.
fn fast_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

#[test]
fn a_writer_killed_at_any_change_leaves_what_the_next_one_goes_on_from() {
    let mut kills = 0;
    for moment in ["before", "during", "after"] {
        for at in 1.. {
            let folder = fast_folder();
            let open = || LocalStore::create(folder.path()).unwrap();
            Repository::init(Arc::new(open()), &options()).unwrap();
            if !run(folder.path(), &format!("abort-{moment}:{at}")) {
                break;
            }
            kills += 1;
            let repository = Repository::open(Arc::new(open())).unwrap();
            let put: usize = list_packs(&repository)
                .unwrap()
                .iter()
                .map(|(pack, _)| read_pack_directory(&repository, pack).unwrap())
                .map(|directory| directory.frames().len())
                .sum();
            let known = assert_index_is_true(&repository);
            // A chunk a frame, four frames a pack, an index run every four packs.
            assert!(known + 16 >= put, "{known} chunks known of {put} put");
            assert!(leases(&repository).unwrap().len() <= 1);
            // The next writer also finds what lies in packs that no index names yet.
            assert_eq!(write_all(&repository), FRAMES as usize - put);
            assert_eq!(assert_index_is_true(&repository), FRAMES as usize);
            let temporaries = std::fs::read_dir(folder.path().join("tmp"))
                .unwrap()
                .count();
            assert_eq!(temporaries, 1, "the living writer's lock and nothing else");
        }
    }
    assert!(kills > 40, "only {kills} places were tried");
}
