//! Entries, bodies and receipts: what several operations do to inboxes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::super::keys;
use super::super::records::{
    BodyRow, EntryContent, EntryRow, MessageFacts, Number, Piece, ReceiptFacts, ReceiptKind, corrupt,
};
use super::Deciding;
use crate::ids::{ConversationId, DeviceId, Position, Seq, UserId};
use crate::store::{InboxEntry, Publication, StoreError};

/// Bytes of one piece of a body. sled keeps up to 21 rows in one page and moves a page above 128 KiB to a file of its
/// own, which it never syncs: rows must stay so small that no page gets there.
pub(super) const PIECE_BYTES: usize = 4096;

const _: () = assert!(21 * (PIECE_BYTES + 128) < 128 * 1024 - 4096);

/// What a new entry says.
pub(super) enum Told {
    /// A message and its encoding, which is a body row already.
    Message(MessageFacts, Bytes),
    Receipt(ReceiptFacts),
}

impl Deciding<'_, '_> {
    /// Appends to the inbox of a user, if it still exists, and publishes it. An inbox holds at most one receipt of each
    /// kind, conversation and user: the older one goes.
    pub(super) fn append(&mut self, to: UserId, origin: DeviceId, told: Told) -> Result<(), StoreError> {
        let Some(mut row) = self.user(to)? else { return Ok(()) };
        row.head.0 += 1;
        let position = row.head;
        let (content, encoded) = match told {
            Told::Message(facts, encoded) => {
                row.messages += 1;
                (EntryContent::Message(facts), Some(encoded))
            }
            Told::Receipt(facts) => {
                let newest = keys::newest(self.app, to, facts.kind, facts.conversation, facts.user);
                if let Some(Number(older)) = self.view.get(&newest)? {
                    self.view.delete(keys::entry(self.app, to, Position(older)));
                }
                self.view.put(newest, &Number(position.0));
                (EntryContent::Receipt(facts), None)
            }
        };
        let entry = EntryRow { origin, content };
        self.put_user(to, &row);
        self.view.put(keys::entry(self.app, to, position), &entry);
        let item = entry.content.into_item(encoded.unwrap_or_default());
        self.published.push(Publication { app: self.app, user: to, entry: InboxEntry { position, origin, item } });
        if origin == DeviceId(0) { Ok(()) } else { self.pass_over(to, origin) }
    }

    /// A device is not told of its own doing and so cannot confirm it: its cursor passes over such entries, else they
    /// would stay in the inbox until the next thing it is told.
    pub(super) fn pass_over(&mut self, user: UserId, device: DeviceId) -> Result<(), StoreError> {
        let Some(mut row) = self.device(user, device)? else { return Ok(()) };
        let before = row.cursor;
        let from = keys::after(keys::entry(self.app, user, before));
        let end = keys::after(keys::entry(self.app, user, self.known_user(user)?.head));
        self.view.scan(&from, &end, |key, entry: EntryRow| {
            if entry.origin != device {
                return Ok(ControlFlow::Break(()));
            }
            row.cursor = keys::position_of(key).ok_or_else(|| corrupt(key))?;
            Ok(ControlFlow::Continue(()))
        })?;
        if row.cursor > before {
            self.put_device(user, device, &row);
        }
        Ok(())
    }

    /// Appends a receipt about `user`, who exists.
    pub(super) fn tell(
        &mut self,
        to: UserId,
        origin: DeviceId,
        kind: ReceiptKind,
        conversation: ConversationId,
        user: UserId,
        seq: Seq,
    ) -> Result<(), StoreError> {
        let name = self.known_user(user)?.name;
        self.append(to, origin, Told::Receipt(ReceiptFacts { kind, conversation, user, name, seq }))
    }

    /// Tells senders, and the user's own devices, that `lost` was taken by no device of `user`.
    pub(super) fn tell_expired(&mut self, user: UserId, lost: &[(Position, MessageFacts)]) -> Result<(), StoreError> {
        let mut highest: BTreeMap<ConversationId, Seq> = BTreeMap::new();
        for (_, message) in lost.iter().filter(|(_, message)| message.sender != user) {
            highest.insert(message.conversation, message.seq);
        }
        let has_devices = !self.known_user(user)?.devices.is_empty();
        for (id, seq) in highest {
            let other = self.known_conversation(id)?.other(user).ok_or_else(|| self.corrupt_conversation(id))?;
            self.tell(other, DeviceId(0), ReceiptKind::Expired, id, user, seq)?;
            if has_devices {
                self.tell(user, DeviceId(0), ReceiptKind::Expired, id, user, seq)?;
            }
        }
        Ok(())
    }

    /// Forgets what every device has passed. What was forgotten before is not walked again: just after, its deleted rows
    /// would all be in the way.
    pub(super) fn trim(&mut self, user: UserId) -> Result<(), StoreError> {
        let mut row = self.known_user(user)?;
        let devices = self.devices(user, &row)?;
        let Some(passed) = devices.iter().map(|(_, device)| device.cursor).min() else { return Ok(()) };
        if passed <= row.trimmed {
            return Ok(());
        }
        let entries = self.entries(user, row.trimmed, passed)?;
        row.trimmed = passed;
        for (position, content) in entries {
            self.view.delete(keys::entry(self.app, user, position));
            match content {
                EntryContent::Message(message) => {
                    row.messages = row.messages.saturating_sub(1);
                    self.release_body(message.conversation, message.seq)?;
                }
                // An entry that is there is the newest of its kind: an older one went when it came.
                EntryContent::Receipt(ReceiptFacts { kind, conversation, user: about, .. }) => {
                    self.view.delete(keys::newest(self.app, user, kind, conversation, about));
                }
            }
        }
        self.put_user(user, &row);
        Ok(())
    }

    /// Message entries with `after < position ≤ up_to`.
    pub(super) fn messages(
        &self,
        user: UserId,
        after: Position,
        up_to: Position,
    ) -> Result<Vec<(Position, MessageFacts)>, StoreError> {
        let entries = self.entries(user, after, up_to)?.into_iter();
        let message = |(position, content)| match content {
            EntryContent::Message(message) => Some((position, message)),
            EntryContent::Receipt(_) => None,
        };
        Ok(entries.filter_map(message).collect())
    }

    /// Entries with `after < position ≤ up_to`; their number is bounded by the inbox limit and the receipts' coalescing.
    fn entries(
        &self,
        user: UserId,
        after: Position,
        up_to: Position,
    ) -> Result<Vec<(Position, EntryContent)>, StoreError> {
        let mut entries = Vec::new();
        let from = keys::after(keys::entry(self.app, user, after));
        let end = keys::after(keys::entry(self.app, user, up_to));
        self.view.scan(&from, &end, |key, entry: EntryRow| {
            entries.push((keys::position_of(key).ok_or_else(|| corrupt(key))?, entry.content));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(entries)
    }

    /// Keeps a message's encoding once, however many inboxes refer to it.
    pub(super) fn put_body(&mut self, conversation: ConversationId, seq: Seq, references: u8, encoded: &[u8]) {
        let (first, rest) = encoded.split_at(encoded.len().min(PIECE_BYTES));
        let mut more = 0;
        for piece in rest.chunks(PIECE_BYTES) {
            more += 1;
            self.view.put(keys::body(self.app, conversation, seq, more), &Piece(piece.to_vec()));
        }
        let body = BodyRow { references, more, piece: first.to_vec() };
        self.view.put(keys::body(self.app, conversation, seq, 0), &body);
    }

    /// One entry less refers to a body; it goes with the last.
    pub(super) fn release_body(&mut self, conversation: ConversationId, seq: Seq) -> Result<(), StoreError> {
        let key = keys::body(self.app, conversation, seq, 0);
        let mut body: BodyRow = self.view.get(&key)?.ok_or_else(|| corrupt(&key))?;
        if body.references > 1 {
            body.references -= 1;
            self.view.put(key, &body);
            return Ok(());
        }
        for piece in 0..=body.more {
            self.view.delete(keys::body(self.app, conversation, seq, piece));
        }
        Ok(())
    }
}
