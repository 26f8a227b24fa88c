//! Judges the frames of one connection as they come.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{Buf, Bytes};
use postrider_protocol::limits;
use postrider_protocol::wire::{self, ClientFrame, client_frame};
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

use super::account::{Account, CONVERSATION, DEVICE_ID, Sent};
use super::referee::Referee;

/// How long the client may be silent, in milliseconds: short, so that nobody waits long for a ping.
pub const IDLE_TIMEOUT_MS: u32 = 3_000;

/// A busy machine may be a little late.
const IDLE_SLACK: Duration = Duration::from_millis(500);

/// Sends that may wait for answers: fewer than usual, so that a client that does not look shows.
pub const SEND_WINDOW: usize = 8;

/// The largest frame after login, in bytes: less than usual, for the same reason.
pub const MAX_FRAME_BYTES: usize = 16 * 1024;

/// Field numbers of the bodies that a client of version 1 knows.
const BODIES: std::ops::RangeInclusive<u32> = 2..=8;

/// What was seen of one connection since `Welcome`.
#[derive(Debug)]
pub struct Watch {
    welcome_cursor: u64,
    /// The highest position that `Deliver` carried on this connection.
    pub delivered: u64,
    last_heard: Duration,
    /// Sends of earlier connections that must come first, lowest id last.
    pub due_again: Vec<u64>,
    seen: BTreeSet<u64>,
    /// Sends without an answer on this connection.
    pub unanswered: BTreeSet<u64>,
    links: usize,
    /// The client has said `Goodbye`.
    pub is_leaving: bool,
    /// A `Read` of an earlier connection that is not known to be safe.
    read_due: Option<u64>,
    read_here: bool,
}

/// What the strict server is to do about a frame.
#[derive(Debug)]
pub enum Wanted {
    /// Nothing.
    Nothing,
    /// Answer the message.
    Answer(u64),
    /// Pong with this token.
    Pong(u64),
    /// Answer `LinkDevice`.
    Link,
    /// Answer `Goodbye`, and close.
    Goodbye,
    /// The connection cannot go on.
    Close,
}

impl Watch {
    /// From `Welcome` on.
    #[must_use]
    pub fn new(account: &Account, welcome_cursor: u64, now: Duration) -> Self {
        let highest = account.highest_send_id();
        let due_again: Vec<u64> = account.sent.keys().rev().copied().filter(|send_id| *send_id > highest).collect();
        Self {
            welcome_cursor,
            delivered: 0,
            last_heard: now,
            due_again,
            seen: BTreeSet::new(),
            unanswered: BTreeSet::new(),
            links: 0,
            is_leaving: false,
            read_due: account.read.filter(|(_, safe)| !safe).map(|(seq, _)| seq),
            read_here: false,
        }
    }

    /// Says that these sends are to come again although the server has answered them: their answers were lost.
    pub fn expect_again(&mut self, lost: impl IntoIterator<Item = u64>) {
        self.due_again.extend(lost);
        self.due_again.sort_unstable_by(|a, b| b.cmp(a));
        self.due_again.dedup();
    }

    /// The time since the client was last heard is judged (CONN-1).
    pub fn heard(&mut self, referee: &mut Referee, now: Duration) {
        let silence = now.saturating_sub(self.last_heard);
        let limit = Duration::from_millis(IDLE_TIMEOUT_MS.into());
        if silence > limit + IDLE_SLACK {
            let came = format!("nothing for {} ms", silence.as_millis());
            referee.broken("CONN-1", format!("something at least every {IDLE_TIMEOUT_MS} ms"), came);
        } else if silence > limit / 6 {
            referee.kept("CONN-1");
        }
        self.last_heard = now;
    }

    /// One frame of the client.
    pub fn frame(&mut self, body: &Bytes, account: &mut Account, referee: &mut Referee, now: Duration) -> Wanted {
        self.heard(referee, now);
        let after_goodbye = self.is_leaving;
        if after_goodbye {
            referee.broken("CONN-6", "nothing after Goodbye", "another frame");
        }
        referee.judge("LIMIT-2", body.len() <= MAX_FRAME_BYTES, "a frame of at most 16384 bytes", || {
            format!("{} bytes; Welcome.max_frame_bytes says how many", body.len())
        });
        let Some(frame) = judge_shape(body, referee) else { return Wanted::Close };
        if frame.received > 0 {
            self.received(frame.received, account, referee);
        }
        match frame.body {
            None => Wanted::Nothing,
            Some(client_frame::Body::Hello(_) | client_frame::Body::Proof(_)) => {
                referee.broken("LOGIN-1", "Hello as the first frame alone", "a login frame after Welcome");
                Wanted::Close
            }
            Some(client_frame::Body::Send(send)) => self.send(send, account, referee),
            Some(client_frame::Body::Read(read)) => self.read(read, account, referee),
            Some(client_frame::Body::Ping(ping)) => Wanted::Pong(ping.token),
            Some(client_frame::Body::LinkDevice(_)) => {
                self.links += 1;
                referee.judge("LOGIN-20", self.links == 1, "one LinkDevice at a time", || self.links.to_string());
                Wanted::Link
            }
            Some(client_frame::Body::Goodbye(_)) => {
                self.is_leaving = true;
                if !after_goodbye {
                    referee.kept("CONN-6");
                }
                Wanted::Goodbye
            }
        }
    }

    /// `LinkDevice` was answered.
    pub fn linked(&mut self) {
        self.links -= 1;
    }

    fn received(&mut self, position: u64, account: &mut Account, referee: &mut Referee) {
        let most = self.delivered.max(self.welcome_cursor);
        referee.judge("DLVR-5", position <= most, &format!("received of at most {most}"), || {
            format!("received {position}, which this connection has not delivered")
        });
        account.confirmed = account.confirmed.max(position.min(most));
    }

    fn send(&mut self, send: wire::Send, account: &mut Account, referee: &mut Referee) -> Wanted {
        let send_id = send.send_id;
        if let Some(due) = self.due_again.pop() {
            referee.judge("SEND-9", send_id == due, &format!("send_id {due} again, before anything else"), || {
                format!("send_id {send_id}")
            });
            self.due_again.retain(|other| *other != send_id);
            if send_id != due && account.sent.contains_key(&due) && account.sent.contains_key(&send_id) {
                self.due_again.push(due);
            }
        }
        let next = account.highest_used() + 1;
        match account.sent.get(&send_id) {
            Some(known) => {
                let same = known.send == send;
                referee.judge("SEND-9", same, "the same recipient and content under the same send_id", || {
                    format!("another message under send_id {send_id}")
                });
                let twice = self.seen.contains(&send_id);
                referee.judge("SEND-1", !twice, "each send_id once on a connection", || format!("{send_id} twice"));
            }
            None => {
                referee.judge("SEND-1", send_id == next, &format!("send_id {next}"), || format!("send_id {send_id}"));
                if send_id != next {
                    return Wanted::Close;
                }
                account.sent.insert(send_id, Sent { send, answer: None });
            }
        }
        self.judge_read_again(account, referee);
        self.seen.insert(send_id);
        self.unanswered.insert(send_id);
        let waiting = self.unanswered.len();
        referee.judge("SEND-6", waiting <= SEND_WINDOW, "at most Welcome.send_window (8) unanswered", || {
            format!("{waiting} unanswered")
        });
        Wanted::Answer(send_id)
    }

    /// A `Read` that may be lost comes again before the first message (RCPT-10).
    fn judge_read_again(&mut self, account: &Account, referee: &mut Referee) {
        if let Some(due) = self.read_due.take() {
            let again = self.read_here && account.read.is_some_and(|(seq, _)| seq >= due);
            referee.judge("RCPT-10", again, &format!("Read up to seq {due} again, before the first Send"), || {
                "a Send without it".into()
            });
        }
    }

    fn read(&mut self, read: wire::Read, account: &mut Account, referee: &mut Referee) -> Wanted {
        self.read_here = true;
        if read.conversation != CONVERSATION {
            return Wanted::Nothing;
        }
        referee.judge("RCPT-6", read.seq <= account.newest, "Read of a seq that there is", || {
            format!("seq {} of {}", read.seq, account.newest)
        });
        if let Some(position) = account.position_of(read.seq) {
            let expected = "the received that covers a Read with it or before it";
            referee.judge("RCPT-6", account.confirmed >= position, expected, || {
                format!("Read up to seq {}, at position {position}; confirmed is {}", read.seq, account.confirmed)
            });
        }
        if account.read.is_none_or(|(seq, _)| seq <= read.seq) {
            account.read = Some((read.seq, false));
        }
        Wanted::Nothing
    }

    /// The client gets the answer to this message; what it said before is safe now.
    pub fn answered(&mut self, send_id: u64, account: &mut Account) {
        self.unanswered.remove(&send_id);
        if let Some((_, safe)) = &mut account.read
            && self.read_here
        {
            *safe = true;
        }
    }
}

/// A frame's bytes: protobuf, one body, and one of version 1.
fn judge_shape(body: &Bytes, referee: &mut Referee) -> Option<ClientFrame> {
    let frame = postrider_protocol::frame::decode_client(body.clone());
    let fields = fields(body.clone());
    let (Ok(frame), Some(fields)) = (frame, fields) else {
        referee.broken("FRAME-1", "a ClientFrame in protobuf", "bytes that are none");
        return None;
    };
    let bodies = fields.iter().filter(|field| BODIES.contains(field)).count();
    referee.judge("FRAME-7", bodies <= 1, "at most one body in a frame", || format!("{bodies} bodies"));
    let unknown = fields.iter().find(|field| **field != 1 && !BODIES.contains(field));
    referee.judge("VER-5", unknown.is_none(), "the fields of version 1", || format!("field {unknown:?}"));
    Some(frame)
}

/// The field numbers on a frame's first level.
fn fields(mut body: Bytes) -> Option<Vec<u32>> {
    let mut fields = Vec::new();
    while body.has_remaining() {
        let (field, wire_type): (u32, WireType) = decode_key(&mut body).ok()?;
        skip_field(wire_type, field, &mut body, DecodeContext::default()).ok()?;
        fields.push(field);
    }
    Some(fields)
}

/// Judges `Hello`; the reason why it cannot go on, if it cannot. A client that was started again may have no state.
pub fn judge_hello(
    body: &Bytes,
    account: &Account,
    was_started_again: bool,
    referee: &mut Referee,
) -> Result<wire::Hello, &'static str> {
    let short = body.len() <= limits::MAX_LOGIN_FRAME_BYTES;
    referee.judge("LIMIT-2", short, "at most 8192 bytes before Welcome", || format!("{} bytes", body.len()));
    let frame = judge_shape(body, referee).ok_or("the first frame was no protobuf")?;
    referee.judge("LOGIN-18", frame.received == 0, "received 0 in Hello", || frame.received.to_string());
    let Some(client_frame::Body::Hello(hello)) = frame.body else {
        referee.broken("LOGIN-1", "Hello as the first frame", "another body");
        return Err("the first frame was no Hello");
    };
    referee.kept("LOGIN-1");
    let spoken = hello.version == limits::VERSION;
    referee.judge("VER-1", spoken, "version 1", || hello.version.to_string());
    if !spoken {
        return Err("the version was not 1");
    }
    if let Some((user, device)) = &account.names
        && (*user != hello.user || *device != hello.device)
    {
        return Err("another user or device than at first; one client is judged at a time");
    }
    let has_none = hello.device_id == 0 && was_started_again;
    let right = has_none || hello.device_id == if account.is_known { DEVICE_ID } else { 0 };
    let expected =
        if account.is_known { "the device_id that Welcome gave (17)" } else { "device_id 0: start without state" };
    referee.judge("LOGIN-12", right, expected, || format!("device_id {}", hello.device_id));
    if hello.device_id == DEVICE_ID {
        let (least, most) = (account.confirmed, account.streamed);
        let within = (least..=most).contains(&hello.cursor);
        referee.judge("LOGIN-16", within, &format!("a cursor from {least}, confirmed, to {most}, delivered"), || {
            format!("cursor {}", hello.cursor)
        });
    }
    Ok(hello)
}
