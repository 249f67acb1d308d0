//! Packs as objects: which there are, and what they say that they hold.

use crate::base::{Error, PackId, Result};
use crate::format::{PACKS_PREFIX, PackDirectory, pack_name};
use crate::store::read_or_disbelieve;

use super::Repository;

/// What is read of a pack at first: the directory of most packs, in one request.
const TAIL_BYTES: u64 = 64 << 10;

/// All packs and their lengths in bytes, in order of ids.
///
/// # Errors
/// Those of the store. Objects whose names are no pack's are passed over, with a word in the log.
pub fn list_packs(repository: &Repository) -> Result<Vec<(PackId, u64)>> {
    let listed = repository.store().list(PACKS_PREFIX, "")?;
    Ok(listed
        .into_iter()
        .filter_map(|listed| {
            let id = listed.name.rsplit('/').next()?.parse::<PackId>().ok();
            match id.filter(|id| pack_name(id) == listed.name) {
                Some(id) => Some((id, listed.length)),
                None => {
                    log::warn!("{} is no pack", listed.name);
                    None
                }
            }
        })
        .collect())
}

/// Reads a pack's directory: one request, two if it is a large one.
///
/// # Errors
/// Those of the store; corrupt, with the pack named, if the pack does not end as it must.
pub fn read_pack_directory(repository: &Repository, id: &PackId) -> Result<PackDirectory> {
    let name = pack_name(id);
    read_or_disbelieve(repository.store(), &name, || {
        read_directory(repository, id, &name)
    })
}

fn read_directory(repository: &Repository, id: &PackId, name: &str) -> Result<PackDirectory> {
    let named = |error: Error| error.context(name);
    let (mut tail, length) = repository.store().get_tail(name, TAIL_BYTES)?;
    let needed = PackDirectory::encoded_length(&tail, length).map_err(named)?;
    match usize::try_from(needed).unwrap_or(usize::MAX) {
        needed if needed <= tail.len() => drop(tail.drain(..tail.len() - needed)),
        _ => {
            tail = repository
                .store()
                .get_range(name, length - needed..length)?
        }
    }
    PackDirectory::decode(repository.seal(), id, &tail, length).map_err(named)
}
