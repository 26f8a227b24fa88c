//! Housekeeping: devices unseen and messages undelivered for too long expire, and it is told.

use std::ops::ControlFlow;

use super::super::rows::{Content, MessageFacts};
use super::super::state::At;
use super::{Deciding, Stop};
use crate::ids::{DeviceId, Position};
use crate::store::{Outcome, StoreError, Sweep};

impl Deciding<'_> {
    pub(super) fn sweep(&mut self, sweep: &Sweep) -> Result<Outcome, Stop> {
        let limit = sweep.limit.max(1);
        // One more than the limit tells whether to go on.
        let users = self.state.users_after(self.app, sweep.after, limit.saturating_add(1))?;
        let (mut devices, mut entries) = (0, 0);
        for &user in users.iter().take(limit) {
            for device in self.silent_devices(user, sweep) {
                self.remove_device(user, device)?;
                devices += 1;
            }
            entries += self.expire_entries(user, sweep.before)?;
        }
        let next = if users.len() > limit { users.get(limit - 1).map(|at| self.user_id(*at)) } else { None };
        Ok(Outcome::Swept { next, devices, entries })
    }

    fn silent_devices(&self, user: At, sweep: &Sweep) -> Vec<DeviceId> {
        let devices = self.state.user(user).row.devices.iter();
        let silent = devices.filter(|row| row.seen < sweep.before && !sweep.connected.contains(&row.id));
        silent.map(|row| row.id).collect()
    }

    /// Removes messages from the front of the inbox up to the first that is young enough; returns how many.
    fn expire_entries(&mut self, at: At, before: u64) -> Result<u64, StoreError> {
        let old = self.old_messages(at, before)?;
        let Some(&(last, _)) = old.last() else { return Ok(0) };
        let user = self.state.user_mut(at);
        let confirmed = user.row.confirmed;
        user.row.expired = last;
        user.row.messages = user.row.messages.saturating_sub(old.len() as u64);
        user.row.confirmed = confirmed.max(last);
        user.drop_dead();
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
