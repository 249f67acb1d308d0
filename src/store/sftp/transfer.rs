//! Bytes to and from files on the server: in pieces, many of them under way at once, so that a long line is full.

use std::io::SeekFrom;
use std::os::unix::fs::FileExt;
use std::pin::Pin;

use bytes::BytesMut;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use openssh_sftp_client::file::File;
use tokio::io::AsyncSeek;

use super::super::Body;
use super::session::{Trouble, answered};

/// Bytes of a piece: what OpenSSH's server moves by one request. One that moves less is asked for the rest.
const PIECE_BYTES: usize = 240 << 10;

/// Pieces under way at once: 4 MB, more than `ssh` itself has on its way.
const PIECES_AT_ONCE: usize = 16;

/// The `length` bytes at `offset` of a file, fewer only where the file ends.
pub(super) async fn read(file: &File, offset: u64, length: usize) -> Result<Vec<u8>, Trouble> {
    let pieces = pieces(length).map(|(at, length)| {
        let file = file.clone();
        let offset = offset + at as u64;
        // As a task of its own: what the library makes of a nonsensical answer then ends the task and not its caller.
        async move {
            let piece = tokio::spawn(read_piece(file, offset, length));
            piece
                .await
                .unwrap_or_else(|error| Err(Trouble::Broken(error.to_string())))
        }
    });
    let mut pieces = stream::iter(pieces).buffered(PIECES_AT_ONCE);
    let mut bytes = Vec::with_capacity(length);
    while let Some(piece) = pieces.try_next().await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() % PIECE_BYTES != 0 {
            break;
        }
    }
    Ok(bytes)
}

/// Writes a whole body to a new file.
pub(super) async fn write(file: &File, body: Body<'_>) -> Result<(), Trouble> {
    match body {
        Body::Bytes(parts) => write_parts(file, parts.iter().copied()).await,
        Body::Shared(parts) => write_parts(file, parts.iter().map(|part| &part[..])).await,
        Body::File(source) => {
            let length = source.metadata().map_err(local)?.len();
            let length =
                usize::try_from(length).map_err(|error| Trouble::Broken(error.to_string()))?;
            stream::iter(pieces(length).map(Ok))
                .try_for_each_concurrent(PIECES_AT_ONCE, |(at, length)| async move {
                    let mut piece = vec![0; length];
                    source.read_exact_at(&mut piece, at as u64).map_err(local)?;
                    write_piece(file.clone(), at as u64, &piece).await
                })
                .await
        }
    }
}

/// Writes what is in memory, one part after the other.
async fn write_parts<'a>(
    file: &File,
    parts: impl Iterator<Item = &'a [u8]>,
) -> Result<(), Trouble> {
    let mut start = 0;
    let mut places = Vec::new();
    for part in parts {
        places.extend(
            pieces(part.len()).map(|(at, length)| (start + at as u64, &part[at..at + length])),
        );
        start += part.len() as u64;
    }
    stream::iter(places.into_iter().map(Ok))
        .try_for_each_concurrent(PIECES_AT_ONCE, |(offset, piece)| {
            write_piece(file.clone(), offset, piece)
        })
        .await
}

/// Where pieces of `length` bytes begin, and how long they are.
fn pieces(length: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..length)
        .step_by(PIECE_BYTES)
        .map(move |at| (at, PIECE_BYTES.min(length - at)))
}

/// A piece, shorter only where the file ends.
async fn read_piece(mut file: File, offset: u64, length: usize) -> Result<BytesMut, Trouble> {
    let mut bytes = BytesMut::with_capacity(length);
    while bytes.len() < length {
        let done = bytes.len();
        seek(&mut file, offset + done as u64)?;
        let wanted = length - done;
        let asked = u32::try_from(wanted).unwrap_or(u32::MAX);
        let rest = bytes.split_off(done);
        match answered(file.read(asked, rest)).await? {
            Some(more) if more.is_empty() => break,
            Some(more) if more.len() > wanted => {
                return Err(Trouble::Broken(
                    "the server gave more than was asked for".to_owned(),
                ));
            }
            Some(more) => bytes.unsplit(more),
            None => break,
        }
    }
    Ok(bytes)
}

async fn write_piece(mut file: File, offset: u64, piece: &[u8]) -> Result<(), Trouble> {
    let mut done = 0;
    while done < piece.len() {
        seek(&mut file, offset + done as u64)?;
        done += answered(file.write(&piece[done..])).await?;
    }
    Ok(())
}

/// Says where the next read or write is: the library itself goes on by what was asked for, not by what came.
fn seek(file: &mut File, offset: u64) -> Result<(), Trouble> {
    Pin::new(file)
        .start_seek(SeekFrom::Start(offset))
        .map_err(local)
}

fn local(error: std::io::Error) -> Trouble {
    Trouble::Broken(error.to_string())
}
