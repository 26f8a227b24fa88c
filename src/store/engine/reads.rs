//! Reads, straight from the durable rows.
//!
//! They run beside the committer, so two rows of one read may come from before and after a group. What that can do is
//! said where it matters.

use bytes::{Bytes, BytesMut};

use super::keys;
use super::records::{
    AppRow, BodyRow, DeviceRow, EntryContent, EntryRow, MessageFacts, Number, Piece, Record, UserRow, corrupt, unseal,
};
use super::view::Rows;
use crate::ids::{AppId, Position, UserId};
use crate::store::{App, Device, InboxEntry, Page, ReadLimit, StoreError, User};

pub(super) fn inbox(
    rows: &dyn Rows,
    app: AppId,
    user: UserId,
    after: Position,
    up_to: Position,
    limit: ReadLimit,
) -> Result<Page, StoreError> {
    let mut page = Page { entries: Vec::new(), complete: true };
    let from = keys::after(keys::entry(app, user, after));
    let end = keys::after(keys::entry(app, user, up_to));
    if from >= end {
        return Ok(page);
    }
    let mut bytes = 0;
    for row in rows.scan(&from, &end) {
        let (key, value) = row?;
        if !page.entries.is_empty() && page.entries.len() >= limit.entries {
            page.complete = false;
            break;
        }
        let entry: EntryRow = unseal(&key, &value)?;
        let encoded = match &entry.content {
            EntryContent::Message(message) => match body(rows, app, message)? {
                Some(encoded) => encoded,
                // Trimmed or expired since the scan came by. If the entry is still there, its body is lost.
                None if rows.get(&key)?.is_none() => continue,
                None => return Err(corrupt(&key)),
            },
            EntryContent::Receipt(_) => Bytes::new(),
        };
        if !page.entries.is_empty() && bytes + encoded.len() > limit.bytes {
            page.complete = false;
            break;
        }
        bytes += encoded.len();
        let position = keys::position_of(&key).ok_or_else(|| corrupt(&key))?;
        page.entries.push(InboxEntry { position, origin: entry.origin, item: entry.content.into_item(encoded) });
    }
    Ok(page)
}

/// A message's encoding; `None` when a piece of it is not there.
fn body(rows: &dyn Rows, app: AppId, message: &MessageFacts) -> Result<Option<Bytes>, StoreError> {
    let key = |piece| keys::body(app, message.conversation, message.seq, piece);
    let Some(body) = get::<BodyRow>(rows, &key(0))? else { return Ok(None) };
    if body.more == 0 {
        return Ok(Some(body.piece.into()));
    }
    let mut encoded = BytesMut::from(&body.piece[..]);
    for piece in 1..=body.more {
        let Some(Piece(piece)) = get(rows, &key(piece))? else { return Ok(None) };
        encoded.extend_from_slice(&piece);
    }
    Ok(Some(encoded.freeze()))
}

pub(super) fn find_user(rows: &dyn Rows, app: AppId, name: &str) -> Result<Option<User>, StoreError> {
    match get(rows, &keys::user_name(app, name))? {
        Some(Number(user)) => describe(rows, app, UserId(user)),
        None => Ok(None),
    }
}

pub(super) fn list_users(rows: &dyn Rows, app: AppId, after: &str, limit: usize) -> Result<Vec<User>, StoreError> {
    let from = keys::after(keys::user_name(app, after));
    let end = keys::after_prefix(keys::user_names(app));
    let mut users = Vec::new();
    for row in rows.scan(&from, &end) {
        if users.len() >= limit {
            break;
        }
        let (key, value) = row?;
        let Number(user) = unseal(&key, &value)?;
        users.extend(describe(rows, app, UserId(user))?);
    }
    Ok(users)
}

/// `None` for a user who was removed meanwhile; a device that was removed meanwhile is left out.
fn describe(rows: &dyn Rows, app: AppId, id: UserId) -> Result<Option<User>, StoreError> {
    let Some(row) = get::<UserRow>(rows, &keys::user(app, id))? else { return Ok(None) };
    let mut devices = Vec::with_capacity(row.devices.len());
    for device in row.devices {
        let found: Option<DeviceRow> = get(rows, &keys::device(app, id, device))?;
        devices.extend(found.map(|found| Device {
            id: device,
            name: found.name,
            key: found.key,
            cursor: found.cursor,
            linked: found.linked,
            seen: found.seen,
        }));
    }
    Ok(Some(User { id, name: row.name, devices, head: row.head, entries: row.messages }))
}

pub(super) fn list_apps(rows: &dyn Rows) -> Result<Vec<App>, StoreError> {
    let prefix = keys::apps();
    let end = keys::after_prefix(prefix.clone());
    let describe = |row: Result<(Bytes, Bytes), StoreError>| {
        let (key, value) = row?;
        let app: AppRow = unseal(&key, &value)?;
        Ok(App { id: keys::app_of(&key).ok_or_else(|| corrupt(&key))?, name: app.name, users: app.users })
    };
    rows.scan(&prefix, &end).map(describe).collect()
}

fn get<R: Record>(rows: &dyn Rows, key: &[u8]) -> Result<Option<R>, StoreError> {
    rows.get(key)?.map(|value| unseal(key, &value)).transpose()
}
