//! The times of an entry: mtime from the epoch of this format, ctime from mtime, btime from ctime.
//!
//! A file that was written and left alone has one time three times over, and costs nine bytes in all.

use super::record::shape;
use crate::base::{ByteReader, ByteWriter, Result, Timestamp};

/// 2026-01-01T00:00:00Z: times from autumn 2021 to spring 2030 take four bytes from here, and five from 1970.
const EPOCH_SECONDS: i64 = 1_767_225_600;

const NANOSECONDS: i128 = 1_000_000_000;

/// An entry's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    pub btime: Option<Timestamp>,
}

impl Times {
    /// The bits of the entry's shape that say how its times are written.
    pub(super) fn shape(&self) -> u64 {
        let btime = if self.btime.is_some() {
            shape::BTIME
        } else {
            0
        };
        let Some((ctime_distance, _)) = self.distances() else {
            return btime | shape::WIDE_TIMES;
        };
        let ctime = if ctime_distance == 0 { 0 } else { shape::CTIME };
        let nanoseconds = match self.mtime.nanoseconds {
            0 => 0,
            _ => shape::MTIME_NANOSECONDS,
        };
        btime | ctime | nanoseconds
    }

    /// How far ctime is from mtime and btime from ctime, in nanoseconds; None beyond 64 bits, some 292 years.
    fn distances(&self) -> Option<(i64, i64)> {
        let btime = self.btime.unwrap_or(self.ctime);
        Some((
            distance(self.mtime, self.ctime)?,
            distance(self.ctime, btime)?,
        ))
    }
}

/// Appends times as the shape says.
pub(super) fn write_times(times: &Times, shape: u64, writer: &mut ByteWriter) {
    let Some((ctime_distance, btime_distance)) = times.distances() else {
        let all = [Some(times.mtime), Some(times.ctime), times.btime];
        for time in all.into_iter().flatten() {
            writer.signed(time.seconds);
            writer.varint(u64::from(time.nanoseconds));
        }
        return;
    };
    // The far ends of 64 bits wrap, and wrap back when they are read.
    writer.signed(times.mtime.seconds.wrapping_sub(EPOCH_SECONDS));
    if shape & shape::MTIME_NANOSECONDS != 0 {
        writer.u32(times.mtime.nanoseconds);
    }
    if shape & shape::CTIME != 0 {
        writer.signed(ctime_distance);
    }
    if shape & shape::BTIME != 0 {
        writer.signed(btime_distance);
    }
}

/// Reads times as the shape says.
pub(super) fn read_times(shape: u64, reader: &mut ByteReader<'_>) -> Result<Times> {
    let has = |bit| shape & bit != 0;
    if has(shape::WIDE_TIMES) {
        let mut time = || {
            let seconds = reader.signed()?;
            let nanoseconds = reader.varint_u32()?;
            checked(seconds, nanoseconds, reader)
        };
        return Ok(Times {
            mtime: time()?,
            ctime: time()?,
            btime: has(shape::BTIME).then(time).transpose()?,
        });
    }
    let seconds = reader.signed()?.wrapping_add(EPOCH_SECONDS);
    let nanoseconds = match has(shape::MTIME_NANOSECONDS) {
        true => reader.u32()?,
        false => 0,
    };
    let mtime = checked(seconds, nanoseconds, reader)?;
    let ctime = match has(shape::CTIME) {
        true => moved(mtime, reader)?,
        false => mtime,
    };
    let btime = match has(shape::BTIME) {
        true => Some(moved(ctime, reader)?),
        false => None,
    };
    Ok(Times {
        mtime,
        ctime,
        btime,
    })
}

fn checked(seconds: i64, nanoseconds: u32, reader: &ByteReader<'_>) -> Result<Timestamp> {
    if i128::from(nanoseconds) >= NANOSECONDS {
        return Err(reader.corrupt("a time has a second or more of nanoseconds"));
    }
    Ok(Timestamp {
        seconds,
        nanoseconds,
    })
}

/// The time that is the reader's next number of nanoseconds from `from`.
fn moved(from: Timestamp, reader: &mut ByteReader<'_>) -> Result<Timestamp> {
    let total = total_nanoseconds(from) + i128::from(reader.signed()?);
    let seconds = i64::try_from(total.div_euclid(NANOSECONDS))
        .map_err(|_| reader.corrupt("a time is further than 64 bits of seconds tell"))?;
    Ok(Timestamp {
        seconds,
        nanoseconds: total.rem_euclid(NANOSECONDS) as u32,
    })
}

fn distance(from: Timestamp, to: Timestamp) -> Option<i64> {
    i64::try_from(total_nanoseconds(to) - total_nanoseconds(from)).ok()
}

fn total_nanoseconds(time: Timestamp) -> i128 {
    i128::from(time.seconds) * NANOSECONDS + i128::from(time.nanoseconds)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Any moment, near ones often.
    pub(crate) fn any_time() -> impl Strategy<Value = Timestamp> {
        let seconds = prop_oneof![
            any::<i64>(),
            EPOCH_SECONDS - 100..EPOCH_SECONDS + 100,
            Just(i64::MIN),
            Just(i64::MAX)
        ];
        let nanoseconds = prop_oneof![Just(0), Just(999_999_999), 0..1_000_000_000_u32];
        (seconds, nanoseconds).prop_map(|(seconds, nanoseconds)| Timestamp {
            seconds,
            nanoseconds,
        })
    }

    fn encoded(times: &Times) -> Vec<u8> {
        let mut writer = ByteWriter::new();
        write_times(times, times.shape(), &mut writer);
        writer.into_bytes()
    }

    proptest! {
        #[test]
        fn times_come_back(
            mtime in any_time(), ctime in any_time(), btime in prop::option::of(any_time()),
        ) {
            let times = Times { mtime, ctime, btime };
            let bytes = encoded(&times);
            let mut reader = ByteReader::new("a test", &bytes);
            prop_assert_eq!(read_times(times.shape(), &mut reader).unwrap(), times);
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn nothing_that_is_read_panics(shape: u64, bytes: Vec<u8>) {
            let _ = read_times(shape, &mut ByteReader::new("a test", &bytes));
        }
    }

    #[test]
    fn one_time_three_times_over_takes_nine_bytes() {
        let time = Timestamp {
            seconds: EPOCH_SECONDS + 40_000_000,
            nanoseconds: 123_456_789,
        };
        let times = Times {
            mtime: time,
            ctime: time,
            btime: Some(time),
        };
        assert_eq!(encoded(&times).len(), 9);
    }

    #[test]
    fn a_second_of_nanoseconds_or_a_time_beyond_64_bits_is_refused() {
        let mut writer = ByteWriter::new();
        writer.signed(0);
        writer.u32(1_000_000_000);
        let read = |shape, bytes| read_times(shape, &mut ByteReader::new("a test", bytes));
        assert!(read(shape::MTIME_NANOSECONDS, writer.as_bytes()).is_err());
        let mut writer = ByteWriter::new();
        writer.signed(i64::MAX.wrapping_sub(EPOCH_SECONDS));
        writer.signed(2_000_000_000);
        assert!(read(shape::CTIME, writer.as_bytes()).is_err());
    }
}
