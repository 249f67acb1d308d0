//! Which files are cut into fixed blocks: images of disks, whose content is overwritten in place and never shifts.
//!
//! The rule: a regular file whose name ends, in any case, in one of the suffixes below, or whose first bytes are those
//! of an image format or of a file system. A wrong answer costs deduplication, never correctness: an entry names its
//! chunks whatever cut them.

/// How many of a file's first bytes the rule looks at.
pub const IMAGE_HEAD_BYTES: usize = 2048;

/// Suffixes of virtual machines' disks and of images of media.
const SUFFIXES: [&str; 14] = [
    "img", "raw", "qcow", "qcow2", "vmdk", "vdi", "vhd", "vhdx", "iso", "dd", "hdd", "ext4",
    "btrfs", "xfs",
];

/// (offset, bytes) that begin an image: of a virtual machine's formats, of LUKS, of a GPT, of XFS, NTFS, ext2 to 4.
const MAGICS: [(usize, &[u8]); 10] = [
    (0, b"QFI\xfb"),
    (0, b"KDMV"),
    (0, b"vhdxfile"),
    (0, b"conectix"),
    (64, b"\x7f\x10\xda\xbe"),
    (0, b"LUKS\xba\xbe"),
    (512, b"EFI PART"),
    (0, b"XFSB"),
    (3, b"NTFS    "),
    (1080, b"\x53\xef"),
];

/// Is the file `name`, which begins with `head`, the image of a disk? `head` are its first [`IMAGE_HEAD_BYTES`], or all
/// of a shorter file.
pub fn is_disk_image(name: &[u8], head: &[u8]) -> bool {
    has_suffix(name)
        || MAGICS.iter().any(|(offset, magic)| {
            head.get(*offset..)
                .is_some_and(|bytes| bytes.starts_with(magic))
        })
}

fn has_suffix(name: &[u8]) -> bool {
    let Some(dot) = name.iter().rposition(|byte| *byte == b'.') else {
        return false;
    };
    SUFFIXES
        .iter()
        .any(|suffix| name[dot + 1..].eq_ignore_ascii_case(suffix.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_are_known_in_any_case() {
        for name in ["disk.img", "VM.QCOW2", "a.b.vmdk", ".iso"] {
            assert!(is_disk_image(name.as_bytes(), b""), "{name}");
        }
        for name in ["img", "disk.img.txt", "photo.jpg", "", "a."] {
            assert!(!is_disk_image(name.as_bytes(), b""), "{name}");
        }
    }

    #[test]
    fn first_bytes_of_images_are_known_whatever_the_name() {
        let mut ext4 = vec![0; IMAGE_HEAD_BYTES];
        ext4[1080..1082].copy_from_slice(b"\x53\xef");
        assert!(is_disk_image(b"root", &ext4));
        assert!(is_disk_image(b"root", b"QFI\xfb\0\0\0\x03"));
        assert!(!is_disk_image(b"root", &[0; IMAGE_HEAD_BYTES]));
        assert!(!is_disk_image(b"root", b"KDM"));
    }
}
