//! The journal's segments as they are read when the store opens: one thread reads the files, looks whether their records
//! are sound and takes the groups apart, and another applies them. Each takes about as long as the other.

use std::sync::mpsc::SyncSender;

use super::super::files::Files;
use super::super::state::Changes;
use super::damage::unsound;
use super::record::{self, Next, Record};
use super::segment::{HEAD_BYTES, Head, Slot};
use crate::store::StoreError;

/// Groups are handed over together, this many bytes of them or a little more: one may be a single message. Three such pieces
/// are in memory at most, taken apart. Tests have small segments, of more than one piece all the same.
const PIECE_BYTES: usize = if cfg!(test) { 512 } else { 256 << 10 };

/// A part of a segment.
pub(super) enum Piece {
    /// Its next groups, each with the offset of its record.
    Groups(Vec<(usize, Changes)>),
    /// It has no more.
    Tail(Tail),
}

/// What comes after the last group of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// The next record goes here.
    Open { offset: usize },
    /// The segment goes no further.
    Ended(Next),
}

/// Hands over what segments hold, a tail at the end of each, up to the first error or until nobody takes it.
pub(super) fn read_segments(
    files: &dyn Files,
    segments: &[(Head, Slot)],
    pieces: &SyncSender<Result<Piece, StoreError>>,
) {
    for (head, slot) in segments {
        let bytes = slot.read(files);
        let mut offset = HEAD_BYTES;
        loop {
            let piece = match &bytes {
                Ok(bytes) => next_piece(bytes, head, slot, &mut offset),
                Err(error) => Err(error.clone()),
            };
            let (failed, at_end) = (piece.is_err(), matches!(piece, Ok(Piece::Tail(_))));
            if pieces.send(piece).is_err() || failed {
                return;
            }
            if at_end {
                break;
            }
        }
    }
}

/// What a segment has at `offset`, which moves behind it.
fn next_piece(bytes: &[u8], head: &Head, slot: &Slot, offset: &mut usize) -> Result<Piece, StoreError> {
    let (begun, seed) = (*offset, head.seed);
    let mut groups = Vec::new();
    while *offset - begun < PIECE_BYTES {
        let (group, next) = match record::read(bytes, seed, *offset) {
            Some((Record::Group(group), next)) => (group, next),
            _ if !groups.is_empty() => break,
            Some((Record::End(next), _)) => return Ok(Piece::Tail(Tail::Ended(next))),
            None if record::any_from(bytes, seed, *offset) => return Err(unsound(&slot.path, *offset, seed.number)),
            None => return Ok(Piece::Tail(Tail::Open { offset: *offset })),
        };
        groups.push((*offset, Changes::read(group)));
        *offset = next;
    }
    Ok(Piece::Groups(groups))
}
