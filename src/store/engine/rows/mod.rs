//! Rows: how what the store keeps is written, in the journal and in sled.
//!
//! Numbers are LEB128 varints, text and bytes stand behind their length. In sled a row is a CRC32C over key and payload,
//! then the payload; in the journal a whole record has one checksum. Reading is total: whatever does not decode to its
//! last byte is [`StoreError::Corrupt`].
//!
//! # Layout
//! - this file: the codec, sealing
//! - `app`, `user`, `conversation`, `answer`, `entry`: one kind of row each

mod answer;
mod app;
mod conversation;
mod entry;
mod user;

use std::fmt;

use bytes::{Buf, Bytes};
use prost::encoding::decode_varint;

pub(super) use self::answer::{AnswerRow, AnswerWords, Answers};
pub(super) use self::app::AppRow;
pub(super) use self::conversation::ConversationRow;
pub(super) use self::entry::{Body, Chunk, Content, Entry, MessageFacts, ReceiptFacts, ReceiptKind};
pub(super) use self::user::{DeviceRow, UserMoves, UserRow};
use super::keys;
use crate::store::StoreError;

const CRC_BYTES: usize = 4;

/// Bytes of a number at most.
const NUMBER_BYTES: usize = 10;

/// One kind of row.
pub(super) trait Record: Sized {
    fn write(&self, out: &mut Vec<u8>);
    fn read(from: &mut Reader) -> Option<Self>;
}

/// A number on its own: an id that a name stands for, or a position.
pub(super) struct Number(pub u64);

/// A piece of a message that is too large to lie in its inbox's chunk.
pub(super) struct Piece(pub Bytes);

/// How far the journal goes: all before this byte of this segment is on stable storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reach {
    pub segment: u64,
    pub byte: u64,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} of segment {}", self.byte, self.segment)
    }
}

/// The value to keep under `key`.
pub(super) fn seal(key: &[u8], record: &impl Record) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(&[0; CRC_BYTES]);
    record.write(&mut out);
    let crc = checksum(key, &out[CRC_BYTES..]);
    out[..CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
    out
}

/// What was kept under `key`.
///
/// # Errors
/// [`StoreError::Corrupt`] when it is not what was written there.
pub(super) fn unseal<R: Record>(key: &[u8], mut value: Bytes) -> Result<R, StoreError> {
    let (crc, payload) = value.split_first_chunk().ok_or_else(|| corrupt(key))?;
    if u32::from_le_bytes(*crc) != checksum(key, payload) {
        return Err(corrupt(key));
    }
    value.advance(CRC_BYTES);
    let mut reader = Reader(value);
    match R::read(&mut reader) {
        Some(record) if reader.is_empty() => Ok(record),
        _ => Err(corrupt(key)),
    }
}

/// The row under `key` is not what it should be.
pub(super) fn corrupt(key: &[u8]) -> StoreError {
    let hex = data_encoding::HEXLOWER.encode(key);
    let table = keys::table_of(key);
    StoreError::Corrupt(format!("the row {hex} (of {table}) is not what was written"))
}

fn checksum(key: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), payload)
}

/// Appends a varint as prost's `encode_varint` writes it. Numbers are most of what a group is made of, seventy for a message.
#[inline]
pub(super) fn put_number(out: &mut Vec<u8>, number: u64) {
    match number {
        0..0x80 => out.push(number as u8),
        0x80..=0x00ff_ffff_ffff_ffff => put_word(out, number),
        _ => put_large(out, number),
    }
}

/// A number that takes up to eight bytes: its groups of seven bits are spread over a word at once, and copied whole.
fn put_word(out: &mut Vec<u8>, number: u64) {
    let length = number.ilog2() as usize / 7 + 1;
    let pairs = ((number & 0x00ff_ffff_f000_0000) << 4) | (number & 0x0fff_ffff);
    let fours = ((pairs & 0x0fff_c000_0fff_c000) << 2) | (pairs & 0x0000_3fff_0000_3fff);
    let groups = ((fours & 0x3f80_3f80_3f80_3f80) << 1) | (fours & 0x007f_007f_007f_007f);
    let goes_on = 0x8080_8080_8080_8080 & ((1 << (8 * (length - 1))) - 1);
    let end = out.len() + length;
    out.extend_from_slice(&(groups | goes_on).to_le_bytes());
    out.truncate(end);
}

/// A number that takes more.
#[cold]
fn put_large(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Bytes being read; what it gives out shares their memory.
pub(super) struct Reader(pub Bytes);

impl Reader {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.0.try_get_u8().ok()
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        decode_varint(&mut self.0).ok()
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.0.first_chunk()?;
        self.0.advance(N);
        Some(array)
    }

    pub(super) fn bytes(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.number()?).ok()?;
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    pub(super) fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.0)
    }
}

impl Record for Number {
    fn write(&self, out: &mut Vec<u8>) {
        put_number(out, self.0);
    }

    fn read(from: &mut Reader) -> Option<Self> {
        from.number().map(Number)
    }
}

impl Record for Reach {
    fn write(&self, out: &mut Vec<u8>) {
        put_number(out, self.segment);
        put_number(out, self.byte);
    }

    fn read(from: &mut Reader) -> Option<Self> {
        Some(Reach { segment: from.number()?, byte: from.number()? })
    }
}

impl Record for Piece {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn read(from: &mut Reader) -> Option<Self> {
        Some(Piece(from.rest()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smallvec::SmallVec;

    use super::*;
    use crate::ids::Position;

    proptest! {
        #[test]
        fn numbers_are_written_as_protobuf_writes_them(number in any::<u64>(), bits in 0u32..64) {
            for number in [number, number >> bits] {
                let (mut ours, mut theirs) = (vec![7], vec![7]);
                put_number(&mut ours, number);
                prost::encoding::encode_varint(number, &mut theirs);
                prop_assert_eq!(ours, theirs);
            }
        }

        #[test]
        fn a_flipped_bit_or_a_value_under_another_key_is_corrupt_and_never_served(
            name in ".{0,20}", numbers in any::<[u64; 4]>(), bit in any::<prop::sample::Index>(),
        ) {
            let row = UserRow {
                name: name.as_str().into(),
                head: Position(numbers[0]),
                messages: numbers[1],
                devices: SmallVec::new(),
                codes: vec![([3; 32], numbers[3])],
                ..UserRow::default()
            };
            let mut value = seal(b"key", &row);
            let back: UserRow = unseal(b"key", value.clone().into()).expect("as written");
            prop_assert_eq!(&back, &row);
            prop_assert!(unseal::<UserRow>(b"kez", value.clone().into()).is_err());
            let bit = bit.index(value.len() * 8);
            value[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(unseal::<UserRow>(b"key", value.into()).is_err());
        }

        #[test]
        fn any_bytes_are_a_row_or_corrupt(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut value = vec![0; CRC_BYTES];
            value.extend_from_slice(&bytes);
            value[..CRC_BYTES].copy_from_slice(&checksum(b"key", &bytes).to_le_bytes());
            let value = Bytes::from(value);
            let _ = unseal::<UserRow>(b"key", value.clone());
            let _ = unseal::<AppRow>(b"key", value.clone());
            let _ = unseal::<ConversationRow>(b"key", value.clone());
            let _ = unseal::<Answers>(b"key", value.clone());
            let _ = unseal::<Chunk>(b"key", value);
        }
    }
}
