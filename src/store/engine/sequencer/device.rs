//! A device ends: revoked by its user or the operator, or unseen for too long.

use super::super::keys;
use super::super::records::AnswerRow;
use super::{Deciding, Stop};
use crate::ids::{DeviceId, Position, UserId};
use crate::store::{Refusal, StoreError};

impl Deciding<'_, '_> {
    pub(super) fn revoke_device(&mut self, user: &str, device: &str) -> Result<DeviceId, Stop> {
        let user = self.user_named(user)?.ok_or(Refusal::NotAccepted)?;
        let devices = self.devices(user, &self.known_user(user)?)?;
        let (id, _) = devices.into_iter().find(|(_, row)| row.name == device).ok_or(Refusal::NotAccepted)?;
        self.remove_device(user, id)?;
        Ok(id)
    }

    /// Removes a device with its answers. What only it was entitled to, nobody will ever confirm: it expires.
    pub(super) fn remove_device(&mut self, user: UserId, device: DeviceId) -> Result<(), StoreError> {
        self.view.delete(keys::device(self.app, user, device));
        self.delete_all::<AnswerRow>(keys::answers(self.app, user, device))?;
        let mut row = self.known_user(user)?;
        row.devices.retain(|known| *known != device);
        self.put_user(user, &row);

        let remaining = self.devices(user, &row)?;
        // Without devices the inbox waits for the next one, or for its messages to expire.
        let Some(first_start) = remaining.iter().map(|(_, device)| device.start).min() else { return Ok(()) };
        if first_start > row.confirmed {
            let lost = self.messages(user, row.confirmed, first_start)?;
            row.confirmed = first_start;
            self.put_user(user, &row);
            self.tell_expired(user, &lost)?;
            self.advance(user)?;
        }
        self.trim(user, Position(0))
    }
}
