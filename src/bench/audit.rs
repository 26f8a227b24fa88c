//! The auditor: what was sent, acked, received and told delivered must add up. It runs in every scenario, because a
//! figure of a server that loses messages is worth nothing.
//!
//! A pair's sender keeps a [`SentLedger`], its recipient a [`ReceivedLedger`]; [`Audit`] sums up all pairs at the end,
//! when everything had the time to arrive.

use serde::{Deserialize, Serialize};

use super::counters::{Arrival, Counters};
use super::label::{Label, RunId};

/// What a sender was told of its messages.
#[derive(Debug, Default)]
pub struct SentLedger {
    sent: u64,
    acked: Counters,
    refused: u64,
    delivered: u64,
    /// Whether the recipient reads what it gets.
    expects_reads: bool,
    read: u64,
    false_receipts: u64,
}

impl SentLedger {
    /// Of messages whose recipient tells that it read them.
    #[must_use]
    pub fn expecting_reads() -> Self {
        Self { expects_reads: true, ..Self::default() }
    }

    /// The next counter; its message is being sent.
    pub fn send(&mut self) -> u64 {
        self.sent += 1;
        self.sent - 1
    }

    /// A message was acked.
    pub fn ack(&mut self, counter: u64) {
        self.acked.insert(counter);
    }

    /// A message was refused.
    pub fn refuse(&mut self) {
        self.refused += 1;
    }

    /// The server says that the recipient has taken, or read, everything up to `seq`. `said` is what the recipient has
    /// confirmed, or marked as read, by now, before it wrote that.
    pub fn receipt(&mut self, seq: u64, said: u64) {
        if seq > said {
            self.false_receipts += 1;
        }
    }

    /// A receipt that names somebody to whom nothing was sent.
    pub fn stray_receipt(&mut self) {
        self.false_receipts += 1;
    }

    /// So many acked messages are delivered, by a receipt.
    pub fn deliver(&mut self, messages: u64) {
        self.delivered += messages;
    }

    /// So many acked messages are read, by a receipt.
    pub fn read(&mut self, messages: u64) {
        self.read += messages;
    }

    /// Messages sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }
}

/// What a recipient got.
#[derive(Debug)]
pub struct ReceivedLedger {
    run: RunId,
    pair: u32,
    received: Counters,
    last_seq: u64,
    duplicated: u64,
    reordered: u64,
    misdelivered: u64,
}

impl ReceivedLedger {
    /// Of the recipient of a pair.
    #[must_use]
    pub fn new(run: RunId, pair: u32) -> Self {
        Self { run, pair, received: Counters::default(), last_seq: 0, duplicated: 0, reordered: 0, misdelivered: 0 }
    }

    /// A message arrived, as number `seq` of its conversation.
    pub fn receive(&mut self, content: &[u8], seq: u64) {
        let label = Label::of_content(content).filter(|label| (label.run, label.pair) == (self.run, self.pair));
        let Some(label) = label else {
            self.misdelivered += 1;
            return;
        };
        match self.received.insert(label.counter) {
            Arrival::Again => self.duplicated += 1,
            Arrival::New if seq > self.last_seq => {}
            Arrival::New | Arrival::Late => self.reordered += 1,
        }
        self.last_seq = self.last_seq.max(seq);
    }

    /// Whose.
    #[must_use]
    pub fn pair(&self) -> u32 {
        self.pair
    }
}

/// The sum over all pairs. The faults are counted in messages, but for receipts and connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Given to the server.
    pub sent: u64,
    /// Acked by the server.
    pub acked: u64,
    /// Taken by the recipient, each counted once.
    pub received: u64,
    /// Told delivered to the sender.
    pub delivered: u64,
    /// Told read to the sender, in scenarios whose recipients read.
    pub read: u64,
    /// Fault: acked, but the recipient never got it.
    pub lost: u64,
    /// Fault: got a further time.
    pub duplicated: u64,
    /// Fault: got after a later one, or under a `seq` that does not rise.
    pub reordered: u64,
    /// Fault: got by somebody it was not for, or not as it was sent.
    pub misdelivered: u64,
    /// Fault: receipts for messages that the recipient had not confirmed, or not read.
    pub false_receipts: u64,
    /// Fault: acked and got, but its sender was never told so; or never told that it was read.
    pub unreceipted: u64,
    /// Fault: never answered.
    pub unanswered: u64,
    /// Fault: refused by the server.
    pub refused: u64,
    /// Fault: connections that ended before the run did.
    pub disconnected: u64,
}

impl Audit {
    /// Adds a pair.
    pub fn add(&mut self, sent: &SentLedger, received: &ReceivedLedger) {
        let lost = sent.acked.count_without(&received.received);
        let acked = sent.acked.count();
        self.sent += sent.sent;
        self.acked += acked;
        self.received += received.received.count();
        self.delivered += sent.delivered;
        self.lost += lost;
        self.duplicated += received.duplicated;
        self.reordered += received.reordered;
        self.misdelivered += received.misdelivered;
        self.false_receipts += sent.false_receipts;
        let told = if sent.expects_reads { sent.delivered.min(sent.read) } else { sent.delivered };
        self.read += sent.read;
        self.unreceipted += (acked - lost).saturating_sub(told);
        self.unanswered += sent.sent - acked - sent.refused;
        self.refused += sent.refused;
    }

    /// What a recipient's ledger alone tells.
    #[must_use]
    pub fn of_received(received: &ReceivedLedger) -> Self {
        let mut audit = Self::default();
        audit.add(&SentLedger::default(), received);
        audit
    }

    /// Adds another part of the run.
    pub fn merge(&mut self, other: &Self) {
        let Self { sent, acked, received, delivered, read, lost, duplicated, reordered, .. } = other;
        let Self { misdelivered, false_receipts, unreceipted, unanswered, refused, disconnected, .. } = other;
        for (sum, part) in [
            (&mut self.sent, sent),
            (&mut self.acked, acked),
            (&mut self.received, received),
            (&mut self.delivered, delivered),
            (&mut self.read, read),
            (&mut self.lost, lost),
            (&mut self.duplicated, duplicated),
            (&mut self.reordered, reordered),
            (&mut self.misdelivered, misdelivered),
            (&mut self.false_receipts, false_receipts),
            (&mut self.unreceipted, unreceipted),
            (&mut self.unanswered, unanswered),
            (&mut self.refused, refused),
            (&mut self.disconnected, disconnected),
        ] {
            *sum += part;
        }
    }

    /// What is wrong, a line each; empty when all is well.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let faults = [
            (self.lost, "acked messages were lost"),
            (self.duplicated, "messages were delivered again"),
            (self.reordered, "messages were delivered out of order"),
            (self.misdelivered, "messages came to somebody they were not for, or not as they were sent"),
            (self.false_receipts, "receipts spoke of messages that no device had confirmed, or read"),
            (self.unreceipted, "messages were delivered without a receipt for their sender"),
            (self.unanswered, "messages got no answer"),
            (self.refused, "messages were refused"),
            (self.disconnected, "connections ended before the run did"),
        ];
        faults.iter().filter(|(count, _)| *count > 0).map(|(count, words)| format!("{count} {words}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RUN: RunId = RunId(9);

    /// A pair whose sender has sent, and was told acked and delivered, so many.
    fn pair(messages: u64) -> (SentLedger, ReceivedLedger) {
        let mut sent = SentLedger::default();
        for _ in 0..messages {
            let counter = sent.send();
            sent.ack(counter);
        }
        sent.receipt(messages, messages);
        sent.deliver(messages);
        (sent, ReceivedLedger::new(RUN, 3))
    }

    fn content(counter: u64) -> bytes::Bytes {
        Label { run: RUN, pair: 3, counter, intended: Duration::ZERO }.to_content(100)
    }

    fn audit(sent: &SentLedger, received: &ReceivedLedger) -> Audit {
        let mut audit = Audit::default();
        audit.add(sent, received);
        audit
    }

    /// The audit of 4 sent messages of which these counters arrive, with `seq` 1, 2, 3 …
    fn arriving(counters: &[u64]) -> Audit {
        let (sent, mut received) = pair(4);
        (1..).zip(counters).for_each(|(seq, &counter)| received.receive(&content(counter), seq));
        audit(&sent, &received)
    }

    const WELL: Audit = Audit {
        sent: 4,
        acked: 4,
        received: 4,
        delivered: 4,
        read: 0,
        lost: 0,
        duplicated: 0,
        reordered: 0,
        misdelivered: 0,
        false_receipts: 0,
        unreceipted: 0,
        unanswered: 0,
        refused: 0,
        disconnected: 0,
    };

    #[test]
    fn a_run_without_faults_adds_up() {
        assert_eq!(arriving(&[0, 1, 2, 3]), WELL);
        assert!(WELL.faults().is_empty());
    }

    #[test]
    fn a_lost_message_is_counted_in_the_middle_and_at_the_end() {
        assert_eq!(arriving(&[0, 2, 3]), Audit { received: 3, lost: 1, ..WELL });
        assert_eq!(arriving(&[0, 1, 2]), Audit { received: 3, lost: 1, ..WELL });
        assert_eq!(arriving(&[]), Audit { received: 0, lost: 4, ..WELL });
        assert_eq!(arriving(&[0, 2, 3]).faults(), ["1 acked messages were lost"]);
    }

    #[test]
    fn a_message_that_comes_again_is_a_duplicate_and_no_other_fault() {
        assert_eq!(arriving(&[0, 1, 1, 2, 3, 0]), Audit { duplicated: 2, ..WELL });
    }

    #[test]
    fn a_message_after_a_later_one_is_reordered_and_not_lost() {
        assert_eq!(arriving(&[1, 0, 2, 3]), Audit { reordered: 1, ..WELL });
    }

    #[test]
    fn a_seq_that_does_not_rise_is_a_reorder() {
        let (sent, mut received) = pair(4);
        [(0, 1), (1, 2), (2, 2), (3, 3)].iter().for_each(|&(counter, seq)| received.receive(&content(counter), seq));
        assert_eq!(audit(&sent, &received), Audit { reordered: 1, ..WELL });
    }

    #[test]
    fn what_was_for_somebody_else_is_misdelivered() {
        let (sent, mut received) = pair(0);
        let stranger = Label { run: RUN, pair: 4, counter: 0, intended: Duration::ZERO };
        received.receive(&stranger.to_content(100), 1);
        received.receive(&Label { run: RunId(1), pair: 3, ..stranger }.to_content(100), 2);
        received.receive(b"short", 3);
        assert_eq!(audit(&sent, &received).misdelivered, 3);
    }

    #[test]
    fn a_receipt_ahead_of_the_recipient_is_false() {
        let (mut sent, received) = pair(0);
        sent.receipt(5, 4);
        sent.receipt(5, 5);
        assert_eq!(audit(&sent, &received).false_receipts, 1);
    }

    #[test]
    fn a_missing_receipt_a_missing_answer_and_a_refusal_are_told_apart() {
        let (mut sent, mut received) = pair(2);
        let counter = sent.send();
        sent.ack(counter);
        sent.send();
        sent.send();
        sent.refuse();
        (0..3).for_each(|counter| received.receive(&content(counter), counter + 1));
        let audit = audit(&sent, &received);
        assert_eq!((audit.unreceipted, audit.unanswered, audit.refused, audit.lost), (1, 1, 1, 0));
    }

    #[test]
    fn a_message_whose_reader_is_not_told_of_lacks_a_receipt() {
        let (mut sent, mut received) = (SentLedger::expecting_reads(), ReceivedLedger::new(RUN, 3));
        (0..2).for_each(|counter| received.receive(&content(counter), counter + 1));
        (0..2).for_each(|_| {
            let counter = sent.send();
            sent.ack(counter);
        });
        sent.deliver(2);
        sent.read(1);
        assert_eq!(audit(&sent, &received), Audit { read: 1, unreceipted: 1, ..audit_of(2) });
        sent.read(1);
        assert_eq!(audit(&sent, &received), Audit { read: 2, ..audit_of(2) });
    }

    /// So many messages, and no fault.
    fn audit_of(messages: u64) -> Audit {
        Audit { sent: messages, acked: messages, received: messages, delivered: messages, ..Audit::default() }
    }

    #[test]
    fn parts_of_a_run_add_up() {
        let mut all = arriving(&[0, 1, 2, 3]);
        all.merge(&arriving(&[1, 0, 0]));
        let sum = Audit { lost: 2, duplicated: 1, reordered: 1, received: 6, ..audit_of(8) };
        assert_eq!(all, Audit { unreceipted: 0, ..sum });
    }

    #[test]
    fn every_fault_has_its_line() {
        let all = Audit {
            lost: 1,
            duplicated: 1,
            reordered: 1,
            misdelivered: 1,
            false_receipts: 1,
            unreceipted: 1,
            unanswered: 1,
            refused: 1,
            disconnected: 1,
            ..WELL
        };
        assert_eq!(all.faults().len(), 9);
    }
}
