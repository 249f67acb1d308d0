//! A time that a person names, as an instant.
//!
//! What GNU date(1) takes is taken, and RFC 9557 (`2026-11-20T14:30[Europe/Berlin]`); local unless a zone is given.
//! A day alone, by date, by weekday or as `yesterday`, means its last instant: whoever asks for the state of a day
//! wants all of it. Deliberately not taken is what may be a mistyped id: lone numbers and lone zones, which date(1)
//! reads as times of today.

use jiff::{Timestamp, Zoned};
use parse_datetime::{ParsedDateTime, parse_datetime_at_date};

/// The instant that `text` names when it is `now`, in the zone of `now` unless `text` has one; None if it names none.
pub fn parse_moment(text: &str, now: &Zoned) -> Option<Timestamp> {
    parse_with(text, now, LAST_OF_DAY)
}

/// The same, where a day alone means its first instant: whoever asks for what is newer than a day's date means that day's
/// too, as find(1) does.
pub fn parse_beginning(text: &str, now: &Zoned) -> Option<Timestamp> {
    parse_with(text, now, FIRST_OF_DAY)
}

fn parse_with(text: &str, now: &Zoned, time_of_day: &str) -> Option<Timestamp> {
    let text = text.trim();
    if !may_be_moment(text) {
        return None;
    }
    if let Some((date, zone)) = date_and_zone(text) {
        let whole = format!("{date}T{time_of_day}{zone}");
        return match whole.parse::<Zoned>() {
            Ok(zoned) => Some(zoned.timestamp()),
            Err(_) => parse(&whole, now),
        };
    }
    if let Ok(zoned) = text.parse::<Zoned>() {
        return Some(zoned.timestamp());
    }
    if names_day_alone(text, now) {
        return parse(&format!("{text} {time_of_day}"), now);
    }
    parse(text, now)
}

/// The last time of day that clocks of nanoseconds tell.
const LAST_OF_DAY: &str = "23:59:59.999999999";
const FIRST_OF_DAY: &str = "00:00:00";

/// Words that name a time without a digit in them, or begin one that does.
const WORDS: [&str; 17] = [
    "now",
    "today",
    "yesterday",
    "tomorrow",
    "ago",
    "last",
    "next",
    "noon",
    "midnight",
    "week",
    "mon",
    "tue",
    "wed",
    "thu",
    "fri",
    "sat",
    "sun",
];

/// Is it anything that a person would call a time? Keeps out lone numbers but `20261120`, lone zones, and words of
/// digits and letters such as `1f3a`.
fn may_be_moment(text: &str) -> bool {
    if !text.is_ascii() || is_like_an_id(text) {
        return false;
    }
    let (digits, others) = text.bytes().partition::<Vec<_>, _>(u8::is_ascii_digit);
    if others.is_empty() {
        return digits.len() == "20261120".len();
    }
    let has_word = text
        .to_ascii_lowercase()
        .split(|character: char| !character.is_ascii_alphabetic())
        .any(|word| WORDS.iter().any(|known| word.starts_with(known)));
    has_word || (!digits.is_empty() && text.contains(['-', ':', '/', ' ', '@']))
}

/// Does it begin as point ids do, `2026-11-23T03-17`? Then it is a damaged one, and no offset from UTC.
fn is_like_an_id(text: &str) -> bool {
    let shape = b"dddd-dd-ddTdd-dd";
    text.len() >= shape.len()
        && text.bytes().zip(shape).all(|(byte, wanted)| match wanted {
            b'd' => byte.is_ascii_digit(),
            sign => byte == *sign,
        })
}

/// A date and the zone after it, if that is all there is: `2026-11-20+05:00`, `2026-11-20 Z`, `2026-11-20[Europe/Berlin]`.
fn date_and_zone(text: &str) -> Option<(&str, &str)> {
    let (date, zone) = text.split_at_checked("2026-11-20".len())?;
    let zone = zone.trim_start();
    let is_zone = zone.starts_with(['+', '[']) || zone.eq_ignore_ascii_case("z");
    let is_zone = is_zone || (zone.starts_with('-') && zone.contains(':'));
    (is_zone && !date.contains([' ', ':'])).then_some((date, zone))
}

/// Does it name a day and no time of it?
fn names_day_alone(text: &str, now: &Zoned) -> bool {
    let first_word = text
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let takes_time = parse(&format!("{text} {LAST_OF_DAY}"), now).is_some();
    if ["today", "yesterday", "tomorrow"].contains(&first_word.as_str()) {
        return takes_time && !text.contains("ago");
    }
    // `3 days ago` is as long before now as it says, so that it moves with the time of day; a date does not.
    let other_now = now.checked_sub(jiff::Span::new().seconds(1));
    takes_time && other_now.is_ok_and(|other| parse(text, now) == parse(text, &other))
}

fn parse(text: &str, now: &Zoned) -> Option<Timestamp> {
    match parse_datetime_at_date(now.clone(), text).ok()? {
        ParsedDateTime::InRange(zoned) => Some(zoned.timestamp()),
        ParsedDateTime::Extended(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2026-11-24T10:20:30[Europe/Berlin]".parse().unwrap()
    }

    fn moment(text: &str) -> Option<String> {
        parse_moment(text, &now()).map(|time| time.to_string())
    }

    fn assert_moment(text: &str, expected: &str) {
        assert_eq!(moment(text).as_deref(), Some(expected), "{text}");
    }

    #[test]
    fn a_date_alone_is_its_days_last_instant_in_the_local_zone() {
        assert_moment("2026-11-20", "2026-11-20T22:59:59.999999999Z");
        assert_moment("20261120", "2026-11-20T22:59:59.999999999Z");
        assert_moment("2026-07-01", "2026-07-01T21:59:59.999999999Z");
        assert_moment("20 nov 2026", "2026-11-20T22:59:59.999999999Z");
        assert_moment("yesterday", "2026-11-23T22:59:59.999999999Z");
        assert_moment("Today", "2026-11-24T22:59:59.999999999Z");
        assert_moment("last monday", "2026-11-23T22:59:59.999999999Z");
    }

    #[test]
    fn a_day_of_a_given_zone_ends_in_that_zone() {
        assert_moment("2026-11-20 UTC", "2026-11-20T23:59:59.999999999Z");
        assert_moment("2026-11-20Z", "2026-11-20T23:59:59.999999999Z");
        assert_moment("2026-11-20 +05:00", "2026-11-20T18:59:59.999999999Z");
        assert_moment("2026-11-20-05:00", "2026-11-21T04:59:59.999999999Z");
        assert_moment("2026-11-20[Asia/Tokyo]", "2026-11-20T14:59:59.999999999Z");
    }

    #[test]
    fn a_time_of_day_is_that_instant() {
        assert_moment("2026-11-20T14:30", "2026-11-20T13:30:00Z");
        assert_moment("2026-11-20 14:30:05", "2026-11-20T13:30:05Z");
        assert_moment("2026-11-20T00:00", "2026-11-19T23:00:00Z");
        assert_moment("yesterday 14:30", "2026-11-23T13:30:00Z");
        assert_moment("14:30", "2026-11-24T13:30:00Z");
        assert_moment("now", "2026-11-24T09:20:30Z");
    }

    #[test]
    fn zones_are_obeyed() {
        assert_moment("2026-11-20T14:30Z", "2026-11-20T14:30:00Z");
        assert_moment("2026-11-20T14:30+02:00", "2026-11-20T12:30:00Z");
        assert_moment("2026-11-20 14:30 UTC", "2026-11-20T14:30:00Z");
        assert_moment("2026-11-20T14:30[America/New_York]", "2026-11-20T19:30:00Z");
        assert_moment(
            "2026-11-20T14:30:00-05:00[America/New_York]",
            "2026-11-20T19:30:00Z",
        );
    }

    #[test]
    fn spans_count_back_from_now() {
        assert_moment("3 days ago", "2026-11-21T09:20:30Z");
        assert_moment("2 hours ago", "2026-11-24T07:20:30Z");
        assert_moment("1 week ago", "2026-11-17T09:20:30Z");
        assert_moment("last week", "2026-11-17T09:20:30Z");
        assert_moment("@1700000000", "2023-11-14T22:13:20Z");
    }

    #[test]
    fn what_may_be_a_mistyped_id_or_nothing_at_all_is_no_time() {
        for text in [
            "",
            " ",
            "z",
            "utc",
            "est",
            "7",
            "1430",
            "12345678",
            "1f3a9c2e",
            "1f3a",
            "a1",
            "latest",
            "2026-13-40",
            "2026-11-23T03-17-19Z",
            "2026-11-23T03-17-19Z-1f3a9c2",
            "étoile",
            "nightly",
            "weekly",
            "monthly",
            "2026-11-20 nightly",
        ] {
            assert_eq!(moment(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_day_may_mean_its_first_instant_too() {
        let beginning = |text: &str| parse_beginning(text, &now()).map(|time| time.to_string());
        for (text, expected) in [
            ("2026-11-20", "2026-11-19T23:00:00Z"),
            ("2026-11-20[Europe/London]", "2026-11-20T00:00:00Z"),
            ("yesterday", "2026-11-22T23:00:00Z"),
            ("2026-11-20 14:30", "2026-11-20T13:30:00Z"),
        ] {
            assert_eq!(beginning(text).as_deref(), Some(expected), "{text}");
        }
    }
}
