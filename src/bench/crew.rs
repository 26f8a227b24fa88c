//! The connections of a run: brought up with bounded concurrency, each on a task of its own, and brought home.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::runtime::{self, Runtime};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use super::BenchError;
use super::connection::{Broken, Connection, Ended};
use super::control::{Bell, Control, Stage, Steered};
use super::dial::{DialError, Dialer};
use super::member::Member;
use super::meter::{Latencies, Meter, Recorded};

/// How long a login is tried again for, where it is.
const PERSISTENCE: Duration = Duration::from_secs(300);

/// The shortest and the longest pause before a login is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How much threads that stand back do so: see nice(7). As much as those of our server on which logins happen, so that
/// neither side of a storm is in the other's way.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

/// How often it is looked whether everybody is done.
const GLANCE: Duration = Duration::from_millis(5);

/// How members come up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manner {
    /// Logins under way at once, at most.
    pub logins_at_once: u32,
    /// Logins a second, at most; `None` is as many as the server takes. Those of members that come back are not held
    /// back by it.
    pub logins_per_s: Option<f64>,
    /// A login that fails is tried again.
    pub tries_again: bool,
    /// A connection that breaks is made again.
    pub comes_back: bool,
}

/// The connections of a run.
pub struct Crew {
    shared: Arc<Shared>,
    control: Control,
    tasks: JoinSet<Played>,
    dialed: usize,
    /// Where its connections run, if not where it is called.
    apart: Option<Apart>,
}

/// A runtime of its own: what happens on other threads does not hold it up.
struct Apart(Option<Runtime>);

impl Drop for Apart {
    fn drop(&mut self) {
        // Its tasks have ended or are not needed any more, and to wait for them is not allowed here.
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// Lowers the priority of the calling thread. Where the system has no such thing for a thread, nobody stands back.
fn stand_back() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, NICENESS);
}

struct Shared {
    dialer: Arc<Dialer>,
    meter: Arc<Meter>,
    manner: Manner,
    /// For logins.
    room: Semaphore,
    up: Arc<AtomicU64>,
}

/// How a ramp went.
#[derive(Clone, Debug)]
pub struct Ramped {
    /// From when a connection was meant to be made until its login was through.
    pub latencies: Recorded,
    /// Connections whose TLS session resumed an earlier one.
    pub resumed: u64,
    /// The members' bells, in their order.
    pub bells: Vec<Arc<Bell>>,
}

/// A member that has ended, and what broke it if that is why.
struct Played {
    member: Member,
    ended: Result<(), Broken>,
}

/// Everything that came home.
#[derive(Default)]
pub struct Home {
    /// The members, in no order.
    pub members: Vec<Member>,
    /// Why connections ended before the run did.
    pub broken: Vec<Broken>,
}

/// What the dials of one ramp report to.
#[derive(Default)]
struct Progress {
    latencies: Latencies,
    resumed: AtomicU64,
    failed: Mutex<Option<DialError>>,
    /// Members that are up, that are not due yet, or that failed.
    settled: AtomicUsize,
    news: Notify,
}

impl Crew {
    /// With nobody in it yet.
    #[must_use]
    pub fn new(dialer: Arc<Dialer>, meter: Arc<Meter>, manner: Manner, up: Arc<AtomicU64>) -> Self {
        let room = Semaphore::new(manner.logins_at_once as usize);
        let shared = Arc::new(Shared { dialer, meter, manner, room, up });
        Self { shared, control: Control::default(), tasks: JoinSet::new(), dialed: 0, apart: None }
    }

    /// Its connections run on a thread of their own, so that what is measured on them is not the generator's work on
    /// others.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub fn apart(self) -> io::Result<Self> {
        self.on(runtime::Builder::new_multi_thread().worker_threads(1))
    }

    /// Its connections run on threads that stand back where others have something to do: those of another crew, apart,
    /// and those of a server on this machine.
    ///
    /// # Errors
    /// When the system has no threads for it.
    pub fn standing_back(self) -> io::Result<Self> {
        self.on(runtime::Builder::new_multi_thread().on_thread_start(stand_back))
    }

    fn on(mut self, threads: &mut runtime::Builder) -> io::Result<Self> {
        self.apart = Some(Apart(Some(threads.enable_all().build()?)));
        Ok(self)
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

    /// Connects everybody; returns when all are logged in that are due.
    ///
    /// # Errors
    /// The first failure to connect.
    pub async fn ramp(&mut self, members: Vec<Member>) -> Result<Ramped, BenchError> {
        let progress = Arc::new(Progress::default());
        let (clock, count) = (self.shared.dialer.clock().clone(), members.len());
        let start = clock.elapsed();
        let mut bells = Vec::with_capacity(count);
        for (n, member) in members.into_iter().enumerate() {
            let per_s = self.shared.manner.logins_per_s;
            let intended = per_s.map(|rate| start + Duration::from_secs_f64(n as f64 / rate));
            if let Some(intended) = intended {
                tokio::time::sleep(intended.saturating_sub(clock.elapsed())).await;
            }
            // Until there is room: what is not begun yet is not late, but for those who are meant to come at a rate.
            drop(self.shared.room.acquire().await);
            if progress.has_failed() {
                break;
            }
            let steered = self.control.steer();
            bells.push(steered.bell());
            let task = Task { shared: Arc::clone(&self.shared), index: self.dialed, steered };
            self.dialed += 1;
            let playing = task.run(member, intended, Arc::clone(&progress));
            match self.apart.as_ref().and_then(|apart| apart.0.as_ref()) {
                Some(runtime) => self.tasks.spawn_on(playing, runtime.handle()),
                None => self.tasks.spawn(playing),
            };
        }
        while progress.settled.load(Ordering::Acquire) < count && !progress.has_failed() {
            progress.news.notified().await;
        }
        if let Some(error) = progress.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let up = self.shared.up.load(Ordering::Relaxed);
            return Err(BenchError::Dial { server: self.shared.dialer.address(), up, error });
        }
        let resumed = progress.resumed.load(Ordering::Relaxed);
        Ok(Ramped { latencies: progress.latencies.recorded(), resumed, bells })
    }

    /// Drops every connection at once and takes the members home.
    pub async fn drop_all(self) -> Home {
        self.come_home(0, Duration::ZERO).await
    }

    /// Waits until so many senders are done, or nothing has happened for as long as `patience`; then halts the others
    /// and takes everybody home.
    pub async fn come_home(mut self, senders: u64, patience: Duration) -> Home {
        let (meter, clock) = (&self.shared.meter, self.shared.dialer.clock());
        let done = || (meter.finished(), meter.messages(), meter.received());
        let mut last = (done(), clock.elapsed());
        while meter.finished() < senders && clock.elapsed().saturating_sub(last.1) < patience {
            tokio::time::sleep(GLANCE).await;
            let now = done();
            if now != last.0 {
                last = (now, clock.elapsed());
            }
        }
        // What is not done by then, the audit tells.
        self.control.enter(Stage::Halt);
        let mut home = Home::default();
        while let Some(played) = self.tasks.join_next().await {
            home.take(played);
        }
        home
    }
}

impl Home {
    fn take(&mut self, played: Result<Played, tokio::task::JoinError>) {
        match played {
            Ok(Played { member, ended }) => {
                self.members.push(member);
                self.broken.extend(ended.err());
            }
            // It took its ledger with it: that is a fault of the run.
            Err(_) => self.broken.push(Broken::Panicked),
        }
    }

    /// Takes in another crew's.
    pub fn merge(&mut self, other: Self) {
        self.members.extend(other.members);
        self.broken.extend(other.broken);
    }
}

impl Progress {
    fn has_failed(&self) -> bool {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn settle(&self) {
        self.settled.fetch_add(1, Ordering::Release);
        self.news.notify_one();
    }

    fn fail(&self, error: DialError) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.settle();
    }
}

struct Task {
    shared: Arc<Shared>,
    index: usize,
    steered: Steered,
}

impl Task {
    /// `ramp` hears of the first login, or that none is due yet.
    async fn run(self, mut member: Member, mut intended: Option<Duration>, ramp: Arc<Progress>) -> Played {
        let Shared { dialer, meter, manner, up, .. } = &*self.shared;
        let mut ramp = Some(ramp);
        let ended = loop {
            if !self.is_awaited(&member) {
                ramp.take().iter().for_each(|ramp| ramp.settle());
                while !self.is_awaited(&member) {
                    self.steered.rung().await;
                }
            }
            if self.steered.stage() == Stage::Halt {
                break Ok(());
            }
            let connection = tokio::select! {
                connection = self.connect(&mut member, &mut intended) => connection,
                () = self.steered.reached(Stage::Halt) => break Ok(()),
            };
            let connection = match connection {
                Ok(connection) => connection,
                Err(error) => match ramp.take() {
                    Some(ramp) => {
                        ramp.fail(error);
                        break Ok(());
                    }
                    None => break Err(error.into()),
                },
            };
            let took = dialer.clock().elapsed().saturating_sub(intended.take().unwrap_or_default());
            match ramp.take() {
                Some(ramp) => {
                    ramp.latencies.record(self.index, std::iter::once(took));
                    ramp.resumed.fetch_add(u64::from(connection.is_resumed()), Ordering::Relaxed);
                    ramp.settle();
                }
                None => meter.returned(self.index, took),
            }
            up.fetch_add(1, Ordering::Relaxed);
            let ended = connection.play(&mut member, &self.steered, dialer.clock()).await;
            up.fetch_sub(1, Ordering::Relaxed);
            match ended {
                Ok(Ended::Left) => {}
                Ok(Ended::Done) => break Ok(()),
                Err(broken) if manner.comes_back && broken.may_pass() => {}
                Err(broken) => break Err(broken),
            }
        };
        ramp.iter().for_each(|ramp| ramp.settle());
        Played { member, ended }
    }

    /// Whether the member is to be connected, or to end.
    fn is_awaited(&self, member: &Member) -> bool {
        self.steered.stage() >= Stage::Finish || member.is_there(self.shared.dialer.clock().elapsed())
    }

    /// Logs in when there is room. What is not said to be intended earlier is intended from then on.
    async fn connect(&self, member: &mut Member, intended: &mut Option<Duration>) -> Result<Connection, DialError> {
        let Shared { dialer, meter, manner, room, .. } = &*self.shared;
        let (clock, mut pause) = (dialer.clock(), BACKOFF.0);
        loop {
            // Nobody closes the semaphore.
            let permit = room.acquire().await;
            let since = *intended.get_or_insert_with(|| clock.elapsed());
            let error = match dialer.dial(self.index, member).await {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            drop(permit);
            let tired = clock.elapsed().saturating_sub(since) > PERSISTENCE;
            if !manner.tries_again || !error.may_pass() || tired {
                return Err(error);
            }
            meter.retry();
            let ms = u32::try_from(pause.as_millis()).unwrap_or(u32::MAX);
            tokio::time::sleep(pause / 2 + Duration::from_millis(clock.random_up_to(ms).into())).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }
}
