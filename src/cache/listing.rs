//! What is known of listings, for when the store does not answer.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, params};

use super::database::{offset, value};
use super::failure::failed;
use super::kept::Open;
use crate::base::Result;
use crate::store::Listed;

impl Open {
    /// Takes a listing in: names that it lacks are gone, as far as it reaches.
    pub(super) fn learn(&mut self, prefix: &str, from: &str, listed: &[Listed]) -> Result<()> {
        let known = self.names(prefix, from)?;
        let known: BTreeMap<&str, u64> = known
            .iter()
            .map(|listed| (&*listed.name, listed.length))
            .collect();
        let now: BTreeMap<&str, u64> = listed
            .iter()
            .map(|listed| (&*listed.name, listed.length))
            .collect();
        let reaches = self.first_listed(prefix)?;
        let reaches_further = reaches.is_none_or(|first| from < &*first);
        if known == now && !reaches_further {
            return Ok(());
        }
        let transaction = self.database.begin()?;
        for name in known.keys().filter(|name| !now.contains_key(*name)) {
            transaction
                .execute("DELETE FROM names WHERE name = ?1", [name])
                .map_err(failed)?;
        }
        for (name, length) in now
            .iter()
            .filter(|(name, length)| known.get(*name) != Some(length))
        {
            let length = value(*length)?;
            transaction
                .prepare_cached("INSERT OR REPLACE INTO names VALUES (?1, ?2)")
                .and_then(|mut insert| insert.execute(params![name, length]))
                .map_err(failed)?;
        }
        if reaches_further {
            transaction
                .execute(
                    "INSERT INTO listed (prefix, first) VALUES (?1, ?2)
                    ON CONFLICT (prefix) DO UPDATE SET first = excluded.first",
                    [prefix, from],
                )
                .map_err(failed)?;
        }
        transaction.commit().map_err(failed)
    }

    /// What the store last said that a listing is; None, if it was never asked that far.
    pub(super) fn known_listing(&self, prefix: &str, from: &str) -> Result<Option<Vec<Listed>>> {
        match self.first_listed(prefix)? {
            Some(first) if *first <= *from => self.names(prefix, from).map(Some),
            _ => Ok(None),
        }
    }

    /// Adds one name, which this process has just put.
    pub(super) fn learn_name(&mut self, name: &str, length: u64) -> Result<()> {
        let length = value(length)?;
        self.database
            .connection
            .execute(
                "INSERT OR REPLACE INTO names VALUES (?1, ?2)",
                params![name, length],
            )
            .map_err(failed)?;
        Ok(())
    }

    /// Removes one name, which this process has just deleted.
    pub(super) fn forget_name(&mut self, name: &str) -> Result<()> {
        self.database
            .connection
            .execute("DELETE FROM names WHERE name = ?1", [name])
            .map_err(failed)?;
        Ok(())
    }

    /// Notes what a process asked first about a prefix that was listed.
    pub(super) fn learn_asked(&mut self, prefix: &str, from: &str) -> Result<()> {
        if self.asked(prefix)?.as_deref() == Some(from) {
            return Ok(());
        }
        self.database
            .connection
            .execute(
                "UPDATE listed SET asked = ?2 WHERE prefix = ?1",
                [prefix, from],
            )
            .map_err(failed)?;
        Ok(())
    }

    /// From where on a process was told a listing first, when that was last noted.
    pub(super) fn asked(&self, prefix: &str) -> Result<Option<String>> {
        let query = "SELECT asked FROM listed WHERE prefix = ?1";
        let found: Option<Option<String>> = self
            .database
            .connection
            .query_row(query, [prefix], |row| row.get(0))
            .optional()
            .map_err(failed)?;
        Ok(found.flatten())
    }

    /// Names of objects below a prefix of which something is kept, at most so many.
    pub(super) fn kept_names(&self, prefix: &str, count: usize) -> Result<Vec<String>> {
        let query = "SELECT name FROM objects WHERE name >= ?1 AND name < ?2 LIMIT ?3";
        let end = end_of(prefix);
        let mut statement = self.database.connection.prepare(query).map_err(failed)?;
        let names = statement
            .query_map(params![prefix, end, count as i64], |row| row.get(0))
            .map_err(failed)?;
        names.collect::<rusqlite::Result<_>>().map_err(failed)
    }

    fn first_listed(&self, prefix: &str) -> Result<Option<String>> {
        self.database
            .connection
            .query_row(
                "SELECT first FROM listed WHERE prefix = ?1",
                [prefix],
                |row| row.get(0),
            )
            .optional()
            .map_err(failed)
    }

    fn names(&self, prefix: &str, from: &str) -> Result<Vec<Listed>> {
        let end = end_of(prefix);
        let mut statement = self
            .database
            .connection
            .prepare_cached(
                "SELECT name, length FROM names WHERE name >= ?1 AND name < ?2 ORDER BY name",
            )
            .map_err(failed)?;
        let mut rows = statement.query([prefix.max(from), &end]).map_err(failed)?;
        let mut names = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            names.push(Listed {
                name: row.get(0).map_err(failed)?,
                length: offset(row.get(1).map_err(failed)?)?,
            });
        }
        Ok(names)
    }
}

/// What sorts after all names with this prefix: it ends in a slash, and a zero is what comes next.
fn end_of(prefix: &str) -> String {
    format!("{}0", prefix.trim_end_matches('/'))
}
