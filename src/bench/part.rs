//! The parts connections play: senders, recipients, and those that only stay.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use postrider_protocol::session::client::{Device, Event};
use postrider_protocol::wire::{Ack, Receipt, deliver, send};

use super::audit::{ReceivedLedger, SentLedger};
use super::connection::Part;
use super::control::Stage;
use super::label::{Label, RunId};
use super::meter::Meter;
use super::pacer::Schedule;

/// What both sides of a pair and the run share.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The run.
    pub run: RunId,
    /// Which of its pairs.
    pub index: u32,
    /// The highest `seq` the recipient has confirmed; set before the confirmation is written.
    pub confirmed: Arc<AtomicU64>,
    /// Where figures go.
    pub meter: Arc<Meter>,
}

/// When a sender's next message is due.
#[derive(Clone, Debug)]
pub enum Pace {
    /// As soon as fewer than this many are in flight: a closed loop.
    Window(usize),
    /// At its times, whatever became of the messages before: an open loop. It begins when there is a schedule.
    Schedule(Arc<OnceLock<Schedule>>),
}

/// When a message of a sender counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The server acked it.
    Acked,
    /// The recipient has it, and the sender was told.
    Delivered,
}

/// Sends to one recipient.
#[derive(Debug)]
pub struct Sender {
    pair: Pair,
    to: send::To,
    size: usize,
    pace: Pace,
    until: Until,
    /// Messages to send in all.
    budget: u64,
    /// The `send_id` of counter 0, once there is one.
    first_send_id: u64,
    /// Intended times of what has no answer; in order of their `send_id`.
    unanswered: VecDeque<(u64, Duration)>,
    /// `seq` and intended times of what is acked and not delivered; in order of `seq`.
    undelivered: VecDeque<(u64, Duration)>,
    /// The highest receipt.
    delivered_up_to: u64,
    /// Intended times of what is done since the last report.
    done: Vec<Duration>,
    ledger: SentLedger,
}

impl Sender {
    /// Of a pair whose recipient is this user; sends `budget` messages in all.
    #[must_use]
    pub fn new(pair: Pair, recipient: String, size: usize, pace: Pace, until: Until, budget: u64) -> Self {
        Self {
            pair,
            to: send::To::User(recipient),
            size,
            pace,
            until,
            budget,
            first_send_id: 0,
            unanswered: VecDeque::new(),
            undelivered: VecDeque::new(),
            delivered_up_to: 0,
            done: Vec::new(),
            ledger: SentLedger::default(),
        }
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
        let waiting = self.unanswered.iter().chain(&self.undelivered).map(|(_, intended)| *intended);
        self.pair.meter.given_up(self.shard(), now, waiting);
    }

    fn shard(&self) -> usize {
        self.pair.index as usize
    }

    fn in_flight(&self) -> usize {
        match self.until {
            Until::Acked => self.unanswered.len(),
            Until::Delivered => self.unanswered.len() + self.undelivered.len(),
        }
    }

    /// When the next message is due, if it is by now.
    fn due(&self, now: Duration) -> Option<Duration> {
        if self.ledger.sent() >= self.budget {
            return None;
        }
        match &self.pace {
            Pace::Window(window) => (self.in_flight() < *window).then_some(now),
            Pace::Schedule(schedule) => {
                let due = schedule.get()?.due(self.pair.index, self.ledger.sent());
                Some(due).filter(|due| *due <= now)
            }
        }
    }

    fn send_due(&mut self, device: &mut Device, now: Duration) {
        let mut sent = 0;
        while device.outbox.has_room()
            && let Some(intended) = self.due(now)
        {
            let counter = self.ledger.sent();
            let label = Label { run: self.pair.run, pair: self.pair.index, counter, intended };
            let Ok(send_id) = device.outbox.push(self.to.clone(), label.to_content(self.size)) else { break };
            self.ledger.send();
            if counter == 0 {
                self.first_send_id = send_id;
            }
            self.unanswered.push_back((send_id, intended));
            sent += 1;
        }
        if sent > 0 {
            device.outbox.release(device.outbox.highest());
            let intended = self.unanswered.iter().rev().take(sent).map(|(_, intended)| *intended);
            self.pair.meter.sent(self.shard(), now, intended);
        }
    }

    /// Takes what a send was meant for out of what is unanswered.
    fn answered(&mut self, send_id: u64) -> Option<Duration> {
        let index = self.unanswered.binary_search_by_key(&send_id, |(send_id, _)| *send_id).ok()?;
        self.unanswered.remove(index).map(|(_, intended)| intended)
    }

    fn acked(&mut self, ack: &Ack) {
        let Some(intended) = self.answered(ack.send_id) else { return };
        self.ledger.ack(ack.send_id - self.first_send_id);
        self.to = send::To::Conversation(ack.conversation);
        if self.until == Until::Acked {
            self.done.push(intended);
        }
        let index = self.undelivered.partition_point(|(seq, _)| *seq < ack.seq);
        self.undelivered.insert(index, (ack.seq, intended));
        // The receipt may have come first.
        self.take_delivered();
    }

    fn delivered(&mut self, receipt: &Receipt) {
        self.ledger.receipt(receipt.seq, self.pair.confirmed.load(Ordering::Acquire));
        self.delivered_up_to = self.delivered_up_to.max(receipt.seq);
        self.take_delivered();
    }

    fn take_delivered(&mut self) {
        let count = self.undelivered.partition_point(|(seq, _)| *seq <= self.delivered_up_to);
        self.ledger.deliver(count as u64);
        let delivered = self.undelivered.drain(..count);
        if self.until == Until::Delivered {
            self.done.extend(delivered.map(|(_, intended)| intended));
        }
    }
}

impl Part for Sender {
    fn handle(&mut self, event: Event, device: &mut Device, _now: Duration) {
        match event {
            Event::Acked(ack) => self.acked(&ack),
            Event::Refused { send_id, .. } => {
                self.answered(send_id);
                self.ledger.refuse();
            }
            Event::Entry { position, entry } => {
                if let Some(deliver::Entry::Delivered(receipt)) = entry {
                    self.delivered(&receipt);
                }
                device.inbox.confirm(position);
            }
            _ => {}
        }
    }

    fn act(&mut self, device: &mut Device, stage: Stage, now: Duration) -> ControlFlow<()> {
        if !self.done.is_empty() {
            self.pair.meter.done(self.shard(), now, self.done.drain(..));
        }
        if stage == Stage::Run {
            self.send_due(device, now);
        }
        let over = stage >= Stage::Finish && self.unanswered.is_empty() && self.undelivered.is_empty();
        if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Takes what its pair's sender sends, and confirms it at once.
#[derive(Debug)]
pub struct Recipient {
    pair: Pair,
    /// The highest `seq` and position that arrived and are not confirmed.
    arrived: Option<(u64, u64)>,
    received: Arc<AtomicU64>,
    unreported: u64,
    ledger: ReceivedLedger,
}

impl Recipient {
    /// Of a pair; counts what it receives in `received`, too.
    #[must_use]
    pub fn new(pair: Pair, received: Arc<AtomicU64>) -> Self {
        let ledger = ReceivedLedger::new(pair.run, pair.index);
        Self { pair, arrived: None, received, unreported: 0, ledger }
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
}

impl Part for Recipient {
    fn handle(&mut self, event: Event, _device: &mut Device, _now: Duration) {
        let Event::Entry { position, entry } = event else { return };
        let mut seq = self.arrived.map_or(0, |(seq, _)| seq);
        if let Some(deliver::Entry::Message(message)) = entry {
            self.ledger.receive(&message.content, message.seq);
            self.unreported += 1;
            seq = seq.max(message.seq);
        }
        self.arrived = Some((seq, position));
    }

    fn act(&mut self, device: &mut Device, _stage: Stage, _now: Duration) -> ControlFlow<()> {
        if let Some((seq, position)) = self.arrived.take() {
            self.pair.confirmed.fetch_max(seq, Ordering::Release);
            device.inbox.confirm(position);
            self.received.fetch_add(std::mem::take(&mut self.unreported), Ordering::Relaxed);
        }
        ControlFlow::Continue(())
    }
}

/// One of the parts, as the task of a connection holds it.
#[derive(Debug)]
pub enum AnyPart {
    /// Sends.
    Sender(Box<Sender>),
    /// Receives.
    Recipient(Box<Recipient>),
    /// Stays until the run halts.
    Idle,
}

impl Part for AnyPart {
    fn handle(&mut self, event: Event, device: &mut Device, now: Duration) {
        match self {
            Self::Sender(sender) => sender.handle(event, device, now),
            Self::Recipient(recipient) => recipient.handle(event, device, now),
            Self::Idle => {}
        }
    }

    fn act(&mut self, device: &mut Device, stage: Stage, now: Duration) -> ControlFlow<()> {
        match self {
            Self::Sender(sender) => sender.act(device, stage, now),
            Self::Recipient(recipient) => recipient.act(device, stage, now),
            Self::Idle => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use postrider_protocol::wire;

    use super::*;

    fn pair() -> Pair {
        Pair { run: RunId(1), index: 0, confirmed: Arc::default(), meter: Arc::default() }
    }

    fn sender(pair: &Pair, pace: Pace) -> Sender {
        Sender::new(pair.clone(), "r".into(), 100, pace, Until::Delivered, u64::MAX)
    }

    fn ack(id: u64) -> Event {
        Event::Acked(Ack { send_id: id, conversation: 5, seq: id, time: 0 })
    }

    fn receipt(position: u64, seq: u64) -> Event {
        let receipt = Receipt { conversation: 5, user: "r".into(), seq };
        Event::Entry { position, entry: Some(deliver::Entry::Delivered(receipt)) }
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_window_is_refilled_by_receipts_and_not_by_acks() {
        let (pair, mut device) = (pair(), Device::default());
        let mut sender = sender(&pair, Pace::Window(2));
        let _ = sender.act(&mut device, Stage::Run, ms(1));
        assert_eq!(device.outbox.len(), 2);
        [ack(1), ack(2)].into_iter().for_each(|event| sender.handle(event, &mut device, ms(2)));
        let _ = sender.act(&mut device, Stage::Run, ms(2));
        assert_eq!(device.outbox.len(), 2);
        pair.confirmed.store(2, Ordering::Release);
        sender.handle(receipt(1, 1), &mut device, ms(3));
        let _ = sender.act(&mut device, Stage::Run, ms(3));
        assert_eq!((device.outbox.len(), pair.meter.messages()), (3, 1));
        assert!(sender.act(&mut device, Stage::Finish, ms(4)).is_continue());
        sender.handle(ack(3), &mut device, ms(5));
        sender.handle(receipt(2, 3), &mut device, ms(5));
        assert!(sender.act(&mut device, Stage::Finish, ms(5)).is_break());
        let mut audit = super::super::audit::Audit::default();
        audit.add(sender.ledger(), &ReceivedLedger::new(RunId(1), 0));
        assert_eq!((audit.false_receipts, audit.delivered), (1, 3), "seq 3 was not confirmed");
    }

    #[test]
    fn a_schedule_is_kept_whatever_became_of_the_messages_before() {
        let (pair, mut device) = (pair(), Device::default());
        let schedule = Schedule { start: ms(100), rate: 100.0, senders: 1 };
        let mut sender = sender(&pair, Pace::Schedule(Arc::new(OnceLock::from(schedule))));
        pair.meter.open(ms(0));
        pair.meter.close(ms(1_000_000));
        let _ = sender.act(&mut device, Stage::Run, ms(99));
        assert!(device.outbox.is_empty());
        // The task was kept from running until 600: messages are due since 100, 110 … 600.
        let _ = sender.act(&mut device, Stage::Run, ms(600));
        let intended = |send: &wire::Send| Label::of_content(&send.content).map(|label| label.intended.as_millis());
        let all: Vec<_> = device.outbox.iter().filter_map(intended).collect();
        assert_eq!((all.len(), all[0], all[50]), (51, 100, 600));
        (1..=51).for_each(|id| sender.handle(ack(id), &mut device, ms(1600)));
        pair.confirmed.store(51, Ordering::Release);
        sender.handle(receipt(1, 51), &mut device, ms(1600));
        let _ = sender.act(&mut device, Stage::Finish, ms(1600));
        let (latency, lag) = (pair.meter.latencies().unwrap(), pair.meter.lags().unwrap());
        let close = |value: f64, wanted: f64| (value - wanted).abs() < 2.0;
        assert!(close(latency.p50, 1250.0) && close(latency.max, 1500.0), "{latency:?}");
        assert!(close(lag.p50, 250.0) && close(lag.max, 500.0), "{lag:?}");
    }

    #[test]
    fn a_recipient_confirms_what_arrived_before_it_is_told_to_the_sender() {
        let (pair, received) = (pair(), Arc::default());
        let mut recipient = Recipient::new(pair.clone(), Arc::clone(&received));
        let label = Label { run: RunId(1), pair: 0, counter: 0, intended: ms(0) };
        let message = wire::Message { seq: 7, content: label.to_content(40), ..Default::default() };
        let entry = Some(deliver::Entry::Message(message));
        let mut device = Device::default();
        recipient.handle(Event::Entry { position: 9, entry }, &mut device, ms(0));
        assert_eq!((pair.confirmed.load(Ordering::Acquire), received.load(Ordering::Relaxed)), (0, 0));
        let _ = recipient.act(&mut device, Stage::Run, ms(0));
        assert_eq!((pair.confirmed.load(Ordering::Acquire), received.load(Ordering::Relaxed)), (7, 1));
    }
}
