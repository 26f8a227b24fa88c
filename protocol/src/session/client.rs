//! The client's side of a connection.
//!
//! One type per state: a [`Login`] can only be taken through its handshake, and only its end gives a [`Session`], the
//! one thing that can send. What outlives a connection is neither's: the [`Device`] (what is unanswered, seen,
//! confirmed and read) is the caller's, and is lent to one session after the other.
//!
//! Nothing here makes anything durable. The caller persists a send before it releases it ([`Outbox::release`]), and a
//! position before it confirms it ([`Inbox::confirm`]).

mod inbox;
mod keepalive;
mod login;
mod outbox;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;

pub use inbox::{Inbox, MAX_READS};
pub use login::{Login, LoginMethod, LoginRequest, LoginStep};
pub use outbox::{Outbox, PushError};

use crate::error::{CodedError, ErrorCode};
use crate::wire::{self, ClientFrame, ServerFrame, client_frame, deliver, server_frame};
use crate::{frame, limits};
use keepalive::Keepalive;

/// [`Session::poll_transmit`] starts no further frame once the output holds this much, in bytes.
pub const TRANSMIT_BYTES: usize = 64 * 1024;

/// What outlives a connection: lent to each session of the device in turn.
#[derive(Debug, Default)]
pub struct Device {
    /// Messages without an answer.
    pub outbox: Outbox,
    /// Positions seen and confirmed, and what has been read.
    pub inbox: Inbox,
}

/// What a session tells its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message of ours is on the server's stable storage, and has left the outbox.
    Acked(wire::Ack),
    /// A message of ours was refused for good, and has left the outbox.
    Refused {
        /// The message's own number.
        send_id: u64,
        /// Why.
        error: wire::Error,
    },
    /// An inbox entry that was not seen before; `None` is of a kind this version does not know, and counts as seen.
    Entry {
        /// Where in the inbox; higher than that of any entry before it.
        position: u64,
        /// What it is.
        entry: Option<deliver::Entry>,
    },
    /// Everything that was in the inbox at login has been delivered.
    CaughtUp,
    /// Answers [`Session::link`].
    LinkCode(wire::LinkCode),
    /// The server could not do what was asked; the connection goes on.
    Error(wire::Error),
    /// The connection is over: the server said so, with an error or with a plain goodbye. Nothing follows.
    Closed(Option<wire::Error>),
    /// The peer has been silent for longer than the idle timeout while an answer was due. Nothing follows.
    Unresponsive,
}

/// A connection that is logged in.
#[derive(Debug)]
pub struct Session {
    events: VecDeque<Event>,
    keepalive: Keepalive,
    /// The first `send_id` that has not been written on this connection.
    next_send: u64,
    /// Sends written here and not answered; never above `send_window`.
    in_flight: usize,
    send_window: usize,
    /// The highest position delivered on this connection, at first the one that streaming starts after. Nothing above
    /// X
    delivered: u64,
    /// What the server knows to be confirmed; never above `delivered`.
    told: u64,
    links_wanted: usize,
    /// One request at a time (LOGIN-20).
    link_waiting: bool,
    goodbye: Goodbye,
    closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goodbye {
    Unsaid,
    Wanted,
    Said,
}

impl Session {
    fn new(welcome: &wire::Welcome, now: Duration) -> Self {
        let idle = welcome.idle_timeout_ms.max(limits::MIN_IDLE_TIMEOUT_MS);
        let window = usize::try_from(welcome.send_window).unwrap_or(usize::MAX);
        Self {
            events: VecDeque::new(),
            keepalive: Keepalive::new(Duration::from_millis(idle.into()), now),
            next_send: 0,
            in_flight: 0,
            send_window: window.clamp(1, limits::SEND_WINDOW),
            delivered: welcome.cursor,
            told: welcome.cursor,
            links_wanted: 0,
            link_waiting: false,
            goodbye: Goodbye::Unsaid,
            closed: false,
        }
    }

    /// Asks for a one-time code that enrols another device; answered by [`Event::LinkCode`] or [`Event::Error`].
    pub fn link(&mut self) {
        self.links_wanted += 1;
    }

    /// Says goodbye after everything released by then has been written. The server answers what it took, and closes.
    pub fn goodbye(&mut self) {
        if self.goodbye == Goodbye::Unsaid {
            self.goodbye = Goodbye::Wanted;
        }
    }

    /// Whether goodbye has been written.
    #[must_use]
    pub fn said_goodbye(&self) -> bool {
        self.goodbye == Goodbye::Said
    }

    /// Tells whether the caller has stopped reading the socket. While it has, silence is not held against the peer.
    pub fn set_paused(&mut self, paused: bool, now: Duration) {
        self.keepalive.set_paused(paused, now);
    }

    /// Takes in one frame of the server.
    ///
    /// # Errors
    /// `BAD_FRAME` for a frame that has no place after login; the connection is of no further use.
    pub fn handle_frame(&mut self, frame: ServerFrame, device: &mut Device, now: Duration) -> Result<(), CodedError> {
        if self.closed {
            return Ok(());
        }
        match frame.body {
            Some(server_frame::Body::Ack(ack)) => self.answered(ack.send_id, Event::Acked(ack), device),
            Some(server_frame::Body::Refused(refused)) => {
                let send_id = refused.send_id;
                let error = refused.error.unwrap_or_default();
                self.answered(send_id, Event::Refused { send_id, error }, device);
            }
            Some(server_frame::Body::Deliver(deliver)) => self.delivered(deliver, device),
            Some(server_frame::Body::CaughtUp(_)) => self.events.push_back(Event::CaughtUp),
            Some(server_frame::Body::Pong(_)) => self.keepalive.handle_pong(),
            Some(server_frame::Body::LinkCode(code)) => {
                self.link_waiting = false;
                self.events.push_back(Event::LinkCode(code));
            }
            Some(server_frame::Body::Error(error)) if error.closes => self.close(Event::Closed(Some(error))),
            Some(server_frame::Body::Error(error)) => {
                self.link_waiting = false;
                self.events.push_back(Event::Error(error));
            }
            Some(server_frame::Body::Goodbye(_)) => self.close(Event::Closed(None)),
            Some(server_frame::Body::Challenge(_) | server_frame::Body::Welcome(_)) => {
                return Err(CodedError::with(ErrorCode::BadFrame, "a login frame after the login"));
            }
            // A kind of frame that a later version added.
            None => {}
        }
        self.keepalive.handle_received(self.expects_answers(), now);
        Ok(())
    }

    /// Lets time pass: call it when [`poll_timeout`](Self::poll_timeout) is due. Calling it early does nothing.
    pub fn handle_timeout(&mut self, now: Duration) {
        if !self.closed && self.keepalive.handle_timeout(now) {
            self.close(Event::Unresponsive);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.closed { None } else { self.keepalive.poll_timeout() }
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Appends what is to be written, up to about [`TRANSMIT_BYTES`]; true if it appended anything. Call it again after
    /// the bytes are written, until it is false.
    pub fn poll_transmit(&mut self, device: &mut Device, out: &mut BytesMut, now: Duration) -> bool {
        let before = out.len();
        if self.closed || self.goodbye == Goodbye::Said {
            return false;
        }
        // What may be lost of the reads goes before what is sent again: its answer makes them safe (RCPT-10).
        self.transmit_reads(device, out);
        self.transmit_sends(device, out);
        if self.links_wanted > 0 && !self.link_waiting {
            self.links_wanted -= 1;
            self.link_waiting = true;
            self.put(client_frame::Body::LinkDevice(wire::LinkDevice {}), device, out);
        }
        if let Some(token) = self.keepalive.take_ping() {
            self.put(client_frame::Body::Ping(wire::Ping { token }), device, out);
        }
        if self.goodbye == Goodbye::Wanted && out.len() < TRANSMIT_BYTES && !self.has_unwritten(device) {
            self.goodbye = Goodbye::Said;
            self.put(client_frame::Body::Goodbye(wire::Goodbye {}), device, out);
        }
        if self.confirmable(device) > self.told {
            let received = self.take_confirmation(device);
            frame::put(&ClientFrame { received, body: None }, out);
        }
        let wrote = out.len() > before;
        if wrote {
            self.keepalive.handle_sent(self.expects_answers(), now);
        }
        wrote
    }

    /// Everything unanswered goes in order of its id, at most `send_window` at once (SEND-6, SEND-9).
    fn transmit_sends(&mut self, device: &mut Device, out: &mut BytesMut) {
        while self.in_flight < self.send_window && out.len() < TRANSMIT_BYTES {
            let Some(send) = device.outbox.released_from(self.next_send).cloned() else { return };
            self.next_send = send.send_id + 1;
            self.in_flight += 1;
            self.put(client_frame::Body::Send(send), device, out);
        }
    }

    /// A read mark waits until the confirmation that covers it goes with it or before it (RCPT-6).
    fn transmit_reads(&mut self, device: &mut Device, out: &mut BytesMut) {
        while out.len() < TRANSMIT_BYTES {
            let Some(read) = device.inbox.take_read(self.confirmable(device)) else { return };
            self.put(client_frame::Body::Read(read), device, out);
        }
    }

    /// Writes one frame, with the confirmation if there is news of it.
    fn put(&mut self, body: client_frame::Body, device: &Device, out: &mut BytesMut) {
        let received = self.take_confirmation(device);
        frame::put(&ClientFrame { received, body: Some(body) }, out);
    }

    fn confirmable(&self, device: &Device) -> u64 {
        device.inbox.confirmed().min(self.delivered)
    }

    /// The position to confirm now, or 0 when the server knows it.
    fn take_confirmation(&mut self, device: &Device) -> u64 {
        let position = self.confirmable(device);
        if position <= self.told {
            return 0;
        }
        self.told = position;
        position
    }

    fn delivered(&mut self, deliver: wire::Deliver, device: &mut Device) {
        self.delivered = self.delivered.max(deliver.position);
        if device.inbox.see(&deliver) {
            self.events.push_back(Event::Entry { position: deliver.position, entry: deliver.entry });
        }
    }

    /// An answer counts if it is news: to a send that was written here and was not answered before.
    fn answered(&mut self, send_id: u64, event: Event, device: &mut Device) {
        if send_id < self.next_send && device.outbox.answer(send_id) {
            self.in_flight -= 1;
            self.events.push_back(event);
        }
    }

    fn has_unwritten(&self, device: &Device) -> bool {
        device.outbox.released_from(self.next_send).is_some() || self.links_wanted > 0
    }

    fn expects_answers(&self) -> bool {
        self.in_flight > 0 || self.link_waiting || self.goodbye == Goodbye::Said
    }

    fn close(&mut self, event: Event) {
        self.closed = true;
        self.events.push_back(event);
    }
}
