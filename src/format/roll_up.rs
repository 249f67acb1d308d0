//! A roll-up: the headers of many points in one object, so that ten thousand points are a few requests.
//!
//! It adds nothing: a point is there when its own object is, and a roll-up saves reading it. Footers are left out (a point
//! that is opened is read itself), each run is told once, and a chain that goes on as that of a point before it is not told
//! at all. Sealed JSON, like points; its associated data is its name.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::features::Features;
use super::point::{Point, RunReference};
use crate::base::limits::POINT_PLAIN_BYTES_MAX;
use crate::base::{Error, ErrorKind, PointId, Result, RunId};
use crate::seal::{Compression, Seal, SealedKind};

/// Ids that the chains and runs of all points of a roll-up may have together: what little text unfolds to is bounded.
pub const ROLLED_IDS_MAX: usize = 1 << 24;

/// Names a roll-up, `catalogue/<id>`: the oldest and the newest point that it has, and random digits. A reader sees from
/// the names which of them are likely to be worth reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RollUpId {
    pub oldest: PointId,
    pub newest: PointId,
    pub random: u64,
}

/// Headers of points, oldest first, without footers.
#[derive(Debug, Clone, PartialEq)]
pub struct RollUp {
    /// Roll-ups whose points are all here, and that need not be read.
    pub supersedes: Vec<RollUpId>,
    pub points: Vec<Point>,
}

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Plain {
    #[serde(default, skip_serializing_if = "Features::is_empty")]
    features: Features,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    supersedes: Vec<RollUpId>,
    runs: Vec<RunReference>,
    points: Vec<RolledPoint>,
}

/// A header whose runs are numbers in the table of runs.
#[derive(Serialize, Deserialize)]
struct RolledPoint {
    /// Without runs, and without the chain where it goes on as the parent's does.
    header: Point,
    runs: Vec<u32>,
}

impl RollUp {
    /// The object's bytes.
    ///
    /// # Errors
    /// Failed, if it is too large or a point is not where its name says.
    pub fn encode(&self, seal: &Seal, id: &RollUpId) -> Result<Vec<u8>> {
        let cannot = |problem: &str| {
            Error::new(
                ErrorKind::Failed,
                format!("cannot write catalogue/{id}: {problem}"),
            )
        };
        if let Some(problem) = contradiction(id, &self.points) {
            return Err(cannot(problem));
        }
        let plain = serde_json::to_vec(&self.folded()).map_err(|e| cannot(&e.to_string()))?;
        let mut bytes = Vec::new();
        seal.seal(
            SealedKind::RollUp,
            id.to_string().as_bytes(),
            &plain,
            Compression::default(),
            &mut bytes,
        )?;
        Ok(bytes)
    }

    /// Reads the bytes of the object that is named `id`.
    ///
    /// # Errors
    /// Corrupt, if they are not that roll-up or a header in it contradicts itself; failed, if it needs a newer version of
    /// bygone.
    pub fn decode(seal: &Seal, id: &RollUpId, bytes: &[u8]) -> Result<Self> {
        let associated = id.to_string();
        seal.open(
            SealedKind::RollUp,
            associated.as_bytes(),
            bytes,
            POINT_PLAIN_BYTES_MAX,
        )
        .and_then(|plain| Self::decode_plain(id, &plain))
        .map_err(|error| error.context(format_args!("catalogue/{id}")))
    }

    /// Reads a roll-up, once opened.
    ///
    /// # Errors
    /// Those of `decode`.
    pub fn decode_plain(id: &RollUpId, plain: &[u8]) -> Result<Self> {
        let corrupt = |problem: String| Error::corrupt("a roll-up", problem);
        let head: Head = serde_json::from_slice(plain).map_err(|e| corrupt(e.to_string()))?;
        head.features.check_readable("a roll-up")?;
        let plain: Plain = serde_json::from_slice(plain).map_err(|e| corrupt(e.to_string()))?;
        let points = unfolded(plain.points, &plain.runs).map_err(|it| corrupt(it.to_owned()))?;
        match contradiction(id, &points) {
            Some(problem) => Err(corrupt(problem.to_owned())),
            None => Ok(Self {
                supersedes: plain.supersedes,
                points,
            }),
        }
    }

    fn folded(&self) -> Plain {
        let mut runs = Vec::new();
        let mut numbers: HashMap<RunId, u32> = HashMap::new();
        let mut lineages: BTreeMap<PointId, &[PointId]> = BTreeMap::new();
        let mut points = Vec::with_capacity(self.points.len());
        for point in &self.points {
            let numbers = point.runs.iter().map(|run| {
                *numbers.entry(run.id).or_insert_with(|| {
                    runs.push(RunReference {
                        footer: None,
                        ..run.clone()
                    });
                    (runs.len() - 1) as u32
                })
            });
            let numbers = numbers.collect();
            let parents = point.parent.and_then(|parent| lineages.get(&parent));
            let is_derived = parents.is_some_and(|parents| point.lineage[1..] == **parents);
            lineages.insert(point.id, &point.lineage);
            points.push(RolledPoint {
                header: Point {
                    runs: Vec::new(),
                    lineage: match is_derived {
                        true => Vec::new(),
                        false => point.lineage.clone(),
                    },
                    ..point.clone()
                },
                runs: numbers,
            });
        }
        Plain {
            features: Features::default(),
            supersedes: self.supersedes.clone(),
            runs,
            points,
        }
    }
}

/// The headers as they were, but for footers.
fn unfolded(
    rolled: Vec<RolledPoint>,
    runs: &[RunReference],
) -> std::result::Result<Vec<Point>, &'static str> {
    let mut room = ROLLED_IDS_MAX;
    let mut take = |count: usize| {
        room = room.checked_sub(count)?;
        Some(())
    };
    let mut places: HashMap<PointId, usize> = HashMap::new();
    let mut points: Vec<Point> = Vec::with_capacity(rolled.len());
    for RolledPoint {
        mut header,
        runs: numbers,
    } in rolled
    {
        if header.lineage.is_empty() {
            let parent = header.parent.and_then(|parent| places.get(&parent));
            let above = parent.map_or(&[][..], |place| &points[*place].lineage);
            take(above.len() + 1).ok_or("its chains are too long")?;
            header.lineage = std::iter::once(header.id)
                .chain(above.iter().copied())
                .collect();
        }
        for number in numbers {
            let run = runs
                .get(number as usize)
                .ok_or("a point names a run that it has not")?;
            take(run.origins.len() + 1).ok_or("its points have too many runs")?;
            header.runs.push(run.clone());
        }
        places.insert(header.id, points.len());
        points.push(header);
    }
    Ok(points)
}

/// What the name and the points say that cannot be, if anything.
fn contradiction(id: &RollUpId, points: &[Point]) -> Option<&'static str> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Some("it has no point");
    };
    if first.id != id.oldest || last.id != id.newest {
        return Some("its points are not those that its name says");
    }
    if points.windows(2).any(|pair| pair[0].id >= pair[1].id) {
        return Some("its points are not in order");
    }
    points.iter().find_map(Point::contradiction)
}

/// What every version of a roll-up has.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    features: Features,
}

impl fmt::Display for RollUpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_{:016x}", self.oldest, self.newest, self.random)
    }
}

impl FromStr for RollUpId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let mut parts = text.split('_');
            let id = Self {
                oldest: parts.next()?.parse().ok()?,
                newest: parts.next()?.parse().ok()?,
                random: u64::from_str_radix(parts.next()?, 16).ok()?,
            };
            (id.to_string() == text).then_some(id)
        };
        parse()
            .ok_or_else(|| Error::new(ErrorKind::Usage, format!("{text:?} is not a roll-up's id")))
    }
}

impl Serialize for RollUpId {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RollUpId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::RepositoryId;
    use crate::format::PointKind;

    fn seal() -> Seal {
        Seal::unencrypted(&RepositoryId([1; 16]))
    }

    fn id(number: u32) -> PointId {
        PointId {
            seconds: 1_790_000_000 + i64::from(number),
            random: number,
        }
    }

    /// A chain of points, each with a run of its own and a footer in it.
    fn chain(count: u32) -> Vec<Point> {
        let run = |number: u32| RunReference {
            id: RunId(
                *blake3::hash(&number.to_le_bytes())
                    .as_bytes()
                    .first_chunk()
                    .unwrap(),
            ),
            length: 4000,
            footer_length: 300,
            origins: Vec::new(),
            footer: Some(vec![7; 300]),
        };
        let point = |number: u32| Point {
            kind: match number {
                0 => PointKind::Full,
                _ => PointKind::Incremental,
            },
            parent: number.checked_sub(1).map(id),
            base: id(0),
            lineage: (0..=number).rev().map(id).collect(),
            sequence: u64::from(number),
            runs: (number.saturating_sub(9)..=number).rev().map(run).collect(),
            ..Point::sample(id(number))
        };
        (0..count).map(point).collect()
    }

    fn without_footers(points: &[Point]) -> Vec<Point> {
        let mut points = points.to_vec();
        for run in points.iter_mut().flat_map(|point| &mut point.runs) {
            run.footer = None;
        }
        points
    }

    fn roll_up(points: &[Point]) -> (RollUpId, Vec<u8>) {
        let id = RollUpId {
            oldest: points[0].id,
            newest: points[points.len() - 1].id,
            random: 5,
        };
        let roll_up = RollUp {
            supersedes: vec![id],
            points: points.to_vec(),
        };
        (id, roll_up.encode(&seal(), &id).unwrap())
    }

    #[test]
    fn headers_come_back_without_footers_and_take_little_room() {
        let points = chain(300);
        let (id, bytes) = roll_up(&points);
        let back = RollUp::decode(&seal(), &id, &bytes).unwrap();
        assert_eq!(back.points, without_footers(&points));
        assert_eq!(back.supersedes, [id]);
        assert!(bytes.len() < 300 * 100, "{} bytes", bytes.len());
        // One that begins in the middle of a chain, too.
        let (id, bytes) = roll_up(&points[100..200]);
        let back = RollUp::decode(&seal(), &id, &bytes).unwrap();
        assert_eq!(back.points, without_footers(&points[100..200]));
    }

    #[test]
    fn ids_read_back_and_other_spellings_are_refused() {
        let (id, _) = roll_up(&chain(2));
        assert_eq!(id.to_string().parse::<RollUpId>().unwrap(), id);
        for text in [
            "",
            "a_b_c",
            &format!("{id}0"),
            &id.to_string().replace('5', "f_"),
        ] {
            assert!(text.parse::<RollUpId>().is_err(), "{text}");
        }
    }

    #[test]
    fn another_name_damage_and_nonsense_are_refused() {
        let points = chain(3);
        let (id, bytes) = roll_up(&points);
        let other = RollUpId { random: 6, ..id };
        let error = RollUp::decode(&seal(), &other, &bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        for byte in [0, 20, bytes.len() - 1] {
            let mut damaged = bytes.clone();
            damaged[byte] ^= 1;
            assert!(RollUp::decode(&seal(), &id, &damaged).is_err());
        }
        for plain in [&b""[..], b"{}", b"[[[[", b"{\"runs\":[],\"points\":[]}"] {
            let error = RollUp::decode_plain(&id, plain).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn headers_that_contradict_themselves_or_the_name_are_refused() {
        let points = chain(3);
        let (id, _) = roll_up(&points);
        let edits: [fn(&mut Plain); 5] = [
            |plain| plain.points[1].runs.push(99),
            |plain| plain.points[1].runs.clear(),
            |plain| plain.points.swap(0, 1),
            |plain| drop(plain.points.remove(2)),
            |plain| plain.points[2].header.parent = None,
        ];
        for (number, edit) in edits.into_iter().enumerate() {
            let mut plain = RollUp {
                supersedes: Vec::new(),
                points: points.clone(),
            }
            .folded();
            edit(&mut plain);
            let plain = serde_json::to_vec(&plain).unwrap();
            let error = RollUp::decode_plain(&id, &plain).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "edit {number}");
        }
    }
}
