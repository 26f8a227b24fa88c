//! Whether the rows fit together: nothing refers to what is not there, and nothing is left behind.

use std::collections::{BTreeMap, BTreeSet};

use super::super::records::{AppRow, BodyRow, EntryContent, EntryRow, Number, Piece, Record, UserRow, unseal};
use super::super::view::Rows;
use super::super::{Engine, keys};
use crate::ids::{AppId, ConversationId, DeviceId, Position, SendId, Seq, UserId};

/// Checks every row of a store that nobody writes to meanwhile.
pub fn audit(engine: &Engine) {
    let rows = engine.rows.read().unwrap().clone().expect("open");
    for (key, row) in table::<AppRow>(&*rows, &keys::apps()) {
        app(&*rows, keys::app_of(&key).expect("an app's key"), &row);
    }
}

fn app(rows: &dyn Rows, app: AppId, row: &AppRow) {
    let users: BTreeMap<UserId, UserRow> = table(rows, &keys::users(app))
        .into_iter()
        .map(|(key, row)| (keys::user_of(&key).expect("a user's key"), row))
        .collect();
    assert_eq!(row.users, users.len() as u64);
    let names: BTreeSet<u64> = table(rows, &keys::user_names(app)).into_iter().map(|(_, Number(id))| id).collect();
    assert_eq!(names, users.keys().map(|user| user.0).collect());

    let mut references: BTreeMap<(ConversationId, Seq), u8> = BTreeMap::new();
    let (mut entries, mut newest, mut devices) = (0, 0, BTreeSet::new());
    for (&user, row) in &users {
        let inbox = table::<EntryRow>(rows, &prefix(&keys::entry(app, user, Position(0)), 8));
        entries += inbox.len();
        let mut messages = 0;
        for (key, entry) in inbox {
            match entry.content {
                EntryContent::Message(message) => {
                    messages += 1;
                    *references.entry((message.conversation, message.seq)).or_default() += 1;
                }
                EntryContent::Receipt(receipt) => {
                    newest += 1;
                    let at = keys::newest(app, user, receipt.kind, receipt.conversation, receipt.user);
                    let Number(position) =
                        unseal(&at, &rows.get(&at).unwrap().expect("the newest of its kind")).unwrap();
                    assert_eq!(Some(Position(position)), keys::position_of(&key));
                }
            }
        }
        assert_eq!(row.messages, messages);
        for &device in &row.devices {
            assert!(rows.get(&keys::device(app, user, device)).unwrap().is_some());
            devices.insert((user, device));
        }
    }
    let (a_user, a_device, a_position) = (UserId(0), DeviceId(0), Position(0));
    assert_eq!(count(rows, &prefix(&keys::entry(app, a_user, a_position), 16)), entries, "entries without a user");
    assert_eq!(count(rows, &prefix(&keys::all_newest(app, a_user), 8)), newest, "receipts without an entry");
    assert_eq!(count(rows, &prefix(&keys::device(app, a_user, a_device), 16)), devices.len(), "devices without a user");
    let answers = prefix(&keys::answer(app, a_user, a_device, SendId(0)), 18);
    for key in all_keys(rows, &answers) {
        let number = |at: usize| u64::from_be_bytes(key[at..at + 8].try_into().unwrap());
        assert!(devices.contains(&(UserId(number(5)), DeviceId(number(13)))), "answers without a device");
    }
    let mut bodies = 0;
    for ((conversation, seq), references) in references {
        let key = keys::body(app, conversation, seq, 0);
        let body: BodyRow = unseal(&key, &rows.get(&key).unwrap().expect("somebody refers to it")).unwrap();
        assert_eq!(body.references, references);
        for piece in 1..=body.more {
            let key = keys::body(app, conversation, seq, piece);
            unseal::<Piece>(&key, &rows.get(&key).unwrap().expect("a piece of it")).unwrap();
        }
        bodies += 1 + usize::from(body.more);
    }
    let all = prefix(&keys::body(app, ConversationId(0), Seq(0), 0), 18);
    assert_eq!(count(rows, &all), bodies, "bodies that nobody refers to");
}

/// A key without its last bytes.
fn prefix(key: &[u8], without: usize) -> Vec<u8> {
    key[..key.len() - without].to_vec()
}

fn count(rows: &dyn Rows, prefix: &[u8]) -> usize {
    all_keys(rows, prefix).len()
}

fn all_keys(rows: &dyn Rows, prefix: &[u8]) -> Vec<Vec<u8>> {
    let end = keys::after_prefix(prefix.to_vec());
    rows.scan(prefix, &end).map(|row| row.unwrap().0.to_vec()).collect()
}

fn table<R: Record>(rows: &dyn Rows, prefix: &[u8]) -> Vec<(Vec<u8>, R)> {
    let end = keys::after_prefix(prefix.to_vec());
    let row = |row: Result<(bytes::Bytes, bytes::Bytes), _>| {
        let (key, value) = row.unwrap();
        let record = unseal(&key, &value).unwrap();
        (key.to_vec(), record)
    };
    rows.scan(prefix, &end).map(row).collect()
}
