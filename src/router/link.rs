//! `LinkDevice` → a one-time code for another device of the same user (LOGIN-8).

use postrider_protocol::error::{CodedError, ErrorCode};
use postrider_protocol::frame;
use postrider_protocol::session::server::frame as server_frame;
use postrider_protocol::wire::{self, server_frame::Body};

use super::{Peer, Router};
use crate::store::{Operation, Outcome};
use crate::tenant::code;

/// A code as a person gets it.
pub struct MadeCode {
    /// To be typed at the new device.
    pub code: String,
    /// How long it is good, in seconds.
    pub expires_in_s: u32,
}

impl Router {
    pub(super) async fn link(&self, peer: &Peer) {
        let made = if peer.tenant.enrolls() {
            self.make_code(peer.app(), &peer.name).await
        } else {
            Err(ErrorCode::LinkNotAllowed.into())
        };
        let body = match made {
            Ok(MadeCode { code, expires_in_s }) => Body::LinkCode(wire::LinkCode { code, expires_in_s }),
            Err(error) if error.code.closes() => return peer.outbox.close(error),
            Err(error) => Body::Error(error.to_wire()),
        };
        peer.outbox.reply(|sender| sender.frame(|out| frame::put(&server_frame(body), out)));
    }

    /// Makes a one-time code for a user.
    ///
    /// # Errors
    /// `NOT_ACCEPTED` if there is no such user; the store's failure.
    pub async fn make_code(&self, app: crate::ids::AppId, user: &str) -> Result<MadeCode, CodedError> {
        let code = code::from_random(self.clock.random_bytes());
        let hash = code::hash(&code).ok_or_else(|| CodedError::new(ErrorCode::Internal))?;
        let expires = self.clock.wall_ms() + u64::from(code::LIFETIME_S) * 1000;
        match self.commit_one(Operation::AddCode { app, user: user.to_owned(), hash, expires }).await? {
            Outcome::Done => Ok(MadeCode { code, expires_in_s: code::LIFETIME_S }),
            Outcome::Refused(code) => Err(code.into()),
            _ => Err(ErrorCode::Internal.into()),
        }
    }
}
