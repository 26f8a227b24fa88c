//! Frames that are odd but right, and frames that are wrong.

use postrider_protocol::error::ErrorCode;
use postrider_protocol::limits::{DEFAULT_FRAME_BYTES, MAX_LOGIN_FRAME_BYTES, SIGNATURE_BYTES};
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
    /// What shows the fault: the length alone, the protobuf, or what it means in that state.
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
    let mut vectors = broken();
    vectors.extend(against_the_rules());
    vectors
}

fn refused(
    found_in: &'static str,
    name: &'static str,
    note: &'static str,
    limit: usize,
    code: ErrorCode,
    wire: &[u8],
) -> Malformed {
    Malformed { name, direction: Direction::ToServer, note, limit, found_in, error: code.name(), hex: to_hex(wire) }
}

/// Bytes that are no frames, whenever they come.
fn broken() -> Vec<Malformed> {
    let length = |name, note, limit, code, wire: &[u8]| refused("length", name, note, limit, code, wire);
    let protobuf = |name, note, body: &[u8]| {
        refused("protobuf", name, note, MAX_LOGIN_FRAME_BYTES, ErrorCode::BadFrame, &framed(body))
    };
    let (early, later) = (MAX_LOGIN_FRAME_BYTES, DEFAULT_FRAME_BYTES);
    let overlong = [&[0x08][..], &[0xff; 10], &[0x01]].concat();
    let too_large = ErrorCode::FrameTooLarge;
    vec![
        length("length_zero", "FRAME-2", early, ErrorCode::FrameEmpty, &[0, 0, 0, 0]),
        length("length_8193_before_login", "FRAME-3: one above 8 KiB", early, too_large, &[0, 0, 0x20, 1]),
        length("length_above_max_frame_bytes", "FRAME-3: one above 64 KiB", later, too_large, &[0, 1, 0, 1]),
        length("length_largest", "FRAME-4: 4 GiB that are never reserved", later, too_large, &[0xff; 4]),
        length("http_request", "the letters GET and a space", early, too_large, b"GET "),
        protobuf("field_longer_than_frame", "FRAME-5", &[0x12, 5]),
        protobuf("field_number_zero", "FRAME-5", &[0, 0]),
        protobuf("varint_too_long", "FRAME-5: 11 bytes", &overlong),
        protobuf("string_not_utf8", "FRAME-5: Hello.user is ff", &[0x12, 3, 0x1a, 1, 0xff]),
    ]
}

/// Frames of the right shape that break a rule, before login or after it.
fn against_the_rules() -> Vec<Malformed> {
    use client_frame::Body;
    let open = || hello("a", "d", hello::Method::Open(wire::OpenLogin {}));
    let say = |hello| client(Body::Hello(hello)).to_bytes();
    let before = |name, note, code, wire: Vec<u8>| {
        refused("meaning before login", name, note, MAX_LOGIN_FRAME_BYTES, code, &wire)
    };
    let after =
        |name, note, code, wire: Vec<u8>| refused("meaning after login", name, note, DEFAULT_FRAME_BYTES, code, &wire);
    let ping = client(Body::Ping(wire::Ping { token: 1 })).to_bytes();
    let proof = client(Body::Proof(wire::Proof { signature: vec![0; SIGNATURE_BYTES].into() })).to_bytes();
    let short_key = wire::EnrollLogin { code: "PR-7K2QM-0XW4T-9ZRB3-H5VNC".into(), public_key: vec![0; 31].into() };
    let short_key = wire::Hello { method: Some(hello::Method::Enroll(short_key)), ..open() };
    let control = wire::Hello { device: "d\n".into(), ..open() };
    let long = wire::Hello { user: "x".repeat(65), ..open() };
    vec![
        before("ping_before_hello", "LOGIN-1", ErrorCode::LoginRequired, ping),
        before("proof_before_hello", "LOGIN-1", ErrorCode::LoginRequired, proof.clone()),
        before("version_2", "VER-1", ErrorCode::UnsupportedVersion, say(wire::Hello { version: 2, ..open() })),
        before("user_empty", "NAME-1", ErrorCode::BadName, say(wire::Hello { user: String::new(), ..open() })),
        before("user_of_65_bytes", "NAME-1", ErrorCode::BadName, say(long)),
        before("device_with_control_character", "NAME-1", ErrorCode::BadName, say(control)),
        before("no_method", "LOGIN-3", ErrorCode::MethodNotAllowed, say(wire::Hello { method: None, ..open() })),
        before("key_of_31_bytes", "LOGIN-9", ErrorCode::BadFrame, say(short_key)),
        after("no_body", "FRAME-6: received = 0 and nothing else", ErrorCode::BadFrame, framed(&[8, 0])),
        after("only_an_unknown_body", "FRAME-6: field 99", ErrorCode::BadFrame, framed(&[0x9a, 6, 0])),
        after("hello_after_login", "LOGIN-7", ErrorCode::AlreadyLoggedIn, say(open())),
        after("proof_after_login", "LOGIN-7", ErrorCode::AlreadyLoggedIn, proof),
        after(
            "position_never_delivered",
            "DLVR-5: when nothing was delivered yet",
            ErrorCode::PositionNotDelivered,
            confirming(u64::MAX, None).to_bytes(),
        ),
    ]
}
