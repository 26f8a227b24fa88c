//! A user with its devices: one row, since they change together.

use smallvec::SmallVec;
use smol_str::SmolStr;

use super::{NUMBER_BYTES, Reader, Record, put_bytes, put_number};
use crate::ids::{DeviceId, Position, SendId};

/// In this order in memory: the numbers that every message moves lie together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(in super::super) struct UserRow {
    pub head: Position,
    /// Every entry up to here was confirmed by some device, or expired.
    pub confirmed: Position,
    /// Every entry up to here is gone.
    pub trimmed: Position,
    /// Every message up to here is gone.
    pub expired: Position,
    /// Messages in the inbox.
    pub messages: u64,
    pub name: SmolStr,
    /// Oldest first. Most users have one: it lies in the row, for whoever looks at the row looks at it.
    pub devices: SmallVec<[DeviceRow; 1]>,
    /// Hash and expiry of one-time codes, oldest first.
    pub codes: Vec<([u8; 32], u64)>,
}

/// In this order in memory, as [`UserRow`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
pub(in super::super) struct DeviceRow {
    pub id: DeviceId,
    pub cursor: Position,
    pub seen: u64,
    pub highest: SendId,
    /// Where it was linked: it covers what comes after.
    pub start: Position,
    pub linked: u64,
    pub name: SmolStr,
    pub key: Option<[u8; 32]>,
}

/// The numbers of a user and of its devices that move with every message. A user's name, its codes, and which devices it has
/// stay as they are.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct UserMoves {
    numbers: [u64; 5],
    devices: SmallVec<[DeviceMoves; 1]>,
}

#[derive(Debug, PartialEq, Eq)]
struct DeviceMoves {
    id: DeviceId,
    cursor: Position,
    seen: u64,
    highest: SendId,
}

impl UserRow {
    fn numbers(&self) -> [u64; 5] {
        [self.head.0, self.confirmed.0, self.trimmed.0, self.expired.0, self.messages]
    }

    /// Takes the numbers; `false` when those of its devices are of others than it has: what both have is taken.
    pub(in super::super) fn take_moves(&mut self, moves: UserMoves) -> bool {
        let [head, confirmed, trimmed, expired, messages] = moves.numbers;
        (self.head, self.confirmed) = (Position(head), Position(confirmed));
        (self.trimmed, self.expired, self.messages) = (Position(trimmed), Position(expired), messages);
        let mut taken = 0;
        for moved in &moves.devices {
            if let Some(device) = self.devices.iter_mut().find(|device| device.id == moved.id) {
                (device.cursor, device.seen, device.highest) = (moved.cursor, moved.seen, moved.highest);
                taken += 1;
            }
        }
        taken == moves.devices.len() && taken == self.devices.len()
    }
}

impl UserMoves {
    pub(in super::super) fn of(row: &UserRow) -> Self {
        UserMoves { numbers: row.numbers(), devices: row.devices.iter().map(DeviceMoves::of).collect() }
    }

    /// Makes them those of a row, whose user they are of.
    #[inline]
    pub(in super::super) fn take(&mut self, row: &UserRow) {
        match (&mut self.devices[..], &row.devices[..]) {
            // Most users have one, and most groups change them more than once.
            ([ours], [theirs]) => {
                self.numbers = row.numbers();
                *ours = DeviceMoves::of(theirs);
            }
            _ => *self = UserMoves::of(row),
        }
    }

    /// It takes no more bytes than this.
    pub(in super::super) fn most_bytes(&self) -> usize {
        NUMBER_BYTES * (self.numbers.len() + 1 + 4 * self.devices.len())
    }
}

impl Record for UserMoves {
    fn write(&self, out: &mut Vec<u8>) {
        for number in self.numbers {
            put_number(out, number);
        }
        put_number(out, self.devices.len() as u64);
        for device in &self.devices {
            for number in [device.id.0, device.cursor.0, device.seen, device.highest.0] {
                put_number(out, number);
            }
        }
    }

    fn read(from: &mut Reader) -> Option<Self> {
        let mut numbers = [0; 5];
        for number in &mut numbers {
            *number = from.number()?;
        }
        let devices = (0..from.number()?).map(|_| DeviceMoves::read(from)).collect::<Option<_>>()?;
        Some(UserMoves { numbers, devices })
    }
}

impl DeviceMoves {
    fn of(device: &DeviceRow) -> Self {
        DeviceMoves { id: device.id, cursor: device.cursor, seen: device.seen, highest: device.highest }
    }

    fn read(from: &mut Reader) -> Option<Self> {
        Some(DeviceMoves {
            id: DeviceId(from.number()?),
            cursor: Position(from.number()?),
            seen: from.number()?,
            highest: SendId(from.number()?),
        })
    }
}

impl Record for UserRow {
    fn write(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.name.as_bytes());
        for number in self.numbers() {
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn device(id: u64, [start, cursor, linked, seen, highest]: [u64; 5]) -> DeviceRow {
        DeviceRow {
            id: DeviceId(id),
            name: format!("device {id}").as_str().into(),
            key: id.is_multiple_of(2).then_some([id as u8; 32]),
            start: Position(start),
            cursor: Position(cursor),
            linked,
            seen,
            highest: SendId(highest),
        }
    }

    fn row([head, confirmed, trimmed, expired, messages]: [u64; 5], devices: &[[u64; 5]]) -> UserRow {
        UserRow {
            name: "alice".into(),
            head: Position(head),
            confirmed: Position(confirmed),
            trimmed: Position(trimmed),
            expired: Position(expired),
            messages,
            devices: (1..).zip(devices).map(|(id, numbers)| device(id, *numbers)).collect(),
            codes: vec![([7; 32], 9)],
        }
    }

    fn moves_of(row: &UserRow) -> UserMoves {
        let (moves, mut bytes) = (UserMoves::of(row), Vec::new());
        moves.write(&mut bytes);
        assert!(bytes.len() <= moves.most_bytes());
        let mut from = Reader(Bytes::from(bytes));
        let moves = UserMoves::read(&mut from).expect("what was written");
        assert!(from.is_empty());
        moves
    }

    proptest! {
        #[test]
        fn with_its_moves_a_row_is_as_it_was_when_they_were_written(
            before: [u64; 5],
            after: [u64; 5],
            mut devices in proptest::collection::vec(any::<([u64; 5], [u64; 5])>(), 0..4),
        ) {
            for (before, after) in &mut devices {
                // Where and when a device was linked stays.
                (after[0], after[2]) = (before[0], before[2]);
            }
            let (devices, moved): (Vec<_>, Vec<_>) = devices.into_iter().unzip();
            let (mut row_before, row_after) = (row(before, &devices), row(after, &moved));
            prop_assert!(row_before.take_moves(moves_of(&row_after)));
            prop_assert_eq!(row_before, row_after);
        }
    }

    #[test]
    fn moves_of_other_devices_than_a_row_has_are_told_and_those_of_both_taken() {
        let three = row([1; 5], &[[2; 5], [3; 5], [4; 5]]);
        for has in [&three.devices[..2], &three.devices[1..]] {
            let mut other = row([9; 5], &[]);
            other.devices.extend(has.iter().cloned().map(|device| DeviceRow { cursor: Position(0), ..device }));
            assert!(!other.take_moves(moves_of(&three)));
            assert_eq!(&other.devices[..], has);
            let mut more = row([9; 5], &[[2; 5], [3; 5], [4; 5]]);
            assert!(!more.take_moves(moves_of(&UserRow { devices: has.into(), ..three.clone() })));
        }
    }
}
