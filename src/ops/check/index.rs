//! The index against the directories of packs.
//!
//! An index run has all locations of a pack or none. So it is enough to compare, for each pack, a sum over the rows
//! of the run with that over the pack's directory, and memory does not grow with the number of chunks.

use std::collections::{BTreeSet, HashMap};

use super::Check;
use super::packs::{Packs, Summary};
use crate::base::{Error, Event, IndexId, PackId, Result};
use crate::format::{
    INDEX_PREFIX, IndexFooter, IndexRow, IndexSection, decode_packs, decode_rows, index_name,
    pack_name,
};

/// Bytes that one request fetches of an index run's pages.
const REQUEST_BYTES: u64 = 4 << 20;

/// Bytes at an index run's end that hold most footers whole.
const TAIL_BYTES: u64 = 64 << 10;

/// An index run that is read.
struct IndexRun {
    id: IndexId,
    name: String,
    footer: IndexFooter,
}

/// Checks every index run against the packs; `used` are those that points need. In a check of the `whole`
/// repository, packs that no index run has are told of.
pub(super) fn check(
    check: &Check<'_>,
    packs: &Packs,
    used: &BTreeSet<PackId>,
    whole: bool,
) -> Result<()> {
    let mut indexed = BTreeSet::new();
    for listed in check.repository.store().list(INDEX_PREFIX, "")? {
        check.go_on()?;
        let Ok(id) = listed.name[INDEX_PREFIX.len()..].parse::<IndexId>() else {
            check.monitor.event(Event::Warning(
                None,
                &format!(
                    "{} is no index run's name: nothing will read it",
                    listed.name
                ),
            ));
            continue;
        };
        check.reporter.count(|report| report.index_runs += 1);
        let checked = open(check, id, listed.length)
            .and_then(|run| check_run(check, packs, &run, whole, &mut indexed));
        if let Err(error) = checked {
            check.reporter.failed(&listed.name, error)?;
        }
    }
    tell_unindexed(check, packs, used, &indexed)
}

fn open(check: &Check<'_>, id: IndexId, listed_length: u64) -> Result<IndexRun> {
    let name = index_name(&id);
    let store = check.repository.store();
    let (mut tail, length) = store.get_tail(&name, TAIL_BYTES)?;
    if length != listed_length {
        return Err(Error::corrupt(
            &name,
            format!("it has {length} bytes, and {listed_length} when it was listed"),
        ));
    }
    let needed = IndexFooter::encoded_length(&tail, length)?;
    if needed > tail.len() as u64 {
        tail = store.get_range(&name, length - needed..length)?;
    }
    let start = tail.len() - needed as usize;
    let footer = IndexFooter::decode(check.repository.seal(), &id, &tail[start..], length)?;
    Ok(IndexRun { id, name, footer })
}

/// Compares the run's rows with the packs' directories. What is damaged is told page by page; what the comparison
/// finds then would be of no meaning, and is not told.
fn check_run(
    check: &Check<'_>,
    packs: &Packs,
    run: &IndexRun,
    whole: bool,
    indexed: &mut BTreeSet<PackId>,
) -> Result<()> {
    let mut table: Vec<PackId> = Vec::new();
    let seal = check.repository.seal();
    let mut is_whole = true;
    each_page(check, run, IndexSection::Packs, |number, page| {
        match decode_packs(seal, &run.id, number, page) {
            Ok(ids) => table.extend(ids),
            Err(error) => {
                is_whole = false;
                check.reporter.failed(
                    &run.name,
                    error.context(format_args!("page {number} of its packs")),
                )?;
            }
        }
        Ok(())
    })?;
    let mut summaries: HashMap<u32, Summary> = HashMap::new();
    let mut last: Option<IndexRow> = None;
    each_page(check, run, IndexSection::Rows, |number, page| {
        match decode_rows(seal, &run.id, number, page) {
            Ok(rows) => {
                if rows
                    .first()
                    .is_some_and(|first| last.as_ref() >= Some(first))
                {
                    check.reporter.damaged(
                        &run.name,
                        format!("page {number}: its rows do not follow those before"),
                    )?;
                }
                rows.iter()
                    .for_each(|row| summaries.entry(row.pack).or_default().add(row));
                last = rows.last().copied().or(last);
            }
            Err(error) => {
                is_whole = false;
                check.reporter.failed(
                    &run.name,
                    error.context(format_args!("page {number} of its rows")),
                )?;
            }
        }
        Ok(())
    })?;
    if !is_whole {
        indexed.extend(table);
        return Ok(());
    }
    for (ordinal, summary) in &summaries {
        match table.get(*ordinal as usize) {
            Some(pack) => {
                indexed.insert(*pack);
                compare(check, packs, run, pack, summary, whole)?;
            }
            None => check.reporter.damaged(
                &run.name,
                format!("it names pack {ordinal} of {}", table.len()),
            )?,
        }
    }
    Ok(())
}

/// Holds what the run says of one pack against its directory.
fn compare(
    check: &Check<'_>,
    packs: &Packs,
    run: &IndexRun,
    pack: &PackId,
    summary: &Summary,
    whole: bool,
) -> Result<()> {
    if packs.length(pack).is_none() {
        return match whole {
            true => check
                .reporter
                .missing(&pack_name(pack), format!("{} has chunks in it", run.name)),
            false => Ok(()),
        };
    }
    match packs.summary(pack) {
        Some(expected) if expected != summary => check.reporter.damaged(
            &run.name,
            format!(
                "its {} rows about pack {pack} are not the {} chunks in the pack's directory",
                summary.count, expected.count
            ),
        ),
        _ => Ok(()),
    }
}

/// Packs that no index run has: what points use is missing there, the rest an interrupted backup left.
fn tell_unindexed(
    check: &Check<'_>,
    packs: &Packs,
    used: &BTreeSet<PackId>,
    indexed: &BTreeSet<PackId>,
) -> Result<()> {
    for pack in packs.ids() {
        if indexed.contains(&pack) {
            continue;
        }
        if used.contains(&pack) {
            check.reporter.missing(
                &format!("{INDEX_PREFIX}*"),
                format!("no index run has pack {pack}, which points use: backups will upload its chunks again"),
            )?;
        } else if packs.summary(&pack).is_some() {
            check.monitor.event(Event::Note(&format!(
                "pack {pack} is in no index run: an interrupted backup left it"
            )));
        }
    }
    Ok(())
}

/// Gives the sealed pages of a section, in order.
fn each_page(
    check: &Check<'_>,
    run: &IndexRun,
    section: IndexSection,
    mut page: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let store = check.repository.store();
    let seal = check.repository.seal();
    let range_of = |number| run.footer.page_range(seal, section, number);
    let mut number = 0;
    while run.footer.items_of_page(section, number) > 0 {
        check.go_on()?;
        let start = range_of(number).start;
        let mut last = number;
        while run.footer.items_of_page(section, last + 1) > 0
            && range_of(last + 1).end - start <= REQUEST_BYTES
        {
            last += 1;
        }
        let end = range_of(last).end;
        let bytes = store.get_range(&run.name, start..end)?;
        for number in number..=last {
            let range = range_of(number);
            page(
                number,
                &bytes[(range.start - start) as usize..(range.end - start) as usize],
            )?;
        }
        number = last + 1;
    }
    Ok(())
}
