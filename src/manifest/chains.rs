//! Opens the chains of many points, each run once.

use std::collections::HashMap;
use std::sync::Arc;

use crate::base::{Result, RunId};
use crate::fetch::Fetcher;
use crate::format::Point;
use crate::repo::with_footers;

use super::chain::Chain;
use super::run::Run;

/// The runs that were opened so far. Neighbours share all but a few.
pub struct Chains {
    fetcher: Arc<Fetcher>,
    runs: HashMap<RunId, Arc<Run>>,
}

impl Chains {
    /// None yet, of the fetcher's repository.
    pub fn new(fetcher: &Arc<Fetcher>) -> Self {
        Self {
            fetcher: Arc::clone(fetcher),
            runs: HashMap::new(),
        }
    }

    /// The chain of a point. Its own header is read only if it comes from a roll-up and a run is new.
    ///
    /// # Errors
    /// Those of `Run::open`.
    pub fn open(&mut self, point: &Point) -> Result<Chain> {
        let are_open = point.runs.iter().all(|run| self.runs.contains_key(&run.id));
        if !are_open {
            for reference in &with_footers(self.fetcher.repository(), point)?.runs {
                if !self.runs.contains_key(&reference.id) {
                    let run = Run::open(&self.fetcher, reference)?;
                    self.runs.insert(reference.id, run);
                }
            }
        }
        let runs = point.runs.iter();
        // Whatever was not open is by now.
        let open = runs.filter_map(|run| self.runs.get(&run.id).cloned());
        Ok(Chain::of_runs(open.collect()))
    }
}
