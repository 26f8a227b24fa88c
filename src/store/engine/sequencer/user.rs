//! Users and their codes, by the operator's hand or by the first message to them.

use super::super::state::At;
use super::{Deciding, Stop};
use crate::ids::UserId;
use crate::store::record::MAX_CODES;
use crate::store::{Outcome, Refusal, StoreError};

impl Deciding<'_> {
    pub(super) fn add_user(&mut self, name: &str) -> Result<Outcome, Stop> {
        if self.state.app(self.app).is_none() {
            return Err(Refusal::UnknownApp.into());
        }
        if self.state.find_user_named(self.app, name)?.is_none() {
            self.make_user(name)?;
        }
        Ok(Outcome::Done)
    }

    /// Makes a user whose name is free.
    pub(super) fn make_user(&mut self, name: &str) -> Result<At, StoreError> {
        let app = self.known_app()?;
        app.last_user += 1;
        app.users += 1;
        let user = UserId(app.last_user);
        Ok(self.state.add_user(self.app, user, name))
    }

    pub(super) fn remove_user(&mut self, name: &str) -> Result<Outcome, Stop> {
        let user = self.state.find_user_named(self.app, name)?.ok_or(Refusal::NotAccepted)?;
        let row = &self.state.user(user).row;
        // What no device had taken expires: senders are told.
        let lost = self.messages(user, row.confirmed, row.head)?;
        let app = self.known_app()?;
        app.users = app.users.saturating_sub(1);
        self.state.user_mut(user).row.devices.clear();
        self.tell_expired(user, &lost)?;
        self.state.remove_user(user);
        Ok(Outcome::Done)
    }

    pub(super) fn add_code(&mut self, name: &str, hash: [u8; 32], expires: u64) -> Result<Outcome, Stop> {
        let user = self.state.find_user_named(self.app, name)?.ok_or(Refusal::NotAccepted)?;
        let codes = &mut self.state.user_mut(user).row.codes;
        codes.retain(|(known, _)| *known != hash);
        codes.push((hash, expires));
        let surplus = codes.len().saturating_sub(MAX_CODES);
        codes.drain(..surplus);
        Ok(Outcome::Done)
    }
}
