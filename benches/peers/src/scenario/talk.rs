//! Pairs that send: a closed loop, which shows what a server can do, and an open loop, which shows how long it takes
//! while it does less.

use std::sync::{Arc, OnceLock};
use std::thread;

use postrider::bench::control::{Bell, Stage};
use postrider::bench::process::Process;
use postrider::bench::report::{Report, microseconds_each, per_second};

use super::{Cast, DRAIN_PATIENCE, Fault, Field, SIZE};
use crate::crew::Crew;
use crate::link::Dialer;
use crate::pace::{Pace, Schedule, Until};
use crate::peer::Peer;
use crate::peer::running::Running;

impl Field {
    pub(super) async fn pairs(&self, peer: &'static Peer, pairs: u32, window: usize) -> Result<Report, Fault> {
        let cast = self.cast(peer, pairs, false);
        let (server, dialer) = self.start(peer, &cast.users()).await?;
        let (crew, _) = talkers(&cast, &dialer, &Pace::Window(window)).await?;
        crew.enter(Stage::Run);
        let report = Report { scenario: "pairs", window: Some(window), ..Report::default() };
        Ok(self.measure(crew, &cast, &server, report).await)
    }

    pub(super) async fn rate(&self, peer: &'static Peer, pairs: u32, rate: f64) -> Result<Report, Fault> {
        let cast = self.cast(peer, pairs, false);
        let (server, dialer) = self.start(peer, &cast.users()).await?;
        let schedule = Arc::new(OnceLock::new());
        let (crew, bells) = talkers(&cast, &dialer, &Pace::Schedule(Arc::clone(&schedule))).await?;
        let start = self.clock.elapsed();
        let times = *schedule.get_or_init(|| Schedule { start, rate, senders: pairs });
        let (steered, clock) = (crew.steer(), self.clock.clone());
        let pacer = thread::spawn(move || times.ring(&bells, &steered, &clock));
        crew.enter(Stage::Run);
        let report = Report { scenario: "rate", rate: Some(rate), ..Report::default() };
        let report = self.measure(crew, &cast, &server, report).await;
        // It ends with the run; that it panicked would show in the figures.
        drop(pacer.join());
        Ok(report)
    }

    async fn measure(&self, crew: Crew, cast: &Cast, server: &Running, mut report: Report) -> Report {
        tokio::time::sleep(self.measures.warmup).await;
        let from = self.sample(server, &cast.meter);
        cast.meter.open(from.at);
        tokio::time::sleep(self.measures.duration).await;
        let to = self.sample(server, &cast.meter);
        cast.meter.close(to.at);
        report.server_rss_bytes = Process::of(server.pid()).and_then(Process::rss);
        crew.enter(Stage::Finish);
        let home = crew.come_home(cast.pairs.len(), DRAIN_PATIENCE).await;

        let spent = to.since(from);
        report.pairs = u32::try_from(cast.pairs.len()).ok();
        report.connections = 2 * cast.pairs.len() as u64;
        report.size = Some(SIZE);
        report.duration_s = spent.at.as_secs_f64();
        report.messages = Some(spent.messages);
        report.messages_per_s = per_second(spent.messages, spent.at);
        report.server_cpu_us_per_message = microseconds_each(spent.server, spent.messages);
        report.generator_cpu_us_per_message = microseconds_each(spent.own, spent.messages);
        cast.audit(&home, self.clock.elapsed(), &mut report);
        report.latency_ms = cast.meter.latencies().percentiles();
        report
    }
}

/// Everybody connected, recipients first, and the senders' bells.
async fn talkers(cast: &Cast, dialer: &Arc<Dialer>, pace: &Pace) -> Result<(Crew, Vec<Arc<Bell>>), Fault> {
    let mut crew = Crew::new(dialer);
    crew.ramp(cast.recipients()).await?;
    let ramped = crew.ramp(cast.senders(pace, Until::Delivered, |_| u64::MAX)).await?;
    Ok((crew, ramped.bells))
}
