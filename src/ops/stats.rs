//! How much there is, and how much room it takes: of a whole repository, or of one point.
//!
//! Plain bytes are those of all files, each counted in each point that has it, and once there if it has several links; unique ones those of the chunks that they
//! come to, each counted once; stored ones what lies in the repository. Content that stands in its entry is no chunk: it is
//! stored in the manifests.
//!
//! Every chunk is remembered, in some 24 bytes, to be counted once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::base::{Error, ErrorKind, Key, Monitor, PackId, Result};
use crate::fetch::Fetcher;
use crate::format::{
    CONFIG_NAME, Content, Extent, FileType, PACKS_PREFIX, Point, decode_extents, pack_name,
    prefix_of,
};
use crate::manifest::Chain;
use crate::repo::{Index, Repository};

/// What there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    pub points: u64,
    /// The sum of files' sizes, over all points.
    pub plain_bytes: u64,
    /// The plain bytes of all chunks, each once.
    pub unique_bytes: u64,
    /// How many these are.
    pub chunks: u64,
    /// The bytes of `chunks` as they are stored: of a repository, of all packs; of a point, of the frames that hold them.
    pub content_bytes: u64,
    /// All bytes that are stored: `content_bytes`, and whatever else there is.
    pub stored_bytes: u64,
    /// Objects by their kind: the folder that they lie in.
    pub objects: BTreeMap<String, ObjectStats>,
}

/// Objects of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObjectStats {
    pub count: u64,
    pub bytes: u64,
}

impl Stats {
    /// How often a chunk's bytes are used: plain bytes for each unique one. None if there are none.
    pub fn deduplication(&self) -> Option<f64> {
        ratio(self.plain_bytes, self.unique_bytes)
    }

    /// Unique bytes for each stored one of content. None if there are none.
    pub fn compression(&self) -> Option<f64> {
        ratio(self.unique_bytes, self.content_bytes)
    }

    /// Plain bytes for each stored one. None if there are none.
    pub fn total(&self) -> Option<f64> {
        ratio(self.plain_bytes, self.stored_bytes)
    }

    fn count_object(&mut self, kind: &str, bytes: u64) {
        let kind = self.objects.entry(kind.to_owned()).or_default();
        kind.count += 1;
        kind.bytes += bytes;
    }
}

fn ratio(more: u64, less: u64) -> Option<f64> {
    (less > 0).then(|| more as f64 / less as f64)
}

/// The figures of a whole repository, whose points are these.
///
/// # Errors
/// Interrupted; those of listing the store, and of reading the index.
pub fn stats_of_repository(
    repository: &Arc<Repository>,
    points: &[Arc<Point>],
    monitor: &dyn Monitor,
) -> Result<Stats> {
    let mut stats = Stats {
        points: points.len() as u64,
        plain_bytes: points.iter().map(|point| point.figures.bytes).sum(),
        ..Stats::default()
    };
    for object in repository.store().list("", "")? {
        let kind = match object.name.split_once('/') {
            Some((folder, _)) => folder,
            None if object.name == CONFIG_NAME => CONFIG_NAME,
            None => "other",
        };
        stats.count_object(kind, object.length);
        stats.stored_bytes += object.length;
        if object.name.starts_with(PACKS_PREFIX) {
            stats.content_bytes += object.length;
        }
    }
    let index = Index::open(repository)?;
    let mut chunks = HashMap::new();
    for run in index.run_ids() {
        check_goes_on(monitor)?;
        index.for_each_location(&run, |location| {
            chunks.insert(location.prefix, location.length);
            Ok(())
        })?;
    }
    stats.chunks = chunks.len() as u64;
    stats.unique_bytes = chunks.into_values().map(u64::from).sum();
    Ok(stats)
}

/// The figures of one point, as if it were alone: what its files come to, and the packs and manifests that it needs.
///
/// # Errors
/// Interrupted; those of reading its chain, and of listing the store.
pub fn stats_of_point(
    fetcher: &Arc<Fetcher>,
    point: &Point,
    monitor: &dyn Monitor,
) -> Result<Stats> {
    let mut stats = Stats {
        points: 1,
        ..Stats::default()
    };
    for run in &point.runs {
        stats.count_object("manifests", run.length);
        stats.stored_bytes += run.length;
    }
    let mut used = Used::default();
    let mut groups = HashSet::new();
    for (number, found) in Chain::open(fetcher, point)?
        .entries(&Key::root())
        .enumerate()
    {
        if number.is_multiple_of(ENTRIES_BETWEEN_LOOKS) {
            check_goes_on(monitor)?;
        }
        let found = found?;
        let is_new = found.entry.group.is_none_or(|group| groups.insert(group));
        if is_new && found.entry.metadata.file_type == FileType::Regular {
            stats.plain_bytes += found.entry.metadata.size;
        }
        let in_file = |error: Error| error.context(format_args!("{}", found.key));
        used.add(fetcher, &found.entry.content).map_err(in_file)?;
    }
    stats.chunks = used.chunks.len() as u64;
    stats.unique_bytes = used.unique_bytes;
    stats.content_bytes = used.frame_bytes;
    stats.stored_bytes += used.frame_bytes;
    let packs: HashSet<String> = used
        .frames
        .iter()
        .map(|(pack, _)| pack_name(pack))
        .collect();
    for object in fetcher.repository().store().list(PACKS_PREFIX, "")? {
        if packs.contains(&object.name) {
            stats.count_object("packs", object.length);
        }
    }
    Ok(stats)
}

/// Entries between two looks at whether to go on: some milliseconds.
const ENTRIES_BETWEEN_LOOKS: usize = 4096;

fn check_goes_on(monitor: &dyn Monitor) -> Result<()> {
    match monitor.is_interrupted() {
        true => Err(Error::new(ErrorKind::Interrupted, "it was interrupted")),
        false => Ok(()),
    }
}

/// The chunks that a point uses, and the frames that they lie in.
#[derive(Default)]
struct Used {
    chunks: HashSet<[u8; 16]>,
    unique_bytes: u64,
    frames: HashSet<(PackId, u32)>,
    frame_bytes: u64,
}

impl Used {
    fn add(&mut self, fetcher: &Fetcher, content: &Content) -> Result<()> {
        match content {
            Content::Nothing | Content::Inline(_) => {}
            Content::Extents(extents) => self.add_extents(extents),
            Content::Lists(lists) => {
                for list in lists {
                    let is_new = self.add_chunk(&Extent::Chunk(list.chunk));
                    // A list that is known has chunks that are.
                    if is_new {
                        let bytes = fetcher.extent_list(&list.chunk)?;
                        self.add_extents(&decode_extents(&bytes, list.span)?);
                    }
                }
            }
        }
        Ok(())
    }

    fn add_extents(&mut self, extents: &[Extent]) {
        for extent in extents {
            self.add_chunk(extent);
        }
    }

    /// Adds what an extent refers to; true if that is a chunk that was not known.
    fn add_chunk(&mut self, extent: &Extent) -> bool {
        let Extent::Chunk(place) = extent else {
            return false;
        };
        let hint = &place.hint;
        if self.frames.insert((hint.pack, hint.frame_offset)) {
            self.frame_bytes += u64::from(hint.frame_length);
        }
        let is_new = self.chunks.insert(prefix_of(&place.id));
        if is_new {
            self.unique_bytes += u64::from(place.length);
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_what_is_there() {
        let stats = Stats {
            plain_bytes: 600,
            unique_bytes: 200,
            content_bytes: 100,
            stored_bytes: 150,
            ..Stats::default()
        };
        assert_eq!(stats.deduplication(), Some(3.0));
        assert_eq!(stats.compression(), Some(2.0));
        assert_eq!(stats.total(), Some(4.0));
        assert_eq!(Stats::default().total(), None);
    }
}
