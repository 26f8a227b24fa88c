//! From `Hello` to `Welcome`.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::outbox::LAST_SEND_ID;
use super::{Device, Session};
use crate::error::{CodedError, ErrorCode};
use crate::wire::{self, ClientFrame, ServerFrame, client_frame, hello, server_frame};
use crate::{frame, limits};

/// Who logs in, and how.
#[derive(Clone, Debug)]
pub struct LoginRequest {
    /// The app.
    pub app: String,
    /// The user, 1 to 64 bytes.
    pub user: String,
    /// The device's name, 1 to 64 bytes.
    pub device: String,
    /// What `Welcome` answered when this device last logged in; 0 without state.
    pub device_id: u64,
    /// How far past the confirmed position the server may stream, in positions; 0 takes the server's choice.
    pub window: u32,
    /// Name and version of the program, at most [`limits::MAX_AGENT_BYTES`].
    pub agent: String,
    /// By which right.
    pub method: LoginMethod,
}

/// How a client proves who it is.
#[derive(Clone, Debug)]
pub enum LoginMethod {
    /// By name alone, where the operator allows it.
    Open,
    /// With the key the device was enrolled with.
    DeviceKey,
    /// With a one-time code; `public_key` is the device's from now on.
    Enroll {
        /// The code, as it was given.
        code: String,
        /// Ed25519.
        public_key: [u8; limits::PUBLIC_KEY_BYTES],
    },
}

/// What a login needs next.
#[derive(Debug)]
pub enum LoginStep {
    /// Sign [`proof::signed_bytes`](crate::proof::signed_bytes) with this nonce, and call [`Login::handle_signature`].
    Sign {
        /// `Challenge.nonce`.
        nonce: [u8; limits::NONCE_BYTES],
    },
    /// Done. `Welcome.device_id` is to be kept.
    LoggedIn(Box<Session>, Box<wire::Welcome>),
    /// The server said no, and closes.
    Failed(wire::Error),
    /// Nothing yet: the frame was of a kind that this version does not know.
    Waiting,
}

/// A connection that is not logged in yet.
#[derive(Debug)]
pub struct Login {
    device_id: u64,
    transmit: Option<client_frame::Body>,
    proof: Proof,
}

/// Where a login stands with its challenge.
#[derive(Debug, PartialEq, Eq)]
enum Proof {
    NotNeeded,
    Unchallenged,
    Challenged,
    Given,
}

impl Login {
    /// Starts a login of `device`, whose confirmed position goes along.
    #[must_use]
    pub fn new(request: LoginRequest, device: &Device) -> Self {
        let (method, proof) = match request.method {
            LoginMethod::Open => (hello::Method::Open(wire::OpenLogin {}), Proof::NotNeeded),
            LoginMethod::DeviceKey => (hello::Method::DeviceKey(wire::DeviceKeyLogin {}), Proof::Unchallenged),
            LoginMethod::Enroll { code, public_key } => {
                let public_key = Bytes::copy_from_slice(&public_key);
                (hello::Method::Enroll(wire::EnrollLogin { code, public_key }), Proof::Unchallenged)
            }
        };
        let hello = wire::Hello {
            version: limits::VERSION,
            app: request.app,
            user: request.user,
            device: request.device,
            device_id: request.device_id,
            cursor: device.inbox.confirmed(),
            window: request.window,
            agent: request.agent,
            method: Some(method),
        };
        Self { device_id: request.device_id, transmit: Some(client_frame::Body::Hello(hello)), proof }
    }

    /// Appends what is to be written; true if it appended anything.
    pub fn poll_transmit(&mut self, out: &mut BytesMut) -> bool {
        let Some(body) = self.transmit.take() else { return false };
        frame::put(&ClientFrame { received: 0, body: Some(body) }, out);
        true
    }

    /// Takes in one frame of the server. After `LoggedIn` or `Failed` this login is over.
    ///
    /// # Errors
    /// `BAD_FRAME` for a frame that has no place or no meaning here, `DEVICE_EXPIRED` when the server answers for another device than
    /// the one whose state this is, `FRAME_TOO_LARGE` when a queued message is above the server's limit.
    pub fn handle_frame(
        &mut self,
        frame: ServerFrame,
        device: &mut Device,
        now: Duration,
    ) -> Result<LoginStep, CodedError> {
        match frame.body {
            Some(server_frame::Body::Challenge(challenge)) if self.proof == Proof::Unchallenged => {
                let nonce = challenge.nonce.as_ref().try_into();
                let nonce = nonce.map_err(|_| CodedError::with(ErrorCode::BadFrame, "a nonce is 32 bytes"))?;
                self.proof = Proof::Challenged;
                Ok(LoginStep::Sign { nonce })
            }
            Some(server_frame::Body::Welcome(welcome)) if matches!(self.proof, Proof::NotNeeded | Proof::Given) => {
                self.welcomed(welcome, device, now)
            }
            Some(server_frame::Body::Error(error)) => Ok(LoginStep::Failed(error)),
            Some(server_frame::Body::Goodbye(_)) => Ok(LoginStep::Failed(ErrorCode::ShuttingDown.into_wire())),
            None => Ok(LoginStep::Waiting),
            Some(_) => Err(CodedError::with(ErrorCode::BadFrame, "a frame that has no place in a login")),
        }
    }

    /// Takes the signature that `Sign` asked for. Without a challenge it does nothing.
    pub fn handle_signature(&mut self, signature: &[u8; limits::SIGNATURE_BYTES]) {
        if self.proof == Proof::Challenged {
            let signature = Bytes::copy_from_slice(signature);
            self.transmit = Some(client_frame::Body::Proof(wire::Proof { signature }));
            self.proof = Proof::Given;
        }
    }

    fn welcomed(&self, welcome: wire::Welcome, device: &mut Device, now: Duration) -> Result<LoginStep, CodedError> {
        if self.device_id != 0 && self.device_id != welcome.device_id {
            let detail = "the server does not know the device that this client's state belongs to";
            return Err(CodedError::with(ErrorCode::DeviceExpired, detail));
        }
        // Whatever is sent next would leave a gap (SYNC-9).
        if welcome.highest_send_id < device.outbox.answered() {
            let detail = "the server has forgotten what it acked to this client: its data is older than that";
            return Err(CodedError::with(ErrorCode::DeviceExpired, detail));
        }
        if welcome.highest_send_id >= LAST_SEND_ID {
            return Err(CodedError::with(
                ErrorCode::BadFrame,
                "welcome.highest_send_id leaves no number to send under",
            ));
        }
        device.inbox.handle_welcome(&welcome);
        let too_large = |error: super::PushError| CodedError::with(ErrorCode::FrameTooLarge, error.to_string());
        device.outbox.handle_welcome(&welcome).map_err(too_large)?;
        let session = Session::new(&welcome, now);
        Ok(LoginStep::LoggedIn(Box::new(session), Box::new(welcome)))
    }
}

impl ErrorCode {
    fn into_wire(self) -> wire::Error {
        CodedError::new(self).to_wire()
    }
}
