//! The connections of a run: brought up with bounded concurrency, each on a task of its own, and brought home.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postrider::bench::control::{Bell, Control, Stage, Steered};
use postrider::bench::meter::{Latencies, Percentiles};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};

use crate::link::{Broken, Dialer};
use crate::part::Part;
use crate::wire::Wire;

/// Logins under way at once, at most.
const CONCURRENCY: u32 = 64;

/// The longest time without any login coming through.
const LOGIN_PATIENCE: Duration = Duration::from_secs(30);

/// The connections of a run.
pub struct Crew {
    dialer: Arc<Dialer>,
    control: Control,
    tasks: JoinSet<Played>,
    up: u64,
}

/// Who is to connect, and what for.
pub struct Member {
    /// Speaks the protocol.
    pub wire: Box<dyn Wire>,
    /// What the connection does.
    pub part: Part,
}

/// How a ramp went.
pub struct Ramped {
    /// From the first dial to the last login.
    pub took: Duration,
    /// From the dial to the login, of each.
    pub latencies: Option<Percentiles>,
    /// What wakes the members, in their order.
    pub bells: Vec<Arc<Bell>>,
}

/// Why not everybody came up.
#[derive(Debug, thiserror::Error)]
pub enum RampError {
    /// A connection broke before it was through.
    #[error("cannot log in ({0} connections are up): {1}")]
    Broken(u64, Broken),
    /// Nothing moved any more.
    #[error("a login is not through after {patience} s ({0} connections are up)", patience = LOGIN_PATIENCE.as_secs())]
    Stuck(u64),
}

/// A connection that has ended, with its part and, if that is why, what broke it.
struct Played {
    part: Part,
    ended: Result<(), Broken>,
}

/// Everything that came home.
#[derive(Default)]
pub struct Home {
    /// The parts, in no order.
    pub parts: Vec<Part>,
    /// Why connections ended before the run did.
    pub broken: Vec<Broken>,
}

/// What the dials of one ramp report to.
#[derive(Default)]
struct Progress {
    latencies: Latencies,
    up: AtomicU64,
    failed: Mutex<Option<Broken>>,
}

impl Crew {
    /// With nobody in it yet.
    #[must_use]
    pub fn new(dialer: &Arc<Dialer>) -> Self {
        Self { dialer: Arc::clone(dialer), control: Control::default(), tasks: JoinSet::new(), up: 0 }
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

    /// Connects everybody; returns when all are logged in.
    ///
    /// # Errors
    /// The first failure to log in.
    pub async fn ramp(&mut self, members: impl IntoIterator<Item = Member>) -> Result<Ramped, RampError> {
        let progress = Arc::new(Progress::default());
        let room = Arc::new(Semaphore::new(CONCURRENCY as usize));
        let start = self.dialer.clock().elapsed();
        let mut bells = Vec::new();
        for member in members {
            let Some(permit) = self.permit(&room, 1, &progress).await? else { break };
            let steered = self.control.steer();
            bells.push(steered.bell());
            let (dialer, progress) = (Arc::clone(&self.dialer), Arc::clone(&progress));
            self.tasks.spawn(play(member, dialer, steered, progress, permit));
        }
        self.permit(&room, CONCURRENCY, &progress).await?;
        let took = self.dialer.clock().elapsed().saturating_sub(start);
        self.up += progress.up.load(Ordering::Relaxed);
        Ok(Ramped { took, latencies: progress.latencies.percentiles(), bells })
    }

    async fn permit(
        &self,
        room: &Arc<Semaphore>,
        permits: u32,
        progress: &Progress,
    ) -> Result<Option<OwnedSemaphorePermit>, RampError> {
        let permit = tokio::time::timeout(LOGIN_PATIENCE, Arc::clone(room).acquire_many_owned(permits)).await;
        let up = self.up + progress.up.load(Ordering::Relaxed);
        if let Some(broken) = progress.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(RampError::Broken(up, broken));
        }
        // Nobody closes the semaphore.
        permit.map(Result::ok).map_err(|_| RampError::Stuck(up))
    }

    /// Waits until so many senders are done, at most for `patience`; then halts the others and takes everybody home.
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
        self.parts.iter().filter(|part| matches!(part, Part::Sender(_))).count()
    }

    fn take(&mut self, played: Result<Played, JoinError>) {
        match played {
            Ok(Played { part, ended }) => {
                self.parts.push(part);
                self.broken.extend(ended.err());
            }
            // It took its ledger with it: that is a fault of the run.
            Err(_) => self.broken.push(Broken::Panicked),
        }
    }

    /// With what another crew brought.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.parts.extend(other.parts);
        self.broken.extend(other.broken);
        self
    }
}

async fn play(
    member: Member,
    dialer: Arc<Dialer>,
    steered: Steered,
    progress: Arc<Progress>,
    permit: OwnedSemaphorePermit,
) -> Played {
    let Member { wire, mut part } = member;
    let start = dialer.clock().elapsed();
    let mut permit = Some(permit);
    let ended = match dialer.dial(wire).await {
        Ok(link) => {
            let is_ready = || {
                let took = dialer.clock().elapsed().saturating_sub(start);
                let nth = progress.up.fetch_add(1, Ordering::Relaxed);
                progress.latencies.record(nth as usize, std::iter::once(took));
                permit = None;
            };
            link.play(&mut part, &steered, dialer.clock(), is_ready).await
        }
        Err(broken) => Err(broken),
    };
    match ended {
        // The permit is given back after the failure is known: who gets it, sees it.
        Err(broken) if permit.is_some() => {
            progress.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(broken);
            drop(permit);
            Played { part, ended: Ok(()) }
        }
        ended => Played { part, ended },
    }
}
