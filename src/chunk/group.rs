//! Small chunks side by side: what shares a frame.
//!
//! Chunks join in the order in which they come (walk order), as long as they are of one owner and fit. Grouping is
//! placement only: no id and no deduplication depends on it.

/// Collects small chunks until a frame is full. `T` is whatever the caller wants back with each chunk.
#[derive(Debug)]
pub struct Grouping<T> {
    bytes_max: usize,
    open: Group<T>,
}

/// Chunks that go into one frame.
#[derive(Debug)]
pub struct Group<T> {
    /// The frame's plain bytes.
    pub bytes: Vec<u8>,
    /// Its chunks in order, one after the other without gaps.
    pub chunks: Vec<Grouped<T>>,
    owner: u32,
}

/// A chunk in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grouped<T> {
    /// What the caller gave with it.
    pub tag: T,
    /// Its first byte in the frame.
    pub offset: u32,
    /// How many bytes it has.
    pub length: u32,
}

impl<T> Grouping<T> {
    /// Groups of at most `bytes_max` bytes; a chunk that is longer makes a group by itself.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            open: Group::empty(),
        }
    }

    /// Adds a chunk of `owner`. Gives the group that it did not fit into any more, which is then complete.
    pub fn add(&mut self, owner: u32, bytes: &[u8], tag: T) -> Option<Group<T>> {
        let joins =
            self.open.owner == owner && self.open.bytes.len() + bytes.len() <= self.bytes_max;
        let complete = if joins { None } else { self.finish() };
        let offset = offset_in_frame(self.open.bytes.len());
        self.open.owner = owner;
        self.open.bytes.extend_from_slice(bytes);
        self.open.chunks.push(Grouped {
            tag,
            offset,
            length: offset_in_frame(bytes.len()),
        });
        complete
    }

    /// The group that is open, if it has any chunk; the next chunk begins another one.
    pub fn finish(&mut self) -> Option<Group<T>> {
        if self.open.chunks.is_empty() {
            return None;
        }
        Some(std::mem::replace(&mut self.open, Group::empty()))
    }
}

impl<T> Group<T> {
    fn empty() -> Self {
        Self {
            bytes: Vec::new(),
            chunks: Vec::new(),
            owner: 0,
        }
    }
}

/// A frame is far below 4 GiB: the limit on a frame's plain bytes is checked when it is sealed.
fn offset_in_frame(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a frame has fewer than 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_share_a_group_until_it_is_full() {
        let mut grouping = Grouping::new(10);
        assert!(grouping.add(0, b"aaaa", 1).is_none());
        assert!(grouping.add(0, b"bbbbbb", 2).is_none());
        let full = grouping.add(0, b"c", 3).unwrap();
        assert_eq!(full.bytes, b"aaaabbbbbb");
        assert_eq!(
            full.chunks,
            [
                Grouped {
                    tag: 1,
                    offset: 0,
                    length: 4
                },
                Grouped {
                    tag: 2,
                    offset: 4,
                    length: 6
                }
            ]
        );
        assert_eq!(grouping.finish().unwrap().bytes, b"c");
        assert!(grouping.finish().is_none());
    }

    #[test]
    fn owners_never_share_a_group() {
        let mut grouping = Grouping::new(100);
        assert!(grouping.add(1, b"a", ()).is_none());
        assert_eq!(grouping.add(2, b"b", ()).unwrap().bytes, b"a");
        assert_eq!(grouping.add(1, b"c", ()).unwrap().bytes, b"b");
    }

    #[test]
    fn a_chunk_longer_than_a_frame_is_a_group_by_itself() {
        let mut grouping = Grouping::new(3);
        assert!(grouping.add(0, b"abcdef", ()).is_none());
        assert_eq!(grouping.add(0, b"g", ()).unwrap().bytes, b"abcdef");
    }
}
