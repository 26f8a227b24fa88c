//! What sled has of later times than a journal that ends too early: replaying that one must not bring back what was before.

use bytes::Bytes;

use crate::store::StoreError;
use crate::store::engine::disk::Disk;
use crate::store::engine::keys::{self, Table};
use crate::store::engine::rows::{Answers, AppRow, ConversationRow, Number, Reader, Record, UserRow, corrupt, unseal};
use crate::store::engine::state::{Spill, SpilledAnswers};

/// Takes out of what is to be written for an object what sled has as it was later.
///
/// Of two rows of the same thing that one is later in which a number is higher that never falls.
pub(super) fn keep(disk: &Disk, spill: &mut Spill) -> Result<(), StoreError> {
    let mut earlier = Vec::new();
    for (key, value) in &spill.rows {
        let Some(value) = value.as_ref().map(|value| Bytes::copy_from_slice(value)) else { continue };
        let is_earlier = match Table::of(key) {
            Some(Table::App) => in_sled(disk, key, value, app_moved),
            Some(Table::User) => in_sled(disk, key, value, user_moved),
            Some(Table::Conversation) => in_sled(disk, key, value, conversation_moved),
            Some(Table::Newest | Table::End) => in_sled(disk, key, value, |Number(from), Number(to)| to > from),
            _ => Ok(false),
        };
        earlier.extend(is_earlier?.then(|| key.clone()));
    }
    for key in earlier {
        spill.rows.remove(&key);
    }
    spill.answers.iter_mut().try_for_each(|answers| keep_answers(disk, answers))
}

/// Whether what sled has under a key has moved on from a value.
fn in_sled<R: Record>(
    disk: &Disk,
    key: &[u8],
    value: Bytes,
    moved: impl FnOnce(&R, &R) -> bool,
) -> Result<bool, StoreError> {
    let Some(found) = disk.get::<R>(key)? else { return Ok(false) };
    Ok(moved(&unseal(key, value)?, &found))
}

fn app_moved(from: &AppRow, to: &AppRow) -> bool {
    let numbers = |row: &AppRow| [row.last_user, row.last_device, row.last_conversation];
    any_higher(numbers(to), numbers(from))
}

fn user_moved(from: &UserRow, to: &UserRow) -> bool {
    let numbers = |row: &UserRow| [row.head.0, row.confirmed.0, row.trimmed.0, row.expired.0];
    let device_moved = to.devices.iter().any(|to| {
        let known = from.devices.iter().find(|from| from.id == to.id);
        known.is_some_and(|from| any_higher([to.cursor.0, to.highest.0], [from.cursor.0, from.highest.0]))
    });
    let newest = |row: &UserRow| row.devices.iter().map(|device| device.id.0).max().unwrap_or(0);
    device_moved || any_higher(numbers(to), numbers(from)) || newest(to) > newest(from)
}

fn conversation_moved(from: &ConversationRow, to: &ConversationRow) -> bool {
    let numbers = |row: &ConversationRow| {
        let [a, b] = row.marks;
        [row.head, a.delivered, a.read, a.wanted, b.delivered, b.read, b.wanted]
    };
    any_higher(numbers(to), numbers(from))
}

fn any_higher<T: PartialOrd, const N: usize>(these: [T; N], those: [T; N]) -> bool {
    these.iter().zip(&those).any(|(this, that)| this > that)
}

/// Adds the answers to later sends that sled has in the same row.
fn keep_answers(disk: &Disk, SpilledAnswers { key, words, .. }: &mut SpilledAnswers) -> Result<(), StoreError> {
    let Some(Answers(mut later)) = disk.get(key)? else { return Ok(()) };
    let Answers(ours) = Answers::read(&mut Reader(words.0.clone().into())).ok_or_else(|| corrupt(key))?;
    let Some(last) = ours.last().map(|answer| answer.send_id()) else { return Ok(()) };
    later.retain(|answer| answer.send_id() > last && keys::answer_group(answer.send_id()) == keys::answer_group(last));
    Answers(later).write(&mut words.0);
    Ok(())
}
