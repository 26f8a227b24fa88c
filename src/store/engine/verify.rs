//! Whether every row is what was written, and whether the rows fit together: nothing refers to what is not there, nothing
//! is left behind, and every number is within its bounds.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use postrider_protocol::wire;
use prost::Message as _;
use serde::Serialize;

use super::cold;
use super::disk::Disk;
use super::keys;
use super::keys::Table;
use super::rows::{
    Answers, AppRow, Body, Chunk, Content, ConversationRow, Entry, MessageFacts, Number, Piece, Reach, Record, UserRow,
    corrupt, unseal,
};
use super::state::User;
use crate::ids::{AppId, ConversationId, DeviceId, Position, SendId, Seq, UserId};
use crate::store::StoreError;

/// Problems that are kept in words; further ones are only counted.
const KEPT_PROBLEMS: usize = 1_000;

/// What a store holds, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Rows looked at.
    pub rows: u64,
    /// Apps.
    pub apps: u64,
    /// Users of all apps.
    pub users: u64,
    /// Devices of all users.
    pub devices: u64,
    /// Conversations of all apps.
    pub conversations: u64,
    /// Entries in all inboxes.
    pub entries: u64,
    /// Messages in all inboxes.
    pub messages: u64,
    /// What is wrong: the first 1,000, in words.
    pub problems: Vec<String>,
    /// How much is wrong.
    pub problem_count: u64,
}

/// Looks at every row of a store that nobody writes to meanwhile. `progress` is told the rows looked at, now and then.
/// Takes memory for each user and conversation of an app.
///
/// # Errors
/// When the rows cannot be read at all. What can be read and is wrong is a problem, not an error.
pub(super) fn verify(disk: &Disk, progress: &mut dyn FnMut(u64)) -> Result<Verified, StoreError> {
    let mut verifier = Verifier { disk, found: Verified::default() };
    let owners = verifier.each_row(progress)?;
    let mut apps = BTreeMap::new();
    verifier.table(&keys::apps(), |_, key, row: AppRow| {
        apps.extend(keys::app_of(key).map(|app| (app, row)));
    })?;
    for app in owners.into_iter().filter(|app| *app != AppId(0) && !apps.contains_key(app)) {
        verifier.problem(format!("app {app} is not there, and has rows"));
    }
    for (app, row) in apps {
        verifier.found.apps += 1;
        Inspection { app, verifier: &mut verifier }.inspect(&row)?;
    }
    Ok(verifier.found)
}

struct Verifier<'a> {
    disk: &'a Disk,
    found: Verified,
}

impl Verifier<'_> {
    fn problem(&mut self, what: String) {
        self.found.problem_count += 1;
        if self.found.problems.len() < KEPT_PROBLEMS {
            self.found.problems.push(what);
        }
    }

    /// Whether each row is what was written, also those that nothing refers to; returns the apps that have any.
    fn each_row(&mut self, progress: &mut dyn FnMut(u64)) -> Result<BTreeSet<AppId>, StoreError> {
        let mut apps = BTreeSet::new();
        for row in self.disk.scan_all() {
            let (key, value) = row?;
            self.found.rows += 1;
            if self.found.rows.is_multiple_of(10_000) {
                progress(self.found.rows);
            }
            if is_sound(&key, &value) {
                apps.extend(keys::app_of(&key));
            } else {
                self.sound::<()>(Err(corrupt(&key)))?;
            }
        }
        Ok(apps)
    }

    /// Visits the rows whose keys begin with `prefix`, but for those that are not what was written.
    fn table<R: Record>(
        &mut self,
        prefix: &[u8],
        mut visit: impl FnMut(&mut Self, &[u8], R),
    ) -> Result<(), StoreError> {
        let disk = self.disk;
        for row in disk.scan(prefix, &keys::after_prefix(prefix.to_vec())) {
            let (key, value) = row?;
            if let Ok(record) = unseal(&key, value) {
                visit(self, &key, record);
            }
        }
        Ok(())
    }

    /// What a look at one row finds; what is wrong with the row is a problem.
    fn sound<T>(&mut self, found: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
        match found {
            Err(StoreError::Corrupt(what)) => {
                self.problem(what);
                Ok(None)
            }
            found => found,
        }
    }
}

/// Whether a row is what was written, and of its table's kind.
pub(super) fn is_sound(key: &[u8], value: &Bytes) -> bool {
    let value = value.clone();
    match Table::of(key) {
        Some(Table::App) => unseal::<AppRow>(key, value).is_ok(),
        Some(Table::User) => unseal::<UserRow>(key, value).is_ok(),
        Some(Table::Answers) => unseal::<Answers>(key, value).is_ok(),
        Some(Table::Conversation) => unseal::<ConversationRow>(key, value).is_ok(),
        Some(Table::Chunk) => unseal::<Chunk>(key, value).is_ok(),
        Some(Table::Piece) => unseal::<Piece>(key, value).is_ok(),
        Some(Table::AppName | Table::UserName | Table::Direct | Table::Newest | Table::Spilled | Table::End) => {
            unseal::<Number>(key, value).is_ok()
        }
        Some(Table::Reach) => unseal::<Reach>(key, value).is_ok(),
        None => false,
    }
}

/// One app at a time.
struct Inspection<'v, 'a> {
    app: AppId,
    verifier: &'v mut Verifier<'a>,
}

impl Inspection<'_, '_> {
    fn inspect(mut self, row: &AppRow) -> Result<(), StoreError> {
        let app = self.app;
        let mut users = BTreeMap::new();
        self.verifier.table(&keys::users(app), |_, key, row: UserRow| {
            users.extend(keys::user_of(key).map(|user| (user, row)));
        })?;
        self.check(row.users == users.len() as u64, || format!("it counts {} users, not {}", row.users, users.len()));
        let last = users.keys().next_back().map_or(0, |user| user.0);
        self.check(last <= row.last_user, || format!("user {last} is above the last number given, {}", row.last_user));
        self.names(&users)?;
        let mut conversations = BTreeMap::new();
        self.verifier.table(&keys::conversations(app), |_, key, row: ConversationRow| {
            conversations.extend(keys::number(key, 0).map(|id| (ConversationId(id), row)));
        })?;
        self.verifier.found.users += users.len() as u64;
        self.verifier.found.conversations += conversations.len() as u64;
        self.conversations(&conversations)?;
        for (user, row) in &users {
            self.user(*user, row, &conversations)?;
        }
        self.strays(&users)
    }

    /// Names and users stand for each other.
    fn names(&mut self, users: &BTreeMap<UserId, UserRow>) -> Result<(), StoreError> {
        let prefix = keys::user_names(self.app);
        let mut names = Vec::new();
        self.verifier.table(&prefix, |_, key, Number(id)| {
            names.push((String::from_utf8_lossy(&key[prefix.len()..]).into_owned(), UserId(id)));
        })?;
        let mut named = BTreeSet::new();
        for (name, id) in names {
            let fits = users.get(&id).is_some_and(|user| *user.name == *name);
            self.check(fits, || format!("the name {name:?} stands for user {id}, who is another or nobody"));
            named.insert(id);
        }
        for user in users.keys().filter(|user| !named.contains(user)) {
            self.problem(format!("user {user} cannot be found by name"));
        }
        Ok(())
    }

    fn conversations(&mut self, conversations: &BTreeMap<ConversationId, ConversationRow>) -> Result<(), StoreError> {
        let mut directs = BTreeMap::new();
        self.verifier.table(&keys::directs(self.app), |_, key, Number(id)| {
            let members = keys::number(key, 0).zip(keys::number(key, 1));
            directs.extend(members.map(|(a, b)| (ConversationId(id), (UserId(a), UserId(b)))));
        })?;
        for (id, row) in conversations {
            for marks in row.marks {
                let ordered = marks.read <= marks.delivered && marks.delivered <= row.head && marks.wanted <= row.head;
                self.check(ordered, || format!("conversation {id}: read ≤ delivered ≤ head does not hold"));
            }
            let [a, b] = row.members;
            let leads_here = directs.remove(id) == Some((a.min(b), a.max(b)));
            self.check(leads_here, || format!("conversation {id} is not found by its members"));
        }
        for id in directs.into_keys() {
            self.problem(format!("two users lead to conversation {id}, which is not there"));
        }
        Ok(())
    }

    fn user(
        &mut self,
        id: UserId,
        row: &UserRow,
        conversations: &BTreeMap<ConversationId, ConversationRow>,
    ) -> Result<(), StoreError> {
        let within = row.confirmed <= row.head && row.trimmed <= row.head && row.expired <= row.head;
        self.check(within, || format!("user {id}: what is confirmed, trimmed or expired is above the inbox's head"));
        for device in &row.devices {
            let within = device.start <= device.cursor && device.cursor <= row.head;
            self.check(within, || format!("user {id}, device {}: start ≤ cursor ≤ head does not hold", device.id));
            self.answers(id, device.id, device.highest)?;
        }
        self.verifier.found.devices += row.devices.len() as u64;
        let loaded = cold::load_user(self.verifier.disk, (self.app, id), row.clone());
        let Some(user) = self.verifier.sound(loaded.map(Some))? else { return Ok(()) };
        self.inbox(id, &user, conversations)
    }

    /// Every entry that is alive: messages in their conversations and in order, receipts that are the newest of their kind.
    fn inbox(
        &mut self,
        id: UserId,
        user: &User,
        conversations: &BTreeMap<ConversationId, ConversationRow>,
    ) -> Result<(), StoreError> {
        let app = self.app;
        let mut chunks = Vec::new();
        let (mut end, floor) = (Position(0), user.floor());
        self.verifier.table(&keys::chunks_of_user(app, id), |verifier, key, Chunk { before, entries }| {
            let ascending = entries.is_sorted_by(|a, b| a.position < b.position);
            let last = entries.last().map(|entry| entry.position);
            if !ascending || last.is_none() || last != keys::last_of(key) {
                verifier.problem(format!("app {app}: user {id}: a piece of the inbox is out of order"));
            }
            if before > end && before > floor {
                verifier.problem(format!("app {app}: user {id}: a piece of the inbox is missing before {before}"));
            }
            end = end.max(last.unwrap_or_default());
            chunks.push(entries);
        })?;
        self.check(end >= user.cold || user.cold <= floor, || {
            format!("user {id}: the last piece of the inbox is missing, up to {}", user.cold)
        });
        let (mut last, mut last_seq) = (Position(0), BTreeMap::new());
        let (mut messages, mut receipts, mut pieces) = (0, 0, BTreeMap::new());
        for entry in chunks.into_iter().flatten() {
            // A spill that a crash cut short leaves entries that lie in the next piece as well.
            let again = entry.position <= last;
            last = last.max(entry.position);
            if let Content::Message(_, Body::Pieces(count)) = entry.content {
                pieces.insert(entry.position, count);
            }
            if again || !user.is_alive(&entry) {
                continue;
            }
            self.verifier.found.entries += 1;
            match &entry.content {
                Content::Message(facts, body) => {
                    messages += 1;
                    self.message(id, &entry, facts, body, conversations, &mut last_seq)?;
                }
                Content::Receipt(_) => receipts += 1,
            }
        }
        self.verifier.found.messages += messages;
        self.check(last <= user.row.head, || format!("user {id}: entry {last} is above the inbox's head"));
        self.check(user.row.messages == messages, || {
            format!("user {id}: the inbox counts {} messages and has {messages}", user.row.messages)
        });
        let wanted = user.newest.len();
        self.check(wanted == receipts, || format!("user {id}: {receipts} receipts are there, not {wanted}"));
        self.pieces(id, user, &pieces)
    }

    /// A message lies in its conversation, behind the earlier ones, and is whole.
    fn message(
        &mut self,
        user: UserId,
        entry: &Entry,
        facts: &MessageFacts,
        body: &Body,
        conversations: &BTreeMap<ConversationId, ConversationRow>,
        last_seq: &mut BTreeMap<ConversationId, Seq>,
    ) -> Result<(), StoreError> {
        let MessageFacts { conversation, seq, .. } = *facts;
        let known = conversations.get(&conversation);
        let of_user = known.is_some_and(|row| row.index(user).is_some() && seq <= row.head && seq > Seq(0));
        self.check(of_user, || format!("user {user}: message {conversation}/{seq} is in no conversation of the user"));
        let before = last_seq.insert(conversation, seq);
        let ascending = before.is_none_or(|before| before < seq);
        self.check(ascending, || format!("user {user}: message {conversation}/{seq} comes after a later one"));
        let encoded = cold::body(self.verifier.disk, (self.app, user), entry.position, body);
        let encoded = self.verifier.sound(encoded)?;
        let decoded = encoded.and_then(|encoded| wire::Message::decode(encoded).ok());
        let own = decoded.is_some_and(|message| (message.conversation, message.seq) == (conversation.0, seq.0));
        self.check(own, || format!("user {user}: message {conversation}/{seq} is not whole"));
        Ok(())
    }

    /// Pieces belong to an entry.
    fn pieces(&mut self, id: UserId, user: &User, wanted: &BTreeMap<Position, u32>) -> Result<(), StoreError> {
        let mut strays = 0;
        // Only messages have pieces. Those of dead ones go when nothing in front of them is alive.
        let floor = user.row.trimmed.max(user.row.expired);
        self.each_key(&keys::pieces_of_user(self.app, id), |_, key| {
            let position = keys::number(key, 1).map(Position);
            let known = position.is_some_and(|at| at <= floor || wanted.contains_key(&at));
            strays += u64::from(!known);
        })?;
        self.check(strays == 0, || format!("user {id}: {strays} pieces of messages belong to no entry"));
        Ok(())
    }

    /// The answers kept are those to the last sends.
    fn answers(&mut self, user: UserId, device: DeviceId, highest: SendId) -> Result<(), StoreError> {
        let kept = postrider_protocol::limits::KEPT_ANSWERS as u64;
        let mut found = BTreeSet::new();
        let app = self.app;
        self.verifier.table(&keys::answers_of_device(app, user, device), |verifier, key, Answers(answers)| {
            for answer in answers {
                let send_id = answer.send_id();
                if key != keys::answers(app, user, device, keys::answer_group(send_id)) || send_id > highest {
                    verifier
                        .problem(format!("app {app}: user {user}, device {device}: answer {send_id} is out of place"));
                }
                found.insert(send_id);
            }
        })?;
        let first = highest.0.saturating_sub(kept) + 1;
        let missing = (first..=highest.0).filter(|id| !found.contains(&SendId(*id))).count();
        self.check(missing == 0, || {
            format!("user {user}, device {device}: {missing} of the answers to the last sends are missing")
        });
        Ok(())
    }

    /// Rows that belong to nobody.
    fn strays(&mut self, users: &BTreeMap<UserId, UserRow>) -> Result<(), StoreError> {
        let app = self.app;
        for prefix in
            [keys::chunks(app), keys::ends(app), keys::pieces(app), keys::all_newest(app), keys::all_answers(app)]
        {
            let mut strays = 0;
            self.each_key(&prefix, |_, key| {
                let owner = keys::user_of(key).and_then(|owner| users.get(&owner));
                strays += u64::from(owner.is_none());
            })?;
            self.check(strays == 0, || format!("{strays} rows of users who are not there"));
        }
        let mut strays = 0;
        self.each_key(&keys::all_answers(app), |_, key| {
            let owner = keys::user_of(key).and_then(|owner| users.get(&owner));
            let device = keys::number(key, 1).map(DeviceId);
            let known = owner.is_some_and(|owner| owner.devices.iter().any(|known| Some(known.id) == device));
            strays += u64::from(!known);
        })?;
        self.check(strays == 0, || format!("{strays} rows of devices that are not there"));
        Ok(())
    }

    fn each_key(&mut self, prefix: &[u8], mut visit: impl FnMut(&mut Self, &[u8])) -> Result<(), StoreError> {
        let disk = self.verifier.disk;
        for row in disk.scan(prefix, &keys::after_prefix(prefix.to_vec())) {
            visit(self, &row?.0);
        }
        Ok(())
    }

    fn check(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.problem(problem());
        }
    }

    fn problem(&mut self, what: String) {
        self.verifier.problem(format!("app {}: {what}", self.app));
    }
}
