//! A user with its devices: one row, since they change together.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Reader, Record, put_bytes, put_number};
use crate::ids::{DeviceId, Position, SendId};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct UserRow {
    pub name: Arc<str>,
    pub head: Position,
    /// Every entry up to here was confirmed by some device, or expired.
    pub confirmed: Position,
    /// Every entry up to here is gone.
    pub trimmed: Position,
    /// Every message up to here is gone.
    pub expired: Position,
    /// Messages in the inbox.
    pub messages: u64,
    /// Oldest first. Most users have one: it lies in the row, for whoever looks at the row looks at it.
    pub devices: SmallVec<[DeviceRow; 1]>,
    /// Hash and expiry of one-time codes, oldest first.
    pub codes: Vec<([u8; 32], u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct DeviceRow {
    pub id: DeviceId,
    pub name: Arc<str>,
    pub key: Option<[u8; 32]>,
    /// Where it was linked: it covers what comes after.
    pub start: Position,
    pub cursor: Position,
    pub linked: u64,
    pub seen: u64,
    pub highest: SendId,
}

impl Record for UserRow {
    fn write(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.name.as_bytes());
        for number in [self.head.0, self.confirmed.0, self.trimmed.0, self.expired.0, self.messages] {
            put_number(out, number);
        }
        put_number(out, self.devices.len() as u64);
        for device in &self.devices {
            device.write(out);
        }
        put_number(out, self.codes.len() as u64);
        for (hash, expires) in &self.codes {
            out.extend_from_slice(hash);
            put_number(out, *expires);
        }
    }

    fn read(from: &mut Reader) -> Option<Self> {
        let (name, head, confirmed) = (from.text()?.into(), Position(from.number()?), Position(from.number()?));
        let (trimmed, expired) = (Position(from.number()?), Position(from.number()?));
        let messages = from.number()?;
        let devices = (0..from.number()?).map(|_| DeviceRow::read(from)).collect::<Option<_>>()?;
        let codes = (0..from.number()?).map(|_| Some((from.array()?, from.number()?))).collect::<Option<_>>()?;
        Some(UserRow { name, head, confirmed, trimmed, expired, messages, devices, codes })
    }
}

impl Record for DeviceRow {
    fn write(&self, out: &mut Vec<u8>) {
        put_number(out, self.id.0);
        put_bytes(out, self.name.as_bytes());
        out.push(u8::from(self.key.is_some()));
        out.extend_from_slice(self.key.as_ref().map_or(&[], |key| key));
        for number in [self.start.0, self.cursor.0, self.linked, self.seen, self.highest.0] {
            put_number(out, number);
        }
    }

    fn read(from: &mut Reader) -> Option<Self> {
        let (id, name) = (DeviceId(from.number()?), from.text()?.into());
        let key = match from.u8()? {
            0 => None,
            1 => Some(from.array()?),
            _ => return None,
        };
        Some(DeviceRow {
            id,
            name,
            key,
            start: Position(from.number()?),
            cursor: Position(from.number()?),
            linked: from.number()?,
            seen: from.number()?,
            highest: SendId(from.number()?),
        })
    }
}
