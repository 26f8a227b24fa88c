//! `Received` and `Read` → operations.

use super::Peer;
use crate::hub::Outbox;
use crate::ids::{ConversationId, Position, Seq};
use crate::store::{Batch, Operation, ReadUpTo, Received};

/// Confirmations are cumulative: of several in a row the last says everything (DLVR-4).
pub(super) fn received(peer: &Peer, position: u64, now: u64, batch: &mut Batch) {
    let position = Position(position);
    if let Some(Operation::Received(last)) = batch.last_mut() {
        last.position = last.position.max(position);
        return;
    }
    let (app, user, device) = (peer.app(), peer.user, peer.device);
    batch.push(Operation::Received(Received { app, user, device, position, now }));
}

pub(super) fn read(peer: &Peer, conversation: u64, seq: u64) -> Operation {
    Operation::ReadUpTo(ReadUpTo {
        app: peer.app(),
        user: peer.user,
        device: peer.device,
        conversation: ConversationId(conversation),
        seq: Seq(seq),
    })
}

/// Whether a batch holds receipts alone, and read marks among them.
#[derive(Clone, Copy)]
pub(super) struct Receipts {
    alone: bool,
    reads: bool,
}

impl Receipts {
    pub(super) fn of(batch: &Batch) -> Self {
        let is_read = |operation: &Operation| matches!(operation, Operation::ReadUpTo(_));
        let alone = batch.iter().all(|operation| is_read(operation) || matches!(operation, Operation::Received(_)));
        Self { alone, reads: batch.iter().any(is_read) }
    }

    /// What to do when the store could not keep the batch. Receipts are no reason to end the connection of somebody who
    /// reads: what is confirmed is said again at the next login (DLVR-4), and so are read marks, if the client is told
    /// nothing that makes it take them for kept (RCPT-10).
    pub(super) fn may_be_repeated(self, outbox: &Outbox) -> bool {
        if self.alone && self.reads {
            outbox.lose_reads();
        }
        self.alone
    }
}
