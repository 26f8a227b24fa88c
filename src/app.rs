//! The composition root.

use std::net::SocketAddr;

use crate::config::Config;

/// A server that has started.
pub struct Server {
    addresses: Vec<SocketAddr>,
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[error("this build has no server")]
pub struct StartError;

/// Why a server ended.
#[derive(Debug, thiserror::Error)]
#[error("this build has no server")]
pub struct RunError;

impl Server {
    /// Starts it.
    ///
    /// # Errors
    /// Always, for now.
    pub async fn start(_config: Config) -> Result<Server, StartError> {
        Err(StartError)
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether the data directory is new.
    #[must_use]
    pub fn first_run(&self) -> bool {
        false
    }

    /// What the operator should know.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Runs until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// Always, for now.
    pub async fn run_until_signal(self) -> Result<(), RunError> {
        Err(RunError)
    }
}
