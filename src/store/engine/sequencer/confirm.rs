//! A device confirms, a user reads: what that tells the others (RCPT).

use std::ops::ControlFlow;

use super::super::keys;
use super::super::rows::{Content, DeviceRow, ReceiptKind, corrupt};
use super::super::state::At;
use super::{Deciding, Stop};
use crate::ids::{ConversationId, DeviceId, Position, Seq, UserId};
use crate::store::{Few, ReadUpTo, Received, Refusal, StoreError};

/// A conversation in which something was delivered, with the other member if it still exists.
struct Delivered {
    conversation: At,
    id: ConversationId,
    other: Option<At>,
    /// Which member the user is.
    index: usize,
    seq: Seq,
}

impl Deciding<'_> {
    pub(super) fn received(&mut self, received: &Received) -> Result<Position, Stop> {
        let Received { user, device, position, now, .. } = *received;
        let (user, index) = self.device(user, device)?.ok_or(Refusal::DeviceExpired)?;
        let row = &self.state.user(user).row;
        let cursor = row.devices[index].cursor;
        if position > row.head {
            return Err(Refusal::PositionNotDelivered.into());
        }
        if position <= cursor {
            return Ok(cursor);
        }
        self.confirm(user, index, position, now)?;
        Ok(position)
    }

    pub(super) fn read_up_to(&mut self, read: &ReadUpTo) -> Result<Seq, Stop> {
        let (user, _) = self.device(read.user, read.device)?.ok_or(Refusal::DeviceExpired)?;
        let at = self.state.find_conversation(self.app, read.conversation)?.ok_or(Refusal::UnknownConversation)?;
        let conversation = self.state.conversation(at);
        let index = conversation.index(read.user).ok_or(Refusal::UnknownConversation)?;
        if read.seq > conversation.head {
            return Err(Refusal::SeqNotSent.into());
        }
        let other = conversation.members[1 - index];
        let wanted = conversation.marks[index].wanted;
        let other = self.state.find_user(self.app, other)?;
        if read.seq > wanted {
            self.state.conversation_mut(at).marks[index].wanted = read.seq;
        }
        let read_in = Delivered { conversation: at, id: read.conversation, other, index, seq: Seq(0) };
        Ok(self.raise_read(user, &read_in, read.device)?)
    }

    /// Moves a device's cursor up to `position`, with all that follows from it.
    pub(super) fn confirm(&mut self, user: At, device: usize, position: Position, now: u64) -> Result<(), StoreError> {
        let mut moving = self.state.moving(user);
        moving.set_cursor(device, position);
        moving.set_seen(device, now);
        let id = self.state.user(user).row.devices[device].id;
        self.pass_over(user, id)?;
        self.advance(user)?;
        self.trim(user)
    }

    /// Moves the confirmed position of a user over what its devices took without a hole, and tells what that delivers.
    ///
    /// A device linked at `start` covers only what came after: `delivered` must never claim a message that only another,
    /// still silent device was entitled to.
    pub(super) fn advance(&mut self, user: At) -> Result<(), StoreError> {
        let row = &self.state.user(user).row;
        let before = row.confirmed;
        let mut confirmed = before;
        let covers = |device: &&DeviceRow, confirmed| device.start <= confirmed && device.cursor > confirmed;
        while let Some(device) = row.devices.iter().find(|device| covers(device, confirmed)) {
            confirmed = device.cursor;
        }
        if confirmed == before {
            return Ok(());
        }
        let delivered = self.newly_delivered(user, before, confirmed)?;
        self.state.moving(user).set_confirmed(confirmed);
        for delivered in &delivered {
            self.raise_delivered(user, delivered)?;
            self.raise_read(user, delivered, DeviceId(0))?;
        }
        Ok(())
    }

    /// The highest `seq` of each conversation among the messages to this user with `after < position ≤ up_to`, in the
    /// order of the conversations.
    fn newly_delivered(&mut self, user: At, after: Position, up_to: Position) -> Result<Few<Delivered>, StoreError> {
        let id = self.user_id(user);
        let mut highest: Few<(ConversationId, Seq, UserId)> = Few::new();
        self.state.visit_entries(user, after, up_to, |entry| {
            if let Content::Message(message, _) = &entry.content {
                // Most messages in a row are of one conversation.
                match highest.iter_mut().rev().find(|(known, _, _)| *known == message.conversation) {
                    Some(known) if message.sender != id || known.2 == id => {
                        *known = (message.conversation, message.seq, message.sender);
                    }
                    Some(_) => {}
                    None => highest.push((message.conversation, message.seq, message.sender)),
                }
            }
            ControlFlow::Continue(())
        })?;
        highest.sort_unstable_by_key(|(conversation, _, _)| *conversation);
        let mut delivered = Few::with_capacity(highest.len());
        for (conversation, seq, sender) in highest {
            let at = self.state.known_conversation(self.app, conversation)?;
            let row = self.state.conversation(at);
            let index = row.index(id).ok_or_else(|| corrupt(&keys::conversation(self.app, conversation)))?;
            let other = row.members[1 - index];
            // One's own messages lie in one's inbox as copies for other devices; only notes to oneself are delivered.
            if sender == id && other != id {
                continue;
            }
            let other = self.state.find_user(self.app, other)?;
            delivered.push(Delivered { conversation: at, id: conversation, other, index, seq });
        }
        Ok(delivered)
    }

    fn raise_delivered(&mut self, user: At, delivered: &Delivered) -> Result<(), StoreError> {
        let Delivered { conversation, id, other, index, seq } = *delivered;
        self.state.conversation_mut(conversation).marks[index].delivered = seq;
        self.tell(other, DeviceId(0), ReceiptKind::Delivered, id, user, seq)
    }

    /// Raises `read` to what was wanted and is delivered, tells it if that is news, and returns it (RCPT-6).
    fn raise_read(&mut self, user: At, read_in: &Delivered, origin: DeviceId) -> Result<Seq, StoreError> {
        let Delivered { conversation, id, other, index, .. } = *read_in;
        let marks = self.state.conversation(conversation).marks[index];
        let read = marks.wanted.min(marks.delivered);
        if read <= marks.read {
            return Ok(marks.read);
        }
        self.state.conversation_mut(conversation).marks[index].read = read;
        self.tell(other, DeviceId(0), ReceiptKind::Read, id, user, read)?;
        if other != Some(user) && self.state.user(user).row.devices.len() > 1 {
            self.tell(Some(user), origin, ReceiptKind::Read, id, user, read)?;
        }
        Ok(read)
    }
}
