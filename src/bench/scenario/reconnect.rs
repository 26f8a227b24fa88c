//! Storms: everybody loses their connection at once and comes back, first with full TLS handshakes, then with resumed
//! ones. Some stay connected and send at a steady rate meanwhile; what they feel of it is measured, too. Everybody who
//! drops has just sent, or is just being sent to, so that there is something to lose.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Run;
use crate::bench::control::{Bell, Stage};
use crate::bench::crew::{Crew, Home, Manner};
use crate::bench::findings::{Between, Findings, Found, Mark};
use crate::bench::member::Member;
use crate::bench::meter::{Phase, Recorded};
use crate::bench::pacer::Schedule;
use crate::bench::part::{Pace, Pair, Until, Wishes};
use crate::bench::report::{Report, microseconds_each, per_second};
use crate::bench::{BenchError, DRAIN_PATIENCE};

/// How long those who are about to drop have for their last messages.
const LAST_WORDS: Duration = Duration::from_millis(20);

/// Logins under way at once before the storm.
const CALMLY: u32 = 64;

/// How many drop, and how many stay.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reconnect {
    /// Connections that drop and come back; pairs of a sender and a recipient.
    pub connections: u32,
    /// Pairs that stay connected.
    pub bystanders: u32,
    /// Messages a second, of all bystanders together.
    pub rate: f64,
    /// Bytes of a message's content.
    pub size: usize,
    /// How long it is calm before each storm.
    pub calm: Duration,
}

impl Reconnect {
    pub(super) fn report(&self, found: &Found) -> Report {
        let (full, resumed) = (found.between(Mark::First, Mark::Second), found.between(Mark::Third, Mark::End));
        let (came_full, came_resumed) = (found.connected(Phase::First), found.connected(Phase::Second));
        let seconds = |between: Between| Some((between.took.as_secs_f64() * 1000.0).round() / 1000.0);
        let connections = u64::from(self.connections) + 2 * u64::from(self.bystanders);
        Report {
            pairs: Some(self.bystanders),
            rate: Some(self.rate),
            size: Some(self.size),
            latency_ms: found.latencies(Phase::Main),
            generator_lag_ms: found.by_generator.lags.get(&Phase::First).and_then(Recorded::percentiles),
            storm_full_s: seconds(full),
            storm_full_login_ms: found.logins(Phase::First),
            storm_full_latency_ms: found.latencies(Phase::First),
            storm_resumed_s: seconds(resumed),
            storm_resumed_login_ms: found.logins(Phase::Second),
            storm_resumed_latency_ms: found.latencies(Phase::Second),
            connects_per_s: per_second(came_full, full.took),
            server_cpu_us_per_connect: microseconds_each(full.server_cpu, came_full),
            server_cpu_us_per_resumed: microseconds_each(resumed.server_cpu, came_resumed),
            resumed: Some(found.resumed(Phase::Second)),
            ..found.report("reconnect", connections)
        }
    }
}

impl Run {
    pub(super) async fn reconnect(&self, storm: &Reconnect) -> Result<Findings, BenchError> {
        let mut findings = Findings::default();
        let schedule = Arc::new(OnceLock::new());
        let (bystanders, bells) = self.bystanders(storm, &schedule).await?;
        let mut home = Home::default();
        let mut crew = stand_back(self.crew_in(self.calmly()))?;
        crew.ramp(self.those_who_drop(storm)).await?;

        self.mark(Mark::Begin, &mut findings).await;
        let even = self.begin_evenly(&schedule, storm.rate, storm.bystanders.max(1));
        let pacer = (!bells.is_empty()).then(|| self.pace(&bystanders, bells, even.events()));
        bystanders.enter(Stage::Run);
        self.live.count("calm", "connections", &self.up);
        self.open(Phase::Main);
        tokio::time::sleep(storm.calm).await;
        self.close(Phase::Main);

        let storms = [(Phase::First, Mark::First, Mark::Second), (Phase::Second, Mark::Third, Mark::End)];
        for (phase, begin, end) in storms {
            self.live.count("storm", "connections", &self.up);
            let mut dropped = self.drop_in_mid_sentence(crew).await;
            home.broken.append(&mut dropped.broken);
            let tickets = dropped.members.iter().filter_map(|member| member.ticket.as_ref());
            if phase == Phase::First {
                tickets.for_each(|ticket| ticket.forget());
            }
            findings.connected.insert(phase, dropped.members.len() as u64);
            // For the next storm.
            let senders = dropped.members.iter_mut().filter_map(|member| member.actor.sender.as_mut());
            senders.for_each(|sender| sender.allow(1));
            self.mark(begin, &mut findings).await;
            self.open(phase);
            crew = stand_back(self.crew())?;
            let ramped = crew.ramp(dropped.members).await?;
            // Before the others are waited for: what is felt is felt while this server is stormed.
            self.close(phase);
            self.mark(end, &mut findings).await;
            findings.logins.insert(phase, ramped.latencies);
            findings.resumed.insert(phase, ramped.resumed);
            self.live.count("calm", "connections", &self.up);
            tokio::time::sleep(storm.calm).await;
        }
        crew.enter(Stage::Finish);
        bystanders.enter(Stage::Finish);
        let senders = u64::from(storm.connections / 2 + storm.bystanders);
        home.merge(crew.come_home(senders, DRAIN_PATIENCE).await);
        home.merge(self.finish(bystanders, 0).await);
        drop(pacer.map(|pacer| pacer.join()));
        self.audit(&home, &mut findings);
        Ok(findings)
    }

    /// As if no storm was coming.
    fn calmly(&self) -> Manner {
        Manner { logins_at_once: self.manner.logins_at_once.min(CALMLY), ..self.manner }
    }

    async fn bystanders(
        &self,
        storm: &Reconnect,
        schedule: &Arc<OnceLock<Schedule>>,
    ) -> Result<(Crew, Vec<Arc<Bell>>), BenchError> {
        let pace = Pace::Schedule(Arc::clone(schedule));
        let wishes = Wishes { size: storm.size, pace, until: Until::Delivered, reads: false, budget: u64::MAX };
        // What they feel is to be the server's doing, and not that this generator makes so many connections meanwhile.
        let crew = self.crew_in(self.calmly()).apart().map_err(no_threads)?;
        self.talkers_in(crew, storm.bystanders, &wishes).await
    }

    /// Pairs whose numbers go on after those of the bystanders. Each sender sends one message before each storm.
    fn those_who_drop(&self, storm: &Reconnect) -> Vec<Member> {
        let pair = |index| Pair::new(self.id, storm.bystanders + index);
        let pace = Pace::Window(usize::MAX);
        let wishes = Wishes { size: storm.size, pace, until: Until::Delivered, reads: false, budget: 1 };
        let both = |pair: Pair| [self.sender(&pair, wishes.clone()), self.recipient(&pair, false)];
        (0..storm.connections / 2).map(pair).flat_map(both).map(Member::with_ticket).collect()
    }

    async fn drop_in_mid_sentence(&self, crew: Crew) -> Home {
        crew.enter(Stage::Run);
        tokio::time::sleep(LAST_WORDS).await;
        crew.drop_all().await
    }
}

/// A storm of the generator's is to be felt as one of other machines would be.
fn stand_back(crew: Crew) -> Result<Crew, BenchError> {
    crew.standing_back().map_err(no_threads)
}

fn no_threads(error: std::io::Error) -> BenchError {
    BenchError::Worker(error.to_string())
}
