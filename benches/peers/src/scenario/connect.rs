//! Idle connections: what making one costs the server, and what keeping it does.

use std::time::Duration;

use postrider::bench::control::Stage;
use postrider::bench::process::Process;
use postrider::bench::report::{Report, microseconds_each, per_second, tenths};

use super::{Fault, Field, idle, user};
use crate::crew::Crew;
use crate::pace::Meter;
use crate::peer::{Peer, Program};

/// Connections made first and not measured, so that what a server makes only once is there.
const FIRST: u32 = 64;

/// Nothing is read off before the server had this long to come to rest.
const SETTLE: Duration = Duration::from_secs(2);

impl Field {
    pub(super) async fn connect(&self, peer: &'static Peer) -> Result<Report, Fault> {
        let connections = self.measures.connections;
        let users: Vec<String> = (0..connections).map(|index| user('c', index)).collect();
        let (mut server, dialer) = self.start(peer, &users).await?;
        let members = |from: u32, to: u32| (from..to).map(|index| idle(peer, user('c', index)));
        if peer.program == Program::Postrider {
            // Where a first login makes the user, it is not what is measured: the users of the others are there already.
            let mut crew = Crew::new(&dialer);
            crew.ramp(members(0, connections)).await?;
            crew.come_home(0, Duration::ZERO).await;
            server.kill().map_err(Fault::Kill)?;
            server.start_again(&self.clock).await?;
        }
        let mut crew = Crew::new(&dialer);
        let first = FIRST.min(connections / 2);
        crew.ramp(members(0, first)).await?;
        tokio::time::sleep(SETTLE).await;

        let process = Process::of(server.pid());
        let rss_before = process.and_then(Process::rss);
        let before = self.sample(&server, &Meter::default());
        let ramped = crew.ramp(members(first, connections)).await?;
        let cpu = self.sample(&server, &Meter::default()).since(before).server;
        tokio::time::sleep(SETTLE).await;
        let rss = process.and_then(Process::rss);
        crew.enter(Stage::Finish);
        let home = crew.come_home(0, Duration::ZERO).await;

        let made = u64::from(connections - first);
        let grown = rss_before.zip(rss).map(|(before, after)| after.saturating_sub(before));
        let mut report = Report {
            scenario: "connect",
            connections: connections.into(),
            duration_s: ramped.took.as_secs_f64(),
            connects_per_s: per_second(made, ramped.took),
            connect_ms: ramped.latencies,
            server_cpu_us_per_connect: microseconds_each(cpu, made),
            server_rss_bytes: rss,
            rss_bytes_per_connection: grown.map(|grown| tenths(grown as f64 / made as f64)),
            ..Report::default()
        };
        report.audit.disconnected = home.broken.len() as u64;
        Ok(report)
    }
}
