//! What happens to inboxes: entries, confirmations, receipts, expiry.

use std::collections::BTreeMap;

use super::model::{Deciding, Entry, Facts, UserState};
use crate::ids::{ConversationId, DeviceId, Position, Seq, UserId};
use crate::store::{InboxEntry, Item, Outcome, Page, Publication, ReadLimit, Receipt, Sweep};

/// See [`Store::read_inbox`](crate::store::Store::read_inbox).
pub(super) fn page(user: &UserState, after: Position, up_to: Position, limit: ReadLimit) -> Page {
    let mut entries: Vec<InboxEntry> = Vec::new();
    let mut bytes = 0;
    for (&position, entry) in user.inbox.iter().filter(|(position, _)| **position > after && **position <= up_to) {
        let size = if let Item::Message(message) = &entry.item { message.len() } else { 0 };
        if !entries.is_empty() && (entries.len() >= limit.entries || bytes + size > limit.bytes) {
            return Page { entries, complete: false };
        }
        bytes += size;
        entries.push(InboxEntry { position, origin: entry.origin, item: entry.item.clone() });
    }
    Page { entries, complete: true }
}

impl Deciding<'_> {
    /// Appends to the inbox of a user, if it still exists; a receipt takes the place of the older one it covers.
    pub(super) fn append(&mut self, user: UserId, entry: Entry) {
        let Some(state) = self.app.users.get_mut(&user) else { return };
        state.inbox.retain(|_, older| !covers(&entry.item, &older.item));
        state.head.0 += 1;
        let position = state.head;
        let origin = entry.origin;
        let published = InboxEntry { position, origin, item: entry.item.clone() };
        state.inbox.insert(position, entry);
        self.published.push(Publication { app: self.id, user, entry: published });
        self.pass_over(user, origin);
    }

    /// A device is not told of its own doing and so cannot confirm it: its cursor passes over such entries.
    fn pass_over(&mut self, user: UserId, device: DeviceId) {
        let state = self.app.user(user);
        let Some(own) = state.devices.get_mut(&device) else { return };
        let cursor = own.cursor;
        let following = state.inbox.iter().filter(|(position, _)| **position > cursor);
        if let Some((&passed, _)) = following.take_while(|(_, entry)| entry.origin == device).last() {
            own.cursor = passed;
        }
    }

    /// A device's cursor goes up, with all that follows from it.
    pub(super) fn confirm(&mut self, user: UserId, device: DeviceId, position: Position, now: u64) {
        let state = self.app.device(user, device).expect("the caller has seen this device");
        state.cursor = position;
        state.seen = now;
        self.pass_over(user, device);
        self.advance(user);
        self.trim(user);
    }

    /// Raises the `read` watermark to what was wanted and is confirmed, and tells it.
    pub(super) fn raise_read(&mut self, user: UserId, id: ConversationId, origin: DeviceId) {
        let conversation = self.app.conversations.get_mut(&id).expect("the caller has seen this conversation");
        let other = conversation.other(user).expect("the caller has seen this member");
        let marks = conversation.marks.get_mut(&user).expect("the caller has seen this member");
        let read = marks.wanted.min(marks.delivered);
        if read <= marks.read {
            return;
        }
        marks.read = read;
        let receipt = self.receipt(id, user, read);
        self.append(other, Entry { origin: DeviceId(0), item: Item::Read(receipt.clone()), message: None });
        if other != user && self.app.user(user).devices.len() > 1 {
            self.append(user, Entry { origin, item: Item::Read(receipt), message: None });
        }
    }

    /// Removes a device. What only it was entitled to expires.
    pub(super) fn remove_device(&mut self, user: UserId, device: DeviceId) {
        let state = self.app.user(user);
        state.devices.remove(&device);
        let Some(first_start) = state.devices.values().map(|device| device.start).min() else { return };
        if first_start > state.confirmed {
            let lost = messages(state, state.confirmed, first_start);
            state.confirmed = first_start;
            self.tell_expired(user, &lost);
            self.advance(user);
        }
        self.trim(user);
    }

    /// Removes a user. What no device had taken expires, and senders are told.
    pub(super) fn remove_user(&mut self, user: UserId) {
        let state = self.app.user(user);
        state.devices.clear();
        let lost = messages(state, state.confirmed, state.head);
        self.tell_expired(user, &lost);
        self.app.users.remove(&user);
    }

    pub(super) fn sweep(&mut self, sweep: &Sweep) -> Outcome {
        let following: Vec<UserId> = self.app.users.keys().copied().filter(|user| *user > sweep.after).collect();
        let (mut devices, mut entries) = (0, 0);
        let limit = sweep.limit.max(1);
        for &user in following.iter().take(limit) {
            let expired: Vec<DeviceId> = self.app.users[&user]
                .devices
                .iter()
                .filter(|(id, device)| device.seen < sweep.before && !sweep.connected.contains(id))
                .map(|(&id, _)| id)
                .collect();
            devices += expired.len() as u64;
            for device in expired {
                self.remove_device(user, device);
            }
            entries += self.expire_entries(user, sweep.before);
        }
        let next = if following.len() > limit { Some(following[limit - 1]) } else { None };
        Outcome::Swept { next, devices, entries }
    }

    fn expire_entries(&mut self, user: UserId, before: u64) -> u64 {
        let state = self.app.user(user);
        let all = messages(state, Position(0), state.head);
        let expired: Vec<(Position, Facts)> = all.into_iter().take_while(|(_, facts)| facts.time < before).collect();
        let Some(&(last, _)) = expired.last() else { return 0 };
        for (position, _) in &expired {
            state.inbox.remove(position);
        }
        let lost: Vec<(Position, Facts)> =
            expired.iter().copied().filter(|(position, _)| *position > state.confirmed).collect();
        state.confirmed = state.confirmed.max(last);
        self.tell_expired(user, &lost);
        self.advance(user);
        expired.len() as u64
    }

    /// Messages that no device of `user` took, told to their senders and to the user's own devices.
    fn tell_expired(&mut self, user: UserId, lost: &[(Position, Facts)]) {
        let mut highest: BTreeMap<ConversationId, Seq> = BTreeMap::new();
        // A copy of one's own message is nobody's loss; a note to oneself is.
        let is_to_user = |facts: &Facts| {
            facts.sender != user || self.app.conversations[&facts.conversation].other(user) == Some(user)
        };
        for (_, facts) in lost.iter().filter(|(_, facts)| is_to_user(facts)) {
            highest.insert(facts.conversation, facts.seq);
        }
        for (id, seq) in highest {
            let receipt = self.receipt(id, user, seq);
            let entry = Entry { origin: DeviceId(0), item: Item::Expired(receipt), message: None };
            let other = self.app.conversations[&id].other(user).expect("who got a message is a member");
            self.append(other, entry.clone());
            if other != user && !self.app.user(user).devices.is_empty() {
                self.append(user, entry);
            }
        }
    }

    /// Moves the confirmed position over what the devices have confirmed without a hole, and tells what was delivered.
    fn advance(&mut self, user: UserId) {
        let state = self.app.user(user);
        let before = state.confirmed;
        while let Some(device) =
            state.devices.values().find(|device| device.start <= state.confirmed && device.cursor > state.confirmed)
        {
            state.confirmed = device.cursor;
        }
        let mut highest: BTreeMap<ConversationId, Seq> = BTreeMap::new();
        for (_, facts) in messages(state, before, state.confirmed) {
            let to_oneself = self.app.conversations[&facts.conversation].other(user) == Some(user);
            if facts.sender != user || to_oneself {
                highest.insert(facts.conversation, facts.seq);
            }
        }
        for (id, seq) in highest {
            let conversation = self.app.conversations.get_mut(&id).expect("it has messages");
            let other = conversation.other(user).expect("who got a message is a member");
            conversation.marks.get_mut(&user).expect("who got a message is a member").delivered = seq;
            let receipt = self.receipt(id, user, seq);
            self.append(other, Entry { origin: DeviceId(0), item: Item::Delivered(receipt), message: None });
            self.raise_read(user, id, DeviceId(0));
        }
    }

    /// Forgets what every device has passed.
    fn trim(&mut self, user: UserId) {
        let state = self.app.user(user);
        if let Some(passed) = state.devices.values().map(|device| device.cursor).min() {
            state.inbox.retain(|position, _| *position > passed);
        }
    }

    fn receipt(&mut self, conversation: ConversationId, user: UserId, seq: Seq) -> Receipt {
        Receipt { conversation, user: self.app.user(user).name.as_str().into(), seq }
    }
}

/// The message entries with `after < position ≤ up_to`.
fn messages(user: &UserState, after: Position, up_to: Position) -> Vec<(Position, Facts)> {
    let within = |position: Position| position > after && position <= up_to;
    user.inbox.iter().filter(|(at, _)| within(**at)).filter_map(|(&at, entry)| Some((at, entry.message?))).collect()
}

/// Whether the newer receipt says all that the older one says.
fn covers(newer: &Item, older: &Item) -> bool {
    match (newer, older) {
        (Item::Delivered(new), Item::Delivered(old))
        | (Item::Read(new), Item::Read(old))
        | (Item::Expired(new), Item::Expired(old)) => (new.conversation, &new.user) == (old.conversation, &old.user),
        _ => false,
    }
}
