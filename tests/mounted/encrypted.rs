//! Mounts of encrypted repositories: where the password comes from when the mount goes into the background, and what a
//! wrong one leaves behind. All else about them is tested by the other tests, which run on encrypted repositories too.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::machine::{Machine, assert_success, is_mounted, path_text, within};
use crate::snapshot::{assert_same, snapshot};

const PASSWORD: &str = "the password of this one";

/// A machine with an encrypted repository and a point in it.
fn machine() -> Machine {
    let machine = Machine::bare();
    let source = machine.folder("source");
    fs::write(source.join("file"), "what is kept").unwrap();
    for arguments in [&["init", "--encrypt"][..], &["backup", path_text(&source)]] {
        assert_success(&with_password(&machine, PASSWORD, arguments));
    }
    machine
}

fn without(machine: &Machine, arguments: &[&str]) -> Command {
    let mut command = machine.bygone(arguments);
    command.env_remove("BYGONE_PASSWORD");
    command
}

fn with_password(machine: &Machine, password: &str, arguments: &[&str]) -> Output {
    let mut command = without(machine, arguments);
    command.env("BYGONE_PASSWORD", password).output().unwrap()
}

/// Looks at what is mounted, and takes it away.
fn look_and_unmount(machine: &Machine) {
    let place = machine.path("mnt");
    let source = machine.path("source");
    let shown = place.join("latest").join(source.strip_prefix("/").unwrap());
    assert_same("mount", &snapshot(&source), &snapshot(&shown), |_| {});
    assert_success(
        &without(machine, &["umount", path_text(&place)])
            .output()
            .unwrap(),
    );
    assert!(within(Duration::from_secs(10), || !is_mounted(&place)));
}

#[test]
fn a_password_reaches_a_mount_in_the_background_from_wherever_it_is() {
    let machine = machine();
    let place = machine.folder("mnt");
    let log = machine.path("mnt.log");
    let file = machine.path("password");
    fs::write(&file, PASSWORD).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let mount = ["mount", "--log-file", path_text(&log), path_text(&place)];

    assert_success(&with_password(&machine, PASSWORD, &mount));
    look_and_unmount(&machine);

    let option = format!("password_file={}", path_text(&file));
    let as_fstab_does = [&mount[..], &["-o", &option]].concat();
    assert_success(&without(&machine, &as_fstab_does).output().unwrap());
    look_and_unmount(&machine);

    let by_command = [&mount[..], &["--password-command", "cat password"]].concat();
    let mut by_command = without(&machine, &by_command);
    assert_success(&by_command.current_dir(machine.path("")).output().unwrap());
    look_and_unmount(&machine);
}

#[test]
fn a_person_is_asked_before_the_mount_goes_into_the_background() {
    let machine = machine();
    let place = machine.folder("mnt");
    let log = machine.path("mnt.log");
    let mistyped = format!("not this one\n{PASSWORD}\n");
    for (typed, code) in [(&"not this one\n".repeat(3)[..], 12), (&mistyped, 0)] {
        let line = format!(
            "{} mount --log-file {} {}",
            env!("CARGO_BIN_EXE_bygone"),
            path_text(&log),
            path_text(&place)
        );
        let mut child = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .env_remove("BYGONE_PASSWORD")
            .env("BYGONE_REPO", machine.path("repository"))
            .env("XDG_STATE_HOME", machine.path("state"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("this test needs script: {error}"));
        let mut input = child.stdin.take().unwrap();
        input.write_all(typed.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains("Password of the repository"), "{told}");
        assert_eq!(is_mounted(&place), code == 0);
    }
    look_and_unmount(&machine);
}

#[test]
fn without_the_right_password_nothing_is_mounted() {
    let machine = machine();
    let place = machine.folder("mnt");
    let mount = ["mount", path_text(&place)];
    for output in [
        with_password(&machine, "wrong", &mount),
        without(&machine, &mount).output().unwrap(),
        with_password(&machine, "wrong", &[&mount[..], &["--foreground"]].concat()),
    ] {
        assert_eq!(output.status.code(), Some(12), "{output:?}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(!is_mounted(&place));
    }
}
