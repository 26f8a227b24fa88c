//! Frames that no version 1 server makes, and that every client must outlive.

use prost::encoding::{WireType, encode_key, encode_varint};

/// A field number that version 1 does not use anywhere.
const NEW: u32 = 1999;

/// `ServerFrame.deliver`, `Deliver.position` and `Deliver.message`.
const DELIVER: u32 = 5;
const POSITION: u32 = 1;
const MESSAGE: u32 = 2;

/// A `Content` of a kind that does not exist.
pub const NEW_CONTENT: &[u8] = b"\xfa\x7c\x03new";

fn number(field: u32, value: u64, out: &mut Vec<u8>) {
    encode_key(field, WireType::Varint, out);
    encode_varint(value, out);
}

fn bytes(field: u32, value: &[u8], out: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, out);
    encode_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), body].concat()
}

/// A frame with a body of a later version.
pub fn unknown_body() -> Vec<u8> {
    let mut body = Vec::new();
    bytes(NEW, b"a body of a later version", &mut body);
    framed(&body)
}

/// A `Deliver` of an entry of a later version.
pub fn unknown_entry(position: u64) -> Vec<u8> {
    let mut deliver = Vec::new();
    number(POSITION, position, &mut deliver);
    bytes(NEW, b"an entry of a later version", &mut deliver);
    let mut body = Vec::new();
    bytes(DELIVER, &deliver, &mut body);
    framed(&body)
}

/// A `Deliver` of this encoded message with a field more on every level.
pub fn with_unknown_fields(position: u64, message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    bytes(NEW, b"a field of a later version", &mut message);
    let mut deliver = Vec::new();
    number(NEW, 7, &mut deliver);
    number(POSITION, position, &mut deliver);
    bytes(MESSAGE, &message, &mut deliver);
    let mut body = Vec::new();
    bytes(DELIVER, &deliver, &mut body);
    number(NEW, u64::MAX, &mut body);
    framed(&body)
}

#[cfg(test)]
mod tests {
    use postrider_protocol::frame;
    use postrider_protocol::wire::{self, deliver, server_frame};
    use prost::Message as _;

    use super::*;

    fn decoded(bytes: &[u8]) -> Option<server_frame::Body> {
        let mut bytes = bytes::BytesMut::from(bytes);
        let body = frame::take(&mut bytes, 1000).unwrap().unwrap();
        assert!(bytes.is_empty());
        frame::decode_server(body).unwrap().body
    }

    #[test]
    fn odd_frames_are_what_a_decoder_of_version_1_sees_of_a_later_version() {
        assert_eq!(decoded(&unknown_body()), None);
        let unknown = server_frame::Body::Deliver(wire::Deliver { position: 5, entry: None });
        assert_eq!(decoded(&unknown_entry(5)), Some(unknown));
        let message = wire::Message { seq: 3, ..Default::default() };
        let entry = Some(deliver::Entry::Message(message.clone()));
        let known = server_frame::Body::Deliver(wire::Deliver { position: 5, entry });
        assert_eq!(decoded(&with_unknown_fields(5, &message.encode_to_vec())), Some(known));
        assert_eq!(wire::Content::decode(NEW_CONTENT).unwrap(), wire::Content::default());
    }
}
