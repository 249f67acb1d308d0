//! Hard links: which files of the walk are one file, and which group of the reference they belong to.
//!
//! Memory grows with the files that have several links and of which some were not met yet, and with those that the
//! reference knows; nothing else of a backup does.

use std::collections::HashMap;

use super::status::{Identity, Status};
use crate::base::{Origin, Row, Timestamp};
use crate::manifest::Found;

/// What a file's links mean for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linked {
    /// It has one link only.
    Alone,
    /// It is the first of its links that is read; others take their content from it. Should it be equal to what the
    /// reference has of these links, it belongs to their group.
    Leads(Identity, Option<Joined>),
    /// An earlier one of its links is read: content and group are that one's. `is_last`: no more will follow.
    Follows { leader: Identity, is_last: bool },
    /// It is unchanged since the reference, which knows the file by this link or another one.
    Joins(Joined),
}

impl Linked {
    /// The file whose later links take content and group from this one, once it is read.
    pub fn leads(&self) -> Option<Identity> {
        match self {
            Self::Leads(identity, _) => Some(*identity),
            // The one that it was to follow could not be read.
            Self::Follows { leader, is_last } => (!is_last).then_some(*leader),
            Self::Alone | Self::Joins(_) => None,
        }
    }
}

/// A file of the reference that has several links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    pub group: Origin,
    /// Where one of its entries is: the run's place in the reference's chain, and the row in its section of files.
    pub run: usize,
    pub row: Row,
}

/// The reference's files with several links, by what makes a version.
#[derive(Debug, Default)]
pub struct LinkedBefore {
    files: HashMap<(u64, Timestamp), Before>,
}

#[derive(Debug, Clone, Copy)]
struct Before {
    size: u64,
    mtime: Timestamp,
    joined: Joined,
}

impl LinkedBefore {
    /// Learns an entry of the reference. Only those with several links matter, and of a group the first.
    pub fn learn(&mut self, known: &Found) {
        let entry = &known.entry;
        let is_sure = !entry.flags.unsettled && !entry.flags.changed_while_read;
        let Some(group) = entry.group.filter(|_| is_sure && entry.metadata.links > 1) else {
            return;
        };
        let before = Before {
            size: entry.metadata.size,
            mtime: entry.metadata.mtime,
            joined: Joined {
                group,
                run: known.run,
                row: known.row,
            },
        };
        self.files
            .entry((entry.metadata.inode, entry.metadata.ctime))
            .or_insert(before);
    }

    fn find(&self, status: &Status) -> Option<Joined> {
        let before = self.files.get(&(status.inode, status.ctime))?;
        (before.size == status.size && before.mtime == status.mtime).then_some(before.joined)
    }
}

/// The files with several links that the walk has met.
#[derive(Debug)]
pub struct Links {
    before: LinkedBefore,
    met: HashMap<Identity, Met>,
}

#[derive(Debug)]
struct Met {
    status: Status,
    /// None if its first link is read.
    joined: Option<Joined>,
    /// How many of its links are still to be met.
    remaining: u64,
}

impl Links {
    /// None met yet.
    pub fn new(before: LinkedBefore) -> Self {
        Self {
            before,
            met: HashMap::new(),
        }
    }

    /// What the links of a file with several mean for it, and whether an earlier one of them was met. `unchanged` is what the reference has at its key, if that is
    /// the same version and need not be read; `reads_everything`: nothing may be taken over from the reference.
    pub fn place(
        &mut self,
        status: &Status,
        unchanged: Option<&Found>,
        reads_everything: bool,
    ) -> (Linked, bool) {
        let identity = status.identity();
        if let Some(met) = self.met.get_mut(&identity)
            && met.status == *status
        {
            let joined = met.joined;
            met.remaining -= 1;
            let is_last = met.remaining == 0;
            if is_last {
                self.met.remove(&identity);
            }
            let follows = Linked::Follows {
                leader: identity,
                is_last,
            };
            return (joined.map_or(follows, Linked::Joins), true);
        }
        let known_elsewhere = self.before.find(status);
        let joined = if reads_everything {
            None
        } else {
            unchanged
                .map(|known| joined_of(known, known_elsewhere))
                .or(known_elsewhere)
        };
        let met = Met {
            status: status.clone(),
            joined,
            remaining: status.links - 1,
        };
        self.met.insert(identity, met);
        let leads = Linked::Leads(identity, known_elsewhere);
        (joined.map_or(leads, Linked::Joins), false)
    }
}

/// The group of an entry that is unchanged. One that left its group comes back to it, or begins one.
fn joined_of(known: &Found, known_elsewhere: Option<Joined>) -> Joined {
    let group = known
        .entry
        .group
        .or(known_elsewhere.map(|joined| joined.group))
        .unwrap_or(known.origin);
    Joined {
        group,
        run: known.run,
        row: known.row,
    }
}
