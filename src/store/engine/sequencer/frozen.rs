//! What can be answered while the disk is full, or gone: everything that changes nothing that must be kept.

use super::super::state::State;
use super::{Deciding, Stop};
use crate::store::{
    Admission, Attach, Attached, Batch, Committed, Few, Operation, Outcome, Received, Refusal, Send, StoreError,
};

/// Answers a batch without a change: `None` when something of it needs one. Devices log in and read on; what they confirm
/// is not kept, so they are asked for it again later: confirmations repeat (RECV-1).
///
/// # Errors
/// As reading sled's rows.
pub(in super::super) fn answer(state: &mut State, batch: &Batch) -> Result<Option<Committed>, StoreError> {
    let mut committed = Committed { outcomes: Few::with_capacity(batch.len()), published: Few::new() };
    for operation in batch {
        let outcome = match answer_one(state, operation) {
            Ok(Some(outcome)) => outcome,
            Ok(None) => return Ok(None),
            Err(Stop::Refused(refusal)) => Outcome::Refused(refusal),
            Err(Stop::Failed(error)) => return Err(error),
        };
        committed.outcomes.push(outcome);
    }
    Ok(Some(committed))
}

/// Answers a batch of a store that cannot write any more: `None` when something of it needs a change, or rests on what was
/// decided above `durable`, the last group that is on stable storage, and may be gone after a restart. A refusal may rest
/// on that as well: it is not given.
pub(in super::super) fn answer_durable(state: &mut State, batch: &Batch, durable: u64) -> Option<Committed> {
    let mut committed = Committed { outcomes: Few::with_capacity(batch.len()), published: Few::new() };
    for operation in batch {
        let asking = match operation {
            Operation::Attach(attach) => state.find_user_named(attach.app, &attach.user),
            Operation::Send(send) => state.find_user(send.app, send.user),
            Operation::Received(received) => state.find_user(received.app, received.user),
            _ => return None,
        };
        let asking = asking.ok()??;
        if state.changed_in(asking) > durable {
            return None;
        }
        committed.outcomes.push(answer_one(state, operation).ok()??);
    }
    Some(committed)
}

fn answer_one(state: &mut State, operation: &Operation) -> Result<Option<Outcome>, Stop> {
    let Some(app) = operation.app() else {
        let Operation::EnsureApp(name) = operation else { return Ok(None) };
        return Ok(state.app_named(name).map(Outcome::App));
    };
    let mut deciding = Deciding { app, state, published: &mut Few::new() };
    match operation {
        Operation::Attach(attach) => Ok(deciding.attached_before(attach)?.map(Outcome::Attached)),
        Operation::Send(send) => Ok(deciding.sent_before(send)?.map(Outcome::Answer)),
        Operation::Received(received) => deciding.cursor(received).map(Some),
        _ => Ok(None),
    }
}

impl Deciding<'_> {
    /// A device that is there and needs nothing but to be let in.
    fn attached_before(&mut self, attach: &Attach) -> Result<Option<Attached>, Stop> {
        let (Some(user), Some(index)) = self.admit(attach)? else { return Ok(None) };
        let row = &self.state.user(user).row;
        let device = &row.devices[index];
        if matches!(attach.admission, Admission::Enroll { .. }) && device.key.is_none() {
            return Ok(None);
        }
        // What the client has durably taken it is not sent again, although that cannot be kept now.
        let known = attach.device_id == device.id;
        let cursor = if known { device.cursor.max(attach.cursor) } else { device.cursor };
        let (device, highest_send_id) = (device.id, device.highest);
        Ok(Some(Attached { user: self.user_id(user), device, highest_send_id, cursor, head: row.head }))
    }

    fn sent_before(&mut self, send: &Send) -> Result<Option<crate::store::Answer>, Stop> {
        let (sender, index) = self.device(send.user, send.device)?.ok_or(Refusal::DeviceExpired)?;
        if send.send_id == crate::ids::SendId(self.state.user(sender).row.devices[index].highest.0 + 1) {
            return Ok(None);
        }
        self.send(send).map(Some)
    }

    fn cursor(&mut self, received: &Received) -> Result<Outcome, Stop> {
        let (user, index) = self.device(received.user, received.device)?.ok_or(Refusal::DeviceExpired)?;
        let row = &self.state.user(user).row;
        if received.position > row.head {
            return Err(Refusal::PositionNotDelivered.into());
        }
        Ok(Outcome::Received(row.devices[index].cursor))
    }
}
