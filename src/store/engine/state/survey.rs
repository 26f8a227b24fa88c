//! Looking over all users, a slice at a time. Those that are in sled alone stay there: loaded, they would take the place of
//! everybody who is in memory because somebody needs them.

use std::cell::Cell;

use super::super::cold;
use super::super::keys;
use super::super::rows::{Content, UserRow, corrupt, unseal};
use super::{At, State, UserKey, merged};
use crate::ids::{AppId, UserId};
use crate::store::StoreError;

/// A user that a survey came by.
pub(in super::super) enum Found {
    InMemory(At),
    /// Whose row is the whole truth.
    InSled(UserId, Box<UserRow>),
}

impl State {
    /// Up to `limit` users after one, in the order of their numbers.
    pub(in super::super) fn survey(&self, app: AppId, after: UserId, limit: usize) -> Result<Vec<Found>, StoreError> {
        let Some(found) = self.apps.get(&app) else { return Ok(Vec::new()) };
        let fresh = found.fresh_users.range(UserId(after.0.saturating_add(1))..).map(|user| (*user, None));
        let from = keys::after(keys::user(app, after));
        let disk = self.disk()?;
        let cold = disk.scan(&from, &keys::after_prefix(keys::users(app))).map(|row| {
            let (key, value) = row?;
            Ok((keys::user_of(&key).ok_or_else(|| corrupt(&key))?, Some((key, value))))
        });
        let mut users = Vec::new();
        for user in merged(fresh, cold, |(user, _)| *user) {
            if users.len() >= limit {
                break;
            }
            let (user, row) = user?;
            match (self.users.find((app, user)), row) {
                (Some(at), _) if self.users[at].value.gone => {}
                (Some(at), _) => users.push(Found::InMemory(at)),
                (None, Some((key, value))) => users.push(Found::InSled(user, Box::new(unseal(&key, value)?))),
                (None, None) => {}
            }
        }
        Ok(users)
    }

    /// When the oldest message was sent that waits for a user who is in sled alone, in milliseconds since 1970.
    pub(in super::super) fn oldest_message_in_sled(
        &self,
        user: UserKey,
        row: &UserRow,
    ) -> Result<Option<u64>, StoreError> {
        if row.messages == 0 {
            return Ok(None);
        }
        // Behind that every message is alive. A gap is for those to report who read.
        let dead = row.trimmed.max(row.expired);
        for entry in cold::entries(&*self.disk()?, user, dead, row.head, &Cell::default()) {
            if let Content::Message(message, _) = &entry?.content {
                return Ok(Some(message.time));
            }
        }
        Ok(None)
    }

    /// How many places the line of what may be forgotten has.
    #[cfg(test)]
    pub(in super::super) fn may_be_forgotten(&self) -> usize {
        self.evictable.len()
    }

    /// In the order of their numbers.
    #[cfg(test)]
    pub(in super::super) fn users_in_memory(&self) -> Vec<UserId> {
        let mut users: Vec<UserId> = self.users.keys().map(|(_, user)| user).collect();
        users.sort_unstable();
        users
    }
}
