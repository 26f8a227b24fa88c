//! Whom the store calls back.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Committed, StoreError};

/// Somebody who hands over batch after batch, and is called back for each.
pub trait Caller: Send + Sync + 'static {
    /// Called once for each batch, in commit order and on the store's own thread (where the store has one and is not closed);
    /// it must not block. `about` is what came with the batch. An error means that nothing of the batch is promised: it may
    /// or may not be there after a restart, and the callers' peers will ask again.
    fn completed(&self, about: About, result: Result<Committed, StoreError>);
}

/// Which batch it was, in the words of whoever handed it over.
pub type About = [u64; 2];

/// Whom to call when a batch is durable, and what to say it is about.
pub struct Completion {
    caller: Arc<dyn Caller>,
    about: About,
}

impl Completion {
    /// Calls whoever is there anyway. Nothing is allocated for it, which the store's thread would have to give back to
    /// another's memory: of what a durable message costs, that was an eighth.
    #[must_use]
    pub fn of(caller: Arc<dyn Caller>, about: About) -> Self {
        Self { caller, about }
    }

    /// Calls `done`: for what is asked now and then.
    #[must_use]
    pub fn once(done: impl FnOnce(Result<Committed, StoreError>) + Send + 'static) -> Self {
        Self::of(Arc::new(Once(Mutex::new(Some(done)))), About::default())
    }

    /// The batch is durable, or will not be.
    pub fn call(self, result: Result<Committed, StoreError>) {
        self.caller.completed(self.about, result);
    }
}

/// A caller that is called once.
struct Once<F>(Mutex<Option<F>>);

impl<F: FnOnce(Result<Committed, StoreError>) + Send + 'static> Caller for Once<F> {
    fn completed(&self, _: About, result: Result<Committed, StoreError>) {
        let done = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(done) = done {
            done(result);
        }
    }
}
