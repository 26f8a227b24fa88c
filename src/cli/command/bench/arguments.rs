//! What `bench` takes: a scenario with its measures, and what all scenarios have in common.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::bench::label;
use crate::bench::preflight::Wishes;
use crate::bench::scenario::{Connect, Fanout, Mixed, Offline, Pairs, Rate, Reconnect, Scenario, Soak};
use crate::bench::threshold::Threshold;
use crate::cli::exit::EXIT_CODES;
use crate::cli::target::TargetFlags;

/// The longest content that fits a frame of the server's default limit.
const MAX_CONTENT_BYTES: i64 = 60_000;

/// Load a server, measure it, and audit every message
#[derive(Args, Debug)]
#[command(after_long_help = EXIT_CODES)]
pub struct Bench {
    #[command(subcommand)]
    scenario: ScenarioCommand,
}

#[derive(Subcommand, Debug)]
enum ScenarioCommand {
    /// Idle connections: what one costs to make, and to keep
    Connect(ConnectFlags),
    /// A closed loop: each pair keeps so many messages in flight, until its sender is told delivered
    Pairs(PairsFlags),
    /// An open loop at a fixed rate: how long it takes from when a message was meant to be sent
    Rate(RateFlags),
    /// Store messages for users who are away, then drain them
    Offline(OfflineFlags),
    /// One to many: each sender writes to all its recipients in turn, in a closed loop
    Fanout(FanoutFlags),
    /// Storms: all connections drop and come back, first with full TLS handshakes, then with resumed ones
    Reconnect(ReconnectFlags),
    /// A day of a big service in small: people come and go, half of them away at any time, with a jump at noon
    Mixed(MixedFlags),
    /// An open loop for long, with recipients that read: what changes with time
    Soak(SoakFlags),
    /// A generator process of a run that is spread over several: takes orders on stdin
    #[command(hide = true)]
    Worker,
}

#[derive(Args, Debug)]
struct ConnectFlags {
    /// Connections held at once
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Users who log in once before that and leave, so that no login that is measured is a user's first; without it
    /// as many as connections, which is also the least
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    users: Option<u32>,
    /// Pause between the users' first logins and the measured ones: a server that has taken many at once goes on writing
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = time)]
    settle: Duration,
    /// How long all connections are held
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = time)]
    duration: Duration,
    /// Resume TLS sessions, instead of a full handshake for each
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct PairsFlags {
    /// Pairs of a sender and a recipient
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=500_000))]
    pairs: u32,
    /// Messages each pair has in flight
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = window)]
    window: usize,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    content: ContentFlags,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct RateFlags {
    /// Pairs of a sender and a recipient, who take turns
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=500_000))]
    pairs: u32,
    /// Messages a second, of all pairs together
    #[arg(long, value_name = "N", default_value = "1000", value_parser = rate)]
    rate: f64,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    content: ContentFlags,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct OfflineFlags {
    /// Pairs of a sender and a recipient
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=500_000))]
    pairs: u32,
    /// Messages each sender has in flight
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = window)]
    window: usize,
    /// Messages in all
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// Leave what is stored: the recipients do not come
    #[arg(long)]
    leave: bool,
    #[command(flatten)]
    content: ContentFlags,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct FanoutFlags {
    /// Senders
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    senders: u32,
    /// Recipients of each sender
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    recipients: u32,
    /// Messages each sender has in flight
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = window)]
    window: usize,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    content: ContentFlags,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct ReconnectFlags {
    /// Connections that drop and come back
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    connections: u32,
    /// Pairs that stay connected and send
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    bystanders: u32,
    /// Messages a second, of all bystanders together
    #[arg(long, value_name = "N", default_value = "500", value_parser = rate)]
    rate: f64,
    /// How long it is calm before and after each storm
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = time)]
    calm: Duration,
    #[command(flatten)]
    content: ContentFlags,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct MixedFlags {
    /// People
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(3..=1_000_000))]
    users: u32,
    /// Messages each of them sends in the day
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    messages: u32,
    /// How often each of them comes in the day
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    comings: u32,
    /// To how many others each of them writes
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    contacts: u32,
    /// How long the day takes
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = time)]
    duration: Duration,
    #[command(flatten)]
    content: ContentFlags,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct SoakFlags {
    /// Pairs of a sender and a recipient, who take turns
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=500_000))]
    pairs: u32,
    /// Messages a second, of all pairs together
    #[arg(long, value_name = "N", default_value = "1000", value_parser = rate)]
    rate: f64,
    /// How long
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    duration: Duration,
    #[command(flatten)]
    content: ContentFlags,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
struct Span {
    /// How long is measured, such as 10s or 1m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    duration: Duration,
    /// How long messages flow before that
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = time)]
    warmup: Duration,
}

#[derive(Args, Debug)]
struct ContentFlags {
    /// Bytes of a message's content
    #[arg(long, value_name = "BYTES", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(label::MIN_BYTES as i64..=MAX_CONTENT_BYTES))]
    size: u32,
}

/// What every scenario takes.
#[derive(Args, Debug)]
pub struct Common {
    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Fail (exit code 7) if a figure of the report is out of bounds, such as 'latency_ms.p99>50'
    #[arg(long, value_name = "FIGURE<>NUMBER")]
    pub fail_if: Vec<Threshold>,
    /// Start a server for this run, with its data in a temporary directory
    #[arg(long, conflicts_with_all = ["server", "ca", "app", "context", "server_pid"], help_heading = "Server")]
    pub spawn: bool,
    /// Where the temporary directory of that server is made
    #[arg(long, value_name = "DIR", requires = "spawn", help_heading = "Server")]
    pub spawn_dir: Option<PathBuf>,
    /// The configuration of that server
    #[arg(long, value_name = "FILE", requires = "spawn", help_heading = "Server")]
    pub config: Option<PathBuf>,
    /// Start so many servers; without it as many as the limit of open files asks for
    #[arg(long, value_name = "N", requires = "spawn", help_heading = "Server",
        value_parser = clap::value_parser!(u16).range(1..=64))]
    pub servers: Option<u16>,
    /// `kill`: SIGKILL a server at random moments of the run and start it again; whatever was acked and is lost, comes
    /// twice or out of order fails the run
    #[arg(long, value_name = "WHAT", value_enum, requires = "spawn", help_heading = "Server")]
    pub chaos: Option<ChaosKind>,
    /// From one kill to the next, on average
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = time, requires = "chaos", help_heading = "Server")]
    pub chaos_every: Duration,
    /// The server's process, where it runs here: its CPU time and memory are reported
    #[arg(long, value_name = "PID", help_heading = "Server")]
    pub server_pid: Option<u32>,
    /// Logins under way at once, at most; without it 64, and all of them in a storm
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Load")]
    pub login_concurrency: Option<u32>,
    /// Logins a second, at most; without it as many as the server takes
    #[arg(long, value_name = "N", value_parser = rate, help_heading = "Load")]
    pub login_rate: Option<f64>,
    /// Spread the load over so many processes; without it over as many as the limit of open files asks for
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64), help_heading = "Load")]
    pub processes: Option<u16>,
    /// Connect from so many addresses of 127.0.0.0/8; without it from as many as the ports need
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=250), help_heading = "Load")]
    pub source_addresses: Option<u16>,
    #[command(flatten)]
    pub target: TargetFlags,
}

/// What may be done to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ChaosKind {
    /// SIGKILL, and start again.
    Kill,
}

/// What the command is to do.
#[derive(Debug)]
pub enum Job {
    /// Load a server.
    Run(Scenario, Box<Common>),
    /// Be a part of a run.
    Worker,
}

impl Common {
    /// How it is to be spread.
    #[must_use]
    pub fn spread(&self) -> Wishes {
        Wishes { processes: self.processes, servers: self.servers, source_addresses: self.source_addresses }
    }
}

impl Bench {
    /// What is asked for.
    #[must_use]
    pub fn into_job(self) -> Job {
        let (scenario, common) = match self.scenario {
            ScenarioCommand::Connect(ConnectFlags { connections, users, settle, duration, resume, common }) => {
                let users = users.unwrap_or(connections).max(connections);
                (Scenario::Connect(Connect { connections, users, settle, hold: duration, resume }), common)
            }
            ScenarioCommand::Pairs(PairsFlags { pairs, window, span, content, common }) => {
                let (Span { duration, warmup }, size) = (span, content.size as usize);
                (Scenario::Pairs(Pairs { pairs, window, size, warmup, duration }), common)
            }
            ScenarioCommand::Rate(RateFlags { pairs, rate, span, content, common }) => {
                let (Span { duration, warmup }, size) = (span, content.size as usize);
                (Scenario::Rate(Rate { pairs, rate, size, warmup, duration }), common)
            }
            ScenarioCommand::Offline(OfflineFlags { pairs, window, messages, leave, content, common }) => {
                let size = content.size as usize;
                (Scenario::Offline(Offline { pairs, window, messages, size, leave }), common)
            }
            ScenarioCommand::Fanout(FanoutFlags { senders, recipients, window, span, content, common }) => {
                let (Span { duration, warmup }, size) = (span, content.size as usize);
                (Scenario::Fanout(Fanout { senders, recipients, window, size, warmup, duration }), common)
            }
            ScenarioCommand::Reconnect(ReconnectFlags { connections, bystanders, rate, calm, content, common }) => {
                let size = content.size as usize;
                let connections = connections.next_multiple_of(2);
                (Scenario::Reconnect(Reconnect { connections, bystanders, rate, size, calm }), common)
            }
            ScenarioCommand::Mixed(MixedFlags { users, messages, comings, contacts, duration, content, common }) => {
                let size = content.size as usize;
                (Scenario::Mixed(Mixed { users, messages, comings, contacts, size, duration }), common)
            }
            ScenarioCommand::Soak(SoakFlags { pairs, rate, duration, content, common }) => {
                let size = content.size as usize;
                (Scenario::Soak(Soak { pairs, rate, size, duration }), common)
            }
            ScenarioCommand::Worker => return Job::Worker,
        };
        Job::Run(scenario, Box::new(common))
    }
}

/// `10s`, `1m30s`, `500ms`, or a number of seconds.
fn time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time such as 500ms, 10s or 1m30s");
    let mut rest = text.trim();
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = &rest[digits..];
        let letters = unit.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(unit.len());
        seconds += number
            * match &unit[..letters] {
                "ms" => 0.001,
                "" | "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                _ => return Err(wrong()),
            };
        rest = &unit[letters..];
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|time| time.as_secs() <= 30 * 86_400).ok_or_else(wrong)
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (0.001..=1e8).contains(rate));
    rate.ok_or_else(|| "not a number a second, from 0.001 to 100000000".into())
}

fn window(text: &str) -> Result<usize, String> {
    let most = postrider_client::limits::SEND_WINDOW * 16;
    text.parse()
        .ok()
        .filter(|window| (1..=most).contains(window))
        .ok_or_else(|| format!("not a number from 1 to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let ms = |text: &str| time(text).unwrap().as_millis();
        assert_eq!(
            ["10s", "1m", "1m30s", "500ms", "2", "1.5s", "1h", "0s"].map(ms),
            [10_000, 60_000, 90_000, 500, 2_000, 1_500, 3_600_000, 0]
        );
        for wrong in ["", "s", "10x", "-1s", "1s-", "1e9h", "99999999h"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
