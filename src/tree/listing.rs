//! Listing a directory of a point: what is not a directory first, then directories, both in order of names.
//!
//! A cookie is a place in the chain (section, run's place, row of the entry listed last), so that a listing goes on
//! from any cookie, at any time. Entries are made in pages; the page that a listing stopped in is remembered by the
//! directory's node and the cookie, which saves looking its place up. A forgotten page costs that and nothing else.

use std::sync::Arc;

use crate::base::{Error, ErrorKind, Key, Result, Row};
use crate::format::{FileType, Section};
use crate::manifest::Found;

use super::attributes::{Attributes, DirectoryEntry};
use super::points::{OpenPoint, Points};

/// Entries of a page: enough that finding the place where the next one begins (some 10 us) is nothing beside them.
const PAGE_ENTRIES: usize = 512;

/// Set in every cookie, so that small ones stay free for whoever calls.
const COOKIE: u64 = 1 << 62;
const SECTION_SHIFT: u32 = 51;
const PLACE_SHIFT: u32 = 38;
const PLACE_MASK: u64 = (1 << (SECTION_SHIFT - PLACE_SHIFT)) - 1;
const ROW_MASK: u64 = (1 << PLACE_SHIFT) - 1;

/// Some entries of a directory that follow one another.
struct Page {
    /// The names, one after the other.
    names: Vec<u8>,
    entries: Vec<PageEntry>,
    /// Does nothing follow?
    is_last: bool,
}

struct PageEntry {
    /// Where its name ends in `names`; the next one's begins there.
    name_end: usize,
    attributes: Attributes,
    cookie: u64,
}

/// A place in a listing: before the entry of number `next` of a page.
#[derive(Clone)]
pub(super) struct Listing {
    page: Arc<Page>,
    next: usize,
}

/// Where a page begins: in this section, after this name.
struct Start {
    section: Section,
    after: Option<Vec<u8>>,
}

/// Why a listing came to a stop.
pub(super) enum Stop {
    /// There is no more. The listing lies behind the last entry.
    End(Listing),
    /// The receiver was full. The listing lies before the entry that it refused.
    Full(Listing),
    /// The next entries cannot be read, though some were given.
    Damaged,
}

impl Listing {
    /// The listing of a directory from the place after `cookie`, 0 for the start.
    ///
    /// # Errors
    /// Usage, for a cookie that no listing of this directory gave; and those of reading its entries.
    pub(super) fn open(points: &Points, point: &OpenPoint, key: &Key, cookie: u64) -> Result<Self> {
        let start = if cookie & COOKIE == 0 {
            Start {
                section: Section::Files,
                after: None,
            }
        } else {
            start_after(point, key, cookie)?
        };
        let page = Page::read(points, point, key, start)?;
        Ok(Self {
            page: Arc::new(page),
            next: 0,
        })
    }

    /// Gives entries to `emit` until it is full or there are no more; `cookie`, where the listing stands, becomes
    /// that of the last entry that was taken.
    pub(super) fn run(
        mut self,
        points: &Points,
        point: &OpenPoint,
        key: &Key,
        cookie: &mut u64,
        emit: &mut dyn FnMut(DirectoryEntry<'_>) -> bool,
    ) -> Result<Stop> {
        let before = *cookie;
        loop {
            while let Some(entry) = self.page.entry(self.next) {
                if !emit(entry) {
                    return Ok(Stop::Full(self));
                }
                *cookie = entry.cookie;
                self.next += 1;
            }
            if self.page.is_last {
                return Ok(Stop::End(self));
            }
            match Page::read(points, point, key, self.page.end()) {
                Ok(page) => {
                    self.page = Arc::new(page);
                    self.next = 0;
                }
                Err(error) if *cookie == before => return Err(error),
                Err(_) => return Ok(Stop::Damaged),
            }
        }
    }

    /// Memory that it takes, in bytes.
    pub(super) fn weight(&self) -> u64 {
        let entries = self.page.entries.capacity() * size_of::<PageEntry>();
        (self.page.names.capacity() + entries + size_of::<Self>()) as u64
    }
}

impl Page {
    /// The page that begins at `start`. Ends early where the next entry cannot be read, so that the failure comes
    /// with the page that has nothing else.
    fn read(points: &Points, point: &OpenPoint, key: &Key, start: Start) -> Result<Self> {
        let mut page = Self {
            names: Vec::new(),
            entries: Vec::new(),
            is_last: false,
        };
        let outcome = page.fill(points, point, key, start);
        page.entries.shrink_to_fit();
        page.names.shrink_to_fit();
        match outcome {
            Err(error) if page.entries.is_empty() => Err(error),
            _ => Ok(page),
        }
    }

    fn fill(&mut self, points: &Points, point: &OpenPoint, key: &Key, start: Start) -> Result<()> {
        let sections = match start.section {
            Section::Files => &[Section::Files, Section::Directories][..],
            Section::Directories => &[Section::Directories],
        };
        for section in sections {
            let after = start.after.as_deref().filter(|_| *section == start.section);
            for found in point.chain.children(key, *section, after) {
                if self.entries.len() == PAGE_ENTRIES {
                    return Ok(());
                }
                self.push(points, point, &found?)?;
            }
        }
        self.is_last = true;
        Ok(())
    }

    fn push(&mut self, points: &Points, point: &OpenPoint, found: &Found) -> Result<()> {
        let attributes = points.attributes(point, found)?;
        self.names.extend_from_slice(found.key.name());
        self.entries.push(PageEntry {
            name_end: self.names.len(),
            attributes,
            cookie: cookie(found),
        });
        Ok(())
    }

    fn name(&self, number: usize) -> &[u8] {
        let start = number
            .checked_sub(1)
            .map_or(0, |before| self.entries[before].name_end);
        &self.names[start..self.entries[number].name_end]
    }

    fn entry(&self, number: usize) -> Option<DirectoryEntry<'_>> {
        let entry = self.entries.get(number)?;
        Some(DirectoryEntry {
            name: self.name(number),
            node: entry.attributes.node,
            file_type: entry.attributes.file_type,
            cookie: entry.cookie,
            attributes: Some(entry.attributes),
        })
    }

    /// Where the page after this one begins.
    fn end(&self) -> Start {
        let last = self.entries.len().checked_sub(1);
        Start {
            section: last.map_or(Section::Files, |last| {
                self.entries[last].attributes.file_type.section()
            }),
            after: last.map(|last| self.name(last).to_vec()),
        }
    }
}

fn cookie(found: &Found) -> u64 {
    let is_directory = found.entry.metadata.file_type == FileType::Directory;
    COOKIE
        | u64::from(is_directory) << SECTION_SHIFT
        | (found.run as u64 & PLACE_MASK) << PLACE_SHIFT
        | found.row.0 & ROW_MASK
}

/// The place behind the entry that a cookie names.
fn start_after(point: &OpenPoint, directory: &Key, cookie: u64) -> Result<Start> {
    let section = match cookie >> SECTION_SHIFT & 1 {
        0 => Section::Files,
        _ => Section::Directories,
    };
    let place = (cookie >> PLACE_SHIFT & PLACE_MASK) as usize;
    let no_place = || {
        Error::new(
            ErrorKind::Usage,
            format!("{cookie:#x} is no place in the listing of {directory}"),
        )
    };
    let row = Row(cookie & ROW_MASK);
    let found = (place < point.chain.runs().len())
        .then(|| point.chain.row(place, section, row))
        .transpose()?
        .flatten()
        .filter(|found| found.key.parent().as_ref() == Some(directory))
        .ok_or_else(no_place)?;
    Ok(Start {
        section,
        after: Some(found.key.name().to_vec()),
    })
}
