//! Leases: one that cannot be read says that a backup may be running, and nobody could tell which.

use super::Check;
use crate::base::{ErrorKind, LeaseId, Result};
use crate::format::{LEASES_PREFIX, LeaseRecord};

/// Checks that every lease can be read. Those of backups that end meanwhile are none.
pub(super) fn check(check: &Check<'_>) -> Result<()> {
    let store = check.repository.store();
    for listed in store.list(LEASES_PREFIX, "")? {
        let Ok(id) = listed.name[LEASES_PREFIX.len()..].parse::<LeaseId>() else {
            continue;
        };
        let read = store
            .get(&listed.name)
            .and_then(|bytes| LeaseRecord::decode(check.repository.seal(), &id, &bytes));
        match read {
            Err(error) if error.kind() != ErrorKind::Missing => {
                check.reporter.failed(&listed.name, error)?;
            }
            _ => {}
        }
    }
    Ok(())
}
