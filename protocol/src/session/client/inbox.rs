//! What this device has seen, confirmed and read. Outlives every connection.

use std::collections::{BTreeMap, VecDeque};

use crate::limits;
use crate::wire::{self, deliver};

/// Conversations whose read marks are held at once, to be said again on the next connection.
pub const MAX_READS: usize = 1024;

/// Positions seen and confirmed, and read marks.
///
/// Invariant: `confirmed ≤ seen`.
#[derive(Debug, Default)]
pub struct Inbox {
    seen: u64,
    confirmed: u64,
    /// Messages above `confirmed`, by position, for read marks to find the position that covers them. Bounded by the
    /// widest window a server may stream.
    unconfirmed: VecDeque<Unconfirmed>,
    reads: BTreeMap<u64, ReadMark>,
}

#[derive(Debug)]
struct Unconfirmed {
    position: u64,
    conversation: u64,
    seq: u64,
}

#[derive(Debug)]
struct ReadMark {
    seq: u64,
    /// Goes out once this position is confirmed.
    after: u64,
    /// Written on this connection. `Read` has no answer, so every connection says it again (RCPT-10).
    written: bool,
}

impl Inbox {
    /// An inbox whose entries up to `cursor` an earlier run has taken.
    #[must_use]
    pub fn restore(cursor: u64) -> Self {
        Self { seen: cursor, confirmed: cursor, ..Self::default() }
    }

    /// The highest position delivered to this device, ever.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The highest position durably taken; what the next `Hello.cursor` carries.
    #[must_use]
    pub fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// Confirms everything up to `position`, which the application has durably taken. A position that was never seen
    /// counts as the highest that was.
    pub fn confirm(&mut self, position: u64) {
        self.confirmed = self.confirmed.max(position.min(self.seen));
        while self.unconfirmed.front().is_some_and(|first| first.position <= self.confirmed) {
            self.unconfirmed.pop_front();
        }
    }

    /// Marks a conversation read up to `seq`. Goes out once the messages it covers are confirmed; a mark below an
    /// earlier one does nothing. False if there is no room: [`MAX_READS`] marks wait for a connection.
    pub fn read(&mut self, conversation: u64, seq: u64) -> bool {
        let known = self.reads.get(&conversation).map(|mark| mark.seq);
        if known.is_some_and(|known| known >= seq) {
            return true;
        }
        if known.is_none() && self.reads.len() >= MAX_READS && !self.forget_a_written_mark() {
            return false;
        }
        let covers = |entry: &&Unconfirmed| entry.conversation == conversation && entry.seq <= seq;
        let after = self.unconfirmed.iter().rev().find(covers).map_or(self.confirmed, |entry| entry.position);
        self.reads.insert(conversation, ReadMark { seq, after, written: false });
        true
    }

    /// Whether [`read`](Self::read) has room for a mark in a further conversation.
    #[must_use]
    pub fn has_room_for_read(&self) -> bool {
        self.reads.len() < MAX_READS || self.reads.values().any(|mark| mark.written)
    }

    /// Whether a read mark waits to be written.
    #[must_use]
    pub fn has_unwritten_reads(&self) -> bool {
        self.reads.values().any(|mark| !mark.written)
    }

    /// A position is seen once: false for one that was seen before (DLVR-3).
    pub(super) fn see(&mut self, deliver: &wire::Deliver) -> bool {
        if deliver.position <= self.seen {
            return false;
        }
        self.seen = deliver.position;
        if let Some(deliver::Entry::Message(message)) = &deliver.entry {
            let (conversation, seq) = (message.conversation, message.seq);
            if self.unconfirmed.len() >= limits::MAX_WINDOW as usize {
                self.unconfirmed.pop_front();
            }
            self.unconfirmed.push_back(Unconfirmed { position: deliver.position, conversation, seq });
        }
        true
    }

    /// A new connection: streaming starts after the later of the two cursors, and read marks are said again.
    pub(super) fn handle_welcome(&mut self, welcome: &wire::Welcome) {
        self.seen = self.seen.max(welcome.cursor);
        self.confirm(welcome.cursor);
        for mark in self.reads.values_mut() {
            mark.written = false;
        }
    }

    /// A read mark whose messages are confirmed up to `confirmed` on this connection.
    pub(super) fn take_read(&mut self, confirmed: u64) -> Option<wire::Read> {
        let (&conversation, mark) = self.reads.iter_mut().find(|(_, mark)| !mark.written && mark.after <= confirmed)?;
        mark.written = true;
        Some(wire::Read { conversation, seq: mark.seq })
    }

    fn forget_a_written_mark(&mut self) -> bool {
        let written = self.reads.iter().find(|(_, mark)| mark.written).map(|(&conversation, _)| conversation);
        written.is_some_and(|conversation| self.reads.remove(&conversation).is_some())
    }
}
