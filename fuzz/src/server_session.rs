//! The server's sessions, driven by arbitrary frames and timeouts.

use std::time::Duration;

use bytes::Bytes;
use postrider_protocol::error::{CodedError, ErrorCode};
use postrider_protocol::session::server::{AwaitingHello, AwaitingProof, Hello, Method, Request, Requests, Session};
use postrider_protocol::wire::{self, ClientFrame, client_frame};
use postrider_protocol::{limits, name};

use crate::dice::Dice;
use crate::frames;

/// One connection after the other until the input ends.
///
/// What must hold: a login gives values within their bounds or a coded refusal; a session answers every frame, and judges
/// every silence, as a few plain numbers say it must; every error closes.
pub fn server_session(data: &[u8]) {
    let mut dice = Dice::new(data);
    while connection(&mut dice).is_some() {}
}

/// `None` when the input is at its end, else the connection closed.
fn connection(dice: &mut Dice<'_>) -> Option<()> {
    let frame = frames::client_frame(dice)?;
    let hello = match AwaitingHello::new().handle_frame(frame.clone()) {
        Ok(hello) => hello,
        Err(error) => return over(&error),
    };
    check_hello(&frame, &hello);
    if matches!(hello.method, Method::DeviceKey | Method::Enroll { .. }) {
        let nonce = [dice.byte()?; limits::NONCE_BYTES];
        let (awaiting, _) = AwaitingProof::challenge(nonce);
        assert_eq!(awaiting.nonce(), &nonce);
        if let Err(error) = awaiting.handle_frame(frames::client_frame(dice)?) {
            return over(&error);
        }
    }
    let idle = Duration::from_millis(1_000 + 10 * u64::from(dice.byte()?));
    let mut model = Model { confirmed: hello.cursor, delivered: hello.cursor, unanswered: 0, now: Duration::ZERO };
    let mut session = Session::new(hello.cursor, idle, model.now);
    let mut heard = model.now;
    loop {
        let wanted_and_got = match dice.byte()? % 8 {
            0..=3 => {
                let frame = frames::client_frame(dice)?;
                heard = model.now;
                (model.handle(&frame), session.handle_frame(frame, model.now))
            }
            4 => {
                model.now += Duration::from_millis(10 * dice.number()?.min(1_000));
                let gone = model.now >= heard + idle;
                assert_eq!(session.poll_timeout(), heard + idle, "CONN-2");
                let wanted = if gone { Err(ErrorCode::IdleTimeout) } else { Ok(Requests::default()) };
                (wanted, session.handle_timeout(model.now).map(|()| Requests::default()))
            }
            5 => {
                let position = model.confirmed.saturating_add(dice.number()?);
                model.delivered = model.delivered.max(position);
                session.handle_delivered(position);
                continue;
            }
            6 => {
                let count = dice.byte()?.into();
                model.unanswered = model.unanswered.saturating_sub(count);
                session.handle_answered(count);
                continue;
            }
            _ => {
                let send = client_frame::Body::Send(wire::Send { content: Bytes::new(), ..Default::default() });
                let frame = ClientFrame { received: 0, body: Some(send) };
                for _ in 0..dice.byte()? {
                    heard = model.now;
                    let (wanted, got) = (model.handle(&frame), session.handle_frame(frame.clone(), model.now));
                    assert_eq!(got.as_ref().map_err(|error| error.code), wanted.as_ref().map_err(|code| *code));
                    if let Err(error) = got {
                        return over(&error);
                    }
                }
                continue;
            }
        };
        let (wanted, got) = wanted_and_got;
        assert_eq!(got.as_ref().map_err(|error| error.code), wanted.as_ref().map_err(|code| *code));
        assert_eq!(session.confirmed(), if got.is_ok() { model.confirmed } else { session.confirmed() });
        assert!(session.confirmed() <= model.delivered, "DLVR-5");
        if let Err(error) = got {
            return over(&error);
        }
    }
}

/// The connection is over, and its client was told so.
fn over(error: &CodedError) -> Option<()> {
    assert!(error.code.closes(), "{error} leaves a connection that has no state");
    Some(())
}

fn check_hello(frame: &ClientFrame, hello: &Hello) {
    let Some(client_frame::Body::Hello(said)) = &frame.body else { panic!("LOGIN-1: {frame:?}") };
    assert_eq!(said.version, limits::VERSION);
    assert!(name::check("user", &hello.user).is_ok() && name::check("device", &hello.device).is_ok(), "NAME-1");
    assert!((1..=limits::MAX_WINDOW).contains(&hello.window), "LIMIT-1");
    assert!(hello.agent.len() <= limits::MAX_AGENT_BYTES && !hello.agent.contains(char::is_control));
    assert_eq!((hello.cursor, hello.device_id), (said.cursor, said.device_id));
    if let Method::Enroll { code, .. } = &hello.method {
        assert!(code.len() <= limits::MAX_CODE_BYTES);
    }
}

/// What a session must know.
struct Model {
    confirmed: u64,
    delivered: u64,
    unanswered: usize,
    now: Duration,
}

impl Model {
    fn handle(&mut self, frame: &ClientFrame) -> Result<Requests, ErrorCode> {
        use client_frame::Body;
        let request = match frame.body.clone() {
            None if frame.received == 0 => return Err(ErrorCode::BadFrame),
            None => None,
            Some(Body::Hello(_) | Body::Proof(_)) => return Err(ErrorCode::AlreadyLoggedIn),
            Some(Body::Send(_)) if self.unanswered == limits::SEND_WINDOW => return Err(ErrorCode::TooManyRequests),
            Some(Body::Send(wire::Send { send_id, to, content })) => {
                self.unanswered += 1;
                Some(Request::Send { send_id, to, content })
            }
            Some(Body::Read(wire::Read { conversation, seq })) => Some(Request::Read { conversation, seq }),
            Some(Body::Ping(wire::Ping { token })) => Some(Request::Ping { token }),
            Some(Body::LinkDevice(_)) => Some(Request::LinkDevice),
            Some(Body::Goodbye(_)) => Some(Request::Goodbye),
        };
        if frame.received > self.delivered {
            return Err(ErrorCode::PositionNotDelivered);
        }
        let received = (frame.received > self.confirmed).then_some(frame.received);
        self.confirmed = received.unwrap_or(self.confirmed);
        Ok(Requests { received, request })
    }
}
