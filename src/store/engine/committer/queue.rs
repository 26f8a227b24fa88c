//! The hand-off between those who decide and the thread that makes durable: who waits, whether the way is open, and what
//! the thread does next.
//!
//! It knows neither what is decided nor what a disk is, so that `tests/models` can put it under a model checker.
//!
//! # What holds
//! - Who waits is put in the queue under the lock under which was decided: the order of the answers is that of the decisions.
//! - The thread takes those who wait under the lock under which it takes what was decided: who is in a group, waits for that.
//! - Whoever changes what the thread looks at wakes it if it sleeps. It says under the lock that it will sleep, so that
//!   nobody wakes it in vain and nobody thinks it awake.
//! - Those who wait, or are being answered, never weigh more than is allowed; one who weighs more waits alone.
//! - Only the thread closes the gate and makes room, and whatever opens it or makes room tells those who wait for that.

use std::mem;
use std::sync::PoisonError;
use std::time::Duration;

use crate::sync::{AtomicU64, Condvar, Mutex, MutexGuard, Notified, Notify, Ordering};

/// How long what nobody waits for may stay in memory: it goes with the next group, or after this.
const LAZY_PAUSE: Duration = Duration::from_millis(5);

/// How often is looked whether there is room again, if nobody tells.
const GATE_PAUSE: Duration = Duration::from_millis(500);

/// What is queued, in the words of whoever queues it.
pub trait Terms {
    /// What is decided on.
    type State;
    /// Who waits until a decision is durable.
    type Waiting;
    /// Who waits until a segment has ended.
    type Ending;
    /// Why nothing can be made durable any more.
    type Failure: Clone;
}

/// What those who decide and the thread share.
pub struct Queue<T: Terms> {
    core: Mutex<Core<T>>,
    /// All groups up to this one are durable. Beside the lock: the thread would wait for it once more for each group.
    durable: AtomicU64,
    /// Wakes the thread.
    wake: Condvar,
    /// Tells those who wait at the gate, or for room.
    opened: Notify,
}

/// The state, and what is on its way to the disk.
pub struct Core<T: Terms> {
    /// What is decided on: ahead of the disk by those who wait.
    pub state: T::State,
    /// Why nothing can be committed any more.
    pub failure: Option<T::Failure>,
    waiting: Vec<T::Waiting>,
    /// What those weigh together.
    gathered: usize,
    /// What they and those who are being answered weigh.
    taken: usize,
    /// What all may weigh.
    room: usize,
    /// Whether somebody found no room.
    crowded: bool,
    /// Whether somebody waits who must not wait longer than it takes.
    urgent: bool,
    gate: Gate,
    /// Whether the thread sleeps and must be woken.
    asleep: bool,
    /// Somebody saw that there may be room again.
    look_at_gate: bool,
    closed: bool,
    ending: Vec<T::Ending>,
}

/// Whether something may be decided.
pub enum Gate {
    /// There is room for all that may be queued.
    Open,
    /// The spill has fallen behind.
    Behind,
    /// The disk has no room, and why.
    Full(String),
}

/// How it stands for whoever comes to decide.
pub enum Way<'a, F> {
    /// Decide, and [`Queue::push`] who waits for it.
    Open,
    /// Decide nothing; [`Queue::opened`] tells when it is worth coming again.
    Wait,
    /// Decide nothing and say why.
    Full(&'a str),
    /// Nothing will ever be decided again, and why.
    Failed(&'a F),
    /// Nothing will ever be answered again.
    Closed,
}

/// What the thread does with what it is handed.
pub trait Hands<T: Terms> {
    /// Makes durable what was decided and is not, and says so by [`Queue::set_durable`]; returns why it could not.
    fn make_durable(&mut self, core: MutexGuard<'_, Core<T>>) -> Option<T::Failure>;

    /// Answers those who waited for that, in order; none is left.
    fn answer(&mut self, group: &mut Vec<T::Waiting>, failure: Option<&T::Failure>);

    /// Sets the gate by the room there is.
    fn look_at_gate(&mut self);

    /// Ends the segment for whoever wants that: all that was decided is durable and in it.
    fn end_segment(&mut self, core: MutexGuard<'_, Core<T>>, wanted: Vec<T::Ending>);
}

enum Next<'a, T: Terms> {
    Commit(MutexGuard<'a, Core<T>>),
    Look,
    EndSegment(MutexGuard<'a, Core<T>>),
    End,
}

impl<T: Terms> Queue<T> {
    /// The gate is open, and is looked at first. Those who wait may weigh as much as there is `room`.
    pub fn new(state: T::State, durable: u64, room: usize) -> Self {
        let core = Core {
            state,
            failure: None,
            waiting: Vec::new(),
            gathered: 0,
            taken: 0,
            room,
            crowded: false,
            urgent: false,
            gate: Gate::Open,
            asleep: false,
            look_at_gate: true,
            closed: false,
            ending: Vec::new(),
        };
        Queue { core: Mutex::new(core), durable: AtomicU64::new(durable), wake: Condvar::new(), opened: Notify::new() }
    }

    /// All groups up to this one are durable.
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// All groups up to this one are durable, from now on.
    pub fn set_durable(&self, group: u64) {
        self.durable.store(group, Ordering::Release);
    }

    /// For deciding, and for looking at what was.
    pub fn core(&self) -> MutexGuard<'_, Core<T>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What ends when the gate is opened or there is room again. To be asked for before one looks whether that is so: later,
    /// it may be missed.
    pub fn opened(&self) -> Notified<'_> {
        self.opened.notified()
    }

    /// Lets somebody wait for what was decided under this guard, who weighs what [`Core::way`] was asked for. What is not
    /// urgent goes with a group, or after a pause.
    pub fn push(&self, mut core: MutexGuard<'_, Core<T>>, waiting: T::Waiting, weight: usize, urgent: bool) {
        let first = core.waiting.is_empty();
        core.waiting.push(waiting);
        core.gathered += weight;
        core.taken += weight;
        if urgent || first {
            core.urgent |= urgent;
            self.wake(core);
        }
    }

    /// Lets somebody wait for the end of the segment, which will have all that is decided by now; `false` when the queue is
    /// closed.
    pub fn end_segment(&self, ending: T::Ending) -> bool {
        let mut core = self.core();
        if core.closed {
            return false;
        }
        core.ending.push(ending);
        self.wake(core);
        true
    }

    /// There may be room where there was none.
    pub fn look_at_gate(&self) {
        let mut core = self.core();
        core.look_at_gate = true;
        self.wake(core);
    }

    /// Lets nobody decide, or everybody again.
    pub fn set_gate(&self, gate: Gate) {
        self.core().gate = gate;
        self.opened.notify_waiters();
    }

    /// Nothing more is committed; the first reason stays.
    pub fn fail(&self, failure: T::Failure) {
        let mut core = self.core();
        core.failure.get_or_insert(failure);
        core.gate = Gate::Open;
        self.wake(core);
        self.opened.notify_waiters();
    }

    /// Nothing more is taken; the thread ends after what was.
    pub fn close(&self) {
        let mut core = self.core();
        core.closed = true;
        core.gate = Gate::Open;
        self.wake(core);
        self.opened.notify_waiters();
    }

    /// Closes, and takes those whom the thread has left without an answer.
    pub fn abandon(&self) -> (Vec<T::Waiting>, Vec<T::Ending>) {
        self.close();
        let mut core = self.core();
        (mem::take(&mut core.waiting), mem::take(&mut core.ending))
    }

    /// The thread's life: until the queue is closed and all it took is answered.
    pub fn run(&self, hands: &mut impl Hands<T>) {
        // Empty between groups; the allocation is kept.
        let mut group = Vec::new();
        let mut answered = 0;
        loop {
            match self.next(mem::take(&mut answered)) {
                Next::Commit(mut core) => {
                    mem::swap(&mut core.waiting, &mut group);
                    answered = mem::take(&mut core.gathered);
                    let failure = match core.failure.clone() {
                        None => hands.make_durable(core),
                        failure => {
                            drop(core);
                            failure
                        }
                    };
                    hands.answer(&mut group, failure.as_ref());
                }
                Next::Look => hands.look_at_gate(),
                Next::EndSegment(mut core) => {
                    let wanted = mem::take(&mut core.ending);
                    hands.end_segment(core, wanted);
                }
                Next::End => return,
            }
        }
    }

    /// Gives back the room of those who are answered, and waits for something to do.
    fn next(&self, answered: usize) -> Next<'_, T> {
        let mut core = self.core();
        core.taken -= answered;
        if answered > 0 && mem::take(&mut core.crowded) {
            drop(core);
            self.opened.notify_waiters();
            core = self.core();
        }
        loop {
            if mem::take(&mut core.look_at_gate) && core.failure.is_none() {
                return Next::Look;
            }
            let somebody_waits = !core.waiting.is_empty();
            let ends = core.closed || !core.ending.is_empty();
            if mem::take(&mut core.urgent) || somebody_waits && ends {
                return Next::Commit(core);
            }
            if !core.ending.is_empty() {
                return Next::EndSegment(core);
            }
            if core.closed {
                return Next::End;
            }
            core.asleep = true;
            let pause = match core.gate {
                _ if somebody_waits => LAZY_PAUSE,
                Gate::Open => Duration::MAX,
                Gate::Behind | Gate::Full(_) => GATE_PAUSE,
            };
            if pause == Duration::MAX {
                core = self.wake.wait(core).unwrap_or_else(PoisonError::into_inner);
            } else {
                let (woken, waited) = self.wake.wait_timeout(core, pause).unwrap_or_else(PoisonError::into_inner);
                core = woken;
                core.urgent |= waited.timed_out() && somebody_waits;
                core.look_at_gate |= waited.timed_out() && !somebody_waits;
            }
            core.asleep = false;
        }
    }

    fn wake(&self, mut core: MutexGuard<'_, Core<T>>) {
        let asleep = mem::take(&mut core.asleep);
        drop(core);
        if asleep {
            self.wake.notify_one();
        }
    }
}

impl<T: Terms> Core<T> {
    /// Whether nothing more is taken.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether something may be decided now that weighs so much until it is answered.
    pub fn way(&mut self, weight: usize) -> Way<'_, T::Failure> {
        let fits = self.taken == 0 || self.taken.saturating_add(weight) <= self.room;
        self.crowded |= !fits;
        match (&self.failure, &self.gate) {
            _ if self.closed => Way::Closed,
            _ if !fits => Way::Wait,
            (Some(failure), _) => Way::Failed(failure),
            (None, Gate::Open) => Way::Open,
            (None, Gate::Behind) => Way::Wait,
            (None, Gate::Full(why)) => Way::Full(why),
        }
    }
}
