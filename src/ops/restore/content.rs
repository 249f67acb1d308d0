//! A file's content, extent by extent.

use crate::base::Result;
use crate::fetch::Fetcher;
use crate::format::{Content, Extent, decode_extents};

/// Gives every extent of `content` to `emit`, in order, with its offset in the file. Bytes that stand in the entry are none.
///
/// # Errors
/// Those of fetching an extent list, and of `emit`.
pub(in crate::ops) fn each_extent(
    fetcher: &Fetcher,
    content: &Content,
    emit: &mut dyn FnMut(u64, &Extent) -> Result<()>,
) -> Result<()> {
    let mut offset = 0;
    let mut give = |extents: &[Extent]| {
        extents.iter().try_for_each(|extent| {
            let at = offset;
            offset += extent.length();
            emit(at, extent)
        })
    };
    match content {
        Content::Nothing | Content::Inline(_) => Ok(()),
        Content::Extents(extents) => give(extents),
        Content::Lists(lists) => lists.iter().try_for_each(|list| {
            let bytes = fetcher.extent_list(&list.chunk)?;
            give(&decode_extents(&bytes, list.span)?)
        }),
    }
}
