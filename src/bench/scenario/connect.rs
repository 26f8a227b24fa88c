//! Idle connections: what making one costs the server, and what keeping it does. The users are made before, so that
//! a login is measured and not the first one of a new user.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Run;
use crate::bench::BenchError;
use crate::bench::crew::Manner;
use crate::bench::findings::{Findings, Found, Mark};
use crate::bench::member::Member;
use crate::bench::meter::Phase;
use crate::bench::part::Actor;
use crate::bench::report::{Report, microseconds_each, per_second, tenths};

/// All connections are held at least this long before anything is read off.
const SETTLE: Duration = Duration::from_millis(500);

/// Users that visit the server in one go, so that what is kept of them is bounded.
const VISITORS: u32 = 10_000;

/// How many connections, for how long.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Connect {
    /// Connections held at once.
    pub connections: u32,
    /// Users who have logged in once before that; at least as many.
    pub users: u32,
    /// Pause between that and the connections.
    pub settle: Duration,
    /// How long all of the connections are held.
    pub hold: Duration,
    /// Resume TLS sessions.
    pub resume: bool,
}

impl Connect {
    pub(super) fn report(&self, found: &Found) -> Report {
        let ramp = found.between(Mark::Begin, Mark::First);
        let made = found.connected(Phase::Main);
        let grown = found.used(Mark::Begin).rss.zip(found.used(Mark::End).rss);
        let grown = grown.map(|(before, after)| after.saturating_sub(before));
        Report {
            users: Some(self.users),
            duration_s: ramp.took.as_secs_f64(),
            connects_per_s: per_second(made, ramp.took),
            connect_ms: found.logins(Phase::Main),
            resumed: Some(found.resumed(Phase::Main)),
            server_cpu_us_per_connect: microseconds_each(ramp.server_cpu, made),
            generator_cpu_us_per_connect: microseconds_each(ramp.own_cpu, made),
            rss_bytes_per_connection: grown.filter(|_| made > 0).map(|grown| tenths(grown as f64 / made as f64)),
            ..found.report("connect", self.connections.into())
        }
    }
}

impl Run {
    pub(super) async fn connect(&self, connect: &Connect) -> Result<Findings, BenchError> {
        let mut findings = Findings::default();
        self.live.count("making users", "connections", &self.up);
        let members = self.make_users(connect).await?;
        tokio::time::sleep(connect.settle).await;

        self.mark(Mark::Begin, &mut findings).await;
        let mut crew = self.crew();
        self.live.count("connecting", "connections", &self.up);
        let ramped = crew.ramp(members).await?;
        self.mark(Mark::First, &mut findings).await;
        self.live.count("holding", "connections", &self.up);
        tokio::time::sleep(connect.hold.max(SETTLE)).await;
        self.mark(Mark::End, &mut findings).await;
        let home = crew.drop_all().await;

        findings.logins.insert(Phase::Main, ramped.latencies);
        findings.connected.insert(Phase::Main, connect.connections.into());
        findings.resumed.insert(Phase::Main, ramped.resumed);
        self.audit(&home, &mut findings);
        Ok(findings)
    }

    /// Lets every user log in once and leave; few at a time, so that the server's memory does not grow by it. Returns
    /// those who are to be connected.
    async fn make_users(&self, connect: &Connect) -> Result<Vec<Member>, BenchError> {
        let mut members = Vec::new();
        for from in (0..connect.users).step_by(VISITORS as usize) {
            let visitors = (from..connect.users.min(from + VISITORS)).map(|index| {
                let visitor = Member::new(self.user('c', index), Actor::visiting());
                if connect.resume { visitor.with_ticket() } else { visitor }
            });
            let mut crew = self.crew_in(Manner { logins_per_s: None, ..self.manner });
            crew.ramp(visitors.collect()).await?;
            let room = (connect.connections as usize).saturating_sub(members.len());
            let mut home = crew.drop_all().await.members;
            // In the order in which they came home, which is that of nobody.
            home.truncate(room);
            members.extend(home);
        }
        members.iter_mut().for_each(|member| member.actor = Actor::idle());
        Ok(members)
    }
}
