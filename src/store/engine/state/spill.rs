//! What goes to sled when a segment is full: what changed in it and in no newer one, and what it has that is still alive.

use std::collections::BTreeMap;
use std::sync::Weak;

use super::super::disk::Disk;
use super::super::keys::{self, Key};
use super::super::rows::{AnswerWords, Body, Chunk, Content, Entry, Number, Piece, Record, seal};
use super::{Changed, ReceiptKey, State, User};
use crate::ids::{AppId, ConversationId, Position, SendId, UserId};

/// Bytes of a row, roughly. sled keeps up to 21 rows in one page and moves a page above 128 KiB to a file of its own,
/// which it never syncs: rows must stay so small that no page gets there.
const ROW_BYTES: usize = 4096;

const _: () = assert!(21 * (ROW_BYTES + 256) < 128 * 1024 - 4096);

/// Rows to write, and under `None` those to delete.
pub(in super::super) type Rows = BTreeMap<Key, Option<Vec<u8>>>;

/// What is to be done in sled for one object.
#[derive(Default)]
pub(in super::super) struct Spill {
    pub rows: Rows,
    /// Rows whose keys begin so are to be deleted first.
    pub prefixes: Vec<Key>,
    /// Rows with `from ≤ key < end` are to be deleted first.
    pub ranges: Vec<(Key, Key)>,
    /// A user that is gone: its name's row, if it is still its own.
    pub nameless: Option<(AppId, UserId)>,
    /// Answers to be added to those in the rows.
    pub answers: Vec<SpilledAnswers>,
    /// What the state is told when that is on stable storage.
    pub written: Written,
}

/// Answers of one row.
pub(in super::super) struct SpilledAnswers {
    pub key: Key,
    /// The first send that is answered here; the row in sled may have answers to earlier ones.
    pub first: SendId,
    pub words: AnswerWords,
}

/// What was written of a user's inbox.
#[derive(Default)]
pub(in super::super) struct Written {
    /// The last entry.
    up_to: Position,
    /// The rows that say where the newest receipts are.
    receipts: Vec<(ReceiptKey, Position)>,
}

impl Spill {
    fn put(&mut self, key: Key, record: &impl Record) {
        let value = seal(&key, record);
        self.rows.insert(key, Some(value));
    }
}

impl State {
    /// Adds what is to be written for one object that changed in `segment`, which has ended.
    pub(in super::super) fn spill(&mut self, changed: Changed, segment: u64, last_group: u64) -> Spill {
        let mut spill = Spill::default();
        match changed {
            Changed::App(id) => self.spill_app(id, segment, &mut spill),
            Changed::User(app, user) => self.spill_user(app, user, segment, last_group, &mut spill),
            Changed::Conversation(app, id) => self.spill_conversation(app, id, segment, &mut spill),
        }
        spill
    }

    fn spill_app(&self, id: AppId, segment: u64, spill: &mut Spill) {
        let Some(app) = self.apps.get(&id).filter(|app| app.segment <= segment) else { return };
        spill.put(keys::app(id), &app.row);
        spill.put(keys::app_name(&app.row.name), &Number(u64::from(id.0)));
    }

    fn spill_conversation(&self, app: AppId, id: ConversationId, segment: u64, spill: &mut Spill) {
        let Some(at) = self.conversations.find((app, id)) else { return };
        let object = &self.conversations[at];
        if object.segment <= segment {
            let [a, b] = object.value.row.members;
            spill.put(keys::conversation(app, id), &object.value.row);
            if object.value.fresh {
                spill.put(keys::direct(app, a, b), &Number(id.0));
            }
        }
    }

    fn spill_user(&mut self, app: AppId, id: UserId, segment: u64, last_group: u64, spill: &mut Spill) {
        let Some(at) = self.users.find((app, id)) else { return };
        let disk = self.disk.clone();
        let object = &mut self.users[at];
        let user = &mut object.value;
        if user.gone {
            spill.nameless = Some((app, id));
            spill.prefixes.extend([
                keys::chunks_of_user(app, id),
                keys::pieces_of_user(app, id),
                keys::newest_of_user(app, id),
                keys::answers_of_user(app, id),
            ]);
            spill.rows.insert(keys::user(app, id), None);
            spill.rows.insert(keys::end(app, id), None);
            return;
        }
        if object.segment <= segment {
            spill.put(keys::user(app, id), &user.row);
            if user.fresh {
                spill.put(keys::user_name(app, &user.row.name), &Number(id.0));
            }
        }
        for (kind, conversation, about) in user.forgotten.drain(..) {
            spill.rows.insert(keys::newest(app, id, kind, conversation, about), None);
        }
        let lost = user.lost_devices.drain(..).map(|device| keys::answers_of_device(app, id, device));
        spill.prefixes.extend(lost);
        let floor = user.floor();
        if floor.min(user.cold) > user.cleared {
            let after = |key| keys::after(key);
            spill.ranges.push((keys::chunks_of_user(app, id), after(keys::chunk(app, id, floor))));
            spill.ranges.push((keys::pieces_of_user(app, id), after(keys::piece(app, id, floor, u32::MAX))));
            user.cleared = floor;
        }
        let before = match user.entries_up_to_group(last_group).next() {
            Some(first) if first.position <= user.cold => before_again(&disk, app, id, first.position),
            _ => user.cold,
        };
        spill_entries(app, id, user, last_group, before, spill);
        spill_answers(app, id, user, last_group, spill);
    }

    /// What was to be done for an object is on stable storage.
    pub(in super::super) fn spilled(&mut self, changed: Changed, written: Written, segment: u64, last_group: u64) {
        match changed {
            Changed::App(id) => {
                if let Some(app) = self.apps.get_mut(&id).filter(|app| app.segment <= segment) {
                    app.segment = 0;
                }
            }
            Changed::Conversation(app, id) => {
                let Some(at) = self.conversations.find((app, id)) else { return };
                let object = &mut self.conversations[at];
                if object.segment <= segment {
                    object.segment = 0;
                    object.value.fresh = false;
                    self.let_go(changed);
                }
            }
            Changed::User(app, id) => self.user_spilled(app, id, written, segment, last_group),
        }
    }

    fn user_spilled(&mut self, app: AppId, id: UserId, written: Written, segment: u64, last_group: u64) {
        let Some(at) = self.users.find((app, id)) else { return };
        let stamp = self.next_stamp();
        let object = &mut self.users[at];
        object.value.stamp = stamp;
        let is_newest = object.segment <= segment;
        if object.value.gone {
            if is_newest && object.group != self.group.number {
                self.users.remove((app, id));
            }
            return;
        }
        object.value.cool(written.up_to, last_group);
        for (receipt, position) in written.receipts {
            object.value.has_row(receipt, position);
        }
        if is_newest {
            object.segment = 0;
            if std::mem::take(&mut object.value.fresh)
                && let Some(app) = self.apps.get_mut(&app)
            {
                app.fresh_names.remove(&object.value.row.name);
                app.fresh_users.remove(&id);
            }
            self.let_go(Changed::User(app, id));
        }
    }
}

/// Entries of the segment that are still alive, in chunks.
fn spill_entries(app: AppId, id: UserId, user: &User, last_group: u64, before: Position, spill: &mut Spill) {
    let mut chunk = Chunk { before, entries: Vec::new() };
    let mut bytes = 0;
    for entry in user.entries_up_to_group(last_group) {
        if let Content::Receipt(receipt) = &entry.content {
            let newest = keys::newest(app, id, receipt.kind, receipt.conversation, receipt.user);
            spill.put(newest, &Number(entry.position.0));
            spill.written.receipts.push((receipt.key(), entry.position));
        }
        let entry = in_rows(app, id, entry, spill);
        let size = entry_bytes(&entry);
        if bytes + size > ROW_BYTES && !chunk.entries.is_empty() {
            spill_chunk(app, id, &mut chunk, spill);
            bytes = 0;
        }
        bytes += size;
        chunk.entries.push(entry);
    }
    spill_chunk(app, id, &mut chunk, spill);
    if spill.written.up_to > Position(0) {
        // Its key comes after those of the entries, and rows are written in the order of their keys.
        spill.put(keys::end(app, id), &Number(spill.written.up_to.0));
    }
}

/// What sled got before a restart is spilled again after it, without what is dead by now: in front of that are the rows
/// that end before it.
fn before_again(disk: &Weak<Disk>, app: AppId, id: UserId, first: Position) -> Position {
    let last = disk.upgrade().and_then(|disk| {
        let (from, end) = (keys::chunks_of_user(app, id), keys::chunk(app, id, first));
        disk.last_key_between(&from, &end).ok().flatten()
    });
    // Without an answer nothing is claimed.
    last.and_then(|last| keys::last_of(&last)).unwrap_or_default()
}

fn spill_chunk(app: AppId, id: UserId, chunk: &mut Chunk, spill: &mut Spill) {
    let Some(Entry { position: last, .. }) = chunk.entries.last() else { return };
    let last = *last;
    spill.written.up_to = last;
    spill.put(keys::chunk(app, id, last), chunk);
    *chunk = Chunk { before: last, entries: Vec::new() };
}

/// An entry as it lies in a chunk: what is large is put into pieces.
fn in_rows(app: AppId, id: UserId, entry: &Entry, spill: &mut Spill) -> Entry {
    let mut entry = entry.clone();
    if let Content::Message(_, body) = &mut entry.content
        && let Body::Here(encoded) = body
        && encoded.len() > ROW_BYTES - 128
    {
        let mut pieces = 0;
        for at in (0..encoded.len()).step_by(ROW_BYTES) {
            let piece = Piece(encoded.slice(at..encoded.len().min(at + ROW_BYTES)));
            spill.put(keys::piece(app, id, entry.position, pieces), &piece);
            pieces += 1;
        }
        *body = Body::Pieces(pieces);
    }
    entry
}

/// At least what it takes in a chunk.
fn entry_bytes(entry: &Entry) -> usize {
    64 + match &entry.content {
        Content::Message(_, Body::Here(encoded)) => encoded.len(),
        Content::Message(_, Body::Pieces(_)) => 0,
        Content::Receipt(receipt) => receipt.name.len(),
    }
}

/// Answers of the segment that may still be asked for, and newer ones that lie in the same rows.
fn spill_answers(app: AppId, id: UserId, user: &User, last_group: u64, spill: &mut Spill) {
    for row in user.answers.up_to_group(last_group) {
        let Some(device) = user.device(row.device) else { continue };
        if keys::answer_group(user.row.devices[device].highest) < row.number() + keys::ANSWER_ROWS {
            let key = keys::answers(app, id, row.device, row.number());
            spill.answers.push(SpilledAnswers { key, first: row.first, words: AnswerWords(row.words.clone()) });
        }
    }
}
