//! Conversation scripts: plays that a non-programmer can read and write, run against a real server over TLS.
//!
//! One step a line; `#` begins a remark. An actor is a user, or `user/device` for one of several devices.
//!
//! | step | meaning |
//! |---|---|
//! | `alice connects` | logs in; again, it resumes with what it has confirmed |
//! | `alice disconnects` | drops the connection without a word |
//! | `alice sends bob "text"` | under the next `send_id` |
//! | `alice resends 1 bob "text"` | under this `send_id` |
//! | `alice confirms` | everything delivered so far |
//! | `alice reads 3` | up to `seq` 3 of the conversation of the last ack or message |
//! | `alice gets ack 1 seq 1` | `send_id`, `seq` |
//! | `alice gets refused 1 NOT_ACCEPTED` | `send_id`, error |
//! | `alice gets message 1 from bob "text"` | `seq`, sender |
//! | `alice gets delivered 1 by bob`, `alice gets read 1 by bob` | up to this `seq` |
//! | `alice gets caught up` | the backlog ends here |
//! | `alice gets error REPLACED` | and the connection ends |
//! | `alice gets nothing` | for a while |
//! | `the server restarts` | |

use std::collections::HashMap;

use postrider_protocol::error::ErrorCode;
use postrider_protocol::wire::{self, deliver, server_frame::Body};

use super::{Raw, TestServer};

struct Actor {
    raw: Option<Raw>,
    welcome: wire::Welcome,
    delivered: u64,
    conversation: u64,
}

/// Plays a script to its end; panics at the line that does not come true.
pub async fn play(script: &str) {
    let mut server = TestServer::start().await;
    let mut actors = HashMap::new();
    for (number, line) in script.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        println!("{:3}  {line}", number + 1);
        let words = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if words == ["the", "server", "restarts"] {
            server.restart().await;
            continue;
        }
        let (name, step) = words.split_first().expect("an actor");
        step_of(&server, &mut actors, name, step).await;
    }
}

async fn step_of(server: &TestServer, actors: &mut HashMap<String, Actor>, name: &str, step: &[&str]) {
    let actor = actors.entry(name.to_owned()).or_insert_with(|| Actor {
        raw: None,
        welcome: wire::Welcome::default(),
        delivered: 0,
        conversation: 0,
    });
    let (user, device) = name.split_once('/').unwrap_or((name, "first"));
    match step {
        ["connects"] => {
            let (raw, welcome) = Raw::resume(server, user, device, &actor.welcome).await;
            actor.welcome.device_id = welcome.device_id;
            actor.delivered = actor.welcome.cursor;
            actor.raw = Some(raw);
        }
        ["disconnects"] => actor.raw = None,
        ["sends", to, text] => drop(actor.raw().send(to, text).await),
        ["resends", send_id, to, text] => actor.raw().send_as(send_id.parse().unwrap(), to, text).await,
        ["confirms"] => {
            let delivered = actor.delivered;
            actor.welcome.cursor = delivered;
            actor.raw().confirm(delivered).await;
        }
        ["reads", seq] => {
            let conversation = actor.conversation;
            actor.raw().read_up_to(conversation, seq.parse().unwrap()).await;
        }
        ["gets", "nothing"] => actor.raw().nothing_comes().await,
        ["gets", "error", code] => {
            let code = ErrorCode::ALL.iter().find(|known| known.name() == *code).expect("an error's name");
            actor.raw().closed_with(*code).await;
        }
        ["gets", wanted @ ..] => actor.gets(wanted).await,
        other => panic!("not a step: {other:?}"),
    }
}

impl Actor {
    fn raw(&mut self) -> &mut Raw {
        self.raw.as_mut().expect("the actor is connected")
    }

    async fn gets(&mut self, wanted: &[&str]) {
        let body = loop {
            match self.raw().next().await {
                Body::CaughtUp(_) if wanted != ["caught", "up"] => {}
                body => break body,
            }
        };
        let got: Vec<String> = match body {
            Body::CaughtUp(_) => vec!["caught".into(), "up".into()],
            Body::Ack(ack) => {
                self.conversation = ack.conversation;
                vec!["ack".into(), ack.send_id.to_string(), "seq".into(), ack.seq.to_string()]
            }
            Body::Refused(refused) => {
                vec!["refused".into(), refused.send_id.to_string(), refused.error.unwrap().name]
            }
            Body::Deliver(wire::Deliver { position, entry }) => {
                assert!(position > self.delivered, "positions rise: {position} after {}", self.delivered);
                self.delivered = position;
                self.entry(entry.expect("an entry"))
            }
            other => vec![format!("{other:?}")],
        };
        assert_eq!(got, wanted, "got (left), wanted (right)");
    }

    fn entry(&mut self, entry: deliver::Entry) -> Vec<String> {
        let receipt =
            |what: &str, receipt: wire::Receipt| vec![what.into(), receipt.seq.to_string(), "by".into(), receipt.user];
        match entry {
            deliver::Entry::Delivered(delivered) => receipt("delivered", delivered),
            deliver::Entry::Read(read) => receipt("read", read),
            deliver::Entry::Expired(expired) => receipt("expired", expired),
            deliver::Entry::Message(message) => {
                self.conversation = message.conversation;
                let text = String::from_utf8(message.content.to_vec()).unwrap();
                vec!["message".into(), message.seq.to_string(), "from".into(), message.sender, text]
            }
        }
    }
}

/// Words, and texts in quotes as one word each.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('"').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}
