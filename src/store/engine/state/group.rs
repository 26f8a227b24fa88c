//! The group: what was decided and has not been taken to the journal.
//!
//! Whoever decides leaves a copy of what changed in the group: images of fixed size, and new things in words. So the
//! thread takes the group in no time and puts it into words while others decide; what it reads lies in a row, and not in
//! the objects that they are at. Only rows with names in them are put into words when the group is taken: of each user one
//! in sixteen, and the first in a segment.

use std::mem;

use super::super::rows::{ConversationRow, UserMoves};
use super::change;
use super::{At, Changed, ConversationKey, Ended, State, UserKey};
use crate::ids::AppId;

/// Of so many groups of a user one has the whole row: behind a damaged group, salvaging goes on from a row that is right after
/// fewer than that.
const WHOLE_EVERY: u8 = 16;

/// What was decided, in the order in which it is written.
#[derive(Default)]
pub(in super::super) struct Group {
    pub(super) number: u64,
    pub(super) apps: Vec<AppId>,
    /// Whole rows of apps and users, in words.
    pub(super) whole: Vec<u8>,
    pub(super) users: Vec<UserImage>,
    pub(super) conversations: Vec<ConversationImage>,
    /// What is new, in words.
    pub(super) events: Vec<u8>,
}

/// How a user is after the last batch of the group that changed it.
pub(super) struct UserImage {
    pub at: At,
    pub key: UserKey,
    pub moves: UserMoves,
    /// Whether the group has its whole row instead.
    pub whole: bool,
    /// Whether the group is the first of its segment that changes it.
    first: bool,
}

/// How a conversation is after the last batch of the group that changed it.
pub(super) struct ConversationImage {
    at: At,
    pub key: ConversationKey,
    pub row: ConversationRow,
    first: bool,
}

/// What a batch has changed.
#[derive(Default)]
pub(super) struct Touched {
    pub users: Vec<At>,
    pub conversations: Vec<At>,
}

impl Group {
    /// An empty one.
    pub(super) fn numbered(number: u64) -> Group {
        Group { number, ..Group::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.users.is_empty() && self.conversations.is_empty() && self.apps.is_empty()
    }

    /// Makes room for another one, in the same memory.
    fn clear(&mut self) {
        self.apps.clear();
        self.whole.clear();
        self.users.clear();
        self.conversations.clear();
        self.events.clear();
    }
}

impl State {
    /// The group that changes go to now.
    pub(in super::super) fn group_number(&self) -> u64 {
        self.group.number
    }

    /// Whether the group has changes.
    pub(in super::super) fn has_changes(&self) -> bool {
        !self.group.is_empty()
    }

    /// Objects that changed in the segment of the last group, without the group that is being made.
    pub(in super::super) fn changed_in_segment(&self) -> usize {
        self.changed.len()
    }

    /// Puts into the group how everything is that the batch has changed. To be called after each.
    pub(in super::super) fn note_changes(&mut self) {
        let State { group, segment, touched, users, conversations, .. } = self;
        for at in touched.users.drain(..) {
            let object = &mut users[at];
            object.touched = false;
            let row = &object.value.row;
            let reshaped = mem::take(&mut object.value.reshaped);
            if object.group == group.number {
                let image = &mut group.users[object.image as usize];
                image.moves.take(row);
                if reshaped {
                    image.whole = true;
                    object.value.moved = 0;
                }
            } else {
                let moves = UserMoves::of(row);
                object.group = group.number;
                object.image = group.users.len() as u32;
                let first = mem::replace(&mut object.segment, *segment) != *segment;
                let whole = first || reshaped || object.value.moved >= WHOLE_EVERY - 1;
                object.value.moved = if whole { 0 } else { object.value.moved + 1 };
                group.users.push(UserImage { at, key: object.key, moves, whole, first });
            }
        }
        for at in touched.conversations.drain(..) {
            let object = &mut conversations[at];
            object.touched = false;
            let row = object.value.row.clone();
            if object.group == group.number {
                group.conversations[object.image as usize].row = row;
            } else {
                object.group = group.number;
                object.image = group.conversations.len() as u32;
                let first = mem::replace(&mut object.segment, *segment) != *segment;
                group.conversations.push(ConversationImage { at, key: object.key, row, first });
            }
        }
    }

    /// Ends the group: puts its whole rows into words. Returns how many bytes it takes at most.
    pub(in super::super) fn end_group(&mut self) -> usize {
        self.note_changes();
        let mut whole = mem::take(&mut self.group.whole);
        whole.clear();
        for id in &self.group.apps {
            if let Some(app) = self.apps.get(id) {
                change::put_app(&mut whole, *id, &app.row);
            }
        }
        for image in self.group.users.iter().filter(|image| image.whole) {
            change::put_user(&mut whole, image.key, &self.users[image.at].value);
        }
        self.group.whole = whole;
        self.group.most_bytes()
    }

    /// Takes the group that was ended, which goes to `segment`; the next begins in what memory `taken` has. When it is a new
    /// segment, what changed in the one before is given back.
    pub(in super::super) fn take_group(&mut self, segment: u64, taken: &mut Group) -> Option<Ended> {
        let ended = (segment != self.segment).then(|| self.enter_segment(segment));
        for id in &self.group.apps {
            if let Some(app) = self.apps.get_mut(id)
                && mem::replace(&mut app.segment, segment) != segment
            {
                self.changed.push(Changed::App(*id));
            }
        }
        let users = self.group.users.iter().filter(|image| image.first);
        self.changed.extend(users.map(|image| Changed::User(image.key.0, image.key.1)));
        let conversations = self.group.conversations.iter().filter(|image| image.first);
        self.changed.extend(conversations.map(|image| Changed::Conversation(image.key.0, image.key.1)));

        taken.clear();
        taken.number = self.group.number + 1;
        mem::swap(taken, &mut self.group);
        ended
    }

    /// The group begins a segment: what was to be said short, and go on from what the last one has, is said whole.
    fn enter_segment(&mut self, segment: u64) -> Ended {
        let ended = self.end_segment();
        self.segment = segment;
        for image in &mut self.group.users {
            (image.whole, image.first) = (true, true);
            let object = &mut self.users[image.at];
            object.segment = segment;
            object.value.moved = 0;
        }
        for image in &mut self.group.conversations {
            image.first = true;
            self.conversations[image.at].segment = segment;
        }
        self.end_group();
        ended
    }
}
