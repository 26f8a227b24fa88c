//! Entries and receipts: what several operations do to inboxes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::super::keys;
use super::super::rows::{Body, Content, Entry, MessageFacts, ReceiptFacts, ReceiptKind, corrupt};
use super::super::state::At;
use super::Deciding;
use crate::ids::{ConversationId, DeviceId, Position, Seq, UserId};
use crate::store::{InboxEntry, Item, Publication, StoreError};

/// What a new entry says.
pub(super) enum Told {
    /// A message and its encoding.
    Message(MessageFacts, Bytes),
    Receipt(ReceiptFacts),
}

impl Deciding<'_> {
    /// Appends to an inbox and publishes it. An inbox holds at most one receipt of each kind, conversation and user: the
    /// older one goes.
    pub(super) fn append(&mut self, to: At, origin: DeviceId, told: Told) -> Result<(), StoreError> {
        let mut user = self.state.moving(to);
        let position = user.next_position();
        let (content, item) = match told {
            Told::Message(facts, encoded) => {
                user.count_message();
                (Content::Message(facts, Body::Here(encoded.clone())), Item::Message(encoded))
            }
            Told::Receipt(facts) => {
                let item = facts.item();
                (Content::Receipt(facts), item)
            }
        };
        let user = self.user_id(to);
        self.state.push_entry(to, Entry { position, origin, content });
        self.published.push(Publication { app: self.app, user, entry: InboxEntry { position, origin, item } });
        if origin == DeviceId(0) { Ok(()) } else { self.pass_over(to, origin) }
    }

    /// A device is not told of its own doing and so cannot confirm it: its cursor passes over such entries, else they
    /// would stay in the inbox until the next thing it is told.
    pub(super) fn pass_over(&mut self, user: At, device: DeviceId) -> Result<(), StoreError> {
        let row = &self.state.user(user).row;
        let Some(index) = self.state.user(user).device(device) else { return Ok(()) };
        let before = row.devices[index].cursor;
        let mut cursor = before;
        self.state.visit_entries(user, before, row.head, |entry| {
            if entry.origin != device {
                return ControlFlow::Break(());
            }
            cursor = entry.position;
            ControlFlow::Continue(())
        })?;
        if cursor > before {
            self.state.moving(user).set_cursor(index, cursor);
        }
        Ok(())
    }

    /// Appends a receipt about `user`, to whom it concerns, if that one still exists.
    pub(super) fn tell(
        &mut self,
        to: Option<At>,
        origin: DeviceId,
        kind: ReceiptKind,
        conversation: ConversationId,
        user: At,
        seq: Seq,
    ) -> Result<(), StoreError> {
        let Some(to) = to else { return Ok(()) };
        let name = self.state.user(user).row.name.clone();
        let user = self.user_id(user);
        self.append(to, origin, Told::Receipt(ReceiptFacts { kind, conversation, user, name, seq }))
    }

    /// Tells senders, and the user's own devices, that `lost` was taken by no device of `user`.
    pub(super) fn tell_expired(&mut self, user: At, lost: &[(Position, MessageFacts)]) -> Result<(), StoreError> {
        let id = self.user_id(user);
        let mut highest: BTreeMap<ConversationId, MessageFacts> = BTreeMap::new();
        for (_, message) in lost {
            let known = highest.entry(message.conversation).or_insert(*message);
            if message.sender != id || known.sender == id {
                *known = *message;
            }
        }
        let has_devices = !self.state.user(user).row.devices.is_empty();
        for (conversation, MessageFacts { seq, sender, .. }) in highest {
            let other = self.other_member(conversation, id)?;
            // A copy of one's own message is nobody's loss; a note to oneself is.
            if sender == id && other != id {
                continue;
            }
            let told = self.state.find_user(self.app, other)?;
            self.tell(told, DeviceId(0), ReceiptKind::Expired, conversation, user, seq)?;
            if has_devices && other != id {
                self.tell(Some(user), DeviceId(0), ReceiptKind::Expired, conversation, user, seq)?;
            }
        }
        Ok(())
    }

    /// The other member of a conversation that a message to `user` is in.
    fn other_member(&mut self, id: ConversationId, user: UserId) -> Result<UserId, StoreError> {
        let at = self.state.known_conversation(self.app, id)?;
        let other = self.state.conversation(at).other(user);
        other.ok_or_else(|| corrupt(&keys::conversation(self.app, id)))
    }

    /// Forgets what every device has passed.
    pub(super) fn trim(&mut self, user: At) -> Result<(), StoreError> {
        let row = &self.state.user(user).row;
        let Some(passed) = row.devices.iter().map(|device| device.cursor).min() else { return Ok(()) };
        let trimmed = row.trimmed;
        if passed <= trimmed {
            return Ok(());
        }
        let mut messages = 0;
        self.state.visit_entries(user, trimmed, passed, |entry| {
            messages += u64::from(matches!(entry.content, Content::Message(..)));
            ControlFlow::Continue(())
        })?;
        self.state.moving(user).trim(passed, messages);
        Ok(())
    }

    /// Messages with `after < position ≤ up_to`; their number is bounded by the inbox limit.
    pub(super) fn messages(
        &self,
        user: At,
        after: Position,
        up_to: Position,
    ) -> Result<Vec<(Position, MessageFacts)>, StoreError> {
        let mut messages = Vec::new();
        self.state.visit_entries(user, after, up_to, |entry| {
            if let Content::Message(facts, _) = &entry.content {
                messages.push((entry.position, *facts));
            }
            ControlFlow::Continue(())
        })?;
        Ok(messages)
    }
}
