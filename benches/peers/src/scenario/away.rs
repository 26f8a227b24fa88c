//! Messages for those who are away: how fast they are stored, how fast they come out, and how many of those that were
//! acked are left when the server is killed in between.

use std::sync::Arc;
use std::time::Duration;

use postrider::bench::control::Stage;
use postrider::bench::report::{Report, microseconds_each, per_second};

use super::{Cast, Fault, Field, SIZE, Sample};
use crate::crew::{Crew, Home};
use crate::link::Dialer;
use crate::pace::{Pace, Until};
use crate::peer::Peer;
use crate::peer::running::Running;

/// Messages each sender has in flight; done when acked.
const WINDOW: usize = 32;

/// A server that has delivered nothing for so long has nothing more to deliver.
const QUIET: Duration = Duration::from_secs(10);

/// The longest it may take until so many are acked that the server is killed.
const KILL_PATIENCE: Duration = Duration::from_secs(90);

/// How often it is looked whether a phase is over.
const GLANCE: Duration = Duration::from_millis(1);

/// How long what is on its way may take at the end of storing.
const STORE_PATIENCE: Duration = Duration::from_secs(30);

/// What was stored.
struct Stored {
    /// The senders, who have nothing to do any more.
    home: Home,
    /// What it took.
    spent: Sample,
    /// Everything that was acked.
    acked: u64,
}

impl Field {
    pub(super) async fn offline(&self, peer: &'static Peer) -> Result<Report, Fault> {
        let cast = self.cast(peer, self.measures.pairs_away, true);
        let (server, dialer) = self.start(peer, &cast.users()).await?;
        let stored = self.store(&cast, &server, &dialer, self.measures.stored, self.measures.duration).await?;
        let before = self.sample(&server, &cast.meter);
        let (home, drained) = self.drain(&cast, &server, &dialer, stored.acked).await?;

        let (stored_in, drained_in) = (stored.spent, drained.since(before));
        let drained_count = cast.meter.received();
        let mut report = Report {
            scenario: "offline",
            duration_s: (stored_in.at + drained_in.at).as_secs_f64(),
            messages: Some(drained_count),
            stored_per_s: per_second(stored_in.messages, stored_in.at),
            server_cpu_us_per_stored: microseconds_each(stored_in.server, stored_in.messages),
            drained_per_s: per_second(drained_count, drained_in.at),
            server_cpu_us_per_drained: microseconds_each(drained_in.server, drained_count),
            ..self.report(&cast)
        };
        cast.audit(&stored.home.and(home), self.clock.elapsed(), &mut report);
        report.latency_ms = cast.meter.latencies().percentiles();
        Ok(report)
    }

    pub(super) async fn kill(&self, peer: &'static Peer) -> Result<Report, Fault> {
        let cast = self.cast(peer, self.measures.pairs_away, true);
        let (mut server, dialer) = self.start(peer, &cast.users()).await?;
        let stored = self.store(&cast, &server, &dialer, self.measures.killed, KILL_PATIENCE).await?;
        server.kill().map_err(Fault::Kill)?;
        let restart = server.start_again(&self.clock).await?;
        let (home, _) = self.drain(&cast, &server, &dialer, stored.acked).await?;
        let mut report = Report { scenario: "kill", ..self.report(&cast) };
        report.notes.push(format!("took connections {:.1} s after its start on what was left", restart.as_secs_f64()));
        cast.audit(&stored.home.and(home), self.clock.elapsed(), &mut report);
        Ok(report)
    }

    fn report(&self, cast: &Cast) -> Report {
        Report {
            pairs: u32::try_from(cast.pairs.len()).ok(),
            window: Some(WINDOW),
            connections: 2 * cast.pairs.len() as u64,
            size: Some(SIZE),
            ..Report::default()
        }
    }

    /// Recipients come once and go; then senders send so many messages in all, or until the time is over, and every
    /// message sent is acked.
    async fn store(
        &self,
        cast: &Cast,
        server: &Running,
        dialer: &Arc<Dialer>,
        messages: u64,
        time: Duration,
    ) -> Result<Stored, Fault> {
        let mut visit = Crew::new(dialer);
        visit.ramp(cast.recipients()).await?;
        visit.come_home(0, Duration::ZERO).await;

        let mut crew = Crew::new(dialer);
        // What does not divide evenly goes to the first.
        let pairs = cast.pairs.len() as u64;
        let share = |index: u32| messages / pairs + u64::from(u64::from(index) < messages % pairs);
        crew.ramp(cast.senders(&Pace::Window(WINDOW), Until::Acked, share)).await?;
        let from = self.sample(server, &cast.meter);
        cast.meter.open(from.at);
        crew.enter(Stage::Run);
        let start = self.clock.elapsed();
        while cast.meter.messages() < messages && self.clock.elapsed().saturating_sub(start) < time {
            tokio::time::sleep(GLANCE).await;
        }
        cast.meter.close(self.clock.elapsed());
        crew.enter(Stage::Finish);
        // Some servers ack a whole window at once, seconds later: only when all are acked it is known how long they took.
        let home = crew.come_home(cast.pairs.len(), STORE_PATIENCE).await;
        Ok(Stored { home, spent: self.sample(server, &cast.meter).since(from), acked: cast.meter.messages() })
    }

    /// Recipients come and take everything that there is for them; ends with the last message.
    async fn drain(
        &self,
        cast: &Cast,
        server: &Running,
        dialer: &Arc<Dialer>,
        messages: u64,
    ) -> Result<(Home, Sample), Fault> {
        let received = || cast.meter.received();
        let mut crew = Crew::new(dialer);
        crew.ramp(cast.recipients()).await?;
        let mut last = (received(), self.sample(server, &cast.meter));
        while last.0 < messages {
            tokio::time::sleep(GLANCE).await;
            let count = received();
            if count > last.0 {
                last = (count, self.sample(server, &cast.meter));
            } else if self.clock.elapsed().saturating_sub(last.1.at) > QUIET {
                break;
            }
        }
        Ok((crew.come_home(0, Duration::ZERO).await, last.1))
    }
}
