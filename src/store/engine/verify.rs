//! Whether every row is what was written, and whether the rows fit together: nothing refers to what is not there, nothing
//! is left behind, and every number is within its bounds.

use std::collections::{BTreeMap, BTreeSet};

use postrider_protocol::wire;
use prost::Message as _;

use super::keys;
use super::records::{
    AnswerRow, AppRow, BodyRow, ConversationRow, DeviceRow, EntryContent, EntryRow, MessageFacts, Number, Piece,
    Record, UserRow, unseal,
};
use super::view::Rows;
use crate::ids::{AppId, ConversationId, DeviceId, Position, SendId, Seq, UserId};
use crate::store::{Answer, StoreError};

/// Problems that are kept in words; further ones are only counted.
const KEPT_PROBLEMS: usize = 1_000;

/// What a store holds, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Messages that some inbox entry refers to.
    pub messages: u64,
    /// What is wrong: the first 1,000, in words.
    pub problems: Vec<String>,
    /// How much is wrong.
    pub problem_count: u64,
}

/// Looks at every row of a store that nobody writes to meanwhile. `progress` is told the rows looked at, now and then.
/// Takes memory for each message that waits: about 50 bytes.
///
/// # Errors
/// When the rows cannot be read at all. What can be read and is wrong is a problem, not an error.
pub(super) fn verify(rows: &dyn Rows, progress: &mut dyn FnMut(u64)) -> Result<Verified, StoreError> {
    let mut verifier = Verifier { rows, found: Verified::default(), progress };
    let apps = verifier.table::<AppRow>(&keys::apps())?;
    for (key, row) in apps {
        let Some(app) = keys::app_of(&key) else { continue };
        verifier.found.apps += 1;
        Inspection { app, verifier: &mut verifier, references: BTreeMap::new(), newest: 0 }.inspect(&row)?;
    }
    Ok(verifier.found)
}

struct Verifier<'a> {
    rows: &'a dyn Rows,
    found: Verified,
    progress: &'a mut dyn FnMut(u64),
}

impl Verifier<'_> {
    fn problem(&mut self, what: String) {
        self.found.problem_count += 1;
        if self.found.problems.len() < KEPT_PROBLEMS {
            self.found.problems.push(what);
        }
    }

    /// The rows whose keys begin with `prefix`; what does not decode is a problem and left out.
    fn table<R: Record>(&mut self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, R)>, StoreError> {
        let end = keys::after_prefix(prefix.to_vec());
        let mut table = Vec::new();
        for row in self.rows.scan(prefix, &end) {
            let (key, value) = row?;
            self.found.rows += 1;
            if self.found.rows.is_multiple_of(10_000) {
                (self.progress)(self.found.rows);
            }
            match unseal(&key, &value) {
                Ok(record) => table.push((key.to_vec(), record)),
                Err(error) => self.problem(error.to_string()),
            }
        }
        Ok(table)
    }

    /// One row; what does not decode is a problem.
    fn get<R: Record>(&mut self, key: &[u8]) -> Result<Option<R>, StoreError> {
        let Some(value) = self.rows.get(key)? else { return Ok(None) };
        match unseal(key, &value) {
            Ok(record) => Ok(Some(record)),
            Err(error) => {
                self.problem(error.to_string());
                Ok(None)
            }
        }
    }
}

/// One app at a time.
struct Inspection<'v, 'a> {
    app: AppId,
    verifier: &'v mut Verifier<'a>,
    /// How many inbox entries refer to each message.
    references: BTreeMap<(ConversationId, Seq), u8>,
    /// Receipts that an inbox has as the newest of their kind.
    newest: u64,
}

impl Inspection<'_, '_> {
    fn inspect(mut self, row: &AppRow) -> Result<(), StoreError> {
        let app = self.app;
        let users: BTreeMap<UserId, UserRow> = self.numbered(&keys::users(app))?;
        self.check(row.users == users.len() as u64, || format!("it counts {} users, not {}", row.users, users.len()));
        self.names(&users)?;
        let conversations: BTreeMap<ConversationId, ConversationRow> = self
            .verifier
            .table(&without(keys::conversation(app, ConversationId(0)), 8))?
            .into_iter()
            .filter_map(|(key, row)| Some((ConversationId(number(&key, 5)?), row)))
            .collect();
        self.verifier.found.users += users.len() as u64;
        self.verifier.found.conversations += conversations.len() as u64;
        for (id, conversation) in &conversations {
            self.conversation(*id, conversation)?;
        }
        let mut devices = BTreeSet::new();
        for (user, row) in &users {
            self.user(*user, row, &conversations, &mut devices)?;
        }
        self.strays(&users, &devices)?;
        self.bodies()
    }

    /// Names and users stand for each other.
    fn names(&mut self, users: &BTreeMap<UserId, UserRow>) -> Result<(), StoreError> {
        let prefix = keys::user_names(self.app);
        let mut named = BTreeSet::new();
        for (key, Number(id)) in self.verifier.table::<Number>(&prefix)? {
            let name = String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
            let fits = users.get(&UserId(id)).is_some_and(|user| user.name == name);
            self.check(fits, || format!("the name {name:?} stands for user {id}, who is another or nobody"));
            named.insert(UserId(id));
        }
        for user in users.keys().filter(|user| !named.contains(user)) {
            self.problem(format!("user {user} cannot be found by name"));
        }
        Ok(())
    }

    fn conversation(&mut self, id: ConversationId, row: &ConversationRow) -> Result<(), StoreError> {
        for marks in row.marks {
            let ordered = marks.read <= marks.delivered && marks.delivered <= row.head && marks.wanted <= row.head;
            self.check(ordered, || format!("conversation {id}: read ≤ delivered ≤ head does not hold"));
        }
        let [a, b] = row.members;
        let pair = self.verifier.get::<Number>(&keys::direct(self.app, a, b))?;
        let leads_here = pair.is_some_and(|Number(found)| found == id.0);
        self.check(leads_here, || format!("conversation {id} is not found by its members"));
        Ok(())
    }

    fn user(
        &mut self,
        user: UserId,
        row: &UserRow,
        conversations: &BTreeMap<ConversationId, ConversationRow>,
        devices: &mut BTreeSet<(UserId, DeviceId)>,
    ) -> Result<(), StoreError> {
        self.check(row.confirmed <= row.head, || format!("user {user}: confirmed is above the inbox's head"));
        for &device in &row.devices {
            devices.insert((user, device));
            let Some(found) = self.verifier.get::<DeviceRow>(&keys::device(self.app, user, device))? else {
                self.problem(format!("user {user}: device {device} is not there"));
                continue;
            };
            let within = found.start <= found.cursor && found.cursor <= row.head;
            self.check(within, || format!("user {user}, device {device}: start ≤ cursor ≤ head does not hold"));
            self.answers(user, device, found.highest)?;
        }
        self.verifier.found.devices += row.devices.len() as u64;

        let inbox = self.verifier.table::<EntryRow>(&without(keys::entry(self.app, user, Position(0)), 8))?;
        self.verifier.found.entries += inbox.len() as u64;
        let (mut messages, mut last_seq) = (0, BTreeMap::new());
        for (key, entry) in inbox {
            let position = keys::position_of(&key).unwrap_or_default();
            let within = position > row.trimmed && position <= row.head;
            self.check(within, || format!("user {user}: entry {position} is outside the inbox"));
            match entry.content {
                EntryContent::Message(message) => {
                    messages += 1;
                    self.message(user, &message, conversations, &mut last_seq);
                }
                EntryContent::Receipt(receipt) => {
                    self.newest += 1;
                    let at = keys::newest(self.app, user, receipt.kind, receipt.conversation, receipt.user);
                    let newest = self.verifier.get::<Number>(&at)?.map(|Number(at)| Position(at));
                    let is_newest = newest == Some(position);
                    self.check(is_newest, || format!("user {user}: receipt {position} is not the newest of its kind"));
                }
            }
        }
        self.check(row.messages == messages, || {
            format!("user {user}: the inbox counts {} messages and has {messages}", row.messages)
        });
        Ok(())
    }

    /// A message entry lies in its conversation, behind the earlier ones, and refers to a body.
    fn message(
        &mut self,
        user: UserId,
        message: &MessageFacts,
        conversations: &BTreeMap<ConversationId, ConversationRow>,
        last_seq: &mut BTreeMap<ConversationId, Seq>,
    ) {
        let MessageFacts { conversation, seq, .. } = *message;
        let known = conversations.get(&conversation);
        let of_user = known.is_some_and(|row| row.index(user).is_some() && seq <= row.head && seq > Seq(0));
        self.check(of_user, || format!("user {user}: message {conversation}/{seq} is in no conversation of the user"));
        let before = last_seq.insert(conversation, seq);
        let ascending = before.is_none_or(|before| before < seq);
        self.check(ascending, || format!("user {user}: message {conversation}/{seq} comes after a later one"));
        *self.references.entry((conversation, seq)).or_default() += 1;
    }

    /// The answers kept are those to the last sends.
    fn answers(&mut self, user: UserId, device: DeviceId, highest: SendId) -> Result<(), StoreError> {
        let answers = self.verifier.table::<AnswerRow>(&keys::answers(self.app, user, device))?;
        let kept = postrider_protocol::limits::KEPT_ANSWERS as u64;
        let wanted = highest.0.min(kept);
        self.check(answers.len() as u64 == wanted, || {
            format!("user {user}, device {device}: {} answers are kept, not {wanted}", answers.len())
        });
        for (key, row) in answers {
            let (Answer::Ack { send_id, .. } | Answer::Refused { send_id, .. }) = row.answer;
            let in_place = key == keys::answer(self.app, user, device, send_id);
            let recent = send_id <= highest && send_id.0 + kept > highest.0;
            self.check(in_place && recent, || {
                format!("user {user}, device {device}: answer {send_id} is out of place")
            });
        }
        Ok(())
    }

    /// Rows that belong to nobody.
    fn strays(
        &mut self,
        users: &BTreeMap<UserId, UserRow>,
        devices: &BTreeSet<(UserId, DeviceId)>,
    ) -> Result<(), StoreError> {
        let (app, user, device) = (self.app, UserId(0), DeviceId(0));
        self.each_key(&without(keys::entry(app, user, Position(0)), 16), |inspection, key| {
            let owner = number(key, 5).map(UserId);
            let known = owner.is_some_and(|owner| users.contains_key(&owner));
            inspection
                .check(known, || format!("an inbox entry of user {}, who is not there", owner.unwrap_or_default()));
        })?;
        let mut newest = 0;
        self.each_key(&without(keys::all_newest(app, user), 8), |_, _| newest += 1)?;
        let wanted = self.newest;
        self.check(newest == wanted, || format!("{newest} receipts are the newest of their kind, {wanted} are there"));
        for prefix in [without(keys::device(app, user, device), 16), without(keys::answers(app, user, device), 16)] {
            self.each_key(&prefix, |inspection, key| {
                let owner = number(key, 5).zip(number(key, 13)).map(|(user, device)| (UserId(user), DeviceId(device)));
                let known = owner.is_some_and(|owner| devices.contains(&owner));
                inspection.check(known, || "a device's row without the device".to_owned());
            })?;
        }
        Ok(())
    }

    /// Every message that an entry refers to is there, whole and its own; and none that no entry refers to.
    fn bodies(&mut self) -> Result<(), StoreError> {
        let references = std::mem::take(&mut self.references);
        self.verifier.found.messages += references.len() as u64;
        let mut rows = 0;
        for (&(conversation, seq), &wanted) in &references {
            let first = keys::body(self.app, conversation, seq, 0);
            let Some(body) = self.verifier.get::<BodyRow>(&first)? else {
                self.problem(format!("message {conversation}/{seq} is lost: an inbox has it, its content is gone"));
                continue;
            };
            rows += 1 + u64::from(body.more);
            self.check(body.references == wanted, || {
                format!("message {conversation}/{seq} counts {} references, not {wanted}", body.references)
            });
            let mut encoded = body.piece;
            for piece in 1..=body.more {
                let found = self.verifier.get::<Piece>(&keys::body(self.app, conversation, seq, piece))?;
                encoded.extend(found.into_iter().flat_map(|Piece(bytes)| bytes));
            }
            let decoded = wire::Message::decode(&encoded[..]).ok();
            let own = decoded.is_some_and(|message| (message.conversation, message.seq) == (conversation.0, seq.0));
            self.check(own, || format!("message {conversation}/{seq} is not whole"));
        }
        let mut found = 0;
        let all = without(keys::body(self.app, ConversationId(0), Seq(0), 0), 18);
        self.each_key(&all, |_, _| found += 1)?;
        self.check(found == rows, || format!("{found} rows of messages are there, {rows} belong to an inbox entry"));
        Ok(())
    }

    fn numbered<R: Record>(&mut self, prefix: &[u8]) -> Result<BTreeMap<UserId, R>, StoreError> {
        let table = self.verifier.table::<R>(prefix)?;
        Ok(table.into_iter().filter_map(|(key, row)| Some((keys::user_of(&key)?, row))).collect())
    }

    fn each_key(&mut self, prefix: &[u8], mut visit: impl FnMut(&mut Self, &[u8])) -> Result<(), StoreError> {
        let end = keys::after_prefix(prefix.to_vec());
        let rows = self.verifier.rows;
        for row in rows.scan(prefix, &end) {
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

/// A key without its last bytes.
fn without(mut key: keys::Key, last: usize) -> keys::Key {
    key.truncate(key.len() - last);
    key
}

/// The number at a place in a key.
fn number(key: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*key.get(at..)?.first_chunk()?))
}
