//! What sled has of a user: entries in chunks, answers in rows of several.

use std::cell::Cell;

use bytes::{Bytes, BytesMut};

use super::disk::Disk;
use super::keys;
use super::rows::{AnswerRow, Answers, Body, Chunk, Entry, Number, Piece, UserRow, corrupt};
use super::state::{User, UserKey};
use crate::ids::{DeviceId, Position, SendId};
use crate::store::StoreError;

/// A user as sled has it.
pub(super) fn load_user(disk: &Disk, (app, user): UserKey, row: UserRow) -> Result<User, StoreError> {
    let mut loaded = User::new(row);
    for newest in disk.rows::<Number>(&keys::newest_of_user(app, user)) {
        let (key, Number(position)) = newest?;
        let receipt = keys::receipt_of(&key).ok_or_else(|| corrupt(&key))?;
        loaded.found_newest(receipt, Position(position));
    }
    if let Some(last) = disk.last_key(&keys::chunks_of_user(app, user))? {
        loaded.cold = keys::last_of(&last).ok_or_else(|| corrupt(&last))?;
    }
    // The row with these entries may be gone: then reading must notice.
    if let Some(Number(end)) = disk.get(&keys::end(app, user))? {
        loaded.cold = loaded.cold.max(Position(end));
    }
    Ok(loaded)
}

/// Entries in sled with `after < position ≤ up_to`, in order, also those that are dead. `gap` is raised to the last position
/// that a row which is not there had: up to there everything must be dead.
pub(super) fn entries<'g>(
    disk: &Disk,
    (app, user): UserKey,
    after: Position,
    up_to: Position,
    gap: &'g Cell<Position>,
) -> impl Iterator<Item = Result<Entry, StoreError>> + use<'g> {
    let from = keys::chunk(app, user, Position(after.0.saturating_add(1)));
    let end = keys::after_prefix(keys::chunks_of_user(app, user));
    let mut last = after;
    let mut end_of_last = after;
    let in_chunk = move |chunk: Result<(Bytes, Chunk), StoreError>| match chunk {
        Ok((_, Chunk { before, entries })) => {
            if before > end_of_last {
                gap.set(gap.get().max(before));
            }
            end_of_last = end_of_last.max(entries.last().map_or(before, |entry| entry.position));
            entries.into_iter().map(Ok).collect()
        }
        Err(error) => vec![Err(error)],
    };
    disk.rows_between::<Chunk>(&from, &end)
        .flat_map(in_chunk)
        .filter(move |entry| match entry {
            // A spill that a crash cut short leaves a chunk that the next spill writes again, with more in it.
            Ok(entry) => {
                let is_new = entry.position > last;
                last = last.max(entry.position);
                is_new
            }
            Err(_) => true,
        })
        .take_while(move |entry| entry.as_ref().map_or(true, |entry| entry.position <= up_to))
}

/// A message's encoding; `None` when a piece of it is not there.
pub(super) fn body(
    disk: &Disk,
    (app, user): UserKey,
    position: Position,
    body: &Body,
) -> Result<Option<Bytes>, StoreError> {
    let pieces = match body {
        Body::Here(encoded) => return Ok(Some(encoded.clone())),
        Body::Pieces(pieces) => *pieces,
    };
    let mut encoded = BytesMut::new();
    for piece in 0..pieces {
        let Some(Piece(piece)) = disk.get(&keys::piece(app, user, position, piece))? else { return Ok(None) };
        encoded.extend_from_slice(&piece);
    }
    Ok(Some(encoded.freeze()))
}

/// What a device was answered, if sled has it.
pub(super) fn answer(
    disk: &Disk,
    (app, user): UserKey,
    device: DeviceId,
    send_id: SendId,
) -> Result<Option<AnswerRow>, StoreError> {
    let key = keys::answers(app, user, device, keys::answer_group(send_id));
    let row = disk.get::<Answers>(&key)?;
    Ok(row.and_then(|Answers(answers)| answers.into_iter().find(|answer| answer.send_id() == send_id)))
}
