//! What changes with every message are a user's numbers. As long as its segment has the whole row already, a group says them
//! alone: names, keys and codes are not written again and again.

use super::{At, State, User};
use crate::ids::{Position, SendId};

/// A user whose numbers change, and nothing else.
pub(in super::super) struct Moving<'a>(&'a mut User);

impl State {
    /// A user of whom only numbers are to be changed.
    pub(in super::super) fn moving(&mut self, at: At) -> Moving<'_> {
        Moving(self.touched(at))
    }
}

impl Moving<'_> {
    /// The position of the next entry.
    pub(in super::super) fn next_position(&mut self) -> Position {
        let head = &mut self.0.row.head;
        head.0 += 1;
        *head
    }

    /// One message more is in the inbox.
    pub(in super::super) fn count_message(&mut self) {
        self.0.row.messages += 1;
    }

    pub(in super::super) fn set_cursor(&mut self, device: usize, cursor: Position) {
        self.0.row.devices[device].cursor = cursor;
    }

    pub(in super::super) fn set_seen(&mut self, device: usize, now: u64) {
        self.0.row.devices[device].seen = now;
    }

    pub(in super::super) fn set_highest(&mut self, device: usize, id: SendId) {
        self.0.row.devices[device].highest = id;
    }

    pub(in super::super) fn set_confirmed(&mut self, position: Position) {
        self.0.row.confirmed = position;
    }

    /// Entries up to a position are gone, among them so many messages.
    pub(in super::super) fn trim(&mut self, position: Position, messages: u64) {
        self.0.row.trimmed = position;
        self.lose(messages);
    }

    /// So many messages, those up to a position, have expired.
    pub(in super::super) fn expire(&mut self, position: Position, messages: u64) {
        let row = &mut self.0.row;
        row.expired = position;
        row.confirmed = row.confirmed.max(position);
        self.lose(messages);
    }

    fn lose(&mut self, messages: u64) {
        self.0.row.messages = self.0.row.messages.saturating_sub(messages);
        self.0.drop_dead();
    }
}
