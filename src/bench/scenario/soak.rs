//! The open loop for long, with recipients that read: what changes with time, although nothing else does.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Run;
use crate::bench::BenchError;
use crate::bench::control::Stage;
use crate::bench::findings::{Findings, Found, Mark};
use crate::bench::meter::Phase;
use crate::bench::part::{Pace, Until, Wishes};
use crate::bench::report::Report;

/// How much of it the beginning and the end are.
const EDGE: u32 = 10;

/// How fast, for how long.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Soak {
    /// Senders, and as many recipients.
    pub pairs: u32,
    /// Messages a second, of all together.
    pub rate: f64,
    /// Bytes of a message's content.
    pub size: usize,
    /// How long.
    pub duration: Duration,
}

impl Soak {
    pub(super) fn report(&self, found: &Found) -> Report {
        Report {
            pairs: Some(self.pairs),
            rate: Some(self.rate),
            size: Some(self.size),
            first_latency_ms: found.latencies(Phase::First),
            last_latency_ms: found.latencies(Phase::Second),
            ..found.report_of_messages("soak", 2 * u64::from(self.pairs))
        }
    }
}

impl Run {
    pub(super) async fn soak(&self, soak: &Soak) -> Result<Findings, BenchError> {
        let Soak { pairs, rate, size, duration } = *soak;
        let schedule = Arc::new(OnceLock::new());
        let pace = Pace::Schedule(Arc::clone(&schedule));
        let wishes = Wishes { size, pace, until: Until::Delivered, reads: true, budget: u64::MAX };
        let (crew, bells) = self.talkers(pairs, &wishes).await?;
        let mut findings = Findings::default();
        self.mark(Mark::Begin, &mut findings).await;
        let even = self.begin_evenly(&schedule, rate, pairs);
        let pacer = self.pace(&crew, bells, even.events());
        crew.enter(Stage::Run);
        self.live.messages("soaking", &self.meter);
        self.open(Phase::Main);
        self.open(Phase::First);
        tokio::time::sleep(duration / EDGE).await;
        self.close(Phase::First);
        tokio::time::sleep(duration - duration / EDGE * 2).await;
        self.open(Phase::Second);
        tokio::time::sleep(duration / EDGE).await;
        self.close(Phase::Second);
        self.close(Phase::Main);
        self.mark(Mark::End, &mut findings).await;
        let home = self.finish(crew, pairs).await;
        drop(pacer.join());
        self.audit(&home, &mut findings);
        Ok(findings)
    }
}
