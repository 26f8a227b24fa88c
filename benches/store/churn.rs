//! Millions of messages through a small backlog. What was confirmed must be gone: disk and memory level off.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use postrider::store::engine::{Engine, EngineConfig};
use postrider::store::{Operation, Store, commit_and_wait};
use serde::Serialize;

use crate::arguments::Churn;
use crate::load::{Load, Manner, Tick, Until};
use crate::meter::{memory, mib, on_disk};
use crate::people::{pairs, recipient, wait};

const PAIRS: usize = 1_000;

/// Of ten recipients, one lags: it holds the backlog, so that each of its messages stays for ten times the backlog, and
/// leaves the journal for sled before it is confirmed.
const ONE_LAGS_IN: usize = 10;

/// Disk and memory are looked at so many times.
const SAMPLES: u64 = 300;

/// Samples between two lines for a person.
const LINE: usize = 15;

/// How many times the highest of the middle third the highest of the last third may be. Memory has moods.
const DISK_MAY_GROW: f64 = 1.05;
const MEMORY_MAY_GROW: f64 = 1.1;

#[derive(Serialize)]
pub struct Figures {
    messages: u64,
    backlog: usize,
    messages_per_s: f64,
    /// Messages that wait for their recipients in the end; no more than the backlog.
    waiting: u64,
    disk: Level,
    memory: Level,
    samples: Vec<Sample>,
}

#[derive(Clone, Copy, Serialize)]
struct Sample {
    messages: u64,
    seconds: f64,
    disk_bytes: u64,
    memory_bytes: u64,
}

/// The most in each third of the run.
#[derive(Serialize)]
struct Level {
    first_bytes: u64,
    middle_bytes: u64,
    last_bytes: u64,
    levels_off: bool,
}

pub fn run(what: &Churn, parent: &Path, print: bool) -> Figures {
    let directory = tempfile::tempdir_in(parent).unwrap();
    let store: Arc<dyn Store> = Arc::new(Engine::open(&EngineConfig::new(directory.path())).unwrap());
    let lagging = if what.leak { Manner::Away } else { Manner::Behind(what.backlog * ONE_LAGS_IN / PAIRS) };
    let manner = |pair| if pair % ONE_LAGS_IN == 0 { lagging } else { Manner::Prompt };
    let mut load = Load::new(Arc::clone(&store), pairs(&*store, "user", PAIRS), manner).senders_confirm();
    if print {
        println!("churn, {} messages, {} of them not confirmed at any time", what.messages, what.backlog);
        println!("{:>9} {:>8} {:>9} {:>11}", "messages", "seconds", "disk MiB", "memory MiB");
    }
    let started = Instant::now();
    let mut samples: Vec<Sample> = Vec::new();
    let run = load.run(Until::Messages(what.messages), &mut |tick| {
        let Tick::Acked(messages) = tick else { return };
        if messages < (samples.len() as u64 + 1) * what.messages / SAMPLES {
            return;
        }
        let (seconds, disk_bytes) = (started.elapsed().as_secs_f64(), on_disk(directory.path()));
        let sample = Sample { messages, seconds, disk_bytes, memory_bytes: memory() };
        samples.push(sample);
        if print && samples.len().is_multiple_of(LINE) {
            show(&sample);
        }
    });
    let waiting = waiting(&*store);
    wait(store.close()).unwrap();
    let figures = Figures {
        messages: run.acked,
        backlog: what.backlog,
        messages_per_s: run.acked as f64 / run.took.as_secs_f64(),
        waiting,
        disk: level(&samples, DISK_MAY_GROW, |sample| sample.disk_bytes),
        memory: level(&samples, MEMORY_MAY_GROW, |sample| sample.memory_bytes),
        samples,
    };
    if print {
        let too_many = if waiting > what.backlog as u64 { ", MORE THAN THE BACKLOG" } else { "" };
        println!("{:.0} messages/s; {waiting} wait in the end{too_many}", figures.messages_per_s);
        tell("disk", &figures.disk);
        tell("memory", &figures.memory);
    }
    figures
}

impl Figures {
    /// Whether what was confirmed is gone, and leaves nothing behind.
    pub fn is_sound(&self) -> bool {
        self.waiting <= self.backlog as u64 && self.disk.levels_off && self.memory.levels_off
    }
}

/// Entries of all recipients' inboxes.
fn waiting(store: &dyn Store) -> u64 {
    // Confirmations are under way; what is committed after them says that they are through.
    wait(commit_and_wait(store, vec![Operation::EnsureApp("bench".into())])).unwrap();
    (0..PAIRS).map(|pair| recipient(store, "user", pair).entries).sum()
}

fn level(samples: &[Sample], may_grow: f64, of: impl Fn(&Sample) -> u64) -> Level {
    let most = |samples: &[Sample]| samples.iter().map(&of).max().unwrap_or(0);
    let third = samples.len() / 3;
    let (first, middle, last) =
        (most(&samples[..third]), most(&samples[third..2 * third]), most(&samples[2 * third..]));
    let levels_off = last as f64 <= middle as f64 * may_grow;
    Level { first_bytes: first, middle_bytes: middle, last_bytes: last, levels_off }
}

fn show(sample: &Sample) {
    let Sample { messages, seconds, disk_bytes, memory_bytes } = *sample;
    println!("{messages:>9} {seconds:>8.1} {:>9.1} {:>11.1}", mib(disk_bytes), mib(memory_bytes));
}

fn tell(what: &str, level: &Level) {
    let verdict = if level.levels_off { "levels off" } else { "GROWS" };
    let [first, middle, last] = [level.first_bytes, level.middle_bytes, level.last_bytes].map(mib);
    println!("{what:<7} {verdict}: at most {first:.1}, {middle:.1} and {last:.1} MiB in the thirds of the run");
}
