//! What the strict server knows of its one device: what was sent, what waits in the inbox, what was confirmed.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use postrider_protocol::frame;
use postrider_protocol::wire::server_frame::Body;
use postrider_protocol::wire::{self, ServerFrame, deliver, send};

/// Who writes to the client.
pub const ROBOT: &str = "robot";

/// The conversation with the robot. Others have the numbers after it.
pub const CONVERSATION: u64 = 41;

/// The number that the device gets.
pub const DEVICE_ID: u64 = 17;

/// Positions have gaps (DLVR-1).
const GAP: u64 = 3;

/// A message that the client sent.
#[derive(Debug)]
pub struct Sent {
    /// As it came first.
    pub send: wire::Send,
    /// The answer; `None` while the server has not decided, or has never heard of it.
    pub answer: Option<Body>,
}

/// One inbox entry.
#[derive(Debug)]
pub struct Entry {
    /// Its position.
    pub position: u64,
    /// The whole frame.
    pub frame: Bytes,
    /// Its `seq`, if it is a message of the robot's.
    pub seq: Option<u64>,
}

/// The device.
#[derive(Debug, Default)]
pub struct Account {
    /// User and device, from the first login on.
    pub names: Option<(String, String)>,
    /// The enrolled key.
    pub key: Option<Vec<u8>>,
    /// Whether `Welcome` has given the number.
    pub is_known: bool,
    /// The highest position that was confirmed.
    pub confirmed: u64,
    /// The highest position that was ever streamed.
    pub streamed: u64,
    /// Everything, confirmed or not.
    pub inbox: Vec<Entry>,
    /// Everything by `send_id`.
    pub sent: BTreeMap<u64, Sent>,
    /// The newest `seq` of the conversation with the robot.
    pub newest: u64,
    /// The last `Read`, and whether an answer has made it safe (RCPT-10).
    pub read: Option<(u64, bool)>,
    others: BTreeMap<String, (u64, u64)>,
    position: u64,
}

impl Account {
    /// The highest `send_id` that has an answer.
    #[must_use]
    pub fn highest_send_id(&self) -> u64 {
        self.sent.iter().rev().find(|(_, sent)| sent.answer.is_some()).map_or(0, |(send_id, _)| *send_id)
    }

    /// The highest `send_id` that the client has used.
    #[must_use]
    pub fn highest_used(&self) -> u64 {
        self.sent.keys().next_back().copied().unwrap_or(0)
    }

    /// Takes a message: its answer from now on.
    pub fn take(&mut self, send_id: u64) -> Option<Body> {
        let sent = self.sent.get(&send_id)?;
        if sent.answer.is_none() {
            let (conversation, seq) = match &sent.send.to {
                Some(send::To::User(name)) if name != ROBOT => {
                    let next = CONVERSATION + 1 + self.others.len() as u64;
                    let (number, newest) = self.others.entry(name.clone()).or_insert((next, 0));
                    *newest += 1;
                    (*number, *newest)
                }
                _ => {
                    self.newest += 1;
                    (CONVERSATION, self.newest)
                }
            };
            let ack = wire::Ack { send_id, conversation, seq, time: 1_767_225_600_000 + send_id };
            self.sent.get_mut(&send_id)?.answer = Some(Body::Ack(ack));
        }
        self.sent.get(&send_id)?.answer.clone()
    }

    /// Refuses a message for good.
    pub fn refuse(&mut self, send_id: u64, error: wire::Error) -> Option<Body> {
        let sent = self.sent.get_mut(&send_id)?;
        sent.answer = Some(Body::Refused(wire::Refused { send_id, error: Some(error) }));
        sent.answer.clone()
    }

    /// Puts a message of the robot's into the inbox.
    pub fn message(&mut self, content: impl Into<Bytes>) -> u64 {
        self.newest += 1;
        let message = wire::Message {
            conversation: CONVERSATION,
            seq: self.newest,
            sender: ROBOT.into(),
            recipient: self.names.as_ref().map_or_else(String::new, |(user, _)| user.clone()),
            time: 1_767_225_600_000 + self.newest,
            content: content.into(),
        };
        let seq = self.newest;
        self.entry(deliver::Entry::Message(message), Some(seq))
    }

    /// Puts any entry into the inbox; its position.
    pub fn entry(&mut self, entry: deliver::Entry, seq: Option<u64>) -> u64 {
        let position = self.next_position();
        let body = Some(Body::Deliver(wire::Deliver { position, entry: Some(entry) }));
        let mut bytes = BytesMut::new();
        frame::put(&ServerFrame { body }, &mut bytes);
        self.inbox.push(Entry { position, frame: bytes.freeze(), seq });
        position
    }

    /// Puts an entry into the inbox that is made of these bytes; `make` gets the position.
    pub fn raw_entry(&mut self, make: impl FnOnce(u64) -> Vec<u8>) -> u64 {
        let position = self.next_position();
        self.inbox.push(Entry { position, frame: make(position).into(), seq: None });
        position
    }

    /// The position of the robot's message `seq`.
    #[must_use]
    pub fn position_of(&self, seq: u64) -> Option<u64> {
        self.inbox.iter().find(|entry| entry.seq == Some(seq)).map(|entry| entry.position)
    }

    fn next_position(&mut self) -> u64 {
        self.position += GAP;
        self.position
    }

    /// The newest position.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.position
    }
}
