//! How long a store takes to open again that was killed under load, its journal as full as it gets.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use postrider::store::Store;
use postrider::store::engine::{Engine, EngineConfig};
use serde::Serialize;

use crate::arguments::{Fill, Restart};
use crate::load::{Load, Manner, Tick, Until};
use crate::meter::{mib, on_disk, written};
use crate::people::{pairs, recipient, wait};

const PRODUCERS: usize = 1_000;

#[derive(Serialize)]
pub struct Figures {
    segment_bytes: usize,
    segments: usize,
    /// The longest of the openings below.
    longest_s: f64,
    openings: Vec<Opening>,
}

#[derive(Serialize)]
struct Opening {
    /// Acked by then, and waiting for recipients who are away.
    messages: u64,
    /// Whether the store stood still for want of a free segment when it was killed.
    was_full: bool,
    disk_bytes: u64,
    after_kill_s: f64,
    after_close_s: f64,
}

pub fn run(what: &Restart, parent: &Path, print: bool) -> Figures {
    let Fill { segment_bytes, segments, .. } = what.journal;
    if print {
        println!("restart, {segments} segments of {:.0} MiB, all recipients away", mib(segment_bytes as u64));
        println!(
            "{:>9} {:<16} {:>9} {:>13} {:>14}",
            "messages", "killed when", "disk MiB", "after kill s", "after close s"
        );
    }
    let openings: Vec<_> = (0..what.times)
        .map(|_| {
            let opening = open_after_kill(&what.journal, parent);
            if print {
                let Opening { messages, was_full, disk_bytes, after_kill_s, after_close_s } = &opening;
                let when = if *was_full { "journal full" } else { "in full flow" };
                let disk = mib(*disk_bytes);
                println!("{messages:>9} {when:<16} {disk:>9.0} {after_kill_s:>13.2} {after_close_s:>14.2}");
            }
            opening
        })
        .collect();
    let longest_s = openings.iter().map(|opening| opening.after_kill_s).fold(0.0, f64::max);
    Figures { segment_bytes, segments, longest_s, openings }
}

fn open_after_kill(journal: &Fill, parent: &Path) -> Opening {
    let directory = tempfile::tempdir_in(parent).unwrap();
    let (was_full, acked) = fill_and_kill(journal, directory.path());
    let disk_bytes = on_disk(directory.path());
    let open = || {
        let asked = Instant::now();
        let engine = Engine::open(&config(journal, directory.path())).unwrap();
        (engine, asked.elapsed().as_secs_f64())
    };
    let (store, after_kill_s) = open();
    let messages = (0..PRODUCERS).map(|pair| recipient(&store, "away", pair).entries).sum();
    assert!(messages >= acked, "{acked} messages were acked, {messages} are there");
    wait(store.close()).unwrap();
    drop(store);
    let (store, after_close_s) = open();
    wait(store.close()).unwrap();
    Opening { messages, was_full, disk_bytes, after_kill_s, after_close_s }
}

/// Lets another process fill a store, and kills it. Whether its journal was full, and what was acked.
fn fill_and_kill(journal: &Fill, directory: &Path) -> (bool, u64) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("fill").arg("--dir").arg(directory);
    command.args(["--segment-bytes", &journal.segment_bytes.to_string()]);
    command.args(["--segments", &journal.segments.to_string()]);
    command.args(["--rounds", &journal.rounds.to_string()]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let (state, acked) = line.trim().split_once(' ').expect("what the other process says before it is killed");
    (state == "full", acked.parse().unwrap())
}

/// The other process: fills the store in `directory`, says so, and goes on until it is killed.
pub fn fill(journal: &Fill, directory: &Path) -> ! {
    let store: Arc<dyn Store> = Arc::new(Engine::open(&config(journal, directory)).unwrap());
    let pairs = pairs(&*store, "away", PRODUCERS);
    let (capacity, before) = ((journal.segment_bytes * journal.segments) as u64, written());
    let mut said = false;
    let mut say = |state: &str, acked: u64| {
        // One line: whoever reads it kills this process at once.
        if !said {
            println!("{state} {acked}");
            std::io::stdout().flush().unwrap();
        }
        said = true;
    };
    let mut ticks = 0u32;
    Load::new(store, pairs, |_| Manner::Away).run(Until::Messages(u64::MAX), &mut |tick| match tick {
        // A disk that is slow for a moment is no full journal.
        Tick::Stalled(acked) if written() - before >= capacity => say("full", acked),
        Tick::Stalled(_) => {}
        Tick::Acked(acked) => {
            ticks = ticks.wrapping_add(1);
            if ticks.is_multiple_of(64) && written() - before >= journal.rounds * capacity {
                say("flowing", acked);
            }
        }
    });
    unreachable!("it never ends by itself")
}

fn config(journal: &Fill, directory: &Path) -> EngineConfig {
    let Fill { segment_bytes, segments, .. } = *journal;
    EngineConfig { segment_bytes, segments, ..EngineConfig::new(directory) }
}
