//! The hot server frames, written straight into an output buffer.
//!
//! A message is encoded once, when it is committed ([`message`]); each recipient's `Deliver` frame is that encoding
//! behind a few bytes of its own ([`deliver_message`]). A test holds every function here equal to prost's encoding.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::limits::LENGTH_PREFIX_BYTES;
use crate::wire;

/// Field numbers of `ServerFrame` and `Deliver` used here; the equality test keeps them true.
mod field {
    /// Of `Message`.
    pub mod message {
        pub const CONVERSATION: u32 = 1;
        pub const SEQ: u32 = 2;
        pub const SENDER: u32 = 3;
        pub const RECIPIENT: u32 = 4;
        pub const TIME: u32 = 5;
        pub const CONTENT: u32 = 6;
    }

    pub const ACK: u32 = 3;
    pub const DELIVER: u32 = 5;
    pub const POSITION: u32 = 1;
    pub const MESSAGE: u32 = 2;
}

/// A [`wire::Message`] in parts that lie elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct MessageParts<'a> {
    /// Its conversation.
    pub conversation: u64,
    /// Its number there.
    pub seq: u64,
    /// Who sent it.
    pub sender: &'a str,
    /// The other user of the conversation.
    pub recipient: &'a str,
    /// When it was committed, in milliseconds since 1970.
    pub time: u64,
    /// Opaque.
    pub content: &'a [u8],
}

/// The protobuf encoding of one message: what the store keeps and [`deliver_message`] sends.
#[must_use]
pub fn message(message: &wire::Message) -> Bytes {
    message.encode_to_vec().into()
}

/// The same of a message in parts.
#[must_use]
pub fn message_of(message: MessageParts<'_>) -> Bytes {
    match message.encoded_len() {
        length @ ..=64 => Short::<64>::holding(length, message),
        length @ ..=96 => Short::<96>::holding(length, message),
        length @ ..=128 => Short::<128>::holding(length, message),
        length @ ..=160 => Short::<160>::holding(length, message),
        length @ ..=192 => Short::<192>::holding(length, message),
        length @ ..=256 => Short::<256>::holding(length, message),
        length => {
            let mut out = Vec::with_capacity(length);
            message.put(&mut out);
            out.into()
        }
    }
}

impl MessageParts<'_> {
    fn encoded_len(&self) -> usize {
        use field::message as field;
        uint64_len(field::CONVERSATION, self.conversation)
            + uint64_len(field::SEQ, self.seq)
            + bytes_len(field::SENDER, self.sender.as_bytes())
            + bytes_len(field::RECIPIENT, self.recipient.as_bytes())
            + uint64_len(field::TIME, self.time)
            + bytes_len(field::CONTENT, self.content)
    }

    fn put(&self, out: &mut impl BufMut) {
        use field::message as field;
        put_uint64(field::CONVERSATION, self.conversation, out);
        put_uint64(field::SEQ, self.seq, out);
        put_bytes(field::SENDER, self.sender.as_bytes(), out);
        put_bytes(field::RECIPIENT, self.recipient.as_bytes(), out);
        put_uint64(field::TIME, self.time, out);
        put_bytes(field::CONTENT, self.content, out);
    }
}

/// The encoding of a short message, in the same piece of memory as the count of those who share it: most messages are
/// short, and each is shared.
struct Short<const ROOM: usize> {
    length: usize,
    bytes: [u8; ROOM],
}

impl<const ROOM: usize> Short<ROOM> {
    fn holding(length: usize, message: MessageParts<'_>) -> Bytes {
        let mut short = Self { length, bytes: [0; ROOM] };
        message.put(&mut &mut short.bytes[..]);
        Bytes::from_owner(short)
    }
}

impl<const ROOM: usize> AsRef<[u8]> for Short<ROOM> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Appends the frame `Deliver { position, message }` around an already encoded message.
pub fn deliver_message(position: u64, message: &[u8], out: &mut BytesMut) {
    let message_len = key_len(field::MESSAGE) + encoded_len_varint(message.len() as u64) + message.len();
    let deliver_len = uint64_len(field::POSITION, position) + message_len;
    put_frame_head(field::DELIVER, deliver_len, out);
    put_uint64(field::POSITION, position, out);
    put_len_key(field::MESSAGE, message.len(), out);
    out.put_slice(message);
}

/// Appends the frame `Ack`.
pub fn ack(ack: &wire::Ack, out: &mut BytesMut) {
    put_frame_head(field::ACK, ack.encoded_len(), out);
    ack.encode_raw(out);
}

/// Length prefix, then key and length of the only field of `ServerFrame`.
fn put_frame_head(number: u32, body_len: usize, out: &mut BytesMut) {
    let frame_len = key_len(number) + encoded_len_varint(body_len as u64) + body_len;
    out.reserve(LENGTH_PREFIX_BYTES + frame_len);
    out.put_u32(u32::try_from(frame_len).expect("frames are bounded far below 4 GiB"));
    put_len_key(number, body_len, out);
}

fn put_len_key(number: u32, len: usize, out: &mut impl BufMut) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

/// Nothing for an empty value, as protobuf has it.
fn put_bytes(number: u32, value: &[u8], out: &mut impl BufMut) {
    if !value.is_empty() {
        put_len_key(number, value.len(), out);
        out.put_slice(value);
    }
}

fn bytes_len(number: u32, value: &[u8]) -> usize {
    if value.is_empty() { 0 } else { key_len(number) + encoded_len_varint(value.len() as u64) + value.len() }
}

fn put_uint64(number: u32, value: u64, out: &mut impl BufMut) {
    if value != 0 {
        encode_key(number, WireType::Varint, out);
        encode_varint(value, out);
    }
}

fn uint64_len(number: u32, value: u64) -> usize {
    if value == 0 { 0 } else { key_len(number) + encoded_len_varint(value) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame;
    use crate::wire::{ServerFrame, deliver, server_frame};

    proptest! {
        #[test]
        fn the_short_cuts_write_what_prost_writes(
            position in any::<u64>(), conversation in any::<u64>(), seq in any::<u64>(), time in any::<u64>(),
            sender in ".{0,20}", content in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let wanted = wire::Message {
                conversation, seq, sender, recipient: "bob".into(), time, content: content.into(),
            };
            let parts = MessageParts {
                conversation, seq, sender: &wanted.sender, recipient: &wanted.recipient, time, content: &wanted.content,
            };
            prop_assert_eq!(message_of(parts), message(&wanted));
            let mut ours = BytesMut::new();
            deliver_message(position, &message(&wanted), &mut ours);
            let ack_frame = wire::Ack { send_id: position, conversation, seq, time };
            ack(&ack_frame, &mut ours);

            let mut theirs = BytesMut::new();
            let entry = Some(deliver::Entry::Message(wanted));
            let body = Some(server_frame::Body::Deliver(wire::Deliver { position, entry }));
            frame::put(&ServerFrame { body }, &mut theirs);
            frame::put(&ServerFrame { body: Some(server_frame::Body::Ack(ack_frame)) }, &mut theirs);
            prop_assert_eq!(ours, theirs);
        }
    }
}
