//! The parts connections play: senders, recipients, and those that are only there. The same for every server.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use postrider::bench::audit::{ReceivedLedger, SentLedger};
use postrider::bench::control::Stage;
use postrider::bench::label::{Label, RunId};

use crate::pace::{Meter, Pace, Until};
use crate::wire::{Heard, Wire};

/// What both sides of a pair and the run share.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The run.
    pub run: RunId,
    /// Which of its pairs.
    pub index: u32,
    /// How many messages the recipient has confirmed; set before the confirmation is written.
    pub confirmed: Arc<AtomicU64>,
    /// Where figures go.
    pub meter: Arc<Meter>,
}

/// One of the parts.
pub enum Part {
    /// Sends.
    Sender(Box<Sender>),
    /// Receives.
    Recipient(Box<Recipient>),
    /// Stays until the run halts.
    Idle,
}

impl Part {
    /// Something came.
    pub fn hear(&mut self, heard: Heard<'_>) {
        match self {
            Self::Sender(sender) => sender.hear(heard),
            Self::Recipient(recipient) => recipient.hear(heard),
            Self::Idle => {}
        }
    }

    /// Everything that had come was heard: sends and confirms what is due. `Break` when the work is done.
    pub fn act(&mut self, wire: &mut dyn Wire, out: &mut BytesMut, stage: Stage, now: Duration) -> ControlFlow<()> {
        match self {
            Self::Sender(sender) => return sender.act(wire, out, stage, now),
            Self::Recipient(recipient) => recipient.act(wire, out),
            Self::Idle => {}
        }
        ControlFlow::Continue(())
    }
}

/// Sends to one recipient.
pub struct Sender {
    pair: Pair,
    size: usize,
    pace: Pace,
    until: Until,
    /// Messages to send in all.
    budget: u64,
    /// Counter and intended time of what is not done; in order.
    waiting: VecDeque<(u64, Duration)>,
    /// Intended times of what is done since the last report.
    done: Vec<Duration>,
    ledger: SentLedger,
}

impl Sender {
    /// Of a pair; sends `budget` messages in all.
    #[must_use]
    pub fn new(pair: Pair, size: usize, pace: Pace, until: Until, budget: u64) -> Self {
        let (waiting, done, ledger) = Default::default();
        Self { pair, size, pace, until, budget, waiting, done, ledger }
    }

    /// What the auditor needs.
    #[must_use]
    pub fn ledger(&self) -> &SentLedger {
        &self.ledger
    }

    /// Which pair's.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.pair.index
    }

    /// What is still on its way now took at least until now.
    pub fn give_up(&self, now: Duration) {
        self.pair.meter.given_up(self.pair.index as usize, now, self.waiting.iter().map(|(_, intended)| *intended));
    }

    fn hear(&mut self, heard: Heard<'_>) {
        match heard {
            // Only what still waits for it has a first answer to come: a server may bounce what it has acked.
            Heard::Acked(counter) if self.find(counter).is_some() => {
                self.ledger.ack(counter);
                if self.until == Until::Acked {
                    self.finish(counter);
                }
            }
            Heard::Refused(counter) if self.take(counter).is_some() => self.ledger.refuse(),
            Heard::Delivered(counter) => self.delivered(counter),
            Heard::DeliveredUpTo(counter) => {
                while let Some((first, _)) = self.waiting.front().filter(|(first, _)| *first <= counter) {
                    self.delivered(*first);
                }
            }
            Heard::Acked(_) | Heard::Refused(_) | Heard::Message(_) | Heard::Ready => {}
        }
    }

    /// What is delivered was taken, whether or not the server has said so.
    fn delivered(&mut self, counter: u64) {
        self.ledger.receipt(counter + 1, self.pair.confirmed.load(Ordering::Acquire));
        if self.finish(counter) {
            self.ledger.ack(counter);
            self.ledger.deliver(1);
        }
    }

    fn finish(&mut self, counter: u64) -> bool {
        let intended = self.take(counter);
        self.done.extend(intended);
        intended.is_some()
    }

    fn take(&mut self, counter: u64) -> Option<Duration> {
        let index = self.find(counter)?;
        self.waiting.remove(index).map(|(_, intended)| intended)
    }

    fn find(&self, counter: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&counter, |(counter, _)| *counter).ok()
    }

    /// When the next message is due, if it is by now.
    fn due(&self, now: Duration) -> Option<Duration> {
        if self.ledger.sent() >= self.budget {
            return None;
        }
        match &self.pace {
            Pace::Window(window) => (self.waiting.len() < *window).then_some(now),
            Pace::Schedule(schedule) => {
                let due = schedule.get()?.due(self.pair.index, self.ledger.sent());
                Some(due).filter(|due| *due <= now)
            }
        }
    }

    fn act(&mut self, wire: &mut dyn Wire, out: &mut BytesMut, stage: Stage, now: Duration) -> ControlFlow<()> {
        if !self.done.is_empty() {
            self.pair.meter.done(self.pair.index as usize, now, self.done.drain(..));
        }
        if stage == Stage::Run {
            while wire.has_room()
                && let Some(intended) = self.due(now)
            {
                let counter = self.ledger.send();
                let label = Label { run: self.pair.run, pair: self.pair.index, counter, intended };
                wire.send(counter, &label.to_content(self.size), out);
                self.waiting.push_back((counter, intended));
            }
        }
        let over = stage >= Stage::Finish && self.waiting.is_empty();
        if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Takes what its pair's sender sends, and confirms it at once.
pub struct Recipient {
    pair: Pair,
    /// What arrived and is not confirmed.
    arrived: Vec<u64>,
    messages: u64,
    ledger: ReceivedLedger,
}

impl Recipient {
    /// Of a pair.
    #[must_use]
    pub fn new(pair: Pair) -> Self {
        let ledger = ReceivedLedger::new(pair.run, pair.index);
        Self { pair, arrived: Vec::new(), messages: 0, ledger }
    }

    /// Which pair's.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.pair.index
    }

    /// What the auditor needs.
    #[must_use]
    pub fn ledger(&self) -> &ReceivedLedger {
        &self.ledger
    }

    fn hear(&mut self, heard: Heard<'_>) {
        let Heard::Message(content) = heard else { return };
        self.messages += 1;
        // These servers number nothing: the order of arrival stands for it.
        self.ledger.receive(content, self.messages);
        self.arrived.extend(Label::of_content(content).map(|label| label.counter));
    }

    fn act(&mut self, wire: &mut dyn Wire, out: &mut BytesMut) {
        if let Some(last) = self.arrived.last() {
            self.pair.confirmed.fetch_max(last + 1, Ordering::Release);
            wire.received(&self.arrived, out);
            self.pair.meter.took(self.arrived.len() as u64);
            self.arrived.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use postrider::bench::audit::Audit;

    use super::*;
    use crate::wire::nats::Nats;
    use crate::wire::testing::side;
    use crate::wire::{Receipts, Role};

    fn pair() -> Pair {
        Pair { run: RunId(1), index: 0, confirmed: Arc::default(), meter: Arc::default() }
    }

    fn sender(pair: &Pair, until: Until) -> Sender {
        Sender::new(pair.clone(), 100, Pace::Window(2), until, 3)
    }

    /// How many messages it has sent after acting.
    fn act(sender: &mut Sender, stage: Stage) -> (u64, bool) {
        let mut wire = Nats::new(side(Role::Sender, Receipts::Each));
        let over = sender.act(&mut wire, &mut BytesMut::new(), stage, Duration::from_millis(1)).is_break();
        (sender.ledger.sent(), over)
    }

    #[test]
    fn a_window_is_refilled_by_what_makes_a_message_done() {
        for (until, ack, receipt) in [(Until::Acked, 3, 3), (Until::Delivered, 2, 3)] {
            let pair = pair();
            let mut sender = sender(&pair, until);
            assert_eq!(act(&mut sender, Stage::Run).0, 2);
            sender.hear(Heard::Acked(0));
            assert_eq!(act(&mut sender, Stage::Run).0, ack);
            pair.confirmed.store(1, Ordering::Release);
            sender.hear(Heard::Delivered(0));
            assert_eq!(act(&mut sender, Stage::Run).0, receipt);
            assert_eq!(pair.meter.messages(), 1, "{until:?}");
        }
    }

    #[test]
    fn the_audit_tells_what_was_lost_and_which_receipt_was_false() {
        let pair = pair();
        let mut sender = sender(&pair, Until::Delivered);
        act(&mut sender, Stage::Run);
        let mut recipient = Recipient::new(pair.clone());
        let label = |counter| Label { run: RunId(1), pair: 0, counter, intended: Duration::ZERO }.to_content(100);
        recipient.hear(Heard::Message(&label(1)));
        recipient.act(&mut Nats::new(side(Role::Recipient, Receipts::Each)), &mut BytesMut::new());
        sender.hear(Heard::DeliveredUpTo(1));
        assert_eq!(act(&mut sender, Stage::Finish), (2, true));
        let mut audit = Audit::default();
        audit.add(sender.ledger(), recipient.ledger());
        assert_eq!((audit.sent, audit.acked, audit.lost, audit.false_receipts), (2, 2, 1, 0));
        sender.hear(Heard::Delivered(2));
        sender.hear(Heard::Refused(1));
        audit.add(sender.ledger(), recipient.ledger());
        assert_eq!(audit.false_receipts, 1);
    }
}
