//! A worked session of two users: a message each step of whose life is seen, two broken connections, and what comes back.

use std::fmt::Write as _;

use postrider_protocol::wire::{self, client_frame, deliver, hello, send, server_frame};
use serde::Serialize;

use crate::files::{AnyFrame, Direction, to_hex};
use crate::frames::{NEW_YEAR, client, confirming, entry, hello, receipt, server, text, welcome};

/// The whole of session.json.
#[derive(Serialize)]
pub struct File {
    about: &'static str,
    steps: Vec<Step>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Step {
    Frame {
        connection: &'static str,
        direction: Direction,
        /// Whether the frame reaches the other side; one that does not is what the step is about.
        arrives: bool,
        note: &'static str,
        json: AnyFrame,
        hex: String,
    },
    Event {
        connection: &'static str,
        event: &'static str,
        note: &'static str,
    },
}

pub fn file() -> File {
    File {
        about: "One session of alice and bob in an app with open login, in order. Frames of different connections may \
                also arrive in another order; frames of one connection may not.",
        steps: steps(),
    }
}

fn frame(connection: &'static str, note: &'static str, json: AnyFrame) -> Step {
    let hex = to_hex(&json.to_bytes());
    Step::Frame { connection, direction: json.direction(), arrives: true, note, json, hex }
}

fn lost(connection: &'static str, note: &'static str, json: AnyFrame) -> Step {
    let hex = to_hex(&json.to_bytes());
    Step::Frame { connection, direction: json.direction(), arrives: false, note, json, hex }
}

fn event(connection: &'static str, event: &'static str, note: &'static str) -> Step {
    Step::Event { connection, event, note }
}

const A1: &str = "alice 1";
const A2: &str = "alice 2";
const B1: &str = "bob 1";
const B2: &str = "bob 2";

fn steps() -> Vec<Step> {
    let mut steps = first_message();
    steps.extend(broken_connections());
    steps.extend(resumption());
    steps
}

fn login(user: &str, device: &str, device_id: u64, cursor: u64) -> AnyFrame {
    let method = hello::Method::Open(wire::OpenLogin {});
    client(client_frame::Body::Hello(wire::Hello { device_id, cursor, ..hello(user, device, method) }))
}

fn welcomed(seconds: u64, device_id: u64, highest_send_id: u64, cursor: u64, head: u64) -> AnyFrame {
    let time = NEW_YEAR + seconds * 1_000;
    let welcome = welcome(device_id, highest_send_id, cursor, head);
    server(server_frame::Body::Welcome(wire::Welcome { time, ..welcome }))
}

fn caught_up(position: u64) -> AnyFrame {
    server(server_frame::Body::CaughtUp(wire::CaughtUp { position }))
}

fn to_bob(send_id: u64, words: &str) -> client_frame::Body {
    client_frame::Body::Send(wire::Send { send_id, to: Some(send::To::User("bob".into())), content: text(words) })
}

fn ack(send_id: u64, seq: u64, time: u64) -> AnyFrame {
    server(server_frame::Body::Ack(wire::Ack { send_id, conversation: 1, seq, time }))
}

fn from_alice(position: u64, seq: u64, time: u64, words: &str) -> AnyFrame {
    let (sender, recipient) = ("alice".into(), "bob".into());
    let message = wire::Message { conversation: 1, seq, sender, recipient, time, content: text(words) };
    entry(position, deliver::Entry::Message(message))
}

const FIRST: &str = "hello bob";
const SECOND: &str = "are you there?";

fn first_message() -> Vec<Step> {
    let read = client_frame::Body::Read(wire::Read { conversation: 1, seq: 1 });
    vec![
        event(A1, "opened", "TLS 1.3, ALPN postrider/1"),
        frame(A1, "a new device: device_id and cursor are 0", login("alice", "phone", 0, 0)),
        frame(A1, "alice stores device_id 1", welcomed(0, 1, 0, 0, 0)),
        frame(A1, "there is no backlog", caught_up(0)),
        frame(
            A1,
            "content is Content{text: \"hello bob\"}; alice stored it before she sent it",
            client(to_bob(1, FIRST)),
        ),
        frame(A1, "on the server's disk; alice may forget her copy", ack(1, 1, NEW_YEAR + 5_000)),
        event(B1, "opened", "bob was offline; his name exists since alice wrote to it"),
        frame(B1, "", login("bob", "laptop", 0, 0)),
        frame(B1, "head is above cursor: a backlog", welcomed(20, 2, 0, 0, 1)),
        frame(B1, "", from_alice(1, 1, NEW_YEAR + 5_000, FIRST)),
        frame(B1, "", caught_up(1)),
        frame(B1, "bob has stored position 1", confirming(1, None)),
        frame(A1, "bob's laptop has it", entry(1, deliver::Entry::Delivered(receipt(1, "bob", 1)))),
        frame(B1, "bob has read it", client(read)),
        frame(A1, "", entry(2, deliver::Entry::Read(receipt(1, "bob", 1)))),
    ]
}

fn broken_connections() -> Vec<Step> {
    vec![
        frame(
            A1,
            "confirms both receipts and sends Content{text: \"are you there?\"}",
            confirming(2, Some(to_bob(2, SECOND))),
        ),
        lost(A1, "committed, but the answer never arrives", ack(2, 2, NEW_YEAR + 65_000)),
        event(A1, "broken", "alice does not know whether her second message was taken"),
        frame(B1, "bob stores it and shows it", from_alice(2, 2, NEW_YEAR + 65_000, SECOND)),
        lost(B1, "the confirmation never arrives", confirming(2, None)),
        event(B1, "broken", ""),
    ]
}

fn resumption() -> Vec<Step> {
    vec![
        event(A2, "opened", ""),
        frame(A2, "what she stored: device 1, everything up to position 2", login("alice", "phone", 1, 2)),
        frame(A2, "send 2 was answered; she lacks the answer, so she asks again", welcomed(70, 1, 2, 2, 2)),
        frame(A2, "", caught_up(2)),
        frame(A2, "the same send_id, recipient and content", client(to_bob(2, SECOND))),
        frame(A2, "the first answer again; there is no second message", ack(2, 2, NEW_YEAR + 65_000)),
        event(B2, "opened", "bob's application crashed and had stored position 1 only"),
        frame(B2, "", login("bob", "laptop", 2, 1)),
        frame(B2, "", welcomed(75, 2, 0, 1, 2)),
        frame(B2, "the same entry at the same position", from_alice(2, 2, NEW_YEAR + 65_000, SECOND)),
        frame(B2, "", caught_up(2)),
        frame(B2, "stored now", confirming(2, None)),
        frame(A2, "", entry(3, deliver::Entry::Delivered(receipt(1, "bob", 2)))),
        frame(A2, "confirms and leaves", confirming(3, Some(client_frame::Body::Goodbye(wire::Goodbye {})))),
        frame(A2, "everything is answered", server(server_frame::Body::Goodbye(wire::Goodbye {}))),
        event(A2, "closed", "by the server"),
    ]
}

/// The transcript as SPEC.md shows it.
pub fn as_markdown() -> String {
    let mut text = String::from("```text\n");
    for step in steps() {
        match step {
            Step::Event { connection, event, note } => {
                let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
                writeln!(text, "[{connection}] {event}{note}\n").expect("a string takes it");
            }
            Step::Frame { connection, direction, arrives, note, json, hex } => {
                let arrow = match direction {
                    Direction::ToServer => "──▶ server",
                    Direction::ToClient => "◀── server",
                };
                let lost = if arrives { "" } else { " LOST:" };
                let note = if note.is_empty() { String::new() } else { format!("  # {note}") };
                writeln!(text, "[{connection}] {arrow}{lost}{note}").expect("a string takes it");
                writeln!(text, "  {}", serde_json::to_string(&json).expect("vectors are JSON"))
                    .expect("a string takes it");
                let (prefix, body) = hex.split_at(8);
                for (index, line) in body.as_bytes().chunks(96).enumerate() {
                    let prefix = if index == 0 { prefix } else { "        " };
                    writeln!(text, "  {prefix} {}", std::str::from_utf8(line).expect("hex"))
                        .expect("a string takes it");
                }
                text.push('\n');
            }
        }
    }
    text.truncate(text.trim_end().len());
    text + "\n```\n"
}
