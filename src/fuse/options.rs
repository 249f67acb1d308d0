//! How a tree is mounted: what a user may choose, and what every mount has.

use std::time::Duration;

use crate::base::{PointId, RepositoryId};
use crate::fetch::DEFAULT_TIMEOUT;
use crate::tree::Owner;

/// The subtype of every mount; with it the system lists the file system's type as `fuse.bygone`.
pub(super) const SUBTYPE: &str = "bygone";

/// What a user may choose about a mount. The default is the strictest: read-only, the owner only, with the files'
/// own permissions checked, and neither devices nor set-user-id bits obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountOptions {
    /// Let every user in; each is held to the files' permissions and ACLs.
    pub allow_other: bool,
    /// Show every file as owned by these, whoever owned it in the source.
    pub owner: Option<Owner>,
    /// Let whoever may enter the mount read everything in it, whatever the files' permissions are.
    pub no_permissions: bool,
    /// Run no program from the mount.
    pub no_exec: bool,
    /// How long to wait before looking again for new points. None looks every few seconds, or each minute where a request
    /// costs a round trip.
    pub refresh: Option<Duration>,
    /// How long a distant store may keep a request waiting; then it fails with EIO.
    pub timeout: Duration,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            allow_other: false,
            owner: None,
            no_permissions: false,
            no_exec: false,
            refresh: None,
            timeout: DEFAULT_TIMEOUT,
        }
    }
}

impl MountOptions {
    /// Should the kernel ask for ACLs and obey them? Without it a member of the owning group could read a file whose ACL
    /// forbids it. A mount that checks no permissions must not ask: the kernel would then check them all.
    pub(super) fn obeys_acls(&self) -> bool {
        self.allow_other && !self.no_permissions
    }
}

/// The name by which `df` and `mount` tell mounts apart: it has the repository's id, and the point's if it shows one.
pub fn source_name(repository: RepositoryId, point: Option<PointId>) -> String {
    match point {
        Some(point) => format!("bygone:{repository}/{point}"),
        None => format!("bygone:{repository}"),
    }
}

/// The repository's id, and the point's if it shows one, of such a name; None if it is none.
pub fn source_parts(source: &str) -> Option<(&str, Option<&str>)> {
    let rest = source.strip_prefix("bygone:")?;
    Some(match rest.split_once('/') {
        Some((repository, point)) => (repository, Some(point)),
        None => (rest, None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_what_is_mounted() {
        let repository = RepositoryId([7; 16]);
        let point = PointId {
            seconds: 1_700_000_000,
            random: 9,
        };
        let (id, shown) = (repository.to_string(), point.to_string());
        let name = source_name(repository, Some(point));
        assert_eq!(source_parts(&name), Some((&id[..], Some(&shown[..]))));
        let name = source_name(repository, None);
        assert_eq!(source_parts(&name), Some((&id[..], None)));
        assert_eq!(source_parts("tmpfs"), None);
    }
}
