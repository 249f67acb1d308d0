//! Keys: each is bound to the master key, so that one that was changed is found without its password.

use super::Check;
use crate::base::{ErrorKind, Result};
use crate::format::key_name;
use crate::repo::keys;

/// Checks every key of an encrypted repository. One that is taken away meanwhile is none.
pub(super) fn check(check: &Check<'_>) -> Result<()> {
    if !check.repository.seal().is_encrypted() {
        return Ok(());
    }
    for key in keys(check.repository)? {
        match key.description {
            Err(error) if error.kind() != ErrorKind::Missing => {
                check.reporter.failed(&key_name(&key.id), error)?;
            }
            _ => {}
        }
    }
    Ok(())
}
