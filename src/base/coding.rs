//! Byte coding: little-endian integers, LEB128 varints and length-framed bytes.
//!
//! The reader never allocates what a length promises before it has seen that many bytes, and every failure is an
//! error that says what was being read.

use super::error::{Error, Result};

/// Appends values to bytes.
#[derive(Debug, Default)]
pub struct ByteWriter {
    bytes: Vec<u8>,
}

impl ByteWriter {
    /// A writer with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// What was written so far.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes were written so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Was nothing written yet?
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets what was written and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// An unsigned LEB128 varint: seven bits a byte, lowest first, 1 to 10 bytes.
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// A signed varint, zigzag: 0, -1, 1, -2, ... as 0, 1, 2, 3, ...
    pub fn signed(&mut self, value: i64) {
        self.varint((value << 1 ^ value >> 63) as u64);
    }

    /// Bytes as they are, without a length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// A varint length, then the bytes.
    pub fn framed(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }
}

/// Takes values from bytes. `what` names the thing that is read, for its errors.
#[derive(Debug, Clone)]
pub struct ByteReader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> ByteReader<'a> {
    /// A reader at the start of `bytes`, which are `what`.
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    /// What was not taken yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Was everything taken?
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// An error of kind corrupt about the thing that is read.
    pub fn corrupt(&self, problem: &str) -> Error {
        Error::corrupt(self.what, problem)
    }

    /// The next `length` bytes as they are.
    ///
    /// # Errors
    /// Corrupt, like all of this reader's, if so many do not follow.
    pub fn raw(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| self.corrupt("it ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes as they are.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or_else(|| self.corrupt("it ends too early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// An unsigned varint in its shortest form.
    #[inline]
    pub fn varint(&mut self) -> Result<u64> {
        match self.rest {
            // Most numbers are one byte.
            [byte @ 0..0x80, rest @ ..] => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits || (byte == 0 && shift > 0) {
                return Err(self.corrupt("a number is not written in its shortest form"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.corrupt("a number is longer than 64 bits"))
    }

    /// A varint that fits 32 bits.
    pub fn varint_u32(&mut self) -> Result<u32> {
        u32::try_from(self.varint()?).map_err(|_| self.corrupt("a number is longer than 32 bits"))
    }

    /// A varint that counts bytes or things of which at most `max` may be; says so before any of them is read.
    pub fn count(&mut self, max: usize) -> Result<usize> {
        let count = self.varint()?;
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= max)
            .ok_or_else(|| {
                self.corrupt(&format!(
                    "it counts {count} where at most {max} are possible"
                ))
            })
    }

    /// A signed varint, zigzag.
    pub fn signed(&mut self) -> Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A varint length of at most `max`, then so many bytes.
    pub fn framed(&mut self, max: usize) -> Result<&'a [u8]> {
        let length = self.count(max)?;
        self.raw(length)
    }

    /// Fails unless everything was taken.
    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.corrupt(&format!("{} bytes follow its end", self.rest.len())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(unsigned: u64, signed: i64, bytes: Vec<u8>) {
            let mut writer = ByteWriter::new();
            writer.varint(unsigned);
            writer.signed(signed);
            writer.framed(&bytes);
            let bytes_written = writer.into_bytes();
            let mut reader = ByteReader::new("a test", &bytes_written);
            prop_assert_eq!(reader.varint().unwrap(), unsigned);
            prop_assert_eq!(reader.signed().unwrap(), signed);
            prop_assert_eq!(reader.framed(1 << 20).unwrap(), &bytes[..]);
            prop_assert!(reader.finish().is_ok());
        }
    }

    #[test]
    fn lengths_beyond_the_bytes_or_the_bound_are_refused() {
        assert!(ByteReader::new("a test", &[5, 1, 2]).framed(10).is_err());
        assert!(
            ByteReader::new("a test", &[5, 1, 2, 3, 4, 5])
                .framed(4)
                .is_err()
        );
        assert!(ByteReader::new("a test", &[0x80]).varint().is_err());
        assert!(ByteReader::new("a test", &[0x80, 0]).varint().is_err());
        assert!(ByteReader::new("a test", &[0xff; 11]).varint().is_err());
    }
}
