//! What a group is made of, as bytes, and how it is replayed.
//!
//! A group is a sequence of changes, each of them absolute: an image of an object, or something new under its number.
//! Images come first, whole rows before numbers, and say how things are after the whole group. A group that is the first of a
//! segment to change a user has its whole row; later ones may have its numbers alone. Replaying the journal from any segment on, over rows that already have some of
//! it, or more, ends in the same state: the last image of an object wins, and an entry that an image says is gone is not
//! taken.

use bytes::Bytes;

use super::super::cold;
use super::super::rows::{
    AnswerRow, AppRow, Body, Content, ConversationRow, Entry, Reader, Record, UserMoves, UserRow, put_number,
};
use super::{At, Ended, Group, State, User, UserKey};
use crate::ids::{AppId, ConversationId, DeviceId, UserId};
use crate::store::StoreError;

/// On disk: never renumbered.
const APP: u8 = 1;
const USER: u8 = 2;
const USER_GONE: u8 = 3;
const CONVERSATION: u8 = 4;
const ENTRY: u8 = 5;
const ANSWER: u8 = 6;
const USER_MOVED: u8 = 7;

pub(super) fn put_app(out: &mut Vec<u8>, app: AppId, row: &AppRow) {
    out.push(APP);
    put_number(out, u64::from(app.0));
    row.write(out);
}

pub(super) fn put_user(out: &mut Vec<u8>, (app, id): UserKey, user: &User) {
    if user.gone {
        put_key(out, USER_GONE, app, id.0);
    } else {
        put_key(out, USER, app, id.0);
        user.row.write(out);
    }
}

pub(super) fn put_entry(out: &mut Vec<u8>, (app, user): UserKey, entry: &Entry) {
    put_key(out, ENTRY, app, user.0);
    entry.write(out);
}

/// `words`: an [`AnswerRow`], as written.
pub(super) fn put_answer(out: &mut Vec<u8>, (app, user): UserKey, device: DeviceId, words: &[u8]) {
    put_key(out, ANSWER, app, user.0);
    put_number(out, device.0);
    out.extend_from_slice(words);
}

fn put_key(out: &mut Vec<u8>, kind: u8, app: AppId, number: u64) {
    out.push(kind);
    put_number(out, u64::from(app.0));
    put_number(out, number);
}

/// Bytes of a key at most.
pub(super) const KEY_BYTES: usize = 1 + 5 + 10;

impl Group {
    /// Appends its changes to `out`.
    pub(in super::super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.rows);
        for image in self.users.iter().filter(|image| !image.said) {
            put_key(out, USER_MOVED, image.key.0, image.key.1.0);
            image.moves.write(out);
        }
        for image in &self.conversations {
            put_key(out, CONVERSATION, image.key.0, image.key.1.0);
            image.row.write(out);
        }
        out.extend_from_slice(&self.events);
    }
}

/// Replay.
impl State {
    /// All that the journal has is in memory: what is not, is in sled as it stands.
    pub(in super::super) fn end_replay(&mut self) {
        self.replayed = true;
    }

    /// Segments are replayed from this one on.
    pub(in super::super) fn begin_segment(&mut self, segment: u64) {
        self.segment = segment;
    }

    /// The last group of a segment has gone to it.
    pub(in super::super) fn end_segment(&mut self) -> Ended {
        self.changed_before = 0;
        Ended { changed: std::mem::take(&mut self.changed), last_group: self.group.number - 1 }
    }

    /// The last segment that was replayed is not at its end: this changed in it.
    pub(in super::super) fn reopen_segment(&mut self, ended: Ended) {
        self.changed = ended.changed;
        self.changed_before = self.changed.len();
    }

    /// Applies a group of the segment that is being replayed. `None` when it is not made of changes to its last byte. Returns
    /// the users of whom it has numbers, and whose rows are not as they were when it was made: an image that was before them
    /// in the segment is not there.
    ///
    /// # Errors
    /// As reading sled's rows.
    pub(in super::super) fn replay(&mut self, group: Changes) -> Result<Option<Vec<UserKey>>, StoreError> {
        let mut lacking = Vec::new();
        for change in group.sound {
            self.apply(change, &mut lacking)?;
        }
        if !group.is_whole {
            return Ok(None);
        }
        self.note_changes();
        self.take_group(self.segment, &mut Group::default());
        Ok(Some(lacking))
    }

    fn apply(&mut self, change: Change, lacking: &mut Vec<UserKey>) -> Result<(), StoreError> {
        match change {
            Change::App(id, row) => {
                self.apps.entry(id).or_default();
                if let Some(app) = self.app_mut(id) {
                    *app = row;
                }
            }
            Change::User(key, row) => {
                let at = match self.find_any_user(key)? {
                    Some(at) => {
                        // Sled may have the row without the name: a spill was cut short between them, or they were copied
                        // for a backup at different moments.
                        if !self.user(at).gone {
                            self.make_fresh(at);
                        }
                        at
                    }
                    None => {
                        // Entries may have got to sled before the user, whose image was in a newer segment.
                        let named = UserRow { name: row.name.clone(), ..UserRow::default() };
                        let loaded = cold::load_user(&*self.disk()?, key, named)?;
                        self.put_user(key, loaded)
                    }
                };
                let user = self.user_mut(at);
                let lost = user.row.devices.iter().map(|device| device.id);
                let lost = lost.filter(|id| row.devices.iter().all(|device| device.id != *id));
                let lost: Vec<DeviceId> = lost.collect();
                user.row = row;
                for device in lost {
                    user.lose_device(device);
                }
                user.drop_dead();
            }
            Change::UserMoved(key, moves) => {
                let Some(at) = self.find_user(key.0, key.1)? else {
                    lacking.push(key);
                    return Ok(());
                };
                let user = self.user_mut(at);
                if !user.row.take_moves(moves) {
                    lacking.push(key);
                }
                user.drop_dead();
            }
            Change::UserGone(key) => {
                let at = match self.find_any_user(key)? {
                    Some(at) => at,
                    None => self.users.add(key, User::gone()),
                };
                self.remove_user(at);
            }
            Change::Conversation(app, id, row) => {
                let at = match self.find_conversation(app, id)? {
                    Some(at) => at,
                    None => self.put_conversation((app, id), row, true),
                };
                // As with a user's name: sled may have the row and not what the members find it by.
                self.conversations[at].value.fresh = true;
                *self.conversation_mut(at) = row;
            }
            Change::Entry(key, mut entry) => {
                let Some(at) = self.find_user(key.0, key.1)? else { return Ok(()) };
                let row = &self.user(at).row;
                let is_message = matches!(entry.content, Content::Message(..));
                if entry.position > row.trimmed && !(is_message && entry.position <= row.expired) {
                    if let Content::Message(_, Body::Here(encoded)) = &mut entry.content {
                        *encoded = Bytes::copy_from_slice(encoded);
                    }
                    let group = self.group.number;
                    self.user_mut(at).push(entry, group);
                }
            }
            Change::Answer(key, device, row) => {
                let Some(at) = self.find_user(key.0, key.1)? else { return Ok(()) };
                let group = self.group.number;
                if self.user(at).device(device).is_some() {
                    self.user_mut(at).answers.push(device, &row, group);
                }
            }
        }
        Ok(())
    }

    /// Also one that is gone.
    fn find_any_user(&mut self, key: UserKey) -> Result<Option<At>, StoreError> {
        match self.users.find(key) {
            Some(at) => Ok(Some(at)),
            None => self.load_user(key),
        }
    }
}

/// What a group changes, read from the journal and not applied.
pub(in super::super) struct Changes {
    /// Those before the first that makes no sense.
    sound: Vec<Change>,
    /// Whether there is none that makes no sense.
    is_whole: bool,
}

impl Changes {
    pub(in super::super) fn read(group: &[u8]) -> Changes {
        // What is kept of it must not keep what it is read from.
        let mut from = Reader(Bytes::copy_from_slice(group));
        let mut sound = Vec::new();
        while !from.is_empty() {
            let Some(change) = Change::read(&mut from) else { return Changes { sound, is_whole: false } };
            sound.push(change);
        }
        Changes { sound, is_whole: true }
    }
}

enum Change {
    App(AppId, AppRow),
    User(UserKey, UserRow),
    UserMoved(UserKey, UserMoves),
    UserGone(UserKey),
    Conversation(AppId, ConversationId, ConversationRow),
    Entry(UserKey, Entry),
    Answer(UserKey, DeviceId, AnswerRow),
}

impl Change {
    fn read(from: &mut Reader) -> Option<Change> {
        let kind = from.u8()?;
        let app = AppId(u32::try_from(from.number()?).ok()?);
        if kind == APP {
            return Some(Change::App(app, AppRow::read(from)?));
        }
        let number = from.number()?;
        let user = (app, UserId(number));
        Some(match kind {
            USER => Change::User(user, UserRow::read(from)?),
            USER_MOVED => Change::UserMoved(user, UserMoves::read(from)?),
            USER_GONE => Change::UserGone(user),
            CONVERSATION => Change::Conversation(app, ConversationId(number), ConversationRow::read(from)?),
            ENTRY => Change::Entry(user, Entry::read(from)?),
            ANSWER => Change::Answer(user, DeviceId(from.number()?), AnswerRow::read(from)?),
            _ => return None,
        })
    }
}
