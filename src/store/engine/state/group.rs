//! The group: what was decided and has not been taken to the journal.
//!
//! Whoever decides leaves in the group what it changed: new things and rows with names in words, numbers as images of fixed
//! size, made anew after each batch. So the thread takes the group in no time and puts it into words while others decide;
//! what it reads lies in a row, and not in the objects that they are at.

use std::mem;

use super::super::rows::{ConversationRow, UserMoves};
use super::change;
use super::{At, Changed, ConversationKey, Ended, State, User, UserKey};
use crate::ids::AppId;

/// Of so many groups of a user one has the whole row: behind a damaged group, salvaging goes on from a row that is right after
/// fewer than that.
const WHOLE_EVERY: u8 = 16;

/// What was decided, in the order in which it is written.
#[derive(Default)]
pub(in super::super) struct Group {
    pub(super) number: u64,
    pub(super) apps: Vec<AppId>,
    /// Whole rows of apps and users, in words: as they were when the group first changed them, or changed more of them than
    /// numbers. The numbers come behind.
    pub(super) rows: Vec<u8>,
    pub(super) users: Vec<UserImage>,
    pub(super) conversations: Vec<ConversationImage>,
    /// What is new, in words.
    pub(super) events: Vec<u8>,
    /// What images take in words at most, in bytes.
    images_bytes: usize,
}

/// How a user is after the last batch of the group that changed it.
pub(super) struct UserImage {
    at: At,
    pub key: UserKey,
    pub moves: UserMoves,
    /// Whether the group has its whole row.
    whole: bool,
    /// Whether that row says all there is: that the user is gone, or the numbers as they are.
    pub said: bool,
}

/// How a conversation is after the last batch of the group that changed it.
pub(super) struct ConversationImage {
    at: At,
    pub key: ConversationKey,
    pub row: ConversationRow,
}

/// What a batch has changed.
#[derive(Default)]
pub(super) struct Touched {
    pub apps: Vec<AppId>,
    pub users: Vec<At>,
    pub conversations: Vec<At>,
}

impl Touched {
    fn clear(&mut self) {
        self.apps.clear();
        self.users.clear();
        self.conversations.clear();
    }
}

impl Group {
    /// An empty one.
    pub(super) fn numbered(number: u64) -> Group {
        Group { number, ..Group::default() }
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.users.is_empty() && self.conversations.is_empty() && self.apps.is_empty()
    }

    /// Makes room for another one, in the same memory.
    fn clear(&mut self) {
        self.apps.clear();
        self.rows.clear();
        self.users.clear();
        self.conversations.clear();
        self.events.clear();
        self.images_bytes = 0;
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

    /// What the group takes in the journal, in bytes at most.
    pub(in super::super) fn group_bytes(&self) -> usize {
        let Group { rows, events, images_bytes, .. } = &self.group;
        rows.len() + images_bytes + events.len()
    }

    /// Whether there is anything in the segment that is being filled, or on its way there.
    pub(in super::super) fn has_changed_in_segment(&self) -> bool {
        !self.changed.is_empty() || self.has_changes()
    }

    /// Objects that changed in the segment of the last group, without the group that is being made.
    pub(in super::super) fn changed_in_segment(&self) -> usize {
        self.changed_before
    }

    /// Puts into the group how everything is that the batch has changed. To be called after each.
    pub(in super::super) fn note_changes(&mut self) {
        let State { group, segment, touched, apps, users, conversations, changed, replayed, .. } = self;
        for &id in &touched.apps {
            let Some(app) = apps.get_mut(&id) else { continue };
            app.touched = false;
            change::put_app(&mut group.rows, id, &app.row);
            if app.group != group.number {
                app.group = group.number;
                group.apps.push(id);
                if mem::replace(&mut app.segment, *segment) != *segment {
                    changed.push(Changed::App(id));
                }
            }
        }
        for &at in &touched.users {
            let object = &mut users[at];
            object.touched = false;
            if object.group == group.number {
                let image = &mut group.users[object.image as usize];
                group.images_bytes -= image.moves.most_bytes();
                image.moves.take(&object.value.row);
                image.said = false;
                group.images_bytes += image.moves.most_bytes();
            } else {
                object.group = group.number;
                object.image = group.users.len() as u32;
                let moves = UserMoves::of(&object.value.row);
                group.images_bytes += change::KEY_BYTES + moves.most_bytes();
                group.users.push(UserImage { at, key: object.key, moves, whole: false, said: false });
                object.value.moved += 1;
                if mem::replace(&mut object.segment, *segment) != *segment {
                    changed.push(Changed::User(object.key.0, object.key.1));
                    object.value.reshaped = true;
                }
            }
            if object.value.reshaped || object.value.moved >= WHOLE_EVERY {
                if *replayed {
                    group.users[object.image as usize].say_whole(&mut group.rows, &mut object.value);
                } else {
                    // The journal has it.
                    object.value.said_whole();
                }
            }
        }
        for &at in &touched.conversations {
            let object = &mut conversations[at];
            object.touched = false;
            let row = object.value.row;
            if object.group == group.number {
                group.conversations[object.image as usize].row = row;
            } else {
                object.group = group.number;
                object.image = group.conversations.len() as u32;
                group.images_bytes += change::KEY_BYTES + ConversationRow::MOST_BYTES;
                group.conversations.push(ConversationImage { at, key: object.key, row });
                if mem::replace(&mut object.segment, *segment) != *segment {
                    changed.push(Changed::Conversation(object.key.0, object.key.1));
                }
            }
        }
        touched.clear();
    }

    /// Takes the group, which goes to `segment`; the next begins in what memory `taken` has. When it is a new segment, what
    /// changed in the one before is given back.
    pub(in super::super) fn take_group(&mut self, segment: u64, taken: &mut Group) -> Option<Ended> {
        let ended = (segment != self.segment).then(|| self.enter_segment(segment));
        taken.clear();
        taken.number = self.group.number + 1;
        mem::swap(taken, &mut self.group);
        self.changed_before = self.changed.len();
        ended
    }

    /// The group begins a segment: what was to be said short, and go on from what the last one has, is said whole.
    fn enter_segment(&mut self, segment: u64) -> Ended {
        self.changed.truncate(self.changed_before);
        let ended = self.end_segment();
        self.segment = segment;
        let State { group, apps, users, conversations, changed, .. } = self;
        for id in &group.apps {
            if let Some(app) = apps.get_mut(id) {
                app.segment = segment;
                changed.push(Changed::App(*id));
            }
        }
        for image in &mut group.users {
            let object = &mut users[image.at];
            object.segment = segment;
            changed.push(Changed::User(image.key.0, image.key.1));
            if !image.whole {
                image.say_whole(&mut group.rows, &mut object.value);
            }
        }
        for image in &group.conversations {
            conversations[image.at].segment = segment;
            changed.push(Changed::Conversation(image.key.0, image.key.1));
        }
        ended
    }
}

impl UserImage {
    /// Puts the whole row into words, as it is now.
    fn say_whole(&mut self, rows: &mut Vec<u8>, user: &mut User) {
        change::put_user(rows, self.key, user);
        user.said_whole();
        (self.whole, self.said) = (true, true);
    }
}
