//! Pairs that send: a closed loop, which shows what the server can do, and an open loop, which shows how long it takes
//! while it does less.

use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use super::Run;
use crate::bench::control::{Bell, Stage};
use crate::bench::crew::Crew;
use crate::bench::pacer::Schedule;
use crate::bench::part::{Pace, Until};
use crate::bench::process::Process;
use crate::bench::report::Report;
use crate::bench::{BenchError, DRAIN_PATIENCE};

/// A closed loop.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
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

impl Run {
    /// Sends as fast as receipts come.
    ///
    /// # Errors
    /// When a connection cannot be made.
    pub async fn pairs(&self, pairs: &Pairs) -> Result<Report, BenchError> {
        let Pairs { pairs, window, size, warmup, duration } = *pairs;
        let report = Report { scenario: "pairs", pairs: Some(pairs), window: Some(window), ..Report::default() };
        let crew = self.talkers(pairs, &Pace::Window(window), size).await?.0;
        crew.enter(Stage::Run);
        let mut report = self.measure(crew, pairs, size, (warmup, duration), report).await;
        // In a closed loop a message is meant to be sent when there is room for it.
        report.generator_lag_ms = None;
        Ok(report)
    }

    /// Sends on time.
    ///
    /// # Errors
    /// When a connection cannot be made.
    pub async fn rate(&self, rate: &Rate) -> Result<Report, BenchError> {
        let Rate { pairs, rate, size, warmup, duration } = *rate;
        let report = Report { scenario: "rate", pairs: Some(pairs), rate: Some(rate), ..Report::default() };
        let schedule = Arc::new(OnceLock::new());
        let (crew, bells) = self.talkers(pairs, &Pace::Schedule(Arc::clone(&schedule)), size).await?;
        let start = self.clock.elapsed();
        let times = *schedule.get_or_init(|| Schedule { start, rate, senders: pairs });
        let (steered, clock) = (crew.steer(), self.clock.clone());
        let pacer = thread::spawn(move || times.ring(&bells, &steered, &clock));
        crew.enter(Stage::Run);
        let report = self.measure(crew, pairs, size, (warmup, duration), report).await;
        // It ends with the run; that it panicked would show in the figures.
        drop(pacer.join());
        Ok(report)
    }

    /// Everybody connected, recipients first, and the senders' bells.
    async fn talkers(&self, pairs: u32, pace: &Pace, size: usize) -> Result<(Crew, Vec<Arc<Bell>>), BenchError> {
        let mut crew = Crew::new(Arc::clone(&self.dialer));
        self.live.count("connecting", "connections", crew.up());
        let (all, received) = (self.all_pairs(pairs), Arc::default());
        crew.ramp(all.iter().map(|pair| self.recipient(pair, &received)).collect(), None).await?;
        let sender = |pair| self.sender(pair, size, pace.clone(), Until::Delivered, u64::MAX);
        let (_, bells) = crew.ramp(all.iter().map(sender).collect(), None).await?;
        Ok((crew, bells))
    }

    async fn measure(
        &self,
        crew: Crew,
        pairs: u32,
        size: usize,
        (warmup, duration): (Duration, Duration),
        mut report: Report,
    ) -> Report {
        self.live.messages("warming up", &self.meter);
        tokio::time::sleep(warmup).await;
        self.live.messages("measuring", &self.meter);
        let from = self.sample();
        self.meter.open(from.at);
        tokio::time::sleep(duration).await;
        let to = self.sample();
        self.meter.close(to.at);
        report.server_rss_bytes = self.server.and_then(Process::rss);
        crew.enter(Stage::Finish);
        self.live.messages("finishing", &self.meter);
        let home = crew.come_home(pairs as usize, DRAIN_PATIENCE).await;

        report.connections = 2 * u64::from(pairs);
        report.size = Some(size);
        to.put_since(from, &mut report);
        self.audit(&home, &mut report);
        report.latency_ms = self.meter.latencies();
        report.generator_lag_ms = self.meter.lags();
        report
    }
}
