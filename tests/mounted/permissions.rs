//! Who may look at a mount: its owner by default, others if it allows them and the files' permissions and ACLs do.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::machine::{
    Machine, OTHER_GID, OTHER_UID, assert_success, is_mounted, other_user_can, path_text, run,
};

/// Held while the mode of /dev/fuse is changed, which is one for all tests.
static FUSE_DEVICE: Mutex<()> = Mutex::new(());

/// A source with files that differ in who may read them.
fn with_files_of_several_kinds() -> (Machine, String) {
    let machine = Machine::new();
    let source = machine.path("source");
    for (name, mode, gid) in [
        ("public", 0o644, 0),
        ("private", 0o600, 0),
        ("of the group", 0o660, OTHER_GID),
        ("denied by an ACL", 0o660, OTHER_GID),
        ("granted by an ACL", 0o600, 0),
    ] {
        let path = source.join(name);
        fs::write(&path, name).unwrap();
        chown(&path, Some(0), Some(gid)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    let acl =
        |entry: &str, name: &str| run("setfacl", &["-m", entry, path_text(&source.join(name))]);
    acl(&format!("u:{OTHER_UID}:---"), "denied by an ACL");
    acl(&format!("u:{OTHER_UID}:r--"), "granted by an ACL");
    fs::create_dir(source.join("closed")).unwrap();
    fs::write(source.join("closed/public"), "closed").unwrap();
    fs::set_permissions(source.join("closed"), Permissions::from_mode(0o700)).unwrap();
    let point = machine.back_up("--full");
    (machine, point)
}

fn can_read(path: &Path) -> bool {
    other_user_can(&format!("cat '{}'", path.display()))
}

/// What the other user can read of the source or of what shows it.
fn readable(root: &Path) -> Vec<&'static str> {
    [
        "public",
        "private",
        "of the group",
        "denied by an ACL",
        "granted by an ACL",
        "closed/public",
    ]
    .into_iter()
    .filter(|name| can_read(&root.join(name)))
    .collect()
}

#[test]
fn a_default_mount_is_its_owners_alone() {
    let (machine, point) = with_files_of_several_kinds();
    let mount = machine.mount("mnt", &[]);
    let root = mount.source(&point, &machine.path("source"));
    assert!(fs::read(root.join("public")).is_ok());
    assert!(!other_user_can(&format!("ls '{}'", mount.place.display())));
    assert_eq!(readable(&root), [""; 0]);
}

#[test]
fn a_mount_that_allows_others_lets_each_read_what_he_could_in_the_source() {
    let (machine, point) = with_files_of_several_kinds();
    let source = machine.path("source");
    let expected = ["public", "of the group", "granted by an ACL"];
    assert_eq!(readable(&source), expected);
    for arguments in [&["--allow-other"][..], &["-o", "allow_other"]] {
        let mount = machine.mount("mnt", arguments);
        let root = mount.source(&point, &source);
        // Twice: once with nothing in the kernel's caches, once with what root has read before.
        assert_eq!(readable(&root), expected);
        for entry in fs::read_dir(&root).unwrap() {
            let _folder_or_content = fs::read(entry.unwrap().path());
        }
        assert_eq!(readable(&root), expected);
    }
    let one = machine.mount("one", &["--allow-other", "--point", "latest"]);
    assert_eq!(
        readable(&one.path(source.strip_prefix("/").unwrap())),
        expected
    );
}

#[test]
fn acls_are_shown_as_they_were_whoever_is_allowed() {
    let (machine, point) = with_files_of_several_kinds();
    let source = machine.path("source");
    let acl = |root: &Path| {
        run(
            "getfacl",
            &["-cnp", path_text(&root.join("denied by an ACL"))],
        )
    };
    let expected = acl(&source);
    assert!(expected.contains(&format!("user:{OTHER_UID}:---")));
    for arguments in [&[][..], &["--allow-other"]] {
        let mount = machine.mount("mnt", arguments);
        assert_eq!(acl(&mount.source(&point, &source)), expected);
    }
}

#[test]
fn a_mount_without_permissions_shows_all_to_whoever_may_enter() {
    let (machine, point) = with_files_of_several_kinds();
    let mount = machine.mount("mnt", &["--allow-other", "--no-permissions"]);
    let root = mount.source(&point, &machine.path("source"));
    assert_eq!(readable(&root).len(), 6);
    assert!(!other_user_can(&format!(
        "test -w '{}'",
        root.join("public").display()
    )));
    let listed = run("findmnt", &["-no", "OPTIONS", path_text(&mount.place)]);
    assert!(!listed.contains("default_permissions"), "{listed}");
}

#[test]
fn an_owner_that_is_given_owns_every_file_and_may_read_it() {
    let (machine, point) = with_files_of_several_kinds();
    let owner = format!("{OTHER_UID}:{OTHER_GID}");
    let mount = machine.mount("mnt", &["--allow-other", "--owner", &owner]);
    let root = mount.source(&point, &machine.path("source"));
    for path in [
        mount.place.clone(),
        root.clone(),
        root.join("private"),
        root.join("closed"),
    ] {
        let shown = fs::metadata(&path).unwrap();
        assert_eq!(
            (shown.uid(), shown.gid()),
            (OTHER_UID, OTHER_GID),
            "{path:?}"
        );
    }
    assert!(can_read(&root.join("private")) && can_read(&root.join("closed/public")));
}

/// /dev/fuse for everyone, as on systems that are set up for users; as it was when dropped.
struct OpenFuseDevice {
    before: Permissions,
}

impl OpenFuseDevice {
    const PATH: &str = "/dev/fuse";

    fn new() -> Self {
        let before = fs::metadata(Self::PATH).unwrap().permissions();
        fs::set_permissions(Self::PATH, Permissions::from_mode(0o666)).unwrap();
        Self { before }
    }
}

impl Drop for OpenFuseDevice {
    fn drop(&mut self) {
        fs::set_permissions(Self::PATH, self.before.clone()).unwrap();
    }
}

/// The binary, run by the other user on a repository that he may read.
fn as_other_user(machine: &Machine, arguments: &[&str]) -> Command {
    let mut command = machine.bygone(arguments);
    command
        .env("XDG_STATE_HOME", machine.path("state of another"))
        .uid(OTHER_UID)
        .gid(OTHER_GID)
        .current_dir("/");
    command
}

#[test]
fn a_user_who_is_not_root_mounts_and_unmounts_by_the_helper() {
    let _one_at_a_time = FUSE_DEVICE.lock().unwrap_or_else(PoisonError::into_inner);
    let _open = OpenFuseDevice::new();
    let (machine, point) = with_files_of_several_kinds();
    let owner = format!("{OTHER_UID}:{OTHER_GID}");
    let (place, state): (PathBuf, PathBuf) =
        (machine.folder("mnt"), machine.folder("state of another"));
    for path in [&place, &state, &machine.path("repository")] {
        run("chown", &["-R", &owner, path_text(path)]);
    }
    // The binary may lie where only root comes.
    let binary = machine.path("bygone");
    fs::copy(env!("CARGO_BIN_EXE_bygone"), &binary).unwrap();
    let other = |arguments: &[&str]| {
        let named = as_other_user(&machine, arguments);
        let mut command = Command::new(&binary);
        command
            .args(named.get_args())
            .uid(OTHER_UID)
            .gid(OTHER_GID)
            .current_dir("/");
        for (name, value) in named.get_envs() {
            command.env(name, value.unwrap());
        }
        command.output().unwrap()
    };
    assert_success(&other(&["mount", path_text(&place)]));
    let root = place
        .join("points")
        .join(&point)
        .join(machine.path("source").strip_prefix("/").unwrap());
    // His own mount holds him to modes only; ACLs are obeyed where others may enter.
    assert_eq!(
        readable(&root),
        ["public", "of the group", "denied by an ACL"]
    );
    // Not even root enters what a user has mounted for himself.
    assert!(fs::read_dir(&place).is_err());
    let listed = run("findmnt", &["-no", "FSTYPE,OPTIONS", path_text(&place)]);
    for part in [
        "fuse.bygone",
        "ro",
        "nosuid",
        "nodev",
        "default_permissions",
    ] {
        assert!(listed.contains(part), "{part} in {listed}");
    }
    assert_success(&other(&["umount", path_text(&place)]));
    assert!(!is_mounted(&place));
}
