//! A client that says anything, and what it expects to hear.
//!
//! What comes is sorted into answers, entries and the rest, since nothing orders one kind among the other unless a check
//! asks. Every peer checks all the time that positions strictly increase (DLVR-1).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use postrider_protocol::error::{CodedError, ErrorCode};
use postrider_protocol::wire::server_frame::Body;
use postrider_protocol::wire::{self, ClientFrame, client_frame, deliver, send};
use postrider_protocol::{frame, limits};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::world::SILENCE;
use super::{NotKept, Verdict, broken, must};
use crate::conformance::link::{Link, NoFrame};
use crate::conformance::report::Fault;

/// A connection under a check's control.
pub struct Peer {
    link: Link<TlsStream<TcpStream>>,
    patience: Duration,
    /// What the server said at login.
    pub welcome: wire::Welcome,
    next_send_id: u64,
    last_position: u64,
    heard: usize,
    answers: VecDeque<Heard<Body>>,
    entries: VecDeque<Heard<(u64, deliver::Entry)>>,
    rest: VecDeque<Heard<Body>>,
}

/// A frame, and the how-manieth of its connection it was.
#[derive(Clone, Debug)]
pub struct Heard<T> {
    /// 1, 2, 3 …
    pub number: usize,
    /// What it was.
    pub what: T,
}

impl Peer {
    pub(super) fn new(stream: TlsStream<TcpStream>, patience: Duration) -> Self {
        Self {
            link: Link::new(stream),
            patience,
            welcome: wire::Welcome::default(),
            next_send_id: 1,
            last_position: 0,
            heard: 0,
            answers: VecDeque::new(),
            entries: VecDeque::new(),
            rest: VecDeque::new(),
        }
    }

    pub(super) fn welcomed(&mut self, welcome: wire::Welcome) {
        self.next_send_id = welcome.highest_send_id + 1;
        self.last_position = welcome.cursor;
        self.welcome = welcome;
    }

    pub(super) fn tls(&self) -> &rustls::ClientConnection {
        self.link.stream().get_ref().1
    }

    pub(super) fn wait_up_to(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Writes a frame with this body. A server that has closed shows when it is listened to.
    pub(super) async fn say(&mut self, body: client_frame::Body) {
        self.say_all([ClientFrame { received: 0, body: Some(body) }]).await;
    }

    /// Writes these frames at once.
    pub(super) async fn say_all(&mut self, frames: impl IntoIterator<Item = ClientFrame>) {
        let mut out = BytesMut::new();
        frames.into_iter().for_each(|frame| frame::put(&frame, &mut out));
        self.write(&out).await;
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) {
        drop(self.link.write(bytes).await);
    }

    /// Sends under the next `send_id`, which it returns.
    pub(super) async fn send(&mut self, to: &str, text: &str) -> u64 {
        let send = self.next_send(user(to), text);
        let send_id = send.send_id;
        self.say(client_frame::Body::Send(send)).await;
        send_id
    }

    /// A message under the next `send_id`, not yet sent.
    pub(super) fn next_send(&mut self, to: Option<send::To>, text: &str) -> wire::Send {
        let send_id = self.next_send_id;
        self.next_send_id += 1;
        wire::Send { send_id, to, content: text.to_owned().into() }
    }

    pub(super) async fn confirm(&mut self, received: u64) {
        self.say_all([ClientFrame { received, body: None }]).await;
    }

    pub(super) async fn read_up_to(&mut self, conversation: u64, seq: u64) {
        self.say(client_frame::Body::Read(wire::Read { conversation, seq })).await;
    }

    /// The next frame, whatever it is.
    pub(super) async fn next(&mut self, expected: &str) -> Result<Body, NotKept> {
        let heard = self.heard_within(expected, self.patience).await?;
        heard.map(|heard| heard.what).ok_or_else(|| self.silent(expected))
    }

    fn silent(&self, expected: &str) -> NotKept {
        broken(expected, tell(&NoFrame::Silence, self.patience))
    }

    /// The next frame; `None` if nothing comes in time.
    async fn heard_within(&mut self, expected: &str, patience: Duration) -> Result<Option<Heard<Body>>, NotKept> {
        loop {
            let body = match self.link.next(limits::MAX_FRAME_BYTES, patience).await {
                Err(NoFrame::Silence) => return Ok(None),
                body => body.map_err(|none| broken(expected, tell(&none, patience)))?,
            };
            let frame = frame::decode_server(body);
            let frame = frame.map_err(|error| broken("a ServerFrame in protobuf", error.detail))?;
            self.heard += 1;
            // A body of a later version is for nobody here (VER-3).
            let Some(what) = frame.body else { continue };
            if let Body::Deliver(deliver) = &what {
                if deliver.position <= self.last_position {
                    let came = format!("position {} after {}", deliver.position, self.last_position);
                    return Err(broken("positions that strictly increase (DLVR-1)", came));
                }
                self.last_position = deliver.position;
            }
            return Ok(Some(Heard { number: self.heard, what }));
        }
    }

    /// Takes in one frame and puts it where it belongs.
    async fn sort(&mut self, expected: &str) -> Verdict {
        if self.sort_within(expected, self.patience).await? { Ok(()) } else { Err(self.silent(expected)) }
    }

    /// The same; false if nothing comes in time.
    async fn sort_within(&mut self, expected: &str, patience: Duration) -> Result<bool, NotKept> {
        let Some(Heard { number, what }) = self.heard_within(expected, patience).await? else { return Ok(false) };
        match what {
            Body::Ack(_) | Body::Refused(_) => self.answers.push_back(Heard { number, what }),
            Body::Deliver(wire::Deliver { position, entry: Some(entry) }) => {
                self.entries.push_back(Heard { number, what: (position, entry) });
            }
            Body::Deliver(_) => {}
            Body::Error(ref error) if error.closes => return Err(broken(expected, describe(&what))),
            what => self.rest.push_back(Heard { number, what }),
        }
        Ok(true)
    }

    /// The next `Ack` or `Refused`.
    pub(super) async fn answer(&mut self, expected: &str) -> Result<Heard<Body>, NotKept> {
        loop {
            match self.answers.pop_front() {
                Some(answer) => return Ok(answer),
                None => self.sort(expected).await?,
            }
        }
    }

    /// The answer to `send_id`, which must be the next and an `Ack`.
    pub(super) async fn ack(&mut self, send_id: u64) -> Result<wire::Ack, NotKept> {
        let expected = format!("Ack of send_id {send_id}");
        match self.answer(&expected).await?.what {
            Body::Ack(ack) if ack.send_id == send_id => Ok(ack),
            other => Err(broken(expected, describe(&other))),
        }
    }

    /// The answer to `send_id`, which must be the next, a `Refused`, and with this code.
    pub(super) async fn refused(&mut self, send_id: u64, code: ErrorCode) -> Verdict {
        let expected = format!("Refused of send_id {send_id} with {} ({})", code.name(), code.number());
        match self.answer(&expected).await?.what {
            Body::Refused(wire::Refused { send_id: answered, error: Some(error) })
                if answered == send_id && error.code == code.number() =>
            {
                check_flags(code, &error)
            }
            other => Err(broken(expected, describe(&other))),
        }
    }

    /// Sends, and waits for the `Ack`.
    pub(super) async fn send_acked(&mut self, to: &str, text: &str) -> Result<wire::Ack, NotKept> {
        let send_id = self.send(to, text).await;
        self.ack(send_id).await
    }

    /// The next inbox entry.
    pub(super) async fn entry(&mut self, expected: &str) -> Result<Heard<(u64, deliver::Entry)>, NotKept> {
        loop {
            match self.entries.pop_front() {
                Some(entry) => return Ok(entry),
                None => self.sort(expected).await?,
            }
        }
    }

    /// The next entry, which must be a message with this text.
    pub(super) async fn message(&mut self, text: &str) -> Result<(u64, wire::Message), NotKept> {
        let expected = format!("Deliver of the message {text:?}");
        match self.entry(&expected).await?.what {
            (position, deliver::Entry::Message(message)) if message.content == text.as_bytes() => {
                Ok((position, message))
            }
            (position, entry) => Err(broken(expected, describe_entry(position, &entry))),
        }
    }

    /// The next entry, which must say that `user` has taken everything up to `seq`.
    pub(super) async fn delivered(&mut self, user: &str, seq: u64) -> Result<Heard<u64>, NotKept> {
        let expected = format!("Deliver of delivered{{user {user}, seq {seq}}}");
        let Heard { number, what } = self.entry(&expected).await?;
        match what {
            (position, deliver::Entry::Delivered(receipt)) if receipt.user == user && receipt.seq == seq => {
                Ok(Heard { number, what: position })
            }
            (position, entry) => Err(broken(expected, describe_entry(position, &entry))),
        }
    }

    /// The next entry, which must say that `user` has read everything up to `seq`.
    pub(super) async fn read(&mut self, user: &str, seq: u64) -> Result<u64, NotKept> {
        let expected = format!("Deliver of read{{user {user}, seq {seq}}}");
        match self.entry(&expected).await?.what {
            (position, deliver::Entry::Read(receipt)) if receipt.user == user && receipt.seq == seq => Ok(position),
            (position, entry) => Err(broken(expected, describe_entry(position, &entry))),
        }
    }

    /// The next frame that is no answer and no entry.
    pub(super) async fn other(&mut self, expected: &str) -> Result<Heard<Body>, NotKept> {
        loop {
            match self.rest.pop_front() {
                Some(other) => return Ok(other),
                None => self.sort(expected).await?,
            }
        }
    }

    /// The next frame that is no answer and no entry, which must be `CaughtUp`; its position.
    pub(super) async fn caught_up(&mut self) -> Result<Heard<u64>, NotKept> {
        match self.other("CaughtUp").await? {
            Heard { number, what: Body::CaughtUp(wire::CaughtUp { position }) } => Ok(Heard { number, what: position }),
            Heard { what, .. } => Err(broken("CaughtUp", describe(&what))),
        }
    }

    /// What is streamed before `CaughtUp`.
    pub(super) async fn backlog(&mut self) -> Result<Vec<Heard<(u64, deliver::Entry)>>, NotKept> {
        let end = self.caught_up().await?.number;
        let split = self.entries.partition_point(|entry| entry.number < end);
        Ok(self.entries.drain(..split).collect())
    }

    /// Pings and waits for the pong.
    pub(super) async fn settle(&mut self) -> Verdict {
        self.say(client_frame::Body::Ping(wire::Ping { token: 77 })).await;
        loop {
            if let Body::Pong(_) = self.other("Pong").await?.what {
                return Ok(());
            }
        }
    }

    /// No entry and no answer comes for a while.
    pub(super) async fn nothing(&mut self, because: &str) -> Verdict {
        let expected = format!("nothing: {because}");
        while self.sort_within(&expected, SILENCE).await? {}
        if let Some(Heard { what: (position, entry), .. }) = self.entries.front() {
            return Err(broken(expected, describe_entry(*position, entry)));
        }
        self.answers.front().map_or(Ok(()), |answer| Err(broken(expected, describe(&answer.what))))
    }

    /// An error with this code comes, as the table has it, and then the end. Answers, entries and `CaughtUp` may come
    /// before.
    pub(super) async fn closed_with(&mut self, code: ErrorCode) -> Verdict {
        self.answers_before_closed_with(code).await.map(drop)
    }

    /// The same, and no send is answered before it.
    pub(super) async fn closed_unanswered_with(&mut self, code: ErrorCode) -> Verdict {
        let answers = self.answers_before_closed_with(code).await?;
        must(answers == 0, "no answer to a later send", || format!("{answers}, then Error {}", code.name()))
    }

    async fn answers_before_closed_with(&mut self, code: ErrorCode) -> Result<usize, NotKept> {
        let expected = format!("Error {} ({}), then the end", code.name(), code.number());
        let mut answers = 0;
        loop {
            match self.next(&expected).await? {
                Body::Error(error) if error.code == code.number() => {
                    check_flags(code, &error)?;
                    return self.end(&expected).await.map(|()| answers);
                }
                Body::Ack(_) | Body::Refused(_) => answers += 1,
                Body::Deliver(_) | Body::CaughtUp(_) | Body::Pong(_) => {}
                other => return Err(broken(expected, describe(&other))),
            }
        }
    }

    /// Nothing but the end comes.
    pub(super) async fn end(&mut self, expected: &str) -> Verdict {
        match self.link.next(limits::MAX_FRAME_BYTES, self.patience).await {
            Err(NoFrame::End | NoFrame::Broken(_)) => Ok(()),
            Err(none) => Err(broken(expected, tell(&none, self.patience))),
            Ok(_) => Err(broken(expected, "another frame after the last")),
        }
    }

    /// Nothing but the end comes, and TLS says so first (CONN-11).
    pub(super) async fn end_in_order(&mut self) -> Verdict {
        match self.link.next(limits::MAX_FRAME_BYTES, self.patience).await {
            Err(NoFrame::End) => Ok(()),
            Err(NoFrame::Broken(error)) => Err(NotKept::Advice(Fault {
                expected: "TLS close_notify after the last frame".into(),
                came: format!("the connection broke: {error}"),
            })),
            Err(none) => Err(broken("the end", tell(&none, self.patience))),
            Ok(_) => Err(broken("the end", "another frame after the last")),
        }
    }

    pub(super) async fn close(self) {
        self.link.close().await;
    }
}

/// To a user by name.
pub fn user(name: &str) -> Option<send::To> {
    Some(send::To::User(name.to_owned()))
}

/// An error must be the table's (ERR-1, ERR-2).
fn check_flags(code: ErrorCode, error: &wire::Error) -> Verdict {
    let table = CodedError::new(code).to_wire();
    let said = |error: &wire::Error| format!("{} retry {} closes {}", error.name, error.retry, error.closes);
    if said(&table) == said(error) {
        return Ok(());
    }
    Err(broken(format!("{} (ERR-2)", said(&table)), said(error)))
}

fn tell(none: &NoFrame, patience: Duration) -> String {
    match none {
        NoFrame::End => "the end of the connection".into(),
        NoFrame::Broken(error) => format!("the connection broke: {error}"),
        NoFrame::Malformed(error) => format!("bytes that are no frame: {}", error.detail),
        NoFrame::Silence => format!("nothing within {:.1} s", patience.as_secs_f32()),
    }
}

/// A frame in a few words.
#[must_use]
pub fn describe(body: &Body) -> String {
    let error = |error: &wire::Error| format!("{} ({}): {}", error.name, error.code, error.detail);
    match body {
        Body::Challenge(_) => "Challenge".into(),
        Body::Welcome(welcome) => format!("Welcome{{device_id {}}}", welcome.device_id),
        Body::Ack(ack) => format!("Ack{{send_id {}, conversation {}, seq {}}}", ack.send_id, ack.conversation, ack.seq),
        Body::Refused(refused) => {
            let why = refused.error.as_ref().map(error).unwrap_or_default();
            format!("Refused{{send_id {}}} with {why}", refused.send_id)
        }
        Body::Deliver(wire::Deliver { position, entry: Some(entry) }) => describe_entry(*position, entry),
        Body::Deliver(wire::Deliver { position, .. }) => format!("Deliver{{position {position}}} of an unknown kind"),
        Body::CaughtUp(caught_up) => format!("CaughtUp{{position {}}}", caught_up.position),
        Body::Pong(pong) => format!("Pong{{token {}}}", pong.token),
        Body::LinkCode(_) => "LinkCode".into(),
        Body::Error(said) => format!("Error {}", error(said)),
        other => format!("{other:?}"),
    }
}

/// An entry in a few words.
#[must_use]
pub fn describe_entry(position: u64, entry: &deliver::Entry) -> String {
    let receipt = |kind: &str, receipt: &wire::Receipt| {
        format!("Deliver{{position {position}}} of {kind}{{user {}, seq {}}}", receipt.user, receipt.seq)
    };
    match entry {
        deliver::Entry::Message(message) => {
            let text = String::from_utf8_lossy(&message.content).chars().take(40).collect::<String>();
            format!(
                "Deliver{{position {position}}} of the message {text:?} (seq {} from {})",
                message.seq, message.sender
            )
        }
        deliver::Entry::Delivered(of) => receipt("delivered", of),
        deliver::Entry::Read(of) => receipt("read", of),
        other => format!("Deliver{{position {position}}} of {other:?}"),
    }
}
