//! Takes what senders send to it, and confirms it at once.

use std::sync::Arc;

use postrider_protocol::session::client::Device;
use postrider_protocol::wire::Message;

use super::Pair;
use crate::bench::audit::ReceivedLedger;
use crate::bench::label::Label;
use crate::bench::meter::Meter;

/// Takes what the senders of its pairs send.
#[derive(Debug)]
pub struct Recipient {
    /// In order of their pairs' index; at least one.
    inbound: Vec<Inbound>,
    /// Whether it reads what it takes.
    reads: bool,
    meter: Arc<Meter>,
    /// Where something arrived that nothing was said of.
    unsettled: Vec<usize>,
    unreported: u64,
}

#[derive(Debug)]
struct Inbound {
    pair: Pair,
    conversation: u64,
    /// The highest that arrived.
    seq: u64,
    ledger: ReceivedLedger,
}

impl Recipient {
    /// Of these pairs; at least one.
    #[must_use]
    pub fn new(mut pairs: Vec<Pair>, reads: bool, meter: Arc<Meter>) -> Self {
        pairs.sort_by_key(|pair| pair.index);
        let inbound =
            |pair: Pair| Inbound { ledger: ReceivedLedger::new(pair.run, pair.index), pair, conversation: 0, seq: 0 };
        let inbound = pairs.into_iter().map(inbound).collect();
        Self { inbound, reads, meter, unsettled: Vec::new(), unreported: 0 }
    }

    /// What the auditor needs: a ledger for each pair.
    pub fn ledgers(&self) -> impl Iterator<Item = &ReceivedLedger> {
        self.inbound.iter().map(|inbound| &inbound.ledger)
    }

    /// A message arrived.
    pub(super) fn take(&mut self, message: &Message) {
        let index = self.index_of(&message.content);
        let inbound = &mut self.inbound[index];
        inbound.ledger.receive(&message.content, message.seq);
        inbound.seq = inbound.seq.max(message.seq);
        inbound.conversation = message.conversation;
        self.unreported += 1;
        if self.unsettled.last() != Some(&index) {
            self.unsettled.push(index);
        }
    }

    /// Whose ledger it belongs to; the first one's, if to nobody's: that tells it misdelivered.
    fn index_of(&self, content: &[u8]) -> usize {
        if self.inbound.len() == 1 {
            return 0;
        }
        let pair = Label::of_content(content).map_or(0, |label| label.pair);
        self.inbound.binary_search_by_key(&pair, |inbound| inbound.pair.index).unwrap_or(0)
    }

    /// Everything that had arrived was taken: says so. The caller confirms the position after it.
    pub(super) fn settle(&mut self, device: &mut Device) {
        if self.unreported == 0 {
            return;
        }
        for index in self.unsettled.drain(..) {
            let inbound = &self.inbound[index];
            inbound.pair.said.confirm(inbound.seq);
            if self.reads && device.inbox.has_room_for_read() {
                inbound.pair.said.read(inbound.seq);
                device.inbox.read(inbound.conversation, inbound.seq);
            }
        }
        self.meter.took(std::mem::take(&mut self.unreported));
    }
}
