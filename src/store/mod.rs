//! The store: the truth about users, conversations and inboxes, and the sequencer that decides them.
//!
//! Whoever wants something changed hands over a [`Batch`] of [`Operation`]s. The store decides each of them inside one
//! atomic commit (may this be? was it answered before? which `seq`, which `position`?), makes it durable, and only then
//! calls the batch's completion with the [`Outcome`]s and with what is now to be published. Nothing here knows of
//! connections, frames or other nodes.
//!
//! # What every store holds to
//! - **Durable, then answered.** A completion that gets `Ok` runs after its changes are on stable storage.
//! - **One order.** Batches are decided in the order in which `commit` took them, and completions run in that order, one
//!   at a time: an inbox's publications come in the order of their positions.
//! - **All or nothing.** After a crash an operation is there whole or not at all, and with it all that was decided before.
//! - **Repeatable.** Every operation may be handed over again with the same effect as once (RCPT-2, SEND-4).
//! - **Reads see only what is durable**, when the caller stays at or below positions that a completion told it.
//!
//! # Layout
//! - [`record`]: the words of this interface: operations, outcomes, entries
//! - [`completion`]: whom the store calls back
//! - [`memory`]: the reference model: plain maps, obviously right, nothing on disk
//! - [`engine`]: the store on disk: a journal in front of sled
//! - `conformance`: one suite that every store passes

pub mod completion;
#[cfg(test)]
mod conformance;
pub mod engine;
pub mod memory;
pub mod record;

use futures_util::future::{BoxFuture, Either, Ready, ready};
use tokio::sync::watch;

pub use completion::{About, Caller, Completion};
pub use record::{
    Admission, Answer, App, Attach, Attached, Committed, Device, Few, InboxEntry, Item, Operation, Outcome, Page,
    Publication, ReadLimit, ReadUpTo, Receipt, Received, Recipient, Refusal, Send, Sweep, User,
};

use crate::ids::{AppId, Position, UserId};

/// Operations that are decided together: all of one connection's wake-up, as a rule. Bounded by the caller.
pub type Batch = Vec<Operation>;

/// Ends when a batch has been taken: at once, as a rule, or when there is room for it.
pub type Taking<'a> = Either<Ready<()>, BoxFuture<'a, ()>>;

/// The batch has been taken.
#[must_use]
pub fn taken<'a>() -> Taking<'a> {
    Either::Left(ready(()))
}

/// What every store can do.
pub trait Store: std::marker::Send + Sync + 'static {
    /// Hands a batch over and returns once there is room for it; the answer goes to `done`. The store takes batches in
    /// the order of these calls when each is awaited before the next. `done` is always called, with an error if need be.
    fn commit(&self, batch: Batch, done: Completion) -> Taking<'_>;

    /// Entries of an inbox with `after < position ≤ up_to`, oldest first, within `limit` (at least one entry if there is
    /// one). `up_to` is a position that a completion has told: what lies above it may not be durable yet.
    fn read_inbox(
        &self,
        app: AppId,
        user: UserId,
        after: Position,
        up_to: Position,
        limit: ReadLimit,
    ) -> BoxFuture<'_, Result<Page, StoreError>>;

    /// The user of this name with its devices, if it exists.
    fn find_user(&self, app: AppId, name: &str) -> BoxFuture<'_, Result<Option<User>, StoreError>>;

    /// Users whose names come after `after`, in the order of their names, `limit` at most.
    fn list_users(&self, app: AppId, after: &str, limit: usize) -> BoxFuture<'_, Result<Vec<User>, StoreError>>;

    /// Every app the store has seen.
    fn list_apps(&self) -> BoxFuture<'_, Result<Vec<App>, StoreError>>;

    /// Whether the store takes changes, now and as that changes. A store that has nothing to fail says once that it does.
    fn health(&self) -> watch::Receiver<Health> {
        watch::channel(Health::Writing).1
    }

    /// Finishes what was taken, then refuses everything. Returns when the store's files are closed.
    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// Hands a batch over and waits for its outcomes: for callers that are not in a hurry.
///
/// # Errors
/// As the completion got it.
pub async fn commit_and_wait(store: &dyn Store, batch: Batch) -> Result<Committed, StoreError> {
    let (answer, wait) = tokio::sync::oneshot::channel();
    store.commit(batch, Completion::once(move |committed| drop(answer.send(committed)))).await;
    wait.await.unwrap_or(Err(StoreError::Closed))
}

/// Whether a store takes changes.
#[derive(Clone, Debug, Default)]
pub enum Health {
    /// It does.
    #[default]
    Writing,
    /// Not until there is space, of which it takes notice by itself: why.
    Full(String),
    /// Never again, until it is opened anew: what failed.
    Failed(StoreError),
}

/// Why a store did not do what it was asked. Refusals of single operations are not errors: they are [`Outcome`]s.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the data directory.
    #[error("another postrider uses the data directory {0}; stop that one, or name another directory")]
    Locked(String),
    /// The directory was written by another version.
    #[error(
        "the data directory has format {found}; this postrider writes format {expected}: use the version that wrote it"
    )]
    Format {
        /// What the directory says.
        found: u32,
        /// What this build writes.
        expected: u32,
    },
    /// What is there is not the store's, and is left alone.
    #[error("{0}; name another data directory")]
    Occupied(String),
    /// What was read is not what was written. Nothing of it is served.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// The file system failed. After a failed sync the store takes no more writes.
    #[error("the store cannot write: {0}; nothing more is acknowledged until a restart")]
    Io(String),
    /// The disk is full. Nothing of the batch is there; reads go on, and commits as soon as there is space.
    #[error("the disk is full: {0}; the store takes messages again as soon as there is space")]
    Full(String),
    /// The store is closed or closing.
    #[error("the store is closed")]
    Closed,
}
