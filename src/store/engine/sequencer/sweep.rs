//! Housekeeping: devices unseen and messages undelivered for too long expire, and it is told.

use std::ops::ControlFlow;

use super::super::keys;
use super::super::records::{EntryContent, EntryRow, MessageFacts, UserRow, corrupt};
use super::{Deciding, Stop};
use crate::ids::{DeviceId, Position, UserId};
use crate::store::{Outcome, StoreError, Sweep};

impl Deciding<'_, '_> {
    pub(super) fn sweep(&mut self, sweep: &Sweep) -> Result<Outcome, Stop> {
        let limit = sweep.limit.max(1);
        // One more than the limit tells whether to go on.
        let users = self.users_after(sweep.after, limit.saturating_add(1))?;
        let (mut devices, mut entries) = (0, 0);
        for &user in users.iter().take(limit) {
            for device in self.silent_devices(user, sweep)? {
                self.remove_device(user, device)?;
                devices += 1;
            }
            entries += self.expire_entries(user, sweep.before)?;
        }
        let next = if users.len() > limit { users.get(limit - 1).copied() } else { None };
        Ok(Outcome::Swept { next, devices, entries })
    }

    fn users_after(&self, after: UserId, limit: usize) -> Result<Vec<UserId>, StoreError> {
        let mut users = Vec::new();
        let from = keys::after(keys::user(self.app, after));
        let end = keys::after_prefix(keys::users(self.app));
        self.view.scan(&from, &end, |key, _: UserRow| {
            users.push(keys::user_of(key).ok_or_else(|| corrupt(key))?);
            Ok(if users.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(users)
    }

    fn silent_devices(&self, user: UserId, sweep: &Sweep) -> Result<Vec<DeviceId>, StoreError> {
        let devices = self.devices(user, &self.known_user(user)?)?;
        let silent = devices.into_iter().filter(|(id, row)| row.seen < sweep.before && !sweep.connected.contains(id));
        Ok(silent.map(|(id, _)| id).collect())
    }

    /// Removes messages from the front of the inbox up to the first that is young enough; returns how many.
    fn expire_entries(&mut self, user: UserId, before: u64) -> Result<u64, StoreError> {
        let mut row = self.known_user(user)?;
        let expired = self.old_messages(user, before)?;
        let Some(&(last, _)) = expired.last() else { return Ok(0) };
        for (position, message) in &expired {
            self.view.delete(keys::entry(self.app, user, *position));
            self.release_body(message.conversation, message.seq)?;
        }
        row.messages = row.messages.saturating_sub(expired.len() as u64);
        let confirmed = row.confirmed;
        row.confirmed = confirmed.max(last);
        self.put_user(user, &row);
        let first_lost = expired.partition_point(|(position, _)| *position <= confirmed);
        self.tell_expired(user, &expired[first_lost..])?;
        self.advance(user)?;
        Ok(expired.len() as u64)
    }

    fn old_messages(&self, user: UserId, before: u64) -> Result<Vec<(Position, MessageFacts)>, StoreError> {
        let mut old = Vec::new();
        let from = keys::entry(self.app, user, Position(0));
        let end = keys::after(keys::entry(self.app, user, Position(u64::MAX)));
        self.view.scan(&from, &end, |key, entry: EntryRow| {
            if let EntryContent::Message(message) = entry.content {
                if message.time >= before {
                    return Ok(ControlFlow::Break(()));
                }
                old.push((keys::position_of(key).ok_or_else(|| corrupt(key))?, message));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(old)
    }
}
