//! Extended attributes: those that the source had, and a few of bygone's own that tell of a file what no other call does.
//!
//! Bygone's own are answered when they are asked for by name and never listed, so that no copy carries them along. Where
//! the source had one of such a name, its own value is told, and it is listed: a point is shown as it was.
//!
//! | name | value |
//! |---|---|
//! | `user.bygone.point` | the id of the point that recorded this version first; of a directory, the last change below it |
//! | `user.bygone.hash` | BLAKE3 of a file's content, in hexadecimal |
//! | `user.bygone.chunks` | how many chunks the content is made of, then their ids, a line each, if they are not too many |
//! | `user.bygone.local` | how many bytes of the content can be had without a network |
//! | `user.bygone.btime` | the birth time, in seconds and nanoseconds since 1970 |

use std::fmt::Write;
use std::sync::Arc;

use crate::base::{ChunkId, Result, RunId, Timestamp};
use crate::fetch::Fetcher;
use crate::format::{Extent, FileType, Xattr};

use super::Tree;
use super::content::{FileContent, Table};
use super::file::{ExtentLists, File, extents_of};
use super::node::{Node, NodeId};

/// What the names of bygone's own attributes begin with.
const PREFIX: &[u8] = b"user.bygone.";

/// Ids of chunks in one value: with a line each they fit the 64 KiB that a value may have.
const CHUNK_IDS_MAX: usize = 1000;

impl Tree {
    /// The names of a node's extended attributes, without bygone's own.
    ///
    /// # Errors
    /// Like those of `attributes`.
    pub fn xattr_names(&self, node: NodeId) -> Result<Vec<Vec<u8>>> {
        let names = self.with_metadata(node, |metadata| {
            let names = metadata.xattrs.iter().map(|xattr| xattr.name.clone());
            names.collect()
        })?;
        Ok(names.unwrap_or_default())
    }

    /// The value of an extended attribute. None if the node has none of that name.
    ///
    /// # Errors
    /// Like those of `attributes`; for bygone's own also those of reading what they tell of.
    pub fn xattr(&self, node: NodeId, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let found = self.with_metadata(node, |metadata| {
            let of_source = value_of(&metadata.xattrs, name);
            of_source.ok_or((metadata.file_type, metadata.btime))
        })?;
        let (file_type, btime) = match found {
            None => return Ok(None),
            Some(Ok(value)) => return Ok(Some(value)),
            Some(Err(about)) => about,
        };
        let Some(own) = name.strip_prefix(PREFIX) else {
            return Ok(None);
        };
        match own {
            b"btime" => Ok(btime.map(birth_time)),
            b"point" => self.recording_point(node),
            _ if file_type != FileType::Regular => Ok(None),
            b"hash" => self.with_file(node, File::hash),
            b"chunks" => self
                .with_file(node, File::chunk_ids)
                .map(|ids| Some(listed(&ids))),
            b"local" => self
                .with_file(node, File::local_bytes)
                .map(|bytes| Some(bytes.to_string().into_bytes())),
            _ => Ok(None),
        }
    }

    fn with_file<T>(
        &self,
        node: NodeId,
        work: impl FnOnce(&Arc<File>, &Fetcher, &ExtentLists) -> Result<T>,
    ) -> Result<T> {
        let file = self.file(node)?;
        work(&file, self.points.fetcher(), &self.extent_lists)
    }

    fn recording_point(&self, node: NodeId) -> Result<Option<Vec<u8>>> {
        let run: Option<RunId> = match node.decode()? {
            Node::File { run, .. } => self.points.run_id(run)?,
            Node::ViewDirectory(number) => {
                let made = self.made.get(number);
                let directory = made.map(|made| self.shown_directory(&made)).transpose()?;
                directory.flatten().map(|directory| directory.origin.run)
            }
            _ => Some(self.directory(node)?.origin.run),
        };
        let Some(run) = run else {
            return Ok(None);
        };
        let point = self.points.recorder(&run)?;
        Ok(point.map(|point| point.to_string().into_bytes()))
    }
}

impl File {
    /// BLAKE3 of the content in hexadecimal: as recorded, or made now if one chunk is the file. None for a file whose
    /// hash was not recorded, as of one with holes of many gigabytes.
    fn hash(self: &Arc<Self>, fetcher: &Fetcher, lists: &ExtentLists) -> Result<Option<Vec<u8>>> {
        let is_one_piece = match &self.content {
            FileContent::Nothing => self.metadata.size == 0,
            FileContent::Inline(_) => true,
            FileContent::Extents(extents) => matches!(extents.items(), [Extent::Chunk(_)]),
            FileContent::Lists(_) | FileContent::Damaged(_) => false,
        };
        let hash = match self.content_hash {
            Some(hash) => blake3::Hash::from_bytes(hash),
            None if is_one_piece => {
                let mut bytes = Vec::new();
                // A chunk is no longer than 32 bits can say.
                self.read(fetcher, lists, 0, u32::MAX)?
                    .append_to(&mut bytes);
                blake3::hash(&bytes)
            }
            None => return Ok(None),
        };
        Ok(Some(hash.to_hex().as_bytes().to_vec()))
    }

    /// The ids of the chunks that it is made of, in order.
    fn chunk_ids(self: &Arc<Self>, fetcher: &Fetcher, lists: &ExtentLists) -> Result<Vec<ChunkId>> {
        let places = self.places(fetcher, lists, 0..self.metadata.size)?;
        Ok(places.into_iter().map(|place| place.id).collect())
    }

    /// How many bytes of it need no network. What lies in extent lists that would have to be fetched does not count.
    fn local_bytes(self: &Arc<Self>, fetcher: &Fetcher, lists: &ExtentLists) -> Result<u64> {
        let here = |extents: &Table<Extent>| -> u64 {
            let of_extent = |extent: &Extent| match extent {
                Extent::Chunk(place) if !fetcher.has_chunk_here(place) => 0,
                extent => extent.length(),
            };
            extents.items().iter().map(of_extent).sum()
        };
        match &self.content {
            FileContent::Nothing | FileContent::Damaged(_) => Ok(0),
            FileContent::Inline(bytes) => Ok(bytes.len() as u64),
            FileContent::Extents(extents) => Ok(here(extents)),
            FileContent::Lists(table) => {
                let mut bytes = 0;
                for list in table.items() {
                    if fetcher.has_extent_list_here(&list.chunk) {
                        bytes += here(&*extents_of(fetcher, lists, list)?);
                    }
                }
                Ok(bytes)
            }
        }
    }
}

fn value_of(xattrs: &[Xattr], name: &[u8]) -> Option<Vec<u8>> {
    let found = xattrs.iter().find(|xattr| xattr.name == name);
    found.map(|xattr| xattr.value.clone())
}

fn birth_time(time: Timestamp) -> Vec<u8> {
    format!("{}.{:09}", time.seconds, time.nanoseconds).into_bytes()
}

/// The number of ids, and the ids themselves where a value has room for them.
fn listed(ids: &[ChunkId]) -> Vec<u8> {
    let mut text = ids.len().to_string();
    if ids.len() <= CHUNK_IDS_MAX {
        for id in ids {
            write!(text, "\n{id}").expect("a text takes whatever is written to it");
        }
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_as_long_as_a_value_has_room_for_them() {
        assert_eq!(listed(&[]), b"0");
        let two = listed(&[ChunkId([0xab; 32]), ChunkId([1; 32])]);
        let expected = format!("2\n{}\n{}", "ab".repeat(32), "01".repeat(32));
        assert_eq!(two, expected.into_bytes());
        let most = listed(&vec![ChunkId([0; 32]); CHUNK_IDS_MAX]);
        assert!(most.len() < 64 << 10);
        assert_eq!(listed(&vec![ChunkId([0; 32]); CHUNK_IDS_MAX + 1]), b"1001");
    }
}
