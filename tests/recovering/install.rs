//! scripts/install, and what it puts in place: for mount(8) and fstab, for systemd, and for those who make packages.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::mount::mount_bind;

use crate::machine::{Machine, assert_success, is_mounted, path_text, run};

/// Runs the script with the program under test and these variables.
fn install(arguments: &[&str], variables: &[(&str, &Path)]) -> Output {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/install"))
        .args(arguments)
        .env_remove("PREFIX")
        .env_remove("DESTDIR")
        .env_remove("SBINDIR")
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

const WITH_THIS: [&str; 2] = ["--binary", env!("CARGO_BIN_EXE_bygone")];

/// All files below a folder, by their paths in it.
fn files_below(folder: &Path) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(path.strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    files
}

#[test]
fn everything_goes_where_a_package_has_it_and_all_of_it_goes_away_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let variables = [("DESTDIR", &*root), ("PREFIX", Path::new("/usr"))];
    assert_success(&install(&WITH_THIS, &variables));
    let files = files_below(&root);
    for file in [
        "usr/bin/bygone",
        "sbin/mount.bygone",
        "usr/share/man/man1/bygone.1",
        "usr/share/man/man1/bygone-mount.1",
        "usr/share/man/man5/bygone-format.5",
        "usr/share/man/man5/bygone-config.5",
        "usr/share/man/man7/bygone-repositories.7",
        "usr/share/bash-completion/completions/bygone",
        "usr/share/zsh/site-functions/_bygone",
        "usr/share/fish/vendor_completions.d/bygone.fish",
        "usr/lib/systemd/system/bygone-backup@.service",
        "usr/lib/systemd/system/bygone-backup@.timer",
        "usr/lib/systemd/system/bygone-backup-full@.service",
        "usr/lib/systemd/system/bygone-backup-full@.timer",
        "usr/share/doc/bygone/mnt-past.mount",
        "usr/share/doc/bygone/fstab",
        "usr/share/doc/bygone/auto.bygone",
        "usr/share/doc/bygone/config.toml",
    ] {
        assert!(files.contains(Path::new(file)), "{file}: {files:?}");
    }
    // No page is left behind.
    let pages = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("man")).unwrap();
    let installed = files
        .iter()
        .filter(|file| file.starts_with("usr/share/man"));
    assert_eq!(installed.count(), pages.count());
    for file in &files {
        let text = fs::read(root.join(file)).unwrap();
        assert!(
            file.ends_with("bin/bygone") || !String::from_utf8_lossy(&text).contains("@BINDIR@"),
            "{file:?} knows its place"
        );
    }
    let helper = fs::read_to_string(root.join("sbin/mount.bygone")).unwrap();
    assert!(helper.contains("\"/usr/bin/bygone\" mount"), "{helper}");

    // What is another's stays, and installing again, or a file that is gone, harms nobody.
    fs::write(root.join("usr/bin/another"), "").unwrap();
    assert_success(&install(&WITH_THIS, &variables));
    fs::remove_file(root.join("usr/bin/bygone")).unwrap();
    assert_success(&install(&["uninstall"], &variables));
    assert_eq!(
        files_below(&root),
        [PathBuf::from("usr/bin/another")].into()
    );
    let again = install(&["uninstall"], &variables);
    assert_eq!(again.status.code(), Some(1));
}

#[test]
fn a_file_of_an_older_version_goes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let variables = [("PREFIX", folder.path())];
    assert_success(&install(&WITH_THIS, &variables));
    let old = folder.path().join("share/man/man1/bygone-old.1");
    fs::write(&old, "").unwrap();
    let list = folder.path().join("share/doc/bygone/installed");
    let text = fs::read_to_string(&list).unwrap();
    fs::write(&list, format!("{text}{}\n", old.display())).unwrap();
    let output = install(&WITH_THIS, &variables);
    assert_success(&output);
    assert!(!old.exists());
    assert!(folder.path().join("sbin/mount.bygone").exists());
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("link it from there"), "{told}");
}

#[test]
fn what_is_typed_wrong_installs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, variables, code) in [
        (&["--frob"][..], [("PREFIX", folder.path())], 2),
        (&["uninstall", "all"], [("PREFIX", folder.path())], 2),
        (&["--binary", "/no/such"], [("PREFIX", folder.path())], 1),
        (&WITH_THIS, [("PREFIX", Path::new("relative"))], 1),
    ] {
        let output = install(arguments, &variables);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
    assert!(files_below(folder.path()).is_empty());
}

/// A machine on which mount(8) knows bygone: where it looks for helpers, there is the one that was installed.
fn with_helper() -> Machine {
    let machine = Machine::new();
    let prefix = machine.folder("installed");
    assert_success(&install(&WITH_THIS, &[("PREFIX", &prefix)]));
    // Only this thread's namespace, which is the machine's own, sees it, and it goes with its last process.
    mount_bind(prefix.join("sbin"), "/sbin").unwrap();
    machine
}

/// mount(8) and its like, which find this machine's state and whatever opens its repository.
fn tool(machine: &Machine, program: &str, arguments: &[&str]) -> Output {
    tool_command(machine, program, arguments).output().unwrap()
}

fn tool_command(machine: &Machine, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/");
    for (name, value) in machine.bygone::<&str>(&[]).get_envs() {
        command.envs(value.map(|value| (name, value)));
    }
    command.env_remove("BYGONE_REPO");
    command
}

#[test]
fn mount_8_and_fstab_mount_a_point() {
    let machine = with_helper();
    fs::write(machine.path("source/letter"), "Dear Ada").unwrap();
    machine.back_up("--full");
    let repository = machine.path("repository");
    let place = machine.folder("past");
    let letter = place.join(machine.path("source/letter").strip_prefix("/").unwrap());

    let arguments = [
        "-t",
        "bygone",
        path_text(&repository),
        path_text(&place),
        "-o",
        "point=latest,allow_other",
    ];
    assert_success(&tool(&machine, "mount", &arguments));
    assert_eq!(fs::read_to_string(&letter).unwrap(), "Dear Ada");
    assert_success(&tool(&machine, "umount", &[path_text(&place)]));
    assert!(!is_mounted(&place));

    let table = machine.path("fstab");
    let line = format!(
        "{} {} bygone noauto,nofail,x-systemd.automount,ro,point=latest,allow_other 0 0\n",
        repository.display(),
        place.display()
    );
    fs::write(&table, line).unwrap();
    let by_table = ["--fstab", path_text(&table), path_text(&place)];
    assert_success(&tool(&machine, "mount", &by_table));
    assert_eq!(fs::read_to_string(&letter).unwrap(), "Dear Ada");
    assert_success(&tool(&machine, "umount", &[path_text(&place)]));
    // It pretends only, if asked to.
    let pretend = [&["--fake"][..], &by_table].concat();
    tool(&machine, "mount", &pretend);
    assert!(!is_mounted(&place));
}

#[test]
fn a_repository_that_has_a_name_is_mounted_by_it() {
    let machine = with_helper();
    machine.back_up("--full");
    let text = format!(
        "[repository.home]\nplace = {:?}\n",
        machine.path("repository")
    );
    fs::write(machine.path("config.toml"), text).unwrap();
    let place = machine.folder("past");
    let output = tool_command(
        &machine,
        "mount",
        &["-t", "bygone", "bygone:home", path_text(&place)],
    )
    .env("BYGONE_CONFIG", machine.path("config.toml"))
    .output()
    .unwrap();
    assert_success(&output);
    assert!(place.join("latest").exists());
    assert_success(&tool(&machine, "umount", &[path_text(&place)]));
}

#[test]
fn the_service_backs_up_what_its_set_says() {
    let machine = Machine::new();
    fs::write(machine.path("source/letter"), "Dear Ada").unwrap();
    let prefix = machine.folder("installed");
    assert_success(&install(&WITH_THIS, &[("PREFIX", &prefix)]));
    let text = format!(
        "[repository.home]\nplace = {:?}\n[set.laptop]\nrepository = 'home'\npaths = [{:?}]\n",
        machine.path("repository"),
        machine.path("source")
    );
    fs::write(machine.path("config.toml"), text).unwrap();
    for (unit, kind) in [
        ("bygone-backup@.service", "full"),
        ("bygone-backup@.service", "incremental"),
        ("bygone-backup-full@.service", "full"),
    ] {
        let unit = fs::read_to_string(prefix.join("lib/systemd/system").join(unit)).unwrap();
        let line = unit
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart="))
            .unwrap();
        let line = line.replace("%i", "laptop");
        // A service of systemd has neither a home nor much else.
        let mut command = Command::new("sh");
        command
            .args(["-c", &line])
            .env_clear()
            .env("PATH", "/usr/bin:/bin");
        for (name, value) in machine.bygone::<&str>(&[]).get_envs() {
            command.envs(value.map(|value| (name, value)));
        }
        command
            .env_remove("BYGONE_REPO")
            .env("BYGONE_CONFIG", machine.path("config.toml"));
        assert_success(&command.output().unwrap());
        let points: serde_json::Value =
            serde_json::from_str(&machine.done(&["points", "--json"])).unwrap();
        assert_eq!(
            (&points[0]["kind"], &points[0]["set"]),
            (&kind.into(), &"laptop".into())
        );
        // Ids of one second are in no order.
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
}

#[test]
fn what_is_wrong_with_a_line_of_fstab_is_told_and_nothing_is_mounted() {
    let machine = with_helper();
    machine.back_up("--full");
    let place = machine.folder("past");
    let repository = machine.path("repository");
    let mount = |options: &str| {
        let arguments = [
            "-t",
            "bygone",
            path_text(&repository),
            path_text(&place),
            "-o",
            options,
        ];
        tool(&machine, "mount", &arguments)
    };
    for (options, message) in [
        (
            "pont=latest",
            "bygone: mount option \"pont\": no such option\n",
        ),
        ("point=nonesuch", "bygone: no point is \"nonesuch\": "),
    ] {
        let output = mount(options);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(32), "{told}");
        assert!(told.starts_with(message), "{told}");
        assert!(!is_mounted(&place));
    }
}

#[test]
fn systemd_takes_the_units() {
    let folder = tempfile::tempdir().unwrap();
    assert_success(&install(&WITH_THIS, &[("PREFIX", folder.path())]));
    let units = folder.path().join("lib/systemd/system");
    for unit in [
        "bygone-backup@.service",
        "bygone-backup@.timer",
        "bygone-backup-full@.service",
        "bygone-backup-full@.timer",
    ] {
        run(
            "systemd-analyze",
            &["verify", "--man=no", path_text(&units.join(unit))],
        );
    }
    let example = folder.path().join("share/doc/bygone/mnt-past.mount");
    run(
        "systemd-analyze",
        &["verify", "--man=no", path_text(&example)],
    );
    let next = run(
        "systemd-analyze",
        &["calendar", "Mon..Sat 02:30", "Sun 02:30"],
    );
    assert_eq!(next.matches("Next elapse").count(), 2, "{next}");
}
