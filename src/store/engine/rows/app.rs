//! An app: its name and the numbers it has given.

use super::{Reader, Record, put_bytes, put_number};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct AppRow {
    pub name: String,
    pub last_user: u64,
    pub last_device: u64,
    pub last_conversation: u64,
    pub users: u64,
}

impl Record for AppRow {
    fn write(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.name.as_bytes());
        for number in [self.last_user, self.last_device, self.last_conversation, self.users] {
            put_number(out, number);
        }
    }

    fn read(from: &mut Reader) -> Option<Self> {
        Some(AppRow {
            name: from.text()?,
            last_user: from.number()?,
            last_device: from.number()?,
            last_conversation: from.number()?,
            users: from.number()?,
        })
    }
}
