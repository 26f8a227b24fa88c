//! A server under load that is stopped again and again without being asked, while its applications crash too, and what
//! the auditor says of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use postrider_client::{Client, Trust};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::audit::Totals;
use super::{Audit, Cast, Plan, ServerProcess, Target, Verdict, open_state};

/// Who takes part: user, device, whom it writes to, and the pause between two messages in milliseconds.
type Role = (&'static str, &'static str, &'static [&'static str], u64);

const ROLES: [Role; 8] = [
    ("alice", "laptop", &["bob", "bea", "boris"], 4),
    ("anna", "laptop", &["bob", "bea", "boris"], 4),
    ("amir", "laptop", &["bob", "bea", "boris"], 4),
    ("bob", "phone", &["alice", "anna"], 20),
    ("bob", "tablet", &[], 20),
    ("bea", "phone", &["amir"], 20),
    ("boris", "phone", &[], 20),
    ("amir", "watch", &[], 20),
];

/// Who is away most of the time: what waits for them leaves the journal, and must be found elsewhere.
const ABSENTEES: [&str; 2] = ["boris", "watch"];

/// How many cycles an absentee is away.
const ABSENCE: std::ops::Range<u32> = 3..12;

/// Of the longest messages: a segment of the server's journal is full after a few cycles.
const PADDING: usize = 40_000;

/// How long all may stand still: longer than a client waits between two attempts, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// How often it is said how far it is, in cycles.
const PROGRESS: u32 = 10;

/// Stops a server without asking it.
pub trait Catastrophe {
    /// Returns when the server is gone and can be started again.
    fn strike(&mut self, server: &mut ServerProcess, chance: &mut StdRng);
}

/// `kill -9`.
pub struct Kill;

impl Catastrophe for Kill {
    fn strike(&mut self, server: &mut ServerProcess, _: &mut StdRng) {
        server.kill();
    }
}

/// What came of it.
pub struct Outcome {
    pub cycles: u32,
    /// Cycles in which the server was killed once more, while it started.
    pub killed_starting: u32,
    pub slowest_start: Duration,
    pub took: Duration,
    pub totals: Totals,
    pub verdict: Verdict,
}

/// Strikes so many times at random moments, each time starts the server again, and in the end lets everything arrive.
pub fn survive(mut server: ServerProcess, catastrophe: &mut dyn Catastrophe, cycles: u32, seed: u64) -> Outcome {
    let mut chance = StdRng::seed_from_u64(seed);
    let started = Instant::now();
    // What the applications stand on must survive what the server does not.
    let states = tempfile::tempdir().unwrap();
    let ca = std::fs::read(server.ca()).unwrap();
    std::fs::write(states.path().join("ca.pem"), &ca).unwrap();
    let audit = Audit::default();
    let cast = enter(&server, states.path(), &audit, &mut chance);
    let mut outcome = Outcome {
        cycles,
        killed_starting: 0,
        slowest_start: Duration::ZERO,
        took: Duration::ZERO,
        totals: Totals::default(),
        verdict: Verdict::default(),
    };
    let mut back_in = [0; ROLES.len()];
    for cycle in 1..=cycles {
        wait_for_acks(&audit, &cast, chance.random_range(1..50));
        std::thread::sleep(Duration::from_millis(chance.random_range(0..100)));
        catastrophe.strike(&mut server, &mut chance);
        // A client whose connections never last waits longer each time; one that starts anew does not.
        for (index, actor) in cast.actors.iter().enumerate() {
            if back_in[index] == cycle {
                actor.returns();
            } else if back_in[index] < cycle
                && ABSENTEES.iter().any(|who| [ROLES[index].0, ROLES[index].1].contains(who))
            {
                actor.leaves();
                back_in[index] = cycle + chance.random_range(ABSENCE);
            } else if chance.random_bool(0.4) {
                actor.crash();
            }
        }
        if chance.random_bool(0.25) {
            server.start_and_kill(Duration::from_millis(chance.random_range(0..200)));
            outcome.killed_starting += 1;
        }
        let asked = Instant::now();
        server.start_again();
        outcome.slowest_start = outcome.slowest_start.max(asked.elapsed());
        assert_eq!(std::fs::read(server.ca()).unwrap(), ca, "clients do not trust the server any more");
        if cycle % PROGRESS == 0 && cycle < cycles {
            println!("{cycle} of {cycles} cycles in {:.0?}; {} messages acked", started.elapsed(), audit.acks());
        }
    }
    outcome.verdict = cast.end();
    outcome.totals = audit.totals();
    outcome.took = started.elapsed();
    outcome
}

/// Links every device, and then lets the applications loose.
fn enter(server: &ServerProcess, states: &Path, audit: &Audit, chance: &mut StdRng) -> Cast {
    let state = |user: &str, device: &str| -> PathBuf { states.join(format!("{user}-{device}")) };
    let options = |user: &str, device: &str| {
        let trust = Trust::CaFile(states.join("ca.pem"));
        server.options(user, device).trust(trust).connect_timeout(Duration::from_secs(5))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Later devices begin where they were linked: all are there before the first word.
    for (user, device, ..) in ROLES {
        runtime.block_on(async {
            let state = open_state(&state(user, device)).await;
            let (client, _) = Client::connect(options(user, device), state).await.unwrap();
            client.close().await.unwrap();
        });
    }
    let mut cast = Cast::new(audit);
    for (user, device, writes_to, pace) in ROLES {
        let plan = Plan {
            options: options(user, device),
            state: state(user, device),
            writes_to: writes_to.iter().map(ToString::to_string).collect(),
            pace: Duration::from_millis(pace),
            padding: PADDING,
            seed: chance.random(),
        };
        cast.enter(audit.witness(user, device), plan);
    }
    cast
}

fn wait_for_acks(audit: &Audit, cast: &Cast, some: usize) {
    let acks = audit.acks();
    let deadline = Instant::now() + PATIENCE;
    while audit.acks() < acks + some {
        cast.must_go_on();
        assert!(Instant::now() < deadline, "nothing moves any more");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { cycles, killed_starting, slowest_start, took, totals, verdict } = self;
        let lines = [
            ("cycles", u64::from(*cycles)),
            ("  killed once more while starting", u64::from(*killed_starting)),
            ("applications crashed", totals.restarts),
            ("messages written", totals.written as u64),
            ("  acked", totals.acked as u64),
            ("  shown to their devices", totals.shown as u64),
            ("  again, after the application's own crash", totals.repeats),
            ("receipts", totals.receipts as u64),
            ("acked but lost", verdict.acked_but_lost),
            ("duplicated", verdict.duplicated),
            ("out of order", verdict.out_of_order),
            ("invented", verdict.invented),
            ("answers that differ", verdict.differing_answers),
            ("refused", verdict.refused),
            ("unanswered", verdict.unanswered),
            ("watermarks that were false", verdict.false_receipts),
            ("watermarks that went back", verdict.receipts_going_back),
            ("watermarks missing in the end", verdict.receipts_missing),
        ];
        for (what, count) in lines {
            writeln!(f, "{what:<46}{count:>9}")?;
        }
        write!(
            f,
            "{:<46}{:>7.2} s\n{:<46}{:>7.0} s",
            "slowest start",
            slowest_start.as_secs_f64(),
            "all",
            took.as_secs_f64()
        )
    }
}
