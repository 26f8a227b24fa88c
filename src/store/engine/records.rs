//! Rows: what is kept under each key, and how it is written.
//!
//! A value is a CRC32C over key and payload, then the payload: integers little-endian and of fixed width, text behind
//! its length. Reading is total: whatever does not decode to the last byte is [`StoreError::Corrupt`].

use bytes::Bytes;

use crate::ids::{AppId, ConversationId, DeviceId, Position, SendId, Seq, UserId};
use crate::store::{Answer, Item, Receipt, Refusal, StoreError};

const CRC_BYTES: usize = 4;

/// One kind of row.
pub(super) trait Record: Sized {
    fn write(&self, out: &mut Writer);
    fn read(from: &mut Reader<'_>) -> Option<Self>;
}

#[derive(Default)]
pub(super) struct AppRow {
    pub name: String,
    pub last_user: u64,
    pub last_device: u64,
    pub last_conversation: u64,
    pub users: u64,
}

#[derive(Default)]
pub(super) struct UserRow {
    pub name: String,
    pub head: Position,
    /// Every entry up to here was confirmed by some device, or expired.
    pub confirmed: Position,
    /// Every entry up to here is gone.
    pub trimmed: Position,
    /// Message entries in the inbox.
    pub messages: u64,
    /// Oldest first.
    pub devices: Vec<DeviceId>,
    /// Hash and expiry of one-time codes, oldest first.
    pub codes: Vec<([u8; 32], u64)>,
}

pub(super) struct DeviceRow {
    pub name: String,
    pub key: Option<[u8; 32]>,
    /// Where it was linked: it covers what comes after.
    pub start: Position,
    pub cursor: Position,
    pub linked: u64,
    pub seen: u64,
    pub highest: SendId,
}

pub(super) struct AnswerRow {
    pub fingerprint: u64,
    pub answer: Answer,
}

pub(super) struct ConversationRow {
    /// The same user twice for notes to oneself.
    pub members: [UserId; 2],
    pub head: Seq,
    /// Of the members, in their order; the first counts in notes to oneself.
    pub marks: [Marks; 2],
}

#[derive(Clone, Copy, Default)]
pub(super) struct Marks {
    pub delivered: Seq,
    pub read: Seq,
    /// What the user's devices said they have read, however much of it is confirmed.
    pub wanted: Seq,
}

pub(super) struct EntryRow {
    pub origin: DeviceId,
    pub content: EntryContent,
}

pub(super) enum EntryContent {
    Message(MessageFacts),
    Receipt(ReceiptFacts),
}

/// What the sequencer must know of a message; the message itself is a body row.
#[derive(Clone, Copy)]
pub(super) struct MessageFacts {
    pub conversation: ConversationId,
    pub seq: Seq,
    pub sender: UserId,
    pub time: u64,
}

#[derive(Clone)]
pub(super) struct ReceiptFacts {
    pub kind: ReceiptKind,
    pub conversation: ConversationId,
    pub user: UserId,
    /// The user may be gone when this is read.
    pub name: String,
    pub seq: Seq,
}

/// Never renumbered: they are on disk.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum ReceiptKind {
    Delivered = 1,
    Read = 2,
    Expired = 3,
}

/// The first piece of a message's encoding, with what is to be known of all of it.
pub(super) struct BodyRow {
    /// Inbox entries that refer to it.
    pub references: u8,
    /// How many pieces follow under their own keys.
    pub more: u16,
    pub piece: Vec<u8>,
}

/// A number on its own: an id that a name stands for, or a position.
pub(super) struct Number(pub u64);

/// A further piece of a body.
pub(super) struct Piece(pub Vec<u8>);

/// The value to keep under `key`.
pub(super) fn seal(key: &[u8], record: &impl Record) -> Vec<u8> {
    let mut out = Writer(Vec::with_capacity(96));
    out.0.extend_from_slice(&[0; CRC_BYTES]);
    record.write(&mut out);
    let crc = checksum(key, &out.0[CRC_BYTES..]);
    out.0[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
    out.0
}

/// What was kept under `key`.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is not what was written there.
pub(super) fn unseal<R: Record>(key: &[u8], value: &[u8]) -> Result<R, StoreError> {
    let (crc, payload) = value.split_first_chunk().ok_or_else(|| corrupt(key))?;
    if u32::from_le_bytes(*crc) != checksum(key, payload) {
        return Err(corrupt(key));
    }
    let mut reader = Reader(payload);
    match R::read(&mut reader) {
        Some(record) if reader.0.is_empty() => Ok(record),
        _ => Err(corrupt(key)),
    }
}

/// The row under `key` is not what it should be.
pub(super) fn corrupt(key: &[u8]) -> StoreError {
    let hex = data_encoding::HEXLOWER.encode(key);
    StoreError::Corrupt(format!("the row {hex} is not what was written"))
}

fn checksum(key: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), payload)
}

pub(super) struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Names are bounded by 64 bytes at the edge; a longer one that got here anyway is cut, never mistaken.
    fn text(&mut self, value: &str) {
        let mut length = value.len().min(usize::from(u16::MAX));
        while !value.is_char_boundary(length) {
            length -= 1;
        }
        self.u16(length as u16);
        self.0.extend_from_slice(&value.as_bytes()[..length]);
    }

    fn bytes(&mut self, value: &[u8]) {
        self.0.extend_from_slice(value);
    }
}

pub(super) struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::from(self.u16()?);
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }

    fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).to_vec()
    }
}

impl Record for Number {
    fn write(&self, out: &mut Writer) {
        out.u64(self.0);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.u64().map(Number)
    }
}

impl Number {
    pub(super) fn app(&self) -> Option<AppId> {
        u32::try_from(self.0).ok().map(AppId)
    }
}

impl Record for Piece {
    fn write(&self, out: &mut Writer) {
        out.bytes(&self.0);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Piece(from.rest()))
    }
}

impl Record for AppRow {
    fn write(&self, out: &mut Writer) {
        out.text(&self.name);
        for number in [self.last_user, self.last_device, self.last_conversation, self.users] {
            out.u64(number);
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(AppRow {
            name: from.text()?,
            last_user: from.u64()?,
            last_device: from.u64()?,
            last_conversation: from.u64()?,
            users: from.u64()?,
        })
    }
}

impl Record for UserRow {
    fn write(&self, out: &mut Writer) {
        out.text(&self.name);
        out.u64(self.head.0);
        out.u64(self.confirmed.0);
        out.u64(self.trimmed.0);
        out.u64(self.messages);
        // Both are bounded far below 65,536.
        out.u16(self.devices.len() as u16);
        for device in &self.devices {
            out.u64(device.0);
        }
        out.u16(self.codes.len() as u16);
        for (hash, expires) in &self.codes {
            out.bytes(hash);
            out.u64(*expires);
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let (name, head, confirmed) = (from.text()?, Position(from.u64()?), Position(from.u64()?));
        let (trimmed, messages) = (Position(from.u64()?), from.u64()?);
        let devices = (0..from.u16()?).map(|_| from.u64().map(DeviceId)).collect::<Option<_>>()?;
        let codes = (0..from.u16()?).map(|_| Some((from.array()?, from.u64()?))).collect::<Option<_>>()?;
        Some(UserRow { name, head, confirmed, trimmed, messages, devices, codes })
    }
}

impl Record for DeviceRow {
    fn write(&self, out: &mut Writer) {
        out.text(&self.name);
        out.u8(u8::from(self.key.is_some()));
        out.bytes(self.key.as_ref().map_or(&[], |key| key));
        for number in [self.start.0, self.cursor.0, self.linked, self.seen, self.highest.0] {
            out.u64(number);
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let name = from.text()?;
        let key = match from.u8()? {
            0 => None,
            1 => Some(from.array()?),
            _ => return None,
        };
        Some(DeviceRow {
            name,
            key,
            start: Position(from.u64()?),
            cursor: Position(from.u64()?),
            linked: from.u64()?,
            seen: from.u64()?,
            highest: SendId(from.u64()?),
        })
    }
}

impl Record for AnswerRow {
    fn write(&self, out: &mut Writer) {
        out.u64(self.fingerprint);
        match self.answer {
            Answer::Ack { send_id, conversation, seq, time } => {
                out.u8(0);
                for number in [send_id.0, conversation.0, seq.0, time] {
                    out.u64(number);
                }
            }
            Answer::Refused { send_id, refusal } => {
                out.u8(1);
                out.u64(send_id.0);
                out.u64(u64::from(refusal.number()));
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let fingerprint = from.u64()?;
        let (kind, send_id) = (from.u8()?, SendId(from.u64()?));
        let answer = match kind {
            0 => Answer::Ack {
                send_id,
                conversation: ConversationId(from.u64()?),
                seq: Seq(from.u64()?),
                time: from.u64()?,
            },
            1 => Answer::Refused { send_id, refusal: Refusal::from_number(u32::try_from(from.u64()?).ok()?)? },
            _ => return None,
        };
        Some(AnswerRow { fingerprint, answer })
    }
}

impl Record for ConversationRow {
    fn write(&self, out: &mut Writer) {
        out.u64(self.head.0);
        for (member, marks) in self.members.iter().zip(&self.marks) {
            for number in [member.0, marks.delivered.0, marks.read.0, marks.wanted.0] {
                out.u64(number);
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let head = Seq(from.u64()?);
        let mut member = || {
            let user = UserId(from.u64()?);
            Some((user, Marks { delivered: Seq(from.u64()?), read: Seq(from.u64()?), wanted: Seq(from.u64()?) }))
        };
        let ((a, marks_a), (b, marks_b)) = (member()?, member()?);
        Some(ConversationRow { members: [a, b], head, marks: [marks_a, marks_b] })
    }
}

impl ConversationRow {
    /// Whose turn in `members` and `marks` this user has; `None` for who is not a member.
    pub(super) fn index(&self, user: UserId) -> Option<usize> {
        self.members.iter().position(|member| *member == user)
    }

    /// The other member; oneself in notes to oneself. `None` for who is not a member.
    pub(super) fn other(&self, user: UserId) -> Option<UserId> {
        self.index(user).map(|index| self.members[1 - index])
    }
}

impl Record for EntryRow {
    fn write(&self, out: &mut Writer) {
        out.u64(self.origin.0);
        match &self.content {
            EntryContent::Message(MessageFacts { conversation, seq, sender, time }) => {
                out.u8(0);
                for number in [conversation.0, seq.0, sender.0, *time] {
                    out.u64(number);
                }
            }
            EntryContent::Receipt(ReceiptFacts { kind, conversation, user, name, seq }) => {
                out.u8(*kind as u8);
                for number in [conversation.0, seq.0, user.0] {
                    out.u64(number);
                }
                out.text(name);
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let (origin, kind) = (DeviceId(from.u64()?), from.u8()?);
        let (conversation, seq) = (ConversationId(from.u64()?), Seq(from.u64()?));
        let user = UserId(from.u64()?);
        let receipt = |kind, name| EntryContent::Receipt(ReceiptFacts { kind, conversation, user, name, seq });
        let content = match kind {
            0 => EntryContent::Message(MessageFacts { conversation, seq, sender: user, time: from.u64()? }),
            1 => receipt(ReceiptKind::Delivered, from.text()?),
            2 => receipt(ReceiptKind::Read, from.text()?),
            3 => receipt(ReceiptKind::Expired, from.text()?),
            _ => return None,
        };
        Some(EntryRow { origin, content })
    }
}

impl EntryContent {
    /// What the entry says; `encoded` is the body of a message and unused for receipts.
    pub(super) fn into_item(self, encoded: Bytes) -> Item {
        let facts = match self {
            EntryContent::Message(_) => return Item::Message(encoded),
            EntryContent::Receipt(facts) => facts,
        };
        let receipt = Receipt { conversation: facts.conversation, user: facts.name, seq: facts.seq };
        match facts.kind {
            ReceiptKind::Delivered => Item::Delivered(receipt),
            ReceiptKind::Read => Item::Read(receipt),
            ReceiptKind::Expired => Item::Expired(receipt),
        }
    }
}

impl Record for BodyRow {
    fn write(&self, out: &mut Writer) {
        out.u8(self.references);
        out.u16(self.more);
        out.bytes(&self.piece);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(BodyRow { references: from.u8()?, more: from.u16()?, piece: from.rest() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_flipped_bit_or_a_value_under_another_key_is_corrupt_and_never_served(
            name in ".{0,20}", numbers in any::<[u64; 4]>(), bit in any::<prop::sample::Index>(),
        ) {
            let row = UserRow {
                name,
                head: Position(numbers[0]),
                messages: numbers[1],
                devices: vec![DeviceId(numbers[2])],
                codes: vec![([3; 32], numbers[3])],
                ..UserRow::default()
            };
            let mut value = seal(b"key", &row);
            let back: UserRow = unseal(b"key", &value).expect("as written");
            prop_assert_eq!((back.name, back.head, back.codes), (row.name, row.head, row.codes));
            prop_assert!(unseal::<UserRow>(b"kez", &value).is_err());
            let bit = bit.index(value.len() * 8);
            value[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(unseal::<UserRow>(b"key", &value).is_err());
        }

        #[test]
        fn any_bytes_under_a_right_checksum_decode_or_are_corrupt(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let sealed = seal(b"key", &Piece(payload));
            let _ = unseal::<AppRow>(b"key", &sealed);
            let _ = unseal::<UserRow>(b"key", &sealed);
            let _ = unseal::<DeviceRow>(b"key", &sealed);
            let _ = unseal::<AnswerRow>(b"key", &sealed);
            let _ = unseal::<ConversationRow>(b"key", &sealed);
            let _ = unseal::<EntryRow>(b"key", &sealed);
            let _ = unseal::<BodyRow>(b"key", &sealed);
        }
    }
}
