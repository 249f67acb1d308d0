//! The configuration as a person meets it: repositories by name, sets, and mistakes that are told.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

use crate::machine::{Machine, assert_success, path_text};

/// A machine whose repository is called `home` by its configuration, and named by nothing else.
fn configured(more: &str) -> Machine {
    let machine = Machine::new();
    fs::write(machine.path("source/kept"), "kept").unwrap();
    fs::write(machine.path("source/left.o"), "left").unwrap();
    let text = format!(
        "[repository.home]\nplace = {:?}\n{more}",
        machine.path("repository")
    );
    fs::write(machine.path("config.toml"), text).unwrap();
    machine
}

fn command(machine: &Machine, arguments: &[&str]) -> Command {
    let mut command = machine.bygone(arguments);
    command
        .env_remove("BYGONE_REPO")
        .env("BYGONE_CONFIG", machine.path("config.toml"));
    command
}

fn json(output: &Output) -> Value {
    assert_success(output);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[track_caller]
fn refused(machine: &Machine, arguments: &[&str]) -> String {
    let output = command(machine, arguments).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    told
}

#[test]
fn a_repository_is_known_by_its_name_and_one_is_meant_where_none_is_named() {
    let machine = configured("");
    let list = |arguments: &[&str]| command(&machine, arguments).output().unwrap();
    assert_eq!(
        json(&list(&["-r", "home", "points", "--json"])),
        Value::Array(vec![])
    );
    let message = "bygone: no repository is named: give -r REPO, set BYGONE_REPO, or configure default_repository; \
                   see bygone-config(5)\n";
    assert_eq!(refused(&machine, &["points"]), message);
    let message = "bygone: there is neither a folder \"hom\" here nor a repository of this name; near are home\n";
    assert_eq!(refused(&machine, &["-r", "hom", "points"]), message);

    let text = fs::read_to_string(machine.path("config.toml")).unwrap();
    let text = format!("default_repository = 'home'\n{text}");
    fs::write(machine.path("config.toml"), text).unwrap();
    assert_eq!(json(&list(&["points", "--json"])), Value::Array(vec![]));
    // A name goes before a folder of that name, and a path means a folder.
    fs::create_dir(machine.path("home")).unwrap();
    let mut by_name = command(&machine, &["-r", "home", "points"]);
    assert_success(&by_name.current_dir(machine.path("")).output().unwrap());
    let mut by_path = command(&machine, &["-r", "./home", "points"]);
    let output = by_path.current_dir(machine.path("")).output().unwrap();
    assert_eq!(output.status.code(), Some(10));
    // What makes a repository takes names as well.
    let output = command(&machine, &["init", "home"])
        .env_remove("BYGONE_PASSWORD")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(16), "it is there");
}

#[test]
fn a_set_has_its_paths_its_labels_and_what_it_leaves_out() {
    let machine = configured("[backup]\nexclude = ['*.o']\n");
    let source = machine.path("source");
    let set = format!(
        "[set.laptop]\nrepository = 'home'\npaths = [{source:?}]\nexclude = '/never'\nhost = 'moon'\n\
         labels = {{ why = 'nightly' }}\n"
    );
    let text = fs::read_to_string(machine.path("config.toml")).unwrap();
    fs::write(machine.path("config.toml"), text + &set).unwrap();
    fs::write(machine.path("source/never"), "left").unwrap();

    let back_up = ["backup", "--json", "--set", "laptop", "--label", "by=hand"];
    let point = json(&command(&machine, &back_up).output().unwrap());
    assert_eq!(point["paths"], serde_json::json!([source]));
    assert_eq!(
        (&point["set"], &point["host"]),
        (&"laptop".into(), &"moon".into())
    );
    assert_eq!(
        point["labels"],
        serde_json::json!({"by": "hand", "why": "nightly"})
    );
    let listed = command(
        &machine,
        &["-r", "home", "ls", "latest", path_text(&source)],
    );
    let names = |mut command: Command| String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert_eq!(names(listed), "kept\n");

    // With a PATH the set is a mere name, and the defaults hold all the same.
    let named = [
        "-r",
        "home",
        "backup",
        "--json",
        "--set",
        "laptop",
        path_text(&source),
    ];
    let point = json(&command(&machine, &named).output().unwrap());
    assert_eq!(point["labels"], serde_json::json!({}));
    let listed = command(
        &machine,
        &["-r", "home", "ls", "latest", path_text(&source)],
    );
    assert_eq!(names(listed), "kept\nnever\n");

    let message = "bygone: there is nothing to back up: no PATH is named, and no set \"labtop\" is configured; near are laptop\n";
    assert_eq!(
        refused(&machine, &["-r", "home", "backup", "--set", "labtop"]),
        message
    );
}

#[test]
fn a_mistake_in_the_configuration_stops_every_command_but_one_that_takes_a_mount_away() {
    let machine = configured("[set.laptop]\npaths = ['/x']\nexlude = ['*.o']\n");
    let file = machine.path("config.toml");
    let message = format!(
        "bygone: {}, line 5: unknown key \"exlude\" in [set.laptop]; near are exclude\n",
        file.display()
    );
    assert_eq!(refused(&machine, &["-r", "home", "points"]), message);
    let told = refused(&machine, &["umount", path_text(&machine.path("source"))]);
    assert!(told.contains("nothing is mounted"), "{told}");
    let output = command(&machine, &["points"])
        .env("BYGONE_CONFIG", "/no/such/file")
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    let message = "bygone: cannot read the configuration in /no/such/file: No such file or directory (os error 2)\n";
    assert_eq!((output.status.code(), &told[..]), (Some(2), message));
}

#[test]
fn the_user_s_file_is_found_below_their_home() {
    let machine = configured("");
    let folder = machine.folder("user/.config/bygone");
    fs::rename(machine.path("config.toml"), folder.join("config.toml")).unwrap();
    let output = command(&machine, &["-r", "home", "points", "--json"])
        .env_remove("BYGONE_CONFIG")
        .env_remove("XDG_CONFIG_HOME")
        .env("HOME", machine.path("user"))
        .output()
        .unwrap();
    assert_eq!(json(&output), Value::Array(vec![]));
}

#[test]
fn a_named_repository_brings_its_password_unless_another_one_is_given() {
    let machine = Machine::bare();
    fs::write(machine.path("password"), "open\n").unwrap();
    let mode = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600);
    fs::set_permissions(machine.path("password"), mode).unwrap();
    let text = format!(
        "[repository.home]\nplace = {:?}\npassword_file = {:?}\n",
        machine.path("repository"),
        machine.path("password")
    );
    fs::write(machine.path("config.toml"), text).unwrap();
    let run = |arguments: &[&str], password: Option<&str>| {
        let mut command = command(&machine, arguments);
        command.env_remove("BYGONE_PASSWORD");
        command.envs(password.map(|password| ("BYGONE_PASSWORD", password)));
        command.output().unwrap()
    };
    assert_success(&run(&["init", "home", "--encrypt"], None));
    assert_success(&run(&["-r", "home", "points"], None));
    let output = run(&["-r", "home", "points"], Some("wrong"));
    assert_eq!(
        output.status.code(),
        Some(12),
        "a variable goes before the file"
    );
}
