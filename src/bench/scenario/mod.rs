//! What a run does.
//!
//! # Layout
//! - `connect`: idle connections
//! - `talk`: pairs that send, in a closed or an open loop
//! - `offline`: store for those who are away, then drain

mod connect;
mod offline;
mod talk;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::audit::{Audit, ReceivedLedger};
use super::crew::{Home, Member};
use super::dial::Dialer;
use super::label::RunId;
use super::live::Live;
use super::meter::Meter;
use super::part::{AnyPart, Pace, Pair, Recipient, Sender, Until};
use super::process::Process;
use super::report::{Report, microseconds_each, per_second};
use crate::clock::Clock;

pub use connect::Connect;
pub use offline::Offline;
pub use talk::{Pairs, Rate};

/// What to do, with its measures.
#[derive(Clone, Debug)]
pub enum Scenario {
    /// Idle connections.
    Connect(Connect),
    /// A closed loop.
    Pairs(Pairs),
    /// An open loop.
    Rate(Rate),
    /// Store, then drain.
    Offline(Offline),
}

impl Scenario {
    /// Connections it holds at once.
    #[must_use]
    pub fn connections(&self) -> u64 {
        match self {
            Self::Connect(connect) => connect.connections.into(),
            Self::Pairs(Pairs { pairs, .. })
            | Self::Rate(Rate { pairs, .. })
            | Self::Offline(Offline { pairs, .. }) => 2 * u64::from(*pairs),
        }
    }
}

/// What the scenarios work with.
pub struct Run {
    id: RunId,
    dialer: Arc<Dialer>,
    clock: Clock,
    live: Arc<Live>,
    meter: Arc<Meter>,
    server: Option<Process>,
    own: Option<Process>,
}

/// Clocks and counts at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    server: Option<Duration>,
    own: Option<Duration>,
    messages: u64,
}

impl Run {
    /// Under an id that no other run has, against a server that is that process, if it is known.
    #[must_use]
    pub fn new(dialer: Arc<Dialer>, clock: Clock, live: Arc<Live>, server: Option<Process>) -> Self {
        let id = RunId(u64::from_be_bytes(clock.random_bytes()));
        Self { id, dialer, clock, live, meter: Arc::default(), server, own: Process::own() }
    }

    fn sample(&self) -> Sample {
        Sample {
            at: self.clock.elapsed(),
            server: self.server.and_then(Process::cpu),
            own: self.own.and_then(Process::cpu),
            messages: self.meter.messages(),
        }
    }

    fn all_pairs(&self, pairs: u32) -> Vec<Pair> {
        let pair = |index| Pair { run: self.id, index, confirmed: Arc::default(), meter: Arc::clone(&self.meter) };
        (0..pairs).map(pair).collect()
    }

    /// A name that no other run has used.
    fn user(&self, role: char, index: u32) -> String {
        format!("bench-{:016x}-{role}{index}", self.id.0)
    }

    /// The sender of a pair. It sends `budget` messages in all.
    fn sender(&self, pair: &Pair, size: usize, pace: Pace, until: Until, budget: u64) -> Member {
        let sender = Sender::new(pair.clone(), self.user('r', pair.index), size, pace, until, budget);
        Member { user: self.user('s', pair.index), part: AnyPart::Sender(Box::new(sender)) }
    }

    /// The recipient of a pair. It counts what it receives in `received`, too.
    fn recipient(&self, pair: &Pair, received: &Arc<AtomicU64>) -> Member {
        let recipient = Recipient::new(pair.clone(), Arc::clone(received));
        Member { user: self.user('r', pair.index), part: AnyPart::Recipient(Box::new(recipient)) }
    }

    /// Sums up what came home.
    fn audit(&self, home: &Home, report: &mut Report) {
        let now = self.clock.elapsed();
        let recipients = home.parts.iter().filter_map(|part| match part {
            AnyPart::Recipient(recipient) => Some((recipient.index(), recipient.ledger())),
            _ => None,
        });
        let received: BTreeMap<u32, &ReceivedLedger> = recipients.collect();
        let mut audit = Audit { disconnected: home.broken.len() as u64, ..Audit::default() };
        for part in &home.parts {
            let AnyPart::Sender(sender) = part else { continue };
            sender.give_up(now);
            let nothing = ReceivedLedger::new(self.id, sender.index());
            audit.add(sender.ledger(), received.get(&sender.index()).copied().unwrap_or(&nothing));
        }
        report.audit = audit;
        if let Some(broken) = home.broken.first() {
            report.notes.push(format!("the first connection to end early: {broken}"));
        }
    }
}

impl Sample {
    /// From an earlier sample to this one: what the report says of the interval between.
    fn put_since(self, from: Self, report: &mut Report) {
        let messages = self.messages - from.messages;
        let took = self.at.saturating_sub(from.at);
        report.duration_s = took.as_secs_f64();
        report.messages = Some(messages);
        report.messages_per_s = per_second(messages, took);
        report.server_cpu_us_per_message = microseconds_each(self.server_cpu_since(from), messages);
        report.generator_cpu_us_per_message = microseconds_each(self.own_cpu_since(from), messages);
    }

    fn server_cpu_since(self, from: Self) -> Option<Duration> {
        Some(self.server?.saturating_sub(from.server?))
    }

    fn own_cpu_since(self, from: Self) -> Option<Duration> {
        Some(self.own?.saturating_sub(from.own?))
    }
}
