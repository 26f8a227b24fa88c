//! The parts connections play: they send, they receive, they do both, or they only stay.
//!
//! # Layout
//! - [`sender`], [`recipient`]: the two halves
//! - [`Actor`]: what a connection has of them

pub mod recipient;
pub mod sender;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use postrider_protocol::session::client::{Device, Event};
use postrider_protocol::wire::deliver;

use super::connection::Part;
use super::control::Stage;
use super::label::RunId;

pub use recipient::Recipient;
pub use sender::{Pace, Sender, Until, Wishes};

/// What goes from one user to another: what its two ends and the auditor share.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The run.
    pub run: RunId,
    /// Which of its pairs.
    pub index: u32,
    /// What its recipient has said.
    pub said: Arc<Said>,
}

/// What a recipient has said to the server; set before it is written, so that no receipt can rightly be ahead of it.
#[derive(Debug, Default)]
pub struct Said {
    confirmed: AtomicU64,
    read: AtomicU64,
}

impl Pair {
    /// Before anything was said.
    #[must_use]
    pub fn new(run: RunId, index: u32) -> Self {
        Self { run, index, said: Arc::default() }
    }
}

impl Said {
    /// Everything up to this `seq` is taken.
    pub fn confirm(&self, seq: u64) {
        self.confirmed.fetch_max(seq, Ordering::Release);
    }

    /// Everything up to this `seq` is read.
    pub fn read(&self, seq: u64) {
        self.read.fetch_max(seq, Ordering::Release);
    }

    /// The highest `seq` that was taken.
    #[must_use]
    pub fn confirmed_up_to(&self) -> u64 {
        self.confirmed.load(Ordering::Acquire)
    }

    /// The highest `seq` that was read.
    #[must_use]
    pub fn read_up_to(&self) -> u64 {
        self.read.load(Ordering::Acquire)
    }
}

/// What one user does, on one connection after the other.
#[derive(Debug, Default)]
pub struct Actor {
    /// Sends, if it does.
    pub sender: Option<Box<Sender>>,
    /// Takes what is sent to it, if anything is.
    pub recipient: Option<Box<Recipient>>,
    /// The highest position that arrived and is not confirmed.
    arrived: Option<u64>,
    /// Messages that came although nothing was sent to it.
    pub stray: u64,
    /// Whether it leaves as soon as it is logged in.
    visits: bool,
}

impl Actor {
    /// Stays until the run halts.
    #[must_use]
    pub fn idle() -> Self {
        Self::default()
    }

    /// Logs in, and leaves.
    #[must_use]
    pub fn visiting() -> Self {
        Self { visits: true, ..Self::default() }
    }

    /// Only sends.
    #[must_use]
    pub fn sending(sender: Sender) -> Self {
        Self { sender: Some(Box::new(sender)), ..Self::default() }
    }

    /// Only receives.
    #[must_use]
    pub fn receiving(recipient: Recipient) -> Self {
        Self { recipient: Some(Box::new(recipient)), ..Self::default() }
    }

    /// Both.
    #[must_use]
    pub fn talking(sender: Sender, recipient: Recipient) -> Self {
        Self { sender: Some(Box::new(sender)), ..Self::receiving(recipient) }
    }

    fn take(&mut self, entry: deliver::Entry) {
        match (entry, &mut self.sender, &mut self.recipient) {
            (deliver::Entry::Message(message), _, Some(recipient)) => recipient.take(&message),
            (deliver::Entry::Message(_), _, None) => self.stray += 1,
            (deliver::Entry::Delivered(receipt), Some(sender), _) => sender.delivered(&receipt),
            (deliver::Entry::Read(receipt), Some(sender), _) => sender.read(&receipt),
            _ => {}
        }
    }
}

impl Part for Actor {
    fn handle(&mut self, event: Event, _device: &mut Device, _now: Duration) {
        match (event, &mut self.sender) {
            (Event::Entry { position, entry }, _) => {
                entry.into_iter().for_each(|entry| self.take(entry));
                self.arrived = Some(position);
            }
            (Event::Acked(ack), Some(sender)) => sender.acked(&ack),
            (Event::Refused { send_id, .. }, Some(sender)) => sender.refused(send_id),
            _ => {}
        }
    }

    fn act(&mut self, device: &mut Device, stage: Stage, now: Duration) -> ControlFlow<()> {
        if let Some(recipient) = &mut self.recipient {
            recipient.settle(device);
        }
        if let Some(position) = self.arrived.take() {
            device.inbox.confirm(position);
        }
        if self.visits {
            return ControlFlow::Break(());
        }
        let Some(sender) = &mut self.sender else { return ControlFlow::Continue(()) };
        let over = sender.act(device, stage, now);
        // Who also receives stays for the others.
        if over && self.recipient.is_none() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use postrider_protocol::wire::{self, Ack, Receipt};

    use super::*;
    use crate::bench::audit::{Audit, ReceivedLedger, SentLedger};
    use crate::bench::label::Label;
    use crate::bench::meter::{Meter, Phase};
    use crate::bench::pacer::{Even, Schedule};

    fn actor(pair: &Pair, pace: Pace, reads: bool, meter: &Arc<Meter>) -> Actor {
        let wishes = Wishes { size: 100, pace, until: Until::Delivered, reads, budget: u64::MAX };
        Actor::sending(Sender::new(vec![(pair.clone(), "r".into())], wishes, 0, Arc::clone(meter)))
    }

    fn ledger(actor: &Actor) -> &SentLedger {
        actor.sender.as_ref().unwrap().ledgers().next().unwrap().1
    }

    fn ack(id: u64) -> Event {
        Event::Acked(Ack { send_id: id, conversation: 5, seq: id, time: 0 })
    }

    fn receipt(seq: u64) -> Receipt {
        Receipt { conversation: 5, user: "r".into(), seq }
    }

    fn delivered(position: u64, seq: u64) -> Event {
        Event::Entry { position, entry: Some(deliver::Entry::Delivered(receipt(seq))) }
    }

    fn pair() -> Pair {
        Pair::new(RunId(1), 0)
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_window_is_refilled_by_receipts_and_not_by_acks() {
        let (pair, meter, mut device) = (pair(), Arc::default(), Device::default());
        let mut sender = actor(&pair, Pace::Window(2), false, &meter);
        let _ = sender.act(&mut device, Stage::Run, ms(1));
        assert_eq!(device.outbox.len(), 2);
        [ack(1), ack(2)].into_iter().for_each(|event| sender.handle(event, &mut device, ms(2)));
        let _ = sender.act(&mut device, Stage::Run, ms(2));
        assert_eq!(device.outbox.len(), 2);
        pair.said.confirm(2);
        sender.handle(delivered(1, 1), &mut device, ms(3));
        let _ = sender.act(&mut device, Stage::Run, ms(3));
        assert_eq!((device.outbox.len(), meter.messages()), (3, 1));
        assert!(sender.act(&mut device, Stage::Finish, ms(4)).is_continue());
        sender.handle(ack(3), &mut device, ms(5));
        sender.handle(delivered(2, 3), &mut device, ms(5));
        assert!(sender.act(&mut device, Stage::Finish, ms(5)).is_break());
        assert_eq!(meter.finished(), 1);
        let mut audit = Audit::default();
        audit.add(ledger(&sender), &ReceivedLedger::new(RunId(1), 0));
        assert_eq!((audit.false_receipts, audit.delivered), (1, 3), "seq 3 was not confirmed");
    }

    #[test]
    fn who_expects_to_be_read_is_done_when_it_was_told_so_and_not_before() {
        let (pair, meter, mut device) = (pair(), Arc::default(), Device::default());
        let mut sender = actor(&pair, Pace::Window(1), true, &meter);
        let _ = sender.act(&mut device, Stage::Run, ms(1));
        pair.said.confirm(1);
        [ack(1), delivered(1, 1)].into_iter().for_each(|event| sender.handle(event, &mut device, ms(2)));
        assert!(sender.act(&mut device, Stage::Finish, ms(3)).is_continue());
        let read = |position| Event::Entry { position, entry: Some(deliver::Entry::Read(receipt(1))) };
        sender.handle(read(2), &mut device, ms(4));
        assert!(sender.act(&mut device, Stage::Finish, ms(4)).is_break());
        let mut audit = Audit::default();
        audit.add(ledger(&sender), &ReceivedLedger::new(RunId(1), 0));
        assert_eq!((audit.false_receipts, audit.read), (1, 1), "nobody had read it");
    }

    #[test]
    fn a_schedule_is_kept_whatever_became_of_the_messages_before() {
        let (pair, meter, mut device) = (pair(), Arc::<Meter>::default(), Device::default());
        let schedule = Schedule::Even(Even { start: ms(100), rate: 100.0, senders: 1 });
        let mut sender = actor(&pair, Pace::Schedule(Arc::new(OnceLock::from(schedule))), false, &meter);
        meter.open(Phase::Main, ms(0));
        meter.close(Phase::Main, ms(1_000_000));
        let _ = sender.act(&mut device, Stage::Run, ms(99));
        assert!(device.outbox.is_empty());
        // The task was kept from running until 600: messages are due since 100, 110 … 600.
        let _ = sender.act(&mut device, Stage::Run, ms(600));
        let intended = |send: &wire::Send| Label::of_content(&send.content).map(|label| label.intended.as_millis());
        let all: Vec<_> = device.outbox.iter().filter_map(intended).collect();
        assert_eq!((all.len(), all[0], all[50]), (51, 100, 600));
        (1..=51).for_each(|id| sender.handle(ack(id), &mut device, ms(1600)));
        pair.said.confirm(51);
        sender.handle(delivered(1, 51), &mut device, ms(1600));
        let _ = sender.act(&mut device, Stage::Finish, ms(1600));
        let latency = meter.latencies(Phase::Main).percentiles().unwrap();
        let lag = meter.lags(Phase::Main).percentiles().unwrap();
        let close = |value: f64, wanted: f64| (value - wanted).abs() < 2.0;
        assert!(close(latency.p50, 1250.0) && close(latency.max, 1500.0), "{latency:?}");
        assert!(close(lag.p50, 250.0) && close(lag.max, 500.0), "{lag:?}");
    }

    #[test]
    fn what_was_due_and_never_sent_is_late_all_the_same() {
        let (pair, meter) = (pair(), Arc::<Meter>::default());
        let schedule = Schedule::Even(Even { start: ms(100), rate: 100.0, senders: 1 });
        let sender = actor(&pair, Pace::Schedule(Arc::new(OnceLock::from(schedule))), false, &meter);
        meter.open(Phase::Main, ms(200));
        assert_eq!(sender.sender.as_ref().unwrap().give_up(ms(400)), 0, "the interval is not over");
        meter.close(Phase::Main, ms(300));
        // Due since 100, 110 … 290; of these 200 … 290 are measured.
        assert_eq!(sender.sender.as_ref().unwrap().give_up(ms(1200)), 20);
        let latency = meter.latencies(Phase::Main).percentiles().unwrap();
        assert!((latency.max - 1000.0).abs() < 2.0 && (latency.p50 - 950.0).abs() < 11.0, "{latency:?}");
    }

    fn message(pair: u32, counter: u64, seq: u64) -> deliver::Entry {
        let label = Label { run: RunId(1), pair, counter, intended: ms(0) };
        let (conversation, content) = (u64::from(pair), label.to_content(40));
        deliver::Entry::Message(wire::Message { conversation, seq, content, ..Default::default() })
    }

    #[test]
    fn a_recipient_says_what_arrived_before_it_is_written_to_the_server() {
        let (pair, meter) = (pair(), Arc::<Meter>::default());
        let recipient = Recipient::new(vec![pair.clone()], true, Arc::clone(&meter));
        let (mut actor, mut device) = (Actor::receiving(recipient), Device::default());
        actor.handle(Event::Entry { position: 9, entry: Some(message(0, 0, 7)) }, &mut device, ms(0));
        assert_eq!((pair.said.confirmed_up_to(), meter.received()), (0, 0));
        let _ = actor.act(&mut device, Stage::Run, ms(0));
        assert_eq!((pair.said.confirmed_up_to(), pair.said.read_up_to(), meter.received()), (7, 7, 1));
        assert!(device.inbox.has_unwritten_reads());
    }

    #[test]
    fn one_who_talks_with_several_keeps_them_apart() {
        let (meter, mut device) = (Arc::<Meter>::default(), Device::default());
        let out: Vec<_> = [(4, "a"), (5, "b")].map(|(index, to)| (Pair::new(RunId(1), index), to.into())).into();
        let (a, b) = (Pair::new(RunId(1), 7), Pair::new(RunId(1), 8));
        let wishes = Wishes { size: 40, pace: Pace::Window(4), until: Until::Acked, reads: false, budget: 4 };
        let sender = Sender::new(out.clone(), wishes, 0, Arc::clone(&meter));
        let recipient = Recipient::new(vec![a.clone(), b.clone()], false, Arc::clone(&meter));
        let mut actor = Actor::talking(sender, recipient);
        for (position, entry) in (1..).zip([message(8, 0, 2), message(7, 0, 3), message(9, 0, 1)]) {
            actor.handle(Event::Entry { position, entry: Some(entry) }, &mut device, ms(0));
        }
        let _ = actor.act(&mut device, Stage::Run, ms(0));
        assert_eq!((a.said.confirmed_up_to(), b.said.confirmed_up_to()), (3, 2));
        // Messages 1 and 3 went to a, 2 and 4 to b; b's receipt does not speak for a's.
        (1..=4).for_each(|id| {
            let ack = Ack { send_id: id, conversation: id % 2, seq: id.div_ceil(2), time: 0 };
            actor.handle(Event::Acked(ack), &mut device, ms(1));
        });
        out[1].0.said.confirm(2);
        let of_b = Receipt { conversation: 0, user: "b".into(), seq: 2 };
        actor.handle(Event::Entry { position: 4, entry: Some(deliver::Entry::Delivered(of_b)) }, &mut device, ms(1));
        assert!(actor.act(&mut device, Stage::Finish, ms(2)).is_continue());
        let mut audits = [Audit::default(); 2];
        let sender = actor.sender.as_ref().unwrap();
        for (audit, (_, sent)) in audits.iter_mut().zip(sender.ledgers()) {
            audit.add(sent, &ReceivedLedger::new(RunId(1), 0));
        }
        assert_eq!(audits.map(|audit| (audit.sent, audit.delivered, audit.false_receipts)), [(2, 0, 0), (2, 2, 0)]);
        let received = actor.recipient.as_ref().unwrap();
        let stray: u64 = received.ledgers().map(|ledger| Audit::of_received(ledger).misdelivered).sum();
        assert_eq!(stray, 1, "the message of pair 9");
    }
}
