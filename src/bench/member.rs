//! One user of a run, across connections: what it is, what it does, what its device and its TLS session remember.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postrider_protocol::session::client::Device;
use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls_pki_types::ServerName;

use super::day::Day;
use super::part::Actor;

/// A user with its one device.
#[derive(Debug, Default)]
pub struct Member {
    /// The user.
    pub user: String,
    /// What it does while it is connected.
    pub actor: Actor,
    /// What it remembers from one connection to the next.
    pub device: Device,
    /// `Welcome.device_id`; 0 before the first.
    pub device_id: u64,
    /// Where the ticket of its last TLS session is kept, if sessions are to be resumed.
    pub ticket: Option<Arc<Ticket>>,
    /// When it is there; always, if nothing is said.
    pub hours: Option<Hours>,
}

/// When somebody is there.
#[derive(Clone, Debug)]
pub struct Hours {
    /// Of which day.
    pub day: Arc<std::sync::OnceLock<Arc<Day>>>,
    /// Which person.
    pub person: u32,
}

impl Member {
    /// Always there, and never resumes a TLS session.
    #[must_use]
    pub fn new(user: String, actor: Actor) -> Self {
        Self { user, actor, ..Self::default() }
    }

    /// Resumes its TLS session when it comes again.
    #[must_use]
    pub fn with_ticket(self) -> Self {
        Self { ticket: Some(Arc::default()), ..self }
    }

    /// Whether it is there. It is not before its day has begun.
    #[must_use]
    pub fn is_there(&self, now: Duration) -> bool {
        self.hours.as_ref().is_none_or(|hours| hours.day.get().is_some_and(|day| day.is_there(hours.person, now)))
    }
}

/// The newest ticket of one user. It is used once, as it should be.
#[derive(Debug, Default)]
pub struct Ticket(Mutex<Option<Tls13ClientSessionValue>>);

impl Ticket {
    /// So that the next handshake is a full one.
    pub fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl ClientSessionStore for Ticket {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
