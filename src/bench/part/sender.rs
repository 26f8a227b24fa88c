//! Sends to one user or to several, and learns what became of it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use postrider_protocol::session::client::Device;
use postrider_protocol::wire::{Ack, Receipt, send};

use super::Pair;
use crate::bench::audit::SentLedger;
use crate::bench::control::Stage;
use crate::bench::label::Label;
use crate::bench::meter::{Meter, Phase};
use crate::bench::pacer::Schedule;

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

/// What is to be sent.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// Bytes of a message's content.
    pub size: usize,
    /// When.
    pub pace: Pace,
    /// Up to where a message's time counts.
    pub until: Until,
    /// Whether recipients read, so that the sender waits for that, too.
    pub reads: bool,
    /// Messages in all.
    pub budget: u64,
}

/// Sends to its recipients in turn.
#[derive(Debug)]
pub struct Sender {
    /// Which sender of the run: for whoever deals out times and shards.
    number: u32,
    wishes: Wishes,
    meter: Arc<Meter>,
    threads: Vec<Thread>,
    /// Where several are, by the recipient's name.
    by_name: HashMap<String, usize>,
    sent: u64,
    /// What has no answer, in order of `send_id`.
    unanswered: VecDeque<Unanswered>,
    /// What is acked and not told delivered, or not told read where that is expected.
    open: usize,
    /// Of it, what is not told delivered.
    undelivered: usize,
    /// Intended times of what is done since the last report.
    done: Vec<Duration>,
    finished: bool,
}

#[derive(Debug)]
struct Unanswered {
    send_id: u64,
    thread: usize,
    counter: u64,
    intended: Duration,
}

/// What goes to one recipient.
#[derive(Debug)]
struct Thread {
    pair: Pair,
    to: send::To,
    /// `seq` and intended times of what is acked and not delivered; in order of `seq`.
    undelivered: VecDeque<(u64, Duration)>,
    delivered_up_to: u64,
    /// What is delivered and not read; in order of `seq`. Empty where nobody reads.
    unread: VecDeque<u64>,
    read_up_to: u64,
    ledger: SentLedger,
}

impl Sender {
    /// The sender of this number, to these recipients; at least one.
    #[must_use]
    pub fn new(recipients: Vec<(Pair, String)>, wishes: Wishes, number: u32, meter: Arc<Meter>) -> Self {
        let several = recipients.len() > 1;
        let names = recipients.iter().enumerate().filter(|_| several);
        let by_name = names.map(|(index, (_, name))| (name.clone(), index)).collect();
        let ledger = || if wishes.reads { SentLedger::expecting_reads() } else { SentLedger::default() };
        let thread = |(pair, name)| Thread {
            pair,
            to: send::To::User(name),
            undelivered: VecDeque::new(),
            delivered_up_to: 0,
            unread: VecDeque::new(),
            read_up_to: 0,
            ledger: ledger(),
        };
        let threads = recipients.into_iter().map(thread).collect();
        Self {
            number,
            wishes,
            meter,
            threads,
            by_name,
            sent: 0,
            unanswered: VecDeque::new(),
            open: 0,
            undelivered: 0,
            done: Vec::new(),
            finished: false,
        }
    }

    /// What the auditor needs: a ledger for each pair.
    pub fn ledgers(&self) -> impl Iterator<Item = (&Pair, &SentLedger)> {
        self.threads.iter().map(|thread| (&thread.pair, &thread.ledger))
    }

    /// Lets it send so many more.
    pub fn allow(&mut self, messages: u64) {
        self.wishes.budget += messages;
    }

    /// What is still on its way now took at least until now; and so did what was due while messages were measured and
    /// was never sent. Returns how many those are.
    pub fn give_up(&self, now: Duration) -> u64 {
        let undelivered = self.threads.iter().flat_map(|thread| &thread.undelivered).map(|(_, intended)| *intended);
        let undelivered = undelivered.filter(|_| self.wishes.until == Until::Delivered);
        let unanswered = self.unanswered.iter().map(|unanswered| unanswered.intended);
        self.meter.given_up(self.number as usize, now, unanswered.chain(undelivered));
        let Pace::Schedule(schedule) = &self.wishes.pace else { return 0 };
        let closed = self.meter.closed(Phase::Main);
        let due = (self.sent..self.wishes.budget).map_while(|nth| schedule.get()?.due(self.number, nth));
        let unsent = due.take_while(|due| *due < closed);
        self.meter.given_up(self.number as usize, now, unsent.clone());
        unsent.count() as u64
    }

    fn in_flight(&self) -> usize {
        match self.wishes.until {
            Until::Acked => self.unanswered.len(),
            Until::Delivered => self.unanswered.len() + self.undelivered,
        }
    }

    /// When the next message is due, if it is by now.
    fn due(&self, now: Duration) -> Option<Duration> {
        if self.sent >= self.wishes.budget {
            return None;
        }
        match &self.wishes.pace {
            Pace::Window(window) => (self.in_flight() < *window).then_some(now),
            Pace::Schedule(schedule) => schedule.get()?.due(self.number, self.sent).filter(|due| *due <= now),
        }
    }

    fn send_due(&mut self, device: &mut Device, now: Duration) {
        let mut sent = 0;
        while device.outbox.has_room()
            && let Some(intended) = self.due(now)
        {
            let index = usize::try_from(self.sent).unwrap_or(usize::MAX) % self.threads.len();
            let thread = &mut self.threads[index];
            let counter = thread.ledger.sent();
            let label = Label { run: thread.pair.run, pair: thread.pair.index, counter, intended };
            let Ok(send_id) = device.outbox.push(thread.to.clone(), label.to_content(self.wishes.size)) else { break };
            thread.ledger.send();
            self.sent += 1;
            self.unanswered.push_back(Unanswered { send_id, thread: index, counter, intended });
            sent += 1;
        }
        if sent > 0 {
            device.outbox.release(device.outbox.highest());
            let intended = self.unanswered.iter().rev().take(sent).map(|unanswered| unanswered.intended);
            self.meter.sent(self.number as usize, now, intended);
        }
    }

    /// Takes what was answered out of what is not.
    fn answered(&mut self, send_id: u64) -> Option<Unanswered> {
        let index = self.unanswered.binary_search_by_key(&send_id, |unanswered| unanswered.send_id).ok()?;
        self.unanswered.remove(index)
    }

    /// The server has it.
    pub(super) fn acked(&mut self, ack: &Ack) {
        let Some(Unanswered { thread, counter, intended, .. }) = self.answered(ack.send_id) else { return };
        let told = &mut self.threads[thread];
        told.ledger.ack(counter);
        told.to = send::To::Conversation(ack.conversation);
        if self.wishes.until == Until::Acked {
            self.done.push(intended);
        }
        let index = told.undelivered.partition_point(|(seq, _)| *seq < ack.seq);
        told.undelivered.insert(index, (ack.seq, intended));
        self.undelivered += 1;
        self.open += 1;
        // Receipts may have come first.
        self.close(thread);
    }

    /// The server will not have it.
    pub(super) fn refused(&mut self, send_id: u64) {
        if let Some(unanswered) = self.answered(send_id) {
            self.threads[unanswered.thread].ledger.refuse();
        }
    }

    /// A recipient has everything up to there.
    pub(super) fn delivered(&mut self, receipt: &Receipt) {
        let Some(index) = self.thread_of(receipt) else { return };
        let thread = &mut self.threads[index];
        thread.ledger.receipt(receipt.seq, thread.pair.said.confirmed_up_to());
        thread.delivered_up_to = thread.delivered_up_to.max(receipt.seq);
        self.close(index);
    }

    /// A recipient has read everything up to there.
    pub(super) fn read(&mut self, receipt: &Receipt) {
        let Some(index) = self.thread_of(receipt) else { return };
        let thread = &mut self.threads[index];
        thread.ledger.receipt(receipt.seq, thread.pair.said.read_up_to());
        thread.read_up_to = thread.read_up_to.max(receipt.seq);
        self.close(index);
    }

    fn thread_of(&mut self, receipt: &Receipt) -> Option<usize> {
        if self.threads.len() == 1 {
            return Some(0);
        }
        let index = self.by_name.get(&receipt.user).copied();
        if index.is_none() {
            self.threads[0].ledger.stray_receipt();
        }
        index
    }

    /// Closes what a thread's receipts speak for.
    fn close(&mut self, index: usize) {
        let thread = &mut self.threads[index];
        let delivered = thread.undelivered.partition_point(|(seq, _)| *seq <= thread.delivered_up_to);
        thread.ledger.deliver(delivered as u64);
        self.undelivered -= delivered;
        for (seq, intended) in thread.undelivered.drain(..delivered) {
            if self.wishes.until == Until::Delivered {
                self.done.push(intended);
            }
            if self.wishes.reads {
                thread.unread.push_back(seq);
            } else {
                self.open -= 1;
            }
        }
        let read = thread.unread.partition_point(|seq| *seq <= thread.read_up_to);
        thread.ledger.read(read as u64);
        thread.unread.drain(..read);
        self.open -= read;
    }

    /// Reports, and sends what is due; true when all is done.
    pub(super) fn act(&mut self, device: &mut Device, stage: Stage, now: Duration) -> bool {
        if !self.done.is_empty() {
            self.meter.done(self.number as usize, now, self.done.iter().copied());
            self.done.clear();
        }
        if stage == Stage::Run {
            self.send_due(device, now);
        }
        let over = stage >= Stage::Finish && self.unanswered.is_empty() && self.open == 0;
        if over && !self.finished {
            self.finished = true;
            self.meter.finish();
        }
        over
    }
}
