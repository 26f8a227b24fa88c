//! The load generator behind `postrider bench`: drives a server with the protocol's own sessions, measures both sides,
//! and audits every message.
//!
//! # Layout
//! - [`scenario`]: what is done, one file a scenario
//! - [`preflight`], [`spawn`]: whether this machine allows it; a server of the run's own
//! - [`crew`], [`dial`], [`connection`], [`part`], [`control`], [`pacer`]: the connections, and what they do
//! - [`label`], [`counters`], [`audit`]: what each message carries, and whether all adds up
//! - [`meter`], [`process`]: latencies and counts; CPU and memory
//! - [`report`], [`live`]: what is told at the end, and meanwhile

pub mod audit;
pub mod connection;
pub mod control;
pub mod counters;
pub mod crew;
pub mod dial;
pub mod label;
pub mod live;
pub mod meter;
pub mod pacer;
pub mod part;
pub mod preflight;
pub mod process;
pub mod report;
pub mod scenario;
pub mod spawn;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use dial::{DialError, Dialer};
use live::Live;
use preflight::Limits;
use process::Process;
use report::Report;
use scenario::{Run, Scenario};

/// Where the load goes.
#[derive(Clone, Debug)]
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
    pub target: Target,
    /// What.
    pub scenario: Scenario,
    /// The server's process, if it is on this machine.
    pub server_pid: Option<u32>,
    /// From how many addresses of 127.0.0.0/8 to connect; `None` takes as many as it needs.
    pub source_addresses: Option<u16>,
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

/// Runs it, and tells `live` how it goes.
///
/// # Errors
/// [`BenchError`], when there is nothing to report. Faults of the server are in the report.
pub async fn run(options: Options, clock: Clock, live: Arc<Live>) -> Result<Report, BenchError> {
    let resume = matches!(options.scenario, Scenario::Connect(scenario::Connect { resume: true, .. }));
    let dialer = Dialer::new(&options.target, resume, clock.clone()).await?;
    let connections = options.scenario.connections();
    let sources = Limits::find().sources(connections, dialer.address(), options.source_addresses)?;
    let server = match options.server_pid {
        Some(pid) => Some(Process::of(pid).ok_or(BenchError::NoProcess(pid))?),
        None => None,
    };
    let run = Run::new(Arc::new(dialer.with_sources(sources)), clock, live, server);
    let mut report = match &options.scenario {
        Scenario::Connect(connect) => run.connect(connect).await?,
        Scenario::Pairs(pairs) => run.pairs(pairs).await?,
        Scenario::Rate(rate) => run.rate(rate).await?,
        Scenario::Offline(offline) => run.offline(offline).await?,
    };
    if cfg!(debug_assertions) {
        report.notes.push("the generator is a debug build: its figures are no measure of a server".into());
    }
    Ok(report)
}

/// How long what is on its way may take at the end of a run.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);
