//! What a program does about its connection: login, frames, loss.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use postrider_client::Change;
use postrider_protocol::error::ErrorCode;
use postrider_protocol::session::client::{self as session, Event, Login, LoginMethod, LoginRequest, LoginStep};
use postrider_protocol::wire::{self, client_frame};
use postrider_protocol::{frame, limits};

use super::{Client, Link, MAX_WAITING};
use crate::judge::Clause;
use crate::judge::wire::Wire;
use crate::network::Socket;
use crate::planted::Bug;
use crate::runtime::{MS, Micros, SECOND};

/// How long a login may take.
const LOGIN_TIME: Micros = 15 * SECOND;

/// Longer than any line takes for a ping and its answer.
const THERE_AND_BACK: Micros = 500 * MS;

impl Client {
    /// A connection was made, or not.
    pub fn connected(&mut self, socket: Option<Socket>) {
        let Some(socket) = socket else { return self.wait(0) };
        (self.inbound, self.outbound) = (BytesMut::new(), BytesMut::new());
        (self.line_took, self.ping_waits, self.pinged) = (0, false, 0);
        self.caught_up = false;
        if self.manners.bug == Some(Bug::ClientRenumbers) && !self.device.outbox.is_empty() {
            self.renumber();
        }
        let request = LoginRequest {
            app: self.app().1.into(),
            user: self.user.clone(),
            device: self.name.clone(),
            device_id: self.device_id,
            window: self.manners.window,
            agent: "simulated".into(),
            method: LoginMethod::Open,
        };
        let mut login = Login::new(request, &self.device);
        login.poll_transmit(&mut self.outbound);
        self.wire = Wire::new((&self.user, &self.name), self.manners.window);
        self.wire.troubled = self.slow_until.max(self.lazy_until) > self.runtime.now();
        self.link = Link::LoggingIn(socket, login, self.runtime.now() + LOGIN_TIME);
    }

    /// For [`Bug::ClientRenumbers`].
    fn renumber(&mut self) {
        let sends: Vec<wire::Send> = self.device.outbox.iter().cloned().collect();
        let highest = self.device.outbox.highest();
        let renumbered = sends.into_iter().zip(highest + 1..).map(|(send, send_id)| wire::Send { send_id, ..send });
        let inbox = std::mem::take(&mut self.device.inbox);
        self.device = session::Device { outbox: session::Outbox::restore(highest, renumbered), inbox };
    }

    pub(super) fn read_and_write(&mut self, cx: &mut Context<'_>) {
        let now = Duration::from_micros(self.runtime.now());
        let reads = self.slow_until <= self.runtime.now() && self.waiting.len() < MAX_WAITING;
        if let Link::Up(_, session) = &mut self.link {
            session.set_paused(!reads, now);
        }
        if reads {
            let (Link::LoggingIn(socket, ..) | Link::Up(socket, _)) = &self.link else { return };
            match socket.poll_read(cx, &mut self.inbound, 4096) {
                Poll::Pending => {}
                Poll::Ready(Ok(0)) => {
                    self.wire.troubled |= socket.link().borrow().troubled;
                    self.judge.borrow_mut().hears_the_end(&self.wire);
                    return self.wait(0);
                }
                Poll::Ready(Ok(_)) => {
                    self.wire.troubled |= socket.link().borrow().troubled;
                    cx.waker().wake_by_ref();
                    if !self.handle_input(now) {
                        return;
                    }
                }
                Poll::Ready(Err(_)) => return self.wait(0),
            }
        }
        if let Link::Up(_, session) = &mut self.link {
            session.handle_timeout(now);
            if !self.handle_events() {
                return;
            }
        }
        self.write(cx, now);
    }

    fn write(&mut self, cx: &Context<'_>, now: Duration) {
        loop {
            // Nothing follows a login before the device id that it gave is saved.
            if self.outbound.is_empty()
                && self.device_id == self.saved.device_id
                && let Link::Up(_, session) = &mut self.link
                && session.poll_transmit(&mut self.device, &mut self.outbound, now)
            {
                self.tell_what_is_written();
            }
            let (Link::LoggingIn(socket, ..) | Link::Up(socket, _)) = &self.link else { return };
            if self.outbound.is_empty() {
                return;
            }
            match socket.poll_write(cx, &self.outbound) {
                Poll::Pending => return,
                Poll::Ready(Ok(written)) => {
                    self.outbound.advance(written);
                    self.line_took = self.runtime.now();
                    if self.outbound.is_empty() && std::mem::take(&mut self.ping_waits) {
                        self.pinged = self.line_took;
                    }
                }
                // What the server said last may still be there to be read.
                Poll::Ready(Err(_)) => {
                    self.wire.troubled = true;
                    return self.outbound.clear();
                }
            }
        }
    }

    fn tell_what_is_written(&mut self) {
        let mut bytes = self.outbound.clone();
        while let Ok(Some(body)) = frame::take(&mut bytes, limits::MAX_FRAME_BYTES) {
            let frame = frame::decode_client(body).expect("our own");
            self.wire.confirms(frame.received);
            self.ping_waits |= matches!(frame.body, Some(client_frame::Body::Ping(_)));
            if let Some(client_frame::Body::Send(send)) = frame.body
                && self.judge.borrow_mut().writes(self.device_id, &send)
            {
                self.wire.sends(send.send_id);
            }
        }
    }

    /// Takes every whole frame; false if the connection is over.
    fn handle_input(&mut self, now: Duration) -> bool {
        while let Some(body) = frame::take(&mut self.inbound, limits::MAX_FRAME_BYTES).expect("the server keeps to it")
        {
            let frame = frame::decode_server(body).expect("the server keeps to it");
            self.judge.borrow_mut().hears(&mut self.wire, &frame);
            match std::mem::replace(&mut self.link, Link::Off) {
                Link::LoggingIn(socket, mut login, deadline) => {
                    match login.handle_frame(frame, &mut self.device, now) {
                        Ok(LoginStep::LoggedIn(session, welcome)) => {
                            self.link = Link::Up(socket, session);
                            self.logged_in(&welcome);
                        }
                        Ok(LoginStep::Failed(error)) => {
                            self.ended(Some(&error));
                            return false;
                        }
                        Ok(LoginStep::Waiting | LoginStep::Sign { .. }) => {
                            self.link = Link::LoggingIn(socket, login, deadline);
                        }
                        Err(error) => {
                            self.judge.borrow_mut().find(Clause::WrongError, format!("{}: {error}", self.user));
                            return false;
                        }
                    }
                }
                Link::Up(socket, mut session) => {
                    let handled = session.handle_frame(frame, &mut self.device, now);
                    self.link = Link::Up(socket, session);
                    if let Err(error) = handled {
                        self.judge.borrow_mut().find(Clause::WrongError, format!("{}: {error}", self.user));
                    }
                    if !self.handle_events() {
                        return false;
                    }
                }
                Link::Off | Link::Waiting(_) => return false,
            }
        }
        true
    }

    fn logged_in(&mut self, welcome: &wire::Welcome) {
        self.attempts = 0;
        if self.device_id != welcome.device_id {
            self.device_id = welcome.device_id;
            self.save(Change::DeviceId(welcome.device_id), None);
            self.save(Change::HighestSendId(self.device.outbox.highest()), None);
        }
        let confirmed = self.device.inbox.confirmed();
        if confirmed > self.taken_up_to {
            self.waiting.retain(|(position, _)| *position > confirmed);
            self.taken_up_to = confirmed;
            self.save(Change::Cursor(confirmed), None);
        }
        if self.leaving {
            self.leave();
        }
    }

    fn handle_events(&mut self) -> bool {
        loop {
            let Link::Up(_, session) = &mut self.link else { return false };
            match session.poll_event() {
                None => return true,
                Some(Event::Acked(wire::Ack { send_id, .. }) | Event::Refused { send_id, .. }) => {
                    self.save(Change::Answered(send_id), None);
                }
                Some(Event::Entry { position, entry }) => self.waiting.push_back((position, entry)),
                Some(Event::CaughtUp) => self.caught_up = true,
                Some(Event::LinkCode(_) | Event::Error(_)) => {}
                Some(Event::Closed(error)) => {
                    self.ended(error.as_ref());
                    return false;
                }
                Some(Event::Unresponsive) => {
                    let troubled = self.wire.troubled || self.connection().is_some_and(|link| link.borrow().troubled);
                    if !troubled && !self.has_only_just_asked() {
                        let what = format!("{}/{} finds the server silent", self.user, self.name);
                        self.judge.borrow_mut().find(Clause::Stuck, what);
                    }
                    self.wait(0);
                    return false;
                }
            }
        }
    }

    /// Whether its ping waits behind its own messages on a line that takes them slowly, or left too lately for an answer:
    /// then the server is not silent. A line that takes nothing is no excuse, and no ping at all is none either.
    fn has_only_just_asked(&self) -> bool {
        let since = if self.outbound.is_empty() { self.pinged } else { self.line_took };
        since + THERE_AND_BACK > self.runtime.now()
    }

    /// The server has said that it closes.
    fn ended(&mut self, error: Option<&wire::Error>) {
        let Some(error) = error else {
            self.hang_up();
            self.link = Link::Off;
            return if !self.leaving {
                self.wait(0);
            };
        };
        match ErrorCode::from_number(error.code) {
            Some(ErrorCode::DeviceExpired) => {
                self.judge.borrow_mut().device_is_gone(self.device_id);
                self.hang_up();
                self.forget();
                if self.healed {
                    // Its marks went with its state; its person reads on.
                    self.mark_all_read();
                }
                self.wait(0);
            }
            // Somebody else has the device now. When the faults are over its person starts it again.
            Some(ErrorCode::Replaced) if !self.healed => {
                self.hang_up();
                self.link = Link::Off;
            }
            _ => self.wait(u64::from(error.retry_after_ms) * MS),
        }
    }

    /// The connection is gone; CONN-8 says when to try again.
    pub(super) fn wait(&mut self, at_least: Micros) {
        self.hang_up();
        if self.leaving {
            self.link = Link::Off;
            return;
        }
        let most = ((200 * MS) << self.attempts.min(10)).min(30 * SECOND);
        self.attempts += 1;
        self.link = Link::Waiting(self.runtime.now() + self.dice.below(most).max(at_least));
    }

    pub(super) fn hang_up(&mut self) {
        if let Link::LoggingIn(..) = &self.link {
            self.judge.borrow_mut().excuses.abandoned.insert((self.user.clone(), self.name.clone()));
        }
        self.caught_up = false;
        self.link = Link::Waiting(Micros::MAX);
        (self.inbound, self.outbound) = (BytesMut::new(), BytesMut::new());
    }
}
