//! Frames that are odd but right, and frames that are wrong.

use postrider_protocol::error::ErrorCode;
use postrider_protocol::limits::{DEFAULT_FRAME_BYTES, MAX_LOGIN_FRAME_BYTES};
use postrider_protocol::wire::{self, client_frame, hello, server_frame};
use serde::Serialize;

use crate::files::{Direction, to_hex};
use crate::frames::{NEW_YEAR, Vector, client, confirming, hello, server};

/// The whole of frames.json.
#[derive(Serialize)]
pub struct File {
    about: &'static str,
    frames: Vec<Vector>,
    lenient: Vec<Vector>,
    malformed: Vec<Malformed>,
}

/// A frame that is refused.
#[derive(Serialize)]
struct Malformed {
    name: &'static str,
    direction: Direction,
    note: &'static str,
    /// The limit in force, in bytes of body.
    limit: usize,
    /// What shows the fault: the length alone, the protobuf, or what it means.
    found_in: &'static str,
    error: &'static str,
    hex: String,
}

pub fn file(frames: Vec<Vector>) -> File {
    File {
        about: "Frames of the Postrider protocol, version 1; README.md beside this file says how to use them.",
        frames,
        lenient: lenient(),
        malformed: malformed(),
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("short");
    [&length.to_be_bytes()[..], body].concat()
}

/// Bytes that another encoder, or a later version, may rightly send.
fn lenient() -> Vec<Vector> {
    let plain = hello("a", "d", hello::Method::Open(wire::OpenLogin {}));
    let hello_fields = b"\x08\x01\x12\x03dev\x1a\x01a\x22\x01d\x42\x09example/1\x52\x00";
    let with_unknown = [&hello_fields[..], b"\xc0\x3e\x05"].concat();
    let hello_frame = [&[0x12, u8::try_from(with_unknown.len()).expect("short")][..], &with_unknown].concat();
    let ack = wire::Ack { send_id: 1, conversation: 17, seq: 42, time: NEW_YEAR };
    let nothing = || crate::files::AnyFrame::Server(wire::ServerFrame { body: None });
    let deliver = server(server_frame::Body::Deliver(wire::Deliver { position: 9, entry: None }));
    vec![
        Vector::new("unknown_field", "Hello with field 1000, ignored", client(client_frame::Body::Hello(plain)))
            .written_as(&framed(&hello_frame)),
        Vector::new("fields_out_of_order", "Ack, its last field first", server(server_frame::Body::Ack(ack)))
            .written_as(&framed(b"\x1a\x0d\x20\x80\xd0\xea\xb6\xb7\x33\x18\x2a\x10\x11\x08\x01")),
        Vector::new(
            "default_written_out",
            "Ping with an explicit received = 0, which confirms nothing",
            client(client_frame::Body::Ping(wire::Ping { token: 1 })),
        )
        .written_as(&framed(b"\x08\x00\x32\x02\x08\x01")),
        Vector::new(
            "unknown_client_body_with_received",
            "field 99 is ignored, the confirmation counts",
            confirming(7, None),
        )
        .written_as(&framed(b"\x08\x07\x9a\x06\x00")),
        Vector::new("unknown_server_body", "field 99: the client ignores the frame", nothing())
            .written_as(&framed(b"\x9a\x06\x00")),
        Vector::new("unknown_entry", "Deliver with entry 15: the client counts position 9 as seen", deliver)
            .written_as(&framed(b"\x2a\x04\x08\x09\x7a\x00")),
    ]
}

fn malformed() -> Vec<Malformed> {
    let found = |found_in: &'static str| {
        move |name: &'static str, note: &'static str, limit: usize, code: ErrorCode, wire: &[u8]| Malformed {
            name,
            direction: Direction::ToServer,
            note,
            limit,
            found_in,
            error: code.name(),
            hex: to_hex(wire),
        }
    };
    let (length, protobuf, meaning) = (found("length"), found("protobuf"), found("meaning"));
    let (early, later) = (MAX_LOGIN_FRAME_BYTES, DEFAULT_FRAME_BYTES);
    let overlong = [&[0x08][..], &[0xff; 10], &[0x01]].concat();
    vec![
        length("length_zero", "FRAME-2", early, ErrorCode::FrameEmpty, &[0, 0, 0, 0]),
        length(
            "length_8193_before_login",
            "FRAME-3: one above 8 KiB",
            early,
            ErrorCode::FrameTooLarge,
            &[0, 0, 0x20, 1],
        ),
        length(
            "length_above_max_frame_bytes",
            "FRAME-3: one above 64 KiB",
            later,
            ErrorCode::FrameTooLarge,
            &[0, 1, 0, 1],
        ),
        length("length_largest", "FRAME-4: 4 GiB that are never reserved", later, ErrorCode::FrameTooLarge, &[0xff; 4]),
        length("http_request", "the letters GET and a space", early, ErrorCode::FrameTooLarge, b"GET "),
        protobuf("field_longer_than_frame", "", early, ErrorCode::BadFrame, &framed(&[0x12, 5])),
        protobuf("field_number_zero", "", early, ErrorCode::BadFrame, &framed(&[0, 0])),
        protobuf("varint_too_long", "11 bytes", early, ErrorCode::BadFrame, &framed(&overlong)),
        protobuf("string_not_utf8", "Hello.user is ff", early, ErrorCode::BadFrame, &framed(&[0x12, 3, 0x1a, 1, 0xff])),
        meaning("no_body", "received = 0 and nothing else", later, ErrorCode::BadFrame, &framed(&[8, 0])),
        meaning("only_an_unknown_body", "field 99", later, ErrorCode::BadFrame, &framed(&[0x9a, 6, 0])),
    ]
}
