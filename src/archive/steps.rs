//! Steps that need no file to be opened, as they are recorded.

use super::plan::{Observe, Step};
use super::record::Recorder;
use crate::base::Result;

/// Records all that `step` says, unless that is to open a file: then gives the file.
///
/// # Errors
/// Those of temporary files and of sealing.
pub fn record_step<P>(
    recorder: &mut Recorder<'_>,
    step: Step<P>,
) -> Result<Option<Box<Observe<P>>>> {
    match step {
        Step::Keep(seen) => recorder.keep(&seen),
        Step::Inherit(inherit) => recorder.inherit(inherit)?,
        Step::Tombstone {
            key,
            section,
            excluded,
            is_change,
        } => recorder.tombstone(&key, section, excluded, is_change)?,
        Step::Forget { key } => recorder.change(&key),
        Step::Warn {
            key,
            message,
            is_partial,
        } => recorder.warn(&key, &message, is_partial)?,
        Step::Observe(file) => return Ok(Some(file)),
    }
    Ok(None)
}
