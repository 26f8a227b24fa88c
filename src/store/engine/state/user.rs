//! A user in memory: its row, the part of its inbox that is not in sled yet, and what it takes to tell which entries are
//! alive.

use std::collections::VecDeque;

use super::super::rows::{Content, Entry, ReceiptFacts, UserRow};
use super::answers::HotAnswers;
use super::newest::{Newest, NewestReceipts, ReceiptKey};
use crate::ids::{DeviceId, Position};

/// Dead entries in an inbox at which it is looked whether to close the gaps.
const MANY_DEAD: usize = 32;

/// In this order in memory: what every message touches lies in as few cache lines as possible.
#[derive(Default)]
#[repr(C)]
pub(in super::super) struct User {
    /// It was removed; it stays until sled has forgotten it.
    pub gone: bool,
    /// Whether sled may not have its name yet.
    pub fresh: bool,
    /// Whether more of its row than its numbers has changed since the last group.
    pub reshaped: bool,
    /// Groups since the last one that had its whole row.
    pub moved: u8,
    /// Entries that may not be in sled, in the order of their positions.
    hot: VecDeque<HotEntry>,
    /// Answers that may not be in sled.
    pub answers: HotAnswers,
    /// Where the newest receipt of each kind, conversation and user is.
    pub newest: NewestReceipts,
    dead: usize,
    /// Sled has entries up to here; 0 when it has none.
    pub cold: Position,
    /// Sled has none up to here any more.
    pub cleared: Position,
    pub row: UserRow,
    /// Another one whenever something of it has got from memory to sled alone.
    pub stamp: u64,
    /// Rows of receipts that sled still has and that are gone.
    pub forgotten: Vec<ReceiptKey>,
    /// Devices that were removed while sled may have answers of theirs.
    pub lost_devices: Vec<DeviceId>,
}

pub(in super::super) struct HotEntry {
    pub entry: Entry,
    /// The group it came with.
    pub group: u64,
    pub dead: bool,
}

impl ReceiptFacts {
    pub(in super::super) fn key(&self) -> ReceiptKey {
        (self.kind, self.conversation, self.user)
    }
}

impl User {
    pub(in super::super) fn new(row: UserRow) -> User {
        User { row, ..User::default() }
    }

    /// What stays of one that was removed; the group has yet to say so.
    pub(in super::super) fn gone() -> User {
        User { gone: true, reshaped: true, ..User::default() }
    }

    /// The group has its whole row as it is.
    pub(super) fn said_whole(&mut self) {
        (self.reshaped, self.moved) = (false, 0);
    }

    /// Sled has a row of a receipt.
    pub(in super::super) fn found_newest(&mut self, receipt: ReceiptKey, position: Position) {
        if position > self.row.trimmed {
            self.newest.insert(receipt, Newest { position, cold: true });
        } else {
            self.forgotten.push(receipt);
        }
    }

    /// Whether an entry has not been trimmed, expired, or given way to a newer receipt.
    pub(in super::super) fn is_alive(&self, entry: &Entry) -> bool {
        entry.position > self.row.trimmed
            && match &entry.content {
                Content::Message(..) => entry.position > self.row.expired,
                Content::Receipt(receipt) => {
                    self.newest.get(&receipt.key()).is_some_and(|newest| newest.position == entry.position)
                }
            }
    }

    /// Every entry up to here is dead.
    pub(in super::super) fn floor(&self) -> Position {
        let before = |(_, newest): (ReceiptKey, Newest)| Position(newest.position.0.saturating_sub(1));
        let first_receipt = self.newest.iter().map(before).min();
        self.row.trimmed.max(first_receipt.map_or(self.row.expired, |before| before.min(self.row.expired)))
    }

    /// The number of its device.
    pub(in super::super) fn device(&self, id: DeviceId) -> Option<usize> {
        self.row.devices.iter().position(|device| device.id == id)
    }

    /// Entries that may not be in sled with `after < position`, oldest first.
    pub(in super::super) fn hot_after(&self, after: Position) -> impl Iterator<Item = &Entry> {
        // What is asked for is nearly always all of it.
        let first = match self.hot.front() {
            Some(front) if front.entry.position > after => 0,
            _ => self.hot.partition_point(|hot| hot.entry.position <= after),
        };
        self.hot.range(first..).filter(|hot| !hot.dead).map(|hot| &hot.entry)
    }

    /// Where the part begins that is certainly not in sled alone.
    pub(in super::super) fn is_hot_after(&self, after: Position) -> bool {
        after >= self.cold
    }

    /// Appends an entry; a receipt takes the place of the older one.
    pub(in super::super) fn push(&mut self, entry: Entry, group: u64) {
        if let Content::Receipt(receipt) = &entry.content {
            let newest = Newest { position: entry.position, cold: false };
            if let Some(older) = self.newest.insert(receipt.key(), newest) {
                if older.cold {
                    // Its row is written over when this one gets to sled, and deleted if this one never does.
                    self.forgotten.push(receipt.key());
                }
                self.bury(older.position);
            }
        }
        self.hot.push_back(HotEntry { entry, group, dead: false });
    }

    /// Marks one hot entry as dead, if it is there.
    fn bury(&mut self, position: Position) {
        let at = self.hot.partition_point(|hot| hot.entry.position < position);
        if let Some(hot) = self.hot.get_mut(at)
            && hot.entry.position == position
            && !hot.dead
        {
            hot.dead = true;
            self.dead += 1;
        }
        self.close_gaps();
    }

    fn close_gaps(&mut self) {
        while self.hot.front().is_some_and(|hot| hot.dead) {
            self.hot.pop_front();
            self.dead -= 1;
        }
        if self.dead > MANY_DEAD && self.dead * 2 > self.hot.len() {
            self.hot.retain(|hot| !hot.dead);
            self.dead = 0;
        }
        self.begin_again();
    }

    /// An empty inbox begins where it began: what is in it for moments lies in the same memory each time.
    fn begin_again(&mut self) {
        if self.hot.is_empty() {
            self.hot.clear();
        }
    }

    /// Forgets what `trimmed` and `expired` say is dead.
    pub(in super::super) fn drop_dead(&mut self) {
        let (trimmed, expired) = (self.row.trimmed, self.row.expired);
        while let Some(front) = self.hot.front()
            && (front.dead || front.entry.position <= trimmed)
        {
            let Some(front) = self.hot.pop_front() else { break };
            if front.dead {
                self.dead -= 1;
            } else if let Content::Receipt(receipt) = &front.entry.content {
                self.forget(receipt.key(), front.entry.position);
            }
        }
        self.begin_again();
        if expired > trimmed {
            let mut buried = 0;
            for hot in self.hot.iter_mut().take_while(|hot| hot.entry.position <= expired) {
                if !hot.dead && matches!(hot.entry.content, Content::Message(..)) {
                    hot.dead = true;
                    buried += 1;
                }
            }
            self.dead += buried;
            self.close_gaps();
        }
        if trimmed.min(self.cold) > self.cleared {
            // Receipts of which only sled has the entry.
            let passed: Vec<_> = self.newest.iter().filter(|(_, newest)| newest.position <= trimmed).collect();
            for (key, newest) in passed {
                self.forget(key, newest.position);
            }
        }
    }

    fn forget(&mut self, key: ReceiptKey, position: Position) {
        if let Some(newest) = self.newest.get(&key)
            && newest.position == position
        {
            if newest.cold {
                self.forgotten.push(key);
            }
            self.newest.remove(&key);
        }
    }

    /// A device is no more, and nobody asks for its answers.
    pub(in super::super) fn lose_device(&mut self, id: DeviceId) {
        self.row.devices.retain(|device| device.id != id);
        self.answers.lose_device(id);
        self.lost_devices.push(id);
    }

    /// Living entries of groups up to this one, oldest first.
    pub(in super::super) fn entries_up_to_group(&self, group: u64) -> impl Iterator<Item = &Entry> {
        self.hot.iter().take_while(move |hot| hot.group <= group).filter(|hot| !hot.dead).map(|hot| &hot.entry)
    }

    /// Sled has all entries up to `position` and all answers up to a group now.
    pub(in super::super) fn cool(&mut self, position: Position, group: u64) {
        while let Some(front) = self.hot.front()
            && front.entry.position <= position
        {
            if front.dead {
                self.dead -= 1;
            }
            self.hot.pop_front();
        }
        // Also when none of them is hot any more: their rows are there, and must be cleared one day.
        self.cold = self.cold.max(position);
        self.answers.cool(group);
    }

    /// Sled has a row now that says where the newest receipt of a kind is: it is deleted if that has been overtaken meanwhile.
    pub(in super::super) fn has_row(&mut self, receipt: ReceiptKey, position: Position) {
        match self.newest.get_mut(&receipt) {
            Some(newest) if newest.position == position => newest.cold = true,
            _ => self.forgotten.push(receipt),
        }
    }

    /// Whether sled has all there is of it, apart from its row.
    pub(in super::super) fn is_cool(&self) -> bool {
        self.hot.is_empty() && self.answers.is_empty() && !self.fresh && !self.gone
    }
}
