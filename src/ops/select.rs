//! Which point a person means by POINT.
//!
//! An id, its last eight digits (the short id), `latest`, `latest~N`, a label `K=V`, or a time: the newest point at or
//! before it. A filter narrows the points first. Nothing is guessed: a name that is unknown or stands for several
//! points is refused, with what it may have meant.

use std::sync::Arc;

use jiff::{Timestamp, Zoned};

use super::moment::parse_moment;
use crate::base::{Error, ErrorKind, PointId, Result};
use crate::format::Point;
use crate::repo::PointFilter;

/// How many near matches a message names at most.
const NEAR_MAX: usize = 3;

/// A POINT as it was typed, and what it can mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointSpec {
    text: String,
    meaning: Meaning,
}

/// What a POINT can mean before the points are known.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Meaning {
    Id(PointId),
    /// A short id; of digits only it may be a day as well, if no point has it.
    Short(u32, Option<Timestamp>),
    /// The newest, or so many before it.
    Latest(usize),
    Label(String, String),
    /// The newest at or before this instant.
    At(Timestamp),
    /// Nothing that could name a point; kept, so that near matches can be named.
    Unknown,
}

impl PointSpec {
    /// Reads a POINT that was typed when it was `now`, whose zone is the local one.
    ///
    /// What cannot name any point is told by `resolve`, which knows what is near.
    pub fn parse(text: &str, now: &Zoned) -> Self {
        let text = text.trim();
        Self {
            text: text.to_owned(),
            meaning: meaning(text, now),
        }
    }

    /// The newest point.
    pub fn latest() -> Self {
        Self {
            text: "latest".to_owned(),
            meaning: Meaning::Latest(0),
        }
    }
}

fn meaning(text: &str, now: &Zoned) -> Meaning {
    if let Ok(id) = text.parse() {
        return Meaning::Id(id);
    }
    if let Some(random) = parse_short(text) {
        return Meaning::Short(random, parse_moment(text, now));
    }
    if let Some(back) = parse_latest(text) {
        return Meaning::Latest(back);
    }
    // `TZ="Europe/Berlin" 2026-11-20` is how date(1) names a zone.
    if let Some((key, value)) = text.split_once('=')
        && !key.is_empty()
        && !text.starts_with("TZ=\"")
    {
        return Meaning::Label(key.to_owned(), value.to_owned());
    }
    match parse_moment(text, now) {
        Some(time) => Meaning::At(time),
        None => Meaning::Unknown,
    }
}

fn parse_short(text: &str) -> Option<u32> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (text.len() == PointId::SHORT_CHARS && text.bytes().all(is_hex))
        .then(|| u32::from_str_radix(text, 16).ok())
        .flatten()
}

fn parse_latest(text: &str) -> Option<usize> {
    match text.strip_prefix("latest")? {
        "" => Some(0),
        back => {
            let digits = back.strip_prefix('~')?;
            // `parse` takes a sign, which has no meaning here.
            digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
            digits.parse().ok()
        }
    }
}

/// The point that `spec` means among `points`, which are all there are, oldest first, narrowed by `filter`.
///
/// # Errors
/// Usage, if it means none or several; the message names what is near.
pub fn resolve(
    spec: &PointSpec,
    points: &[Arc<Point>],
    filter: &PointFilter,
) -> Result<Arc<Point>> {
    let wanted: Vec<&Arc<Point>> = points.iter().filter(|point| filter.matches(point)).collect();
    match find(&spec.meaning, &wanted) {
        Found::One(point) => Ok(Arc::clone(point)),
        Found::Several(several) => Err(ambiguous(&spec.text, &several)),
        Found::None => Err(unknown(spec, points, &wanted)),
    }
}

/// What a search came to.
enum Found<'a> {
    One(&'a Arc<Point>),
    Several(Vec<&'a Arc<Point>>),
    None,
}

impl<'a> From<Option<&'a Arc<Point>>> for Found<'a> {
    fn from(point: Option<&'a Arc<Point>>) -> Self {
        point.map_or(Self::None, Self::One)
    }
}

fn find<'a>(meaning: &Meaning, points: &[&'a Arc<Point>]) -> Found<'a> {
    let newest = |is_meant: &dyn Fn(&Point) -> bool| {
        let found = points.iter().rev().find(|point| is_meant(point)).copied();
        Found::from(found)
    };
    match meaning {
        Meaning::Id(id) => newest(&|point| point.id == *id),
        Meaning::Short(random, day) => match (find_short(*random, points), day) {
            (Found::None, Some(day)) => find(&Meaning::At(*day), points),
            (found, _) => found,
        },
        Meaning::Latest(back) => Found::from(points.iter().rev().nth(*back).copied()),
        Meaning::Label(key, value) => newest(&|point| point.labels.get(key) == Some(value)),
        Meaning::At(time) => newest(&|point| point.id.time().seconds <= floor_seconds(*time)),
        Meaning::Unknown => Found::None,
    }
}

fn find_short<'a>(random: u32, points: &[&'a Arc<Point>]) -> Found<'a> {
    let mut several: Vec<_> = points
        .iter()
        .filter(|point| point.id.random == random)
        .copied()
        .collect();
    match several.len() {
        0 | 1 => Found::from(several.pop()),
        _ => Found::Several(several),
    }
}

/// An id has whole seconds: a point of this second is at or before any instant in it.
fn floor_seconds(time: Timestamp) -> i64 {
    let seconds = time.as_second();
    // Before 1970 jiff rounds up, towards zero.
    if time.subsec_nanosecond() < 0 {
        seconds - 1
    } else {
        seconds
    }
}

fn ambiguous(text: &str, several: &[&Arc<Point>]) -> Error {
    let ids: Vec<_> = several.iter().map(|point| point.id.to_string()).collect();
    usage(format!(
        "{text:?} stands for {} points: {}; name one by its whole id",
        ids.len(),
        ids.join(", ")
    ))
}

/// Why `spec` means none of `wanted`, which a filter left of `all`.
fn unknown(spec: &PointSpec, all: &[Arc<Point>], wanted: &[&Arc<Point>]) -> Error {
    if all.is_empty() {
        return usage(format!(
            "no point is {:?}: the repository has no points yet",
            spec.text
        ));
    }
    let unfiltered: Vec<_> = all.iter().collect();
    if let Found::One(point) = find(&spec.meaning, &unfiltered) {
        return usage(format!(
            "no point of those selected is {:?}: {} would be, but --host, --set, --path or --label leaves it out",
            spec.text, point.id
        ));
    }
    match (&spec.meaning, wanted) {
        (_, []) => usage("no point is selected: --host, --set, --path or --label leaves all out"),
        (Meaning::Latest(_), _) => usage(format!(
            "no point is {:?}: there are {}, so latest~{} is the oldest",
            spec.text,
            count(wanted.len()),
            wanted.len() - 1
        )),
        (Meaning::At(time) | Meaning::Short(_, Some(time)), [oldest, ..]) => usage(format!(
            "no point is from {:?} ({time}) or before it: the oldest is {}",
            spec.text, oldest.id
        )),
        _ => usage(unknown_name(&spec.text, wanted)),
    }
}

fn unknown_name(text: &str, wanted: &[&Arc<Point>]) -> String {
    let near = near_matches(text, wanted);
    let hint = if near.is_empty() {
        "bygone points lists them; POINT is an id, a short id, latest, latest~N, a time or K=V"
            .to_owned()
    } else {
        format!("near are {}", near.join(", "))
    };
    format!("no point is {text:?}: {hint}")
}

fn count(points: usize) -> String {
    match points {
        1 => "1 point".to_owned(),
        points => format!("{points} points"),
    }
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, message)
}

/// Names of points that `text` may be a mistyped form of, nearest first: whole ids, short ids as `id (short)`, labels.
fn near_matches(text: &str, points: &[&Arc<Point>]) -> Vec<String> {
    let mut near: Vec<(usize, String)> = Vec::new();
    for point in points.iter().rev() {
        for name in names(point) {
            if let Some(distance) = distance(text, &name)
                && !near.iter().any(|(_, known)| *known == name)
            {
                near.push((distance, name));
            }
        }
    }
    near.sort_by_key(|(distance, _)| *distance);
    near.truncate(NEAR_MAX);
    near.into_iter().map(|(_, name)| name).collect()
}

/// All names by which a person may know a point, time apart.
fn names(point: &Point) -> impl Iterator<Item = String> {
    let labels = point.labels.iter().map(|(key, value)| format!("{key}={value}"));
    [point.id.to_string(), point.id.short()]
        .into_iter()
        .chain(labels)
        .chain(std::iter::once("latest".to_owned()))
}

/// How far `typed` is from `name`, if it is near at all: the beginning or the end of it, or a few edits away.
fn distance(typed: &str, name: &str) -> Option<usize> {
    /// Fewer characters than this begin or end too many names.
    const PART_CHARS_MIN: usize = 3;
    if typed.len() >= PART_CHARS_MIN && (name.starts_with(typed) || name.ends_with(typed)) {
        return Some(0);
    }
    let edits_max = (name.chars().count() / 4).clamp(1, 3);
    let distance = edit_distance(typed, name);
    (distance <= edits_max).then_some(distance)
}

/// How many characters must be put in, taken out or replaced to make one text of the other (Levenshtein's distance).
fn edit_distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, character) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, candidate) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(character != *candidate);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}
