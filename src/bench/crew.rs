//! The connections of a run: brought up with bounded concurrency, each on a task of its own, and brought home.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::BenchError;
use super::connection::Broken;
use super::control::{Bell, Control, Stage, Steered};
use super::dial::{DialError, Dialer};
use super::meter::{Latencies, Percentiles};
use super::part::AnyPart;

/// Logins under way at once, at most.
const CONCURRENCY: u32 = 64;

/// The connections of a run.
pub struct Crew {
    dialer: Arc<Dialer>,
    control: Control,
    tasks: JoinSet<Played>,
    dialed: usize,
    up: Arc<AtomicU64>,
}

/// Who is to connect, and what for.
pub struct Member {
    /// The user.
    pub user: String,
    /// What the connection does.
    pub part: AnyPart,
}

/// How a ramp went.
#[derive(Clone, Copy, Debug)]
pub struct Ramped {
    /// From the first dial to the last login.
    pub took: Duration,
    /// From when a connection was meant to be made until its login was through.
    pub latencies: Option<Percentiles>,
    /// Connections whose TLS session resumed an earlier one.
    pub resumed: u64,
}

/// A connection that has ended, with its part and, if that is why, what broke it.
struct Played {
    part: AnyPart,
    ended: Result<(), Broken>,
}

/// Everything that came home.
#[derive(Default)]
pub struct Home {
    /// The parts, in no order.
    pub parts: Vec<AnyPart>,
    /// Why connections ended before the run did.
    pub broken: Vec<Broken>,
}

/// What the dials of one ramp report to.
#[derive(Default)]
struct Progress {
    latencies: Latencies,
    resumed: AtomicU64,
    failed: Mutex<Option<DialError>>,
}

impl Crew {
    /// With nobody in it yet.
    #[must_use]
    pub fn new(dialer: Arc<Dialer>) -> Self {
        let (control, tasks) = (Control::default(), JoinSet::new());
        Self { dialer, control, tasks, dialed: 0, up: Arc::default() }
    }

    /// Connections that are logged in, or were.
    #[must_use]
    pub fn up(&self) -> &Arc<AtomicU64> {
        &self.up
    }

    /// For one that is steered with the crew and is no connection.
    #[must_use]
    pub fn steer(&self) -> Steered {
        self.control.steer()
    }

    /// Moves everybody on.
    pub fn enter(&self, stage: Stage) {
        self.control.enter(stage);
    }

    /// Connects everybody, at most `rate` a second if that is given; returns when all are logged in, with the bells of
    /// the members, in their order.
    ///
    /// # Errors
    /// The first failure to connect.
    pub async fn ramp(
        &mut self,
        members: Vec<Member>,
        rate: Option<f64>,
    ) -> Result<(Ramped, Vec<Arc<Bell>>), BenchError> {
        let progress = Arc::new(Progress::default());
        let room = Arc::new(Semaphore::new(CONCURRENCY as usize));
        let clock = self.dialer.clock().clone();
        let start = clock.elapsed();
        let mut bells = Vec::with_capacity(members.len());
        for (n, member) in members.into_iter().enumerate() {
            let intended = rate.map(|rate| start + Duration::from_secs_f64(n as f64 / rate));
            if let Some(intended) = intended {
                tokio::time::sleep(intended.saturating_sub(clock.elapsed())).await;
            }
            // Nobody closes the semaphore.
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { break };
            if progress.has_failed() {
                break;
            }
            let steered = self.control.steer();
            bells.push(steered.bell());
            let task = Task {
                dialer: Arc::clone(&self.dialer),
                index: self.dialed,
                intended: intended.unwrap_or_else(|| clock.elapsed()),
                progress: Arc::clone(&progress),
                up: Arc::clone(&self.up),
            };
            self.dialed += 1;
            self.tasks.spawn(task.run(member, steered, permit));
        }
        drop(room.acquire_many(CONCURRENCY).await);
        let took = clock.elapsed().saturating_sub(start);
        if let Some(error) = progress.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(BenchError::Dial { server: self.dialer.address(), up: self.up.load(Ordering::Relaxed), error });
        }
        let resumed = progress.resumed.load(Ordering::Relaxed);
        Ok((Ramped { took, latencies: progress.latencies.percentiles(), resumed }, bells))
    }

    /// Waits until every sender is done, at most for `patience`; then halts the others and takes everybody home.
    pub async fn come_home(mut self, senders: usize, patience: Duration) -> Home {
        let mut home = Home::default();
        let done = async {
            while home.senders() < senders
                && let Some(played) = self.tasks.join_next().await
            {
                home.take(played);
            }
        };
        // What is not done by then, the audit tells.
        drop(tokio::time::timeout(patience, done).await);
        self.control.enter(Stage::Halt);
        while let Some(played) = self.tasks.join_next().await {
            home.take(played);
        }
        home
    }
}

impl Home {
    fn senders(&self) -> usize {
        self.parts.iter().filter(|part| matches!(part, AnyPart::Sender(_))).count()
    }

    fn take(&mut self, played: Result<Played, tokio::task::JoinError>) {
        match played {
            Ok(Played { part, ended }) => {
                self.parts.push(part);
                self.broken.extend(ended.err());
            }
            // It took its ledger with it: that is a fault of the run.
            Err(_) => self.broken.push(Broken::Panicked),
        }
    }
}

impl Progress {
    fn has_failed(&self) -> bool {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

struct Task {
    dialer: Arc<Dialer>,
    index: usize,
    intended: Duration,
    progress: Arc<Progress>,
    up: Arc<AtomicU64>,
}

impl Task {
    async fn run(self, member: Member, steered: Steered, permit: tokio::sync::OwnedSemaphorePermit) -> Played {
        let Member { user, mut part } = member;
        let Self { dialer, index, intended, progress, up } = self;
        let connection = match dialer.dial(index, user).await {
            Ok(connection) => connection,
            Err(error) => {
                progress.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                return Played { part, ended: Ok(()) };
            }
        };
        progress.latencies.record(index, std::iter::once(dialer.clock().elapsed().saturating_sub(intended)));
        progress.resumed.fetch_add(u64::from(connection.is_resumed()), Ordering::Relaxed);
        up.fetch_add(1, Ordering::Relaxed);
        drop((progress, permit));
        let ended = connection.play(&mut part, &steered, dialer.clock()).await;
        Played { part, ended }
    }
}
