//! What every server is put through, each time a fresh one on an empty directory.
//!
//! # Layout
//! - `connect`: idle connections
//! - `talk`: pairs that send, in a closed or an open loop
//! - `away`: messages for those who are away, drained later, or after the server was killed

mod away;
mod connect;
mod talk;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postrider::bench::audit::{Audit, ReceivedLedger};
use postrider::bench::label::RunId;
use postrider::bench::process::Process;
use postrider::bench::report::Report;
use postrider::clock::Clock;

use crate::crew::{Home, Member, RampError};
use crate::link::Dialer;
use crate::pace::{Meter, Pace, Until};
use crate::part::{Pair, Part, Recipient, Sender};
use crate::peer::running::{Running, StartError};
use crate::peer::{Peer, Program};
use crate::wire::{Receipts, Role, Side};

/// Bytes of a message's content.
pub const SIZE: usize = 100;

/// How long what is on its way may take at the end.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// The longest a scenario may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scenario {
    /// Idle connections.
    Connect,
    /// A closed loop.
    Pairs {
        /// Senders, and as many recipients.
        pairs: u32,
        /// Messages each has in flight.
        window: usize,
    },
    /// An open loop.
    Rate {
        /// Senders, and as many recipients.
        pairs: u32,
        /// Messages a second, of all together.
        rate: f64,
    },
    /// Messages are stored for those who are away, then drained.
    Offline,
    /// Messages are acked to their senders, the server is killed and started again, and the recipients come.
    Kill,
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario::Connect,
    Scenario::Pairs { pairs: 200, window: 32 },
    Scenario::Pairs { pairs: 200, window: 8 },
    Scenario::Pairs { pairs: 1000, window: 8 },
    Scenario::Rate { pairs: 1000, rate: 2000.0 },
    Scenario::Offline,
    Scenario::Kill,
];

impl Scenario {
    /// Its name in the output.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Connect => "connect".into(),
            Self::Pairs { pairs, window } => format!("pairs {pairs}x{window}"),
            Self::Rate { pairs, rate } => format!("rate {pairs} pairs {rate}/s"),
            Self::Offline => "offline".into(),
            Self::Kill => "kill".into(),
        }
    }

    /// Why a server is not put through it, if it is not.
    #[must_use]
    pub fn skips(self, peer: &Peer) -> Option<String> {
        match self {
            Self::Connect => peer.connects_like.map(|other| format!("as {other}")),
            Self::Offline | Self::Kill if !peer.keeps() => Some("it keeps nothing for those who are away".into()),
            _ => None,
        }
    }
}

/// How much of everything.
#[derive(Clone, Debug)]
pub struct Measures {
    /// Not measured, at first.
    pub warmup: Duration,
    /// Measured; also how long messages are stored at most in `offline`.
    pub duration: Duration,
    /// Idle connections.
    pub connections: u32,
    /// Pairs in `offline` and `kill`.
    pub pairs_away: u32,
    /// Messages stored in `offline`, at most.
    pub stored: u64,
    /// Messages acked before the kill.
    pub killed: u64,
    /// How recipients answer.
    pub receipts: Receipts,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The server.
    #[error("{0}")]
    Start(#[from] StartError),
    /// The generator.
    #[error("cannot use its CA: {0}")]
    Ca(std::io::Error),
    /// A login.
    #[error("{0}")]
    Ramp(#[from] RampError),
    /// The process.
    #[error("cannot kill it: {0}")]
    Kill(std::io::Error),
    /// It hangs.
    #[error("not through after {} s", PATIENCE.as_secs())]
    Timeout,
}

/// Where the servers run, and how much they are given to do.
pub struct Field {
    /// Our own executable.
    pub postrider: PathBuf,
    /// Where their directories are made.
    pub place: PathBuf,
    /// The generator's time.
    pub clock: Clock,
    /// How much.
    pub measures: Measures,
}

impl Field {
    /// Puts a server through it.
    ///
    /// # Errors
    /// [`Fault`], when there is nothing to report. What the server did wrong is in the report.
    pub async fn run(&self, peer: &'static Peer, scenario: Scenario) -> Result<Report, Fault> {
        let running = async {
            match scenario {
                Scenario::Connect => self.connect(peer).await,
                Scenario::Pairs { pairs, window } => self.pairs(peer, pairs, window).await,
                Scenario::Rate { pairs, rate } => self.rate(peer, pairs, rate).await,
                Scenario::Offline => self.offline(peer).await,
                Scenario::Kill => self.kill(peer).await,
            }
        };
        let mut report = tokio::time::timeout(PATIENCE, running).await.map_err(|_| Fault::Timeout)??;
        report.judge(&[]);
        Ok(report)
    }

    /// A server for this run, and how to reach it.
    async fn start(&self, peer: &'static Peer, users: &[String]) -> Result<(Running, Arc<Dialer>), Fault> {
        let running = Running::start(peer, &self.postrider, &self.place, users, &self.clock).await?;
        let dialer = Arc::new(running.dialer(&self.clock).map_err(Fault::Ca)?);
        if peer.program == Program::JetStream {
            let mut crew = crate::crew::Crew::new(&dialer);
            crew.ramp([idle(peer, "setup".into())]).await?;
            crew.come_home(0, Duration::ZERO).await;
        }
        Ok((running, dialer))
    }

    fn cast(&self, peer: &'static Peer, pairs: u32, kept: bool) -> Cast {
        let run = RunId(u64::from_be_bytes(self.clock.random_bytes()));
        let meter: Arc<Meter> = Arc::default();
        let pair = |index| Pair { run, index, confirmed: Arc::default(), meter: Arc::clone(&meter) };
        let pairs = (0..pairs).map(pair).collect();
        let receipts = if kept { Receipts::None } else { self.measures.receipts };
        Cast { peer, run, pairs, receipts, kept, meter }
    }

    fn sample(&self, server: &Running, meter: &Meter) -> Sample {
        Sample {
            at: self.clock.elapsed(),
            server: Process::of(server.pid()).and_then(Process::cpu),
            own: Process::own().and_then(Process::cpu),
            messages: meter.messages(),
        }
    }
}

/// Who plays in a run.
struct Cast {
    peer: &'static Peer,
    run: RunId,
    pairs: Vec<Pair>,
    receipts: Receipts,
    kept: bool,
    meter: Arc<Meter>,
}

impl Cast {
    fn users(&self) -> Vec<String> {
        self.pairs.iter().flat_map(|pair| [user('s', pair.index), user('r', pair.index)]).collect()
    }

    fn side(&self, role: Role, index: u32) -> Side {
        let (own, other) = if role == Role::Sender { ('s', 'r') } else { ('r', 's') };
        Side { role, user: user(own, index), other: user(other, index), receipts: self.receipts, kept: self.kept }
    }

    /// The senders, with how many messages each is to send in all.
    fn senders(&self, pace: &Pace, until: Until, budget: impl Fn(u32) -> u64) -> Vec<Member> {
        let sender = |pair: &Pair| Member {
            wire: self.peer.wire(self.side(Role::Sender, pair.index)),
            part: Part::Sender(Box::new(Sender::new(pair.clone(), SIZE, pace.clone(), until, budget(pair.index)))),
        };
        self.pairs.iter().map(sender).collect()
    }

    fn recipients(&self) -> Vec<Member> {
        let recipient = |pair: &Pair| Member {
            wire: self.peer.wire(self.side(Role::Recipient, pair.index)),
            part: Part::Recipient(Box::new(Recipient::new(pair.clone()))),
        };
        self.pairs.iter().map(recipient).collect()
    }

    /// Sums up what came home.
    fn audit(&self, home: &Home, now: Duration, report: &mut Report) {
        let recipients = home.parts.iter().filter_map(|part| match part {
            Part::Recipient(recipient) => Some((recipient.index(), recipient.ledger())),
            _ => None,
        });
        let received: BTreeMap<u32, &ReceivedLedger> = recipients.collect();
        let mut audit = Audit { disconnected: home.broken.len() as u64, ..Audit::default() };
        for part in &home.parts {
            let Part::Sender(sender) = part else { continue };
            sender.give_up(now);
            let nothing = ReceivedLedger::new(self.run, sender.index());
            audit.add(sender.ledger(), received.get(&sender.index()).copied().unwrap_or(&nothing));
        }
        if self.kept {
            // Nobody asked for receipts.
            audit.unreceipted = 0;
        }
        report.audit = audit;
        if let Some(broken) = home.broken.first() {
            report.notes.push(format!("the first connection to end early: {broken}"));
        }
    }
}

fn user(role: char, index: u32) -> String {
    format!("{role}{index}")
}

fn idle(peer: &'static Peer, user: String) -> Member {
    let side = Side { role: Role::Idle, other: user.clone(), user, receipts: Receipts::None, kept: false };
    Member { wire: peer.wire(side), part: Part::Idle }
}

/// Clocks and counts at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Duration,
    server: Option<Duration>,
    own: Option<Duration>,
    messages: u64,
}

impl Sample {
    fn since(self, from: Self) -> Self {
        let difference = |to: Option<Duration>, from: Option<Duration>| Some(to?.saturating_sub(from?));
        Self {
            at: self.at.saturating_sub(from.at),
            server: difference(self.server, from.server),
            own: difference(self.own, from.own),
            messages: self.messages - from.messages,
        }
    }
}
