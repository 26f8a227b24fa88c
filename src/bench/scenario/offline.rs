//! Messages for those who are away: how fast they are stored, and how fast they come out when everybody is back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Run;
use crate::bench::control::Stage;
use crate::bench::findings::{Findings, Found, Mark};
use crate::bench::meter::Phase;
use crate::bench::part::{Pace, Until, Wishes};
use crate::bench::report::{Report, microseconds_each, per_second};
use crate::bench::{BenchError, DRAIN_PATIENCE};

/// How often it is looked whether a phase is over.
const GLANCE: Duration = Duration::from_millis(1);

/// How many messages for how many.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Offline {
    /// Senders, and as many recipients.
    pub pairs: u32,
    /// Messages each sender has in flight; done when acked.
    pub window: usize,
    /// Messages in all; at least one a pair.
    pub messages: u64,
    /// Bytes of a message's content.
    pub size: usize,
    /// The recipients stay away: what is stored stays.
    pub leave: bool,
}

impl Offline {
    pub(super) fn report(&self, found: &Found) -> Report {
        let (storing, draining) = (found.between(Mark::Begin, Mark::First), found.between(Mark::First, Mark::End));
        let (stored, drained) = (storing.messages, draining.received);
        let of_messages = found.report_of_messages("offline", 2 * u64::from(self.pairs));
        let there = |figure: Option<f64>| figure.filter(|_| !self.leave);
        Report {
            pairs: Some(self.pairs),
            window: Some(self.window),
            size: Some(self.size),
            stored_per_s: per_second(stored, storing.took),
            server_cpu_us_per_stored: microseconds_each(storing.server_cpu, stored),
            drained_per_s: there(per_second(drained, draining.took)),
            server_cpu_us_per_drained: there(microseconds_each(draining.server_cpu, drained)),
            generator_lag_ms: None,
            ..of_messages
        }
    }
}

impl Run {
    pub(super) async fn offline(&self, offline: &Offline) -> Result<Findings, BenchError> {
        let Offline { pairs, window, messages, size, leave } = *offline;
        let (mut crew, mut findings) = (self.crew(), Findings::default());
        self.live.count("connecting", "connections", &self.up);
        let all = self.all_pairs(pairs);
        // What does not divide evenly goes to the first.
        let share =
            |index: u32| messages / u64::from(pairs) + u64::from(u64::from(index) < messages % u64::from(pairs));
        let wishes = |budget| Wishes { size, pace: Pace::Window(window), until: Until::Acked, reads: false, budget };
        crew.ramp(all.iter().map(|pair| self.sender(pair, wishes(share(pair.index)))).collect()).await?;

        self.mark(Mark::Begin, &mut findings).await;
        self.live.messages("storing", &self.meter);
        self.open(Phase::Main);
        crew.enter(Stage::Run);
        self.until(messages, || self.meter.messages()).await;
        self.close(Phase::Main);
        self.mark(Mark::First, &mut findings).await;

        if leave {
            self.mark(Mark::End, &mut findings).await;
            let home = crew.drop_all().await;
            self.audit(&home, &mut findings);
            // Nobody was there to receive anything.
            (findings.audit.lost, findings.audit.unreceipted) = (0, 0);
            return Ok(findings);
        }
        self.live.count("draining", "connections", &self.up);
        crew.ramp(all.iter().map(|pair| self.recipient(pair, false)).collect()).await?;
        self.until(messages, || self.meter.received()).await;
        self.mark(Mark::End, &mut findings).await;
        let home = self.finish(crew, pairs).await;
        self.audit(&home, &mut findings);
        Ok(findings)
    }

    /// Waits until there are so many, or no more have come for a while: the audit tells what is missing.
    async fn until(&self, messages: u64, count: impl Fn() -> u64) {
        let mut last = (count(), self.clock.elapsed());
        while last.0 < messages {
            tokio::time::sleep(GLANCE).await;
            let (now, at) = (count(), self.clock.elapsed());
            if now > last.0 {
                last = (now, at);
            } else if at.saturating_sub(last.1) > DRAIN_PATIENCE {
                return;
            }
        }
    }
}
