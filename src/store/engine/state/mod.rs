//! What the sequencer decides on: typed, in memory, read from sled when it is first asked for.
//!
//! The state is ahead of the disk: it has every change that was decided, and the journal makes them durable a group at a
//! time. Changes go into the group as they are made: what is new (entries, answers) at once, what changes again and again
//! (apps, users, conversations) as one image each, made anew after each batch.
//!
//! # Layout
//! - this file: finding and loading
//! - `objects`: objects under their keys
//! - `user`: a user in memory; `newest`: its newest receipts; `answers`: what its devices were answered
//! - `group`: what was decided, on its way to the journal
//! - `change`: what a group is made of, as bytes; replay
//! - `spill`: what goes to sled when a segment is full
//! - `moving`: what of a user changes with every message
//! - `evict`: what memory is bounded by
//! - `survey`: all users, one after the other

mod answers;
mod change;
mod evict;
mod group;
mod moving;
mod newest;
mod objects;
mod spill;
mod survey;
mod user;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::mem;
use std::ops::ControlFlow;
use std::sync::{Arc, Weak};

use rustc_hash::FxBuildHasher;
use smol_str::SmolStr;

pub(super) use self::change::Changes;
pub(super) use self::group::Group;
use self::group::Touched;
pub(super) use self::newest::ReceiptKey;
pub(super) use self::objects::At;
use self::objects::{Finder, Object, Objects};
pub(super) use self::spill::{Spill, SpilledAnswers, Written};
pub(super) use self::survey::Found;
pub(super) use self::user::User;
use super::cold;
use super::disk::Disk;
use super::keys;
use super::rows::{AnswerRow, AppRow, ConversationRow, Entry, Number, UserRow, corrupt};
use crate::ids::{AppId, ConversationId, Position, UserId};
use crate::store::StoreError;

pub(super) type UserKey = (AppId, UserId);
pub(super) type ConversationKey = (AppId, ConversationId);

/// Everything that is not in sled alone.
pub(super) struct State {
    /// Gone when the store is closed.
    disk: Weak<Disk>,
    /// All there are.
    apps: BTreeMap<AppId, AppState>,
    users: Objects<UserKey, User>,
    conversations: Objects<ConversationKey, Conversation>,
    /// Conversations in memory, by their members.
    directs: Finder,
    /// Names come from outside: nobody can tell which of them meet.
    names_hasher: RandomState,
    group: Group,
    /// What the batch has changed that is being decided.
    touched: Touched,
    /// The segment that the last group went to.
    segment: u64,
    /// Objects with changes in that segment, or in the group.
    changed: Vec<Changed>,
    /// How many of those had changes before the group.
    changed_before: usize,
    evictable: VecDeque<Changed>,
    /// Objects that were read from sled since it was last looked what can be forgotten.
    loaded: usize,
    /// Whether what is in sled alone is there as it stands, with nothing in the journal that is newer.
    replayed: bool,
    /// Bytes, roughly, that what can be read again may take.
    limit: usize,
    /// The last stamp given.
    stamp: u64,
    /// Counts changes: tells whether something was changed.
    changes: u64,
}

/// An app in memory.
#[derive(Default)]
pub(super) struct AppState {
    pub row: AppRow,
    group: u64,
    segment: u64,
    /// Whether the batch has changed it that is being decided.
    touched: bool,
    /// Users in memory, by name.
    names: Finder,
    /// Names and numbers that sled may not have yet, in order.
    fresh_names: BTreeMap<SmolStr, UserId>,
    fresh_users: BTreeSet<UserId>,
}

#[derive(Default)]
pub(super) struct Conversation {
    pub row: ConversationRow,
    /// Whether sled may not have the pair of its members yet.
    fresh: bool,
}

/// What there is to spill of a segment.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub changed: Vec<Changed>,
    /// The last group that went to it.
    pub last_group: u64,
}

/// Something with a change in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Changed {
    App(AppId),
    User(AppId, UserId),
    Conversation(AppId, ConversationId),
}

impl State {
    /// Reads the apps.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`], [`StoreError::Io`].
    pub(super) fn open(disk: &Arc<Disk>, limit: usize) -> Result<State, StoreError> {
        let mut apps = BTreeMap::new();
        for row in disk.rows::<AppRow>(&keys::apps()) {
            let (key, row) = row?;
            let id = keys::app_of(&key).ok_or_else(|| corrupt(&key))?;
            apps.insert(id, AppState { row, ..AppState::default() });
        }
        Ok(State {
            disk: Arc::downgrade(disk),
            apps,
            users: Objects::default(),
            conversations: Objects::default(),
            directs: Finder::default(),
            names_hasher: RandomState::new(),
            group: Group::numbered(1),
            touched: Touched::default(),
            segment: 0,
            changed: Vec::new(),
            changed_before: 0,
            evictable: VecDeque::new(),
            loaded: 0,
            replayed: false,
            limit,
            stamp: 0,
            changes: 0,
        })
    }
}

impl State {
    /// What is in sled.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub(super) fn disk(&self) -> Result<Arc<Disk>, StoreError> {
        self.disk.upgrade().ok_or(StoreError::Closed)
    }

    /// The last group that changed a user.
    pub(super) fn changed_in(&self, user: At) -> u64 {
        self.users[user].group
    }

    fn next_stamp(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }

    /// Rises with every change.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }
}

/// Apps.
impl State {
    pub(super) fn apps(&self) -> impl Iterator<Item = (AppId, &AppRow)> {
        self.apps.iter().map(|(id, app)| (*id, &app.row))
    }

    pub(super) fn app(&self, app: AppId) -> Option<&AppRow> {
        self.apps.get(&app).map(|app| &app.row)
    }

    /// An app to be changed.
    pub(super) fn app_mut(&mut self, id: AppId) -> Option<&mut AppRow> {
        let app = self.apps.get_mut(&id)?;
        self.changes += 1;
        if !mem::replace(&mut app.touched, true) {
            self.touched.apps.push(id);
        }
        Some(&mut app.row)
    }

    pub(super) fn app_named(&self, name: &str) -> Option<AppId> {
        self.apps.iter().find(|(_, app)| app.row.name == name).map(|(id, _)| *id)
    }

    /// The app of this name, which is made if it is new; `None` when there are too many.
    pub(super) fn ensure_app(&mut self, name: &str) -> Option<AppId> {
        if let Some(id) = self.app_named(name) {
            return Some(id);
        }
        let id = AppId(self.apps.last_key_value().map_or(0, |(last, _)| last.0).checked_add(1)?);
        self.apps.insert(id, AppState::default());
        self.app_mut(id)?.name = name.to_owned();
        Some(id)
    }
}

/// Users.
impl State {
    /// The user, unless there is none of this number.
    pub(super) fn find_user(&mut self, app: AppId, user: UserId) -> Result<Option<At>, StoreError> {
        let key = (app, user);
        let at = match self.users.find(key) {
            Some(at) => Some(at),
            None => self.load_user(key)?,
        };
        Ok(at.filter(|at| !self.users[*at].value.gone))
    }

    pub(super) fn find_user_named(&mut self, app: AppId, name: &str) -> Result<Option<At>, StoreError> {
        let Some(found) = self.apps.get(&app) else { return Ok(None) };
        let hash = self.names_hasher.hash_one(name);
        if let Some(at) = found.names.find(hash, |at| &*self.users[at].value.row.name == name) {
            return Ok(Some(at));
        }
        let Some(Number(user)) = self.disk()?.get::<Number>(&keys::user_name(app, name))? else { return Ok(None) };
        let user = UserId(user);
        // A row of a name may outlive the user for a while.
        Ok(self.find_user(app, user)?.filter(|at| &*self.users[*at].value.row.name == name))
    }

    pub(super) fn user(&self, at: At) -> &User {
        &self.users[at].value
    }

    pub(super) fn user_key(&self, at: At) -> UserKey {
        self.users[at].key
    }

    /// A user of whom anything may be changed.
    pub(super) fn user_mut(&mut self, at: At) -> &mut User {
        let user = self.touched(at);
        user.reshaped = true;
        user
    }

    /// A user that the batch changes.
    fn touched(&mut self, at: At) -> &mut User {
        let object = &mut self.users[at];
        self.changes += 1;
        if !mem::replace(&mut object.touched, true) {
            self.touched.users.push(at);
        }
        &mut object.value
    }

    /// Makes a user whose number and name are free.
    pub(super) fn add_user(&mut self, app: AppId, user: UserId, name: &str) -> At {
        let row = UserRow { name: name.into(), ..UserRow::default() };
        let at = self.put_user((app, user), User::new(row));
        self.user_mut(at);
        at
    }

    /// Removes a user and all that is its own.
    pub(super) fn remove_user(&mut self, at: At) {
        let (app, user) = self.users[at].key;
        let name = self.users[at].value.row.name.clone();
        self.unname(app, at, &name);
        if let Some(app) = self.apps.get_mut(&app) {
            app.fresh_names.remove(&name);
            app.fresh_users.remove(&user);
        }
        *self.user_mut(at) = User::gone();
    }

    fn put_user(&mut self, key: UserKey, mut user: User) -> At {
        user.stamp = self.next_stamp();
        let at = self.place_user(key, user);
        self.make_fresh(at);
        at
    }

    /// Sled may not have this user's name.
    fn make_fresh(&mut self, at: At) {
        let Object { key: (app, id), value: user, .. } = &mut self.users[at];
        user.fresh = true;
        // During replay the image of the app may come later.
        let found = self.apps.entry(*app).or_default();
        found.fresh_names.insert(user.row.name.clone(), *id);
        found.fresh_users.insert(*id);
    }

    /// Gives a user its place in memory, where its name finds it.
    fn place_user(&mut self, key: UserKey, user: User) -> At {
        let at = self.users.add(key, user);
        let State { apps, users, names_hasher, .. } = self;
        let hash_of = |at| names_hasher.hash_one(&*users[at].value.row.name);
        apps.entry(key.0).or_default().names.insert(at, hash_of);
        at
    }

    /// The name does not find this user any more.
    fn unname(&mut self, app: AppId, at: At, name: &str) {
        let hash = self.names_hasher.hash_one(name);
        if let Some(app) = self.apps.get_mut(&app) {
            app.names.remove(hash, at);
        }
    }

    fn load_user(&mut self, key: UserKey) -> Result<Option<At>, StoreError> {
        let (app, user) = key;
        let Some(row) = self.disk()?.get::<UserRow>(&keys::user(app, user))? else { return Ok(None) };
        // An inbox of which nothing is alive was cleared before its user was forgotten: there is nothing more to read.
        let is_empty = self.replayed && row.trimmed == row.head;
        let mut loaded = if is_empty { User::new(row) } else { cold::load_user(&*self.disk()?, key, row)? };
        loaded.stamp = self.next_stamp();
        let at = self.place_user(key, loaded);
        self.note_loaded(Changed::User(app, user));
        Ok(Some(at))
    }

    /// Up to `limit` users whose names come after one, in the order of their names.
    pub(super) fn users_by_name(&mut self, app: AppId, after: &str, limit: usize) -> Result<Vec<At>, StoreError> {
        let Some(found) = self.apps.get(&app) else { return Ok(Vec::new()) };
        let range = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        let fresh = found.fresh_names.range::<str, _>(range).map(|(name, _)| name.clone());
        // Those of one answer: of all that are fresh there may be a million.
        let fresh: Vec<SmolStr> = fresh.take(limit).collect();
        let prefix = keys::user_names(app);
        let from = keys::after(keys::user_name(app, after));
        let disk = self.disk()?;
        let end = keys::after_prefix(prefix.clone());
        let cold = disk.scan(&from, &end).map(|row| {
            let (key, _) = row?;
            std::str::from_utf8(&key[prefix.len()..]).map(SmolStr::from).map_err(|_| corrupt(&key))
        });
        let mut users = Vec::new();
        for name in merged(fresh.into_iter(), cold, SmolStr::clone) {
            if users.len() >= limit {
                break;
            }
            users.extend(self.find_user_named(app, &name?)?);
        }
        Ok(users)
    }

    /// Gives a living inbox its next entry.
    pub(super) fn push_entry(&mut self, at: At, entry: Entry) {
        let group = self.group.number;
        change::put_entry(&mut self.group.events, self.users[at].key, &entry);
        self.touched(at).push(entry, group);
    }

    /// Keeps what a device was answered.
    pub(super) fn push_answer(&mut self, at: At, device: usize, answer: &AnswerRow) {
        self.touched(at);
        let Object { key, value: user, .. } = &mut self.users[at];
        let device = user.row.devices[device].id;
        let words = user.answers.push(device, answer, self.group.number);
        change::put_answer(&mut self.group.events, *key, device, words);
    }

    /// Visits living entries with `after < position ≤ up_to` in order until told to stop.
    pub(super) fn visit_entries(
        &self,
        at: At,
        after: Position,
        up_to: Position,
        mut visit: impl FnMut(&Entry) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let Object { key, value: user, .. } = &self.users[at];
        let mut hot = user.hot_after(after).take_while(|entry| entry.position <= up_to);
        if user.is_hot_after(after) {
            // Whether it was told to stop makes no difference any more, here and below.
            let _ = hot.try_for_each(visit);
            return Ok(());
        }
        let mut hot = hot.peekable();
        // What a gap hides no device has taken: reading reports it.
        for entry in cold::entries(&*self.disk()?, *key, after, up_to.min(user.cold), &Cell::default()) {
            let entry = entry?;
            while let Some(before) = hot.next_if(|hot| hot.position < entry.position) {
                if visit(before).is_break() {
                    return Ok(());
                }
            }
            hot.next_if(|hot| hot.position == entry.position);
            if user.is_alive(&entry) && visit(&entry).is_break() {
                return Ok(());
            }
        }
        let _ = hot.try_for_each(visit);
        Ok(())
    }
}

/// Conversations.
impl State {
    pub(super) fn find_conversation(
        &mut self,
        app: AppId,
        conversation: ConversationId,
    ) -> Result<Option<At>, StoreError> {
        let key = (app, conversation);
        if let Some(at) = self.conversations.find(key) {
            return Ok(Some(at));
        }
        let Some(row) = self.disk()?.get::<ConversationRow>(&keys::conversation(app, conversation))? else {
            return Ok(None);
        };
        let at = self.put_conversation(key, row, false);
        self.note_loaded(Changed::Conversation(app, conversation));
        Ok(Some(at))
    }

    /// A conversation that something refers to.
    pub(super) fn known_conversation(&mut self, app: AppId, conversation: ConversationId) -> Result<At, StoreError> {
        self.find_conversation(app, conversation)?.ok_or_else(|| corrupt(&keys::conversation(app, conversation)))
    }

    /// The direct conversation of two users.
    pub(super) fn find_direct(&mut self, app: AppId, a: UserId, b: UserId) -> Result<Option<At>, StoreError> {
        let has_both = |at| is_between(&self.conversations[at], app, [a, b]);
        if let Some(at) = self.directs.find(hash_of_pair(app, [a, b]), has_both) {
            return Ok(Some(at));
        }
        let Some(Number(found)) = self.disk()?.get::<Number>(&keys::direct(app, a, b))? else { return Ok(None) };
        self.known_conversation(app, ConversationId(found)).map(Some)
    }

    pub(super) fn conversation(&self, at: At) -> &ConversationRow {
        &self.conversations[at].value.row
    }

    pub(super) fn conversation_id(&self, at: At) -> ConversationId {
        self.conversations[at].key.1
    }

    /// A conversation to be changed.
    pub(super) fn conversation_mut(&mut self, at: At) -> &mut ConversationRow {
        let object = &mut self.conversations[at];
        self.changes += 1;
        if !mem::replace(&mut object.touched, true) {
            self.touched.conversations.push(at);
        }
        &mut object.value.row
    }

    /// Makes a conversation whose number is free.
    pub(super) fn add_conversation(&mut self, app: AppId, id: ConversationId, members: [UserId; 2]) -> At {
        let row = ConversationRow { members, ..ConversationRow::default() };
        let at = self.put_conversation((app, id), row, true);
        self.conversation_mut(at);
        at
    }

    fn put_conversation(&mut self, key: ConversationKey, row: ConversationRow, fresh: bool) -> At {
        let at = self.conversations.add(key, Conversation { row, fresh });
        let State { conversations, directs, .. } = self;
        directs.insert(at, |at| {
            let object = &conversations[at];
            hash_of_pair(object.key.0, object.value.row.members)
        });
        at
    }
}

/// Under which the conversation of two is found.
fn hash_of_pair(app: AppId, [a, b]: [UserId; 2]) -> u64 {
    FxBuildHasher.hash_one((app, a.min(b), a.max(b)))
}

fn is_between(conversation: &Object<ConversationKey, Conversation>, app: AppId, [a, b]: [UserId; 2]) -> bool {
    let members = conversation.value.row.members;
    conversation.key.0 == app && (members == [a, b] || members == [b, a])
}

/// Two sequences that ascend by a key as one. Of those with the same key the second's stays.
fn merged<T, K: Ord>(
    hot: impl Iterator<Item = T>,
    cold: impl Iterator<Item = Result<T, StoreError>>,
    key: impl Fn(&T) -> K,
) -> impl Iterator<Item = Result<T, StoreError>> {
    let (mut hot, mut cold) = (hot.peekable(), cold.peekable());
    std::iter::from_fn(move || match (hot.peek(), cold.peek()) {
        (Some(first), Some(Ok(second))) if key(first) < key(second) => hot.next().map(Ok),
        (Some(first), Some(Ok(second))) if key(first) == key(second) => {
            hot.next();
            cold.next()
        }
        (Some(_), None) => hot.next().map(Ok),
        _ => cold.next(),
    })
}
