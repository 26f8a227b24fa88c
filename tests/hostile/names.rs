//! Names that are none (NAME-1), as users, devices and recipients.

use bytes::BytesMut;
use postrider_protocol::error::ErrorCode;
use postrider_protocol::wire::{self, client_frame};
use prost::Message;

use super::Siege;
use crate::support::Raw;

/// What a name may not have in it: each would be obeyed by a terminal or turn the text beside it around.
const OBEYED: &[&str] = &[
    "line\nbreak",
    "carriage\rreturn",
    "nul\0",
    "\u{1b}[2J\u{1b}[H",
    "delete\u{7f}",
    "next line\u{85}",
    "control sequence\u{9b}2J",
    "line\u{2028}separator",
    "paragraph\u{2029}separator",
    "left-to-right mark\u{200e}",
    "right-to-left mark\u{200f}",
    "arabic mark\u{61c}",
    "embedding\u{202a}",
    "alice\u{202e}nimda",
    "isolate\u{2066}\u{2069}",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_would_be_obeyed_rather_than_shown_are_bad_names_and_bad_recipients() {
    let siege = Siege::begin("").await;
    let long = "x".repeat(65);
    let names = OBEYED.iter().copied().chain(["", &long]);
    let mut sender = Raw::login(&siege.server, "sender", "phone").await;
    sender.backlog().await;
    for name in names {
        for hello in [Raw::hello(name, "phone"), Raw::hello("somebody", name)] {
            let mut raw = Raw::connect(&siege.server).await;
            raw.say(client_frame::Body::Hello(hello)).await;
            raw.closed_with(ErrorCode::BadName).await;
        }
        let send_id = sender.send(name, "hello").await;
        assert_eq!(sender.next_refused().await, (send_id, ErrorCode::BadRecipient.number()), "{name:?}");
    }
    siege.lift().await;
}

/// Sequences that are no UTF-8, put where a name was (FRAME-5).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_no_utf_8_are_bad_frames() {
    let siege = Siege::begin("").await;
    // A byte that starts nothing, half a character, an overlong slash, a surrogate, a number above all characters.
    let invalid: [&[u8]; 5] = [b"\xff\xff\xff\xff", b"abc\xc3", b"ab\xc0\xaf", b"a\xed\xa0\x80", b"\xf5\x80\x80\x80"];
    const PLACE: &str = "@@@@";
    let hello = |app: &str, user: &str, device: &str, agent: &str| {
        let hello = wire::Hello { app: app.into(), agent: agent.into(), ..Raw::hello(user, device) };
        client_frame::Body::Hello(hello)
    };
    let to = |user: &str| {
        let to = Some(wire::send::To::User(user.into()));
        client_frame::Body::Send(wire::Send { send_id: 1, to, content: "x".into() })
    };
    for bytes in invalid {
        for body in [
            hello(PLACE, "user", "phone", "raw"),
            hello("dev", PLACE, "phone", "raw"),
            hello("dev", "user", PLACE, "raw"),
            hello("dev", "user", "phone", PLACE),
        ] {
            let mut raw = Raw::connect(&siege.server).await;
            raw.write_bytes(&with_bytes(body, PLACE, bytes)).await;
            raw.closed_with(ErrorCode::BadFrame).await;
        }
        let mut raw = Raw::login(&siege.server, "sender", "phone").await;
        raw.write_bytes(&with_bytes(to(PLACE), PLACE, bytes)).await;
        raw.closed_with(ErrorCode::BadFrame).await;
    }
    siege.lift().await;
}

/// The frame, with `bytes` where `place` was, which is as long.
fn with_bytes(body: client_frame::Body, place: &str, bytes: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    let frame = wire::ClientFrame { received: 0, body: Some(body) };
    out.extend_from_slice(&u32::try_from(frame.encoded_len()).unwrap().to_be_bytes());
    frame.encode_raw(&mut out);
    let at = out.windows(place.len()).position(|window| window == place.as_bytes()).unwrap();
    out[at..at + bytes.len()].copy_from_slice(bytes);
    out
}

/// What is merely unusual is a name like any other, and comes back byte by byte (NAME-2).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unusual_names_are_names_and_are_told_apart_byte_by_byte() {
    let siege = Siege::begin("").await;
    let long = "é".repeat(32);
    let names = [
        "שלום",
        "می\u{200c}خواهم",
        "zoë",
        "zoe\u{308}",
        "Alice",
        "alice",
        " alice",
        "a/b?c=d&e",
        "'; DROP",
        "🐎",
        &long,
    ];
    for (index, name) in names.into_iter().enumerate() {
        let mut user = Raw::login(&siege.server, name, "phone").await;
        user.backlog().await;
        let mut writer = Raw::login(&siege.server, &format!("writer {index}"), "phone").await;
        writer.backlog().await;
        writer.send(name, name).await;
        let (_, message) = user.next_message().await;
        assert_eq!((message.seq, message.recipient.as_str()), (1, name), "nobody else's conversation");
        assert_eq!(message.content, name.as_bytes());
    }
    siege.lift().await;
}
