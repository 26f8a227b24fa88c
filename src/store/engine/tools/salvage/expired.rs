//! Tells senders what is lost, as expiry is told (RCPT-8): a later `delivered` would speak for it.
//!
//! What is known is rarely which message it was. So `expired` is told up to where the lost one may have been: it may speak for
//! messages that are there and will be delivered, and never leaves out one that is lost.

use std::collections::{BTreeMap, BTreeSet};

use super::Loss;
use super::repair::{Lacking, Repair, gaps};
use crate::ids::{ConversationId, DeviceId, Position, Seq, UserId};
use crate::store::StoreError;
use crate::store::engine::keys;
use crate::store::engine::rows::{
    Chunk, Content, ConversationRow, Entry, MessageFacts, Number, ReceiptFacts, ReceiptKind,
};

/// Who is told, of which conversation, about whom: up to where what was sent to that user has expired.
pub(super) type Expiries = BTreeMap<(UserId, ConversationId, UserId), Seq>;

impl Repair<'_> {
    /// Reports what inboxes lack, and tells it, now that it is known how far the conversations have got.
    pub(super) fn tell_lost(&mut self) -> Result<(), StoreError> {
        let mut expiries = Expiries::new();
        let mut explained: BTreeMap<UserId, u64> = BTreeMap::new();
        for Lacking { user, mut loss, known, of_messages, is_certain } in std::mem::take(&mut self.lacking) {
            for (id, row) in &self.conversations {
                let Some(index) = row.index(user) else { continue };
                let known = known.range((*id, Seq(0))..=(*id, row.head)).map(|(_, seq)| seq.0);
                let lost = gaps(row.marks[index].delivered.0, known, row.head.0);
                let Some(&(_, last)) = lost.last() else { continue };
                if of_messages {
                    let other = row.members[1 - index];
                    *explained.entry(other).or_default() += lost.iter().map(|(from, to)| to - from + 1).sum::<u64>();
                    self.expire(&mut expiries, *id, row, user, Seq(last));
                }
                loss.conversations.push((id.0, lost));
            }
            if is_certain || !loss.conversations.is_empty() {
                self.salvaged.lost(loss);
            }
        }
        self.pass_over_lost_sends(&explained, &mut expiries);
        for (to, conversation, about) in std::mem::take(&mut self.lost_expiries) {
            let up_to = self.undelivered_after(conversation, about)?;
            let known = expiries.entry((to, conversation, about)).or_default();
            *known = up_to.max(*known);
        }
        for ((to, conversation, about), seq) in expiries {
            self.append_expired(to, conversation, about, seq)?;
        }
        Ok(())
    }

    /// Tells the other member, and the user's own devices, what has expired of what was sent to the user.
    fn expire(&self, expiries: &mut Expiries, id: ConversationId, row: &ConversationRow, user: UserId, seq: Seq) {
        let has_devices = self.users.get(&user).is_some_and(|row| !row.devices.is_empty());
        let own = has_devices.then_some(user);
        for to in row.other(user).into_iter().chain(own) {
            let known = expiries.entry((to, id, user)).or_default();
            *known = seq.max(*known);
        }
    }

    /// Of a send whose answer was lost with a part of the journal it is not known where it went. Its number is not given
    /// again in any conversation of the sender, and counts as expired in all of them.
    fn pass_over_lost_sends(&mut self, explained: &BTreeMap<UserId, u64>, expiries: &mut Expiries) {
        for (sender, sends) in std::mem::take(&mut self.lost_sends) {
            let sends = sends.saturating_sub(explained.get(&sender).copied().unwrap_or(0));
            let own = self.conversations.iter().filter(|(_, row)| row.index(sender).is_some());
            let ids: Vec<ConversationId> = own.map(|(id, _)| *id).collect();
            if sends == 0 || ids.is_empty() {
                continue;
            }
            for id in &ids {
                let Some(row) = self.conversations.get_mut(id) else { continue };
                row.head.0 += sends;
                let row = *row;
                let Some(to) = row.other(sender) else { continue };
                self.expire(expiries, *id, &row, to, row.head);
            }
            let what = format!(
                "up to {sends} of the user's messages are lost, and it is not known to whom they were: in all \
                 conversations of the user what is not delivered yet is told as expired"
            );
            let (app, user) = (self.row.name.clone(), self.users.get(&sender).map(|row| row.name.to_string()));
            self.salvaged.lost(Loss { app, user, what, ..Loss::default() });
        }
    }

    /// Below the first message to the user that waits to be delivered, everything may have expired.
    fn undelivered_after(&self, id: ConversationId, user: UserId) -> Result<Seq, StoreError> {
        let head = self.conversations.get(&id).map_or(Seq(0), |row| row.head);
        let confirmed = self.users.get(&user).map_or(Position(0), |row| row.confirmed);
        for row in self.disk.rows::<Chunk>(&keys::chunks_of_user(self.app, user)) {
            for entry in row?.1.entries.into_iter().filter(|entry| entry.position > confirmed) {
                if let Content::Message(MessageFacts { conversation, seq, sender, .. }, _) = entry.content
                    && conversation == id
                    && sender != user
                {
                    return Ok(Seq(seq.0.saturating_sub(1)));
                }
            }
        }
        Ok(head)
    }

    /// Appends `expired` to an inbox; the older one of its kind, if there is one, is dead by that.
    fn append_expired(
        &mut self,
        to: UserId,
        conversation: ConversationId,
        about: UserId,
        seq: Seq,
    ) -> Result<(), StoreError> {
        let Some(name) = self.users.get(&about).map(|row| row.name.clone()) else { return Ok(()) };
        let Some(row) = self.users.get_mut(&to) else { return Ok(()) };
        row.head.0 += 1;
        let (position, row) = (row.head, row.clone());
        let app = self.app;
        let before = self.disk.get::<Number>(&keys::end(app, to))?.map_or(Position(0), |Number(end)| Position(end));
        let kind = ReceiptKind::Expired;
        let content = Content::Receipt(ReceiptFacts { kind, conversation, user: about, name, seq });
        let entries = vec![Entry { position, origin: DeviceId(0), content }];
        self.put(&keys::chunk(app, to, position), &Chunk { before, entries })?;
        self.put(&keys::end(app, to), &Number(position.0))?;
        self.put(&keys::newest(app, to, kind, conversation, about), &Number(position.0))?;
        self.put(&keys::user(app, to), &row)
    }
}

/// Receipts of which a user was told that something had expired, and whose entries are lost.
pub(super) type LostExpiries = BTreeSet<(UserId, ConversationId, UserId)>;
