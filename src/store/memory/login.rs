//! Who may attach.

use std::collections::BTreeMap;

use postrider_protocol::limits;

use super::model::{Deciding, DeviceState};
use crate::ids::{DeviceId, SendId, UserId};
use crate::store::{Admission, Attach, Attached, Refusal};

impl Deciding<'_> {
    /// All checks come before the first change: a refused login leaves nothing behind.
    pub(super) fn attach(&mut self, attach: &Attach) -> Result<Attached, Refusal> {
        let user = self.app.user_named(&attach.user);
        let device = user.and_then(|user| self.app.device_named(user, &attach.device));

        self.check_admission(attach, user, device)?;
        if attach.device_id != DeviceId(0) {
            if device != Some(attach.device_id) {
                return Err(Refusal::DeviceExpired);
            }
            if user.is_some_and(|user| attach.cursor > self.app.user(user).head) {
                return Err(Refusal::CursorAhead);
            }
        }
        if device.is_none() && user.is_some_and(|user| self.app.user(user).devices.len() >= limits::MAX_DEVICES) {
            return Err(Refusal::TooManyDevices);
        }

        let user = user.unwrap_or_else(|| self.app.make_user(&attach.user));
        let device = device.unwrap_or_else(|| self.make_device(user, attach));
        let keyless = self.app.device(user, device).expect("found or made").key.is_none();
        if let (Admission::Enroll { code_hash, key }, true) = (&attach.admission, keyless) {
            self.app.device(user, device).expect("found or made").key = Some(*key);
            self.app.user(user).codes.retain(|(hash, _)| hash != code_hash);
        }
        let state = self.app.device(user, device).expect("found or made");
        state.seen = attach.now;
        if attach.device_id != DeviceId(0) && attach.cursor > state.cursor {
            self.confirm(user, device, attach.cursor, attach.now);
        }
        let head = self.app.user(user).head;
        let state = self.app.device(user, device).expect("found or made");
        Ok(Attached { user, device, highest_send_id: state.highest, cursor: state.cursor, head })
    }

    fn check_admission(
        &mut self,
        attach: &Attach,
        user: Option<UserId>,
        device: Option<DeviceId>,
    ) -> Result<(), Refusal> {
        let user = user.map(|user| &self.app.users[&user]);
        let key_of_device = user.zip(device).and_then(|(user, device)| user.devices[&device].key);
        let admitted = match (&attach.admission, user) {
            (Admission::Open, None) => true,
            (Admission::Open, Some(user)) => user.devices.values().all(|device| device.key.is_none()),
            (Admission::Key(_) | Admission::Enroll { .. }, None) => false,
            (Admission::Key(key), Some(_)) => key_of_device == Some(*key),
            (Admission::Enroll { key, .. }, Some(_)) if key_of_device.is_some() => key_of_device == Some(*key),
            (Admission::Enroll { code_hash, .. }, Some(user)) => {
                user.codes.iter().any(|(hash, expires)| hash == code_hash && attach.now < *expires)
            }
        };
        if admitted { Ok(()) } else { Err(Refusal::LoginFailed) }
    }

    fn make_device(&mut self, user: UserId, attach: &Attach) -> DeviceId {
        self.app.last_device += 1;
        let id = DeviceId(self.app.last_device);
        let user = self.app.user(user);
        let start = if user.devices.is_empty() { user.confirmed } else { user.head };
        let device = DeviceState {
            name: attach.device.clone(),
            key: None,
            start,
            cursor: start,
            linked: attach.now,
            seen: attach.now,
            highest: SendId(0),
            answers: BTreeMap::new(),
        };
        user.devices.insert(id, device);
        id
    }
}
