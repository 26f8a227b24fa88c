//! Durable appends a second, and what one costs: the store against a bare loop of append and `fdatasync` on the same
//! disk, in the same run. See `README.md` beside this file.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use postrider::ids::{AppId, DeviceId, Position, SendId};
use postrider::store::engine::{Engine, EngineConfig};
use postrider::store::{
    Admission, Attach, Attached, Batch, Committed, Operation, Outcome, Received, Recipient, Send, Store,
    commit_and_wait,
};

const SECONDS: Duration = Duration::from_secs(8);
const CONTENT: &[u8] = &[b'x'; 100];

/// Of ten recipients, one is offline: its messages stay.
const ONE_OFFLINE_IN: usize = 10;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let parent = arguments.first().map_or("target", String::as_str);
    println!("{:>34} {:>12} {:>10} {:>9} {:>9} {:>9}", "", "appends/s", "p99 ms", "store µs", "spill µs", "all µs");
    for producers in [64, 1000] {
        let directory = tempfile::tempdir_in(parent).unwrap();
        store(directory.path(), producers);
        let directory = tempfile::tempdir_in(parent).unwrap();
        bare(directory.path(), producers);
    }
}

/// Each producer sends, waits for the ack, and its recipient confirms unless it is offline.
fn store(directory: &Path, producers: usize) {
    let engine: Arc<dyn Store> = Arc::new(Engine::open(&EngineConfig::new(directory)).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let pairs: Vec<_> = (0..producers)
        .map(|pair| {
            runtime.block_on(async {
                let operations = [EnsureOrAttach::App, EnsureOrAttach::User(format!("a{pair}"))];
                let mut attached = Vec::new();
                for operation in operations.into_iter().chain([EnsureOrAttach::User(format!("b{pair}"))]) {
                    attached.extend(operation.run(&*engine).await);
                }
                (attached.remove(0), attached.remove(0))
            })
        })
        .collect();
    let acked = Arc::new(AtomicU64::new(0));
    let before = Cpu::now();
    let started = Instant::now();
    let tasks: Vec<_> = pairs
        .into_iter()
        .enumerate()
        .map(|(pair, (sender, recipient))| {
            let (engine, acked) = (Arc::clone(&engine), Arc::clone(&acked));
            let online = pair % ONE_OFFLINE_IN != 0;
            runtime.spawn(async move {
                let mut slowest = Vec::new();
                for id in 1.. {
                    let asked = Instant::now();
                    if asked - started > SECONDS {
                        break;
                    }
                    let committed = commit_and_wait(&*engine, send(&sender, id, pair)).await.unwrap();
                    slowest.push(asked.elapsed());
                    acked.fetch_add(1, Ordering::Relaxed);
                    if online {
                        let positions = committed.published.iter().filter(|entry| entry.user == recipient.user);
                        let Some(position) = positions.map(|entry| entry.entry.position).last() else { continue };
                        engine.commit(received(&recipient, position), Box::new(|_: Result<Committed, _>| ())).await;
                    }
                }
                slowest
            })
        })
        .collect();
    let mut latencies: Vec<Duration> = tasks.into_iter().flat_map(|task| runtime.block_on(task).unwrap()).collect();
    let (elapsed, cpu) = (started.elapsed(), Cpu::now().since(&before));
    runtime.block_on(engine.close()).unwrap();
    let acked = acked.load(Ordering::Relaxed);
    report(&format!("store, {producers} producers"), acked, elapsed, &mut latencies, &cpu);
    let bytes = |path: &str| {
        let files = fs::read_dir(directory.join(path)).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    println!("{:>34} sled {} MiB, journal {} MiB", "", bytes("sled") >> 20, bytes("journal") >> 20);
}

/// The physical limit for groups of this size: one write and one `fdatasync` for all producers at once.
fn bare(directory: &Path, producers: usize) {
    let group = vec![b'x'; producers * 500];
    let path = directory.join("bare");
    fs::write(&path, vec![0; 256 << 20]).unwrap();
    let mut file = File::options().write(true).open(&path).unwrap();
    file.sync_all().unwrap();
    let before = Cpu::now();
    let started = Instant::now();
    let (mut groups, mut latencies) = (0u64, Vec::new());
    while started.elapsed() < SECONDS / 2 {
        let asked = Instant::now();
        if (groups + 1) * group.len() as u64 % (256 << 20) < group.len() as u64 {
            file = File::options().write(true).open(&path).unwrap();
        }
        file.write_all(&group).unwrap();
        file.sync_data().unwrap();
        latencies.push(asked.elapsed());
        groups += 1;
    }
    let (elapsed, cpu) = (started.elapsed(), Cpu::now().since(&before));
    report(&format!("bare, groups of {producers} × 500 B"), groups * producers as u64, elapsed, &mut latencies, &cpu);
}

fn report(what: &str, count: u64, elapsed: Duration, latencies: &mut [Duration], cpu: &Cpu) {
    latencies.sort();
    let p99 = latencies[latencies.len() * 99 / 100].as_secs_f64() * 1e3;
    let each = |seconds: f64| seconds * 1e6 / count as f64;
    let rate = count as f64 / elapsed.as_secs_f64();
    let (store, spill, all) = (each(cpu.store), each(cpu.spill), each(cpu.all));
    println!("{what:>34} {rate:>12.0} {p99:>10.2} {store:>9.2} {spill:>9.2} {all:>9.2}");
}

/// Seconds of processor time so far.
struct Cpu {
    /// The committer's thread.
    store: f64,
    /// The spill's thread.
    spill: f64,
    /// The whole process, load generator included.
    all: f64,
}

impl Cpu {
    fn now() -> Cpu {
        let mut cpu = Cpu { store: 0.0, spill: 0.0, all: 0.0 };
        for thread in fs::read_dir("/proc/self/task").unwrap() {
            let path = thread.unwrap().path();
            let Ok(name) = fs::read_to_string(path.join("comm")) else { continue };
            let Ok(scheduled) = fs::read_to_string(path.join("schedstat")) else { continue };
            let seconds = scheduled.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9;
            match name.trim() {
                "store" => cpu.store += seconds,
                "store-spill" => cpu.spill += seconds,
                _ => {}
            }
            cpu.all += seconds;
        }
        cpu
    }

    fn since(&self, before: &Cpu) -> Cpu {
        Cpu { store: self.store - before.store, spill: self.spill - before.spill, all: self.all - before.all }
    }
}

enum EnsureOrAttach {
    App,
    User(String),
}

impl EnsureOrAttach {
    async fn run(self, store: &dyn Store) -> Option<Attached> {
        let operation = match self {
            EnsureOrAttach::App => Operation::EnsureApp("bench".into()),
            EnsureOrAttach::User(user) => Operation::Attach(Attach {
                app: AppId(1),
                user,
                device: "phone".into(),
                device_id: DeviceId(0),
                cursor: Position(0),
                admission: Admission::Open,
                now: 1,
            }),
        };
        match commit_and_wait(store, vec![operation]).await.unwrap().outcomes.remove(0) {
            Outcome::Attached(attached) => Some(attached),
            _ => None,
        }
    }
}

fn send(from: &Attached, id: u64, pair: usize) -> Batch {
    vec![Operation::Send(Send {
        app: AppId(1),
        user: from.user,
        device: from.device,
        send_id: SendId(id),
        to: Recipient::User(format!("b{pair}")),
        content: Bytes::from_static(CONTENT),
        refuse: None,
        create_recipient: false,
        inbox_limit: 100_000_000,
        now: 1,
    })]
}

fn received(by: &Attached, position: Position) -> Batch {
    vec![Operation::Received(Received { app: AppId(1), user: by.user, device: by.device, position, now: 1 })]
}
