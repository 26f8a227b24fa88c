//! Sockets: where bytes come in and go out.
//!
//! # Layout
//! - [`listener`]: accepts, within limits
//! - [`tls`]: the TLS configuration, and TLS over one socket
//! - [`certificate`]: the certificate a server makes for itself
//! - [`handshake`]: TLS and login of one connection: `Hello` → `Welcome`
//! - [`connection`]: one logged-in connection: bytes ↔ session

pub mod certificate;
pub mod connection;
pub mod handshake;
pub mod listener;
pub mod tls;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

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
}

/// What every connection of this server shares.
pub struct Shared {
    /// Where requests go.
    pub router: Arc<Router>,
    /// Time and randomness.
    pub clock: Clock,
    /// The bounds.
    pub config: Config,
    key_exchanges: Semaphore,
}

impl Shared {
    /// What the connections of a server share.
    #[must_use]
    pub fn new(router: Arc<Router>, clock: Clock, config: Config) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { router, clock, config, key_exchanges: Semaphore::new(cores) }
    }

    /// A turn to do one key exchange, in the order of asking, and how long that took to come.
    ///
    /// A key exchange holds a thread for a while (some 150 µs). A storm of them, all ready to run, would stand in front of
    /// every connected peer; so no more are ready to run than there are cores, and the others wait here.
    async fn turn(&self) -> (Option<SemaphorePermit<'_>>, Duration) {
        if let Ok(turn) = self.key_exchanges.try_acquire() {
            return (Some(turn), Duration::ZERO);
        }
        let since = self.clock.elapsed();
        let turn = self.key_exchanges.acquire().await.ok();
        // Whoever is woken by the last one's end would run at once; those who were ready before go first.
        tokio::task::yield_now().await;
        (turn, self.clock.elapsed() - since)
    }
}
