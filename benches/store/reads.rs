//! Inbox entries read a second, a page at a time as a connection reads them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postrider::ids::Position;
use postrider::store::engine::{Engine, EngineConfig};
use postrider::store::{Item, ReadLimit, Store};
use serde::Serialize;

use crate::arguments::Reads;
use crate::load::{Load, Manner, Until};
use crate::meter::{Cpu, mib, on_disk};
use crate::people::{APP, pairs, recipient, wait};

/// Inboxes that the entries are spread over.
const INBOXES: usize = 100;

/// What a server reads at once.
const PAGE: ReadLimit = ReadLimit { entries: 512, bytes: 64 << 10 };

/// Passes over what is in memory, or in sled's cache, are repeated for this long.
const TIME: Duration = Duration::from_secs(2);

/// A segment that all entries fit into, and one that few do.
const ROOMY: usize = 256 << 20;
const NARROW: usize = 2 << 20;

#[derive(Serialize)]
pub struct Row {
    from: &'static str,
    entries: u64,
    entries_per_s: f64,
    cpu_us_per_entry: f64,
    /// In sled's files.
    sled_bytes: u64,
}

pub fn run(what: &Reads, parent: &Path, print: bool) -> Vec<Row> {
    if print {
        println!("inbox reads, pages of {} entries; {INBOXES} inboxes", PAGE.entries);
        println!("{:<22} {:>9} {:>11} {:>9} {:>9}", "from", "entries", "entries/s", "µs each", "sled MiB");
    }
    let rows = from_memory(what.entries, parent).into_iter().chain(from_sled(what.entries, parent));
    let show = |row: &Row| {
        let Row { from, entries, entries_per_s, cpu_us_per_entry, sled_bytes } = row;
        println!("{from:<22} {entries:>9} {entries_per_s:>11.0} {cpu_us_per_entry:>9.2} {:>9.0}", mib(*sled_bytes));
    };
    rows.inspect(|row| {
        if print {
            show(row)
        }
    })
    .collect()
}

/// A fourth of the entries, and nothing has left the journal's memory.
fn from_memory(entries: u64, parent: &Path) -> Option<Row> {
    let directory = tempfile::tempdir_in(parent).unwrap();
    let store = open(directory.path(), ROOMY);
    fill(&store, "reader", entries / 4, Manner::Away);
    let row = read("memory", &store, entries / 4, TIME, directory.path());
    wait(store.close()).unwrap();
    Some(row)
}

/// All have left the journal, and the store was closed since: first nothing is in sled's cache, then what fits there.
fn from_sled(entries: u64, parent: &Path) -> [Row; 2] {
    let directory = tempfile::tempdir_in(parent).unwrap();
    let store = open(directory.path(), NARROW);
    fill(&store, "reader", entries, Manner::Away);
    // Younger messages, confirmed at once, push the last of them out of every segment.
    fill(&store, "passer-by", 4 * NARROW as u64 / 100, Manner::Prompt);
    wait(store.close()).unwrap();
    let store = open(directory.path(), NARROW);
    let first = read("sled, just opened", &store, entries, Duration::ZERO, directory.path());
    let again = read("sled, again", &store, entries, TIME, directory.path());
    wait(store.close()).unwrap();
    [first, again]
}

fn open(directory: &Path, segment_bytes: usize) -> Arc<dyn Store> {
    let config = EngineConfig { segment_bytes, segments: 2, ..EngineConfig::new(directory) };
    Arc::new(Engine::open(&config).unwrap())
}

fn fill(store: &Arc<dyn Store>, kind: &str, messages: u64, manner: Manner) {
    let pairs = pairs(&**store, kind, INBOXES);
    Load::new(Arc::clone(store), pairs, |_| manner).run(Until::Messages(messages), &mut |_| {});
}

/// Reads all inboxes from beginning to end, at least once and for as long as `time`.
fn read(from: &'static str, store: &Arc<dyn Store>, entries: u64, time: Duration, directory: &Path) -> Row {
    let users: Vec<_> = (0..INBOXES).map(|pair| recipient(&**store, "reader", pair)).collect();
    let (before, started, mut count) = (Cpu::now(), Instant::now(), 0);
    while count == 0 || started.elapsed() < time {
        let pass: u64 = users.iter().map(|user| read_inbox(&**store, user)).sum();
        assert_eq!(pass, entries, "what was acked is read");
        count += pass;
    }
    let (took, cpu) = (started.elapsed(), Cpu::now().since(before));
    Row {
        from,
        entries,
        entries_per_s: count as f64 / took.as_secs_f64(),
        cpu_us_per_entry: cpu.load.as_secs_f64() / count as f64 * 1e6,
        sled_bytes: on_disk(&directory.join("sled")),
    }
}

fn read_inbox(store: &dyn Store, user: &postrider::store::User) -> u64 {
    let (mut after, mut count) = (Position(0), 0);
    loop {
        let page = wait(store.read_inbox(APP, user.id, after, user.head, PAGE)).unwrap();
        assert!(page.entries.iter().all(|entry| matches!(&entry.item, Item::Message(message) if message.len() > 100)));
        count += page.entries.len() as u64;
        match page.entries.last() {
            Some(last) if !page.complete => after = last.position,
            _ => return count,
        }
    }
}
