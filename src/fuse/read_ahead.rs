//! How far the kernel reads ahead in large files.
//!
//! A new mount gets 128 KiB, and FUSE cannot agree on more with the kernel. Each request beyond what a processor has at
//! hand costs a wake-up across processors, 25 microseconds and more in a virtual machine, so larger pieces are faster.
//! Only root may write where the kernel keeps this; for others, and where there is no sysfs, it stays as it was.
//! Deliberately not here: what is read ahead. That is the kernel's to decide, and it begins small for each file.

use std::fs;

use log::debug;

/// How far the kernel may read ahead, in KiB, and so the largest read that it asks for: FUSE's longest reply. Measured on
/// a sequential read of 300 MB: 0.20 s with 128, 0.19 with 512, 0.17 with 1024, no better with 2048 and 4096.
const READ_AHEAD_KIB: u32 = 1024;

/// Has the kernel read ahead in the file systems of `device`, `major:minor`.
pub(super) fn set_read_ahead(device: &str) {
    let setting = format!("/sys/class/bdi/{device}/read_ahead_kb");
    if let Err(error) = fs::write(&setting, READ_AHEAD_KIB.to_string()) {
        debug!("the kernel reads ahead no further than usual: cannot write {setting}: {error}");
    }
}
