//! Puts Postrider and other messaging servers through the same scenarios with the same generator, and prints one table.
//!
//! # Layout
//! - [`peer`]: the servers, and how they are started
//! - [`wire`]: what they speak
//! - [`link`], [`part`], [`pace`], [`crew`]: the generator: connections, what they do and when, all of them
//! - [`scenario`]: what is measured
//! - [`table`]: what is told

mod crew;
mod link;
mod pace;
mod part;
mod peer;
mod scenario;
mod table;
mod wire;

use std::future::pending;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use postrider::bench::preflight::Limits;
use postrider::clock::Clock;
use tokio::signal::unix::{SignalKind, signal};

use crate::peer::{PEERS, Peer};
use crate::scenario::{Field, Measures, SCENARIOS};
use crate::table::{Comparison, Outcome, Row};
use crate::wire::Receipts;

/// Measure Postrider beside ejabberd, mosquitto, prosody and nats-server
#[derive(Parser, Debug)]
struct Arguments {
    /// Only these servers; may be given several times, or as a list
    #[arg(long, value_name = "PEER", value_delimiter = ',', value_parser = names())]
    only: Vec<String>,
    /// Only the scenarios whose name begins so: connect, pairs, 'pairs 200x32', rate, offline, kill
    #[arg(long, value_name = "SCENARIO", value_delimiter = ',')]
    scenario: Vec<String>,
    /// A fifth of everything: to see that it works
    #[arg(long)]
    quick: bool,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
    /// How recipients tell senders, where that is the application's business (MQTT and NATS)
    #[arg(long, value_enum, default_value = "batched")]
    receipts: Receipts,
    /// Where the servers' directories are made: on a disk
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    directory: PathBuf,
    /// The postrider to measure; without it the one beside this program
    #[arg(long, value_name = "FILE")]
    postrider: Option<PathBuf>,
}

impl Arguments {
    fn measures(&self) -> Measures {
        let seconds = Duration::from_secs_f64;
        let receipts = self.receipts;
        if self.quick {
            let (warmup, duration) = (seconds(0.5), seconds(1.0));
            return Measures {
                warmup,
                duration,
                connections: 400,
                pairs_away: 40,
                stored: 20_000,
                killed: 10_000,
                receipts,
            };
        }
        let (warmup, duration) = (seconds(1.5), seconds(5.0));
        Measures { warmup, duration, connections: 2000, pairs_away: 200, stored: 300_000, killed: 50_000, receipts }
    }

    fn wants(&self, name: &str) -> bool {
        self.scenario.is_empty() || self.scenario.iter().any(|start| name.starts_with(start.as_str()))
    }
}

fn names() -> Vec<&'static str> {
    PEERS.iter().map(|peer| peer.name).collect()
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    // Ending here drops the servers that run, and so stops them.
    runtime.block_on(async {
        tokio::select! {
            code = compare(&arguments) => code,
            () = asked_to_end() => fail("interrupted"),
        }
    })
}

/// By SIGINT or SIGTERM.
async fn asked_to_end() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

async fn compare(arguments: &Arguments) -> ExitCode {
    // The servers inherit the limit of open files, which this raises as far as it may be.
    let _ = Limits::find();
    let beside = || std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("postrider")));
    let Some(postrider) = arguments.postrider.clone().or_else(beside) else {
        return fail("cannot find postrider: say --postrider FILE");
    };
    let field =
        Field { postrider, place: arguments.directory.clone(), clock: Clock::system(), measures: arguments.measures() };
    let known = |start: &&String| SCENARIOS.iter().any(|scenario| scenario.name().starts_with(start.as_str()));
    if let Some(unknown) = arguments.scenario.iter().find(|start| !known(start)) {
        let names: Vec<String> = SCENARIOS.iter().map(|scenario| scenario.name()).collect();
        return fail(&format!("no scenario begins with `{unknown}`: there are {}", names.join(", ")));
    }
    let mut peers = Vec::new();
    for peer in PEERS {
        if !arguments.only.is_empty() && !arguments.only.iter().any(|name| name == peer.name) {
            continue;
        }
        match peer.version(&field.postrider) {
            Ok(version) => peers.push(run_through(&field, peer, version, arguments).await),
            Err(missing) => say(&format!("{}: skipped: {missing}", peer.name)),
        }
    }
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let comparison = Comparison { cores, peers };
    let text = if arguments.json { postrider::cli::print::to_json(&comparison) } else { Ok(comparison.to_markdown()) };
    if cfg!(debug_assertions) {
        say("the generator is a debug build: its figures are no measure of a server");
    }
    match text.and_then(|text| writeln!(io::stdout(), "{text}")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("cannot print: {error}")),
    }
}

async fn run_through(field: &Field, peer: &'static Peer, version: String, arguments: &Arguments) -> Row {
    let mut row = Row::new(peer, version);
    for scenario in SCENARIOS {
        let name = scenario.name();
        if !arguments.wants(&name) {
            continue;
        }
        let start = field.clock.elapsed();
        let outcome = match scenario.skips(peer) {
            Some(why) => Outcome::Skipped(why),
            None => match field.run(peer, *scenario).await {
                Ok(report) => Outcome::Report(Box::new(report)),
                Err(fault) => Outcome::Failed(fault.to_string()),
            },
        };
        let took = field.clock.elapsed().saturating_sub(start).as_secs_f64();
        say(&format!("{} {name}: {} ({took:.1} s)", peer.name, table::in_short(*scenario, &outcome)));
        row.scenarios.insert(name, outcome);
    }
    row
}

/// A line on stderr. That nobody reads it is no reason to stop.
fn say(line: &str) {
    drop(writeln!(io::stderr(), "{line}"));
}

fn fail(line: &str) -> ExitCode {
    say(&format!("peers: {line}"));
    ExitCode::FAILURE
}
