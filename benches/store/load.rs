//! Producers that wait for their acks. Each sends a message, waits until it is acked, and sends the next; its recipient
//! confirms, each confirmation a batch of its own as it comes from another connection.
//!
//! One thread hands everything over; acks come back to it on a list, which the store's thread writes.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use postrider::bench::meter::{Latencies, Percentiles};
use postrider::ids::{Position, UserId};
use postrider::store::{About, Answer, Caller, Committed, Completion, Outcome, Store, StoreError};

use crate::people::{Pair, received, wait};

/// When a recipient confirms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Each message at once.
    Prompt,
    /// Each message when so many newer ones are there.
    Behind(usize),
    /// Never.
    Away,
}

/// When a run ends.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    Time(Duration),
    Messages(u64),
}

/// How a run goes, told after each round of acks.
#[derive(Clone, Copy, Debug)]
pub enum Tick {
    /// So many messages are acked.
    Acked(u64),
    /// Nothing was acked for [`STALL`].
    Stalled(u64),
}

/// Nothing happening for this long is told.
pub const STALL: Duration = Duration::from_millis(500);

/// Pairs at work. A run may follow another.
pub struct Load {
    store: Arc<dyn Store>,
    pairs: Vec<Working>,
    acks: Arc<Acks>,
    /// Whether senders confirm the receipts that come to them.
    senders_confirm: bool,
}

struct Working {
    pair: Pair,
    manner: Manner,
    next: u64,
    /// When it sent its last message.
    asked: Instant,
    unconfirmed: VecDeque<Position>,
    /// The newest receipt that the sender's inbox got.
    receipt: Option<Position>,
}

/// What came of a run.
pub struct Run {
    pub acked: u64,
    pub took: Duration,
    pub latency: Percentiles,
}

/// What the store has told. Bounded: a pair has one message, and the confirmations of earlier ones, under way.
#[derive(Default)]
struct Acks {
    list: Mutex<Vec<Told>>,
    wake: Condvar,
}

enum Told {
    Acked {
        pair: usize,
        user: UserId,
        position: Position,
        at: Instant,
    },
    /// A receipt in the sender's inbox.
    Receipt {
        pair: usize,
        position: Position,
    },
    Failed(String),
}

/// What a batch was, beside its pair.
const MESSAGE: u64 = 0;
const CONFIRMATION: u64 = 1;
/// A confirmation whose receipt is confirmed in turn.
const CONFIRMATION_TOLD: u64 = 2;

impl Load {
    pub fn new(store: Arc<dyn Store>, pairs: Vec<Pair>, manner: impl Fn(usize) -> Manner) -> Self {
        let working = |(index, pair)| Working {
            pair,
            manner: manner(index),
            next: 1,
            asked: Instant::now(),
            unconfirmed: VecDeque::new(),
            receipt: None,
        };
        let pairs = pairs.into_iter().enumerate().map(working).collect();
        Self { store, pairs, acks: Arc::default(), senders_confirm: false }
    }

    /// Senders confirm the receipts they got, together with what they send next.
    pub fn senders_confirm(mut self) -> Self {
        self.senders_confirm = true;
        self
    }

    /// Runs, and returns when what was sent is acked.
    pub fn run(&mut self, until: Until, tick: &mut dyn FnMut(Tick)) -> Run {
        let latencies = Latencies::default();
        let started = Instant::now();
        let (mut sent, mut acked, mut told) = (0, 0, Vec::new());
        let goes_on = |sent: u64| match until {
            Until::Time(time) => started.elapsed() < time,
            Until::Messages(messages) => sent < messages,
        };
        for pair in 0..self.pairs.len() {
            if goes_on(sent) {
                self.send(pair);
                sent += 1;
            }
        }
        while acked < sent {
            if !self.acks.take(&mut told) {
                tick(Tick::Stalled(acked));
                continue;
            }
            let times = told.iter().filter_map(|told| match told {
                Told::Acked { pair, at, .. } => Some(at.duration_since(self.pairs[*pair].asked)),
                _ => None,
            });
            latencies.record(0, times);
            // One look at the clock for a round.
            let more = goes_on(sent);
            for told in told.drain(..) {
                match told {
                    Told::Acked { pair, user, position, .. } => {
                        assert_eq!(user, self.pairs[pair].pair.recipient.user, "an entry for the recipient");
                        acked += 1;
                        self.confirm(pair, position);
                        if more && goes_on_by_count(until, sent) {
                            self.send(pair);
                            sent += 1;
                        }
                    }
                    Told::Receipt { pair, position } => self.pairs[pair].receipt = Some(position),
                    Told::Failed(error) => panic!("the store failed: {error}"),
                }
            }
            tick(Tick::Acked(acked));
        }
        Run { acked, took: started.elapsed(), latency: latencies.percentiles().unwrap() }
    }

    fn send(&mut self, index: usize) {
        let Working { pair, next, asked, receipt, .. } = &mut self.pairs[index];
        let mut batch = vec![pair.send(*next)];
        if self.senders_confirm
            && let Some(position) = receipt.take()
        {
            batch.push(received(&pair.sender, position));
        }
        *next += 1;
        *asked = Instant::now();
        wait(self.store.commit(batch, self.acks.completion(index, MESSAGE)));
    }

    fn confirm(&mut self, index: usize, newest: Position) {
        let Working { pair, manner, unconfirmed, .. } = &mut self.pairs[index];
        let position = match manner {
            Manner::Prompt => Some(newest),
            Manner::Behind(messages) => {
                unconfirmed.push_back(newest);
                if unconfirmed.len() > *messages { unconfirmed.pop_front() } else { None }
            }
            Manner::Away => None,
        };
        let Some(position) = position else { return };
        let batch = vec![received(&pair.recipient, position)];
        let kind = if self.senders_confirm { CONFIRMATION_TOLD } else { CONFIRMATION };
        wait(self.store.commit(batch, self.acks.completion(index, kind)));
    }
}

fn goes_on_by_count(until: Until, sent: u64) -> bool {
    !matches!(until, Until::Messages(messages) if sent >= messages)
}

fn is_ack(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Answer(Answer::Ack { .. }))
}

impl Caller for Acks {
    fn completed(&self, [pair, kind]: About, result: Result<Committed, StoreError>) {
        let pair = pair as usize;
        let Committed { outcomes, published } = match result {
            Ok(committed) => committed,
            Err(error) => return self.tell(Told::Failed(error.to_string())),
        };
        // The one entry that a message makes, and the receipt, if a confirmation is news.
        let entry = published.first().map(|first| (first.user, first.entry.position));
        match (kind, entry) {
            (MESSAGE, Some((user, position))) if is_ack(&outcomes[0]) => {
                self.tell(Told::Acked { pair, user, position, at: Instant::now() });
            }
            (MESSAGE, _) => self.tell(Told::Failed(format!("no ack but {outcomes:?}"))),
            (CONFIRMATION_TOLD, Some((_, position))) => self.tell(Told::Receipt { pair, position }),
            _ => {}
        }
    }
}

impl Acks {
    fn completion(self: &Arc<Self>, pair: usize, kind: u64) -> Completion {
        Completion::of(Arc::<Self>::clone(self), [pair as u64, kind])
    }

    fn tell(&self, told: Told) {
        let mut list = self.list.lock().unwrap();
        list.push(told);
        // Whoever takes, takes all: it waits only for the first.
        if list.len() == 1 {
            self.wake.notify_one();
        }
    }

    /// Takes all there is, waiting for it; `false` when nothing comes for [`STALL`].
    fn take(&self, into: &mut Vec<Told>) -> bool {
        let list = self.list.lock().unwrap();
        let (mut list, _) = self.wake.wait_timeout_while(list, STALL, |list| list.is_empty()).unwrap();
        std::mem::swap(&mut *list, into);
        !into.is_empty()
    }
}
