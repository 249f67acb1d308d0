//! Which point a person means by POINT.
//!
//! An id, its last eight digits (the short id), `latest`, `latest~N`, a label `K=V`, or a time: the newest point at or
//! before it. A filter narrows the points first. Nothing is guessed: a name that is unknown or stands for several
//! points is refused, with what it may have meant.

use std::sync::Arc;

use jiff::{Timestamp, Zoned};
use strsim::damerau_levenshtein;

use super::moment::parse_moment;
use crate::base::{Error, ErrorKind, PointId, Result};
use crate::format::Point;
use crate::repo::{Catalogue, PointFilter, Repository, point_ids, read_point};

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
    /// Reads a POINT that was typed when it was `now`, whose zone is the local one; asked only for a time, as finding
    /// out about zones reads many small files.
    ///
    /// What cannot name any point is told by `resolve`, which knows what is near.
    pub fn parse(text: &str, now: &dyn Fn() -> Zoned) -> Self {
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

fn meaning(text: &str, now: &dyn Fn() -> Zoned) -> Meaning {
    if let Ok(id) = text.parse() {
        return Meaning::Id(id);
    }
    if let Some(random) = parse_short(text) {
        // A date may be written with digits alone, such as 20261120.
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let time = is_number.then(|| parse_moment(text, &now())).flatten();
        return Meaning::Short(random, time);
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
    match parse_moment(text, &now()) {
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
            digits
                .bytes()
                .all(|byte| byte.is_ascii_digit())
                .then_some(())?;
            digits.parse().ok()
        }
    }
}

/// The point that `spec` means in a catalogue, narrowed by `filter`.
///
/// # Errors
/// Those of `resolve`; and what is wrong with the point, if it is there and cannot be read.
pub fn select(spec: &PointSpec, catalogue: &Catalogue, filter: &PointFilter) -> Result<Arc<Point>> {
    resolve(spec, &catalogue.points(), filter).map_err(|unknown| {
        let names = |id: &PointId| match &spec.meaning {
            Meaning::Id(named) => named == id,
            Meaning::Short(random, _) => *random == id.random,
            _ => false,
        };
        match catalogue.damaged().find(|(id, _)| names(id)) {
            Some((_, error)) => Error::new(error.kind(), error.to_string()),
            None => unknown,
        }
    })
}

/// The point that `spec` means in a repository, narrowed by `filter`. Of the headers no more are read than that takes;
/// all are where it means none, to say what it may have meant.
///
/// # Errors
/// Those of `select`, and of the store.
pub fn select_from(
    repository: &Repository,
    spec: &PointSpec,
    filter: &PointFilter,
) -> Result<Arc<Point>> {
    match find_from(repository, &spec.meaning, filter)? {
        Some(point) => Ok(Arc::new(point)),
        None => select(spec, &Catalogue::load(repository)?, filter),
    }
}

/// The point, if one is meant and nothing has to be said of it: ids are in order of time, and most that is meant shows
/// in them.
fn find_from(
    repository: &Repository,
    meaning: &Meaning,
    filter: &PointFilter,
) -> Result<Option<Point>> {
    let mut ids = match meaning {
        Meaning::Id(wanted) => vec![*wanted],
        _ => point_ids(repository)?,
    };
    ids.retain(|id| match meaning {
        Meaning::Id(_) => true,
        Meaning::Short(random, _) => id.random == *random,
        Meaning::At(time) => id.time().seconds <= floor_seconds(*time),
        Meaning::Latest(_) | Meaning::Label(..) => true,
        Meaning::Unknown => false,
    });
    if matches!(meaning, Meaning::Short(..)) && ids.len() > 1 {
        return Ok(None);
    }
    let mut passed_over = match meaning {
        Meaning::Latest(back) => *back,
        _ => 0,
    };
    for id in ids.into_iter().rev() {
        let point = match read_point(repository, id) {
            Ok(point) => point,
            Err(error) if error.kind() == ErrorKind::Unreachable => return Err(error),
            // It is as good as not there, and `select` tells of it if it is the one.
            Err(_) => continue,
        };
        let is_labelled = match meaning {
            Meaning::Label(key, value) => point.labels.get(key) == Some(value),
            _ => true,
        };
        if !is_labelled || !filter.matches(&point) {
            continue;
        }
        if passed_over == 0 {
            return Ok(Some(point));
        }
        passed_over -= 1;
    }
    Ok(None)
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
    let wanted: Vec<&Arc<Point>> = points
        .iter()
        .filter(|point| filter.matches(point))
        .collect();
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
    if wanted.is_empty() {
        return usage("no point is selected: --host, --set, --path or --label leaves all out");
    }
    let unfiltered: Vec<_> = all.iter().collect();
    if let Found::One(point) = find(&spec.meaning, &unfiltered) {
        return usage(format!(
            "no point of those selected is {:?}: {} would be, but --host, --set, --path or --label leaves it out",
            spec.text, point.id
        ));
    }
    match (&spec.meaning, wanted) {
        (Meaning::Latest(_), _) => usage(format!(
            "no point is {:?}: there {}, so latest~{} is the oldest",
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
        "`bygone points` lists them; POINT is an id, a short id, latest, latest~N, a time or K=V"
            .to_owned()
    } else {
        format!("near are {}", near.join(", "))
    };
    format!("no point is {text:?}: {hint}")
}

fn count(points: usize) -> String {
    match points {
        1 => "is 1 point".to_owned(),
        points => format!("are {points} points"),
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
    let labels = point
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
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
    let distance = damerau_levenshtein(typed, name);
    (distance <= edits_max).then_some(distance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::tests::point;
    use crate::repo::{InitOptions, commit};
    use crate::store::MemoryStore;

    /// Three nightly points: an old full, an incremental of the same host, one of another host.
    fn points() -> Vec<Arc<Point>> {
        let mut old = point("2026-11-20T21-00-00Z-1f3a9c2e");
        old.labels.insert("why".into(), "upgrade".into());
        let mut middle = point("2026-11-21T21-00-00Z-20261122");
        middle.labels.insert("why".into(), "nightly".into());
        let mut newest = point("2026-11-23T03-17-19Z-5b00c0de");
        newest.host = "mars".into();
        newest.labels.insert("why".into(), "nightly".into());
        [old, middle, newest].map(Arc::new).into()
    }

    fn now() -> Zoned {
        "2026-11-24T10:20:30[Europe/Berlin]".parse().unwrap()
    }

    /// Among the points, and the same in a repository of them.
    fn resolve_text(text: &str, filter: &PointFilter) -> Result<String> {
        let spec = PointSpec::parse(text, &now);
        let id = |point: Arc<Point>| point.id.to_string();
        let resolved = resolve(&spec, &points(), filter).map(id);
        let store = Arc::new(MemoryStore::new());
        let repository = Repository::init(store, &InitOptions::default()).unwrap();
        for point in points() {
            commit(&repository, &point).unwrap();
        }
        let selected = select_from(&repository, &spec, filter).map(id);
        assert_eq!(
            selected.as_ref().map_err(Error::to_string),
            resolved.as_ref().map_err(Error::to_string)
        );
        resolved
    }

    #[track_caller]
    fn assert_means(text: &str, short: &str) {
        let id = resolve_text(text, &PointFilter::default()).unwrap();
        assert!(id.ends_with(short), "{text} means {id}");
    }

    #[track_caller]
    fn refusal(text: &str, filter: &PointFilter) -> String {
        let error = resolve_text(text, filter).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        error.to_string()
    }

    fn host(host: &str) -> PointFilter {
        PointFilter {
            host: Some(host.into()),
            ..PointFilter::default()
        }
    }

    #[test]
    fn ids_and_short_ids_name_their_point() {
        assert_means("2026-11-20T21-00-00Z-1f3a9c2e", "1f3a9c2e");
        assert_means("1f3a9c2e", "1f3a9c2e");
        assert_means(" 5b00c0de ", "5b00c0de");
    }

    #[test]
    fn latest_counts_back_from_the_newest() {
        assert_means("latest", "5b00c0de");
        assert_means("latest~0", "5b00c0de");
        assert_means("latest~2", "1f3a9c2e");
        let message = refusal("latest~3", &PointFilter::default());
        assert!(
            message.contains("3 points, so latest~2 is the oldest"),
            "{message}"
        );
    }

    #[test]
    fn a_time_means_the_newest_point_at_or_before_it() {
        assert_means("2026-11-20", "1f3a9c2e");
        assert_means("2026-11-22", "20261122");
        assert_means("2026-11-21T21:00:00Z", "20261122");
        assert_means("2026-11-21T22:00", "20261122");
        assert_means("2026-11-21T21:59:59", "1f3a9c2e");
        assert_means("2026-11-23T04:17:19", "5b00c0de");
        assert_means("yesterday", "5b00c0de");
        assert_means("now", "5b00c0de");
        assert_means("3 days ago", "1f3a9c2e");
    }

    #[test]
    fn a_time_before_all_points_names_the_oldest() {
        let message = refusal("2026-11-19", &PointFilter::default());
        assert!(
            message.contains("the oldest is 2026-11-20T21-00-00Z-1f3a9c2e"),
            "{message}"
        );
    }

    #[test]
    fn eight_digits_are_a_short_id_first_and_a_day_second() {
        assert_means("20261122", "20261122");
        assert_means("20261120", "1f3a9c2e");
    }

    #[test]
    fn a_label_means_its_newest_point() {
        assert_means("why=nightly", "5b00c0de");
        assert_means("why=upgrade", "1f3a9c2e");
        let message = refusal("why=upgrad", &PointFilter::default());
        assert!(message.contains("near are why=upgrade"), "{message}");
    }

    #[test]
    fn a_filter_narrows_what_every_form_can_mean() {
        let moon = host("moon");
        for (text, short) in [
            ("latest", "20261122"),
            ("now", "20261122"),
            ("why=nightly", "20261122"),
            ("latest~1", "1f3a9c2e"),
        ] {
            assert!(
                resolve_text(text, &moon).unwrap().ends_with(short),
                "{text}"
            );
        }
        let message = refusal("5b00c0de", &moon);
        assert!(message.contains("leaves it out"), "{message}");
        let message = refusal("latest", &host("pluto"));
        assert!(message.contains("leaves all out"), "{message}");
    }

    #[test]
    fn a_short_id_of_two_points_is_refused_with_both() {
        let mut points = points();
        points.push(Arc::new(point("2026-11-24T00-00-00Z-1f3a9c2e")));
        let spec = PointSpec::parse("1f3a9c2e", &now);
        let error = resolve(&spec, &points, &PointFilter::default()).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("stands for 2 points"), "{message}");
        assert!(
            message.contains("2026-11-20T21-00-00Z-1f3a9c2e, 2026-11-24T00-00-00Z-1f3a9c2e"),
            "{message}"
        );
    }

    #[test]
    fn an_unknown_name_is_refused_with_what_is_near() {
        for (typed, near) in [
            ("1f3a9c2f", "1f3a9c2e"),
            ("1f3a", "1f3a9c2e"),
            ("latst", "latest"),
            ("2026-11-23T03-17", "2026-11-23T03-17-19Z-5b00c0de"),
            (
                "2026-11-23T03-17-19Z-5b00c0dd",
                "2026-11-23T03-17-19Z-5b00c0de",
            ),
        ] {
            let message = refusal(typed, &PointFilter::default());
            assert!(
                message.contains("near are") && message.contains(near),
                "{message}"
            );
        }
        let message = refusal("gibberish", &PointFilter::default());
        assert!(message.contains("`bygone points` lists them"), "{message}");
        for text in [
            "",
            "latest~",
            "latest~-1",
            "latest~+1",
            "latest~99999999999999999999",
        ] {
            refusal(text, &PointFilter::default());
        }
    }

    #[test]
    fn a_repository_without_points_says_so() {
        let error = resolve(&PointSpec::latest(), &[], &PointFilter::default()).unwrap_err();
        assert!(error.to_string().contains("no points yet"));
    }
}
