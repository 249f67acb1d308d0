//! Random trees, and random edits of them: everything that people and programs do to files.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FallocateFlags, Timespec, Timestamps, UTIME_OMIT};

use super::random::Random;

/// Sizes around every boundary that matters: inline, a frame, a chunk.
const SIZES: [usize; 12] = [
    0, 1, 99, 100, 101, 4_095, 20_000, 131_071, 131_072, 131_073, 300_000, 700_000,
];

/// A tree on disk that is edited at random.
pub struct Editor {
    pub root: PathBuf,
    pub random: Random,
    names_made: usize,
}

impl Editor {
    /// Makes a tree of about `entries` at `root`, `wide` of them in one directory.
    pub fn create(root: PathBuf, seed: u64, entries: usize, wide: usize) -> Self {
        fs::create_dir(&root).unwrap();
        let mut editor = Self {
            root,
            random: Random::new(seed),
            names_made: 0,
        };
        let mut directories = vec![editor.root.clone()];
        for _ in 0..entries {
            let name = editor.new_name();
            let path = editor.random.pick(&directories).join(name);
            if editor.random.once_in(12) {
                fs::create_dir(&path).unwrap();
                directories.push(path);
            } else {
                editor.make_anything(&path).unwrap();
            }
        }
        if wide > 0 {
            let directory = editor.root.join("wide");
            fs::create_dir(&directory).unwrap();
            for number in 0..wide {
                fs::write(directory.join(format!("file-{number}")), number.to_string()).unwrap();
            }
        }
        editor
    }

    /// Does `count` random edits. One that the system refuses (a directory moved below itself) is no edit.
    pub fn edit(&mut self, count: usize) {
        let mut done = 0;
        while done < count {
            let paths = self.paths();
            for _ in 0..8 {
                done += usize::from(self.edit_once(&paths).is_ok());
            }
        }
    }

    /// All paths below the root as they are now.
    fn paths(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        let mut directories = vec![self.root.clone()];
        while let Some(directory) = directories.pop() {
            for child in fs::read_dir(&directory).unwrap() {
                let path = child.unwrap().path();
                if path.symlink_metadata().unwrap().is_dir() {
                    directories.push(path.clone());
                }
                paths.push(path);
            }
        }
        paths.sort();
        paths
    }

    fn edit_once(&mut self, paths: &[PathBuf]) -> io::Result<()> {
        if paths.is_empty() {
            let name = self.new_name();
            let path = self.root.join(name);
            return self.make_anything(&path);
        }
        let path = self.random.pick(paths).clone();
        let metadata = path.symlink_metadata()?;
        match self.random.below(16) {
            0 | 1 => {
                let path = self.new_path(paths);
                self.make_anything(&path)
            }
            2 => fs::create_dir(self.new_path(paths)),
            3 | 4 if metadata.is_file() => self.overwrite(&path, metadata.len()),
            5 if metadata.is_file() => self.truncate(&path, metadata.len()),
            6 if metadata.is_file() => self.punch(&path, metadata.len()),
            7 | 8 => fs::rename(&path, self.new_path(paths)),
            9 => self.replace_type(&path),
            10 if !metadata.is_dir() => fs::hard_link(&path, self.new_path(paths)),
            11 if !metadata.is_symlink() => fs::set_permissions(
                &path,
                fs::Permissions::from_mode(self.random.below(0o10000) as u32),
            ),
            12 => self.change_xattr(&path),
            13 => self.change_owner_or_time(&path),
            14 if !self.is_large_directory(&path) => remove(&path),
            15 if paths.len() > 100 && !metadata.is_dir() => {
                fs::rename(&path, self.random.pick(paths))
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Would its loss leave little of the tree?
    fn is_large_directory(&self, path: &Path) -> bool {
        fs::read_dir(path).is_ok_and(|children| children.count() > 20)
    }

    fn new_name(&mut self) -> OsString {
        self.names_made += 1;
        let number = self.names_made;
        let mut name = match self.random.below(10) {
            0 => format!("white space {number}\n").into_bytes(),
            1 => [
                format!("bytes-{number}-").as_bytes(),
                &[0xff, 0xfe, 0x01, 0x80],
            ]
            .concat(),
            2 => format!("-dash{number}").into_bytes(),
            3 => format!("näme-{number}-\u{1F980}").into_bytes(),
            4 => format!("{}-{number}", "long".repeat(50)).into_bytes(),
            _ => format!("{:x}-{number}", self.random.below(256)).into_bytes(),
        };
        name.retain(|byte| *byte != 0 && *byte != b'/');
        OsString::from_vec(name)
    }

    /// A path that is not taken, in a directory that is there.
    fn new_path(&mut self, paths: &[PathBuf]) -> PathBuf {
        let near = self.random.pick(paths).clone();
        let directory = if near.symlink_metadata().is_ok_and(|m| m.is_dir()) {
            near
        } else {
            near.parent()
                .map_or_else(|| self.root.clone(), Path::to_path_buf)
        };
        directory.join(self.new_name())
    }

    fn make_anything(&mut self, path: &Path) -> io::Result<()> {
        use rustix::fs::{FileType, Mode, makedev, mknodat};
        let node = |kind, device| {
            Ok(mknodat(
                CWD,
                path,
                kind,
                Mode::from_raw_mode(0o640),
                device,
            )?)
        };
        match self.random.below(24) {
            0 | 1 => {
                let length = 1 + self.random.below(200);
                symlink(OsString::from_vec(vec![b'x'; length]), path)
            }
            2 => node(FileType::Fifo, 0),
            3 => node(FileType::Socket, 0),
            4 => node(
                FileType::CharacterDevice,
                makedev(1, self.random.below(300) as u32),
            ),
            5 => node(
                FileType::BlockDevice,
                makedev(7, self.random.below(300) as u32),
            ),
            6 => self.make_sparse(path),
            _ => self.make_file(path),
        }
    }

    fn make_file(&mut self, path: &Path) -> io::Result<()> {
        // Most files of a real tree are small.
        let length = if self.random.once_in(6) {
            *self.random.pick(&SIZES)
        } else {
            self.random.below(3000)
        };
        fs::write(path, self.random.bytes(length))
    }

    fn make_sparse(&mut self, path: &Path) -> io::Result<()> {
        let file = File::create(path)?;
        file.set_len(1 + self.random.below(3_000_000) as u64)?;
        for _ in 0..self.random.below(4) {
            let length = self.random.below(200_000);
            let bytes = if self.random.once_in(3) {
                vec![0; length]
            } else {
                self.random.bytes(length)
            };
            file.write_all_at(&bytes, self.random.below(2_800_000) as u64)?;
        }
        Ok(())
    }

    fn overwrite(&mut self, path: &Path, size: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        let length = 1 + self.random.below(5_000);
        file.write_all_at(
            &self.random.bytes(length),
            self.random.below(size as usize + 1) as u64,
        )
    }

    fn truncate(&mut self, path: &Path, size: u64) -> io::Result<()> {
        let size = self.random.below(size as usize * 2 + 1000) as u64;
        OpenOptions::new().write(true).open(path)?.set_len(size)
    }

    fn punch(&mut self, path: &Path, size: u64) -> io::Result<()> {
        if size == 0 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let file = OpenOptions::new().write(true).open(path)?;
        let offset = self.random.below(size as usize) as u64;
        let length = 1 + self.random.below(200_000) as u64;
        let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&file, mode, offset, length)?)
    }

    fn replace_type(&mut self, path: &Path) -> io::Result<()> {
        if self.is_large_directory(path) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let was_directory = path.symlink_metadata()?.is_dir();
        remove(path)?;
        if was_directory || self.random.once_in(2) {
            return self.make_anything(path);
        }
        fs::create_dir(path)?;
        let child = path.join(self.new_name());
        self.make_anything(&child)
    }

    fn change_xattr(&mut self, path: &Path) -> io::Result<()> {
        // user.* is for files and directories only; root may set trusted.* on anything.
        let name = format!("trusted.test{}", self.random.below(3));
        let is_plain = path
            .symlink_metadata()
            .is_ok_and(|m| m.is_file() || m.is_dir());
        match self.random.below(4) {
            0 if xattr::get(path, &name)?.is_some() => xattr::remove(path, &name),
            1 if is_plain => {
                let length = self.random.below(60);
                xattr::set(path, "user.comment", &self.random.bytes(length))
            }
            2 if is_plain => xattr::set(path, "system.posix_acl_access", &self.acl()),
            _ => {
                let length = 1 + self.random.below(1000);
                xattr::set(path, &name, &self.random.bytes(length))
            }
        }
    }

    /// An access control list that names one more user, as the kernel encodes it: version 2, then tag, permissions, id.
    fn acl(&mut self) -> Vec<u8> {
        let undefined = u32::MAX;
        let user = 1000 + self.random.below(5) as u32;
        let entries = [
            (1, 6, undefined),
            (2, 4, user),
            (4, 4, undefined),
            (16, 4, undefined),
            (32, 0, undefined),
        ];
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            bytes.extend_from_slice(&u16::to_le_bytes(tag));
            bytes.extend_from_slice(&u16::to_le_bytes(permissions));
            bytes.extend_from_slice(&u32::to_le_bytes(id));
        }
        bytes
    }

    fn change_owner_or_time(&mut self, path: &Path) -> io::Result<()> {
        if self.random.once_in(2) {
            let owner = self.random.below(2000) as u32;
            return std::os::unix::fs::lchown(path, Some(owner), None);
        }
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: self.random.below(4_000_000_000) as i64 - 1_000_000_000,
                tv_nsec: self.random.below(1_000_000_000) as _,
            },
        };
        Ok(rustix::fs::utimensat(
            CWD,
            path,
            &times,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}
