//! What can be asked for.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Measure the store on a disk
#[derive(Parser, Debug)]
#[command(name = "cargo bench --bench store --")]
pub struct Arguments {
    /// Without one: appends, reads and restart
    #[command(subcommand)]
    pub scenario: Option<Scenario>,
    /// A directory on the disk to be measured
    #[arg(long = "dir", value_name = "DIR", default_value = "target", global = true)]
    pub directory: PathBuf,
    /// Print all figures as one JSON object
    #[arg(long, global = true)]
    pub json: bool,
    /// What cargo adds
    #[arg(long, hide = true, global = true)]
    pub bench: bool,
}

#[derive(Subcommand, Debug)]
pub enum Scenario {
    /// Durable appends a second, beside sled alone and beside the disk's own limit
    Appends(Appends),
    /// Inbox entries read a second, from memory and from sled
    Reads(Reads),
    /// How long a store takes to open again that was killed with its journal full
    Restart(Restart),
    /// Millions of messages through a small backlog: whether disk and memory level off
    Churn(Churn),
    /// What users cost, the more there are: new ones, forgotten ones, remembered ones
    Users(Users),
    /// Fills a journal and waits to be killed
    #[command(hide = true)]
    Fill(Fill),
}

#[derive(Args, Debug)]
pub struct Appends {
    /// Producers that wait for their acks; may be given more than once
    #[arg(long, value_name = "N", default_values_t = [64, 1000])]
    pub producers: Vec<usize>,
    /// How long each row is measured, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 6)]
    seconds: u64,
}

impl Appends {
    pub fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

#[derive(Args, Debug)]
pub struct Reads {
    /// Entries that wait in all inboxes together
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    pub entries: u64,
}

#[derive(Args, Debug)]
pub struct Restart {
    /// How often; the longest counts
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub times: u32,
    #[command(flatten)]
    pub journal: Fill,
}

#[derive(Args, Clone, Debug)]
pub struct Fill {
    /// Bytes of a journal segment
    #[arg(long, value_name = "BYTES", default_value_t = 32 << 20)]
    pub segment_bytes: usize,
    /// Segments of the journal
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub segments: usize,
    // Three bytes and more are written for each of the journal: blocks are written again for the next group, rows go to sled,
    // segments are laid out. After 15 rounds it has gone round, so that all its segments but one or two are full.
    /// Where sled keeps up, the store is killed after writing so many times what its journal could hold: the more, the more
    /// there is for sled to read
    #[arg(long, value_name = "N", default_value_t = 15)]
    pub rounds: u64,
}

#[derive(Args, Debug)]
pub struct Churn {
    /// Messages sent and confirmed
    #[arg(long, value_name = "N", default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    pub messages: u64,
    /// Messages that are not confirmed yet, at any time
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub backlog: usize,
    /// Never confirm what should wait for a while: this must fail
    #[arg(long)]
    pub leak: bool,
}

#[derive(Args, Debug)]
pub struct Users {
    /// Users there are at each point, in ascending order; may be given more than once
    #[arg(long, value_name = "N", default_values_t = [10_000, 50_000, 200_000, 1_000_000])]
    pub users: Vec<u64>,
    /// What the store may keep in memory, in bytes
    #[arg(long, value_name = "BYTES")]
    pub cache_bytes: Option<u64>,
}

impl Scenario {
    /// What is measured when nothing is asked for.
    pub fn short_ones() -> Vec<Scenario> {
        let of = |name: &str| Arguments::parse_from(["store", name]).scenario;
        ["appends", "reads", "restart"].into_iter().filter_map(of).collect()
    }

    /// As on the command line and in the report.
    pub fn name(&self) -> &'static str {
        match self {
            Scenario::Appends(_) => "appends",
            Scenario::Reads(_) => "reads",
            Scenario::Restart(_) => "restart",
            Scenario::Churn(_) => "churn",
            Scenario::Users(_) => "users",
            Scenario::Fill(_) => "fill",
        }
    }
}
