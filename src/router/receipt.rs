//! `Received` and `Read` → operations.

use super::Peer;
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
