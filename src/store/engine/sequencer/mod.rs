//! Decides operations on the state: who may, which `seq`, which position, what follows.
//!
//! All refusals of an operation come before its first change.
//!
//! # Layout
//! - this file: one operation after the other
//! - `attach`, `send`, `confirm`, `device`, `sweep`, `user`: one file an operation or kind of operation
//! - `inbox`: entries and receipts: what several operations do to inboxes
//! - `frozen`: what can be answered while the disk is full

mod attach;
mod confirm;
mod device;
pub(super) mod frozen;
mod inbox;
mod send;
mod sweep;
mod user;

use super::keys;
use super::rows::{AppRow, corrupt};
use super::state::{At, State};
use crate::ids::{AppId, DeviceId, UserId};
use crate::store::{Committed, Few, Operation, Outcome, Publication, Refusal, StoreError};

/// Why a batch was not decided.
pub(super) struct Failure {
    pub error: StoreError,
    /// The operation that met it was half done: the state is of no use any more.
    pub half_done: bool,
}

/// Decides a batch, into `committed`, which is empty. A refused operation leaves no change, and neither does one that meets
/// damage before its first change; what the batch decided before that stands, and is answered when it is asked again.
///
/// # Errors
/// [`StoreError::Corrupt`] and [`StoreError::Io`] of the rows in sled.
pub(super) fn decide(state: &mut State, batch: &[Operation], committed: &mut Committed) -> Result<(), Failure> {
    committed.outcomes.reserve(batch.len());
    committed.published.reserve(batch.len());
    for operation in batch {
        let before = state.changes();
        let outcome = match decide_one(state, &mut committed.published, operation) {
            Ok(outcome) => outcome,
            Err(Stop::Refused(refusal)) => {
                debug_assert_eq!(state.changes(), before, "refused after a change: {operation:?}");
                Outcome::Refused(refusal)
            }
            Err(Stop::Failed(error)) => return Err(Failure { error, half_done: state.changes() != before }),
        };
        committed.outcomes.push(outcome);
    }
    Ok(())
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

fn decide_one(state: &mut State, published: &mut Few<Publication>, operation: &Operation) -> Result<Outcome, Stop> {
    let Some(app) = operation.app() else {
        let Operation::EnsureApp(name) = operation else { return Ok(Outcome::Done) };
        let app = state.ensure_app(name).ok_or_else(|| StoreError::Io("there are 2³² apps already".into()))?;
        return Ok(Outcome::App(app));
    };
    let mut deciding = Deciding { app, state, published };
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

/// One operation at work in its app.
struct Deciding<'a> {
    app: AppId,
    state: &'a mut State,
    published: &'a mut Few<Publication>,
}

/// What several operations ask for.
impl Deciding<'_> {
    /// A device of a user, if both are there: the user, and the number of its device.
    fn device(&mut self, user: UserId, device: DeviceId) -> Result<Option<(At, usize)>, StoreError> {
        let Some(at) = self.state.find_user(self.app, user)? else { return Ok(None) };
        Ok(self.state.user(at).device(device).map(|index| (at, index)))
    }

    fn user_id(&self, at: At) -> UserId {
        self.state.user_key(at).1
    }

    /// The app, which an operation in it has seen before.
    fn known_app(&mut self) -> Result<&mut AppRow, StoreError> {
        let app = self.app;
        self.state.app_mut(app).ok_or_else(|| corrupt(&keys::app(app)))
    }
}
