//! Which points are meant: by host, set, path and labels.

use std::path::{Path, PathBuf};

use crate::format::Point;

/// Which points are meant. What is not given narrows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PointFilter {
    pub host: Option<String>,
    pub set: Option<String>,
    /// A path as recorded, which lies at or below one of the point's source paths.
    pub path: Option<PathBuf>,
    /// All of these must be there.
    pub labels: Vec<(String, String)>,
}

impl PointFilter {
    /// Is the point one of those?
    pub fn matches(&self, point: &Point) -> bool {
        let is = |wanted: &Option<String>, value: &String| {
            wanted.as_ref().is_none_or(|wanted| wanted == value)
        };
        is(&self.host, &point.host)
            && is(&self.set, &point.set)
            && self
                .path
                .as_ref()
                .is_none_or(|path| recorded_paths(point).any(|source| path.starts_with(source)))
            && self
                .labels
                .iter()
                .all(|(key, value)| point.labels.get(key) == Some(value))
    }

    /// Are all points meant?
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The source paths as they are in the point.
pub fn recorded_paths(point: &Point) -> impl Iterator<Item = &Path> {
    point.sources.iter().map(|source| {
        point
            .mapping
            .iter()
            .find(|mapping| mapping.live == *source)
            .map_or(source.as_path(), |mapping| mapping.recorded.as_path())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::PointId;
    use crate::format::PathMapping;
    use std::collections::BTreeMap;

    const DAY: i64 = 24 * 60 * 60;

    fn id(seconds: i64) -> PointId {
        PointId {
            seconds,
            random: seconds as u32,
        }
    }

    fn point(id: PointId) -> Point {
        Point {
            sources: vec!["/snapshots/home".into(), "/etc".into()],
            mapping: vec![PathMapping {
                live: "/snapshots/home".into(),
                recorded: "/home".into(),
            }],
            labels: BTreeMap::from([("tape".into(), "7".into()), ("why".into(), "".into())]),
            ..Point::sample(id)
        }
    }

    #[test]
    fn a_filter_narrows_by_all_that_it_names() {
        let point = point(id(DAY));
        let matches = |filter: PointFilter| filter.matches(&point);
        let path = |path: &str| PointFilter {
            path: Some(path.into()),
            ..PointFilter::default()
        };
        let labels = |labels: &[(&str, &str)]| PointFilter {
            labels: labels
                .iter()
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect(),
            ..PointFilter::default()
        };
        assert!(matches(PointFilter::default()));
        for held in ["/home", "/home/selene/letter", "/etc"] {
            assert!(matches(path(held)), "{held}");
        }
        for not_held in ["/", "/homes", "/snapshots/home", "home"] {
            assert!(!matches(path(not_held)), "{not_held}");
        }
        assert!(matches(labels(&[("tape", "7"), ("why", "")])));
        assert!(!matches(labels(&[("tape", "7"), ("why", "not")])));
        assert!(!matches(labels(&[("new", "")])));
        let of = |host: &str, set: &str| PointFilter {
            host: Some(host.into()),
            set: Some(set.into()),
            ..PointFilter::default()
        };
        assert!(matches(of("moon", "home")));
        assert!(!matches(of("moon", "work")) && !matches(of("sun", "home")));
    }
}
