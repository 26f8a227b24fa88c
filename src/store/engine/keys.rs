//! Keys: `[table u8][app u32]` and what tells rows of the table apart, integers big-endian, so that rows lie in the
//! order of their numbers and nothing crosses apps. Names come last: they need no length.

use crate::ids::{AppId, ConversationId, DeviceId, Position, SendId, Seq, UserId};

use super::records::ReceiptKind;

pub(super) type Key = Vec<u8>;

/// Never renumbered: they are on disk.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Table {
    LastApp = 1,
    AppName = 2,
    App = 3,
    UserName = 4,
    User = 5,
    Device = 6,
    Answer = 7,
    Conversation = 8,
    Direct = 9,
    Entry = 10,
    /// Where in an inbox the newest receipt of one kind, conversation and user is.
    Newest = 11,
    Body = 12,
    /// The newest segment of the journal that is in sled; written by the spill alone.
    Spilled = 13,
}

/// Answers lie in a ring: a new one takes the place of the one it pushes out.
const ANSWER_SLOTS: u64 = postrider_protocol::limits::KEPT_ANSWERS as u64;

fn start(table: Table, app: AppId, rest: usize) -> Key {
    let mut key = Key::with_capacity(5 + rest);
    key.push(table as u8);
    key.extend_from_slice(&app.0.to_be_bytes());
    key
}

fn numbers<const N: usize>(table: Table, app: AppId, numbers: [u64; N]) -> Key {
    let mut key = start(table, app, 8 * N + 2);
    for number in numbers {
        key.extend_from_slice(&number.to_be_bytes());
    }
    key
}

fn named(table: Table, app: AppId, name: &str) -> Key {
    let mut key = start(table, app, name.len());
    key.extend_from_slice(name.as_bytes());
    key
}

pub(super) fn last_app() -> Key {
    vec![Table::LastApp as u8]
}

pub(super) fn spilled() -> Key {
    vec![Table::Spilled as u8]
}

pub(super) fn app_name(name: &str) -> Key {
    named(Table::AppName, AppId(0), name)
}

pub(super) fn app(app: AppId) -> Key {
    numbers(Table::App, app, [])
}

pub(super) fn apps() -> Key {
    vec![Table::App as u8]
}

pub(super) fn user_name(app: AppId, name: &str) -> Key {
    named(Table::UserName, app, name)
}

pub(super) fn user_names(app: AppId) -> Key {
    numbers(Table::UserName, app, [])
}

pub(super) fn user(app: AppId, user: UserId) -> Key {
    numbers(Table::User, app, [user.0])
}

pub(super) fn users(app: AppId) -> Key {
    numbers(Table::User, app, [])
}

pub(super) fn device(app: AppId, user: UserId, device: DeviceId) -> Key {
    numbers(Table::Device, app, [user.0, device.0])
}

pub(super) fn answer(app: AppId, user: UserId, device: DeviceId, send_id: SendId) -> Key {
    let mut key = answers(app, user, device);
    // The remainder of a division by 256 fits.
    key.extend_from_slice(&((send_id.0 % ANSWER_SLOTS) as u16).to_be_bytes());
    key
}

pub(super) fn answers(app: AppId, user: UserId, device: DeviceId) -> Key {
    numbers(Table::Answer, app, [user.0, device.0])
}

pub(super) fn conversation(app: AppId, conversation: ConversationId) -> Key {
    numbers(Table::Conversation, app, [conversation.0])
}

pub(super) fn direct(app: AppId, a: UserId, b: UserId) -> Key {
    numbers(Table::Direct, app, [a.0.min(b.0), a.0.max(b.0)])
}

pub(super) fn entry(app: AppId, user: UserId, position: Position) -> Key {
    numbers(Table::Entry, app, [user.0, position.0])
}

pub(super) fn newest(app: AppId, user: UserId, kind: ReceiptKind, conversation: ConversationId, about: UserId) -> Key {
    numbers(Table::Newest, app, [user.0, conversation.0, about.0, kind as u64])
}

pub(super) fn all_newest(app: AppId, user: UserId) -> Key {
    numbers(Table::Newest, app, [user.0])
}

pub(super) fn body(app: AppId, conversation: ConversationId, seq: Seq, piece: u16) -> Key {
    let mut key = numbers(Table::Body, app, [conversation.0, seq.0]);
    key.extend_from_slice(&piece.to_be_bytes());
    key
}

/// The position in the key of an entry.
pub(super) fn position_of(entry_key: &[u8]) -> Option<Position> {
    Some(Position(u64::from_be_bytes(*entry_key.get(13..)?.first_chunk()?)))
}

/// The user in the key of a user's row.
pub(super) fn user_of(user_key: &[u8]) -> Option<UserId> {
    Some(UserId(u64::from_be_bytes(*user_key.get(5..)?.first_chunk()?)))
}

/// The app in the key of an app's row.
pub(super) fn app_of(app_key: &[u8]) -> Option<AppId> {
    Some(AppId(u32::from_be_bytes(*app_key.get(1..)?.first_chunk()?)))
}

/// The first key after `key`.
pub(super) fn after(mut key: Key) -> Key {
    key.push(0);
    key
}

/// The first key after all that begin with `prefix`, whose first byte is a table's and thus never 255.
pub(super) fn after_prefix(mut prefix: Key) -> Key {
    while let Some(last) = prefix.pop() {
        if last < u8::MAX {
            prefix.push(last + 1);
            break;
        }
    }
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_after_a_prefix_is_above_all_that_begin_with_it() {
        for prefix in [vec![1, 2, 3], vec![1, 2, 255], vec![1, 255, 255]] {
            let end = after_prefix(prefix.clone());
            let mut inside = prefix.clone();
            inside.extend([255; 40]);
            assert!(inside < end);
            let mut outside = prefix;
            while outside.last() == Some(&255) {
                outside.pop();
            }
            *outside.last_mut().expect("a table") += 1;
            assert!(outside >= end);
        }
    }

    #[test]
    fn keys_of_entries_lie_in_the_order_of_positions_and_give_them_back() {
        let key = |position| entry(AppId(1), UserId(2), Position(position));
        assert!(key(255) < key(256));
        assert_eq!(position_of(&key(256)), Some(Position(256)));
        assert_eq!(position_of(b"short"), None);
    }
}
