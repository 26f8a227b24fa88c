//! Users and their codes, by the operator's hand or by the first message to them.

use std::ops::ControlFlow;

use super::super::keys;
use super::super::records::{AnswerRow, EntryContent, EntryRow, Number, UserRow, corrupt};
use super::{Deciding, Stop};
use crate::ids::{Position, UserId};
use crate::store::record::MAX_CODES;
use crate::store::{Outcome, Refusal, StoreError};

impl Deciding<'_, '_> {
    pub(super) fn add_user(&mut self, name: &str) -> Result<Outcome, Stop> {
        if self.app_row()?.is_none() {
            return Err(Refusal::UnknownApp.into());
        }
        if self.user_named(name)?.is_none() {
            self.make_user(name)?;
        }
        Ok(Outcome::Done)
    }

    /// Makes a user whose name is free.
    pub(super) fn make_user(&mut self, name: &str) -> Result<UserId, StoreError> {
        let mut app = self.app_row()?.ok_or_else(|| corrupt(&keys::app(self.app)))?;
        app.last_user += 1;
        app.users += 1;
        let user = UserId(app.last_user);
        self.put_app(&app);
        self.view.put(keys::user_name(self.app, name), &Number(user.0));
        self.put_user(user, &UserRow { name: name.to_owned(), ..UserRow::default() });
        Ok(user)
    }

    pub(super) fn remove_user(&mut self, name: &str) -> Result<Outcome, Stop> {
        let user = self.user_named(name)?.ok_or(Refusal::NotAccepted)?;
        let mut row = self.known_user(user)?;
        let mut app = self.app_row()?.ok_or_else(|| corrupt(&keys::app(self.app)))?;
        app.users = app.users.saturating_sub(1);
        self.put_app(&app);

        let devices = std::mem::take(&mut row.devices);
        self.put_user(user, &row);
        // What no device had taken expires: senders are told.
        let lost = self.messages(user, row.confirmed, row.head)?;
        self.tell_expired(user, &lost)?;
        for device in devices {
            self.view.delete(keys::device(self.app, user, device));
            self.delete_all::<AnswerRow>(keys::answers(self.app, user, device))?;
        }
        let from = keys::entry(self.app, user, Position(0));
        let end = keys::after(keys::entry(self.app, user, Position(u64::MAX)));
        let mut entries = Vec::new();
        self.view.scan(&from, &end, |key, entry: EntryRow| {
            entries.push((key.to_vec(), entry));
            Ok(ControlFlow::Continue(()))
        })?;
        for (key, entry) in entries {
            self.view.delete(key);
            if let EntryContent::Message(message) = entry.content {
                self.release_body(message.conversation, message.seq)?;
            }
        }
        self.delete_all::<Number>(keys::all_newest(self.app, user))?;
        self.view.delete(keys::user_name(self.app, name));
        self.view.delete(keys::user(self.app, user));
        Ok(Outcome::Done)
    }

    pub(super) fn add_code(&mut self, name: &str, hash: [u8; 32], expires: u64) -> Result<Outcome, Stop> {
        let user = self.user_named(name)?.ok_or(Refusal::NotAccepted)?;
        let mut row = self.known_user(user)?;
        row.codes.retain(|(known, _)| *known != hash);
        row.codes.push((hash, expires));
        let surplus = row.codes.len().saturating_sub(MAX_CODES);
        row.codes.drain(..surplus);
        self.put_user(user, &row);
        Ok(Outcome::Done)
    }
}
