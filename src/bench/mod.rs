//! The load generator behind `postrider bench`: drives a server with the protocol's own sessions, measures both sides,
//! and audits every message.
//!
//! # Layout
//! - [`scenario`]: what is done, one file a scenario
//! - [`preflight`]: how a run is spread, and whether this machine allows it
//! - [`servers`], [`spawn`], [`watch`]: the servers; those of the run's own, which may be killed; what they use
//! - [`fleet`], [`worker`], [`gate`]: generator processes, when one does not suffice, and what keeps them in step
//! - [`crew`], [`member`], [`dial`], [`connection`], [`control`]: the users and their connections
//! - [`part`], [`pacer`], [`day`]: what they do, and when
//! - [`label`], [`counters`], [`audit`]: what each message carries, and whether all adds up
//! - [`meter`], [`process`], [`findings`]: latencies and counts; CPU and memory; all of it summed up
//! - [`report`], [`threshold`], [`live`]: what is told at the end, what it may not be, and what is told meanwhile

pub mod audit;
pub mod connection;
pub mod control;
pub mod counters;
pub mod crew;
pub mod day;
pub mod dial;
pub mod findings;
pub mod fleet;
pub mod gate;
pub mod label;
pub mod live;
pub mod member;
pub mod meter;
pub mod pacer;
pub mod part;
pub mod preflight;
pub mod process;
pub mod report;
pub mod scenario;
pub mod servers;
pub mod spawn;
pub mod threshold;
pub mod watch;
pub mod worker;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crew::Manner;
use dial::DialError;
use findings::{Findings, Found, Mark};
use gate::Gate;
use label::RunId;
use live::Live;
use preflight::{Limits, Plan, Wishes};
use report::{Report, growth_per_hour};
use scenario::{Run, Scenario, Share};
use servers::{Choice, Servers, Toll};
use watch::Watch;

/// Where a load goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Target {
    /// host:port.
    pub server: String,
    /// A PEM file with the CA to trust.
    pub ca: PathBuf,
    /// An app with open login.
    pub app: String,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where.
    pub server: Choice,
    /// What.
    pub scenario: Scenario,
    /// Logins under way at once, at most; `None` is the scenario's choice.
    pub logins_at_once: Option<u32>,
    /// Logins a second, at most; `None` is as many as the server takes.
    pub logins_per_s: Option<f64>,
    /// How it is to be spread.
    pub spread: Wishes,
    /// This program, for further processes.
    pub executable: PathBuf,
}

/// Why there is no report. One line: what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// This machine does not allow it.
    #[error("{0}")]
    Limit(String),
    /// The CA.
    #[error("cannot use the CA certificate {path}: {why}")]
    Ca {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The address.
    #[error("cannot use the server's address {server}: {why}")]
    Server {
        /// Which.
        server: String,
        /// Why.
        why: String,
    },
    /// The process.
    #[error("no process {0} whose CPU time could be read; --server-pid is that of the server, on this machine")]
    NoProcess(u32),
    /// A server of our own.
    #[error("cannot start a server: {0}")]
    Spawn(String),
    /// A process of ours.
    #[error("{0}")]
    Worker(String),
    /// A connection.
    #[error("cannot connect to {server} ({up} connections are up): {error}")]
    Dial {
        /// To where.
        server: SocketAddr,
        /// How many were made before.
        up: u64,
        /// Why not.
        error: DialError,
    },
}

/// How long nothing may happen at the end of a run while something is still on its way.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);

/// Logins under way at once, unless the run says otherwise.
const LOGINS_AT_ONCE: u32 = 64;

/// How often the server's memory is looked at in a soak.
const MEMORY_LOOKS: u32 = 100;

/// Runs it, and tells `live` how it goes.
///
/// # Errors
/// [`BenchError`], when there is nothing to report. Faults of the server are in the report.
pub async fn run(options: Options, clock: Clock, live: Arc<Live>) -> Result<Report, BenchError> {
    let Options { server, scenario, spread, executable, .. } = &options;
    let plan = Limits::find().plan(scenario.connections(), scenario.divisible_by(), server.toward().await?, *spread)?;
    let chaos = server.chaos();
    let (mut servers, watch) = server.clone().start(executable.clone(), plan.servers, &clock).await?;
    let (watch, toll) = (Arc::new(watch), Toll::default());
    let shares = options.shares(&plan, &servers, &clock);
    let in_memory = servers.is_in_memory();
    let playing = async {
        // What fails, fails for both.
        let looking = async { Ok(look_at_memory(scenario, &watch).await) };
        tokio::try_join!(play(executable, shares, &watch, &clock, &live), looking)
    };
    let (findings, memory) = match chaos {
        None => playing.await?,
        Some(chaos) => tokio::select! {
            played = playing => played?,
            killed = servers.kill_now_and_then(chaos, &watch, &toll, &clock) => match killed? {},
        },
    };
    let mut report = scenario.report(&Found { by_generator: findings, of_server: watch.marks() });
    report.server_rss_growth_bytes_per_hour = growth_per_hour(&memory);
    report.server_data_bytes = servers.data_bytes();
    if chaos.is_some() {
        let (kills, longest) = toll.of_kills();
        report.kills = Some(kills);
        report.longest_restart_s = Some(longest.as_secs_f64());
    }
    report.notes.extend(notes(&plan, in_memory));
    Ok(report)
}

impl Options {
    /// What each generator process is to do.
    fn shares(&self, plan: &Plan, servers: &Servers, clock: &Clock) -> Vec<Share> {
        let (processes, id) = (plan.processes(), u64::from_be_bytes(clock.random_bytes()));
        let storm = self.scenario.is_a_storm();
        let all = u32::try_from(self.scenario.connections()).unwrap_or(u32::MAX);
        let at_once = self.logins_at_once.unwrap_or(if storm { all } else { LOGINS_AT_ONCE });
        let manner = Manner {
            logins_at_once: at_once.div_ceil(processes).max(1),
            logins_per_s: self.logins_per_s.map(|rate| rate / f64::from(processes)),
            tries_again: storm || self.server.chaos().is_some(),
            comes_back: self.server.chaos().is_some(),
        };
        let share = |(index, sources): (u32, &Vec<_>)| Share {
            run: RunId(id.wrapping_add(index.into())),
            scenario: self.scenario.part(index, processes),
            target: servers.target(index),
            sources: sources.clone(),
            manner,
        };
        (0..).zip(&plan.sources).map(share).collect()
    }
}

/// In this process, if one suffices.
async fn play(
    executable: &std::path::Path,
    mut shares: Vec<Share>,
    watch: &Arc<Watch>,
    clock: &Clock,
    live: &Arc<Live>,
) -> Result<Findings, BenchError> {
    match shares.pop() {
        Some(share) if shares.is_empty() => {
            Run::play(share, Gate::Alone(Arc::clone(watch)), clock.clone(), Arc::clone(live)).await
        }
        last => fleet::play(executable, shares.into_iter().chain(last).collect(), watch, live).await,
    }
}

/// In a soak: what the server's memory was, from its begin to its end.
async fn look_at_memory(scenario: &Scenario, watch: &Watch) -> Vec<(Duration, u64)> {
    let Scenario::Soak(soak) = scenario else { return Vec::new() };
    let mut looks = Vec::new();
    watch.passed(Mark::Begin).await;
    while watch.last() < Some(Mark::End) {
        let used = watch.used();
        looks.extend(used.rss.map(|rss| (used.at, rss)));
        tokio::select! {
            () = tokio::time::sleep(soak.duration / MEMORY_LOOKS) => {}
            () = watch.passed(Mark::End) => {}
        }
    }
    looks
}

fn notes(plan: &Plan, in_memory: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if plan.processes() > 1 || plan.servers > 1 {
        notes.push(format!("spread over {} generator processes and {} servers", plan.processes(), plan.servers));
    }
    if in_memory {
        notes.push("the server's data lay in memory, where a sync costs nothing: give --spawn-dir a disk".into());
    }
    if cfg!(debug_assertions) {
        notes.push("the generator is a debug build: its figures are no measure of a server".into());
    }
    notes
}
