//! The one thread that decides and commits.
//!
//! It takes every batch that waits, decides them one after the other, writes the group as one, and only when that is on
//! stable storage calls the completions, in order. While it syncs, the next group gathers: groups need no timer and grow
//! with the load. After a failed write or sync nothing is tried again: the failed group and all that come get the error.
//! A full disk fails only the group that meets it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, TryAcquireError, watch};

use super::sequencer;
use super::view::{Rows, View};
use crate::store::{Batch, Committed, Completion, Operation, StoreError};

/// What an operation weighs in the queue beside its content, in bytes: roughly what it takes in memory.
const OPERATION_BYTES: usize = 256;

/// Bytes of changed rows at which a group is large enough; the rest waits for the next one.
const GROUP_BYTES: usize = 4 << 20;

/// The way to the committer's thread. Dropping it stops the thread after what was taken.
pub(super) struct Committer {
    shared: Arc<Shared>,
    /// Room in the queue, in bytes. What is taken is given back when its group is done.
    room: Arc<Semaphore>,
    capacity: u32,
    ended: watch::Receiver<bool>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    /// Bounded by `Committer::room`.
    jobs: VecDeque<Job>,
    closed: bool,
}

struct Job {
    batch: Batch,
    done: Done,
    /// Held, never read: dropping it makes room.
    _room: OwnedSemaphorePermit,
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
    pub(super) fn start(rows: Arc<dyn Rows>, queue_bytes: usize) -> Result<Committer, StoreError> {
        let most = Semaphore::MAX_PERMITS.min(u32::MAX as usize);
        let capacity = queue_bytes.clamp(1, most) as u32;
        let shared = Arc::new(Shared { queue: Mutex::default(), wake: Condvar::new() });
        let (told_ended, ended) = watch::channel(false);
        let for_thread = Ended { shared: Arc::clone(&shared), told_ended };
        let thread = thread::Builder::new()
            .name("store".into())
            .spawn(move || run(rows, &for_thread))
            .map_err(|error| StoreError::Io(error.to_string()))?;
        let room = Arc::new(Semaphore::new(capacity as usize));
        Ok(Committer { shared, room, capacity, ended, thread: Some(thread) })
    }

    /// Queues a batch if there is room for it; gives it back if there is none.
    pub(super) fn try_submit(&self, batch: Batch, done: Done) -> Result<(), (Batch, Done)> {
        match Arc::clone(&self.room).try_acquire_many_owned(self.weight(&batch)) {
            Ok(room) => self.shared.push(Job { batch, done, _room: room }),
            Err(TryAcquireError::NoPermits) => return Err((batch, done)),
            // `done` tells it as it is dropped.
            Err(TryAcquireError::Closed) => {}
        }
        Ok(())
    }

    /// Queues a batch as soon as there is room for it; whoever waits longest goes first.
    pub(super) async fn submit(&self, batch: Batch, done: Done) {
        let room: Result<_, AcquireError> = Arc::clone(&self.room).acquire_many_owned(self.weight(&batch)).await;
        if let Ok(room) = room {
            self.shared.push(Job { batch, done, _room: room });
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
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) {
        let mut queue = self.queue();
        if queue.closed {
            drop(queue);
            return drop(job);
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.wake.notify_one();
    }

    /// All that waits, or `None` when nothing does and nothing more will come.
    fn take(&self) -> Option<VecDeque<Job>> {
        let idle = |queue: &mut Queue| queue.jobs.is_empty() && !queue.closed;
        let mut queue = self.wake.wait_while(self.queue(), idle).unwrap_or_else(PoisonError::into_inner);
        if queue.jobs.is_empty() { None } else { Some(std::mem::take(&mut queue.jobs)) }
    }

    fn close(&self) {
        self.queue().closed = true;
        self.wake.notify_all();
    }
}

/// Says that the thread has ended, also when it ends by a panic: what waits is answered, and nothing more is taken.
struct Ended {
    shared: Arc<Shared>,
    told_ended: watch::Sender<bool>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.shared.close();
        let left = std::mem::take(&mut self.shared.queue().jobs);
        drop(left);
        self.told_ended.send_replace(true);
    }
}

fn run(rows: Arc<dyn Rows>, ended: &Ended) {
    let mut failure: Option<StoreError> = None;
    while let Some(mut jobs) = ended.shared.take() {
        while failure.is_none() && !jobs.is_empty() {
            failure = commit_group(&*rows, &mut jobs);
        }
        for (job, error) in jobs.into_iter().zip(failure.iter().cycle()) {
            job.done.call(Err(error.clone()));
        }
    }
}

/// Decides the first of `waiting`, makes them durable, answers. Returns why nothing more can be committed, if so.
fn commit_group(rows: &dyn Rows, waiting: &mut VecDeque<Job>) -> Option<StoreError> {
    let mut view = View::new(rows);
    let mut decided: Vec<Result<Committed, StoreError>> = Vec::with_capacity(waiting.len());
    for job in &*waiting {
        decided.push(sequencer::decide(&mut view, &job.batch));
        if view.bytes() >= GROUP_BYTES {
            break;
        }
    }
    let changes = view.into_changes();
    // Without changes every answer rests on groups that are durable already.
    let applied = if changes.is_empty() { Ok(()) } else { rows.apply(changes) };
    let group: Vec<Job> = waiting.drain(..decided.len()).collect();
    for (job, decided) in group.into_iter().zip(decided) {
        job.done.call(applied.clone().and(decided));
    }
    // A full disk passes: nothing was written, and the next group may find room.
    applied.err().filter(|error| !matches!(error, StoreError::Full(_)))
}
