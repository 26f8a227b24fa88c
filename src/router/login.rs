//! Who is it? From a checked `Hello` to a seated connection.
//!
//! Proofs are checked here; what must be decided atomically (does the name exist? is the code unused? how many devices?)
//! is decided by the store in [`Attach`].

use std::sync::Arc;

use postrider_protocol::error::{CodedError, ErrorCode};
use postrider_protocol::limits::{PUBLIC_KEY_BYTES, SIGNATURE_BYTES};
use postrider_protocol::session::server::{Hello, Method};

use super::{Peer, Replies, Router, store_failed};
use crate::hub::{Hub, Outbox};
use crate::ids::{AppId, DeviceId, Position, UserId};
use crate::store::{Admission, Attach, Attached, Completion, Operation, Outcome, StoreError};
use crate::tenant::proof::{self, Binding};
use crate::tenant::{Tenant, code};

/// The base point of Ed25519, which is a key like any other to whoever measures time. That anybody can sign for it helps
/// nobody: there is no device behind it, and so no admission.
const NO_DEVICES_KEY: [u8; PUBLIC_KEY_BYTES] = {
    let mut key = [0x66; PUBLIC_KEY_BYTES];
    key[0] = 0x58;
    key
};

/// What the connection does next.
pub enum Admit {
    /// Log in.
    Now(Admission),
    /// Challenge first. Whether user and device exist is not looked up before the proof is there, so that the challenge
    /// tells nothing (LOGIN-4).
    Challenge,
}

impl Router {
    /// Looks at the app and the method.
    ///
    /// # Errors
    /// `UNKNOWN_APP`, `METHOD_NOT_ALLOWED`.
    pub fn admit(&self, hello: &Hello) -> Result<(Arc<Tenant>, Admit), CodedError> {
        let tenant = self.tenants.find(&hello.app)?;
        tenant.check_method(&hello.method)?;
        let admit = match hello.method {
            Method::Open => Admit::Now(Admission::Open),
            Method::DeviceKey | Method::Enroll { .. } => Admit::Challenge,
            Method::Unknown => return Err(ErrorCode::MethodNotAllowed.into()),
        };
        Ok((tenant, admit))
    }

    /// Checks the answer to a challenge (LOGIN-6).
    ///
    /// # Errors
    /// `LOGIN_FAILED`, whatever was wrong.
    pub async fn verify(
        &self,
        tenant: &Tenant,
        hello: &Hello,
        binding: &Binding,
        signature: &[u8; SIGNATURE_BYTES],
    ) -> Result<Admission, CodedError> {
        let admission = match &hello.method {
            Method::Open => return Ok(Admission::Open),
            Method::Unknown => None,
            Method::Enroll { code, public_key } => {
                code::hash(code).map(|code_hash| Admission::Enroll { code_hash, key: *public_key })
            }
            Method::DeviceKey => self.enrolled_key(tenant, hello).await?.map(Admission::Key),
        };
        // Where there is no key to check against, one is checked all the same: an unknown name takes as long as a wrong
        // signature. And it is not DEVICE_EXPIRED: that would tell anybody which devices there are.
        let key = match &admission {
            Some(Admission::Key(key) | Admission::Enroll { key, .. }) => key,
            Some(Admission::Open) | None => &NO_DEVICES_KEY,
        };
        let holds = proof::holds(key, binding, hello, signature);
        admission.filter(|_| holds).ok_or_else(|| ErrorCode::LoginFailed.into())
    }

    async fn enrolled_key(&self, tenant: &Tenant, hello: &Hello) -> Result<Option<[u8; PUBLIC_KEY_BYTES]>, CodedError> {
        let user = self.store.find_user(tenant.id, &hello.user).await.map_err(|error| store_failed(&error))?;
        let device = user.and_then(|user| user.devices.into_iter().find(|device| device.name == hello.device));
        Ok(device.and_then(|device| device.key))
    }

    /// Attaches the device and seats the connection. From the commit on, everything published to the user reaches
    /// `outbox`, or is part of the backlog.
    ///
    /// # Errors
    /// What the store refuses: `LOGIN_FAILED`, `DEVICE_EXPIRED`, `TOO_MANY_DEVICES`, `CURSOR_AHEAD`; or its failure.
    pub async fn log_in(
        &self,
        tenant: Arc<Tenant>,
        hello: Hello,
        admission: Admission,
        outbox: Arc<Outbox>,
    ) -> Result<(Peer, Attached), CodedError> {
        let app = tenant.id;
        let attach = Attach {
            app,
            user: hello.user.clone(),
            device: hello.device,
            device_id: DeviceId(hello.device_id),
            cursor: Position(hello.cursor),
            admission,
            now: self.clock.wall_ms(),
        };
        let (answer, wait) = tokio::sync::oneshot::channel();
        let (hub, publisher, seat) = (Arc::clone(&self.hub), Arc::clone(&self.publisher), Arc::clone(&outbox));
        let done = move |committed: Result<crate::store::Committed, StoreError>| {
            let outcome = committed.map(|committed| {
                publisher.publish(&committed.published);
                committed.outcomes.into_iter().next()
            });
            let held = match &outcome {
                Ok(Some(Outcome::Attached(attached))) => {
                    hub.join(app, attached.user, attached.device, Arc::clone(&seat));
                    seat.attach(attached.cursor, attached.head, hello.window);
                    Some(Held { hub, app, user: attached.user, outbox: Some(seat) })
                }
                _ => None,
            };
            drop(answer.send((outcome, held)));
        };
        self.store.commit(vec![Operation::Attach(attach)], Completion::once(done)).await;
        let (outcome, held) = wait.await.unwrap_or((Err(StoreError::Closed), None));
        match outcome {
            Ok(Some(Outcome::Attached(attached))) => {
                if let Some(held) = held {
                    held.keep();
                }
                let (user, device) = (attached.user, attached.device);
                let replies = Arc::new(Replies { outbox: Arc::clone(&outbox), publisher: Arc::clone(&self.publisher) });
                Ok((Peer { tenant, user, name: hello.user, device, outbox, replies }, attached))
            }
            Ok(Some(Outcome::Refused(code))) => Err(code.into()),
            Ok(_) => Err(ErrorCode::Internal.into()),
            Err(error) => Err(store_failed(&error)),
        }
    }
}

/// A seat that nobody sits on yet. Whoever waited for the login may have gone meanwhile, even when the answer was already
/// on its way; then the seat is given up.
struct Held {
    hub: Arc<Hub>,
    app: AppId,
    user: UserId,
    outbox: Option<Arc<Outbox>>,
}

impl Held {
    /// The connection is there and gives the seat up itself.
    fn keep(mut self) {
        self.outbox = None;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(outbox) = self.outbox.take() {
            self.hub.leave(self.app, self.user, &outbox);
        }
    }
}
