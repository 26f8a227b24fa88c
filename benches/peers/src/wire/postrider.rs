//! Postrider: the protocol crate's client session, which is what every client runs.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use postrider_protocol::error::CodedError;
use postrider_protocol::session::client::{Device, Event, Login, LoginMethod, LoginRequest, LoginStep, Session};
use postrider_protocol::wire::{ServerFrame, deliver, send};
use postrider_protocol::{frame, limits};

use super::{Heard, Role, Side, Wire, WireError};

/// The app of a server without configuration.
const APP: &str = "dev";

/// One connection.
pub struct Postrider {
    side: Side,
    device: Device,
    state: State,
    /// Where the next message goes: a user at first, then the conversation.
    to: send::To,
    /// `send_id` and counter of what has no answer.
    unanswered: VecDeque<(u64, u64)>,
    /// `seq` and counter of what is acked and not delivered.
    undelivered: VecDeque<(u64, u64)>,
    /// The highest position that arrived.
    arrived: u64,
}

enum State {
    Unopened,
    Login(Box<Login>),
    Live(Box<Session>),
}

impl Postrider {
    /// For this side.
    #[must_use]
    pub fn new(side: Side) -> Self {
        let to = send::To::User(side.other.clone());
        let (unanswered, undelivered) = Default::default();
        Self { side, device: Device::default(), state: State::Unopened, to, unanswered, undelivered, arrived: 0 }
    }

    fn frame(&mut self, frame: ServerFrame, now: Duration, tell: &mut dyn FnMut(Heard<'_>)) -> Result<(), WireError> {
        match &mut self.state {
            State::Unopened => return Err(WireError::Unknown("a frame before the login".into())),
            State::Login(login) => match login.handle_frame(frame, &mut self.device, now)? {
                LoginStep::LoggedIn(session, _) => {
                    self.state = State::Live(session);
                    tell(Heard::Ready);
                }
                LoginStep::Waiting => {}
                LoginStep::Sign { .. } => return Err(WireError::Refused("the server asks for a key".into())),
                LoginStep::Failed(error) => {
                    return Err(WireError::Refused(format!("{}: {}", error.name, error.detail)));
                }
            },
            State::Live(session) => {
                session.handle_frame(frame, &mut self.device, now)?;
                while let State::Live(session) = &mut self.state
                    && let Some(event) = session.poll_event()
                {
                    self.event(event, tell)?;
                }
            }
        }
        Ok(())
    }

    fn event(&mut self, event: Event, tell: &mut dyn FnMut(Heard<'_>)) -> Result<(), WireError> {
        match event {
            Event::Acked(ack) => {
                if let Some(counter) = self.answered(ack.send_id) {
                    self.to = send::To::Conversation(ack.conversation);
                    self.undelivered.push_back((ack.seq, counter));
                    tell(Heard::Acked(counter));
                }
            }
            Event::Refused { send_id, .. } => {
                if let Some(counter) = self.answered(send_id) {
                    tell(Heard::Refused(counter));
                }
            }
            Event::Entry { position, entry } => {
                self.arrived = position;
                match entry {
                    Some(deliver::Entry::Message(message)) => tell(Heard::Message(&message.content)),
                    Some(deliver::Entry::Delivered(receipt)) => {
                        // An ack is never overtaken by the receipt it causes.
                        let delivered = self.undelivered.partition_point(|(seq, _)| *seq <= receipt.seq);
                        if let Some((_, counter)) = self.undelivered.drain(..delivered).next_back() {
                            tell(Heard::DeliveredUpTo(counter));
                        }
                    }
                    _ => {}
                }
                if self.side.role == Role::Sender {
                    self.device.inbox.confirm(position);
                }
            }
            Event::Closed(error) => {
                let why = error.map_or_else(|| "goodbye".into(), |error| format!("{}: {}", error.name, error.detail));
                return Err(WireError::Refused(why));
            }
            Event::Unresponsive => return Err(WireError::Refused("it does not answer any more".into())),
            _ => {}
        }
        Ok(())
    }

    fn answered(&mut self, send_id: u64) -> Option<u64> {
        let index = self.unanswered.binary_search_by_key(&send_id, |(send_id, _)| *send_id).ok()?;
        self.unanswered.remove(index).map(|(_, counter)| counter)
    }
}

impl From<CodedError> for WireError {
    fn from(error: CodedError) -> Self {
        Self::Unknown(error.to_string())
    }
}

impl Wire for Postrider {
    fn open(&mut self, out: &mut BytesMut) {
        let request = LoginRequest {
            app: APP.into(),
            user: self.side.user.clone(),
            device: "peers".into(),
            device_id: 0,
            window: 0,
            agent: concat!("postrider-peers/", env!("CARGO_PKG_VERSION")).into(),
            method: LoginMethod::Open,
        };
        let mut login = Login::new(request, &self.device);
        login.poll_transmit(out);
        self.state = State::Login(Box::new(login));
    }

    fn take(
        &mut self,
        inbound: &mut BytesMut,
        _out: &mut BytesMut,
        now: Duration,
        tell: &mut dyn FnMut(Heard<'_>),
    ) -> Result<(), WireError> {
        while let Some(body) = frame::take(inbound, limits::MAX_FRAME_BYTES)? {
            self.frame(frame::decode_server(body)?, now, tell)?;
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.device.outbox.has_room()
    }

    fn send(&mut self, counter: u64, content: &[u8], _out: &mut BytesMut) {
        // There is room: that was asked.
        if let Ok(send_id) = self.device.outbox.push(self.to.clone(), Bytes::copy_from_slice(content)) {
            self.unanswered.push_back((send_id, counter));
            self.device.outbox.release(send_id);
        }
    }

    fn received(&mut self, _counters: &[u64], _out: &mut BytesMut) {
        self.device.inbox.confirm(self.arrived);
    }

    fn flush(&mut self, out: &mut BytesMut, now: Duration) {
        if let State::Live(session) = &mut self.state {
            session.poll_transmit(&mut self.device, out, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use postrider_protocol::wire::{self, server_frame};

    use super::super::Receipts;
    use super::super::testing::{hear, side};
    use super::*;

    fn server(body: server_frame::Body) -> Vec<u8> {
        let mut out = BytesMut::new();
        frame::put(&ServerFrame { body: Some(body) }, &mut out);
        out.to_vec()
    }

    #[test]
    fn a_message_is_acked_by_its_send_id_and_delivered_by_its_seq() {
        let mut wire = Postrider::new(side(Role::Sender, Receipts::Each));
        let mut out = BytesMut::new();
        wire.open(&mut out);
        assert!(!out.is_empty());
        let welcome = wire::Welcome { device_id: 1, send_window: 8, ..Default::default() };
        assert_eq!(hear(&mut wire, &server(server_frame::Body::Welcome(welcome))).0, ["Ready"]);
        out.clear();
        (40..42).for_each(|counter| wire.send(counter, b"hi", &mut out));
        wire.flush(&mut out, Duration::ZERO);
        assert!(!out.is_empty());
        let ack =
            |id| server(server_frame::Body::Ack(wire::Ack { send_id: id, conversation: 5, seq: 10 + id, time: 1 }));
        assert_eq!(hear(&mut wire, &ack(1)).0, ["Acked(40)"]);
        assert_eq!(hear(&mut wire, &ack(2)).0, ["Acked(41)"]);
        let receipt = wire::Receipt { conversation: 5, user: "r7".into(), seq: 12 };
        let entry = Some(deliver::Entry::Delivered(receipt));
        let deliver = server(server_frame::Body::Deliver(wire::Deliver { position: 1, entry }));
        assert_eq!(hear(&mut wire, &deliver).0, ["DeliveredUpTo(41)"]);
    }
}
