//! Time and scheduling: a clock that moves only when nobody has anything to do, and the set of tasks that have.
//!
//! Everything in a simulation is a task with a number. Waking puts the number into a set; the world takes a random one
//! out of it. So every order in which tasks could run is possible, and which one comes is the seed's to say.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use crate::dice::Dice;

/// Simulated time since the start, in microseconds.
pub type Micros = u64;

/// A millisecond.
pub const MS: Micros = 1_000;

/// A second.
pub const SECOND: Micros = 1_000 * MS;

/// Names a task.
pub type TaskId = u64;

/// The clock, the timers and the tasks that are ready.
pub struct Runtime {
    inner: Mutex<Inner>,
    ready: Arc<Ready>,
    dice: Dice,
}

struct Inner {
    now: Micros,
    /// Ordered by time; what is due at the same moment wakes together.
    timers: BTreeMap<(Micros, u64), Waker>,
    made: u64,
}

#[derive(Default)]
struct Ready(Mutex<BTreeSet<TaskId>>);

struct TaskWaker {
    id: TaskId,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.0.lock().expect("one thread").insert(self.id);
    }
}

impl Runtime {
    /// A clock at 0 and no task.
    pub fn new(seed: u64) -> Arc<Self> {
        let inner = Inner { now: 0, timers: BTreeMap::new(), made: 0 };
        Arc::new(Self { inner: Mutex::new(inner), ready: Arc::default(), dice: Dice::new(seed, 1) })
    }

    /// The time.
    pub fn now(&self) -> Micros {
        self.inner.lock().expect("one thread").now
    }

    /// What wakes this task.
    pub fn waker(&self, id: TaskId) -> Waker {
        Waker::from(Arc::new(TaskWaker { id, ready: Arc::clone(&self.ready) }))
    }

    /// Wakes `waker` at that time, or now if it is past.
    pub fn wake_at(&self, at: Micros, waker: Waker) {
        let mut inner = self.inner.lock().expect("one thread");
        inner.made += 1;
        let key = (at.max(inner.now), inner.made);
        inner.timers.insert(key, waker);
    }

    /// When the next timer rings.
    pub fn next_timer(&self) -> Option<Micros> {
        self.inner.lock().expect("one thread").timers.keys().next().map(|(at, _)| *at)
    }

    /// Moves the clock and rings what is due.
    pub fn advance(&self, to: Micros) {
        let mut inner = self.inner.lock().expect("one thread");
        inner.now = inner.now.max(to);
        while let Some(first) = inner.timers.first_entry() {
            if first.key().0 > to {
                return;
            }
            first.remove().wake();
        }
    }

    /// How many tasks are ready.
    pub fn ready(&self) -> usize {
        self.ready.0.lock().expect("one thread").len()
    }

    /// Takes a random one of the ready tasks.
    pub fn take_ready(&self) -> Option<TaskId> {
        let mut ready = self.ready.0.lock().expect("one thread");
        let index = self.dice.below(ready.len() as u64);
        let id = ready.iter().nth(usize::try_from(index).expect("small")).copied()?;
        ready.remove(&id);
        Some(id)
    }

    /// Waits.
    pub fn sleep(self: &Arc<Self>, time: Micros) -> Sleep {
        self.sleep_until(self.now() + time)
    }

    /// Waits until that time.
    pub fn sleep_until(self: &Arc<Self>, at: Micros) -> Sleep {
        Sleep { runtime: Arc::clone(self), at, registered: false }
    }
}

/// See [`Runtime::sleep`].
pub struct Sleep {
    runtime: Arc<Runtime>,
    at: Micros,
    registered: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.runtime.now() >= self.at {
            return Poll::Ready(());
        }
        if !std::mem::replace(&mut self.registered, true) {
            self.runtime.wake_at(self.at, cx.waker().clone());
        }
        Poll::Pending
    }
}

/// `future`, or `None` if it takes longer.
pub async fn timeout<F: Future>(runtime: &Arc<Runtime>, time: Micros, future: F) -> Option<F::Output> {
    let mut sleep = runtime.sleep(time);
    let mut future = Box::pin(future);
    std::future::poll_fn(move |cx| {
        // As `select!` has it: if both are there, either may win.
        if runtime.dice.chance(50) && Pin::new(&mut sleep).poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        Pin::new(&mut sleep).poll(cx).map(|()| None)
    })
    .await
}
