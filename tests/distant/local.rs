//! What a mount says can be had without the network.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bygone::fuse::MountOptions;

use crate::far::Place;
use crate::random::noise;

const FILE_BYTES: usize = 8 << 20;

fn local_bytes(path: &Path) -> usize {
    let value = xattr::get(path, "user.bygone.local").unwrap().unwrap();
    String::from_utf8(value).unwrap().parse().unwrap()
}

#[test]
fn what_was_read_is_at_hand_also_for_the_next_mount_without_a_network() {
    let place = Place::new(|source| {
        fs::write(source.join("file"), noise(1, FILE_BYTES)).unwrap();
    });
    let cache = tempfile::tempdir().unwrap();
    let far = place.mount_cached(cache.path());
    let path = far.path("file");
    assert_eq!(local_bytes(&path), 0);
    let mut some = [0; 4096];
    let file = File::open(&path).unwrap();
    file.read_exact_at(&mut some, FILE_BYTES as u64 / 2)
        .unwrap();
    drop(file);
    let partly = local_bytes(&path);
    assert!((4096..FILE_BYTES).contains(&partly), "{partly}");
    fs::read(&path).unwrap();
    assert_eq!(local_bytes(&path), FILE_BYTES);
    drop(far);
    let cut_off = place.mount_cut_off(cache.path(), &MountOptions::default());
    assert_eq!(local_bytes(&cut_off.path("file")), FILE_BYTES);
}
