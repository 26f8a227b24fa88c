//! Messages for those who are away: how fast they are stored, and how fast they come out when everybody is back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Run;
use crate::bench::control::Stage;
use crate::bench::crew::Crew;
use crate::bench::part::{Pace, Until};
use crate::bench::process::Process;
use crate::bench::report::{Report, microseconds_each, per_second};
use crate::bench::{BenchError, DRAIN_PATIENCE};

/// How often it is looked whether a phase is over.
const GLANCE: Duration = Duration::from_millis(1);

/// How many messages for how many.
#[derive(Clone, Debug)]
pub struct Offline {
    /// Senders, and as many recipients.
    pub pairs: u32,
    /// Messages each sender has in flight; done when acked.
    pub window: usize,
    /// Messages in all; at least one a pair.
    pub messages: u64,
    /// Bytes of a message's content.
    pub size: usize,
}

impl Run {
    /// Stores, then drains.
    ///
    /// # Errors
    /// When a connection cannot be made.
    pub async fn offline(&self, offline: &Offline) -> Result<Report, BenchError> {
        let Offline { pairs, window, messages, size } = *offline;
        let mut crew = Crew::new(Arc::clone(&self.dialer));
        self.live.count("connecting", "connections", crew.up());
        let (all, received) = (self.all_pairs(pairs), Arc::new(AtomicU64::new(0)));
        // What does not divide evenly goes to the first.
        let share =
            |index: u32| messages / u64::from(pairs) + u64::from(u64::from(index) < messages % u64::from(pairs));
        let sender = |pair| self.sender(pair, size, Pace::Window(window), Until::Acked, share(pair.index));
        crew.ramp(all.iter().map(sender).collect(), None).await?;

        self.live.messages("storing", &self.meter);
        let start = self.sample();
        self.meter.open(start.at);
        crew.enter(Stage::Run);
        self.until(messages, || self.meter.messages()).await;
        let stored = self.sample();
        self.meter.close(stored.at);

        self.live.count("draining", "messages", &received);
        crew.ramp(all.iter().map(|pair| self.recipient(pair, &received)).collect(), None).await?;
        self.until(messages, || received.load(Ordering::Relaxed)).await;
        let drained = self.sample();
        let rss = self.server.and_then(Process::rss);
        crew.enter(Stage::Finish);
        let home = crew.come_home(pairs as usize, DRAIN_PATIENCE).await;

        let (stored_count, drained_count) = (stored.messages, received.load(Ordering::Relaxed));
        let store_time = stored.at.saturating_sub(start.at);
        let drain_time = drained.at.saturating_sub(stored.at);
        let server_cpu = drained.server_cpu_since(start);
        let mut report = Report {
            scenario: "offline",
            pairs: Some(pairs),
            window: Some(window),
            connections: 2 * u64::from(pairs),
            size: Some(size),
            duration_s: (store_time + drain_time).as_secs_f64(),
            messages: Some(drained_count),
            messages_per_s: per_second(drained_count, store_time + drain_time),
            server_cpu_us_per_message: microseconds_each(server_cpu, drained_count),
            generator_cpu_us_per_message: microseconds_each(drained.own_cpu_since(start), drained_count),
            stored_per_s: per_second(stored_count, store_time),
            server_cpu_us_per_stored: microseconds_each(stored.server_cpu_since(start), stored_count),
            drained_per_s: per_second(drained_count, drain_time),
            server_cpu_us_per_drained: microseconds_each(drained.server_cpu_since(stored), drained_count),
            server_rss_bytes: rss,
            ..Report::default()
        };
        self.audit(&home, &mut report);
        report.latency_ms = self.meter.latencies();
        Ok(report)
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
