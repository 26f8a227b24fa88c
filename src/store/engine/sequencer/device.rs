//! A device ends: revoked by its user or the operator, or unseen for too long.

use super::super::state::At;
use super::{Deciding, Stop};
use crate::ids::DeviceId;
use crate::store::{Refusal, StoreError};

impl Deciding<'_> {
    pub(super) fn revoke_device(&mut self, user: &str, device: &str) -> Result<DeviceId, Stop> {
        let user = self.state.find_user_named(self.app, user)?.ok_or(Refusal::NotAccepted)?;
        let found = self.state.user(user).row.devices.iter().find(|row| &*row.name == device);
        let id = found.ok_or(Refusal::NotAccepted)?.id;
        self.remove_device(user, id)?;
        Ok(id)
    }

    /// Removes a device with its answers. What only it was entitled to, nobody will ever confirm: it expires.
    pub(super) fn remove_device(&mut self, user: At, device: DeviceId) -> Result<(), StoreError> {
        self.state.user_mut(user).lose_device(device);
        let row = &self.state.user(user).row;
        // Without devices the inbox waits for the next one, or for its messages to expire.
        let Some(first_start) = row.devices.iter().map(|device| device.start).min() else { return Ok(()) };
        let confirmed = row.confirmed;
        if first_start > confirmed {
            let lost = self.messages(user, confirmed, first_start)?;
            self.state.moving(user).set_confirmed(first_start);
            self.tell_expired(user, &lost)?;
            self.advance(user)?;
        }
        self.trim(user)
    }
}
