//! The way of a commit: decided at once, under one lock, by whoever asks; made durable by one thread.
//!
//! What is decided gathers in a group with the completions that wait for it. The thread takes the group, writes it as one
//! record, and only when that is on stable storage calls the completions, in the order of the decisions. While it syncs,
//! the next group gathers: groups need no timer and grow with the load. Only what nobody waits for, confirmations that tell
//! no other user, waits a few milliseconds for a group to go with.
//!
//! # What holds
//! - The state is never further ahead of the disk than what is queued, which is bounded.
//! - What is decided always has a place in the journal: before it might not have, the gate closes, and nothing is decided.
//! - After a failed write or sync nothing is tried again: what was decided and all that comes gets the error. A store that
//!   serves after a failure answers what needs no change and rests on durable groups alone.
//! - A full disk closes the gate, and is told; it opens by itself.
//!
//! # Layout
//! - this file: what is decided, made durable and answered
//! - `queue`: how those who decide hand it to the thread

mod queue;

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use tokio::sync::{Semaphore, watch};

use self::queue::{Gate, Hands, Queue, Terms, Way};
use super::Around;
use super::journal::{Journal, Room};
use super::sequencer;
use super::state::{At, Group, State};
use crate::store::{Batch, Committed, Completion, Health, Operation, Outcome, StoreError};
use crate::sync::MutexGuard;

/// What an operation weighs in the queue beside its content, in bytes: at least what it takes in the journal.
const OPERATION_BYTES: usize = 512;

/// The way to the committer. Dropping it stops the thread after what was taken.
pub(super) struct Committer {
    shared: Arc<Shared>,
    /// Whoever finds the way barred stands in line; the first in line has the only permit.
    line: Semaphore,
    ended: watch::Receiver<bool>,
    thread: Option<JoinHandle<()>>,
}

/// What committers, readers and the spill share.
pub(super) struct Shared {
    queue: Queue<Commits>,
    /// Tells everybody how it is.
    health: watch::Sender<Health>,
    serves_after_failure: bool,
}

/// What the queue is of.
pub(super) enum Commits {}

impl Terms for Commits {
    type State = State;
    type Waiting = Waiting;
    type Ending = SyncSender<Result<u64, StoreError>>;
    type Failure = StoreError;
}

/// The state, and what is on its way to the disk.
pub(super) type Core = queue::Core<Commits>;

/// A completion, and what it is to be called with once that is durable.
pub(super) struct Waiting {
    done: Done,
    result: Result<Committed, StoreError>,
    /// Whether the result holds although the store has failed.
    stands: bool,
}

/// A completion that is called in any case: whatever drops it uncalled, it tells that the store is closed.
pub(super) struct Done(Option<Completion>);

impl Done {
    pub(super) fn new(completion: Completion) -> Self {
        Done(Some(completion))
    }

    fn call(&mut self, result: Result<Committed, StoreError>) {
        if let Some(completion) = self.0.take() {
            completion.call(result);
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(completion) = self.0.take() {
            completion.call(Err(StoreError::Closed));
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
        around: Option<Around>,
    ) -> Result<Committer, StoreError> {
        let (told_ended, ended) = watch::channel(false);
        let for_thread = Ended { shared: Arc::clone(&shared), told_ended, around };
        let thread = thread::Builder::new()
            .name("store".into())
            .spawn(move || run(journal, &for_thread))
            .map_err(|error| StoreError::Io(error.to_string()))?;
        Ok(Committer { shared, line: Semaphore::new(1), ended, thread: Some(thread) })
    }

    /// Decides a batch, unless it has to wait for that; then it is given back.
    pub(super) fn try_submit(&self, batch: Batch, done: Done) -> Result<(), (Batch, Done)> {
        // Those in line go first.
        if self.line.available_permits() == 0 {
            return Err((batch, done));
        }
        self.shared.decide(&batch, done).map_err(|done| (batch, done))
    }

    /// Decides a batch as soon as that may be; whoever waits longest goes first.
    pub(super) async fn submit(&self, batch: Batch, mut done: Done) {
        // Without a permit the store is closed, which `done` tells as it is dropped.
        let Ok(_first) = self.line.acquire().await else { return };
        loop {
            let opened = self.shared.queue.opened();
            match self.shared.decide(&batch, done) {
                Ok(()) => return,
                Err(back) => done = back,
            }
            opened.await;
        }
    }

    /// Finishes what was taken and refuses the rest; returns when the thread is at its end.
    pub(super) async fn close(&self) {
        self.shared.queue.close();
        self.line.close();
        // An error says that the thread is gone without a word, which is an end too.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.shared.queue.close();
        let Some(thread) = self.thread.take() else { return };
        // The last handle of a store may be dropped by a completion, on the thread itself.
        if thread.thread().id() != thread::current().id() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// `queue_bytes`: what may be in the queue at once, by its [`weight`]. A batch of more goes alone.
    pub(super) fn new(state: State, queue_bytes: usize, serves_after_failure: bool) -> Shared {
        // What was replayed is on stable storage.
        let durable = state.group_number() - 1;
        let (health, _) = watch::channel(Health::Writing);
        Shared { queue: Queue::new(state, durable, queue_bytes), health, serves_after_failure }
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.queue.core()
    }

    /// Decides a batch; gives back what waits for it when it has to wait for that.
    fn decide(&self, batch: &Batch, done: Done) -> Result<(), Done> {
        let weight = weight(batch);
        // Before the lock: whoever is dropped by a panic is told after it is given back.
        let mut waiting = Waiting { done, result: Ok(Committed::default()), stands: false };
        let mut core = self.core();
        match core.way(weight) {
            Way::Closed => {
                drop(core);
                drop(waiting);
                return Ok(());
            }
            Way::Failed(failure) if self.serves_after_failure => {
                let (failure, durable) = (failure.clone(), self.queue.durable());
                waiting.stands = true;
                waiting.result = sequencer::frozen::answer_durable(&mut core.state, batch, durable).ok_or(failure);
                core.state.evict();
            }
            Way::Failed(failure) => waiting.result = Err(failure.clone()),
            Way::Open => core.decide(batch, &mut waiting.result),
            Way::Wait => return Err(waiting.done),
            Way::Full(why) => {
                let full = StoreError::Full(why.to_owned());
                let answered = sequencer::frozen::answer(&mut core.state, batch);
                waiting.result = answered.and_then(|answered| answered.ok_or(full));
                core.state.evict();
            }
        }
        if let (Some(failure), false) = (&core.failure, waiting.stands) {
            self.tell(failure);
        }
        let urgent = !waiting.result.as_ref().is_ok_and(|committed| is_lazy(&core.state, committed));
        self.queue.push(core, waiting, weight, urgent);
        Ok(())
    }

    /// Whether all that was changed of a user is durable.
    pub(super) fn is_durable(&self, core: &Core, user: At) -> bool {
        core.state.changed_in(user) <= self.queue.durable()
    }

    /// Calls `done` once all that is decided by now is durable.
    pub(super) fn after_all(&self, core: MutexGuard<'_, Core>, done: Completion) {
        if core.is_closed() {
            // There may be nobody any more to call it.
            drop(core);
            return done.call(Err(StoreError::Closed));
        }
        let result = core.failure.clone().map_or_else(|| Ok(Committed::default()), Err);
        self.queue.push(core, Waiting { done: Done::new(done), result, stands: false }, 0, true);
    }

    /// Ends the segment that is being filled, with all that is decided by now, and returns its number.
    ///
    /// # Errors
    /// When nothing can be committed any more.
    pub(super) fn end_segment(&self) -> Result<u64, StoreError> {
        let (ended, wait) = sync_channel(1);
        if !self.queue.end_segment(ended) {
            return Err(StoreError::Closed);
        }
        wait.recv().unwrap_or(Err(StoreError::Closed))
    }

    /// There may be room where there was none.
    pub(super) fn look_at_gate(&self) {
        self.queue.look_at_gate();
    }

    /// Nothing more is committed.
    pub(super) fn fail(&self, error: StoreError) {
        self.tell(&error);
        self.queue.fail(error);
    }

    /// Says that the store has failed; the first reason stays.
    fn tell(&self, failure: &StoreError) {
        self.health.send_if_modified(|health| {
            let news = !matches!(health, Health::Failed(_));
            if news {
                *health = Health::Failed(failure.clone());
            }
            news
        });
    }

    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    fn cannot_write(&self, error: &StoreError) {
        tracing::error!(%error, "the store cannot write: nothing more is acknowledged until a restart");
        self.fail(error.clone());
    }

    fn set_gate(&self, room: Room) {
        let full = if let Room::Full(why) = &room { Some(why.clone()) } else { None };
        // Before it is told: whoever hears that there is room again finds the gate open.
        self.queue.set_gate(match room {
            Room::Enough => Gate::Open,
            Room::Behind => Gate::Behind,
            Room::Full(why) => Gate::Full(why),
        });
        self.health.send_if_modified(|health| {
            let news = match health {
                Health::Writing => full.is_some(),
                Health::Full(_) => full.is_none(),
                Health::Failed(_) => false,
            };
            if news {
                *health = full.map_or(Health::Writing, Health::Full);
            }
            news
        });
    }
}

impl Core {
    /// Changes the state. A panic leaves it half-changed: then nothing of it may become durable, and the store has failed.
    pub(super) fn change<T>(&mut self, change: impl FnOnce(&mut State) -> T) -> T {
        let Core { state, failure, .. } = self;
        let changing = Changing { failure };
        let changed = change(state);
        drop(changing);
        changed
    }

    /// Into `result`, which is empty: nothing that large is handed up from call to call while others wait.
    fn decide(&mut self, batch: &Batch, result: &mut Result<Committed, StoreError>) {
        let Ok(committed) = result else { return };
        let decided = self.change(|state| {
            let decided = sequencer::decide(state, batch, committed);
            state.note_changes();
            state.evict();
            decided
        });
        if let Err(failure) = decided {
            if failure.half_done {
                self.failure = Some(failure.error.clone());
            }
            *result = Err(failure.error);
        }
    }
}

/// The state is being changed.
struct Changing<'a> {
    failure: &'a mut Option<StoreError>,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.failure.get_or_insert_with(|| StoreError::Io("a change of the store has panicked".into()));
        }
    }
}

/// What a batch weighs in the queue, in bytes.
fn weight(batch: &[Operation]) -> usize {
    let content = |operation: &Operation| if let Operation::Send(send) = operation { send.content.len() } else { 0 };
    batch.iter().map(|operation| OPERATION_BYTES + content(operation)).sum()
}

/// Says that the thread has ended, also when it ends by a panic: what waits is answered, and nothing more is taken.
struct Ended {
    shared: Arc<Shared>,
    told_ended: watch::Sender<bool>,
    around: Option<Around>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        if thread::panicking() {
            self.shared.tell(&StoreError::Io("the thread that makes changes durable has panicked".into()));
        }
        // Whoever is dropped without an answer tells it.
        drop(self.shared.queue.abandon());
        self.told_ended.send_replace(true);
    }
}

fn run(journal: Journal, ended: &Ended) {
    let shared = &*ended.shared;
    let mut thread = Thread { shared, journal, group: Group::default(), around: ended.around };
    shared.queue.run(&mut thread);
    if shared.core().failure.is_none() {
        thread.journal.close();
    }
}

/// Whether nobody learns anything from it and nothing is shown to anybody: confirmations that tell no other user. They need
/// no sync of their own.
fn is_lazy(state: &State, committed: &Committed) -> bool {
    let mut outcomes = committed.outcomes.iter();
    committed.published.is_empty() && state.has_changes() && outcomes.all(|one| matches!(one, Outcome::Received(_)))
}

/// What the thread works with.
struct Thread<'a> {
    shared: &'a Shared,
    journal: Journal,
    /// The memory of the last one.
    group: Group,
    around: Option<Around>,
}

impl Hands<Commits> for Thread<'_> {
    fn make_durable(&mut self, mut core: MutexGuard<'_, Core>) -> Option<StoreError> {
        let Thread { shared, journal, group, .. } = self;
        // Without changes every answer rests on groups that are durable already.
        if !core.state.has_changes() {
            return None;
        }
        let number = core.state.group_number();
        let place = journal.place(core.state.group_bytes(), core.state.changed_in_segment());
        let ended = core.state.take_group(place, group);
        drop(core);
        group.write(journal.record());
        if let Err(error) = journal.append(ended) {
            shared.cannot_write(&error);
            return Some(error);
        }
        shared.queue.set_durable(number);
        if journal.is_tight() {
            shared.set_gate(journal.room());
        }
        None
    }

    fn answer(&mut self, group: &mut Vec<Waiting>, failure: Option<&StoreError>) {
        if let Some(around) = self.around {
            (around.before)();
        }
        for Waiting { done, result, stands } in &mut *group {
            // In place: what was decided lies in another core's cache, and is moved no more often than it must.
            done.call(match failure {
                Some(failure) if !*stands => Err(failure.clone()),
                _ => std::mem::replace(result, Err(StoreError::Closed)),
            });
        }
        group.clear();
        if let Some(around) = self.around {
            (around.after)();
        }
    }

    fn look_at_gate(&mut self) {
        self.shared.set_gate(self.journal.room());
    }

    fn end_segment(&mut self, mut core: MutexGuard<'_, Core>, wanted: Vec<SyncSender<Result<u64, StoreError>>>) {
        let Thread { shared, journal, group, .. } = self;
        let ended = match (&core.failure, journal.next_is_taken()) {
            (Some(failure), _) => Err(failure.clone()),
            (None, false) => {
                // A file of the size of a segment is made: not under the lock. Then they come again.
                drop(core);
                match journal.take_next() {
                    Ok(()) => {
                        for wants in wanted {
                            // Whom it is not taken of any more hears that by being dropped.
                            let _ = shared.queue.end_segment(wants);
                        }
                        return;
                    }
                    Err(error) => Err(error),
                }
            }
            (None, true) => {
                let number = journal.number();
                let ended = core.state.take_group(number + 1, group).unwrap_or_default();
                drop(core);
                journal.end_segment(ended).map(|()| number).inspect_err(|error| shared.cannot_write(error))
            }
        };
        for wants in wanted {
            // Whoever does not wait any more does not need to know.
            let _ = wants.try_send(ended.clone());
        }
    }
}
