//! Pairs that send: a closed loop, which shows what the server can do, and an open loop, which shows how long it takes
//! while it does less. And one who sends to many.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Run;
use crate::bench::BenchError;
use crate::bench::control::{Bell, Stage};
use crate::bench::crew::{Crew, Home};
use crate::bench::findings::{Findings, Found, Mark};
use crate::bench::member::Member;
use crate::bench::meter::Phase;
use crate::bench::pacer::{Even, Schedule};
use crate::bench::part::{Actor, Pace, Pair, Sender, Until, Wishes};
use crate::bench::report::Report;

/// A closed loop.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pairs {
    /// Senders, and as many recipients.
    pub pairs: u32,
    /// Messages each has in flight.
    pub window: usize,
    /// Bytes of a message's content.
    pub size: usize,
    /// Not measured, at first.
    pub warmup: Duration,
    /// Measured.
    pub duration: Duration,
}

/// An open loop.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rate {
    /// Senders, and as many recipients.
    pub pairs: u32,
    /// Messages a second, of all together.
    pub rate: f64,
    /// Bytes of a message's content.
    pub size: usize,
    /// Not measured, at first.
    pub warmup: Duration,
    /// Measured.
    pub duration: Duration,
}

/// One to many, in a closed loop.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Fanout {
    /// Senders.
    pub senders: u32,
    /// Recipients of each; nobody is another's.
    pub recipients: u32,
    /// Messages each sender has in flight, over all its recipients.
    pub window: usize,
    /// Bytes of a message's content.
    pub size: usize,
    /// Not measured, at first.
    pub warmup: Duration,
    /// Measured.
    pub duration: Duration,
}

impl Pairs {
    pub(super) fn report(&self, found: &Found) -> Report {
        Report {
            pairs: Some(self.pairs),
            window: Some(self.window),
            size: Some(self.size),
            // In a closed loop a message is meant to be sent when there is room for it.
            generator_lag_ms: None,
            ..found.report_of_messages("pairs", 2 * u64::from(self.pairs))
        }
    }
}

impl Rate {
    pub(super) fn report(&self, found: &Found) -> Report {
        Report {
            pairs: Some(self.pairs),
            rate: Some(self.rate),
            size: Some(self.size),
            ..found.report_of_messages("rate", 2 * u64::from(self.pairs))
        }
    }
}

impl Fanout {
    pub(super) fn report(&self, found: &Found) -> Report {
        let Self { senders, recipients, window, size, .. } = *self;
        Report {
            senders: Some(senders),
            recipients: Some(recipients),
            window: Some(window),
            size: Some(size),
            generator_lag_ms: None,
            ..found.report_of_messages("fanout", u64::from(senders) * (1 + u64::from(recipients)))
        }
    }
}

impl Run {
    pub(super) async fn pairs(&self, pairs: &Pairs) -> Result<Findings, BenchError> {
        let Pairs { pairs, window, size, warmup, duration } = *pairs;
        let pace = Pace::Window(window);
        let wishes = Wishes { size, pace, until: Until::Delivered, reads: false, budget: u64::MAX };
        let crew = self.talkers(pairs, &wishes).await?.0;
        self.measure(crew, pairs, warmup, duration).await
    }

    pub(super) async fn rate(&self, rate: &Rate) -> Result<Findings, BenchError> {
        let Rate { pairs, rate, size, warmup, duration } = *rate;
        let schedule = Arc::new(OnceLock::new());
        let pace = Pace::Schedule(Arc::clone(&schedule));
        let wishes = Wishes { size, pace, until: Until::Delivered, reads: false, budget: u64::MAX };
        let (crew, bells) = self.talkers(pairs, &wishes).await?;
        let even = self.begin_evenly(&schedule, rate, pairs);
        let pacer = self.pace(&crew, bells, even.events());
        let findings = self.measure(crew, pairs, warmup, duration).await;
        // It ends with the run; that it panicked would show in the figures.
        drop(pacer.join());
        findings
    }

    pub(super) async fn fanout(&self, fanout: &Fanout) -> Result<Findings, BenchError> {
        let Fanout { senders, recipients, window, size, warmup, duration } = *fanout;
        let mut crew = self.crew();
        self.live.count("connecting", "connections", &self.up);
        let pairs = self.all_pairs(senders * recipients);
        crew.ramp(pairs.iter().map(|pair| self.recipient(pair, false)).collect()).await?;
        let pace = Pace::Window(window);
        let wishes = Wishes { size, pace, until: Until::Delivered, reads: false, budget: u64::MAX };
        let sender = |(number, own): (u32, &[Pair])| {
            let to = own.iter().map(|pair| (pair.clone(), self.user('r', pair.index))).collect();
            let sender = Sender::new(to, wishes.clone(), number, Arc::clone(&self.meter));
            Member::new(self.user('s', number), Actor::sending(sender))
        };
        crew.ramp((0..).zip(pairs.chunks(recipients as usize)).map(sender).collect()).await?;
        self.measure(crew, senders, warmup, duration).await
    }

    /// From now on at this rate.
    pub(super) fn begin_evenly(&self, schedule: &OnceLock<Schedule>, rate: f64, senders: u32) -> Even {
        let even = Even { start: self.clock.elapsed(), rate, senders };
        // Nobody else sets it.
        drop(schedule.set(Schedule::Even(even)));
        even
    }

    /// Everybody connected, recipients first, and the senders' bells.
    pub(super) async fn talkers(&self, pairs: u32, wishes: &Wishes) -> Result<(Crew, Vec<Arc<Bell>>), BenchError> {
        self.talkers_in(self.crew(), pairs, wishes).await
    }

    /// The same, of this crew.
    pub(super) async fn talkers_in(
        &self,
        mut crew: Crew,
        pairs: u32,
        wishes: &Wishes,
    ) -> Result<(Crew, Vec<Arc<Bell>>), BenchError> {
        self.live.count("connecting", "connections", &self.up);
        let all = self.all_pairs(pairs);
        crew.ramp(all.iter().map(|pair| self.recipient(pair, wishes.reads)).collect()).await?;
        let senders = crew.ramp(all.iter().map(|pair| self.sender(pair, wishes.clone())).collect()).await?;
        Ok((crew, senders.bells))
    }

    async fn measure(
        &self,
        crew: Crew,
        senders: u32,
        warmup: Duration,
        duration: Duration,
    ) -> Result<Findings, BenchError> {
        let mut findings = Findings::default();
        crew.enter(Stage::Run);
        self.live.messages("warming up", &self.meter);
        tokio::time::sleep(warmup).await;
        self.mark(Mark::Begin, &mut findings).await;
        self.live.messages("measuring", &self.meter);
        self.open(Phase::Main);
        tokio::time::sleep(duration).await;
        self.close(Phase::Main);
        self.mark(Mark::End, &mut findings).await;
        let home: Home = self.finish(crew, senders).await;
        self.audit(&home, &mut findings);
        Ok(findings)
    }
}
