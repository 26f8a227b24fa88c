//! A device logs in.

use postrider_protocol::limits::MAX_DEVICES;

use super::super::keys;
use super::super::records::{DeviceRow, UserRow, corrupt};
use super::{Deciding, Stop};
use crate::ids::{DeviceId, Position, SendId, UserId};
use crate::store::{Admission, Attach, Attached, Refusal};

impl Deciding<'_, '_> {
    pub(super) fn attach(&mut self, attach: &Attach) -> Result<Attached, Stop> {
        if self.app_row()?.is_none() {
            return Err(Refusal::UnknownApp.into());
        }
        let user = match self.user_named(&attach.user)? {
            Some(user) => Some((user, self.known_user(user)?)),
            None => None,
        };
        let devices = match &user {
            Some((user, row)) => self.devices(*user, row)?,
            None => Vec::new(),
        };
        let found = devices.iter().find(|(_, device)| device.name == attach.device).map(|(id, device)| (*id, device));
        let row = user.as_ref().map(|(_, row)| row);

        if !admitted(attach, row, &devices, found.map(|(_, device)| device)) {
            return Err(Refusal::LoginFailed.into());
        }
        let resuming = attach.device_id != DeviceId(0);
        if resuming && found.map(|(id, _)| id) != Some(attach.device_id) {
            return Err(Refusal::DeviceExpired.into());
        }
        if found.is_none() && devices.len() >= MAX_DEVICES {
            return Err(Refusal::TooManyDevices.into());
        }
        if resuming && row.is_some_and(|row| attach.cursor > row.head) {
            return Err(Refusal::CursorAhead.into());
        }

        let found = found.map(|(id, _)| id);
        let (user, row) = match user {
            Some(user) => user,
            None => (self.make_user(&attach.user)?, UserRow { name: attach.user.clone(), ..UserRow::default() }),
        };
        let id = match found {
            Some(id) if resuming && attach.cursor > self.known_device(user, id)?.cursor => {
                self.confirm(user, id, attach.cursor, attach.now)?;
                id
            }
            Some(id) => {
                let mut device = self.known_device(user, id)?;
                device.seen = attach.now;
                self.put_device(user, id, &device);
                id
            }
            None => self.make_device(user, row, attach)?,
        };
        if let Admission::Enroll { code_hash, key } = &attach.admission {
            self.enroll(user, id, code_hash, *key)?;
        }
        let head = self.known_user(user)?.head;
        let device = self.known_device(user, id)?;
        Ok(Attached { user, device: id, highest_send_id: device.highest, cursor: device.cursor, head })
    }

    fn make_device(&mut self, user: UserId, mut row: UserRow, attach: &Attach) -> Result<DeviceId, Stop> {
        let mut app = self.app_row()?.ok_or_else(|| corrupt(&keys::app(self.app)))?;
        app.last_device += 1;
        let id = DeviceId(app.last_device);
        self.put_app(&app);

        // A first device gets everything that nobody has taken; a later one what comes after it was linked.
        let start: Position = if row.devices.is_empty() { row.confirmed } else { row.head };
        row.devices.push(id);
        self.put_user(user, &row);
        let device = DeviceRow {
            name: attach.device.clone(),
            key: None,
            start,
            cursor: start,
            linked: attach.now,
            seen: attach.now,
            highest: SendId(0),
        };
        self.put_device(user, id, &device);
        Ok(id)
    }

    /// Gives a device that has none its key, and uses the code up.
    fn enroll(&mut self, user: UserId, id: DeviceId, code_hash: &[u8; 32], key: [u8; 32]) -> Result<(), Stop> {
        let mut device = self.known_device(user, id)?;
        if device.key.is_some() {
            return Ok(());
        }
        device.key = Some(key);
        self.put_device(user, id, &device);
        let mut row = self.known_user(user)?;
        row.codes.retain(|(hash, _)| hash != code_hash);
        self.put_user(user, &row);
        Ok(())
    }
}

/// Whether the credential is good for this user and device as they are now.
fn admitted(
    attach: &Attach,
    user: Option<&UserRow>,
    devices: &[(DeviceId, DeviceRow)],
    found: Option<&DeviceRow>,
) -> bool {
    let key_of_device = found.and_then(|device| device.key);
    match (&attach.admission, key_of_device) {
        (Admission::Open, _) => devices.iter().all(|(_, device)| device.key.is_none()),
        // Enrolling again with the same key is how a client asks that did not hear the first answer.
        (Admission::Key(key) | Admission::Enroll { key, .. }, Some(known)) => known == *key,
        (Admission::Key(_), None) => false,
        (Admission::Enroll { code_hash, .. }, None) => {
            user.is_some_and(|user| user.codes.iter().any(|(hash, expires)| hash == code_hash && attach.now < *expires))
        }
    }
}
