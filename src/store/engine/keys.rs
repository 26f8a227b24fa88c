//! Keys: `[table u8][app u32]` and what tells rows of the table apart, integers big-endian, so that rows lie in the
//! order of their numbers and nothing crosses apps. Names come last: they need no length.

use crate::ids::{AppId, ConversationId, DeviceId, Position, SendId, UserId};

use super::rows::ReceiptKind;

pub(super) type Key = Vec<u8>;

/// Never renumbered: they are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Table {
    AppName = 1,
    App = 2,
    UserName = 3,
    User = 4,
    Answers = 5,
    Conversation = 6,
    Direct = 7,
    /// Pieces of a message that is too large for a chunk. They are written before the chunks that speak of them.
    Piece = 8,
    /// Pieces of an inbox, under the position of their last entry.
    Chunk = 9,
    /// Where in an inbox the newest receipt of one kind, conversation and user is.
    Newest = 10,
    /// The newest segment of the journal that is in sled; written by the spill alone.
    Spilled = 11,
    /// Where in an inbox the entries end that were spilled; written after them.
    End = 12,
    /// How far the journal goes at least; written by the spill before rows that rest on it, and when the store closes.
    Reach = 13,
}

impl Table {
    /// The table that a key is of.
    pub(super) fn of(key: &[u8]) -> Option<Table> {
        let first = key.first()?;
        TABLES.iter().find(|(table, _)| *table as u8 == *first).map(|(table, _)| *table)
    }
}

/// What each table is called, for people.
pub(super) const TABLES: [(Table, &str); 13] = [
    (Table::AppName, "app names"),
    (Table::App, "apps"),
    (Table::UserName, "user names"),
    (Table::User, "users"),
    (Table::Answers, "answers"),
    (Table::Conversation, "conversations"),
    (Table::Direct, "direct conversations"),
    (Table::Chunk, "inboxes"),
    (Table::Piece, "large messages"),
    (Table::Newest, "newest receipts"),
    (Table::Spilled, "spilled"),
    (Table::End, "ends of inboxes"),
    (Table::Reach, "reach of the journal"),
];

/// The table that a key is of.
pub(super) fn table_of(key: &[u8]) -> &'static str {
    TABLES.iter().find(|(table, _)| key.first() == Some(&(*table as u8))).map_or("no table", |(_, name)| name)
}

/// Bytes that tell whose a row is: table, app, user.
pub(super) const OWNED_PREFIX_BYTES: usize = 13;

/// Answers in one row.
pub(super) const ANSWERS_A_ROW: u64 = 16;

/// Rows of answers lie in a ring: a new one takes the place of the one it pushes out. The last 256 answers touch up to 17.
pub(super) const ANSWER_ROWS: u64 = postrider_protocol::limits::KEPT_ANSWERS as u64 / ANSWERS_A_ROW + 1;

fn start(table: Table, app: AppId, rest: usize) -> Key {
    let mut key = Key::with_capacity(5 + rest);
    key.push(table as u8);
    key.extend_from_slice(&app.0.to_be_bytes());
    key
}

fn numbers<const N: usize>(table: Table, app: AppId, numbers: [u64; N]) -> Key {
    let mut key = start(table, app, 8 * N + 4);
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

pub(super) fn spilled() -> Key {
    vec![Table::Spilled as u8]
}

pub(super) fn reach() -> Key {
    vec![Table::Reach as u8]
}

pub(super) fn app_name(name: &str) -> Key {
    named(Table::AppName, AppId(0), name)
}

pub(super) fn app_names() -> Key {
    vec![Table::AppName as u8]
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

/// Of all apps.
pub(super) fn all_user_names() -> Key {
    vec![Table::UserName as u8]
}

pub(super) fn user(app: AppId, user: UserId) -> Key {
    numbers(Table::User, app, [user.0])
}

pub(super) fn users(app: AppId) -> Key {
    numbers(Table::User, app, [])
}

/// The group of answers that this one lies with: groups of the same device are told apart by it.
pub(super) fn answer_group(send_id: SendId) -> u64 {
    send_id.0 / ANSWERS_A_ROW
}

pub(super) fn answers(app: AppId, user: UserId, device: DeviceId, group: u64) -> Key {
    numbers(Table::Answers, app, [user.0, device.0, group % ANSWER_ROWS])
}

pub(super) fn answers_of_device(app: AppId, user: UserId, device: DeviceId) -> Key {
    numbers(Table::Answers, app, [user.0, device.0])
}

pub(super) fn answers_of_user(app: AppId, user: UserId) -> Key {
    numbers(Table::Answers, app, [user.0])
}

pub(super) fn all_answers(app: AppId) -> Key {
    numbers(Table::Answers, app, [])
}

pub(super) fn conversation(app: AppId, conversation: ConversationId) -> Key {
    numbers(Table::Conversation, app, [conversation.0])
}

pub(super) fn conversations(app: AppId) -> Key {
    numbers(Table::Conversation, app, [])
}

pub(super) fn direct(app: AppId, a: UserId, b: UserId) -> Key {
    numbers(Table::Direct, app, [a.0.min(b.0), a.0.max(b.0)])
}

pub(super) fn directs(app: AppId) -> Key {
    numbers(Table::Direct, app, [])
}

/// `last`: the position of the last entry in the chunk.
pub(super) fn chunk(app: AppId, user: UserId, last: Position) -> Key {
    numbers(Table::Chunk, app, [user.0, last.0])
}

pub(super) fn chunks_of_user(app: AppId, user: UserId) -> Key {
    numbers(Table::Chunk, app, [user.0])
}

pub(super) fn chunks(app: AppId) -> Key {
    numbers(Table::Chunk, app, [])
}

pub(super) fn end(app: AppId, user: UserId) -> Key {
    numbers(Table::End, app, [user.0])
}

pub(super) fn ends(app: AppId) -> Key {
    numbers(Table::End, app, [])
}

/// Of all apps.
pub(super) fn all_pieces() -> Key {
    vec![Table::Piece as u8]
}

/// Of all apps.
pub(super) fn all_ends() -> Key {
    vec![Table::End as u8]
}

pub(super) fn piece(app: AppId, user: UserId, position: Position, piece: u32) -> Key {
    let mut key = numbers(Table::Piece, app, [user.0, position.0]);
    key.extend_from_slice(&piece.to_be_bytes());
    key
}

pub(super) fn pieces_of_user(app: AppId, user: UserId) -> Key {
    numbers(Table::Piece, app, [user.0])
}

pub(super) fn pieces(app: AppId) -> Key {
    numbers(Table::Piece, app, [])
}

pub(super) fn newest(app: AppId, user: UserId, kind: ReceiptKind, conversation: ConversationId, about: UserId) -> Key {
    numbers(Table::Newest, app, [user.0, conversation.0, about.0, kind as u64])
}

pub(super) fn newest_of_user(app: AppId, user: UserId) -> Key {
    numbers(Table::Newest, app, [user.0])
}

pub(super) fn all_newest(app: AppId) -> Key {
    numbers(Table::Newest, app, [])
}

/// The `index`th number in a key, after its table and app.
pub(super) fn number(key: &[u8], index: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*key.get(5 + 8 * index..)?.first_chunk()?))
}

/// Whose and which receipt a key of the newest ones names.
pub(super) fn receipt_of(newest_key: &[u8]) -> Option<(ReceiptKind, ConversationId, UserId)> {
    let kind = u8::try_from(number(newest_key, 3)?).ok().and_then(ReceiptKind::from_number)?;
    Some((kind, ConversationId(number(newest_key, 1)?), UserId(number(newest_key, 2)?)))
}

/// The position of the last entry in a chunk.
pub(super) fn last_of(chunk_key: &[u8]) -> Option<Position> {
    number(chunk_key, 1).map(Position)
}

/// The user in the key of a user's row.
pub(super) fn user_of(user_key: &[u8]) -> Option<UserId> {
    number(user_key, 0).map(UserId)
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
    fn keys_of_chunks_lie_in_the_order_of_positions_and_give_them_back() {
        let key = |position| chunk(AppId(1), UserId(2), Position(position));
        assert!(key(255) < key(256));
        assert_eq!(last_of(&key(256)), Some(Position(256)));
        assert_eq!(last_of(b"short"), None);
    }

    #[test]
    fn the_last_answers_of_a_device_never_share_a_row_with_older_ones() {
        for highest in 256..600 {
            let rows = (highest - 255..=highest).map(|id| answer_group(SendId(id)));
            let groups: std::collections::BTreeSet<u64> = rows.collect();
            let keys: std::collections::BTreeSet<Key> =
                groups.iter().map(|&group| answers(AppId(1), UserId(1), DeviceId(1), group)).collect();
            assert_eq!(groups.len(), keys.len(), "up to {highest}");
        }
    }
}
