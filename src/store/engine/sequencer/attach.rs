//! A device logs in.

use postrider_protocol::limits::MAX_DEVICES;

use super::super::rows::{DeviceRow, UserRow};
use super::super::state::At;
use super::{Deciding, Stop};
use crate::ids::{DeviceId, Position, SendId};
use crate::store::{Admission, Attach, Attached, Refusal, StoreError};

impl Deciding<'_> {
    /// Whether the device may log in: the user and the number of its device, as far as they are there.
    pub(super) fn admit(&mut self, attach: &Attach) -> Result<(Option<At>, Option<usize>), Stop> {
        if self.state.app(self.app).is_none() {
            return Err(Refusal::UnknownApp.into());
        }
        let user = self.state.find_user_named(self.app, &attach.user)?;
        let row = user.map(|at| &self.state.user(at).row);
        let found = row.and_then(|row| row.devices.iter().position(|device| *device.name == *attach.device));
        let device = row.zip(found).map(|(row, index)| &row.devices[index]);

        if !admitted(attach, row, device) {
            return Err(Refusal::LoginFailed.into());
        }
        let resuming = attach.device_id != DeviceId(0);
        if resuming && device.map(|device| device.id) != Some(attach.device_id) {
            return Err(Refusal::DeviceExpired.into());
        }
        if found.is_none() && row.is_some_and(|row| row.devices.len() >= MAX_DEVICES) {
            return Err(Refusal::TooManyDevices.into());
        }
        if resuming && row.is_some_and(|row| attach.cursor > row.head) {
            return Err(Refusal::CursorAhead.into());
        }
        Ok((user, found))
    }

    pub(super) fn attach(&mut self, attach: &Attach) -> Result<Attached, Stop> {
        let (user, found) = self.admit(attach)?;
        let resuming = attach.device_id != DeviceId(0);
        let user = match user {
            Some(user) => user,
            None => self.make_user(&attach.user)?,
        };
        let index = match found {
            Some(index) if resuming && attach.cursor > self.state.user(user).row.devices[index].cursor => {
                self.confirm(user, index, attach.cursor, attach.now)?;
                index
            }
            Some(index) => {
                self.state.moving(user).set_seen(index, attach.now);
                index
            }
            None => self.make_device(user, attach)?,
        };
        if let Admission::Enroll { code_hash, key } = &attach.admission {
            self.enroll(user, index, code_hash, *key);
        }
        let row = &self.state.user(user).row;
        let device = &row.devices[index];
        let (highest_send_id, cursor) = (device.highest, device.cursor);
        Ok(Attached { user: self.user_id(user), device: device.id, highest_send_id, cursor, head: row.head })
    }

    fn make_device(&mut self, user: At, attach: &Attach) -> Result<usize, StoreError> {
        let app = self.known_app()?;
        app.last_device += 1;
        let id = DeviceId(app.last_device);
        let row = &mut self.state.user_mut(user).row;
        // A first device gets everything that nobody has taken; a later one what comes after it was linked.
        let start: Position = if row.devices.is_empty() { row.confirmed } else { row.head };
        row.devices.push(DeviceRow {
            id,
            name: attach.device.as_str().into(),
            key: None,
            start,
            cursor: start,
            linked: attach.now,
            seen: attach.now,
            highest: SendId(0),
        });
        Ok(row.devices.len() - 1)
    }

    /// Gives a device that has none its key, and uses the code up.
    fn enroll(&mut self, user: At, device: usize, code_hash: &[u8; 32], key: [u8; 32]) {
        let row = &mut self.state.user_mut(user).row;
        if row.devices[device].key.is_none() {
            row.devices[device].key = Some(key);
            row.codes.retain(|(hash, _)| hash != code_hash);
        }
    }
}

/// Whether the credential is good for this user and device as they are now.
fn admitted(attach: &Attach, user: Option<&UserRow>, found: Option<&DeviceRow>) -> bool {
    let key_of_device = found.and_then(|device| device.key);
    match (&attach.admission, key_of_device) {
        (Admission::Open, _) => user.is_none_or(|user| user.devices.iter().all(|device| device.key.is_none())),
        // Enrolling again with the same key is how a client asks that did not hear the first answer.
        (Admission::Key(key) | Admission::Enroll { key, .. }, Some(known)) => known == *key,
        (Admission::Key(_), None) => false,
        (Admission::Enroll { code_hash, .. }, None) => {
            user.is_some_and(|user| user.codes.iter().any(|(hash, expires)| hash == code_hash && attach.now < *expires))
        }
    }
}
