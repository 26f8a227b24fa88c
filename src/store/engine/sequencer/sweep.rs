//! Housekeeping: devices unseen and messages undelivered for too long expire, and it is told.

use std::ops::ControlFlow;

use super::super::rows::{Content, MessageFacts, UserRow};
use super::super::state::{At, Found};
use super::{Deciding, Stop};
use crate::ids::{DeviceId, Position, UserId};
use crate::store::{Outcome, StoreError, Sweep};

impl Deciding<'_> {
    pub(super) fn sweep(&mut self, sweep: &Sweep) -> Result<Outcome, Stop> {
        let limit = sweep.limit.max(1);
        // One more than the limit tells whether to go on.
        let users = self.state.survey(self.app, sweep.after, limit.saturating_add(1))?;
        let number = |found: &Found| match found {
            Found::InMemory(at) => self.user_id(*at),
            Found::InSled(user, _) => *user,
        };
        let next = if users.len() > limit { users.get(limit - 1).map(number) } else { None };
        let (mut devices, mut entries) = (0, 0);
        for found in users.into_iter().take(limit) {
            let user = match found {
                Found::InMemory(at) => at,
                Found::InSled(user, row) if self.is_due(user, &row, sweep)? => {
                    let Some(at) = self.state.find_user(self.app, user)? else { continue };
                    at
                }
                Found::InSled(..) => continue,
            };
            for device in silent_devices(&self.state.user(user).row, sweep).collect::<Vec<_>>() {
                self.remove_device(user, device)?;
                devices += 1;
            }
            entries += self.expire_entries(user, sweep.before)?;
        }
        Ok(Outcome::Swept { next, devices, entries })
    }

    /// Whether anything of a user who is in sled alone expires.
    fn is_due(&self, user: UserId, row: &UserRow, sweep: &Sweep) -> Result<bool, StoreError> {
        if silent_devices(row, sweep).next().is_some() {
            return Ok(true);
        }
        let oldest = self.state.oldest_message_in_sled((self.app, user), row)?;
        Ok(oldest.is_some_and(|sent| sent < sweep.before))
    }

    /// Removes messages from the front of the inbox up to the first that is young enough; returns how many.
    fn expire_entries(&mut self, at: At, before: u64) -> Result<u64, StoreError> {
        let old = self.old_messages(at, before)?;
        let Some(&(last, _)) = old.last() else { return Ok(0) };
        let confirmed = self.state.user(at).row.confirmed;
        self.state.moving(at).expire(last, old.len() as u64);
        let first_lost = old.partition_point(|(position, _)| *position <= confirmed);
        self.tell_expired(at, &old[first_lost..])?;
        self.advance(at)?;
        Ok(old.len() as u64)
    }

    fn old_messages(&self, user: At, before: u64) -> Result<Vec<(Position, MessageFacts)>, StoreError> {
        let row = &self.state.user(user).row;
        let mut old = Vec::new();
        if row.messages > 0 {
            self.state.visit_entries(user, row.trimmed, row.head, |entry| {
                if let Content::Message(message, _) = &entry.content {
                    if message.time >= before {
                        return ControlFlow::Break(());
                    }
                    old.push((entry.position, *message));
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(old)
    }
}

fn silent_devices(row: &UserRow, sweep: &Sweep) -> impl Iterator<Item = DeviceId> {
    let silent = row.devices.iter().filter(|row| row.seen < sweep.before && !sweep.connected.contains(&row.id));
    silent.map(|row| row.id)
}
