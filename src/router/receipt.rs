//! `Received` and `Read` → operations.

use super::Peer;
use crate::hub::{Lost, Outbox};
use crate::ids::{ConversationId, Position, Seq};
use crate::store::{About, Batch, Operation, Outcome, ReadUpTo, Received};

/// Confirmations are cumulative: of several in a row the last says everything (DLVR-4).
pub(super) fn received(peer: &Peer, position: u64, now: u64, batch: &mut Batch) {
    let position = Position(position);
    if let Some(Operation::Received(last)) = batch.last_mut() {
        last.position = last.position.max(position);
        return;
    }
    batch.push(confirmation(peer, position, now));
}

fn confirmation(peer: &Peer, position: Position, now: u64) -> Operation {
    Operation::Received(Received { app: peer.app(), user: peer.user, device: peer.device, position, now })
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

/// What was confirmed while the store could not keep it goes before whatever comes next, a `Ping` at the latest. Until then
/// the store holds for undelivered what is not, and may refuse what is sent to the user (`INBOX_FULL`).
pub(super) fn received_before(peer: &Peer, position: Position, now: u64, batch: &mut Batch) {
    if !batch.iter().any(is_confirmation) {
        batch.insert(0, confirmation(peer, position, now));
    }
}

fn is_confirmation(operation: &Operation) -> bool {
    matches!(operation, Operation::Received(_))
}

fn is_read(operation: &Operation) -> bool {
    matches!(operation, Operation::ReadUpTo(_))
}

const ALONE: u64 = 1;
const READS: u64 = 2;
const CONFIRMS: u64 = 4;

/// The receipts of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Receipts {
    /// There is nothing else in it.
    alone: bool,
    reads: bool,
    /// The highest position that it confirms.
    confirmed: Option<Position>,
}

impl Receipts {
    pub(super) fn of(batch: &Batch) -> Self {
        let confirmed = |operation: &Operation| match operation {
            Operation::Received(received) => Some(received.position),
            _ => None,
        };
        Self {
            alone: batch.iter().all(|operation| is_read(operation) || is_confirmation(operation)),
            reads: batch.iter().any(is_read),
            confirmed: batch.iter().filter_map(confirmed).max(),
        }
    }

    /// As what comes with the batch says it.
    pub(super) fn about(self) -> About {
        let Self { alone, reads, confirmed } = self;
        let bit = |is_set: bool, bit: u64| if is_set { bit } else { 0 };
        let bits = bit(alone, ALONE) | bit(reads, READS) | bit(confirmed.is_some(), CONFIRMS);
        [bits, confirmed.unwrap_or_default().0]
    }

    pub(super) fn of_about([bits, position]: About) -> Self {
        let is_set = |bit: u64| bits & bit != 0;
        let confirmed = is_set(CONFIRMS).then_some(Position(position));
        Self { alone: is_set(ALONE), reads: is_set(READS), confirmed }
    }

    /// What to do when the store could not keep the batch. Receipts are no reason to end the connection of somebody who
    /// reads: what is confirmed is committed again ([`received_before`]), and read marks are said again, if the client is
    /// told nothing that makes it take them for kept (RCPT-10).
    pub(super) fn may_be_repeated(self, outbox: &Outbox) -> bool {
        if self.alone {
            outbox.lose(Lost { reads: self.reads, confirmation: self.confirmed.is_some() });
        }
        self.alone
    }

    /// Whether what the batch confirms is kept; `None` if it confirms nothing. A store that cannot write answers with the
    /// cursor that it has.
    pub(super) fn is_confirmation_kept(self, outcomes: &[Outcome]) -> Option<bool> {
        let cursor = |outcome: &Outcome| match outcome {
            Outcome::Received(cursor) => Some(*cursor),
            _ => None,
        };
        let confirmed = self.confirmed?;
        Some(outcomes.iter().filter_map(cursor).max().is_some_and(|cursor| cursor >= confirmed))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_comes_with_a_batch_says_its_receipts(alone: bool, reads: bool, confirmed: Option<u64>) {
            let receipts = Receipts { alone, reads, confirmed: confirmed.map(Position) };
            prop_assert_eq!(Receipts::of_about(receipts.about()), receipts);
        }
    }
}
