//! Idle connections: what making one costs the server, and what keeping it does.

use std::sync::Arc;
use std::time::Duration;

use super::Run;
use crate::bench::BenchError;
use crate::bench::control::Stage;
use crate::bench::crew::{Crew, Member};
use crate::bench::part::AnyPart;
use crate::bench::process::Process;
use crate::bench::report::{Report, microseconds_each, per_second, tenths};

/// Connections made first and not measured, so that what a server makes only once is there.
const FIRST: u32 = 64;

/// Nothing is read off before the server had this long to come to rest.
const SETTLE: Duration = Duration::from_millis(500);

/// How many connections, how fast, for how long.
#[derive(Clone, Debug)]
pub struct Connect {
    /// Connections held at once.
    pub connections: u32,
    /// Connects a second; `None` is as many as the server takes.
    pub rate: Option<f64>,
    /// How long all of them are held.
    pub hold: Duration,
    /// Resume TLS sessions, as far as there are tickets.
    pub resume: bool,
}

impl Run {
    /// Connects, holds, counts.
    ///
    /// # Errors
    /// When a connection cannot be made.
    pub async fn connect(&self, connect: &Connect) -> Result<Report, BenchError> {
        let mut crew = Crew::new(Arc::clone(&self.dialer));
        self.live.count("connecting", "connections", crew.up());
        let idle = |index| Member { user: self.user('c', index), part: AnyPart::Idle };
        let first = FIRST.min(connect.connections / 2);
        crew.ramp((0..first).map(idle).collect(), None).await?;
        tokio::time::sleep(SETTLE).await;

        let rss_before = self.server.and_then(Process::rss);
        let before = self.sample();
        let (ramped, _) = crew.ramp((first..connect.connections).map(idle).collect(), connect.rate).await?;
        let connected = self.sample();
        self.live.count("holding", "connections", crew.up());
        tokio::time::sleep(connect.hold.max(SETTLE)).await;
        let rss = self.server.and_then(Process::rss);
        crew.enter(Stage::Finish);
        let home = crew.come_home(0, Duration::ZERO).await;

        let made = u64::from(connect.connections - first);
        let grown = rss_before.zip(rss).map(|(before, after)| after.saturating_sub(before));
        let mut report = Report {
            scenario: "connect",
            rate: connect.rate,
            connections: connect.connections.into(),
            duration_s: ramped.took.as_secs_f64(),
            connects_per_s: per_second(made, ramped.took),
            connect_ms: ramped.latencies,
            resumed: Some(ramped.resumed),
            server_cpu_us_per_connect: microseconds_each(connected.server_cpu_since(before), made),
            server_rss_bytes: rss,
            rss_bytes_per_connection: grown.filter(|_| made > 0).map(|grown| tenths(grown as f64 / made as f64)),
            ..Report::default()
        };
        self.audit(&home, &mut report);
        Ok(report)
    }
}
