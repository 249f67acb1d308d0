//! Files of all sizes, and readers that compare a mount with them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};

use crate::random::Random;

/// The longest piece that is read at once.
const PIECE_BYTES_MAX: usize = 200_000;

/// The files of a source, by their paths in it, with their bytes.
pub struct Files(Vec<(PathBuf, Vec<u8>)>);

impl Files {
    /// Writes files of about so many bytes together into `source`: half of them in small files, half in large ones.
    pub fn write(source: &Path, bytes: usize) -> Self {
        let mut random = Random::new(bytes as u64);
        let mut files = Vec::new();
        let mut small = 0;
        while small < bytes / 2 {
            let length = match random.below(4) {
                0 => random.below(100),
                1 => random.below(4000),
                2 => random.below(20_000),
                _ => random.below(150_000),
            };
            small += length;
            let path = format!("{}/{}", files.len() / 200, files.len());
            files.push((PathBuf::from(path), random.bytes(length)));
        }
        let mut large = 0;
        while large < bytes / 2 {
            let length = bytes / 16 + random.below(bytes / 16);
            large += length;
            let path = format!("large/{}", files.len());
            files.push((PathBuf::from(path), random.bytes(length)));
        }
        for (path, bytes) in &files {
            let path = source.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        Self(files)
    }

    /// The path of the longest file.
    pub fn longest(&self) -> &Path {
        let longest = self.0.iter().max_by_key(|(_, bytes)| bytes.len());
        &longest.unwrap().0
    }

    /// Compares all files of `shown`, one after the other, from the `first` on.
    pub fn check_all(&self, shown: &Path, first: usize) -> io::Result<()> {
        (0..self.0.len()).try_for_each(|number| {
            let number = (first + number) % self.0.len();
            let bytes = &self.0[number].1;
            let mut offset = 0;
            let mut piece = vec![0; 128 << 10];
            let file = self.open(shown, number)?;
            loop {
                let length = file.read_at(&mut piece, offset)?;
                let end = offset as usize + length;
                self.assert_same(number, offset as usize, &piece[..length]);
                if length == 0 {
                    assert_eq!(end, bytes.len(), "{}", self.0[number].0.display());
                    break;
                }
                offset = end as u64;
            }
            forget_pages(&file)
        })
    }

    /// Compares a piece of a file of `shown`, any of any.
    pub fn check_any(&self, shown: &Path, random: &mut Random) -> io::Result<()> {
        let number = match random.once_in(2) {
            // The large ones are few, and last.
            true => self.0.len() - 1 - random.below(8),
            false => random.below(self.0.len()),
        };
        let bytes = &self.0[number].1;
        let offset = random.below(bytes.len() + 1);
        let mut piece = vec![0; random.below(PIECE_BYTES_MAX)];
        let file = self.open(shown, number)?;
        let mut length = 0;
        while length < piece.len() {
            match file.read_at(&mut piece[length..], (offset + length) as u64)? {
                0 => break,
                more => length += more,
            }
        }
        assert_eq!(length, piece.len().min(bytes.len() - offset));
        self.assert_same(number, offset, &piece[..length]);
        forget_pages(&file)
    }

    fn open(&self, shown: &Path, number: usize) -> io::Result<File> {
        File::open(shown.join(&self.0[number].0))
    }

    fn assert_same(&self, number: usize, offset: usize, actual: &[u8]) {
        let (path, bytes) = &self.0[number];
        let expected = &bytes[offset..offset + actual.len()];
        assert!(expected == actual, "{} at {offset}", path.display());
    }
}

/// Has the kernel forget what it keeps of a file's content, so that the mount is asked again.
pub fn forget_pages(file: &File) -> io::Result<()> {
    Ok(fadvise(file, 0, None, Advice::DontNeed)?)
}
