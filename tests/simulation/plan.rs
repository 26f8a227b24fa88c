//! What happens in a simulation: its people, its bounds and a list of actions, all drawn from the seed beforehand.
//!
//! The list is what a failure prints, and what is made smaller: an action can be left out, and the rest still makes sense.

use std::fmt;

use postrider::router;

use crate::dice::Dice;
use crate::disk::Speed;
use crate::network::Quality;
use crate::runtime::{MS, Micros, SECOND};
use crate::server::Bounds;

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
const DEVICES: [&str; 3] = ["phone", "laptop", "tablet"];

/// Content that the server takes, in bytes.
pub const CONTENT_BYTES: usize = 400;

/// Ten years, in milliseconds.
const TEN_YEARS_MS: i64 = 10 * 365 * 24 * 60 * 60 * 1_000;

/// A whole simulation.
#[derive(Clone)]
pub struct Plan {
    pub seed: u64,
    /// What delays, cuts and turns are drawn from: the seed, unless somebody looks for a smaller plan.
    pub luck: u64,
    pub shape: Shape,
    /// In order of time.
    pub actions: Vec<(Micros, Action)>,
    /// From here on everything behaves, and must come to its end.
    pub healed: Micros,
}

/// What stays the same throughout.
#[derive(Clone)]
pub struct Shape {
    pub nodes: usize,
    pub programs: Vec<Program>,
    pub quality: Quality,
    pub speed: Speed,
    pub bounds: Bounds,
    /// `Hello.window`.
    pub window: u32,
    /// How long a client takes to make something durable.
    pub persist: (Micros, Micros),
    /// How long an application looks at an entry.
    pub think: (Micros, Micros),
    /// How many messages of a hundred are marked read at once.
    pub reads: u64,
}

/// A device's program.
#[derive(Clone)]
pub struct Program {
    /// Its place in [`APPS`](crate::server::APPS).
    pub app: usize,
    pub user: String,
    pub device: String,
    /// When it is started for the first time.
    pub born: Micros,
}

/// To whom.
#[derive(Clone, Copy, Debug)]
pub enum To {
    User(usize),
    Nobody,
}

/// How a connection breaks.
#[derive(Clone, Copy, Debug)]
pub enum Break {
    Reset,
    HalfOpen { to_server: bool, to_client: bool },
    Stall(Micros),
}

/// What the disk does.
#[derive(Clone, Copy, Debug)]
pub enum DiskFault {
    Stall(Micros),
    Full(Micros),
    Unreadable(Micros),
    /// And the server is started anew after that time.
    SyncFails(Micros),
}

/// One thing that happens.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// A program sends some messages of a size.
    Send {
        program: usize,
        to: To,
        count: u64,
        bytes: usize,
    },
    /// A program's connection breaks.
    Break {
        program: usize,
        how: Break,
    },
    /// Everybody's connection breaks, again and again.
    Storm {
        times: u64,
        every: Micros,
    },
    /// A program does not read its socket for a while.
    Slow {
        program: usize,
        time: Micros,
    },
    /// An application takes nothing for a while.
    Lazy {
        program: usize,
        time: Micros,
    },
    /// A program is killed and started again.
    KillProgram {
        program: usize,
        down: Micros,
    },
    /// A program with the same device and no state logs in for a while, and sends nothing.
    Twin {
        program: usize,
        time: Micros,
    },
    /// A node is killed, the machine with it or not, and started again.
    KillNode {
        node: usize,
        power: bool,
        down: Micros,
        kept: usize,
    },
    /// A node is told to stop and started again.
    StopNode {
        node: usize,
        down: Micros,
    },
    Disk(DiskFault),
    /// The wall clock is wrong by so much from now on.
    Clock {
        wrong_by_ms: i64,
    },
    /// What is older than this is expired.
    Sweep {
        retention_ms: u64,
    },
    /// The operator revokes a device.
    Revoke {
        program: usize,
    },
}

/// Kinds of faults; each plan has some of them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Break,
    Storm,
    Slow,
    KillProgram,
    Twin,
    KillNode,
    StopNode,
    Disk,
    Clock,
    Sweep,
    Revoke,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64) -> Self {
        let dice = Dice::new(seed, 0);
        let shape = shape(&dice);
        let healed = dice.between((3, 25)) * SECOND;
        let mut kinds = vec![];
        for (kind, percent) in [
            (Kind::Break, 60),
            (Kind::Storm, 25),
            (Kind::Slow, 40),
            (Kind::KillProgram, 40),
            (Kind::Twin, if shape.nodes == 1 { 15 } else { 0 }),
            (Kind::KillNode, 50),
            (Kind::StopNode, 20),
            (Kind::Disk, 30),
            (Kind::Clock, 30),
            (Kind::Sweep, if shape.nodes == 1 { 25 } else { 0 }),
            (Kind::Revoke, 10),
        ] {
            if dice.chance(percent) {
                kinds.push(kind);
            }
        }
        let mut actions: Vec<(Micros, Action)> = Vec::new();
        for _ in 0..dice.between((5, 40)) {
            let bytes = dice.pick(&[0, 0, 20, 20, 100, 300, CONTENT_BYTES + 1]);
            let count = match dice.below(200) {
                0 => 300,
                1..40 => dice.between((2, 25)),
                _ => 1,
            };
            let to = if dice.chance(6) { To::Nobody } else { To::User(dice.below(users(&shape)) as usize) };
            actions.push((dice.below(healed), Action::Send { program: program(&dice, &shape), to, count, bytes }));
        }
        if !kinds.is_empty() {
            for _ in 0..dice.between((1, 20)) {
                // Half of them soon after somebody has sent.
                let (sent, _) = actions[dice.below(actions.len() as u64) as usize];
                let soon = sent + dice.between((0, 2 * shape.quality.latency.1));
                let at = if dice.chance(50) { soon } else { dice.below(healed) };
                actions.push((at, fault(&dice, &shape, dice.pick(&kinds))));
            }
            if kinds.contains(&Kind::Sweep) {
                // Something to expire: somebody is away, is written to, and then it is swept.
                let (at, away) = (dice.below(healed), program(&dice, &shape));
                let user = USERS.iter().position(|user| shape.programs[away].user == *user).unwrap_or_default();
                let (to, from) = (To::User(user), program(&dice, &shape));
                actions.push((at, Action::KillProgram { program: away, down: 4 * SECOND }));
                actions.push((at + SECOND, Action::Send { program: from, to, count: 3, bytes: 0 }));
                actions.push((at + 3 * SECOND, Action::Sweep { retention_ms: dice.pick(&[0, 500]) }));
            }
            actions.retain(|(at, _)| *at < healed);
        }
        actions.sort_by_key(|(at, _)| *at);
        Plan { seed, luck: seed, shape, actions, healed }
    }
}

fn users(shape: &Shape) -> u64 {
    let known = USERS.iter().filter(|user| shape.programs.iter().any(|program| program.user == **user));
    known.count() as u64
}

fn program(dice: &Dice, shape: &Shape) -> usize {
    dice.below(shape.programs.len() as u64) as usize
}

fn shape(dice: &Dice) -> Shape {
    let mut programs = Vec::new();
    for user in USERS.iter().take(dice.between((2, 4)) as usize) {
        for (number, device) in DEVICES.iter().take(dice.pick(&[1, 1, 1, 2, 2, 3])).enumerate() {
            let late = number > 0 && dice.chance(50) || dice.chance(15);
            let born = if late { dice.below(3 * SECOND) } else { 0 };
            programs.push(Program { app: 0, user: (*user).into(), device: (*device).into(), born });
        }
    }
    if dice.chance(25) {
        // The same names in another app.
        for user in USERS.iter().take(2) {
            programs.push(Program { app: 1, user: (*user).into(), device: DEVICES[0].into(), born: 0 });
        }
    }
    let slowest = dice.pick(&[2 * MS, 2 * MS, 20 * MS, 150 * MS]);
    let sync = dice.pick(&[MS, MS, 5 * MS, 30 * MS]);
    Shape {
        nodes: if dice.chance(20) { 2 } else { 1 },
        programs,
        quality: Quality { latency: (50, slowest), buffer: dice.pick(&[200, 2_000, 64_000]) },
        speed: Speed { sync: (100, sync), read: (10, sync / 2) },
        bounds: Bounds {
            router: router::Config {
                inbox_entries: dice.pick(&[10, 1_000, 1_000, 1_000]),
                content_bytes: CONTENT_BYTES,
                outbound_bytes: dice.pick(&[100, 1_000, 16_000]),
            },
            login_timeout: dice.pick(&[2, 10]) * SECOND,
            idle_timeout: dice.pick(&[2, 3, 30]) * SECOND,
            max_frame_bytes: 64 * 1024,
        },
        window: dice.pick(&[1, 3, 16, 0]),
        persist: (10, dice.pick(&[20, 3 * MS, 40 * MS])),
        think: (10, dice.pick(&[20, MS, 50 * MS])),
        reads: dice.pick(&[0, 30, 100]),
    }
}

fn fault(dice: &Dice, shape: &Shape, kind: Kind) -> Action {
    let program = program(dice, shape);
    let node = dice.below(shape.nodes as u64) as usize;
    let soon = dice.between((MS, dice.pick(&[20 * MS, SECOND, 6 * SECOND])));
    match kind {
        Kind::Break => Action::Break {
            program,
            how: match dice.below(5) {
                0 | 1 => Break::Reset,
                2 | 3 => {
                    let (to_server, to_client) = dice.pick(&[(true, true), (true, false), (false, true)]);
                    Break::HalfOpen { to_server, to_client }
                }
                _ => Break::Stall(soon),
            },
        },
        Kind::Storm => Action::Storm { times: dice.between((2, 12)), every: dice.between((MS, 300 * MS)) },
        Kind::Slow if dice.chance(50) => Action::Slow { program, time: soon },
        Kind::Slow => Action::Lazy { program, time: soon },
        Kind::KillProgram => Action::KillProgram { program, down: soon },
        Kind::Twin => Action::Twin { program, time: soon },
        Kind::KillNode => {
            Action::KillNode { node, power: dice.chance(40), down: soon, kept: dice.pick(&[0, 0, 50, 100]) }
        }
        Kind::StopNode => Action::StopNode { node, down: soon },
        Kind::Disk => Action::Disk(match dice.below(4) {
            0 => DiskFault::Stall(soon),
            1 => DiskFault::Full(soon),
            2 => DiskFault::Unreadable(soon),
            _ => DiskFault::SyncFails(soon),
        }),
        Kind::Clock => Action::Clock { wrong_by_ms: dice.pick(&[-TEN_YEARS_MS, TEN_YEARS_MS, -5_000, 5_000, -1, 0]) },
        Kind::Sweep => Action::Sweep { retention_ms: dice.pick(&[0, 500, 2_000, 8_000, 30 * 24 * 3_600_000]) },
        Kind::Revoke => Action::Revoke { program },
    }
}

/// A length of time, for people.
pub struct Time(pub Micros);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} s", self.0 / SECOND, self.0 % SECOND)
    }
}

impl fmt::Display for Plan {
    /// A short script.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { nodes, programs, quality, speed, bounds, window, persist, think, reads } = &self.shape;
        writeln!(f, "seed {}: {nodes} node(s), window {window}, {reads} % read at once", self.seed)?;
        writeln!(f, "  network {quality:?}; disk {speed:?}; {:?}", bounds.router)?;
        writeln!(f, "  clients persist in {persist:?} µs and think {think:?} µs")?;
        let name = |number: &usize| {
            let Program { app, user, device, .. } = &programs[*number];
            let elsewhere = if *app == 0 { "" } else { "shop/" };
            format!("{elsewhere}{user}/{device}")
        };
        for (number, Program { born, .. }) in programs.iter().enumerate() {
            writeln!(f, "  {}  {} starts", Time(*born), name(&number))?;
        }
        for (at, action) in &self.actions {
            let what = match action {
                Action::Send { program, to, count, bytes } => {
                    let to = match to {
                        To::User(user) => USERS[*user],
                        To::Nobody => "nobody",
                    };
                    format!("{} sends {count} × {bytes} bytes to {to}", name(program))
                }
                Action::Break { program, how } => format!("{}'s connection breaks: {how:?}", name(program)),
                Action::Slow { program, time } => format!("{} does not read for {}", name(program), Time(*time)),
                Action::Lazy { program, time } => format!("{} takes nothing for {}", name(program), Time(*time)),
                Action::KillProgram { program, down } => {
                    format!("{} is killed, and back after {}", name(program), Time(*down))
                }
                Action::Twin { program, time } => {
                    format!("{} logs in without state elsewhere for {}", name(program), Time(*time))
                }
                Action::Revoke { program } => format!("{} is revoked", name(program)),
                other => format!("{other:?}"),
            };
            writeln!(f, "  {}  {what}", Time(*at))?;
        }
        write!(f, "  {}  all faults end", Time(self.healed))
    }
}

/// A user's name by number.
pub fn user_name(number: usize) -> &'static str {
    USERS[number]
}
