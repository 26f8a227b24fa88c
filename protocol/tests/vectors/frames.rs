//! One frame of every kind, with every `oneof` arm.

use bytes::Bytes;
use postrider_protocol::error::{CodedError, ErrorCode};
use postrider_protocol::limits;
use postrider_protocol::wire::{self, client_frame, content, deliver, hello, send, server_frame};
use prost::Message as _;
use serde::Serialize;

use crate::files::{AnyFrame, Direction, to_hex};

/// One vector: a frame, what it is for, and its bytes.
#[derive(Serialize)]
pub struct Vector {
    name: &'static str,
    direction: Direction,
    note: &'static str,
    json: AnyFrame,
    hex: String,
}

impl Vector {
    pub fn new(name: &'static str, note: &'static str, frame: AnyFrame) -> Vector {
        let hex = to_hex(&frame.to_bytes());
        Vector { name, direction: frame.direction(), note, json: frame, hex }
    }

    /// Other bytes that mean the same frame.
    pub fn written_as(mut self, wire: &[u8]) -> Vector {
        self.hex = to_hex(wire);
        self
    }
}

/// 2026-01-01T00:00:00Z, where the vectors take place.
pub const NEW_YEAR: u64 = 1_767_225_600_000;

/// The bytes `first`, `first + 1`, … : easy to recognize, and no secret.
pub fn counting<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|index| first.wrapping_add(u8::try_from(index).expect("short arrays")))
}

pub fn client(body: client_frame::Body) -> AnyFrame {
    confirming(0, Some(body))
}

pub fn confirming(received: u64, body: Option<client_frame::Body>) -> AnyFrame {
    AnyFrame::Client(wire::ClientFrame { received, body })
}

pub fn server(body: server_frame::Body) -> AnyFrame {
    AnyFrame::Server(wire::ServerFrame { body: Some(body) })
}

pub fn entry(position: u64, entry: deliver::Entry) -> AnyFrame {
    server(server_frame::Body::Deliver(wire::Deliver { position, entry: Some(entry) }))
}

pub fn receipt(conversation: u64, user: &str, seq: u64) -> wire::Receipt {
    wire::Receipt { conversation, user: user.into(), seq }
}

/// The encoding of a `Content` that holds text: what two clients agree on and the server never reads.
pub fn text(text: &str) -> Bytes {
    wire::Content { kind: Some(content::Kind::Text(text.into())) }.encode_to_vec().into()
}

pub fn hello(user: &str, device: &str, method: hello::Method) -> wire::Hello {
    wire::Hello {
        version: limits::VERSION,
        app: "dev".into(),
        user: user.into(),
        device: device.into(),
        agent: "example/1".into(),
        method: Some(method),
        ..wire::Hello::default()
    }
}

pub fn welcome(device_id: u64, highest_send_id: u64, cursor: u64, head: u64) -> wire::Welcome {
    wire::Welcome {
        device_id,
        highest_send_id,
        cursor,
        head,
        idle_timeout_ms: limits::DEFAULT_IDLE_TIMEOUT_MS,
        max_frame_bytes: u32::try_from(limits::DEFAULT_FRAME_BYTES).expect("64 KiB"),
        send_window: u32::try_from(limits::SEND_WINDOW).expect("256"),
        time: NEW_YEAR,
        server: "postrider/0.1.0".into(),
        max_content_bytes: 60_000,
    }
}

fn error(code: ErrorCode, retry_after_ms: u32) -> wire::Error {
    CodedError::new(code).after_ms(retry_after_ms).to_wire()
}

pub fn all() -> Vec<Vector> {
    let mut vectors = to_server();
    vectors.extend(to_client());
    vectors
}

fn to_server() -> Vec<Vector> {
    use client_frame::Body;
    let code = "PR-7K2QM-0XW4T-9ZRB3-H5VNC";
    let returning = wire::Hello {
        device_id: 4,
        cursor: 1_000,
        window: 128,
        ..hello("alice", "phone", hello::Method::DeviceKey(wire::DeviceKeyLogin {}))
    };
    let enroll = hello::Method::Enroll(wire::EnrollLogin {
        code: code.into(),
        public_key: counting::<{ limits::PUBLIC_KEY_BYTES }>(0).to_vec().into(),
    });
    let open = hello::Method::Open(wire::OpenLogin {});
    let signature = counting::<{ limits::SIGNATURE_BYTES }>(0).to_vec().into();
    let send = |send_id, to, content| Body::Send(wire::Send { send_id, to: Some(to), content });
    vec![
        Vector::new("hello_open", "a new device, open login", client(Body::Hello(hello("alice", "phone", open)))),
        Vector::new("hello_device_key", "a device that was here before", client(Body::Hello(returning))),
        Vector::new("hello_enroll", "a new device with a code", client(Body::Hello(hello("zoë", "tablet", enroll)))),
        Vector::new("proof", "64 bytes of signature", client(Body::Proof(wire::Proof { signature }))),
        Vector::new(
            "send_to_user",
            "content is Content{text: \"hello bob\"}",
            client(send(1, send::To::User("bob".into()), text("hello bob"))),
        ),
        Vector::new(
            "send_to_conversation",
            "content is the two bytes ff 00: not text, not protobuf, and no business of the server's",
            client(send(2, send::To::Conversation(17), Bytes::from_static(&[0xff, 0]))),
        ),
        Vector::new("send_empty", "no content at all", client(send(3, send::To::User("bob".into()), Bytes::new()))),
        Vector::new("read", "", client(Body::Read(wire::Read { conversation: 17, seq: 42 }))),
        Vector::new("ping", "", client(Body::Ping(wire::Ping { token: 1 }))),
        Vector::new("ping_zero", "a default value takes no bytes", client(Body::Ping(wire::Ping { token: 0 }))),
        Vector::new("ping_largest", "the largest 64-bit number", client(Body::Ping(wire::Ping { token: u64::MAX }))),
        Vector::new("link_device", "", client(Body::LinkDevice(wire::LinkDevice {}))),
        Vector::new("goodbye_from_client", "", client(Body::Goodbye(wire::Goodbye {}))),
        Vector::new("received_only", "confirms every position up to 1000", confirming(1_000, None)),
        Vector::new(
            "received_with_send",
            "a confirmation rides on another frame",
            confirming(300, Some(send(4, send::To::User("bob".into()), text("and?")))),
        ),
        Vector::new(
            "received_with_read",
            "the usual frame of a client that shows what it gets",
            confirming(301, Some(Body::Read(wire::Read { conversation: 17, seq: 43 }))),
        ),
    ]
}

fn to_client() -> Vec<Vector> {
    use server_frame::Body;
    let nonce = counting::<{ limits::NONCE_BYTES }>(0x80).to_vec().into();
    let ack = wire::Ack { send_id: 1, conversation: 17, seq: 42, time: NEW_YEAR };
    let refused = wire::Refused { send_id: 2, error: Some(error(ErrorCode::NotAccepted, 0)) };
    let message = wire::Message {
        conversation: 17,
        seq: 42,
        sender: "alice".into(),
        recipient: "bob".into(),
        time: NEW_YEAR,
        content: text("hello bob"),
    };
    let code = "PR-7K2QM-0XW4T-9ZRB3-H5VNC".into();
    let unknown = wire::Error {
        code: 999,
        name: "NOT_YET_INVENTED".into(),
        detail: "a code that this version does not list".into(),
        retry: true,
        closes: true,
        retry_after_ms: 250,
    };
    vec![
        Vector::new("challenge", "32 bytes of nonce", server(Body::Challenge(wire::Challenge { nonce }))),
        Vector::new("welcome_new", "a device without a past", server(Body::Welcome(welcome(1, 0, 0, 0)))),
        Vector::new(
            "welcome_back",
            "40 sends are answered, 24 positions wait",
            server(Body::Welcome(welcome(4, 40, 1_000, 1_024))),
        ),
        Vector::new("ack", "", server(Body::Ack(ack))),
        Vector::new("refused", "", server(Body::Refused(refused))),
        Vector::new("deliver_message", "", entry(1, deliver::Entry::Message(message))),
        Vector::new("deliver_delivered", "", entry(2, deliver::Entry::Delivered(receipt(17, "bob", 42)))),
        Vector::new("deliver_read", "", entry(3, deliver::Entry::Read(receipt(17, "bob", 42)))),
        Vector::new("deliver_expired", "", entry(4, deliver::Entry::Expired(receipt(17, "bob", 42)))),
        Vector::new("caught_up", "", server(Body::CaughtUp(wire::CaughtUp { position: 1_024 }))),
        Vector::new(
            "caught_up_empty",
            "an inbox that never had an entry",
            server(Body::CaughtUp(wire::CaughtUp { position: 0 })),
        ),
        Vector::new("pong", "", server(Body::Pong(wire::Pong { token: 1 }))),
        Vector::new("link_code", "", server(Body::LinkCode(wire::LinkCode { code, expires_in_s: 86_400 }))),
        Vector::new("error_shutting_down", "", server(Body::Error(error(ErrorCode::ShuttingDown, 1_500)))),
        Vector::new(
            "error_link_not_allowed",
            "does not close",
            server(Body::Error(error(ErrorCode::LinkNotAllowed, 0))),
        ),
        Vector::new("error_unknown_code", "judged by its flags (ERR-3)", server(Body::Error(unknown))),
        Vector::new("goodbye_from_server", "", server(Body::Goodbye(wire::Goodbye {}))),
    ]
}
