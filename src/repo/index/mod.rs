//! The index: where each chunk lies.
//!
//! It is the live index runs of the repository: those that no other supersedes. Opening reads their footers; a lookup
//! reads a page or two of each, and keeps them. A run that cannot be read costs its own rows and nothing else: what
//! only it knew is unknown, is said so in the log, and a backup uploads it again.

mod merge;
mod run;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, PoisonError, RwLock};

use crate::base::{ChunkId, Error, ErrorKind, IndexId, PackId, Result};
use crate::format::{ChunkPlace, Hint, INDEX_PREFIX, IndexRow, PREFIX_BYTES, prefix_of};

use self::run::{IndexRun, Pages};
use super::Repository;

/// Pages that a reader keeps, of 4 KiB: it seldom asks the index at all.
const READER_PAGES_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("it is not zero");

/// Pages that a writer keeps, 64 MiB: it asks for every chunk, and ids have no order to predict.
const WRITER_PAGES_MAX: NonZeroUsize = NonZeroUsize::new(16 * 1024).expect("it is not zero");

/// One location of a chunk, as an index run has it: of the id only the first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexLocation {
    pub prefix: [u8; PREFIX_BYTES],
    /// Plain bytes of the chunk.
    pub length: u32,
    pub hint: Hint,
}

/// The live index runs of a repository. Any thread may ask.
pub struct Index {
    repository: Arc<Repository>,
    pages: Pages,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    runs: Arc<[Arc<IndexRun>]>,
    /// All runs that were listed or written by this process, superseded ones among them.
    known: BTreeSet<IndexId>,
    damaged: Vec<(IndexId, Arc<Error>)>,
}

impl Index {
    /// Opens all live index runs.
    ///
    /// # Errors
    /// Those of the store, where they speak of the store and not of one run.
    pub fn open(repository: &Arc<Repository>) -> Result<Self> {
        let index = Self::empty(repository, READER_PAGES_MAX);
        index.refresh()?;
        Ok(index)
    }

    /// Like `open`, with room for the pages of many lookups.
    pub(super) fn open_for_writer(repository: &Arc<Repository>) -> Result<Self> {
        let index = Self::empty(repository, WRITER_PAGES_MAX);
        index.refresh()?;
        Ok(index)
    }

    /// No runs yet, whatever the repository has: for those that a writer adds.
    pub(super) fn empty_for_writer(repository: &Arc<Repository>) -> Self {
        Self::empty(repository, WRITER_PAGES_MAX)
    }

    fn empty(repository: &Arc<Repository>, pages_max: NonZeroUsize) -> Self {
        Self {
            repository: Arc::clone(repository),
            pages: Pages::new(pages_max),
            state: RwLock::default(),
        }
    }

    /// Lists the index runs anew, opens those that came since, and gives up those that went or were superseded.
    ///
    /// # Errors
    /// Those of the store; what is known stays so.
    pub fn refresh(&self) -> Result<()> {
        let before = self.runs();
        let mut listed = self.repository.store().list(INDEX_PREFIX, "")?;
        // Merged runs first: what they supersede need not be opened.
        listed.sort_by_key(|listed| std::cmp::Reverse(listed.length));
        let mut state = State::default();
        let mut runs: Vec<Arc<IndexRun>> = Vec::new();
        let mut superseded = BTreeSet::new();
        for name in listed.iter().map(|listed| &listed.name) {
            let Ok(id) = name[INDEX_PREFIX.len()..].parse::<IndexId>() else {
                log::warn!("{name} is no index run");
                continue;
            };
            state.known.insert(id);
            if superseded.contains(&id) {
                continue;
            }
            if let Some(run) = self.open_run(&before, id, &mut state.damaged)? {
                superseded.extend(run.footer.superseded.iter().copied());
                runs.push(run);
            }
        }
        runs.retain(|run| !superseded.contains(&run.id));
        state.runs = runs.into();
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        Ok(())
    }

    /// A run that was listed: open already, or opened; none, if it has gone or is damaged.
    fn open_run(
        &self,
        before: &[Arc<IndexRun>],
        id: IndexId,
        damaged: &mut Vec<(IndexId, Arc<Error>)>,
    ) -> Result<Option<Arc<IndexRun>>> {
        if let Some(run) = before.iter().find(|run| run.id == id) {
            return Ok(Some(Arc::clone(run)));
        }
        match IndexRun::open(&self.repository, id) {
            Ok(run) => Ok(Some(Arc::new(run))),
            Err(error) if error.kind() == ErrorKind::Missing => Ok(None),
            Err(error) if error.kind() == ErrorKind::Unreachable => Err(error),
            Err(error) => {
                log::warn!("an index run cannot be read: {error}");
                damaged.push((id, Arc::new(error)));
                Ok(None)
            }
        }
    }

    /// Every location that is known of a chunk; none, if it is unknown. Matches half of its id: who reads the chunk
    /// checks the whole.
    ///
    /// # Errors
    /// Those of the store and of damaged pages, if no other run knows the chunk.
    pub fn find(&self, id: &ChunkId) -> Result<Vec<ChunkPlace>> {
        match self.find_in(&self.runs(), id) {
            // A prune has removed a run that another one superseded.
            Err(error) if error.kind() == ErrorKind::Missing => {
                self.refresh()?;
                self.find_in(&self.runs(), id)
            }
            result => result,
        }
    }

    fn find_in(&self, runs: &[Arc<IndexRun>], id: &ChunkId) -> Result<Vec<ChunkPlace>> {
        let mut places: Vec<ChunkPlace> = Vec::new();
        let mut failed = None;
        for run in runs {
            match self.find_in_run(run, id) {
                Ok(found) => places.extend(found),
                Err(error) => failed = Some(error),
            }
        }
        // Two backups that merge at once both write the same rows.
        places.sort_unstable_by_key(|place| (place.hint, place.length));
        places.dedup();
        match failed {
            Some(error) if places.is_empty() => Err(error),
            _ => Ok(places),
        }
    }

    fn find_in_run(&self, run: &IndexRun, id: &ChunkId) -> Result<Vec<ChunkPlace>> {
        run.find(&self.pages, &self.repository, &prefix_of(id))?
            .iter()
            .map(|row| {
                Ok(ChunkPlace {
                    id: *id,
                    length: row.length,
                    hint: hint(row, run.pack(&self.pages, &self.repository, row)?),
                })
            })
            .collect()
    }

    /// The live runs' ids.
    pub fn run_ids(&self) -> Vec<IndexId> {
        self.runs().iter().map(|run| run.id).collect()
    }

    /// The runs that are there and cannot be opened, and why.
    pub fn damaged(&self) -> Vec<(IndexId, Arc<Error>)> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.damaged.clone()
    }

    /// Calls `visit` with every location that a live run has, in order of ids.
    ///
    /// # Errors
    /// Missing, if there is no such live run; those of the store, of damaged pages, and of `visit`.
    pub fn for_each_location(
        &self,
        id: &IndexId,
        mut visit: impl FnMut(IndexLocation) -> Result<()>,
    ) -> Result<()> {
        let runs = self.runs();
        let run = runs
            .iter()
            .find(|run| run.id == *id)
            .ok_or_else(|| Error::missing(format_args!("index run {id}")))?;
        let packs = run.all_packs(&self.repository)?;
        for row in run.all_rows(&self.repository) {
            let row = row?;
            let pack = packs.get(row.pack as usize).ok_or_else(|| {
                Error::corrupt(
                    format_args!("index run {id}"),
                    "a row names a pack that its table has not",
                )
            })?;
            visit(IndexLocation {
                prefix: row.prefix,
                length: row.length,
                hint: hint(&row, *pack),
            })?;
        }
        Ok(())
    }

    /// The packs that live runs know.
    ///
    /// # Errors
    /// Those of the store and of damaged pages.
    pub fn packs(&self) -> Result<BTreeSet<PackId>> {
        let mut packs = BTreeSet::new();
        for run in self.runs().iter() {
            packs.extend(run.all_packs(&self.repository)?);
        }
        Ok(packs)
    }

    /// Writes a run of these chunks, in any order, and adds it. Returns its length in bytes.
    pub(super) fn write(&self, places: &[ChunkPlace]) -> Result<u64> {
        let packs: Vec<PackId> = places
            .iter()
            .map(|place| place.hint.pack)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let mut rows: Vec<IndexRow> = places
            .iter()
            .filter_map(|place| Some(row(place, packs.binary_search(&place.hint.pack).ok()?)))
            .collect();
        rows.sort_unstable();
        let rows = rows.into_iter().map(Ok);
        let (run, length) = merge::write_run(&self.repository, rows, &packs, &[])?;
        self.replace(&[], run);
        Ok(length)
    }

    /// Merges runs of like size if more than `live_max` are live. Returns the length in bytes of what it wrote.
    pub(super) fn merge(&self, live_max: usize) -> Result<u64> {
        let runs = self.runs();
        let rows: Vec<u64> = runs.iter().map(|run| run.footer.rows).collect();
        let Some(chosen) = merge::choose(&rows, live_max) else {
            return Ok(0);
        };
        let chosen: Vec<_> = chosen
            .into_iter()
            .map(|run| Arc::clone(&runs[run]))
            .collect();
        let known = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            state.known.clone()
        };
        let (run, length) = merge::merge(&self.repository, &chosen, &known)?;
        self.replace(&chosen, run);
        Ok(length)
    }

    fn replace(&self, old: &[Arc<IndexRun>], new: IndexRun) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.known.insert(new.id);
        state.runs = state
            .runs
            .iter()
            .filter(|run| !old.iter().any(|old| old.id == run.id))
            .cloned()
            .chain([Arc::new(new)])
            .collect();
    }

    fn runs(&self) -> Arc<[Arc<IndexRun>]> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&state.runs)
    }
}

fn hint(row: &IndexRow, pack: PackId) -> Hint {
    Hint {
        pack,
        frame_offset: row.frame_offset,
        frame_length: row.frame_length,
        offset_in_frame: row.offset_in_frame,
    }
}

/// The row of a place whose pack has this ordinal. A run has far fewer packs than 32 bits count.
fn row(place: &ChunkPlace, pack: usize) -> IndexRow {
    IndexRow {
        prefix: prefix_of(&place.id),
        pack: u32::try_from(pack).unwrap_or(u32::MAX),
        frame_offset: place.hint.frame_offset,
        frame_length: place.hint.frame_length,
        offset_in_frame: place.hint.offset_in_frame,
        length: place.length,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::InitOptions;
    use super::*;
    use crate::format::index_name;
    use crate::store::{MemoryStore, Recording, Store};

    fn place(chunk: u32, pack: u8) -> ChunkPlace {
        ChunkPlace {
            id: ChunkId(*blake3::hash(&chunk.to_le_bytes()).as_bytes()),
            length: chunk,
            hint: Hint {
                pack: PackId([pack; 16]),
                frame_offset: chunk * 7,
                frame_length: 100,
                offset_in_frame: u32::from(pack),
            },
        }
    }

    fn repository(store: Arc<dyn Store>) -> Arc<Repository> {
        Repository::init(store, &InitOptions::default()).unwrap()
    }

    /// What one process after the other does to an index.
    #[derive(Debug, Clone)]
    enum Step {
        Write(Vec<(u32, u8)>),
        Merge(usize),
        Reopen,
        /// A prune removes what is superseded, behind the back of the index that is open.
        Prune,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let chunks = proptest::collection::vec((0..300_u32, any::<u8>()), 0..400);
        let step = prop_oneof![
            4 => chunks.prop_map(Step::Write),
            1 => (0..4_usize).prop_map(Step::Merge),
            1 => Just(Step::Reopen),
            1 => Just(Step::Prune),
        ];
        proptest::collection::vec(step, 1..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn an_index_knows_what_a_map_knows(steps in steps()) {
            let store = Arc::new(MemoryStore::new());
            let repository = repository(store.clone());
            let mut index = Index::open(&repository).unwrap();
            let mut model: BTreeMap<u32, BTreeSet<(u8, PackId)>> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Write(chunks) => {
                        let places: Vec<_> = chunks.iter().map(|(chunk, pack)| place(*chunk, *pack)).collect();
                        index.write(&places).unwrap();
                        for (chunk, pack) in chunks {
                            model.entry(chunk).or_default().insert((pack, PackId([pack; 16])));
                        }
                    }
                    Step::Merge(live_max) => {
                        index.merge(live_max).unwrap();
                    }
                    Step::Reopen => index = Index::open(&repository).unwrap(),
                    Step::Prune => {
                        let live = Index::open(&repository).unwrap().run_ids();
                        let live: Vec<String> = live.iter().map(index_name).collect();
                        for name in store.objects().keys().filter(|name| name.starts_with(INDEX_PREFIX)) {
                            if !live.contains(name) {
                                store.lose(name);
                            }
                        }
                    }
                }
                for chunk in 0..300 {
                    let found: BTreeSet<PackId> =
                        index.find(&place(chunk, 0).id).unwrap().into_iter().map(|found| {
                            assert_eq!(found, place(chunk, found.hint.pack.0[0]));
                            found.hint.pack
                        }).collect();
                    let expected: BTreeSet<PackId> =
                        model.get(&chunk).into_iter().flatten().map(|(_, pack)| *pack).collect();
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }

    #[test]
    fn lookups_read_a_few_pages_and_keep_them() {
        let store = Arc::new(MemoryStore::new());
        let repository_of_writer = repository(store.clone());
        let places: Vec<ChunkPlace> = (0..20_000).map(|chunk| place(chunk, 3)).collect();
        Index::empty_for_writer(&repository_of_writer)
            .write(&places)
            .unwrap();
        let recording = Arc::new(Recording::new(store));
        let repository = Repository::open(recording.clone()).unwrap();
        recording.take();
        let index = Index::open(&repository).unwrap();
        assert_eq!(recording.take().len(), 2, "a listing and a footer");
        assert_eq!(index.find(&places[77].id).unwrap(), [places[77]]);
        let requests = recording.take();
        assert!(requests.len() <= 4, "{requests:?}");
        assert!(requests.iter().all(|request| request.bytes <= 4096));
        index.find(&places[77].id).unwrap();
        assert!(recording.take().is_empty());
    }

    #[test]
    fn superseded_runs_are_not_even_opened() {
        let store = Arc::new(MemoryStore::new());
        let writing = repository(store.clone());
        let writer = Index::empty_for_writer(&writing);
        for chunk in 0..30 {
            writer.write(&[place(chunk, 1)]).unwrap();
        }
        writer.merge(0).unwrap();
        let recording = Arc::new(Recording::new(store));
        let repository = Repository::open(recording.clone()).unwrap();
        recording.take();
        let index = Index::open(&repository).unwrap();
        assert_eq!(index.run_ids().len(), 1);
        assert_eq!(recording.take().len(), 2, "a listing and a footer");
        assert_eq!(index.packs().unwrap(), BTreeSet::from([PackId([1; 16])]));
    }
}
