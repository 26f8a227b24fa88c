//! Reads beside the committer: from the state, and from sled without holding up who commits.

use std::cell::Cell;

use tokio::sync::oneshot;

use super::cold;
use super::committer::{Core, Shared};
use super::disk::Disk;
use super::keys;
use super::rows::{AppRow, Body, Content, Entry, corrupt};
use super::state::{At, State, User, UserKey};
use crate::ids::{AppId, Position};
use crate::store;
use crate::store::{App, Committed, Completion, Device, InboxEntry, Item, Page, ReadLimit, StoreError};
use crate::sync::MutexGuard;

/// A piece of an inbox.
pub(super) struct Read {
    pub page: Page,
    /// What the page rests on is durable when this is answered; `None` when it is already.
    pub durable: Option<oneshot::Receiver<Result<Committed, StoreError>>>,
}

/// What an inbox has from `after` to `up_to`.
pub(super) fn inbox(
    shared: &Shared,
    key: UserKey,
    mut after: Position,
    up_to: Position,
    limit: ReadLimit,
) -> Result<Read, StoreError> {
    let start = after;
    let mut filling =
        Filling { page: Page { entries: Vec::new(), complete: true }, limit, bytes: 0, dead: None, changed: false };
    loop {
        let mut core = shared.core();
        let Some(at) = core.state.find_user(key.0, key.1)? else {
            return Ok(Read { page: filling.page, durable: None });
        };
        if core.state.user(at).is_hot_after(after) {
            filling.merge(core.state.user(at), &[], after, up_to);
            filling.must_be_whole(core.state.user(at), key, start, up_to)?;
            return Ok(finished(shared, core, at, filling.page));
        }
        let disk = core.state.disk()?;
        let has = core.state.user(at).cold;
        let (stamp, cold_end) = (core.state.user(at).stamp, core.state.user(at).cold.min(up_to));
        drop(core);

        // What is in sled is not waited for under the lock; whether it is alive is looked up then. What the spill is about
        // to write is not looked at: it is still in memory.
        let mut cold = cold_entries(shared, &disk, key, after, cold_end, limit)?;
        if cold.complete && cold.seen < has && has <= up_to {
            cold.gap = has;
        }
        let mut core = shared.core();
        let Some(at) = core.state.find_user(key.0, key.1)? else {
            return Ok(Read { page: filling.page, durable: None });
        };
        if core.state.user(at).stamp != stamp {
            // Meanwhile something may have got to sled that was in memory before.
            continue;
        }
        if cold.gap > core.state.user(at).floor() {
            return Err(incomplete(key, cold.gap));
        }
        let last = cold.entries.last().map_or(cold_end, |last| last.position);
        let end = if cold.complete { cold_end } else { last };
        let is_full = !filling.merge(core.state.user(at), &cold.entries, after, end);
        if is_full || end >= up_to {
            filling.must_be_whole(core.state.user(at), key, start, up_to)?;
            return Ok(finished(shared, core, at, filling.page));
        }
        // Not all of it was alive, or the rest is in memory: what lies behind it is in the page, too.
        after = end;
    }
}

struct Filling {
    page: Page,
    limit: ReadLimit,
    bytes: usize,
    /// Up to where messages were dead when the first of the page were taken.
    dead: Option<(Position, Position)>,
    /// More of them are dead since.
    changed: bool,
}

impl Filling {
    /// Takes what sled has and is alive, and what it has not, in order; `false`, when there is no room for all of it.
    fn merge(&mut self, user: &User, cold: &[Entry], after: Position, up_to: Position) -> bool {
        let dead = (user.row.trimmed, user.row.expired);
        self.changed |= *self.dead.get_or_insert(dead) != dead;
        let mut hot = user.hot_after(after).take_while(|entry| entry.position <= up_to).peekable();
        for entry in cold {
            while let Some(before) = hot.next_if(|hot| hot.position < entry.position) {
                if !self.add(before) {
                    return false;
                }
            }
            hot.next_if(|hot| hot.position == entry.position);
            if user.is_alive(entry) && !self.add(entry) {
                return false;
            }
        }
        hot.all(|entry| self.add(entry))
    }

    /// Checks what was taken of a whole inbox against the number of its messages.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when some are missing.
    fn must_be_whole(&self, user: &User, key: UserKey, after: Position, up_to: Position) -> Result<(), StoreError> {
        if self.changed || !self.page.complete || after > user.floor() || up_to < user.row.head {
            return Ok(());
        }
        let messages = self.page.entries.iter().filter(|entry| matches!(entry.item, Item::Message(_))).count();
        if messages as u64 == user.row.messages { Ok(()) } else { Err(incomplete(key, user.row.head)) }
    }

    /// Takes an entry; `false`, when there is no room for it.
    fn add(&mut self, entry: &Entry) -> bool {
        let item = match &entry.content {
            Content::Message(_, Body::Here(encoded)) => Item::Message(encoded.clone()),
            // It was put together before, or it is in no page.
            Content::Message(_, Body::Pieces(_)) => return true,
            Content::Receipt(receipt) => receipt.item(),
        };
        let bytes = if let Item::Message(encoded) = &item { encoded.len() } else { 0 };
        let page = &mut self.page;
        let is_full = page.entries.len() >= self.limit.entries || self.bytes + bytes > self.limit.bytes;
        if !page.entries.is_empty() && is_full {
            page.complete = false;
            return false;
        }
        self.bytes += bytes;
        page.entries.push(InboxEntry { position: entry.position, origin: entry.origin, item });
        true
    }
}

fn incomplete((app, user): UserKey, position: Position) -> StoreError {
    let what = format!("entries of user {user} of app {app} before position {position} are not in the inbox any more");
    StoreError::Corrupt(what)
}

struct Cold {
    entries: Vec<Entry>,
    /// The last entry, dead or alive.
    seen: Position,
    /// Up to here something that sled had is not there.
    gap: Position,
    /// Whether sled has no more of what was asked for.
    complete: bool,
}

/// At least as much of what sled has as the limit takes, put together.
fn cold_entries(
    shared: &Shared,
    disk: &Disk,
    key: UserKey,
    after: Position,
    up_to: Position,
    limit: ReadLimit,
) -> Result<Cold, StoreError> {
    let mut cold = Cold { entries: Vec::new(), seen: after, gap: Position(0), complete: true };
    let gap = Cell::default();
    let mut bytes = 0usize;
    for entry in cold::entries(disk, key, after, up_to, &gap) {
        let mut entry = entry?;
        cold.seen = entry.position;
        if cold.entries.len() > limit.entries || bytes > limit.bytes {
            cold.complete = false;
            break;
        }
        if let Content::Message(_, body) = &mut entry.content {
            match cold::body(disk, key, entry.position, body)? {
                Some(encoded) => {
                    bytes += encoded.len();
                    *body = Body::Here(encoded);
                }
                // What is dead loses its pieces before its chunk.
                None if !is_alive(shared, key, &entry)? => continue,
                None => return Err(corrupt(&keys::piece(key.0, key.1, entry.position, 0))),
            }
        }
        cold.entries.push(entry);
    }
    cold.gap = gap.get();
    Ok(cold)
}

fn is_alive(shared: &Shared, (app, user): UserKey, entry: &Entry) -> Result<bool, StoreError> {
    let mut core = shared.core();
    let at = core.state.find_user(app, user)?;
    Ok(at.is_some_and(|at| core.state.user(at).is_alive(entry)))
}

/// A page may lack what a change that is not durable yet has taken out: it is given out when that is.
fn finished(shared: &Shared, mut core: MutexGuard<'_, Core>, at: At, page: Page) -> Read {
    let is_durable = shared.is_durable(&core, at);
    core.state.evict();
    if is_durable {
        return Read { page, durable: None };
    }
    let (done, durable) = oneshot::channel();
    shared.after_all(core, Completion::once(move |result| drop(done.send(result))));
    Read { page, durable: Some(durable) }
}

pub(super) fn find_user(shared: &Shared, app: AppId, name: &str) -> Result<Option<store::User>, StoreError> {
    let mut core = shared.core();
    let user = core.state.find_user_named(app, name)?.map(|at| describe(&core.state, at));
    core.state.evict();
    Ok(user)
}

pub(super) fn list_users(
    shared: &Shared,
    app: AppId,
    after: &str,
    limit: usize,
) -> Result<Vec<store::User>, StoreError> {
    let mut core = shared.core();
    let users = core.state.users_by_name(app, after, limit)?;
    let users = users.into_iter().map(|at| describe(&core.state, at)).collect();
    core.state.evict();
    Ok(users)
}

fn describe(state: &State, at: At) -> store::User {
    let row = &state.user(at).row;
    let devices = row.devices.iter().map(|device| Device {
        id: device.id,
        name: device.name.to_string(),
        key: device.key,
        cursor: device.cursor,
        linked: device.linked,
        seen: device.seen,
    });
    store::User {
        id: state.user_key(at).1,
        name: row.name.to_string(),
        devices: devices.collect(),
        head: row.head,
        entries: row.messages,
    }
}

pub(super) fn list_apps(shared: &Shared) -> Vec<App> {
    let core = shared.core();
    let describe = |(id, row): (AppId, &AppRow)| App { id, name: row.name.clone(), users: row.users };
    core.state.apps().map(describe).collect()
}
