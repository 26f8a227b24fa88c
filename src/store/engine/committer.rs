//! The way of a commit: decided at once, under one lock, by whoever asks; made durable by one thread.
//!
//! What is decided gathers in a group with the completions that wait for it. The thread takes the group, writes it as one
//! record, and only when that is on stable storage calls the completions, in the order of the decisions. While it syncs,
//! the next group gathers: groups need no timer and grow with the load.
//!
//! # What holds
//! - The state is never further ahead of the disk than what is queued, which is bounded.
//! - What is decided always has a place in the journal: before it might not have, the gate closes, and nothing is decided.
//! - After a failed write or sync nothing is tried again: what was decided and all that comes gets the error.
//! - A full disk closes the gate, and is told; it opens by itself.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError, watch};

use super::Around;
use super::journal::{Journal, Room};
use super::sequencer;
use super::state::{At, State};
use crate::store::{Batch, Committed, Completion, Operation, StoreError};

/// What an operation weighs in the queue beside its content, in bytes: at least what it takes in the journal.
const OPERATION_BYTES: usize = 512;

/// How often is looked whether there is room again, if nobody tells.
const GATE_PAUSE: Duration = Duration::from_millis(500);

/// The way to the committer. Dropping it stops the thread after what was taken.
pub(super) struct Committer {
    shared: Arc<Shared>,
    /// Room in the queue, in bytes. What is taken is given back when its group is done.
    room: Arc<Semaphore>,
    capacity: u32,
    ended: watch::Receiver<bool>,
    thread: Option<JoinHandle<()>>,
}

/// What committers, readers and the spill share.
pub(super) struct Shared {
    core: Mutex<Core>,
    /// Wakes the thread.
    wake: Condvar,
    /// Tells those who wait at the gate.
    opened: Notify,
}

/// The state, and what is on its way to the disk.
pub(super) struct Core {
    pub state: State,
    waiting: Vec<Waiting>,
    gate: Gate,
    /// Whether the thread sleeps and must be woken.
    asleep: bool,
    /// Somebody saw that there may be room again.
    look_at_gate: bool,
    closed: bool,
    failure: Option<StoreError>,
    /// All groups up to this one are durable.
    durable: u64,
    /// Who wants the segment to end, and to know its number.
    end_segment: Vec<SyncSender<Result<u64, StoreError>>>,
}

struct Waiting {
    done: Done,
    result: Result<Committed, StoreError>,
    /// Held, never read: dropping it makes room.
    _room: Option<OwnedSemaphorePermit>,
}

/// Whether something may be decided.
#[derive(Clone)]
enum Gate {
    Open,
    /// The spill has fallen behind.
    Behind,
    Full(String),
}

/// A completion that is called in any case: whatever drops it uncalled, it tells that the store is closed.
pub(super) struct Done(Option<Completion>);

impl Done {
    pub(super) fn new(completion: Completion) -> Self {
        Done(Some(completion))
    }

    fn call(mut self, result: Result<Committed, StoreError>) {
        if let Some(completion) = self.0.take() {
            completion(result);
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(completion) = self.0.take() {
            completion(Err(StoreError::Closed));
        }
    }
}

impl Committer {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the system gives no thread.
    pub(super) fn start(
        shared: Arc<Shared>,
        journal: Journal,
        queue_bytes: usize,
        around: Option<Around>,
    ) -> Result<Committer, StoreError> {
        let most = Semaphore::MAX_PERMITS.min(u32::MAX as usize);
        // Half a segment is kept for what is queued when the other half is full, and content may be written twice.
        let capacity = queue_bytes.min(journal.segment_bytes() / 5).clamp(1, most) as u32;
        let (told_ended, ended) = watch::channel(false);
        let for_thread = Ended { shared: Arc::clone(&shared), told_ended, around };
        let thread = thread::Builder::new()
            .name("store".into())
            .spawn(move || run(journal, &for_thread))
            .map_err(|error| StoreError::Io(error.to_string()))?;
        let room = Arc::new(Semaphore::new(capacity as usize));
        Ok(Committer { shared, room, capacity, ended, thread: Some(thread) })
    }

    /// Decides a batch if there is room for it; gives it back if there is none.
    pub(super) fn try_submit(&self, batch: Batch, done: Done) -> Result<(), (Batch, Done)> {
        match Arc::clone(&self.room).try_acquire_many_owned(self.weight(&batch)) {
            Ok(room) => self.shared.decide(&batch, done, room).map_err(|(done, _)| (batch, done)),
            Err(TryAcquireError::NoPermits) => Err((batch, done)),
            // `done` tells it as it is dropped.
            Err(TryAcquireError::Closed) => Ok(()),
        }
    }

    /// Decides a batch as soon as there is room for it; whoever waits longest goes first.
    pub(super) async fn submit(&self, batch: Batch, mut done: Done) {
        let Ok(mut room) = Arc::clone(&self.room).acquire_many_owned(self.weight(&batch)).await else { return };
        loop {
            let opened = self.shared.opened.notified();
            match self.shared.decide(&batch, done, room) {
                Ok(()) => return,
                Err(back) => (done, room) = back,
            }
            opened.await;
        }
    }

    /// Finishes what was taken and refuses the rest; returns when the thread is at its end.
    pub(super) async fn close(&self) {
        self.shared.close();
        self.room.close();
        // An error says that the thread is gone without a word, which is an end too.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    /// A batch that is larger than the whole queue takes all of it.
    fn weight(&self, batch: &Batch) -> u32 {
        let content =
            |operation: &Operation| if let Operation::Send(send) = operation { send.content.len() } else { 0 };
        let bytes: usize = batch.iter().map(|operation| OPERATION_BYTES + content(operation)).sum();
        u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, self.capacity)
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.shared.close();
        let Some(thread) = self.thread.take() else { return };
        // The last handle of a store may be dropped by a completion, on the thread itself.
        if thread.thread().id() != thread::current().id() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    pub(super) fn new(state: State) -> Shared {
        // What was replayed is on stable storage.
        let durable = state.group_number() - 1;
        let core = Core {
            state,
            waiting: Vec::new(),
            gate: Gate::Open,
            asleep: false,
            look_at_gate: true,
            closed: false,
            failure: None,
            durable,
            end_segment: Vec::new(),
        };
        Shared { core: Mutex::new(core), wake: Condvar::new(), opened: Notify::new() }
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides a batch; gives back what waits for it when the gate is closed.
    fn decide(
        &self,
        batch: &Batch,
        done: Done,
        room: OwnedSemaphorePermit,
    ) -> Result<(), (Done, OwnedSemaphorePermit)> {
        let mut core = self.core();
        if core.closed {
            drop(core);
            drop(done);
            return Ok(());
        }
        let result = match (&core.failure, &core.gate) {
            (Some(failure), _) => Err(failure.clone()),
            (None, Gate::Open) => core.decide(batch),
            (None, Gate::Behind) => return Err((done, room)),
            (None, Gate::Full(why)) => {
                let full = StoreError::Full(why.clone());
                sequencer::frozen::answer(&mut core.state, batch).and_then(|answered| answered.ok_or(full))
            }
        };
        core.waiting.push(Waiting { done, result, _room: Some(room) });
        self.wake(core);
        Ok(())
    }

    /// Calls `done` once all that is decided by now is durable.
    pub(super) fn after_all(&self, mut core: MutexGuard<'_, Core>, done: Completion) {
        let result = core.failure.clone().map_or_else(|| Ok(Committed::default()), Err);
        core.waiting.push(Waiting { done: Done::new(done), result, _room: None });
        self.wake(core);
    }

    /// Ends the segment that is being filled, with all that is decided by now, and returns its number.
    ///
    /// # Errors
    /// When nothing can be committed any more.
    pub(super) fn end_segment(&self) -> Result<u64, StoreError> {
        let (ended, wait) = sync_channel(1);
        let mut core = self.core();
        if core.closed {
            return Err(StoreError::Closed);
        }
        core.end_segment.push(ended);
        self.wake(core);
        wait.recv().unwrap_or(Err(StoreError::Closed))
    }

    /// There may be room where there was none.
    pub(super) fn look_at_gate(&self) {
        let mut core = self.core();
        core.look_at_gate = true;
        self.wake(core);
    }

    /// Nothing more is committed.
    pub(super) fn fail(&self, error: StoreError) {
        let mut core = self.core();
        core.failure.get_or_insert(error);
        core.gate = Gate::Open;
        self.wake(core);
        self.opened.notify_waiters();
    }

    fn cannot_write(&self, error: &StoreError) {
        tracing::error!(%error, "the store cannot write: nothing more is acknowledged until a restart");
        self.fail(error.clone());
    }

    fn close(&self) {
        let mut core = self.core();
        core.closed = true;
        core.gate = Gate::Open;
        self.wake(core);
        self.opened.notify_waiters();
    }

    fn wake(&self, mut core: MutexGuard<'_, Core>) {
        let asleep = std::mem::take(&mut core.asleep);
        drop(core);
        if asleep {
            self.wake.notify_one();
        }
    }

    fn set_gate(&self, room: Room) {
        let mut core = self.core();
        core.gate = match room {
            Room::Enough => Gate::Open,
            Room::Behind => Gate::Behind,
            Room::Full(why) => Gate::Full(why),
        };
        drop(core);
        self.opened.notify_waiters();
    }
}

impl Core {
    /// Whether all that was changed of a user is durable.
    pub(super) fn is_durable(&self, user: At) -> bool {
        self.state.changed_in(user) <= self.durable
    }

    fn decide(&mut self, batch: &Batch) -> Result<Committed, StoreError> {
        let decided = sequencer::decide(&mut self.state, batch);
        self.state.evict();
        decided.map_err(|failure| {
            if failure.half_done {
                self.failure = Some(failure.error.clone());
            }
            failure.error
        })
    }
}

/// Says that the thread has ended, also when it ends by a panic: what waits is answered, and nothing more is taken.
struct Ended {
    shared: Arc<Shared>,
    told_ended: watch::Sender<bool>,
    around: Option<Around>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.shared.close();
        let (left, _unanswered) = {
            let mut core = self.shared.core();
            (std::mem::take(&mut core.waiting), std::mem::take(&mut core.end_segment))
        };
        drop(left);
        self.told_ended.send_replace(true);
    }
}

fn run(mut journal: Journal, ended: &Ended) {
    let shared = &*ended.shared;
    let mut waiting = Vec::new();
    loop {
        match next(shared) {
            Next::Commit(core) => {
                let failure = make_durable(shared, core, &mut journal, &mut waiting);
                answer(&mut waiting, failure.as_ref(), ended.around);
            }
            Next::Look => shared.set_gate(journal.room()),
            Next::EndSegment(core) => end_segment(shared, core, &mut journal),
            Next::End => break,
        }
    }
    if shared.core().failure.is_none() {
        journal.close();
    }
}

enum Next<'a> {
    Commit(MutexGuard<'a, Core>),
    Look,
    EndSegment(MutexGuard<'a, Core>),
    End,
}

/// Waits for something to do.
fn next(shared: &Shared) -> Next<'_> {
    let mut core = shared.core();
    loop {
        if std::mem::take(&mut core.look_at_gate) && core.failure.is_none() {
            return Next::Look;
        }
        if !core.waiting.is_empty() {
            return Next::Commit(core);
        }
        if !core.end_segment.is_empty() {
            return Next::EndSegment(core);
        }
        if core.closed {
            return Next::End;
        }
        core.asleep = true;
        if let Gate::Open = core.gate {
            core = shared.wake.wait(core).unwrap_or_else(PoisonError::into_inner);
        } else {
            let (woken, waited) = shared.wake.wait_timeout(core, GATE_PAUSE).unwrap_or_else(PoisonError::into_inner);
            core = woken;
            core.look_at_gate |= waited.timed_out();
        }
        core.asleep = false;
    }
}

/// Makes the group durable; returns why it is not. `waiting`, which is empty, gets those who wait for it.
fn make_durable(
    shared: &Shared,
    mut core: MutexGuard<'_, Core>,
    journal: &mut Journal,
    waiting: &mut Vec<Waiting>,
) -> Option<StoreError> {
    std::mem::swap(&mut core.waiting, waiting);
    let mut failure = core.failure.clone();
    // Without changes every answer rests on groups that are durable already.
    if failure.is_none() && core.state.has_changes() {
        core.state.write_group(journal.record());
        let group = core.state.group_number();
        let ended = core.state.end_group(journal.place());
        drop(core);
        match journal.append(ended) {
            Ok(()) => shared.core().durable = group,
            Err(error) => {
                shared.cannot_write(&error);
                failure = Some(error);
            }
        }
        if failure.is_none() && journal.is_tight() {
            shared.set_gate(journal.room());
        }
    } else {
        drop(core);
    }
    failure
}

/// Calls the completions, in order; the allocation is kept.
fn answer(waiting: &mut Vec<Waiting>, failure: Option<&StoreError>, around: Option<Around>) {
    if let Some(around) = around {
        (around.before)();
    }
    for Waiting { done, result, .. } in waiting.drain(..) {
        done.call(failure.map_or(result, |failure| Err(failure.clone())));
    }
    if let Some(around) = around {
        (around.after)();
    }
}

/// Ends the segment for whoever wants that. Nothing is decided that is not in it.
fn end_segment(shared: &Shared, mut core: MutexGuard<'_, Core>, journal: &mut Journal) {
    let wanted = std::mem::take(&mut core.end_segment);
    let ended = match &core.failure {
        Some(failure) => Err(failure.clone()),
        None => {
            let number = journal.number();
            let ended = core.state.end_group(number + 1).unwrap_or_default();
            drop(core);
            journal.end_segment(ended).map(|()| number).inspect_err(|error| shared.cannot_write(error))
        }
    };
    for wants in wanted {
        // Whoever does not wait any more does not need to know.
        let _ = wants.try_send(ended.clone());
    }
}
