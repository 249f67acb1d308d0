//! What is at a mount's root: one point, or the views of all that are shown, replaced when points come.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::base::{PointId, Result};
use crate::format::Point;
use crate::repo::{Catalogue, PointFilter, Repository, read_point, warnings};

use super::node::PointNumber;
use super::points::Points;
use super::views::{Changes, ShownPoint, Views};
use super::{TreeOptions, lock};

/// So many polls list what is new, and the next one all points: what was forgotten, or copied here from elsewhere with an
/// older id, shows within some minutes of a local repository, and within an hour of a distant one.
const POLLS_BETWEEN_LISTINGS: u32 = 60;

/// What is at the root.
pub(super) enum Root {
    Point(PointNumber),
    Views(Box<RootViews>),
}

/// The views, and what they are made from.
pub(super) struct RootViews {
    filter: PointFilter,
    /// A picture that is replaced, never changed: readers take the one that is there.
    current: RwLock<Arc<Views>>,
    /// Locked for as long as a poll takes.
    sources: Mutex<Sources>,
}

struct Sources {
    catalogue: Catalogue,
    /// Points that came and could not be taken in yet.
    pending: Vec<Arc<Point>>,
    /// Points that have gone and are shown still.
    gone: Vec<PointId>,
    /// The points of the current picture, oldest first.
    shown: Vec<ShownPoint>,
    /// Polls since all points were listed.
    polls: u32,
}

impl Root {
    /// Takes the one point in, or all of the repository's.
    pub(super) fn open(
        repository: &Repository,
        points: &Points,
        options: TreeOptions,
    ) -> Result<Self> {
        if let Some(id) = options.point {
            let point = Arc::new(read_point(repository, id)?);
            let numbered = points.add(&[point], |_| true)?;
            let (_, number) = numbered.first().expect("the point is shown");
            return Ok(Self::Point(*number));
        }
        let catalogue = match options.catalogue {
            Some(catalogue) => catalogue,
            None => Catalogue::load(repository)?,
        };
        let views = RootViews {
            filter: options.filter,
            current: RwLock::new(Arc::new(Views::empty(options.owner))),
            sources: Mutex::new(Sources {
                pending: catalogue.points(),
                catalogue,
                gone: Vec::new(),
                shown: Vec::new(),
                polls: 0,
            }),
        };
        views.take_in(points, &mut lock(&views.sources))?;
        Ok(Self::Views(Box::new(views)))
    }
}

impl RootViews {
    /// The picture of now.
    pub(super) fn current(&self) -> Arc<Views> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks for points that have come, at times also for those that have gone, and says what changed.
    pub(super) fn poll(&self, repository: &Repository, points: &Points) -> Result<Changes> {
        let mut sources = lock(&self.sources);
        sources.polls += 1;
        if sources.catalogue.is_hasty() || sources.polls >= POLLS_BETWEEN_LISTINGS {
            let (new, gone) = sources.catalogue.refresh_all(repository)?;
            for warning in warnings(repository) {
                log::warn!("{warning}");
            }
            sources.polls = 0;
            sources.pending.extend(new);
            sources.gone.extend(gone);
        } else {
            let new = sources.catalogue.refresh(repository)?;
            sources.pending.extend(new);
        }
        if sources.pending.is_empty() && sources.gone.is_empty() {
            return Ok(Changes::default());
        }
        self.take_in(points, &mut sources)
    }

    /// Shows the pending points, and no longer those that have gone; they stay pending where that fails.
    fn take_in(&self, points: &Points, sources: &mut Sources) -> Result<Changes> {
        let numbered = points.add(&sources.pending, |point| self.filter.matches(point))?;
        sources.pending.clear();
        let gone = std::mem::take(&mut sources.gone);
        sources.shown.retain(|point| !gone.contains(&point.id));
        sources.shown.extend(
            numbered
                .iter()
                .map(|(point, number)| ShownPoint::of(point, *number)),
        );
        sources.shown.sort_by_key(|point| point.id);
        let before = self.current();
        let after = Arc::new(before.with_points(&sources.shown));
        let changes = after.changes_since(&before);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = after;
        Ok(changes)
    }
}
