//! What users cost as there are more and more of them: the first login of a new user, and all that follows from it; then,
//! at rest, a sweep that finds nothing to do, a login of somebody who was forgotten since, one of somebody who is
//! remembered, and a message.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use postrider::ids::UserId;
use postrider::store::engine::{Engine, EngineConfig};
use postrider::store::{Completion, Operation, Outcome, Store, Sweep, commit_and_wait};
use serde::Serialize;

use crate::arguments::Users;
use crate::load::{Load, Manner, Until};
use crate::meter::{Cpu, memory, mib, on_disk, reads};
use crate::people::{APP, attach, pairs, wait};

/// Logins that wait for their commit at any time.
const AT_ONCE: u64 = 64;

/// Users who come back at each point.
const RETURNING: u64 = 5_000;

/// Pairs that talk at each point, and for how long.
const PAIRS: usize = 100;
const TALK: Duration = Duration::from_secs(2);

/// Users that a sweep looks at in one commit, as the server has it.
const SLICE: usize = 256;

/// Messages that fill a segment of the journal.
const SEGMENT: u64 = 200_000;

/// The store is at rest when it took less than a hundredth of this in processor time meanwhile, several times in a row.
const LOOK: Duration = Duration::from_millis(200);
const QUIET_LOOKS: u32 = 5;

/// An odd number with no pattern in its bits: names lie in no order.
const SCATTER: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Serialize)]
pub struct Row {
    users: u64,
    /// Until a new user's login is durable.
    new: Cost,
    /// What is moved to sled after that until the store is at rest, for each new user.
    settled_us: f64,
    settled_seconds: f64,
    /// Of a sweep that expires nothing, for each user; and how long its longest slice took, ms.
    sweep_us: f64,
    longest_slice_ms: f64,
    /// Of those who came first, and are in memory no more once there are many.
    forgotten: Cost,
    /// Of the same ones again.
    remembered: Cost,
    message_us: f64,
    disk_bytes: u64,
    memory_bytes: u64,
}

/// Of one login.
#[derive(Clone, Copy, Serialize)]
struct Cost {
    /// Processor time of the whole process, µs.
    cpu_us: f64,
    /// Reads from files.
    reads: f64,
}

pub fn run(what: &Users, parent: &Path, print: bool) -> Vec<Row> {
    let directory = tempfile::tempdir_in(parent).unwrap();
    let mut config = EngineConfig::new(directory.path());
    config.cache_bytes = what.cache_bytes.unwrap_or(config.cache_bytes);
    if print {
        println!("users, a cache of {:.0} MiB; µs of CPU a login, and reads from files", mib(config.cache_bytes));
        println!(
            "{:>9} {:>13} {:>8} {:>6} {:>13} {:>15} {:>15} {:>8} {:>8} {:>8}",
            "users",
            "new",
            "at rest",
            "after",
            "sweep, ms",
            "forgotten",
            "remembered",
            "message",
            "disk MiB",
            "mem MiB"
        );
    }
    let store: Arc<dyn Store> = Arc::new(Engine::open(&config).unwrap());
    let mut there = 0;
    let mut rows = Vec::new();
    for &users in what.users.iter() {
        let row = measure(&store, there, users.max(there + 1), directory.path());
        there = row.users;
        if print {
            show(&row);
        }
        rows.push(row);
    }
    wait(store.close()).unwrap();
    rows
}

fn measure(store: &Arc<dyn Store>, there: u64, users: u64, directory: &Path) -> Row {
    // Also makes the app.
    let pairs = pairs(&**store, &format!("talker-{users}-"), PAIRS);
    let new = logins(store, there..users);
    let (before, started) = (Cpu::now(), Instant::now());
    rest();
    let (settled, settled_seconds) = (Cpu::now().since(before), started.elapsed().as_secs_f64());
    let (sweep_us, longest_slice_ms) = sweep(&**store);
    let returning = 0..RETURNING.min(users);
    let forgotten = logins(store, returning.clone());
    let remembered = logins(store, returning);
    // Who came is in the journal's last segment still: messages fill it, and that is moved to sled.
    let mut load = Load::new(Arc::clone(store), pairs, |_| Manner::Prompt);
    load.run(Until::Messages(SEGMENT), &mut |_| {});
    rest();
    let before = Cpu::now();
    let run = load.run(Until::Time(TALK), &mut |_| {});
    let talked = Cpu::now().since(before);
    Row {
        users,
        new,
        settled_us: settled.all.as_secs_f64() / (users - there) as f64 * 1e6,
        settled_seconds,
        sweep_us,
        longest_slice_ms,
        forgotten,
        remembered,
        message_us: talked.all.as_secs_f64() / run.acked as f64 * 1e6,
        disk_bytes: on_disk(directory),
        memory_bytes: memory(),
    }
}

/// Each logs in with a commit of its own, as connections do.
fn logins(store: &Arc<dyn Store>, users: std::ops::Range<u64>) -> Cost {
    let count = users.end - users.start;
    let (before, read) = (Cpu::now(), reads());
    for from in users.clone().step_by(AT_ONCE as usize) {
        let (told, done) = std::sync::mpsc::sync_channel(AT_ONCE as usize);
        let here = from..users.end.min(from + AT_ONCE);
        let coming = here.end - here.start;
        for user in here {
            let told = told.clone();
            let name = format!("{:016x}", user.wrapping_mul(SCATTER));
            let batch: Vec<Operation> = vec![attach(&name)];
            wait(store.commit(batch, Completion::once(move |committed| told.send(committed.map(drop)).unwrap())));
        }
        (0..coming).for_each(|_| done.recv().unwrap().unwrap());
    }
    let cpu = Cpu::now().since(before);
    Cost { cpu_us: cpu.all.as_secs_f64() / count as f64 * 1e6, reads: (reads() - read) as f64 / count as f64 }
}

/// One pass over all users: µs of CPU a user, ms of the longest slice.
fn sweep(store: &dyn Store) -> (f64, f64) {
    let (before, mut after, mut longest, mut users) = (Cpu::now(), UserId(0), Duration::ZERO, 0);
    loop {
        let sweep = Sweep { app: APP, after, limit: SLICE, before: 1, connected: Arc::default() };
        let started = Instant::now();
        let mut swept = wait(commit_and_wait(store, vec![Operation::Sweep(sweep)])).unwrap();
        longest = longest.max(started.elapsed());
        users += SLICE;
        match swept.outcomes.remove(0) {
            Outcome::Swept { next: Some(next), devices: 0, entries: 0 } => after = next,
            Outcome::Swept { next: None, devices: 0, entries: 0 } => break,
            other => panic!("nothing should expire: {other:?}"),
        }
    }
    (Cpu::now().since(before).all.as_secs_f64() / users as f64 * 1e6, longest.as_secs_f64() * 1e3)
}

/// Returns when the store has nothing to do any more.
fn rest() {
    let mut quiet = 0;
    while quiet < QUIET_LOOKS {
        let before = Cpu::now();
        thread::sleep(LOOK);
        quiet = if Cpu::now().since(before).all < LOOK / 100 { quiet + 1 } else { 0 };
    }
}

fn show(row: &Row) {
    let Row { users, new, settled_us, settled_seconds, sweep_us, longest_slice_ms, .. } = row;
    let Row { forgotten, remembered, message_us, disk_bytes, memory_bytes, .. } = row;
    let cost = |Cost { cpu_us, reads }: &Cost| format!("{cpu_us:.1} ({reads:.1})");
    println!(
        "{users:>9} {:>13} {settled_us:>8.1} {settled_seconds:>5.1}s {:>13} {:>15} {:>15} {message_us:>8.2} {:>8.0} {:>8.0}",
        cost(new),
        format!("{sweep_us:.1}, {longest_slice_ms:.1}"),
        cost(forgotten),
        cost(remembered),
        mib(*disk_bytes),
        mib(*memory_bytes),
    );
}
