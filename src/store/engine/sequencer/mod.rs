//! Decides operations over a `View`: who may, which `seq`, which position, what follows.
//!
//! # Layout
//! - this file: one operation after the other, and the rows they share
//! - `attach`, `send`, `confirm`, `device`, `sweep`, `user`: one file an operation or kind of operation
//! - `inbox`: entries, bodies and receipts: what several operations do to inboxes

mod attach;
mod confirm;
mod device;
mod inbox;
mod send;
mod sweep;
mod user;

use super::keys;
use super::records::{AppRow, ConversationRow, DeviceRow, Number, UserRow, corrupt};
use super::view::View;
use crate::ids::{AppId, ConversationId, DeviceId, UserId};
use crate::store::{Committed, Operation, Outcome, Publication, Refusal, StoreError};

/// Decides a batch. A refused operation leaves no change, and a failed batch leaves none at all.
///
/// # Errors
/// [`StoreError::Corrupt`] and [`StoreError::Io`] of the rows below.
pub(super) fn decide(view: &mut View<'_>, batch: &[Operation]) -> Result<Committed, StoreError> {
    let start = view.mark();
    let mut committed = Committed { outcomes: Vec::with_capacity(batch.len()), published: Vec::new() };
    for operation in batch {
        let before = view.mark();
        let published = committed.published.len();
        let outcome = match decide_one(view, &mut committed.published, operation) {
            Ok(outcome) => outcome,
            Err(Stop::Refused(refusal)) => {
                view.back_to(before);
                committed.published.truncate(published);
                Outcome::Refused(refusal)
            }
            Err(Stop::Failed(error)) => {
                view.back_to(start);
                return Err(error);
            }
        };
        committed.outcomes.push(outcome);
    }
    Ok(committed)
}

/// Why an operation goes no further.
enum Stop {
    Refused(Refusal),
    Failed(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Stop::Failed(error)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(refusal)
    }
}

fn decide_one(view: &mut View<'_>, published: &mut Vec<Publication>, operation: &Operation) -> Result<Outcome, Stop> {
    let Some(app) = operation.app() else {
        let Operation::EnsureApp(name) = operation else { return Ok(Outcome::Done) };
        return Ok(Outcome::App(ensure_app(view, name)?));
    };
    let mut deciding = Deciding { app, view, published };
    match operation {
        Operation::EnsureApp(_) => Ok(Outcome::Done),
        Operation::Attach(attach) => deciding.attach(attach).map(Outcome::Attached),
        Operation::Send(send) => deciding.send(send).map(Outcome::Answer),
        Operation::Received(received) => deciding.received(received).map(Outcome::Received),
        Operation::ReadUpTo(read) => deciding.read_up_to(read).map(Outcome::Read),
        Operation::AddUser { name, .. } => deciding.add_user(name),
        Operation::RemoveUser { name, .. } => deciding.remove_user(name),
        Operation::AddCode { user, hash, expires, .. } => deciding.add_code(user, *hash, *expires),
        Operation::RevokeDevice { user, device, .. } => deciding.revoke_device(user, device).map(Outcome::Revoked),
        Operation::Sweep(sweep) => deciding.sweep(sweep),
    }
}

fn ensure_app(view: &mut View<'_>, name: &str) -> Result<AppId, StoreError> {
    let name_key = keys::app_name(name);
    if let Some(number) = view.get::<Number>(&name_key)? {
        return number.app().ok_or_else(|| corrupt(&name_key));
    }
    let last = view.get::<Number>(&keys::last_app())?.map_or(0, |Number(last)| last);
    let number = Number(last + 1);
    let app = number.app().ok_or_else(|| corrupt(&keys::last_app()))?;
    view.put(keys::last_app(), &number);
    view.put(name_key, &number);
    view.put(keys::app(app), &AppRow { name: name.to_owned(), ..AppRow::default() });
    Ok(app)
}

/// One operation at work in its app.
struct Deciding<'a, 'rows> {
    app: AppId,
    view: &'a mut View<'rows>,
    published: &'a mut Vec<Publication>,
}

/// Rows that several operations read and write. A `known_` row was referred to by another row: that it is not there
/// means that the store is damaged.
impl Deciding<'_, '_> {
    fn app_row(&self) -> Result<Option<AppRow>, StoreError> {
        self.view.get(&keys::app(self.app))
    }

    fn put_app(&mut self, row: &AppRow) {
        self.view.put(keys::app(self.app), row);
    }

    fn user_named(&self, name: &str) -> Result<Option<UserId>, StoreError> {
        Ok(self.view.get::<Number>(&keys::user_name(self.app, name))?.map(|Number(user)| UserId(user)))
    }

    fn user(&self, user: UserId) -> Result<Option<UserRow>, StoreError> {
        self.view.get(&keys::user(self.app, user))
    }

    fn known_user(&self, user: UserId) -> Result<UserRow, StoreError> {
        self.user(user)?.ok_or_else(|| corrupt(&keys::user(self.app, user)))
    }

    fn put_user(&mut self, user: UserId, row: &UserRow) {
        self.view.put(keys::user(self.app, user), row);
    }

    fn device(&self, user: UserId, device: DeviceId) -> Result<Option<DeviceRow>, StoreError> {
        self.view.get(&keys::device(self.app, user, device))
    }

    fn known_device(&self, user: UserId, device: DeviceId) -> Result<DeviceRow, StoreError> {
        self.device(user, device)?.ok_or_else(|| corrupt(&keys::device(self.app, user, device)))
    }

    fn put_device(&mut self, user: UserId, device: DeviceId, row: &DeviceRow) {
        self.view.put(keys::device(self.app, user, device), row);
    }

    /// The devices of a user, oldest first.
    fn devices(&self, user: UserId, row: &UserRow) -> Result<Vec<(DeviceId, DeviceRow)>, StoreError> {
        row.devices.iter().map(|&device| Ok((device, self.known_device(user, device)?))).collect()
    }

    fn conversation(&self, conversation: ConversationId) -> Result<Option<ConversationRow>, StoreError> {
        self.view.get(&keys::conversation(self.app, conversation))
    }

    fn known_conversation(&self, conversation: ConversationId) -> Result<ConversationRow, StoreError> {
        self.conversation(conversation)?.ok_or_else(|| self.corrupt_conversation(conversation))
    }

    fn put_conversation(&mut self, conversation: ConversationId, row: &ConversationRow) {
        self.view.put(keys::conversation(self.app, conversation), row);
    }

    fn corrupt_conversation(&self, conversation: ConversationId) -> StoreError {
        corrupt(&keys::conversation(self.app, conversation))
    }

    /// Deletes every row whose key begins with `prefix`.
    fn delete_all<R: super::records::Record>(&mut self, prefix: keys::Key) -> Result<(), StoreError> {
        let end = keys::after_prefix(prefix.clone());
        let mut doomed = Vec::new();
        self.view.scan(&prefix, &end, |key, _: R| {
            doomed.push(key.to_vec());
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        for key in doomed {
            self.view.delete(key);
        }
        Ok(())
    }
}
