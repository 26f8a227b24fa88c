//! The reference model: plain maps, obviously right, nothing on disk.
//!
//! It shares no decision with the engine, so that a comparison of the two means something; tests elsewhere also use it
//! as a store that needs no directory.
//!
//! # Layout
//! - `model`: what there is, and the operations on users, devices and messages
//! - `login`: who may attach
//! - `inbox`: what happens to inboxes: entries, confirmations, receipts, expiry

mod inbox;
mod login;
mod model;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, FutureExt, ready};

use self::model::{Model, UserState};
use super::{App, Batch, Committed, Completion, Device, Page, ReadLimit, Store, StoreError, Taking, User, taken};
use crate::ids::{AppId, Position, UserId};

/// A store in memory. Dropping it forgets everything.
#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    model: Model,
    closed: bool,
    /// Decided batches whose completions have not been called. At most one for each caller inside `commit`.
    decided: VecDeque<(Completion, Result<Committed, StoreError>)>,
    /// Somebody is calling completions; whoever decides meanwhile leaves his to them, so that the order holds.
    calling: bool,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call_completions(&self) {
        let mut state = self.state();
        if std::mem::replace(&mut state.calling, true) {
            return;
        }
        while let Some((done, committed)) = state.decided.pop_front() {
            drop(state);
            done.call(committed);
            state = self.state();
        }
        state.calling = false;
    }
}

impl Store for Memory {
    fn commit(&self, batch: Batch, done: Completion) -> Taking<'_> {
        {
            let mut state = self.state();
            let committed = if state.closed { Err(StoreError::Closed) } else { Ok(state.model.decide(&batch)) };
            state.decided.push_back((done, committed));
        }
        self.call_completions();
        taken()
    }

    fn read_inbox(
        &self,
        app: AppId,
        user: UserId,
        after: Position,
        up_to: Position,
        limit: ReadLimit,
    ) -> BoxFuture<'_, Result<Page, StoreError>> {
        let state = self.state();
        let page = match state.model.user(app, user) {
            Some(user) => inbox::page(user, after, up_to, limit),
            None => Page { entries: Vec::new(), complete: true },
        };
        ready(Ok(page)).boxed()
    }

    fn find_user(&self, app: AppId, name: &str) -> BoxFuture<'_, Result<Option<User>, StoreError>> {
        let state = self.state();
        let found = state.model.users(app).find(|(_, user)| user.name == name).map(|(id, user)| describe(id, user));
        ready(Ok(found)).boxed()
    }

    fn list_users(&self, app: AppId, after: &str, limit: usize) -> BoxFuture<'_, Result<Vec<User>, StoreError>> {
        let state = self.state();
        let mut users: Vec<User> = state
            .model
            .users(app)
            .filter(|(_, user)| user.name.as_str() > after)
            .map(|(id, user)| describe(id, user))
            .collect();
        users.sort_by(|a, b| a.name.cmp(&b.name));
        users.truncate(limit);
        ready(Ok(users)).boxed()
    }

    fn list_apps(&self) -> BoxFuture<'_, Result<Vec<App>, StoreError>> {
        let state = self.state();
        let describe =
            |(&id, app): (&AppId, &model::AppState)| App { id, name: app.name.clone(), users: app.users.len() as u64 };
        let apps = state.model.apps.iter().map(describe).collect();
        ready(Ok(apps)).boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.state().closed = true;
        ready(Ok(())).boxed()
    }
}

fn describe(id: UserId, user: &UserState) -> User {
    let device = |(&id, device): (&crate::ids::DeviceId, &model::DeviceState)| Device {
        id,
        name: device.name.clone(),
        key: device.key,
        cursor: device.cursor,
        linked: device.linked,
        seen: device.seen,
    };
    User {
        id,
        name: user.name.clone(),
        devices: user.devices.iter().map(device).collect(),
        head: user.head,
        entries: user.message_count(),
    }
}
