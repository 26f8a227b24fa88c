//! Accepts connections, within limits, and outlives running out of descriptors.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Shared;
use super::connection::Connection;
use super::handshake;

/// The kernel's queue of connections that wait to be accepted.
const BACKLOG: u32 = 4096;

/// Connections above the limit that are told `OVERLOADED` at once; what comes above these is closed.
pub const TURNED_AWAY: usize = 64;

/// How long accepting pauses when the process has no descriptor left.
const NO_DESCRIPTOR_PAUSE: Duration = Duration::from_millis(100);

/// Opens a listening socket.
///
/// # Errors
/// The operating system's.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Counts connections against the limits; shared by the listeners of a server.
pub struct Admission {
    room: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
}

impl Admission {
    /// Room for `max_connections`.
    #[must_use]
    pub fn new(max_connections: usize) -> Arc<Self> {
        let room = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { room, turned_away: Arc::new(Semaphore::new(TURNED_AWAY)) })
    }

    /// A place, and whether it is one of the regular ones; `None` when not even a refusal can be afforded.
    fn enter(&self) -> Option<(OwnedSemaphorePermit, bool)> {
        let regular = Arc::clone(&self.room).try_acquire_owned().map(|permit| (permit, true));
        regular.or_else(|_| Arc::clone(&self.turned_away).try_acquire_owned().map(|permit| (permit, false))).ok()
    }
}

/// Accepts until `stop`, a task of `tasks` per connection. To be run in the lobby.
pub async fn accept(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    shared: Arc<Shared>,
    admission: Arc<Admission>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((socket, from)) => {
                let Some((permit, admitted)) = admission.enter() else {
                    tracing::warn!(%from, "too many connections: closed at once");
                    continue;
                };
                if let Err(error) = socket.set_nodelay(true) {
                    tracing::debug!(%from, %error, "no TCP_NODELAY");
                }
                let login = handshake::log_in(Arc::clone(&shared), Arc::clone(&tls), socket, from, admitted);
                tasks.spawn(come_in(Arc::clone(&shared), login, permit, tasks.clone()));
            }
            Err(error) => pause_after(&error, &stop).await,
        }
    }
}

/// A connection that broke before it was accepted is no reason to wait; a lack of descriptors or memory is.
async fn pause_after(error: &io::Error, stop: &CancellationToken) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        return;
    }
    tracing::warn!(%error, "cannot accept connections; raise the limit of open files (ulimit -n) if this goes on");
    tokio::select! {
        () = tokio::time::sleep(NO_DESCRIPTOR_PAUSE) => {}
        () = stop.cancelled() => {}
    }
}

/// A login, in the lobby; who is logged in is served elsewhere. It has its place as long as it is there.
async fn come_in(
    shared: Arc<Shared>,
    login: impl Future<Output = Option<Box<Connection>>>,
    place: OwnedSemaphorePermit,
    tasks: TaskTracker,
) {
    if let Some(connection) = login.await {
        let hall = shared.hall.clone();
        tasks.spawn_on(serve(shared, connection, place), &hall);
    }
}

/// A connection that is logged in, until its close.
async fn serve(shared: Arc<Shared>, mut connection: Box<Connection>, place: OwnedSemaphorePermit) {
    let ended = connection.serve(&shared).await;
    connection.log_end(&ended);
    // What is left to do, some 20 µs, is done in the lobby.
    shared.lobby.spawn(async move { drop((connection, place)) });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_bytes<A, B, C, F: Future>(_: impl FnOnce(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_we_hold_for_a_connection_at_rest_is_small() {
        let (task, connection) = (future_bytes(serve), size_of::<Connection>());
        assert!(task <= 368 && connection <= 1_424, "{task} bytes for the task, {connection} for the connection");
    }
}
