//! The server's side of a connection, without the connection.
//!
//! One type per state, so that what is not allowed cannot be called: [`AwaitingHello`] → ([`AwaitingProof`] →)
//! [`Session`]. Only a [`Session`] yields requests. Permission, `seq` and `position` are not decided here: a session
//! checks what can be checked from this connection's frames alone.

use std::time::Duration;

use bytes::Bytes;

use crate::error::{CodedError, ErrorCode};
use crate::limits;
use crate::name;
use crate::wire::{self, ClientFrame, ServerFrame, client_frame, hello, send, server_frame};

/// A connection that has not said anything yet.
#[derive(Debug, Default)]
pub struct AwaitingHello(());

/// A `Hello` whose fields are within their bounds. Nothing it says is proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The app's name; it need not exist.
    pub app: String,
    /// The user's name, within NAME-1.
    pub user: String,
    /// The device's name, within NAME-1.
    pub device: String,
    /// The device's number as the client knows it; 0 when it holds no state.
    pub device_id: u64,
    /// What the client has durably taken.
    pub cursor: u64,
    /// How far past the confirmed position the server may stream, in positions; within LIMIT-1.
    pub window: u32,
    /// What the client calls itself, cut to [`limits::MAX_AGENT_BYTES`], without control characters.
    pub agent: String,
    /// How it wants to show who it is.
    pub method: Method,
}

/// How a `Hello` wants to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// None, or one that a later version added.
    Unknown,
    /// Any name, no credential.
    Open,
    /// The key the device was enrolled with.
    DeviceKey,
    /// A one-time code and the key to enrol.
    Enroll {
        /// As the person typed it.
        code: String,
        /// Ed25519.
        public_key: [u8; limits::PUBLIC_KEY_BYTES],
    },
}

impl AwaitingHello {
    /// A new connection.
    #[must_use]
    pub fn new() -> Self {
        Self(())
    }

    /// Takes the first frame, which must be a `Hello` (LOGIN-1).
    ///
    /// # Errors
    /// `LOGIN_REQUIRED`, `UNSUPPORTED_VERSION`, `BAD_NAME`, `BAD_FRAME`; all close.
    pub fn handle_frame(self, frame: ClientFrame) -> Result<Hello, CodedError> {
        let Some(client_frame::Body::Hello(hello)) = frame.body else { return Err(ErrorCode::LoginRequired.into()) };
        if hello.version != limits::VERSION {
            let detail = format!("version {} is not spoken here; speak {}", hello.version, limits::VERSION);
            return Err(CodedError::with(ErrorCode::UnsupportedVersion, detail));
        }
        name::check("user", &hello.user)?;
        name::check("device", &hello.device)?;
        let method = match hello.method {
            None => Method::Unknown,
            Some(hello::Method::Open(_)) => Method::Open,
            Some(hello::Method::DeviceKey(_)) => Method::DeviceKey,
            Some(hello::Method::Enroll(enroll)) => {
                let Ok(public_key) = enroll.public_key.as_ref().try_into() else {
                    return Err(CodedError::with(ErrorCode::BadFrame, "enroll.public_key is not 32 bytes"));
                };
                if enroll.code.len() > limits::MAX_CODE_BYTES {
                    return Err(CodedError::with(ErrorCode::BadFrame, "enroll.code is longer than 64 bytes"));
                }
                Method::Enroll { code: enroll.code, public_key }
            }
        };
        let window = if hello.window == 0 { limits::DEFAULT_WINDOW } else { hello.window.min(limits::MAX_WINDOW) };
        Ok(Hello {
            app: hello.app,
            user: hello.user,
            device: hello.device,
            device_id: hello.device_id,
            cursor: hello.cursor,
            window,
            agent: printable(&hello.agent),
            method,
        })
    }
}

/// Fit for a log line: nothing in it that is obeyed rather than shown, bounded.
fn printable(agent: &str) -> String {
    let mut out = String::new();
    for letter in agent.chars().filter(|&letter| !name::is_obeyed(letter)) {
        if out.len() + letter.len_utf8() > limits::MAX_AGENT_BYTES {
            break;
        }
        out.push(letter);
    }
    out
}

/// A connection that was challenged.
#[derive(Debug)]
pub struct AwaitingProof {
    nonce: [u8; limits::NONCE_BYTES],
}

impl AwaitingProof {
    /// Challenges with a nonce that was never used before; the frame goes to the client (LOGIN-5).
    #[must_use]
    pub fn challenge(nonce: [u8; limits::NONCE_BYTES]) -> (Self, ServerFrame) {
        let body = server_frame::Body::Challenge(wire::Challenge { nonce: Bytes::copy_from_slice(&nonce) });
        (Self { nonce }, frame(body))
    }

    /// The nonce that must be under the signature.
    #[must_use]
    pub fn nonce(&self) -> &[u8; limits::NONCE_BYTES] {
        &self.nonce
    }

    /// Takes the answer, which must be a `Proof`; whether the signature is good is the caller's to say (LOGIN-6).
    ///
    /// # Errors
    /// `LOGIN_REQUIRED`, `BAD_FRAME`; both close.
    pub fn handle_frame(self, frame: ClientFrame) -> Result<[u8; limits::SIGNATURE_BYTES], CodedError> {
        let Some(client_frame::Body::Proof(proof)) = frame.body else { return Err(ErrorCode::LoginRequired.into()) };
        let signature = proof.signature.as_ref().try_into();
        signature.map_err(|_| CodedError::with(ErrorCode::BadFrame, "proof.signature is not 64 bytes"))
    }
}

/// A connection that is logged in.
///
/// Invariant: `confirmed ≤ delivered`.
#[derive(Debug)]
pub struct Session {
    confirmed: u64,
    delivered: u64,
    unanswered: usize,
    idle_timeout: Duration,
    last_heard: Duration,
}

/// What one frame asks for: a confirmation, a request, or both; the confirmation comes first.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Everything up to this position is durably taken; above what was confirmed before.
    pub received: Option<u64>,
    /// The frame's body.
    pub request: Option<Request>,
}

/// What a client that is logged in can ask for.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// A message to be committed.
    Send {
        /// The device's counter.
        send_id: u64,
        /// To whom; `None` when the frame does not say.
        to: Option<send::To>,
        /// Opaque.
        content: Bytes,
    },
    /// The user has read.
    Read {
        /// Which conversation.
        conversation: u64,
        /// Up to here.
        seq: u64,
    },
    /// To be answered with `Pong`.
    Ping {
        /// To be echoed.
        token: u64,
    },
    /// A code for another device is wanted.
    LinkDevice,
    /// The client sends no more.
    Goodbye,
}

impl Session {
    /// A session that streams after `cursor`; `now` is the moment of login.
    #[must_use]
    pub fn new(cursor: u64, idle_timeout: Duration, now: Duration) -> Self {
        Self { confirmed: cursor, delivered: cursor, unanswered: 0, idle_timeout, last_heard: now }
    }

    /// Notes that entries up to `position` went to the client, so that it may confirm them.
    pub fn handle_delivered(&mut self, position: u64) {
        self.delivered = self.delivered.max(position);
    }

    /// Notes that `count` sends were answered.
    pub fn handle_answered(&mut self, count: usize) {
        self.unanswered = self.unanswered.saturating_sub(count);
    }

    /// Takes one frame.
    ///
    /// # Errors
    /// `ALREADY_LOGGED_IN` (LOGIN-7), `POSITION_NOT_DELIVERED` (DLVR-5), `TOO_MANY_REQUESTS` (SEND-6), `BAD_FRAME` for
    /// a frame that says nothing (FRAME-6); all close.
    pub fn handle_frame(&mut self, frame: ClientFrame, now: Duration) -> Result<Requests, CodedError> {
        self.last_heard = now;
        if frame.received == 0 && frame.body.is_none() {
            return Err(CodedError::with(ErrorCode::BadFrame, "the frame has no body that this version knows"));
        }
        let request = match frame.body {
            None => None,
            Some(body) => Some(self.request(body)?),
        };
        Ok(Requests { received: self.confirm(frame.received)?, request })
    }

    fn confirm(&mut self, position: u64) -> Result<Option<u64>, CodedError> {
        if position > self.delivered {
            let detail = format!("position {position} is confirmed, {} is the highest delivered", self.delivered);
            return Err(CodedError::with(ErrorCode::PositionNotDelivered, detail));
        }
        if position <= self.confirmed {
            return Ok(None);
        }
        self.confirmed = position;
        Ok(Some(position))
    }

    fn request(&mut self, body: client_frame::Body) -> Result<Request, CodedError> {
        match body {
            client_frame::Body::Hello(_) | client_frame::Body::Proof(_) => Err(ErrorCode::AlreadyLoggedIn.into()),
            client_frame::Body::Send(wire::Send { send_id, to, content }) => {
                if self.unanswered >= limits::SEND_WINDOW {
                    let detail = format!("more than {} sends wait for their answers", limits::SEND_WINDOW);
                    return Err(CodedError::with(ErrorCode::TooManyRequests, detail));
                }
                self.unanswered += 1;
                Ok(Request::Send { send_id, to, content })
            }
            client_frame::Body::Read(wire::Read { conversation, seq }) => Ok(Request::Read { conversation, seq }),
            client_frame::Body::Ping(wire::Ping { token }) => Ok(Request::Ping { token }),
            client_frame::Body::LinkDevice(_) => Ok(Request::LinkDevice),
            client_frame::Body::Goodbye(_) => Ok(Request::Goodbye),
        }
    }

    /// The highest position the client has confirmed on this connection, or its cursor at login.
    #[must_use]
    pub fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Duration {
        self.last_heard + self.idle_timeout
    }

    /// Judges the silence (CONN-2).
    ///
    /// # Errors
    /// `IDLE_TIMEOUT` when the client has sent nothing for the idle timeout; closes.
    pub fn handle_timeout(&self, now: Duration) -> Result<(), CodedError> {
        if now < self.poll_timeout() {
            return Ok(());
        }
        let detail = format!("nothing came for {} ms", self.idle_timeout.as_millis());
        Err(CodedError::with(ErrorCode::IdleTimeout, detail))
    }
}

/// A server frame with this body.
#[must_use]
pub fn frame(body: server_frame::Body) -> ServerFrame {
    ServerFrame { body: Some(body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(10);

    fn session() -> Session {
        Session::new(5, IDLE, Duration::ZERO)
    }

    fn received(position: u64) -> ClientFrame {
        ClientFrame { received: position, body: None }
    }

    fn with_body(body: client_frame::Body) -> ClientFrame {
        ClientFrame { received: 0, body: Some(body) }
    }

    fn hello() -> wire::Hello {
        wire::Hello {
            version: 1,
            app: "dev".into(),
            user: "alice".into(),
            device: "laptop".into(),
            method: Some(hello::Method::Open(wire::OpenLogin {})),
            ..Default::default()
        }
    }

    fn login(hello: wire::Hello) -> Result<Hello, ErrorCode> {
        let frame = with_body(client_frame::Body::Hello(hello));
        AwaitingHello::new().handle_frame(frame).map_err(|error| error.code)
    }

    #[test]
    fn the_first_frame_must_be_a_hello() {
        let send = with_body(client_frame::Body::Send(wire::Send::default()));
        assert_eq!(AwaitingHello::new().handle_frame(send).expect_err("LOGIN-1").code, ErrorCode::LoginRequired);
        assert_eq!(login(hello()).expect("a good hello").method, Method::Open);
    }

    #[test]
    fn a_hello_out_of_bounds_is_refused_with_its_own_code() {
        assert_eq!(login(wire::Hello { version: 2, ..hello() }), Err(ErrorCode::UnsupportedVersion));
        assert_eq!(login(wire::Hello { user: String::new(), ..hello() }), Err(ErrorCode::BadName));
        assert_eq!(login(wire::Hello { device: "a\tb".into(), ..hello() }), Err(ErrorCode::BadName));
        let unknown =
            login(wire::Hello { method: None, ..hello() }).expect("which methods are allowed is the app's to say");
        assert_eq!(unknown.method, Method::Unknown);
        let short_key = wire::EnrollLogin { code: "X".into(), public_key: Bytes::from_static(&[1; 31]) };
        let method = Some(hello::Method::Enroll(short_key));
        assert_eq!(login(wire::Hello { method, ..hello() }), Err(ErrorCode::BadFrame));
    }

    #[test]
    fn what_a_client_calls_itself_is_cut_and_cleaned_for_logs() {
        let agent = format!("evil\n\u{202e}{}", "x".repeat(100));
        let hello = login(wire::Hello { agent, ..hello() }).expect("an agent is never a reason to refuse");
        assert_eq!(hello.agent, format!("evil{}", "x".repeat(60)));
    }

    #[test]
    fn a_challenge_is_answered_by_a_proof_and_nothing_else() {
        let (awaiting, _) = AwaitingProof::challenge([7; 32]);
        let ping = with_body(client_frame::Body::Ping(wire::Ping { token: 1 }));
        assert_eq!(awaiting.handle_frame(ping).expect_err("LOGIN-5").code, ErrorCode::LoginRequired);
        let (awaiting, _) = AwaitingProof::challenge([7; 32]);
        let proof = wire::Proof { signature: Bytes::from_static(&[9; 64]) };
        assert_eq!(awaiting.handle_frame(with_body(client_frame::Body::Proof(proof))), Ok([9; 64]));
    }

    #[test]
    fn a_second_hello_closes() {
        let error = session().handle_frame(with_body(client_frame::Body::Hello(hello())), IDLE).expect_err("LOGIN-7");
        assert_eq!(error.code, ErrorCode::AlreadyLoggedIn);
    }

    #[test]
    fn only_delivered_positions_can_be_confirmed_and_old_ones_are_ignored() {
        let mut session = session();
        assert_eq!(session.handle_frame(received(6), IDLE).expect_err("DLVR-5").code, ErrorCode::PositionNotDelivered);
        session.handle_delivered(9);
        assert_eq!(session.handle_frame(received(8), IDLE).expect("delivered").received, Some(8));
        assert_eq!(session.handle_frame(received(8), IDLE).expect("repeated").received, None);
        assert_eq!(session.handle_frame(received(3), IDLE).expect("old").received, None);
        assert_eq!(session.confirmed(), 8);
    }

    #[test]
    fn an_empty_frame_is_a_bad_frame() {
        assert_eq!(session().handle_frame(received(0), IDLE).expect_err("FRAME-6").code, ErrorCode::BadFrame);
    }

    #[test]
    fn sends_beyond_the_window_close_and_answers_make_room() {
        let mut session = session();
        let send = || with_body(client_frame::Body::Send(wire::Send::default()));
        for _ in 0..limits::SEND_WINDOW {
            session.handle_frame(send(), IDLE).expect("within the window");
        }
        session.handle_answered(1);
        session.handle_frame(send(), IDLE).expect("an answer made room");
        assert_eq!(session.handle_frame(send(), IDLE).expect_err("SEND-6").code, ErrorCode::TooManyRequests);
    }

    #[test]
    fn silence_for_the_idle_timeout_closes_and_any_frame_postpones_it() {
        let mut session = session();
        assert_eq!(session.poll_timeout(), IDLE);
        let ping = with_body(client_frame::Body::Ping(wire::Ping { token: 1 }));
        session.handle_frame(ping, Duration::from_secs(4)).expect("a ping");
        session.handle_timeout(IDLE).expect("CONN-2: postponed");
        let error = session.handle_timeout(Duration::from_secs(14)).expect_err("CONN-2");
        assert_eq!(error.code, ErrorCode::IdleTimeout);
    }
}
