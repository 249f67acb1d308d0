//! A restore point's header: what was backed up, what it stands on, and the runs that make it up.
//!
//! Sealed JSON: it grows fields without a new version, and compresses to little. A point names its runs itself, so
//! that forgetting another one never breaks it. The order along a chain comes from the sequence, never from a clock.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::features::Features;
use super::text;
use crate::base::limits::{CHAIN_MAX, POINT_PLAIN_BYTES_MAX};
use crate::base::{Error, ErrorKind, PointId, Result, RunId};
use crate::seal::{Compression, Seal, SealedKind};

/// A sealed footer of up to so many bytes stands in the point's header, which saves a request for each small run.
pub const FOOTER_IN_POINT_BYTES_MAX: usize = 8 << 10;

/// A point's header.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The point's own id, which is its object's name too.
    pub id: PointId,
    /// What it and its object make use of.
    #[serde(default, skip_serializing_if = "Features::is_empty")]
    pub features: Features,
    pub kind: PointKind,
    /// What it stands on: a differential's is its full. None for a full or synthetic one.
    pub parent: Option<PointId>,
    /// The full or synthetic point that its chain ends in; itself if it is one.
    pub base: PointId,
    /// The chain: itself, its parent, that one's parent, down to the base. Absent in roll-ups alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<PointId>,
    /// Counts the points of a set from 0: one more than the latest that was known at its start.
    pub sequence: u64,
    /// Newest first. Absent in roll-ups alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<RunReference>,
    /// The host that was backed up.
    pub host: String,
    /// The set's name, unique within its host.
    pub set: String,
    /// Who ran the backup.
    pub user: String,
    /// The source paths as they were named, absolute.
    #[serde(with = "text::paths")]
    pub sources: Vec<PathBuf>,
    /// Source paths that are recorded as another path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mapping: Vec<PathMapping>,
    /// The patterns of what was left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excludes: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// When the backup began.
    pub start: Moment,
    /// When it committed.
    pub end: Moment,
    /// Was something carried or left out because it could not be read?
    pub partial: bool,
    /// How many warnings its newest run lists.
    pub warnings: u64,
    pub figures: Figures,
}

/// How a point came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PointKind {
    /// Every file was read and every entry recorded.
    Full,
    /// What differs from the latest point of the set is recorded.
    Incremental,
    /// What differs from the latest full of the set is recorded.
    Differential,
    /// A full one, compacted from a chain.
    Synthetic,
}

impl PointKind {
    /// The word that people and programs read.
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
            Self::Differential => "differential",
            Self::Synthetic => "synthetic",
        }
    }

    /// Does a chain end in such a point?
    pub fn is_base(self) -> bool {
        matches!(self, Self::Full | Self::Synthetic)
    }
}

/// A run, as a point that stands on it names it: enough to read its footer in one request, or in none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReference {
    pub id: RunId,
    /// Bytes of the whole object.
    pub length: u64,
    /// Bytes of the sealed footer at its end.
    pub footer_length: u32,
    /// The other runs whose rows it holds: what was merged into it, and where entries that it recorded though they
    /// were known have their origin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<RunId>,
    /// The sealed footer itself, if it has at most `FOOTER_IN_POINT_BYTES_MAX`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "text::optional_hex"
    )]
    pub footer: Option<Vec<u8>>,
}

/// A source path that is recorded as another path, as for a snapshot of a file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathMapping {
    /// Where the files were read.
    #[serde(with = "text::path")]
    pub live: PathBuf,
    /// Where they are in the point.
    #[serde(with = "text::path")]
    pub recorded: PathBuf,
}

/// A moment and how the local clock of the host showed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    pub time: Timestamp,
    /// The local time's distance from UTC, positive to the east.
    pub offset_seconds: i32,
}

/// What a backup counted. Plain bytes are before compression, stored ones as they lie in packs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Entries of the point: files and directories.
    pub entries: u64,
    /// Entries that are no directory.
    pub files: u64,
    pub directories: u64,
    /// The sum of all files' sizes.
    pub bytes: u64,
    /// Entries and tombstones that the point's own run recorded.
    pub entries_recorded: u64,
    /// Bytes read from source files.
    pub read_bytes: u64,
    /// Plain bytes of chunks that the repository had not had.
    pub newly_uploaded_bytes: u64,
    pub newly_uploaded_stored_bytes: u64,
    /// Plain bytes of chunks that it had and that were written again.
    pub reuploaded_bytes: u64,
    pub reuploaded_stored_bytes: u64,
    /// All bytes that the backup added to the store: packs, index, manifest.
    pub stored_bytes: u64,
    pub duration_seconds: f64,
}

impl Point {
    /// The object's bytes.
    ///
    /// # Errors
    /// Failed, if the header is too large or contradicts itself.
    pub fn encode(&self, seal: &Seal) -> Result<Vec<u8>> {
        let cannot = |problem: &str| {
            Error::new(
                ErrorKind::Failed,
                format!("cannot write {}: {problem}", name(self.id)),
            )
        };
        self.contradiction().map_or(Ok(()), |it| Err(cannot(it)))?;
        let plain = serde_json::to_vec(self).map_err(|error| cannot(&error.to_string()))?;
        let mut bytes = Vec::new();
        seal.seal(
            SealedKind::Point,
            &associated(self.id),
            &plain,
            Compression::default(),
            &mut bytes,
        )?;
        Ok(bytes)
    }

    /// Reads the bytes of the object that is named `id`.
    ///
    /// # Errors
    /// Corrupt, if they are not that point's header or it contradicts itself; failed, if it needs a newer version of
    /// bygone.
    pub fn decode(seal: &Seal, id: PointId, bytes: &[u8]) -> Result<Self> {
        let plain = seal
            .open(
                SealedKind::Point,
                &associated(id),
                bytes,
                POINT_PLAIN_BYTES_MAX,
            )
            .map_err(|error| error.context(name(id)))?;
        Self::decode_plain(id, &plain)
    }

    /// Reads the header of the point that is named `id`, once opened.
    ///
    /// # Errors
    /// Like those of `decode`.
    pub fn decode_plain(id: PointId, plain: &[u8]) -> Result<Self> {
        // The features first: the rest of a newer header may look otherwise.
        let head: Head =
            serde_json::from_slice(plain).map_err(|error| Error::corrupt(name(id), error))?;
        head.features.check_readable(name(id))?;
        let point: Self =
            serde_json::from_slice(plain).map_err(|error| Error::corrupt(name(id), error))?;
        let problem = if point.id == id {
            point.contradiction()
        } else {
            Some("it is the header of another point")
        };
        match problem {
            Some(problem) => Err(Error::corrupt(name(id), problem)),
            None => Ok(point),
        }
    }

    /// Are all the footers in it that a header has? Not, if it comes from a roll-up.
    pub fn has_footers(&self) -> bool {
        self.runs.iter().all(|run| {
            run.footer.is_some() || run.footer_length as usize > FOOTER_IN_POINT_BYTES_MAX
        })
    }

    /// The header as a roll-up has it.
    #[must_use]
    pub fn without_footers(&self) -> Self {
        let mut point = self.clone();
        for run in &mut point.runs {
            run.footer = None;
        }
        point
    }

    /// What it says that cannot be, if anything.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let lineage = &self.lineage;
        let problems = [
            (lineage.len() > CHAIN_MAX, "its chain is too long"),
            (
                lineage.first() != Some(&self.id) || lineage.last() != Some(&self.base),
                "its chain does not go from itself to its base",
            ),
            (
                lineage.get(1) != self.parent.as_ref(),
                "its parent is not the next point of its chain",
            ),
            (
                self.kind.is_base() != self.parent.is_none(),
                "its kind does not go with its parent",
            ),
            (has_repeats(lineage), "its chain has a cycle"),
            (self.runs.is_empty(), "it names no run"),
            (self.runs.len() > CHAIN_MAX, "it names too many runs"),
            (
                has_repeats(self.runs.iter().map(|run| run.id)),
                "it names a run twice",
            ),
            (
                self.runs
                    .iter()
                    .any(|run| u64::from(run.footer_length) > run.length),
                "a run's footer is longer than the run",
            ),
        ];
        problems
            .into_iter()
            .find_map(|(is_so, problem)| is_so.then_some(problem))
    }
}

fn has_repeats<T: Hash + Eq>(items: impl IntoIterator<Item = T>) -> bool {
    let mut seen = HashSet::new();
    items.into_iter().any(|item| !seen.insert(item))
}

/// What every version of a header has.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    features: Features,
}

/// How messages name the object.
fn name(id: PointId) -> String {
    format!("points/{id}")
}

/// A point's place is its name.
fn associated(id: PointId) -> Vec<u8> {
    id.to_string().into_bytes()
}

#[cfg(test)]
impl Point {
    /// A full point of host `moon` and set `home`, with nothing in it, committed when its id says: for tests, each of
    /// which changes what it is about.
    pub(crate) fn sample(id: PointId) -> Self {
        let moment = Moment {
            time: Timestamp::from_second(id.seconds).unwrap_or_default(),
            offset_seconds: 0,
        };
        Self {
            id,
            features: Features::default(),
            kind: PointKind::Full,
            parent: None,
            base: id,
            lineage: vec![id],
            sequence: 0,
            runs: vec![RunReference {
                id: RunId([1; 16]),
                length: 100,
                footer_length: 50,
                origins: Vec::new(),
                footer: None,
            }],
            host: "moon".into(),
            set: "home".into(),
            user: "selene".into(),
            sources: vec!["/home".into()],
            mapping: Vec::new(),
            excludes: Vec::new(),
            labels: BTreeMap::new(),
            start: moment,
            end: moment,
            partial: false,
            warnings: 0,
            figures: Figures::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::RepositoryId;
    use std::os::unix::ffi::OsStringExt;

    fn seal() -> Seal {
        Seal::unencrypted(&RepositoryId([1; 16]))
    }

    fn id(random: u32) -> PointId {
        PointId {
            seconds: 1_790_000_000,
            random,
        }
    }

    fn run(byte: u8) -> RunReference {
        RunReference {
            id: RunId([byte; 16]),
            length: 4000,
            footer_length: 300,
            origins: vec![RunId([99; 16])],
            footer: Some(vec![byte; 300]),
        }
    }

    fn point() -> Point {
        let moment = Moment {
            time: Timestamp::new(1_790_000_000, 123_456_789).unwrap(),
            offset_seconds: -3600,
        };
        Point {
            id: id(3),
            features: Features::default(),
            kind: PointKind::Incremental,
            parent: Some(id(2)),
            base: id(1),
            lineage: vec![id(3), id(2), id(1)],
            sequence: 2,
            runs: vec![run(3), run(2)],
            host: "moon".into(),
            set: "home".into(),
            user: "selene".into(),
            sources: vec![
                "/home".into(),
                std::ffi::OsString::from_vec(b"/\xfe".to_vec()).into(),
            ],
            mapping: vec![PathMapping {
                live: "/snapshots/home".into(),
                recorded: "/home".into(),
            }],
            excludes: vec!["*.o".into()],
            labels: BTreeMap::from([("tape".into(), "7".into())]),
            start: moment,
            end: moment,
            partial: true,
            warnings: 3,
            figures: Figures {
                entries: 10,
                duration_seconds: 12.5,
                ..Figures::default()
            },
        }
    }

    /// Seals whatever a header says, as someone who writes to the store could.
    fn forged(point: &Point) -> Vec<u8> {
        let plain = serde_json::to_vec(point).unwrap();
        let mut bytes = Vec::new();
        seal()
            .seal(
                SealedKind::Point,
                &associated(point.id),
                &plain,
                Compression::Off,
                &mut bytes,
            )
            .unwrap();
        bytes
    }

    #[test]
    fn a_point_comes_back() {
        let point = point();
        let bytes = point.encode(&seal()).unwrap();
        assert_eq!(Point::decode(&seal(), point.id, &bytes).unwrap(), point);
        assert!(bytes.len() < 1000, "{} bytes", bytes.len());
    }

    #[test]
    fn a_header_under_another_name_is_refused() {
        let bytes = point().encode(&seal()).unwrap();
        let error = Point::decode(&seal(), id(4), &bytes).unwrap_err();
        assert!(error.to_string().contains(&id(4).to_string()), "{error}");
    }

    #[test]
    fn headers_that_contradict_themselves_are_refused() {
        let edits: [fn(&mut Point); 11] = [
            |point| point.lineage.clear(),
            |point| point.lineage.push(id(9)),
            |point| point.lineage = vec![id(3), id(2), id(3), id(1)],
            |point| point.lineage[0] = id(4),
            |point| point.parent = Some(id(1)),
            |point| point.parent = None,
            |point| point.kind = PointKind::Full,
            |point| point.runs.clear(),
            |point| point.runs.push(run(3)),
            |point| point.runs[0].length = 10,
            |point| {
                let more = (10..).map(id).take(CHAIN_MAX);
                point.lineage.splice(2..2, more);
            },
        ];
        for (number, edit) in edits.into_iter().enumerate() {
            let mut point = point();
            edit(&mut point);
            assert!(point.encode(&seal()).is_err(), "edit {number}");
            let decoded = Point::decode(&seal(), point.id, &forged(&point));
            assert_eq!(
                decoded.unwrap_err().kind(),
                ErrorKind::Corrupt,
                "edit {number}"
            );
        }
    }

    #[test]
    fn a_header_with_an_unknown_incompatible_feature_is_refused_by_name() {
        let mut point = point();
        point.features.incompatible.push("glitter".into());
        let error = Point::decode(&seal(), point.id, &forged(&point)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert!(error.to_string().contains("glitter"), "{error}");
    }

    #[test]
    fn nonsense_inside_a_good_seal_is_damage() {
        for plain in [&b""[..], b"{}", b"[[[[[", b"{\"id\":7}", &[0xff; 100]] {
            let error = Point::decode_plain(id(3), plain).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
        let deep = "[".repeat(1 << 20);
        assert!(Point::decode_plain(id(3), deep.as_bytes()).is_err());
    }
}
