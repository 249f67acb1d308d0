//! Merging index runs: a few large ones are searched faster than many small ones.
//!
//! The merged run names those whose rows it holds; they are superseded, and a prune removes them. Runs of like size
//! are merged, so that a row is written again a logarithm of times.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use crate::base::{Error, IndexId, PackId, Result};
use crate::format::{IndexEncoder, IndexRow, index_name};
use crate::store::GrowingBody;

use super::super::Repository;
use super::super::repository::random_bytes;
use super::run::IndexRun;

/// Which of `rows`, the row counts of live runs, to merge so that at most half of `live_max` and the merged one
/// remain: the smallest, and any other that is no larger than those together. None, if there are few enough.
pub(super) fn choose(rows: &[u64], live_max: usize) -> Option<Vec<usize>> {
    if rows.len() <= live_max {
        return None;
    }
    let mut by_size: Vec<usize> = (0..rows.len()).collect();
    by_size.sort_by_key(|run| rows[*run]);
    let mut count = rows.len() - live_max / 2;
    let mut total: u64 = by_size[..count].iter().map(|run| rows[*run]).sum();
    while count < by_size.len() && rows[by_size[count]] <= total {
        total += rows[by_size[count]];
        count += 1;
    }
    by_size.truncate(count);
    Some(by_size)
}

/// Writes one run with the rows of all these, which supersedes them and what they superseded of `known`. Returns it
/// and its length in bytes.
pub(super) fn merge(
    repository: &Repository,
    runs: &[Arc<IndexRun>],
    known: &BTreeSet<IndexId>,
) -> Result<(IndexRun, u64)> {
    let tables = runs
        .iter()
        .map(|run| run.all_packs(repository))
        .collect::<Result<Vec<_>>>()?;
    let packs: Vec<PackId> = tables
        .iter()
        .flatten()
        .copied()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let superseded: BTreeSet<IndexId> = runs
        .iter()
        .flat_map(|run| run.footer.superseded.iter().filter(|id| known.contains(id)))
        .copied()
        .chain(runs.iter().map(|run| run.id))
        .collect();
    let superseded: Vec<IndexId> = superseded.into_iter().collect();
    let rows = merged_rows(repository, runs, &tables, &packs);
    write_run(repository, rows, &packs, &superseded)
}

/// Writes an index run of rows in order, and opens it. Returns its length in bytes, too.
pub(super) fn write_run(
    repository: &Repository,
    rows: impl Iterator<Item = Result<IndexRow>>,
    packs: &[PackId],
    superseded: &[IndexId],
) -> Result<(IndexRun, u64)> {
    let id = IndexId(random_bytes()?);
    let mut encoder = IndexEncoder::new(repository.seal(), id);
    let mut body = GrowingBody::new();
    for row in rows {
        encoder.push(row?)?;
        body.append(&encoder.take())?;
    }
    body.append(&encoder.finish(packs, superseded)?)?;
    let length = body.length();
    body.put(repository.store(), &index_name(&id))?;
    Ok((IndexRun::open(repository, id)?, length))
}

/// All rows of all runs in order, their packs as ordinals in `packs`. Every table is in order of ids, as is `packs`,
/// so that new ordinals rise where old ones did and rows stay in order.
fn merged_rows<'a>(
    repository: &'a Repository,
    runs: &'a [Arc<IndexRun>],
    tables: &'a [Vec<PackId>],
    packs: &'a [PackId],
) -> impl Iterator<Item = Result<IndexRow>> + 'a {
    let mut streams: Vec<_> = runs
        .iter()
        .zip(tables)
        .map(|(run, table)| {
            run.all_rows(repository)
                .map(move |row| renumber(row?, table, packs).ok_or_else(|| bad_ordinal(run.id)))
        })
        .collect();
    let mut heads = BinaryHeap::new();
    let mut failed = None;
    for (number, stream) in streams.iter_mut().enumerate() {
        match stream.next() {
            Some(Ok(row)) => heads.push(Reverse((row, number))),
            Some(Err(error)) => failed = Some(error),
            None => {}
        }
    }
    std::iter::from_fn(move || {
        if let Some(error) = failed.take() {
            heads.clear();
            return Some(Err(error));
        }
        let Reverse((row, number)) = heads.pop()?;
        match streams[number].next() {
            Some(Ok(next)) => heads.push(Reverse((next, number))),
            Some(Err(error)) => failed = Some(error),
            None => {}
        }
        Some(Ok(row))
    })
}

/// The row with the ordinal that its pack has in `packs`.
fn renumber(row: IndexRow, table: &[PackId], packs: &[PackId]) -> Option<IndexRow> {
    let pack = table.get(row.pack as usize)?;
    let ordinal = packs.binary_search(pack).ok()?;
    Some(IndexRow {
        pack: u32::try_from(ordinal).ok()?,
        ..row
    })
}

fn bad_ordinal(id: IndexId) -> Error {
    Error::corrupt(index_name(&id), "a row names a pack that its table has not")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_runs_are_left_alone_and_large_ones_are_not_written_again() {
        assert_eq!(choose(&[1; 16], 16), None);
        let mut rows = vec![1_000_000];
        rows.extend([10; 16]);
        let chosen = choose(&rows, 16).unwrap();
        assert!(!chosen.contains(&0));
        assert_eq!(chosen.len(), 16);
        let equal = choose(&[10; 17], 16).unwrap();
        assert_eq!(equal.len(), 17);
    }
}
