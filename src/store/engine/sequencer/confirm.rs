//! A device confirms, a user reads: what that tells the others (RCPT).

use std::collections::BTreeMap;

use super::super::records::{DeviceRow, ReceiptKind};
use super::{Deciding, Stop};
use crate::ids::{ConversationId, DeviceId, Position, Seq, UserId};
use crate::store::{ReadUpTo, Received, Refusal, StoreError};

impl Deciding<'_, '_> {
    pub(super) fn received(&mut self, received: &Received) -> Result<Position, Stop> {
        let Received { user, device, position, now, .. } = *received;
        let cursor = self.device(user, device)?.ok_or(Refusal::DeviceExpired)?.cursor;
        if position > self.known_user(user)?.head {
            return Err(Refusal::PositionNotDelivered.into());
        }
        if position <= cursor {
            return Ok(cursor);
        }
        self.confirm(user, device, position, now)?;
        Ok(position)
    }

    pub(super) fn read_up_to(&mut self, read: &ReadUpTo) -> Result<Seq, Stop> {
        if self.device(read.user, read.device)?.is_none() {
            return Err(Refusal::DeviceExpired.into());
        }
        let mut conversation = self.conversation(read.conversation)?.ok_or(Refusal::UnknownConversation)?;
        let index = conversation.index(read.user).ok_or(Refusal::UnknownConversation)?;
        if read.seq > conversation.head {
            return Err(Refusal::SeqNotSent.into());
        }
        let marks = &mut conversation.marks[index];
        if read.seq > marks.wanted {
            marks.wanted = read.seq;
            self.put_conversation(read.conversation, &conversation);
        }
        Ok(self.raise_read(read.user, read.conversation, read.device)?)
    }

    /// Moves a device's cursor up to `position`, with all that follows from it.
    pub(super) fn confirm(
        &mut self,
        user: UserId,
        device: DeviceId,
        position: Position,
        now: u64,
    ) -> Result<(), StoreError> {
        let mut row = self.known_device(user, device)?;
        // Up to the lowest cursor the inbox is trimmed already, but for what devices that are gone have left to a first
        // one. It must not be walked each time: what was deleted a moment ago is in the way.
        let trimmed = if row.cursor == row.start { Position(0) } else { self.lowest_cursor(user)? };
        row.cursor = position;
        row.seen = now;
        self.put_device(user, device, &row);
        self.advance(user)?;
        self.trim(user, trimmed)
    }

    fn lowest_cursor(&self, user: UserId) -> Result<Position, StoreError> {
        let devices = self.devices(user, &self.known_user(user)?)?;
        Ok(devices.iter().map(|(_, device)| device.cursor).min().unwrap_or(Position(0)))
    }

    /// Moves the confirmed position of a user over what its devices took without a hole, and tells what that delivers.
    ///
    /// A device linked at `start` covers only what came after: `delivered` must never claim a message that only another,
    /// still silent device was entitled to.
    pub(super) fn advance(&mut self, user: UserId) -> Result<(), StoreError> {
        let mut row = self.known_user(user)?;
        let before = row.confirmed;
        let devices = self.devices(user, &row)?;
        let covers = |device: &DeviceRow, confirmed| device.start <= confirmed && device.cursor > confirmed;
        while let Some((_, device)) = devices.iter().find(|(_, device)| covers(device, row.confirmed)) {
            row.confirmed = device.cursor;
        }
        if row.confirmed == before {
            return Ok(());
        }
        self.put_user(user, &row);
        for (conversation, seq) in self.newly_delivered(user, before, row.confirmed)? {
            self.raise_delivered(user, conversation, seq)?;
            self.raise_read(user, conversation, DeviceId(0))?;
        }
        Ok(())
    }

    /// The highest `seq` of each conversation among the messages to this user with `after < position ≤ up_to`.
    fn newly_delivered(
        &self,
        user: UserId,
        after: Position,
        up_to: Position,
    ) -> Result<BTreeMap<ConversationId, Seq>, StoreError> {
        let mut highest = BTreeMap::new();
        for (_, message) in self.messages(user, after, up_to)? {
            // One's own messages lie in one's inbox as copies for other devices; only notes to oneself are delivered.
            let is_copy = message.sender == user
                && self.known_conversation(message.conversation)?.other(user).is_some_and(|other| other != user);
            if !is_copy {
                highest.insert(message.conversation, message.seq);
            }
        }
        Ok(highest)
    }

    fn raise_delivered(&mut self, user: UserId, id: ConversationId, seq: Seq) -> Result<(), StoreError> {
        let mut conversation = self.known_conversation(id)?;
        let index = conversation.index(user).ok_or_else(|| self.corrupt_conversation(id))?;
        let other = conversation.members[1 - index];
        conversation.marks[index].delivered = seq;
        self.put_conversation(id, &conversation);
        self.tell(other, DeviceId(0), ReceiptKind::Delivered, id, user, seq)
    }

    /// Raises `read` to what was wanted and is delivered, tells it if that is news, and returns it (RCPT-6).
    fn raise_read(&mut self, user: UserId, id: ConversationId, origin: DeviceId) -> Result<Seq, StoreError> {
        let mut conversation = self.known_conversation(id)?;
        let index = conversation.index(user).ok_or_else(|| self.corrupt_conversation(id))?;
        let other = conversation.members[1 - index];
        let marks = &mut conversation.marks[index];
        let read = marks.wanted.min(marks.delivered);
        if read <= marks.read {
            return Ok(marks.read);
        }
        marks.read = read;
        self.put_conversation(id, &conversation);
        self.tell(other, DeviceId(0), ReceiptKind::Read, id, user, read)?;
        if other != user && self.known_user(user)?.devices.len() > 1 {
            self.tell(user, origin, ReceiptKind::Read, id, user, read)?;
        }
        Ok(read)
    }
}
