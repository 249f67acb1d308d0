//! Which file systems hold no files of their own: views of the kernel, and mounts of a repository.

use std::fs;

use rustix::fd::AsFd;

/// Types, as mountinfo names them. devtmpfs is here and tmpfs is not, though both have one magic number.
const PSEUDO_TYPES: [&str; 24] = [
    "autofs",
    "binder",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fuse.bygone",
    "fuse.gvfsd-fuse",
    "fuse.portal",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "sysfs",
    "tracefs",
];

/// Magic numbers of the commonest, from linux/magic.h, for a system whose mountinfo cannot be read: proc, sysfs,
/// cgroup, cgroup2, devpts, debugfs, tracefs, securityfs, pstore, bpf, autofs.
const PSEUDO_MAGICS: [u64; 11] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x1cd1,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0x6165_676c,
    0xcafe_4a11,
    0x0187,
];

/// Is what `directory` names on such a file system? `device` is its device as st_dev encodes it.
pub fn is_pseudo(directory: impl AsFd, device: u64) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    if let Some(file_system) = type_of(&mounts, device) {
        return PSEUDO_TYPES.contains(&file_system);
    }
    rustix::fs::fstatfs(directory)
        .is_ok_and(|status| PSEUDO_MAGICS.contains(&(status.f_type as u64)))
}

/// The type of the file system on `device`, by the lines of mountinfo: `36 35 98:0 /root /where rw,noatime shared:1 -
/// ext3 /dev/root rw`, of which the third field is the device and the first after the dash the type.
fn type_of(mounts: &str, device: u64) -> Option<&str> {
    let wanted = format!(
        "{}:{}",
        rustix::fs::major(device),
        rustix::fs::minor(device)
    );
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        (fields.nth(2)? == wanted).then_some(())?;
        fields.find(|field| *field == "-")?;
        fields.next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::status::Status;

    fn pseudo(path: &str) -> bool {
        let directory = fs::File::open(path).unwrap();
        let device = Status::of(&directory, b"").unwrap().device;
        is_pseudo(&directory, device)
    }

    #[test]
    fn proc_and_sysfs_are_pseudo_and_a_temporary_folder_is_not() {
        assert!(pseudo("/proc"));
        assert!(pseudo("/sys"));
        assert!(!pseudo(
            tempfile::tempdir().unwrap().path().to_str().unwrap()
        ));
    }

    #[test]
    fn a_type_is_found_by_the_device_behind_optional_fields() {
        let mounts = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw\n\
                      37 35 0:5 / /dev rw - devtmpfs udev rw\n";
        let device = |major, minor| rustix::fs::makedev(major, minor);
        assert_eq!(type_of(mounts, device(98, 0)), Some("ext3"));
        assert_eq!(type_of(mounts, device(0, 5)), Some("devtmpfs"));
        assert_eq!(type_of(mounts, device(0, 6)), None);
    }
}
