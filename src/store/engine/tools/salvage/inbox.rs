//! One user's inbox and answers.

use std::collections::{BTreeMap, BTreeSet};

use postrider_protocol::limits::KEPT_ANSWERS;
use postrider_protocol::wire;
use prost::Message as _;

use super::Loss;
use super::repair::{Lacking, Repair, acked, gaps};
use crate::ids::{ConversationId, DeviceId, Position, SendId, Seq, UserId};
use crate::store::engine::keys::{self, Key};
use crate::store::engine::rows::{
    AnswerRow, Answers, Body, Chunk, Content, Entry, MessageFacts, Number, ReceiptFacts, ReceiptKind, UserRow,
};
use crate::store::engine::{cold, state::ReceiptKey};
use crate::store::{Answer, Refusal, StoreError};

/// What a repetition of a send is told whose answer is lost: not that it was refused, nor that it was taken.
const LOST_ANSWER: Refusal = Refusal::SendIdTooOld;

impl Repair<'_> {
    pub(super) fn inbox(&mut self, id: UserId) -> Result<(), StoreError> {
        let Some(mut row) = self.users.get(&id).cloned() else { return Ok(()) };
        let chunks = self.chunks(id)?;
        let newest = newest(&chunks, row.trimmed);
        let mut kept: Vec<Position> = Vec::new();
        let (mut last, mut before, mut messages) = (Position(0), Position(0), 0);
        let (mut pieces, mut known) = (BTreeMap::new(), BTreeSet::new());
        for (key, entries) in chunks {
            let mut left = Vec::with_capacity(entries.len());
            for entry in entries {
                let is_new = entry.position > last;
                last = last.max(entry.position);
                if is_new && self.stays(id, &row, &entry, &newest)? {
                    if let Content::Message(facts, body) = &entry.content {
                        messages += 1;
                        known.insert((facts.conversation, facts.seq));
                        pieces.extend(if let Body::Pieces(count) = body {
                            Some((entry.position, *count))
                        } else {
                            None
                        });
                    }
                    kept.push(entry.position);
                    left.push(entry);
                }
            }
            // What is left is the whole inbox from now on: each chunk says where the one before it ends.
            self.disk.write(&key, None)?;
            if let Some(end) = left.last().map(|entry| entry.position) {
                self.put(&keys::chunk(self.app, id, end), &Chunk { before, entries: left })?;
                before = end;
            }
        }
        match before {
            Position(0) => self.disk.write(&keys::end(self.app, id), None)?,
            end => self.put(&keys::end(self.app, id), &Number(end.0))?,
        }
        self.remove_pieces(id, &pieces)?;
        let receipts = self.write_newest(id, &newest)?;
        row.head = row.head.max(last).max(row.confirmed).max(row.trimmed).max(row.expired);
        for device in &mut row.devices {
            device.cursor = device.cursor.max(device.start);
            row.head = row.head.max(device.cursor);
        }
        if self.lost_users.contains(&id) {
            // Only what is left can be said to be there.
            row.messages = messages;
        }
        let lost = row.messages.saturating_sub(messages);
        row.messages = messages;
        self.answers(id, &mut row, &mut known)?;
        let is_lost = self.lost_users.contains(&id);
        if lost > 0 || receipts > 0 || is_lost {
            let what = match is_lost {
                true => "messages to the user may be lost: senders are told that they expired".to_owned(),
                false => format!(
                    "{lost} messages and {receipts} receipts of the inbox are lost; senders of messages are told that they \
                     expired"
                ),
            };
            let (app, user) = (self.row.name.clone(), Some(row.name.to_string()));
            let positions = gaps(row.trimmed.0, kept.iter().map(|position| position.0), row.head.0);
            let loss = Loss { app, user, what, messages: lost, positions, ..Loss::default() };
            let (of_messages, is_certain) = (lost > 0 || is_lost, lost > 0 || receipts > 0);
            self.lacking.push(Lacking { user: id, loss, known, of_messages, is_certain });
        }
        self.put(&keys::user(self.app, id), &row)?;
        self.users.insert(id, row);
        Ok(())
    }

    fn chunks(&self, id: UserId) -> Result<Vec<(Key, Vec<Entry>)>, StoreError> {
        let rows = self.disk.rows::<Chunk>(&keys::chunks_of_user(self.app, id));
        rows.map(|row| row.map(|(key, chunk)| (key.to_vec(), chunk.entries))).collect()
    }

    /// Whether an entry is alive and whole, in a conversation that there is. What it says of the conversation is noted.
    fn stays(
        &mut self,
        id: UserId,
        row: &UserRow,
        entry: &Entry,
        newest: &BTreeMap<NewestKey, (ReceiptKey, Position)>,
    ) -> Result<bool, StoreError> {
        let (facts, body) = match &entry.content {
            Content::Receipt(receipt) => {
                self.seen(receipt.conversation, receipt.seq);
                return Ok(newest.get(&order(receipt)).is_some_and(|(_, newest)| *newest == entry.position));
            }
            Content::Message(facts, body) => (facts, body),
        };
        let MessageFacts { conversation, seq, sender, .. } = *facts;
        if !self.conversations.contains_key(&conversation) && sender != id {
            self.found_conversation(conversation, [sender, id]);
        }
        self.seen(conversation, seq);
        if entry.position <= row.trimmed.max(row.expired) {
            return Ok(false);
        }
        let Some(known) = self.conversations.get_mut(&conversation) else { return Ok(false) };
        let Some(index) = known.index(id) else { return Ok(false) };
        let encoded = cold::body(self.disk, (self.app, id), entry.position, body)?;
        let decoded = encoded.and_then(|encoded| wire::Message::decode(encoded).ok());
        if decoded.is_none_or(|message| (message.conversation, message.seq) != (conversation.0, seq.0)) {
            return Ok(false);
        }
        let is_to_user = sender != id || known.members == [id, id];
        let marks = &mut known.marks[index];
        if self.lost_users.contains(&id) {
            // Whoever had it is no device any more; what was delivered is not delivered again.
            return Ok(is_to_user && seq > marks.delivered);
        }
        if is_to_user && entry.position > row.confirmed && seq <= marks.delivered {
            // It will be confirmed, and then be delivered.
            marks.delivered = Seq(seq.0.saturating_sub(1));
            marks.read = marks.read.min(marks.delivered);
        }
        Ok(true)
    }

    fn remove_pieces(&self, id: UserId, wanted: &BTreeMap<Position, u32>) -> Result<(), StoreError> {
        let prefix = keys::pieces_of_user(self.app, id);
        for row in self.disk.scan(&prefix, &keys::after_prefix(prefix.clone())) {
            let (key, _) = row?;
            if keys::number(&key, 1).is_none_or(|position| !wanted.contains_key(&Position(position))) {
                self.disk.write(&key, None)?;
            }
        }
        Ok(())
    }

    /// Says which receipts are the newest; returns how many there were whose entry is lost.
    fn write_newest(
        &mut self,
        id: UserId,
        newest: &BTreeMap<NewestKey, (ReceiptKey, Position)>,
    ) -> Result<u64, StoreError> {
        let trimmed = self.users.get(&id).map_or(Position(0), |row| row.trimmed);
        let mut lost = 0;
        let prefix = keys::newest_of_user(self.app, id);
        for row in self.disk.rows::<Number>(&prefix) {
            let (key, Number(position)) = row?;
            let found = keys::receipt_of(&key).and_then(|about| newest.get(&order_of(about)));
            if found.is_none_or(|(_, found)| found.0 < position) && position > trimmed.0 {
                lost += 1;
                let about = keys::receipt_of(&key).filter(|(kind, ..)| *kind == ReceiptKind::Expired);
                self.lost_expiries.extend(about.map(|(_, conversation, about)| (id, conversation, about)));
            }
            self.disk.write(&key, None)?;
        }
        for ((kind, conversation, about), position) in newest.values() {
            self.put(&keys::newest(self.app, id, *kind, *conversation, *about), &Number(position.0))?;
        }
        Ok(lost)
    }

    /// The answers to a device's last sends: those that are lost are told so, should somebody ask. Notes the user's own
    /// messages.
    fn answers(
        &mut self,
        id: UserId,
        row: &mut UserRow,
        own: &mut BTreeSet<(ConversationId, Seq)>,
    ) -> Result<(), StoreError> {
        let app = self.app;
        let mut found: BTreeMap<DeviceId, BTreeMap<u64, AnswerRow>> = BTreeMap::new();
        for answers in self.disk.rows::<Answers>(&keys::answers_of_user(app, id)).collect::<Vec<_>>() {
            let (key, answers) = answers?;
            let device = DeviceId(keys::number(&key, 1).unwrap_or(0));
            for (conversation, seq) in acked(&answers) {
                self.seen(conversation, seq);
                own.insert((conversation, seq));
            }
            if row.devices.iter().all(|known| known.id != device) {
                self.disk.write(&key, None)?;
                continue;
            }
            let known = found.entry(device).or_default();
            known.extend(answers.0.into_iter().map(|answer| (answer.send_id().0, answer)));
        }
        for device in &mut row.devices {
            let mut known = found.remove(&device.id).unwrap_or_default();
            device.highest.0 = device.highest.0.max(known.keys().next_back().copied().unwrap_or(0));
            let first = device.highest.0.saturating_sub(KEPT_ANSWERS as u64) + 1;
            known.retain(|send_id, _| *send_id >= first);
            let missing: Vec<u64> = (first..=device.highest.0).filter(|send_id| !known.contains_key(send_id)).collect();
            if missing.is_empty() {
                continue;
            }
            for &send_id in &missing {
                let answer = Answer::Refused { send_id: SendId(send_id), refusal: LOST_ANSWER };
                known.insert(send_id, AnswerRow { fingerprint: 0, answer });
            }
            let mut groups: BTreeMap<u64, Vec<AnswerRow>> = BTreeMap::new();
            for answer in known.into_values() {
                groups.entry(keys::answer_group(answer.send_id())).or_default().push(answer);
            }
            for (group, answers) in groups {
                let key = keys::answers(app, id, device.id, group);
                self.disk.write(&key, Some(&crate::store::engine::rows::seal(&key, &Answers(answers))))?;
            }
            let what = format!(
                "what device {} was answered to {} of its last sends is lost; if it repeats one of them, it is refused",
                device.name,
                missing.len()
            );
            let (app, user) = (self.row.name.clone(), Some(row.name.to_string()));
            self.salvaged.lost(Loss { app, user, what, ..Loss::default() });
            if !self.journal_is_whole {
                *self.lost_sends.entry(id).or_default() += missing.len() as u64;
            }
        }
        Ok(())
    }
}

/// As it orders receipts, which have no order of their own.
type NewestKey = (u8, u64, u64);

fn order(receipt: &ReceiptFacts) -> NewestKey {
    order_of(receipt.key())
}

fn order_of((kind, conversation, about): ReceiptKey) -> NewestKey {
    (kind as u8, conversation.0, about.0)
}

/// Of each kind of receipt the newest that is there.
fn newest(chunks: &[(Key, Vec<Entry>)], trimmed: Position) -> BTreeMap<NewestKey, (ReceiptKey, Position)> {
    let mut newest: BTreeMap<NewestKey, (ReceiptKey, Position)> = BTreeMap::new();
    for entry in chunks.iter().flat_map(|(_, entries)| entries).filter(|entry| entry.position > trimmed) {
        if let Content::Receipt(receipt) = &entry.content {
            let found = newest.entry(order(receipt)).or_insert((receipt.key(), entry.position));
            found.1 = found.1.max(entry.position);
        }
    }
    newest
}
