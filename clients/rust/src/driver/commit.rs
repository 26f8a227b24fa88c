//! Group commit of the client's state: while one batch is being made durable, the next one gathers.

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::{Change, SendError, StateError, StateStore};

type Store = Box<dyn StateStore>;

/// Owns the store, and lends it to a blocking thread for one commit at a time.
pub(super) struct Committer {
    /// Absent while a commit runs.
    store: Option<Store>,
    running: Option<JoinHandle<(Store, Result<(), StateError>)>>,
    /// The outcome of a commit that did not have to leave the thread.
    finished: Option<Result<(), StateError>>,
    committing: Batch,
    pending: Batch,
}

/// Changes that become durable together, and what is to happen then.
#[derive(Default)]
pub(super) struct Batch {
    changes: Vec<Change>,
    /// Messages up to this id may go on the wire.
    pub(super) release: u64,
    /// Positions up to this one may be confirmed.
    pub(super) cursor: u64,
    /// The server's id of the device, where it is among the changes.
    pub(super) device_id: Option<u64>,
    /// Callers of `send` to be told that their message is queued, with its id.
    pub(super) queued: Vec<(u64, oneshot::Sender<Result<u64, SendError>>)>,
    /// Callers of `confirm` to be told.
    pub(super) confirmed: Vec<oneshot::Sender<()>>,
}

impl Batch {
    /// Adds a change.
    pub(super) fn push(&mut self, change: Change) {
        match change {
            Change::Queued(ref send) => self.release = self.release.max(send.send_id),
            Change::Cursor(position) => self.cursor = self.cursor.max(position),
            Change::DeviceId(id) => self.device_id = Some(id),
            _ => {}
        }
        // Positions come one after the other; the last one says it all.
        match (self.changes.last_mut(), change) {
            (Some(Change::Cursor(last)), Change::Cursor(position)) => *last = position.max(*last),
            (_, change) => self.changes.push(change),
        }
    }

    fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.queued.is_empty() && self.confirmed.is_empty()
    }
}

impl Committer {
    pub(super) fn new(store: Store) -> Self {
        let (committing, pending) = <(Batch, Batch)>::default();
        Self { store: Some(store), running: None, finished: None, committing, pending }
    }

    /// What the next commit will hold.
    pub(super) fn pending(&mut self) -> &mut Batch {
        &mut self.pending
    }

    /// Whether everything is durable.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.running.is_none() && self.finished.is_none()
    }

    /// Starts a commit if there is something to commit and none is under way.
    pub(super) fn start(&mut self) {
        if self.pending.is_empty() || self.finished.is_some() {
            return;
        }
        let Some(mut store) = self.store.take() else { return };
        self.committing = std::mem::take(&mut self.pending);
        let changes = std::mem::take(&mut self.committing.changes);
        if changes.is_empty() || store.in_memory() {
            self.finished = Some(if changes.is_empty() { Ok(()) } else { store.commit(&changes) });
            self.store = Some(store);
            return;
        }
        self.running = Some(tokio::task::spawn_blocking(move || {
            let result = store.commit(&changes);
            (store, result)
        }));
    }

    /// Waits for the commit under way, for ever if there is none. Dropping the future loses nothing.
    pub(super) async fn done(&mut self) -> Result<Batch, StateError> {
        if let Some(running) = &mut self.running {
            let outcome = running.await;
            self.running = None;
            let (store, result) = outcome.map_err(|error| StateError::Io {
                action: "commit the client state".into(),
                detail: error.to_string(),
            })?;
            self.store = Some(store);
            self.finished = Some(result);
        }
        match self.finished.take() {
            Some(result) => result.map(|()| std::mem::take(&mut self.committing)),
            None => std::future::pending().await,
        }
    }
}
