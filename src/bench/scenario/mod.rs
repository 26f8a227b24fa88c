//! What a run does.
//!
//! # Layout
//! - `connect`: idle connections
//! - `talk`: pairs that send, in a closed or an open loop, and one to many
//! - `soak`: the open loop for long
//! - `offline`: store for those who are away, then drain
//! - `reconnect`: everybody drops and comes back
//! - `mixed`: a day of a big service in small
//!
//! Each has its part in a generator process (`Run::…`), and makes the report from what all of them found.

mod connect;
mod mixed;
mod offline;
mod reconnect;
mod soak;
mod talk;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::audit::{Audit, ReceivedLedger};
use super::control::{Bell, Stage};
use super::crew::{Crew, Home, Manner};
use super::dial::Dialer;
use super::findings::{Counted, Findings, Found, Mark};
use super::gate::Gate;
use super::label::RunId;
use super::live::Live;
use super::member::Member;
use super::meter::{Meter, Phase};
use super::pacer;
use super::part::{Actor, Pair, Recipient, Sender, Wishes};
use super::process::Process;
use super::report::Report;
use super::{BenchError, Target};
use crate::clock::Clock;

pub use connect::Connect;
pub use mixed::Mixed;
pub use offline::Offline;
pub use reconnect::Reconnect;
pub use soak::Soak;
pub use talk::{Fanout, Pairs, Rate};

/// What to do, with its measures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Scenario {
    /// Idle connections.
    Connect(Connect),
    /// A closed loop.
    Pairs(Pairs),
    /// An open loop.
    Rate(Rate),
    /// Store, then drain.
    Offline(Offline),
    /// One to many.
    Fanout(Fanout),
    /// Storms of reconnects.
    Reconnect(Reconnect),
    /// A day in small.
    Mixed(Mixed),
    /// An open loop for long.
    Soak(Soak),
}

/// What one generator process is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Share {
    /// An id that no other run has, and no other share of this one.
    pub run: RunId,
    /// Its part of the work.
    pub scenario: Scenario,
    /// Where to.
    pub target: Target,
    /// From which addresses, in turn; none leaves it to the system.
    pub sources: Vec<Ipv4Addr>,
    /// How its members come up.
    pub manner: Manner,
}

impl Scenario {
    /// Connections it holds at once.
    #[must_use]
    pub fn connections(&self) -> u64 {
        match self {
            Self::Connect(connect) => connect.connections.into(),
            Self::Pairs(Pairs { pairs, .. })
            | Self::Rate(Rate { pairs, .. })
            | Self::Soak(Soak { pairs, .. })
            | Self::Offline(Offline { pairs, .. }) => 2 * u64::from(*pairs),
            Self::Fanout(fanout) => u64::from(fanout.senders) * (1 + u64::from(fanout.recipients)),
            Self::Reconnect(storm) => u64::from(storm.connections) + 2 * u64::from(storm.bystanders),
            Self::Mixed(mixed) => mixed.users.into(),
        }
    }

    /// Into how many processes it can be divided at most.
    #[must_use]
    pub fn divisible_by(&self) -> u32 {
        match self {
            Self::Connect(connect) => connect.connections,
            Self::Pairs(Pairs { pairs, .. }) | Self::Rate(Rate { pairs, .. }) | Self::Soak(Soak { pairs, .. }) => {
                *pairs
            }
            Self::Offline(offline) => u32::try_from(offline.messages).unwrap_or(u32::MAX).min(offline.pairs),
            Self::Fanout(fanout) => fanout.senders,
            Self::Reconnect(storm) => storm.bystanders.max(1).min(storm.connections / 2).max(1),
            Self::Mixed(mixed) => (mixed.users / (mixed.contacts + 1)).max(1),
        }
    }

    /// The `index`th of so many parts.
    #[must_use]
    pub fn part(&self, index: u32, of: u32) -> Self {
        let part = |whole: u32| whole / of + u32::from(index < whole % of);
        let long = |whole: u64| whole / u64::from(of) + u64::from(u64::from(index) < whole % u64::from(of));
        // The rate goes with the pairs, so that each has the same.
        let rate = |rate: f64, pairs: u32| rate * f64::from(part(pairs)) / f64::from(pairs.max(1));
        match self.clone() {
            Self::Connect(c) => Self::Connect(Connect { connections: part(c.connections), users: part(c.users), ..c }),
            Self::Pairs(p) => Self::Pairs(Pairs { pairs: part(p.pairs), ..p }),
            Self::Rate(r) => Self::Rate(Rate { pairs: part(r.pairs), rate: rate(r.rate, r.pairs), ..r }),
            Self::Soak(s) => Self::Soak(Soak { pairs: part(s.pairs), rate: rate(s.rate, s.pairs), ..s }),
            Self::Offline(o) => Self::Offline(Offline { pairs: part(o.pairs), messages: long(o.messages), ..o }),
            Self::Fanout(f) => Self::Fanout(Fanout { senders: part(f.senders), ..f }),
            Self::Reconnect(r) => Self::Reconnect(Reconnect {
                // Pairs stay together.
                connections: 2 * part(r.connections / 2),
                bystanders: part(r.bystanders),
                rate: rate(r.rate, r.bystanders),
                ..r
            }),
            Self::Mixed(m) => Self::Mixed(Mixed { users: part(m.users), ..m }),
        }
    }

    /// Whether everybody comes at once, unless the run is told how many may.
    #[must_use]
    pub fn is_a_storm(&self) -> bool {
        matches!(self, Self::Reconnect(_))
    }

    /// What is told of it.
    #[must_use]
    pub fn report(&self, found: &Found) -> Report {
        match self {
            Self::Connect(connect) => connect.report(found),
            Self::Pairs(pairs) => pairs.report(found),
            Self::Rate(rate) => rate.report(found),
            Self::Offline(offline) => offline.report(found),
            Self::Fanout(fanout) => fanout.report(found),
            Self::Reconnect(storm) => storm.report(found),
            Self::Mixed(mixed) => mixed.report(found),
            Self::Soak(soak) => soak.report(found),
        }
    }
}

/// One generator process at work: what the scenarios work with.
pub struct Run {
    id: RunId,
    dialer: Arc<Dialer>,
    clock: Clock,
    live: Arc<Live>,
    meter: Arc<Meter>,
    manner: Manner,
    gate: Gate,
    up: Arc<AtomicU64>,
    own: Option<Process>,
}

impl Run {
    /// Does a share of a run.
    ///
    /// # Errors
    /// When a connection cannot be made.
    pub async fn play(share: Share, gate: Gate, clock: Clock, live: Arc<Live>) -> Result<Findings, BenchError> {
        let Share { run: id, scenario, target, sources, manner } = share;
        let dialer = Arc::new(Dialer::new(&target, sources, clock.clone()).await?);
        let (meter, up, own) = (Arc::default(), Arc::default(), Process::own());
        let run = Self { id, dialer, clock, live, meter, manner, gate, up, own };
        let mut findings = match &scenario {
            Scenario::Connect(connect) => run.connect(connect).await?,
            Scenario::Pairs(pairs) => run.pairs(pairs).await?,
            Scenario::Rate(rate) => run.rate(rate).await?,
            Scenario::Offline(offline) => run.offline(offline).await?,
            Scenario::Fanout(fanout) => run.fanout(fanout).await?,
            Scenario::Reconnect(storm) => run.reconnect(storm).await?,
            Scenario::Mixed(mixed) => run.mixed(mixed).await?,
            Scenario::Soak(soak) => run.soak(soak).await?,
        };
        findings.read(&run.meter);
        Ok(findings)
    }

    /// Passes a mark together with the run's other processes.
    async fn mark(&self, mark: Mark, findings: &mut Findings) {
        self.gate.pass(mark).await;
        let counted = Counted {
            messages: self.meter.messages(),
            received: self.meter.received(),
            cpu: self.own.and_then(Process::cpu),
        };
        findings.counted.insert(mark, counted);
    }

    fn open(&self, phase: Phase) {
        self.meter.open(phase, self.clock.elapsed());
    }

    fn close(&self, phase: Phase) {
        self.meter.close(phase, self.clock.elapsed());
    }

    /// A crew whose members come up as the run says.
    fn crew(&self) -> Crew {
        self.crew_in(self.manner)
    }

    fn crew_in(&self, manner: Manner) -> Crew {
        Crew::new(Arc::clone(&self.dialer), Arc::clone(&self.meter), manner, Arc::clone(&self.up))
    }

    fn all_pairs(&self, pairs: u32) -> Vec<Pair> {
        (0..pairs).map(|index| Pair::new(self.id, index)).collect()
    }

    /// A name that no other run has used.
    fn user(&self, role: char, index: u32) -> String {
        format!("bench-{:016x}-{role}{index}", self.id.0)
    }

    /// The sender of a pair.
    fn sender(&self, pair: &Pair, wishes: Wishes) -> Member {
        let to = vec![(pair.clone(), self.user('r', pair.index))];
        let sender = Sender::new(to, wishes, pair.index, Arc::clone(&self.meter));
        Member::new(self.user('s', pair.index), Actor::sending(sender))
    }

    /// The recipient of a pair.
    fn recipient(&self, pair: &Pair, reads: bool) -> Member {
        let recipient = Recipient::new(vec![pair.clone()], reads, Arc::clone(&self.meter));
        Member::new(self.user('r', pair.index), Actor::receiving(recipient))
    }

    /// Rings the crew's bells at their events, until it finishes.
    fn pace<E>(&self, crew: &Crew, bells: Vec<Arc<Bell>>, events: E) -> JoinHandle<()>
    where
        E: Iterator<Item = (Duration, usize)> + Send + 'static,
    {
        let (steered, clock) = (crew.steer(), self.clock.clone());
        std::thread::spawn(move || pacer::ring(events, &bells, &steered, &clock))
    }

    /// Lets what is under way come to its end, and everybody come home.
    async fn finish(&self, crew: Crew, senders: u32) -> Home {
        crew.enter(Stage::Finish);
        self.live.messages("finishing", &self.meter);
        crew.come_home(senders.into(), super::DRAIN_PATIENCE).await
    }

    /// Sums up what came home.
    fn audit(&self, home: &Home, findings: &mut Findings) {
        let now = self.clock.elapsed();
        let actors = || home.members.iter().map(|member| &member.actor);
        let received = actors().filter_map(|actor| actor.recipient.as_ref()).flat_map(|taken| taken.ledgers());
        let mut received: BTreeMap<u32, &ReceivedLedger> = received.map(|ledger| (ledger.pair(), ledger)).collect();
        let mut audit = Audit { disconnected: home.broken.len() as u64, ..Audit::default() };
        audit.misdelivered = actors().map(|actor| actor.stray).sum();
        for sender in actors().filter_map(|actor| actor.sender.as_ref()) {
            findings.unsent += sender.give_up(now);
            for (pair, sent) in sender.ledgers() {
                let nothing = ReceivedLedger::new(self.id, pair.index);
                audit.add(sent, received.remove(&pair.index).unwrap_or(&nothing));
            }
        }
        // A recipient whose sender did not come home: what is wrong with it shows all the same.
        received.values().for_each(|ledger| audit.merge(&Audit::of_received(ledger)));
        findings.audit = audit;
        if let Some(broken) = home.broken.first() {
            findings.notes.push(format!("the first connection to end early: {broken}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_scenario_make_the_whole() {
        let rate = Rate { pairs: 10, rate: 100.0, size: 100, warmup: Duration::ZERO, duration: Duration::ZERO };
        let parts: Vec<_> = (0..3).map(|index| Scenario::Rate(rate.clone()).part(index, 3)).collect();
        assert_eq!(parts.iter().map(Scenario::connections).collect::<Vec<_>>(), [8, 6, 6]);
        let rates = parts.iter().map(|part| match part {
            Scenario::Rate(rate) => rate.rate,
            _ => 0.0,
        });
        assert!((rates.sum::<f64>() - 100.0).abs() < 1e-9);
        let offline = Scenario::Offline(Offline { pairs: 3, window: 1, messages: 10, size: 28, leave: false });
        let messages = (0..2).map(|index| match offline.part(index, 2) {
            Scenario::Offline(offline) => (offline.pairs, offline.messages),
            _ => (0, 0),
        });
        assert_eq!(messages.collect::<Vec<_>>(), [(2, 5), (1, 5)]);
    }
}
