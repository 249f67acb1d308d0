//! The mistakes that people make most. Each is made here, and all that is told of it is compared: what is wrong, and
//! what to do. Folders of the machine are written `~`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::mount::{MountFlags, mount, mount_bind};

use crate::machine::{Machine, OTHER_GID, OTHER_UID, path_text};

/// Where the machine is, as the messages of this module have it.
fn anonymous(machine: &Machine, told: &[u8]) -> String {
    let folder = machine.path("");
    let folder = path_text(&folder).trim_end_matches('/');
    let told = String::from_utf8(told.to_vec())
        .unwrap()
        .replace(folder, "~");
    // A mount says this besides where no system log is kept, which is not of the matter.
    told.lines()
        .filter(|line| !line.contains("nothing listens at /dev/log"))
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// Runs `command`, and holds its exit code and its whole message against these.
#[track_caller]
fn assert_told(machine: &Machine, command: &mut Command, code: i32, expected: &str) {
    let output = command.env_remove("TZ").output().unwrap();
    let told = anonymous(machine, &output.stderr);
    assert_eq!(
        (output.status.code(), told.trim_end()),
        (Some(code), expected)
    );
}

/// The same of the program with these arguments, of which those that begin with `~` are the machine's.
#[track_caller]
fn mistake(machine: &Machine, arguments: &[&str], code: i32, expected: &str) {
    let mut command = machine.bygone(&resolved(machine, arguments));
    assert_told(
        machine,
        command.current_dir(machine.path("")),
        code,
        expected,
    );
}

fn resolved(machine: &Machine, arguments: &[&str]) -> Vec<String> {
    let resolve = |argument: &&str| match argument.strip_prefix("~/") {
        Some(name) => path_text(&machine.path(name)).to_owned(),
        None => (*argument).to_owned(),
    };
    arguments.iter().map(resolve).collect()
}

/// The program as a user who is not root, with a home of their own.
fn as_other(machine: &Machine, arguments: &[&str]) -> Command {
    let home = machine.folder("home");
    chown(&home, Some(OTHER_UID), Some(OTHER_GID)).unwrap();
    let program = machine.path("program");
    if !program.exists() {
        fs::copy(env!("CARGO_BIN_EXE_bygone"), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(program);
    for (name, value) in machine.bygone::<&str>(&[]).get_envs() {
        command.envs(value.map(|value| (name, value)));
    }
    command
        .args(resolved(machine, arguments))
        .env("HOME", &home)
        .env("XDG_STATE_HOME", home.join("state"))
        .current_dir(&home)
        .stdin(Stdio::null())
        .uid(OTHER_UID)
        .gid(OTHER_GID);
    command
}

/// A machine with a point of a source that has the file `letter`.
fn with_point() -> Machine {
    let machine = Machine::new();
    fs::write(machine.path("source/letter"), "Dear Ada").unwrap();
    machine.back_up("--full");
    machine
}

#[test]
fn a_repository_that_is_none_or_is_one_already() {
    let machine = Machine::new();
    for folder in ["empty", "full"] {
        machine.folder(folder);
    }
    fs::write(machine.path("full/x"), "").unwrap();
    fs::write(machine.path("file"), "").unwrap();
    for (arguments, code, expected) in [
        (
            &["-r", "~/none", "points"][..],
            10,
            "bygone: there is no ~/none: make a repository there with `bygone init`, or name another place",
        ),
        (
            &["-r", "~/empty", "points"],
            10,
            "bygone: there is no repository at ~/empty: make one with `bygone init`, or name another place",
        ),
        (
            &["-r", "~/file", "points"],
            10,
            "bygone: there is no repository at ~/file: it is not a directory; name another place",
        ),
        (
            &["-r", "ftp://host/backup", "points"],
            2,
            "error: invalid value 'ftp://host/backup' for '--repo <REPO>': ftp://...: expected a path, file://, s3://, \
             gs://, az://, http(s):// (WebDAV) or sftp://\n\nFor more information, try '--help'.",
        ),
    ] {
        mistake(&machine, arguments, code, expected);
    }
    for (place, expected) in [
        (
            "~/repository",
            "bygone: cannot make a repository in ~/repository: a repository is there already; name an empty place",
        ),
        (
            "~/full",
            "bygone: cannot make a repository in ~/full: it is not empty, it has x; name an empty place",
        ),
    ] {
        let mut command = machine.bygone(&resolved(&machine, &["init", place]));
        assert_told(
            &machine,
            command.env_remove("BYGONE_PASSWORD"),
            16,
            expected,
        );
    }
    let mut command = machine.bygone(&["points"]);
    let expected = "bygone: no repository is named: give -r REPO, set BYGONE_REPO, or configure default_repository; see \
                    bygone-config(5)";
    assert_told(&machine, command.env_remove("BYGONE_REPO"), 2, expected);
    let expected = "error: invalid value '' for '--repo <REPO>': the repository's place is empty: name one, or unset \
                    BYGONE_REPO\n\nFor more information, try '--help'.";
    assert_told(&machine, command.env("BYGONE_REPO", ""), 2, expected);
}

#[test]
fn a_password_that_is_wrong_missing_or_not_needed() {
    let machine = Machine::bare();
    let password = |password: Option<&str>, arguments: &[&str]| {
        let mut command = machine.bygone(&resolved(&machine, arguments));
        command.env_remove("BYGONE_PASSWORD");
        command.envs(password.map(|password| ("BYGONE_PASSWORD", password)));
        command
    };
    let told = |command: &mut Command, code: i32, expected: &str| {
        assert_told(&machine, command, code, expected)
    };
    told(
        &mut password(Some("right"), &["init", "-q", "--encrypt"]),
        0,
        "",
    );
    let expected = "bygone: ~/repository: the password does not open the repository";
    told(&mut password(Some("wrong"), &["points"]), 12, expected);
    let expected = "bygone: a password is needed, none was given, and there is no terminal to ask at: set \
                    BYGONE_PASSWORD, or give --password-file or --password-command";
    told(&mut password(None, &["points"]), 12, expected);
    let expected =
        "bygone: cannot read the password in ~/none: No such file or directory (os error 2)";
    told(
        &mut password(None, &["points", "--password-file", "~/none"]),
        21,
        expected,
    );
    let expected = "bygone: a password is given, and --encrypt is not: give both, or neither";
    told(
        &mut password(Some("right"), &["init", "~/other"]),
        2,
        expected,
    );
}

#[test]
fn a_point_that_is_not_there() {
    let machine = Machine::new();
    let expected = "bygone: no point is \"latest\": the repository has no points yet";
    mistake(&machine, &["ls", "latest"], 2, expected);
    fs::write(machine.path("source/letter"), "").unwrap();
    let id = machine.back_up_with(&["--label", "why=upgrade"]);
    let last = if id.ends_with('0') { '1' } else { '0' };
    let near = format!("{}{last}", &id[..id.len() - 1]);
    for (point, expected) in [
        ("latset", "bygone: no point is \"latset\": near are latest".to_owned()),
        ("why=upgrad", "bygone: no point is \"why=upgrad\": near are why=upgrade".to_owned()),
        (
            "gibberish",
            "bygone: no point is \"gibberish\": `bygone points` lists them; POINT is an id, a short id, latest, latest~N, a \
             time or K=V"
                .to_owned(),
        ),
        (
            "latest~3",
            "bygone: no point is \"latest~3\": there is 1 point, so latest~0 is the oldest".to_owned(),
        ),
        (
            "1999-12-31T00:00:00Z",
            format!("bygone: no point is from \"1999-12-31T00:00:00Z\" (1999-12-31T00:00:00Z) or before it: the oldest is {id}"),
        ),
        (&near, format!("bygone: no point is {near:?}: near are {id}")),
    ] {
        mistake(&machine, &["ls", point], 2, &expected);
    }
    let expected = "bygone: no point is selected: --host, --set, --path or --label leaves all out";
    mistake(&machine, &["ls", "latest", "--host", "mars"], 2, expected);
}

#[test]
fn a_path_that_the_point_does_not_have() {
    let machine = with_point();
    let expected =
        "bygone: the point has no ~/source/lettre; what it has in ~/source, `bygone ls` lists";
    mistake(&machine, &["ls", "latest", "~/source/lettre"], 2, expected);
    let expected = "bygone: the point has no /nothing/like/it; what it has in /, `bygone ls` lists";
    mistake(&machine, &["ls", "latest", "/nothing/like/it"], 2, expected);
}

#[test]
fn a_backup_of_nothing_or_of_itself() {
    let machine = Machine::new();
    for (arguments, expected) in [
        (
            &["backup"][..],
            "bygone: there is nothing to back up: name a PATH, or a configured set with --set; see bygone-config(5)",
        ),
        (
            &["backup", "~/none"],
            "bygone: cannot back up ~/none: No such file or directory (os error 2)",
        ),
        (
            &["backup", "~/repository/packs"],
            "bygone: cannot back up ~/repository/packs: it is the repository itself, or lies in it",
        ),
        (
            &["backup", "--exclude-from", "~/none", "~/source"],
            "bygone: cannot read the globs in ~/none: No such file or directory (os error 2)",
        ),
        (
            &["backup", "--exclude", "[z-a]", "~/source"],
            "bygone: \"[z-a]\" cannot be used to exclude files: error parsing glob '[z-a]': invalid range; 'z' > 'a'",
        ),
    ] {
        mistake(&machine, arguments, 2, expected);
    }
    assert_eq!(machine.done(&["points"]), "No points.\n");
}

#[test]
fn an_option_a_value_or_a_command_that_is_not_known() {
    let machine = Machine::new();
    let more = "\n\nFor more information, try '--help'.";
    for (arguments, expected) in [
        (
            &["init", "--compression", "fast"][..],
            "error: invalid value 'fast' for '--compression <LEVEL|off>': expected a level from 1 to 19, or off",
        ),
        (
            &["points", "--cache-size", "much"],
            "error: invalid value 'much' for '--cache-size <SIZE>': expected a size such as 4096, 128K or 1.5MiB",
        ),
        (
            &["backup", "--label", "x", "~/source"],
            "error: invalid value 'x' for '--label <K=V>': expected a key and a value, as in K=V",
        ),
        (
            &["points", "--color", "red"],
            "error: invalid value 'red' for '--color <WHEN>'\n  [possible values: auto, always, never]",
        ),
        (
            &["bakcup"],
            "error: unrecognized subcommand 'bakcup'\n\n  tip: a similar subcommand exists: 'backup'\n\nUsage: bygone \
             [OPTIONS] <COMMAND>",
        ),
    ] {
        mistake(&machine, arguments, 2, &format!("{expected}{more}"));
    }
    for (option, expected) in [
        ("frob", "bygone: mount option \"frob\": no such option"),
        (
            "rw",
            "bygone: mount option \"rw\": a restore point is never written to",
        ),
        (
            "owner=ada",
            "bygone: mount option \"owner\": expected two numbers, as in 1000:1000",
        ),
    ] {
        mistake(&machine, &["mount", "-o", option, "~/source"], 2, expected);
    }
}

#[test]
fn a_mount_point_that_is_missing_no_folder_full_or_the_repository() {
    let machine = with_point();
    machine.folder("full/of");
    fs::write(machine.path("file"), "").unwrap();
    for (place, code, expected) in [
        (
            "~/none",
            21,
            "bygone: cannot mount at ~/none: there is no such folder, and a mount needs an empty one",
        ),
        (
            "~/file",
            2,
            "bygone: cannot mount at ~/file: it is not a directory",
        ),
        (
            "~/full",
            2,
            "bygone: cannot mount at ~/full: it is not empty, and what is in it would be hidden: name an empty folder, or \
             give -o nonempty",
        ),
        (
            "~/repository",
            2,
            "bygone: cannot mount at ~/repository: it would lie over the repository ~/repository",
        ),
        (
            "/",
            2,
            "bygone: cannot mount at /: it is the root of the whole system",
        ),
    ] {
        mistake(&machine, &["mount", place], code, expected);
    }
    let hiding = machine.mount("full", &["-o", "nonempty"]);
    assert!(hiding.path("latest").exists());
}

#[test]
fn a_mount_point_that_is_in_use_or_is_none() {
    let machine = with_point();
    let mounted = machine.mount("past", &[]);
    let expected = "bygone: cannot mount at ~/past: bygone has something mounted there already; `bygone umount` takes it away";
    mistake(&machine, &["mount", "~/past"], 2, expected);
    let open = fs::File::open(mounted.path("hosts")).unwrap();
    let expected = "bygone: ~/past is in use: leave it in every shell and close what is open there (`fuser -vm ~/past` lists \
                    who)";
    mistake(&machine, &["umount", "~/past"], 11, expected);
    drop(open);
    mistake(&machine, &["umount", "~/past"], 0, "");
    mistake(
        &machine,
        &["umount", "~/past"],
        2,
        "bygone: nothing is mounted at ~/past",
    );
    machine.mount_memory("memory");
    let expected = "bygone: what is mounted at ~/memory is of type tmpfs and not bygone's: umount(8) takes it away";
    mistake(&machine, &["umount", "~/memory"], 2, expected);
}

/// Puts a /dev of its own before this test's thread, with `null`, and with `fuse` where it has a mode.
fn with_devices(machine: &Machine, fuse_mode: Option<u32>) {
    let devices = machine.folder("dev");
    let make = |name: &str, major: u32, minor: u32, mode: u32| {
        let path = devices.join(name);
        mknodat(
            CWD,
            &path,
            FileType::CharacterDevice,
            Mode::empty(),
            makedev(major, minor),
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    make("null", 1, 3, 0o666);
    if let Some(mode) = fuse_mode {
        make("fuse", 10, 229, mode);
    }
    // The namespace is the machine's own, and goes with this thread.
    mount_bind(&devices, "/dev").unwrap();
}

#[test]
fn a_system_without_fuse() {
    let machine = with_point();
    machine.folder("past");
    with_devices(&machine, None);
    let expected = "bygone: cannot open /dev/fuse (does this system have FUSE? try `modprobe fuse`): No such file or \
                    directory (os error 2)";
    mistake(&machine, &["mount", "~/past"], 21, expected);
}

#[test]
fn a_user_who_may_not() {
    let machine = with_point();
    machine.folder("past");
    with_devices(&machine, Some(0o600));
    let mut list = as_other(&machine, &["points"]);
    let expected = "bygone: ~/repository: cannot read config: Permission denied (os error 13)";
    assert_told(&machine, &mut list, 13, expected);

    // From now on they may read it, and not write to it.
    let open = Command::new("chmod")
        .args(["-R", "a+rX", path_text(&machine.path("repository"))])
        .status();
    assert!(open.unwrap().success());
    let mut back_up = as_other(&machine, &["backup", "~/home"]);
    let expected = "bygone: cannot write to ~/repository/tmp: Permission denied (os error 13)";
    assert_told(&machine, &mut back_up, 13, expected);
    let mut mount = as_other(&machine, &["mount", "~/past"]);
    let expected = "bygone: cannot open /dev/fuse (its permissions, or this container, forbid it to this user): Permission \
                    denied (os error 13)";
    assert_told(&machine, &mut mount, 13, expected);
}

#[test]
fn a_disk_that_is_full() {
    let machine = Machine::bare();
    let small = machine.folder("small");
    mount(
        "tmpfs",
        &small,
        "tmpfs",
        MountFlags::empty(),
        Some(c"size=400k"),
    )
    .unwrap();
    let repository = ["-r", "~/small/repository"];
    let init = crate::encryption::init_arguments();
    let init: Vec<&str> = init.iter().map(AsRef::as_ref).collect();
    mistake(&machine, &[&repository[..], &init, &["-q"]].concat(), 0, "");
    let mut noise = vec![0; 2 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    fs::create_dir(machine.path("source")).unwrap();
    fs::write(machine.path("source/noise"), noise).unwrap();
    let arguments = resolved(
        &machine,
        &[&repository[..], &["backup", "~/source"]].concat(),
    );
    let output = machine.bygone(&arguments).output().unwrap();
    let told = anonymous(&machine, &output.stderr);
    assert_eq!(output.status.code(), Some(15), "{told}");
    // The name of the pack is made at random.
    let (start, end) = told.split_once("packs/").unwrap();
    assert_eq!(start, "bygone: ~/small/repository: cannot write ");
    let (_, end) = end.split_once(": ").unwrap();
    assert_eq!(
        end,
        "No space left on device (os error 28); nothing was committed, and when there is room, what was stored by now will \
         be found again\n"
    );
    // The folder goes with the namespace; nobody else sees it.
    assert!(Path::new(&small).exists());
}

#[test]
fn a_repository_that_is_damaged_or_does_not_answer() {
    let machine = with_point();
    let place = "http://127.0.0.1:9/x";
    let output = machine
        .bygone(&["-r", place, "--cache-size", "0", "points"])
        .output()
        .unwrap();
    let told = anonymous(&machine, &output.stderr);
    assert_eq!(output.status.code(), Some(14), "{told}");
    // How often it was tried depends on chance.
    let (told, _) = told.split_once(" (tried ").unwrap();
    let expected = format!(
        "bygone: {place}: cannot read config: 127.0.0.1:9: Connection refused (os error 111)"
    );
    assert_eq!(told, expected);
    fs::write(machine.path("repository/config"), "{").unwrap();
    let expected = "bygone: ~/repository: the repository's config is damaged: its checksum does not fit; its bytes have \
                    changed, or bygone did not write it";
    mistake(&machine, &["points"], 20, expected);
}
