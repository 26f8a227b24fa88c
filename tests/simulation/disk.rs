//! The store on a simulated disk: the reference model, whose commits become durable when a simulated sync is done.
//!
//! It keeps the contract at the top of `src/store/mod.rs` and nothing more: batches are decided as they are taken, a group
//! is synced while the next one gathers, completions are called in order and one at a time, and other tasks run between
//! them. A crash keeps what was synced, and of what was not any part from the front.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use postrider::ids::{AppId, Position, UserId};
use postrider::store::{
    App, Batch, Committed, Completion, Operation, Page, ReadLimit, Store, StoreError, Taking, User,
};

use crate::dice::Dice;
use crate::planted::{Bug, Tamper};
use crate::runtime::{Micros, Runtime};
use crate::truth::{Kind, Left, Truth};

/// How the disk is.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// How long a sync takes.
    pub sync: (Micros, Micros),
    /// How long a read of an inbox takes.
    pub read: (Micros, Micros),
}

/// What is wrong with it at the moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trouble {
    /// No sync ends before.
    pub stalled_until: Micros,
    /// There is no space until then.
    pub full_until: Micros,
    /// Inboxes cannot be read until then.
    pub unreadable_until: Micros,
    /// The next sync fails.
    pub sync_fails: bool,
}

/// What a crash leaves.
#[derive(Default)]
pub struct Remains {
    /// The durable batches, in order.
    pub batches: Vec<Batch>,
    /// Where they are already, if nothing was lost.
    pub left: Left,
}

/// The store of one run of the server.
pub struct SimStore {
    runtime: Arc<Runtime>,
    /// The task that [`work`](Self::work)s.
    waker: Waker,
    dice: Dice,
    speed: Speed,
    state: Mutex<State>,
}

struct State {
    /// `None` once it is gone.
    truth: Option<Truth>,
    tamper: Tamper,
    trouble: Trouble,
    /// Whether completions wait for the sync.
    acks_early: bool,
    durable: Vec<Batch>,
    waiting: VecDeque<Decided>,
    syncing: VecDeque<Decided>,
    sync_ends: Option<Micros>,
    settled: VecDeque<Decided>,
    /// Of a failed sync: may be there after a restart or not.
    uncertain: Vec<Batch>,
    refusing: Option<StoreError>,
    refused_receipts: bool,
    under_way: usize,
}

struct Decided {
    /// `None` if nothing of it is to be kept.
    batch: Option<Batch>,
    done: Done,
    committed: Result<Committed, StoreError>,
}

/// A completion that is called in any case, as the engine does it.
struct Done(Option<Completion>);

impl Done {
    fn call(mut self, committed: Result<Committed, StoreError>) {
        if let Some(completion) = self.0.take() {
            completion.call(committed);
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

impl SimStore {
    /// Opens what an earlier run has left.
    pub fn open(
        remains: Remains,
        speed: Speed,
        seed: u64,
        runtime: &Arc<Runtime>,
        waker: Waker,
        (kind, bug): (Kind, Option<Bug>),
    ) -> Arc<Self> {
        let Remains { batches: mut durable, left } = remains;
        if bug == Some(Bug::LosesTheLastBatch) && durable.len() > 1 {
            durable.pop();
        }
        let mut tamper = Tamper::new(bug);
        let truth = Truth::reopen(left).unwrap_or_else(|| {
            let truth = Truth::new(kind);
            for batch in &durable {
                drop(tamper.decide(&truth, batch.clone()));
            }
            truth
        });
        tamper.restarted();
        let state = State {
            truth: Some(truth),
            tamper,
            trouble: Trouble::default(),
            acks_early: bug == Some(Bug::AcksBeforeTheSync),
            durable,
            waiting: VecDeque::new(),
            syncing: VecDeque::new(),
            sync_ends: None,
            settled: VecDeque::new(),
            uncertain: Vec::new(),
            refusing: None,
            refused_receipts: false,
            under_way: 0,
        };
        let dice = Dice::new(seed, 3);
        Arc::new(Self { runtime: Arc::clone(runtime), waker, dice, speed, state: Mutex::new(state) })
    }

    /// The process or the machine is gone. `kept` percent of what was not yet synced are there all the same. Says also how
    /// many batches are not.
    pub fn crash(&self, kept: usize) -> (Remains, usize) {
        let mut state = self.state();
        let mut remains = std::mem::take(&mut state.durable);
        let unsynced = std::mem::take(&mut state.syncing).into_iter().chain(std::mem::take(&mut state.waiting));
        let unsynced: Vec<Batch> = unsynced.filter_map(|mut decided| decided.batch.take()).collect();
        let batches: Vec<Batch> = std::mem::take(&mut state.uncertain).into_iter().chain(unsynced).collect();
        let kept = (batches.len() * kept).div_ceil(100);
        let lost = batches.len() - kept;
        remains.extend(batches.into_iter().take(kept));
        state.settled.clear();
        state.refusing = Some(StoreError::Closed);
        let truth = state.truth.take().filter(|_| lost == 0);
        drop(state);
        (Remains { batches: remains, left: truth.map(Truth::leave).unwrap_or_default() }, lost)
    }

    /// Changes what is wrong with the disk.
    pub fn trouble(&self, change: impl FnOnce(&mut Trouble)) {
        change(&mut self.state().trouble);
        self.waker.wake_by_ref();
    }

    /// Whether a sync has failed: nothing more is taken until a restart.
    pub fn has_failed(&self) -> bool {
        matches!(self.state().refusing, Some(StoreError::Io(_)))
    }

    /// Whether receipts were refused that came alone: nobody was told, and whoever said them says them again in time.
    pub fn has_refused_receipts(&self) -> bool {
        self.state().refused_receipts
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        let state = self.state();
        let queued = state.waiting.len() + state.syncing.len() + state.settled.len();
        queued + state.under_way == 0
    }

    /// A step of the disk: one completion, or the end of a sync, or the start of the next.
    pub fn work(&self) {
        let now = self.runtime.now();
        let mut state = self.state();
        if let Some(decided) = state.settled.pop_front() {
            drop(state);
            decided.done.call(decided.committed);
            self.waker.wake_by_ref();
            return;
        }
        if let Some(ends) = state.sync_ends {
            let ends = ends.max(state.trouble.stalled_until);
            if ends > now {
                return self.runtime.wake_at(ends, self.waker.clone());
            }
            state.sync_ends = None;
            if std::mem::take(&mut state.trouble.sync_fails) {
                state.fail();
            } else {
                let mut group = std::mem::take(&mut state.syncing);
                state.durable.extend(group.iter_mut().filter_map(|decided| decided.batch.take()));
                state.settled.extend(group);
            }
        }
        if !state.settled.is_empty() {
            return self.waker.wake_by_ref();
        }
        if !state.waiting.is_empty() {
            state.syncing = std::mem::take(&mut state.waiting);
            let ends = now + self.dice.between(self.speed.sync);
            state.sync_ends = Some(ends);
            self.runtime.wake_at(ends, self.waker.clone());
        }
    }

    fn take(&self, batch: Batch, done: Done) {
        let now = self.runtime.now();
        let mut guard = self.state();
        let state = &mut *guard;
        if state.acks_early && state.refusing.is_none() {
            let committed = state.decide(batch.clone());
            let nothing = Done(Some(Completion::once(drop)));
            state.waiting.push_back(Decided { batch: Some(batch), done: nothing, committed: Ok(Committed::default()) });
            state.settled.push_back(Decided { batch: None, done, committed: Ok(committed) });
            return self.waker.wake_by_ref();
        }
        let is_receipt = |operation: &Operation| matches!(operation, Operation::Received(_) | Operation::ReadUpTo(_));
        let of_receipts = !batch.is_empty() && batch.iter().all(is_receipt);
        let (kept, committed) = match &state.refusing {
            Some(error) => (None, Err(error.clone())),
            None if state.trouble.full_until > now => (None, Err(StoreError::Full("simulated".into()))),
            None => (Some(batch.clone()), Ok(state.decide(batch))),
        };
        state.refused_receipts |= kept.is_none() && of_receipts;
        state.waiting.push_back(Decided { batch: kept, done, committed });
        self.waker.wake_by_ref();
    }

    async fn page(
        &self,
        (app, user): (AppId, UserId),
        (after, up_to): (Position, Position),
        limit: ReadLimit,
    ) -> Result<Page, StoreError> {
        let reading = UnderWay::new(self);
        self.runtime.sleep(self.dice.between(self.speed.read)).await;
        drop(reading);
        let mut guard = self.state();
        let state = &mut *guard;
        if state.trouble.unreadable_until > self.runtime.now() {
            return Err(StoreError::Corrupt("simulated".into()));
        }
        let truth = state.truth.as_ref().ok_or(StoreError::Closed)?;
        state.tamper.read(truth, (app, user), (after, up_to), limit)
    }

    fn ask<T>(
        &self,
        question: impl for<'a> FnOnce(&'a dyn Store) -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.state().truth.as_ref().ok_or(StoreError::Closed)?.ask(question)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("one thread")
    }
}

impl State {
    /// While nothing is refused there is a truth.
    fn decide(&mut self, batch: Batch) -> Committed {
        self.tamper.decide(self.truth.as_ref().expect("nothing is refused"), batch)
    }

    /// A failed sync: what was in it may be there after a restart; nothing more is taken.
    fn fail(&mut self) {
        let error = StoreError::Io("simulated".into());
        self.refusing = Some(error.clone());
        let failed = std::mem::take(&mut self.syncing).into_iter().chain(std::mem::take(&mut self.waiting));
        for mut decided in failed.collect::<Vec<_>>() {
            decided.committed = Err(error.clone());
            self.uncertain.extend(decided.batch.take());
            self.settled.push_back(decided);
        }
    }
}

/// Counts a caller while it waits.
struct UnderWay<'a>(&'a SimStore);

impl<'a> UnderWay<'a> {
    fn new(store: &'a SimStore) -> Self {
        store.state().under_way += 1;
        Self(store)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.state().under_way -= 1;
    }
}

impl Store for SimStore {
    fn commit(&self, batch: Batch, done: Completion) -> Taking<'_> {
        let done = Done(Some(done));
        Taking::Right(Box::pin(async move {
            // Now and then there is no room at once.
            if self.dice.chance(10) {
                let _waiting = UnderWay::new(self);
                self.runtime.sleep(self.dice.between(self.speed.sync)).await;
            }
            self.take(batch, done);
        }))
    }

    fn read_inbox(
        &self,
        app: AppId,
        user: UserId,
        after: Position,
        up_to: Position,
        limit: ReadLimit,
    ) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(self.page((app, user), (after, up_to), limit))
    }

    fn find_user(&self, app: AppId, name: &str) -> BoxFuture<'_, Result<Option<User>, StoreError>> {
        let found = self.ask(|store| store.find_user(app, name));
        ready(found).boxed()
    }

    fn list_users(&self, app: AppId, after: &str, limit: usize) -> BoxFuture<'_, Result<Vec<User>, StoreError>> {
        let found = self.ask(|store| store.list_users(app, after, limit));
        ready(found).boxed()
    }

    fn list_apps(&self) -> BoxFuture<'_, Result<Vec<App>, StoreError>> {
        let found = self.ask(|store| store.list_apps());
        ready(found).boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            while !self.is_idle() {
                self.runtime.sleep(self.speed.sync.1).await;
            }
            self.state().refusing = Some(StoreError::Closed);
            Ok(())
        })
    }
}
