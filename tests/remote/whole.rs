//! Whole repositories in a bucket: backed up, mounted, copied from and checked by the real binary, over a good line and
//! a bad one; backups that fail; and how many requests it all takes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use bygone::store::Store;

use super::fault_proxy::{Asked, Fault, FaultProxy, one_in_ten};
use super::machine::{Machine, Mount, assert_success, path_text, run};
use super::places::{Place, s3, s3_at, sftp};
use super::random::Random;
use super::servers::server;
use super::snapshot::{Snapshot, snapshot};

/// How long a stalled answer stalls.
const STALL: Duration = Duration::from_secs(12);

/// A machine and a repository elsewhere.
struct Scene {
    machine: Machine,
    place: Place,
}

impl Scene {
    /// An empty repository in `place`, and a source with some files.
    fn new(place: Place) -> Self {
        let scene = Self {
            machine: Machine::bare(),
            place,
        };
        fill(&scene.machine.folder("source"));
        scene
    }

    /// The binary, with its credentials by the environment and the caches of a fresh client below `client`.
    fn command(&self, client: &str, arguments: &[&str]) -> Command {
        let mut command = self.machine.bygone(arguments);
        self.equip(client, &mut command);
        command
    }

    fn equip(&self, client: &str, command: &mut Command) {
        let value = |name| self.place.settings.get(name).unwrap_or_default();
        command
            .env("BYGONE_REPO", &self.place.url)
            .env("XDG_STATE_HOME", self.machine.path(client).join("state"))
            .env("XDG_CACHE_HOME", self.machine.path(client).join("cache"))
            .env("HOME", self.machine.path(client));
        if self.place.url.starts_with("s3:") {
            command
                .env("AWS_ENDPOINT_URL", value("endpoint"))
                .env("AWS_REGION", value("region"))
                .env("AWS_ACCESS_KEY_ID", value("access_key_id"))
                .env("AWS_SECRET_ACCESS_KEY", value("secret_access_key"));
        }
    }

    fn run(&self, client: &str, arguments: &[&str]) -> Output {
        self.command(client, arguments).output().unwrap()
    }

    /// Runs it; panics with what it said unless all went well. Returns what it printed.
    fn done(&self, client: &str, arguments: &[&str]) -> String {
        let output = self.run(client, arguments);
        assert_success(&output);
        String::from_utf8(output.stdout).unwrap()
    }

    fn back_up(&self, client: &str) -> Output {
        let source = self.machine.path("source");
        self.run(client, &["backup", "--set", "test", path_text(&source)])
    }

    fn mount(&self, client: &str) -> Mount {
        self.machine
            .mount_under("mnt", &["--point", "latest"], |command| {
                self.equip(client, command)
            })
    }

    /// The source as it is in the mount of one point.
    fn mounted(&self, mount: &Mount) -> Snapshot {
        let source = self.machine.path("source");
        snapshot(&mount.place.join(source.strip_prefix("/").unwrap()))
    }
}

/// Files of many sizes, three folders deep, and one of several packs' worth of nothing that compresses.
fn fill(source: &Path) {
    let mut random = Random::new(11);
    for number in 0..300 {
        let folder = source.join(format!("{}/{}", number % 7, number % 3));
        fs::create_dir_all(&folder).unwrap();
        let length = [10, 900, 20_000, 150_000][number % 4];
        fs::write(folder.join(format!("file {number}")), random.bytes(length)).unwrap();
    }
    let noise: Vec<u8> = std::iter::repeat_with(|| random.next().to_le_bytes())
        .take(1 << 20)
        .flatten()
        .collect();
    fs::write(source.join("large"), noise).unwrap();
    std::os::unix::fs::symlink("large", source.join("link")).unwrap();
}

/// Init, backup, mount, copy and check; the repository's place is one of each kind that the binary is tested with.
fn round_trip(place: Place) {
    let scene = Scene::new(place);
    scene.done("client", &["init"]);
    assert_success(&scene.back_up("client"));
    let expected = snapshot(&scene.machine.path("source"));
    let mount = scene.mount("another client");
    assert!(
        scene.mounted(&mount) == expected,
        "what is mounted is not what was backed up"
    );
    let copy = scene.machine.folder("copy");
    let source = scene.machine.path("source");
    let shown = mount.place.join(source.strip_prefix("/").unwrap());
    run("cp", &["-a", path_text(&shown), path_text(&copy)]);
    assert_eq!(
        run(
            "diff",
            &[
                "-r",
                "--no-dereference",
                path_text(&source),
                path_text(&copy.join("source"))
            ]
        ),
        ""
    );
    drop(mount);
    scene.done("a third client", &["check", "--read-data"]);
}

#[test]
fn a_repository_in_radosgw_is_backed_up_to_mounted_copied_from_and_checked() {
    round_trip(s3("radosgw"));
}

#[test]
fn a_repository_on_a_server_that_ignores_preconditions_is_so_too() {
    round_trip(s3("careless-s3"));
}

#[test]
fn a_repository_behind_ssh_is_so_too() {
    let place = sftp("host");
    // The binary is told by an option; see Scene::equip for what goes by the environment.
    let option = format!("ssh_command={}", place.settings.get("ssh_command").unwrap());
    let scene = Scene::new(place);
    let all = |arguments: &[&str]| {
        let mut with: Vec<&str> = vec!["--store-option", &option];
        with.extend(arguments);
        scene.done("client", &with)
    };
    all(&["init"]);
    let source = scene.machine.path("source");
    all(&["backup", path_text(&source)]);
    let mount = scene.machine.mount_under(
        "mnt",
        &["--store-option", &option, "--point", "latest"],
        |command| {
            scene.equip("another client", command);
        },
    );
    assert!(scene.mounted(&mount) == snapshot(&source));
    drop(mount);
    all(&["check", "--read-data"]);
}

#[test]
fn over_a_bad_line_everything_is_right_and_nothing_fails() {
    let proxy = FaultProxy::before(&server("radosgw", "endpoint"));
    let scene = Scene::new(s3_at("radosgw", &proxy.endpoint));
    proxy.set(one_in_ten(5, STALL));
    scene.done("client", &["init"]);
    assert_success(&scene.back_up("client"));
    let expected = snapshot(&scene.machine.path("source"));
    let mount = scene.mount("another client");
    let begun = Instant::now();
    assert!(scene.mounted(&mount) == expected, "{}", mount.logged());
    println!("read in {:?}", begun.elapsed());
    drop(mount);
    scene.done("a third client", &["check", "--read-data"]);
    let faulty = proxy
        .take()
        .iter()
        .filter(|asked| asked.fault.is_some())
        .count();
    assert!(faulty > 5, "only {faulty} requests went wrong");
}

/// The names of all objects in a place, without leases, which a backup that died leaves behind for a while.
fn objects(store: &dyn Store, prefix: &str) -> Vec<String> {
    store
        .list(prefix, "")
        .unwrap()
        .into_iter()
        .map(|listed| listed.name)
        .collect()
}

#[test]
fn a_backup_that_fails_commits_nothing_and_the_next_one_is_whole() {
    let proxy = FaultProxy::before(&server("radosgw", "endpoint"));
    let scene = Scene::new(s3_at("radosgw", &proxy.endpoint));
    scene.done("client", &["init"]);
    assert_success(&scene.back_up("client"));
    let direct = Place {
        url: scene.place.url.clone(),
        settings: s3("radosgw").settings,
    };
    let store = direct.open();
    let before = objects(&*store, "points/");
    let changes = proxy
        .take()
        .iter()
        .filter(|asked| asked.is_change())
        .count() as u64;
    fs::write(
        scene.machine.path("source/new"),
        Random::new(12).bytes(100_000),
    )
    .unwrap();
    // Refused from some change on, for good, as where a right is taken away or a quota is used up.
    for from in 1..=changes {
        proxy.take();
        let seen = std::sync::atomic::AtomicU64::new(0);
        proxy.set(move |asked| {
            let number = match asked.is_change() {
                true => seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1,
                false => 0,
            };
            (number >= from).then_some(Fault::Status(403))
        });
        let output = scene.back_up("client");
        proxy.heal();
        let after = objects(&*store, "points/");
        if output.status.success() {
            // The backup needed fewer changes than the first one did.
            assert_eq!(after.len(), before.len() + 1);
            break;
        }
        assert!(
            after == before,
            "a backup that failed at change {from} left a point"
        );
        scene.done("client", &["check", "--read-data"]);
    }
    if objects(&*store, "points/") == before {
        assert_success(&scene.back_up("client"));
    }
    scene.done("client", &["check", "--read-data"]);
    let mount = scene.mount("another client");
    assert!(scene.mounted(&mount) == snapshot(&scene.machine.path("source")));
}

/// How many requests of each sort there were: gets (and heads), listings, changes.
fn counts(asked: &[Asked]) -> (usize, usize, usize) {
    let listings = asked.iter().filter(|asked| asked.is_listing()).count();
    let changes = asked.iter().filter(|asked| asked.is_change()).count();
    (asked.len() - listings - changes, listings, changes)
}

#[test]
fn commands_make_few_requests() {
    let proxy = FaultProxy::before(&server("radosgw", "endpoint"));
    let scene = Scene::new(s3_at("radosgw", &proxy.endpoint));
    let asked = |what: &str, most: (usize, usize, usize)| {
        let asked = proxy.take();
        let counts = counts(&asked);
        println!("{what}: {counts:?}");
        let is_few = counts.0 <= most.0 && counts.1 <= most.1 && counts.2 <= most.2;
        assert!(
            is_few,
            "{what}: {counts:?} and not {most:?} at most: {asked:#?}"
        );
    };
    scene.done("client", &["init"]);
    asked("init", (2, 3, 3));
    assert_success(&scene.back_up("client"));
    asked("backup", (12, 12, 12));
    assert_success(&scene.back_up("client"));
    asked("backup of nothing new", (12, 12, 8));
    scene.done("another client", &["points"]);
    asked("points", (4, 3, 0));
    let mount = scene.mount("a third client");
    asked("mount", (8, 3, 0));
    let source = scene.machine.path("source");
    let shown = mount.place.join(source.strip_prefix("/").unwrap());
    assert_eq!(fs::read_dir(&shown).unwrap().count(), 9);
    asked("the first listing", (4, 0, 0));
    fs::read(shown.join("0/0/file 0")).unwrap();
    asked("the first file", (4, 0, 0));
}
