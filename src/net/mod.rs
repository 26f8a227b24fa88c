//! Sockets: where bytes come in and go out.
//!
//! # Layout
//! - [`listener`]: accepts, within limits
//! - [`tls`]: the TLS configuration, and TLS over one socket
//! - [`certificate`]: the certificate a server makes for itself; [`renewal`]: shows another one while the server runs
//! - [`private`]: files that others must not read or write
//! - [`attempts`]: failed logins, counted by where they come from
//! - [`lobby`]: the threads on which connections come and go
//! - `turns`: key exchanges take turns, so that they do not stand in front of logins that are further on
//! - [`handshake`]: TLS and login of one connection: `Hello` → `Welcome`
//! - [`connection`]: one logged-in connection: bytes ↔ session

pub mod attempts;
pub mod certificate;
pub mod connection;
pub mod handshake;
pub mod listener;
pub mod lobby;
pub mod private;
pub mod renewal;
pub mod tls;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use attempts::Attempts;
use tokio::runtime::Handle;
use turns::Turns;

use crate::clock::Clock;
use crate::router::Router;

/// What connections are bounded by.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// From accept to `Welcome`.
    pub login_timeout: Duration,
    /// A logged-in connection that sends nothing for this long is closed.
    pub idle_timeout: Duration,
    /// Bytes of a frame after login.
    pub max_frame_bytes: usize,
    /// Logins that may fail.
    pub failures: attempts::Bounds,
}

/// What every connection of this server shares.
pub struct Shared {
    /// Where requests go.
    pub router: Arc<Router>,
    /// Time and randomness.
    pub clock: Clock,
    /// The bounds.
    pub config: Config,
    attempts: Attempts,
    turns: Turns,
    /// Where connections come and go, and where they are served.
    lobby: Handle,
    hall: Handle,
}

impl Shared {
    /// What the connections of a server share. They come and go in the `lobby`, and are served where this is called.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[must_use]
    pub fn new(router: Arc<Router>, clock: Clock, config: Config, lobby: Handle) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let attempts = Attempts::new(config.failures);
        Self { router, clock, config, attempts, turns: Turns::new(cores), lobby, hall: Handle::current() }
    }
}
