//! How mounts come and go: `bygone mount` and `bygone umount`, signals, refusals, and what is said when it fails.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::machine::{Machine, assert_success, figure, is_mounted, path_text, run, within};

/// What a signal or an unmount may take to end a process.
const SOON: Duration = Duration::from_secs(5);

/// A machine with one small point, and the point's id.
fn with_a_point() -> (Machine, String) {
    let machine = Machine::new();
    fs::write(machine.path("source/file"), "some bytes").unwrap();
    let point = machine.back_up("--full");
    (machine, point)
}

#[test]
fn mount_returns_when_the_mount_answers_and_umount_when_its_process_has_gone() {
    let (machine, _) = with_a_point();
    let mount = machine.mount("mnt", &[]);
    assert!(mount.path("latest").is_dir());
    assert!(!mount.is_gone());
    // It has left the directory that it was started in, and every open file of whoever started it.
    let working = format!("/proc/{}/cwd", mount.process.as_raw_nonzero());
    assert_eq!(fs::read_link(working).unwrap(), Path::new("/"));
    for stream in 0..3 {
        let stream = format!("/proc/{}/fd/{stream}", mount.process.as_raw_nonzero());
        assert_eq!(fs::read_link(stream).unwrap(), Path::new("/dev/null"));
    }
    machine.done(&["umount", path_text(&mount.place)]);
    assert!(!mount.is_listed());
    assert!(mount.is_gone());
    assert!(
        mount.logged().contains("is unmounted"),
        "{}",
        mount.logged()
    );
}

#[test]
fn plain_umount_ends_the_process() {
    let (machine, _) = with_a_point();
    let mount = machine.mount("mnt", &[]);
    run("umount", &[path_text(&mount.place)]);
    assert!(within(SOON, || mount.is_gone()));
}

#[test]
fn a_mount_that_follows_another_at_once_is_not_taken_away_with_it() {
    let (machine, _) = with_a_point();
    let before = machine.mount("mnt", &[]);
    // It learns of its end only when another is in its place, alike to the last digit.
    before.signal(Signal::STOP);
    unmount(&before.place, UnmountFlags::NOFOLLOW).unwrap();
    let after = machine.mount("mnt", &[]);
    before.signal(Signal::CONT);
    assert!(within(SOON, || before.is_gone()));
    assert!(after.is_listed() && after.path("latest").is_dir());
    drop(after);
}

#[test]
fn who_gives_up_waiting_leaves_no_mount_behind() {
    let (machine, _) = with_a_point();
    let place = machine.folder("mnt");
    // A reader of standard output that has gone makes the command fail once the mount answers.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = machine
        .bygone(&["mount", "--json", path_text(&place)])
        .stdout(writer)
        .status()
        .unwrap();
    assert!(!status.success());
    assert!(within(SOON, || !is_mounted(&place)));
}

#[test]
fn a_system_without_a_place_for_state_mounts_all_the_same() {
    let (machine, point) = with_a_point();
    let place = machine.folder("mnt");
    let output = machine
        .bygone(&["mount", path_text(&place)])
        .env("XDG_STATE_HOME", "/proc/no/such/place")
        .output()
        .unwrap();
    assert_success(&output);
    assert!(place.join("points").join(&point).is_dir());
    machine.done(&["umount", path_text(&place)]);
}

#[test]
fn sigterm_sigint_and_sighup_unmount() {
    let (machine, _) = with_a_point();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mount = machine.mount("mnt", &[]);
        mount.signal(signal);
        assert!(within(SOON, || mount.is_gone()), "{signal:?}");
        assert!(!mount.is_listed(), "{signal:?}");
    }
}

#[test]
fn a_mount_that_is_in_use_is_taken_away_by_a_signal_and_not_by_umount() {
    let (machine, point) = with_a_point();
    let mount = machine.mount("mnt", &[]);
    let file = File::open(mount.source(&point, &machine.path("source")).join("file")).unwrap();
    let told = machine.refused(11, &["umount", path_text(&mount.place)]);
    assert!(told.contains("in use"), "{told}");
    assert!(mount.is_listed() && !mount.is_gone());
    mount.signal(Signal::TERM);
    assert!(within(SOON, || mount.is_gone()));
    assert!(!mount.is_listed());
    drop(file);
}

#[test]
fn a_mount_in_the_foreground_stays_there_until_a_signal_comes() {
    let (machine, _) = with_a_point();
    let place = machine.folder("mnt");
    let mut process = machine
        .bygone(&["-v", "mount", "--foreground", path_text(&place)])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(within(SOON, || place.join("latest").is_dir()));
    assert!(process.try_wait().unwrap().is_none());
    let id = Pid::from_raw(process.id().try_into().unwrap()).unwrap();
    kill_process(id, Signal::INT).unwrap();
    assert!(process.wait().unwrap().success());
    assert!(!is_mounted(&place));
    let mut told = String::new();
    process
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut told)
        .unwrap();
    assert!(
        told.contains("is mounted") && told.contains("is unmounted"),
        "{told}"
    );
}

#[test]
fn what_goes_wrong_before_the_mount_answers_is_said_and_is_the_exit_code() {
    let (machine, _) = with_a_point();
    let place = machine.folder("mnt");
    let place = path_text(&place);
    let told = machine.refused(2, &["mount", "--point", "nonsense=none", place]);
    assert!(
        told.starts_with("bygone: ") && told.contains("nonsense"),
        "{told}"
    );
    let told = machine.refused(2, &["mount", "-o", "alow_other", place]);
    assert!(told.contains("alow_other"), "{told}");
    let told = machine.refused(2, &["mount", "-o", "rw", place]);
    assert!(told.contains("never written"), "{told}");
    let missing = machine.path("none");
    machine.refused(21, &["mount", path_text(&missing)]);
    machine.refused(10, &["-r", path_text(&missing), "mount", place]);
    let told = machine.refused(
        21,
        &[
            "mount",
            "--log-file",
            path_text(&missing.join("log")),
            place,
        ],
    );
    assert!(told.contains("none/log"), "{told}");
    let told = machine.refused(2, &["--json", "mount", "--point", "2000-01-01", place]);
    let told: serde_json::Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!(told["exit_code"], 2);
    fs::write(machine.path("repository/config"), "{").unwrap();
    machine.refused(20, &["mount", place]);
    assert!(!is_mounted(Path::new(place)));
}

#[test]
fn a_place_over_inside_or_around_the_repository_the_state_or_a_source_is_refused() {
    let (machine, _) = with_a_point();
    let repository = machine.path("repository");
    symlink(&repository, machine.path("link")).unwrap();
    let mut places = vec![
        (repository.clone(), "over the repository"),
        (repository.join("points"), "inside the repository"),
        (machine.path(""), "around the repository"),
        (machine.path("link"), "over the repository"),
        (machine.path("state/bygone"), "over what bygone keeps"),
        (machine.path("source"), "over what was backed up"),
    ];
    let bound = machine.bind(&repository, "bound");
    places.push((bound, "over the repository"));
    for (place, expected) in places {
        // Not even where whatever is there may be hidden.
        let told = machine.refused(2, &["mount", "-o", "nonempty", path_text(&place)]);
        assert!(told.contains(expected), "{told}");
    }
    machine.refused(2, &["mount", "/"]);
    machine.refused(2, &["mount", path_text(&machine.path("source/file"))]);
    // Inside a source there may be mounts: a home that is backed up has them.
    fs::create_dir(machine.path("source/mnt")).unwrap();
    let inside = machine.mount("source/mnt", &[]);
    assert!(inside.path("latest").exists());
}

#[test]
fn several_mounts_live_side_by_side_and_one_place_takes_one() {
    let (machine, _) = with_a_point();
    let (one, two) = (machine.mount("one", &[]), machine.mount("two", &[]));
    let told = machine.refused(2, &["mount", path_text(&one.place)]);
    assert!(told.contains("already"), "{told}");
    machine.done(&["umount", path_text(&one.place)]);
    assert!(two.path("latest").is_dir());
}

#[test]
fn a_mount_whose_process_died_is_cleared_away_by_the_next() {
    let (machine, _) = with_a_point();
    let mount = machine.mount("mnt", &[]);
    mount.signal(Signal::KILL);
    assert!(within(SOON, || mount.is_gone()));
    assert!(mount.is_listed());
    assert!(fs::read_dir(&mount.place).is_err());
    let again = machine.mount("mnt", &[]);
    assert!(again.path("latest").is_dir());
    again.signal(Signal::KILL);
    assert!(within(SOON, || again.is_gone()));
    machine.done(&["umount", path_text(&again.place)]);
    assert!(!again.is_listed());
}

#[test]
fn umount_takes_nothing_away_that_is_not_its_own() {
    let (machine, _) = with_a_point();
    let place = machine.folder("mnt");
    let told = machine.refused(2, &["umount", path_text(&place)]);
    assert!(told.contains("nothing is mounted"), "{told}");
    machine.refused(2, &["umount", "/"]);
    machine.mount_memory("mnt");
    let told = machine.refused(2, &["umount", path_text(&place)]);
    assert!(told.contains("tmpfs"), "{told}");
    assert!(is_mounted(&place));
    // Over it, a mount is one's own, and what is below stays.
    let over = machine.mount("mnt", &[]);
    run("umount", &[path_text(&over.place)]);
    assert!(within(SOON, || over.is_gone()));
    assert!(is_mounted(&place), "what lay below is still mounted");
}

#[test]
fn relative_places_and_links_lead_to_the_mount() {
    let (machine, _) = with_a_point();
    let mount = machine.mount("mnt", &["--point", "latest"]);
    symlink(&mount.place, machine.path("link")).unwrap();
    let status = machine
        .bygone(&["umount", "./link"])
        .current_dir(machine.path(""))
        .status()
        .unwrap();
    assert!(status.success());
    assert!(!mount.is_listed());
    let status = machine
        .bygone(&["-r", "repository", "mount", "--log-file", "log", "mnt"])
        .current_dir(machine.path(""))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    assert!(mount.path("latest").is_dir());
    assert!(machine.path("log").exists());
    machine.done(&["umount", path_text(&mount.place)]);
}

#[test]
fn options_of_fstab_are_understood() {
    let (machine, point) = with_a_point();
    let options = format!("ro,noauto,_netdev,x-systemd.automount,noexec,owner=12:34,point={point}");
    let mount = machine.mount("mnt", &["-o", &options]);
    let listed = run("findmnt", &["-no", "OPTIONS", path_text(&mount.place)]);
    assert!(listed.contains("noexec"), "{listed}");
    let source = mount.path(machine.path("source").strip_prefix("/").unwrap());
    let shown = fs::metadata(source.join("file")).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((shown.uid(), shown.gid()), (12, 34));
}

#[test]
fn what_fstab_says_of_the_cache_is_obeyed() {
    let (machine, _) = with_a_point();
    let cache = machine.path("cache");
    let options = format!("cache_dir={},cache_size=32M", path_text(&cache));
    let mount = machine.mount("mnt", &["-o", &options]);
    assert!(mount.path("latest").is_dir());
    let kept = || fs::read_dir(&cache).unwrap().count();
    assert_eq!(kept(), 1);
    machine.done(&["umount", path_text(&mount.place)]);
    let over = ["mount", "-o", &options, path_text(&cache)];
    let told = machine.refused(2, &over);
    assert!(told.contains("cache"), "{told}");
    fs::remove_dir_all(&cache).unwrap();
    let none = format!("{options},cache_size=0");
    let mount = machine.mount("mnt", &["-o", &none]);
    assert!(mount.path("latest").is_dir() && !cache.exists());
}

#[test]
fn a_mount_in_the_background_logs_to_the_systems_log() {
    let (machine, _) = with_a_point();
    // A /dev of this thread's namespace, in which this test listens as a log daemon does.
    let devices = machine.mount_memory("dev");
    for (name, major, minor) in [("null", 1, 3), ("urandom", 1, 9), ("fuse", 10, 229)] {
        let path = devices.join(name);
        let mode = Mode::from_raw_mode(0o666);
        mknodat(
            CWD,
            &path,
            FileType::CharacterDevice,
            mode,
            makedev(major, minor),
        )
        .unwrap();
    }
    mount_bind(&devices, "/dev").unwrap();
    let daemon = UnixDatagram::bind("/dev/log").unwrap();
    daemon.set_read_timeout(Some(SOON)).unwrap();
    let place = machine.folder("mnt");
    machine.done(&["mount", path_text(&place)]);
    let mut room = [0; 4096];
    let length = daemon.recv(&mut room).unwrap();
    let told = String::from_utf8_lossy(&room[..length]).into_owned();
    assert!(
        told.starts_with("<30>") && told.contains(" bygone["),
        "{told}"
    );
    assert!(
        told.ends_with(&format!("{} is mounted", place.display())),
        "{told}"
    );
    machine.done(&["umount", path_text(&place)]);
}

#[test]
fn without_a_log_daemon_the_user_is_told_that_the_log_is_lost() {
    let (machine, _) = with_a_point();
    if Path::new("/dev/log").exists() {
        // This system has one; what happens then is tested above.
        return;
    }
    let place = machine.folder("mnt");
    let output = machine
        .bygone(&["mount", path_text(&place)])
        .output()
        .unwrap();
    assert!(output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("--log-file"), "{told}");
    machine.done(&["umount", path_text(&place)]);
}

#[test]
fn an_empty_repository_mounts_and_shows_its_first_point_when_it_comes() {
    let machine = Machine::new();
    let mount = machine.mount("mnt", &[]);
    assert!(fs::symlink_metadata(mount.path("latest")).is_err());
    assert_eq!(fs::read_dir(mount.path("points")).unwrap().count(), 0);
    let point = machine.back_up("--full");
    assert!(within(SOON, || mount.path("points").join(&point).is_dir()));
    assert!(within(SOON, || mount.path("latest").is_dir()));
}

#[test]
fn a_mount_tells_what_it_did_when_it_is_asked_and_at_its_end() {
    let (machine, _) = with_a_point();
    let mount = machine.mount("mnt", &["--cache-memory", "32M"]);
    assert!(!mount.logged().contains("served"));
    let before = mount.did();
    assert_eq!(figure(&before, "cache ", "limit"), 32 << 20);
    assert_eq!(figure(&before, "frames ", "opened"), 0);
    fs::write(machine.path("source/long"), vec![7; 300_000]).unwrap();
    let point = machine.back_up("--incremental");
    assert!(within(SOON, || mount.path("points").join(&point).is_dir()));
    let source = mount.source(&point, &machine.path("source"));
    assert_eq!(fs::read(source.join("long")).unwrap().len(), 300_000);
    mount.signal(Signal::TERM);
    assert!(within(SOON, || mount.is_gone()));
    let after = mount.did_last();
    assert!(figure(&after, "served ", "read") > 0);
    assert!(figure(&after, "served ", "lookup") > figure(&before, "served ", "lookup"));
    assert!(figure(&after, "frames ", "opened") > 0);
    assert!(figure(&after, "fetched ", "requests") > figure(&before, "fetched ", "requests"));
    assert!(figure(&after, "fetched ", "bytes") > figure(&before, "fetched ", "bytes"));
    assert_eq!(figure(&after, "pushed ", "files"), 0);
    let peak = figure(&after, "cache ", "peak");
    assert!(figure(&after, "cache ", "bytes") <= peak && peak <= 32 << 20);
}
