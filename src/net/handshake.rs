//! TLS and login of one connection: from an accepted socket to `Welcome`, or to a coded refusal.
//!
//! Set-up only: its futures are boxed and gone once the connection is logged in.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postrider_protocol::error::{CodedError, ErrorCode};
use postrider_protocol::session::server::{AwaitingHello, AwaitingProof, Hello, Session, frame};
use postrider_protocol::wire::{self, ServerFrame, server_frame::Body};
use postrider_protocol::{frame as frames, limits};
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::SemaphorePermit;
use tokio::time::Sleep;

use super::Shared;
use super::connection::{CLOSING_TIME, Connection};
use super::tls::exporter::Exported;
use super::tls::stream::TlsStream;
use crate::router::Peer;
use crate::router::login::Admit;
use crate::store::Attached;
use crate::tenant::Tenant;
use crate::tenant::proof::Binding;

/// A failed login is told this long after the client's last frame, whatever there was to look up and to check: how long
/// that took would tell who exists (LOGIN-4).
const FAILURE_TIME: Duration = Duration::from_millis(250);

/// Why a connection did not get as far as `Welcome`.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    /// TLS was not agreed upon: garbage, plain text, an old version, no common ALPN.
    #[error("no TLS: {0}")]
    Tls(io::Error),
    /// TLS was agreed upon with a client that does not say it speaks Postrider (TLS-2).
    #[error("the client did not offer ALPN postrider/1")]
    NoAlpn,
    /// The client was told why.
    #[error(transparent)]
    Refused(#[from] CodedError),
    /// The client went away.
    #[error("the client went away during login")]
    Gone,
    /// It took too long; there was nobody to tell.
    #[error("no TLS within the login timeout")]
    TimedOut,
}

/// Brings one accepted socket to a logged-in connection, whose `Welcome` is its first output. `admitted` is false when the
/// server is full. `None`: what can be said to the client has been said, and why is in the log.
pub async fn log_in(
    shared: Arc<Shared>,
    tls: Arc<ServerConfig>,
    socket: TcpStream,
    from: SocketAddr,
    admitted: bool,
) -> Option<Box<Connection>> {
    let entered = enter(&shared, tls, socket, from, admitted).await;
    entered.inspect_err(|error| log_failure(error, from)).ok()
}

async fn enter(
    shared: &Shared,
    tls: Arc<ServerConfig>,
    socket: TcpStream,
    from: SocketAddr,
    admitted: bool,
) -> Result<Box<Connection>, HandshakeError> {
    let deadline = tokio::time::sleep(shared.config.login_timeout);
    tokio::pin!(deadline);
    let mut entrant = Entrant::shake_hands(shared, tls, socket, deadline.as_mut()).await?;
    if entrant.stream.alpn_protocol() != Some(limits::ALPN) {
        return Err(HandshakeError::NoAlpn);
    }
    let outcome = tokio::select! {
        outcome = entrant.welcome(shared, from.ip(), admitted) => outcome,
        () = &mut deadline => Err(HandshakeError::Refused(ErrorCode::LoginTimeout.into())),
    };
    match outcome {
        Ok((peer, session, welcome)) => match entrant.stream.move_to(&shared.hall) {
            Ok(stream) => Ok(Box::new(Connection::new(stream, from, entrant.inbound, welcome, peer, session))),
            Err(_) => {
                shared.router.leave(&peer);
                Err(HandshakeError::Gone)
            }
        },
        Err(error) => {
            if let HandshakeError::Refused(coded) = &error {
                entrant.refuse(coded).await;
            }
            Err(error)
        }
    }
}

/// A connection that is not logged in yet.
struct Entrant {
    stream: TlsStream,
    inbound: BytesMut,
    exported: Option<Exported>,
    /// When its last frame was complete.
    heard: Duration,
}

/// Who tries to log in from where; failures are counted by it.
struct Attempt {
    from: IpAddr,
    app: String,
    user: String,
}

impl Attempt {
    fn check(&self, shared: &Shared) -> Result<(), CodedError> {
        shared.attempts.check(self.from, &self.app, &self.user, shared.clock.elapsed())
    }

    fn failed(&self, shared: &Shared) {
        shared.attempts.failed(self.from, &self.app, &self.user, shared.clock.elapsed());
    }
}

impl Entrant {
    /// The TLS handshake. Until the client says something it costs no more than the socket; what is said to it last is
    /// written together with the first frame.
    async fn shake_hands(
        shared: &Shared,
        tls: Arc<ServerConfig>,
        socket: TcpStream,
        mut deadline: Pin<&mut Sleep>,
    ) -> Result<Self, HandshakeError> {
        before(deadline.as_mut(), socket.readable()).await?;
        let mut turn = Some(key_exchange(shared, deadline.as_mut()).await);
        let mut stream = TlsStream::new(tls, socket).map_err(HandshakeError::Tls)?;
        let (mut inbound, mut exported) = (BytesMut::new(), None);
        loop {
            exported = stream.hear(&mut inbound).await.map_err(HandshakeError::Tls)?.or(exported);
            drop(turn.take());
            if !stream.is_handshaking() {
                return Ok(Self { stream, inbound, exported, heard: Duration::ZERO });
            }
            before(deadline.as_mut(), stream.flush()).await?;
            before(deadline.as_mut(), stream.readable()).await?;
            if stream.awaits_key_exchange() {
                turn = Some(key_exchange(shared, deadline.as_mut()).await);
            }
        }
    }

    async fn welcome(
        &mut self,
        shared: &Shared,
        from: IpAddr,
        admitted: bool,
    ) -> Result<(Peer, Session, BytesMut), HandshakeError> {
        let hello = AwaitingHello::new().handle_frame(self.next_frame(shared).await?)?;
        if !admitted {
            let wait = 1000 + shared.clock.random_up_to(4000);
            return Err(CodedError::new(ErrorCode::Overloaded).after_ms(wait).into());
        }
        let (tenant, admit) = shared.router.admit(&hello)?;
        let attempt = Attempt { from, app: tenant.name.clone(), user: hello.user.clone() };
        attempt.check(shared)?;
        let entered = self.enter(shared, tenant, hello, admit, &attempt).await;
        if matches!(&entered, Err(HandshakeError::Refused(error)) if error.code == ErrorCode::LoginFailed) {
            attempt.failed(shared);
            let tell = self.heard + FAILURE_TIME;
            tokio::time::sleep(tell.saturating_sub(shared.clock.elapsed())).await;
        }
        entered
    }

    async fn enter(
        &mut self,
        shared: &Shared,
        tenant: Arc<Tenant>,
        hello: Hello,
        admit: Admit,
        attempt: &Attempt,
    ) -> Result<(Peer, Session, BytesMut), HandshakeError> {
        let admission = match admit {
            Admit::Now(admission) => admission,
            Admit::Challenge => {
                let (awaiting, challenge) = AwaitingProof::challenge(shared.clock.random_bytes());
                let nonce = *awaiting.nonce();
                self.say(challenge).await.map_err(|_| HandshakeError::Gone)?;
                let signature = awaiting.handle_frame(self.next_frame(shared).await?)?;
                // Others may have failed meanwhile.
                attempt.check(shared)?;
                let exporter = self.exported.ok_or_else(|| CodedError::new(ErrorCode::Internal))?;
                shared.router.verify(&tenant, &hello, &Binding { exporter, nonce }, &signature).await?
            }
        };
        let (agent, window, device) = (hello.agent.clone(), hello.window, hello.device.clone());
        let (peer, attached) = shared.router.log_in(tenant, hello, admission, shared.router.outbox()).await?;
        tracing::debug!(app = %peer.tenant.name, user = %peer.user, %device, %agent, window, "logged in");
        let mut welcome = BytesMut::new();
        frames::put(&welcome_frame(shared, &attached), &mut welcome);
        let session = Session::new(attached.cursor.0, shared.config.idle_timeout, shared.clock.elapsed());
        Ok((peer, session, welcome))
    }

    async fn next_frame(&mut self, shared: &Shared) -> Result<wire::ClientFrame, HandshakeError> {
        loop {
            if let Some(body) = frames::take(&mut self.inbound, limits::MAX_LOGIN_FRAME_BYTES)? {
                self.heard = shared.clock.elapsed();
                return Ok(frames::decode_client(body)?);
            }
            match poll_fn(|cx| self.stream.poll_read(cx, &mut self.inbound)).await {
                Ok(true) => {}
                Ok(false) | Err(_) => return Err(HandshakeError::Gone),
            }
        }
    }

    async fn say(&mut self, frame: ServerFrame) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        frames::put(&frame, &mut bytes);
        self.stream.write_all(bytes).await
    }

    /// Says why and closes. A client that does not listen is not waited for: the kernel has the bytes.
    async fn refuse(&mut self, error: &CodedError) {
        let said = async {
            self.say(frame(Body::Error(error.to_wire()))).await?;
            self.stream.hang_up().await
        };
        drop(tokio::time::timeout(CLOSING_TIME, said).await);
    }
}

/// The client has until the deadline.
async fn before(deadline: Pin<&mut Sleep>, io: impl Future<Output = io::Result<()>>) -> Result<(), HandshakeError> {
    tokio::select! {
        done = io => done.map_err(HandshakeError::Tls),
        () = deadline => Err(HandshakeError::TimedOut),
    }
}

/// A turn at the key exchange. Waiting for it is not the client's doing: it does not count.
async fn key_exchange<'a>(shared: &'a Shared, mut deadline: Pin<&mut Sleep>) -> Option<SemaphorePermit<'a>> {
    let (turn, waited) = shared.turns.take(&shared.clock).await;
    if !waited.is_zero() {
        let later = deadline.deadline() + waited;
        deadline.as_mut().reset(later);
    }
    turn
}

fn welcome_frame(shared: &Shared, attached: &Attached) -> ServerFrame {
    let bounded = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    frame(Body::Welcome(wire::Welcome {
        device_id: attached.device.0,
        highest_send_id: attached.highest_send_id.0,
        cursor: attached.cursor.0,
        head: attached.head.0,
        idle_timeout_ms: u32::try_from(shared.config.idle_timeout.as_millis()).unwrap_or(u32::MAX),
        max_frame_bytes: bounded(shared.config.max_frame_bytes),
        send_window: bounded(limits::SEND_WINDOW),
        time: shared.clock.wall_ms(),
        max_content_bytes: bounded(shared.router.max_content_bytes()),
        server: concat!("postrider/", env!("CARGO_PKG_VERSION")).to_owned(),
    }))
}

/// One line for one connection that did not get through.
fn log_failure(error: &HandshakeError, from: SocketAddr) {
    match error {
        HandshakeError::Refused(coded) => tracing::info!(%from, code = %coded.code, detail = %coded.detail, "refused"),
        error => tracing::info!(%from, %error, "refused"),
    }
}
