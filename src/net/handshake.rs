//! TLS and login of one connection: from an accepted socket to `Welcome`, or to a coded refusal.
//!
//! Set-up only: its futures are boxed and gone once the connection is logged in.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use postrider_protocol::error::{CodedError, ErrorCode};
use postrider_protocol::limits;
use postrider_protocol::session::server::{AwaitingHello, AwaitingProof, Session, frame};
use postrider_protocol::wire::{self, ServerFrame, server_frame::Body};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::codec::Framed;

use super::Shared;
use super::codec::{CodecError, FrameCodec};
use super::connection::{Connection, hang_up};
use crate::router::Peer;
use crate::router::login::Admit;
use crate::store::Attached;
use crate::tenant::proof::Binding;

type LoginStream = Framed<TlsStream<TcpStream>, FrameCodec>;

/// Why a connection did not get as far as `Welcome`.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// TLS was not agreed upon: garbage, plain text, an old version, no common ALPN.
    #[error("no TLS: {0}")]
    Tls(std::io::Error),
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

/// Brings one accepted socket to a logged-in connection. `admitted` is false when the server is full.
///
/// # Errors
/// See [`HandshakeError`]. What can be said to the client has been said.
pub async fn log_in(
    shared: &Shared,
    acceptor: TlsAcceptor,
    socket: TcpStream,
    admitted: bool,
) -> Result<Connection, HandshakeError> {
    let deadline = tokio::time::sleep(shared.config.login_timeout);
    tokio::pin!(deadline);
    let tls = tokio::select! {
        tls = acceptor.accept(socket) => tls.map_err(HandshakeError::Tls)?,
        () = &mut deadline => return Err(HandshakeError::TimedOut),
    };
    if tls.get_ref().1.alpn_protocol() != Some(limits::ALPN) {
        return Err(HandshakeError::NoAlpn);
    }
    let mut stream = Framed::new(tls, FrameCodec { max_frame_bytes: limits::MAX_LOGIN_FRAME_BYTES });
    let outcome = tokio::select! {
        outcome = welcome(shared, &mut stream, admitted) => outcome,
        () = &mut deadline => Err(HandshakeError::Refused(ErrorCode::LoginTimeout.into())),
    };
    match outcome {
        Ok((peer, session)) => {
            let parts = stream.into_parts();
            Ok(Connection::new(parts.io, parts.read_buf, peer, session))
        }
        Err(error) => {
            if let HandshakeError::Refused(coded) = &error {
                refuse(&mut stream, coded).await;
            }
            Err(error)
        }
    }
}

async fn welcome(shared: &Shared, stream: &mut LoginStream, admitted: bool) -> Result<(Peer, Session), HandshakeError> {
    let hello = AwaitingHello::new().handle_frame(next_frame(stream).await?)?;
    if !admitted {
        let wait = 1000 + shared.clock.random_up_to(4000);
        return Err(CodedError::new(ErrorCode::Overloaded).after_ms(wait).into());
    }
    let (tenant, admit) = shared.router.admit(&hello)?;
    let admission = match admit {
        Admit::Now(admission) => admission,
        Admit::Challenge => {
            let (awaiting, challenge) = AwaitingProof::challenge(shared.clock.random_bytes());
            let nonce = *awaiting.nonce();
            send(stream, challenge).await?;
            let signature = awaiting.handle_frame(next_frame(stream).await?)?;
            let binding = Binding { exporter: exporter(stream)?, nonce };
            shared.router.verify(&tenant, &hello, &binding, &signature).await?
        }
    };
    let (agent, window, device) = (hello.agent.clone(), hello.window, hello.device.clone());
    let (peer, attached) = shared.router.log_in(tenant, hello, admission, shared.router.outbox()).await?;
    tracing::debug!(app = %peer.tenant.name, user = %peer.user, %device, %agent, window, "logged in");
    let welcomed = send(stream, welcome_frame(shared, &attached)).await;
    if let Err(error) = welcomed {
        shared.router.leave(&peer);
        return Err(error);
    }
    stream.codec_mut().max_frame_bytes = shared.config.max_frame_bytes;
    let session = Session::new(attached.cursor.0, shared.config.idle_timeout, shared.clock.elapsed());
    Ok((peer, session))
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

async fn next_frame(stream: &mut LoginStream) -> Result<wire::ClientFrame, HandshakeError> {
    match stream.next().await {
        Some(Ok(frame)) => Ok(frame),
        Some(Err(CodecError::Coded(error))) => Err(error.into()),
        Some(Err(CodecError::Io(_))) | None => Err(HandshakeError::Gone),
    }
}

async fn send(stream: &mut LoginStream, frame: ServerFrame) -> Result<(), HandshakeError> {
    stream.send(frame).await.map_err(|_| HandshakeError::Gone)
}

/// Says why and closes. A client that does not listen is not waited for: the kernel has the bytes.
async fn refuse(stream: &mut LoginStream, error: &CodedError) {
    let said = async {
        stream.send(frame(Body::Error(error.to_wire()))).await?;
        hang_up(stream.get_mut()).await.map_err(CodecError::Io)
    };
    drop(tokio::time::timeout(super::connection::CLOSING_TIME, said).await);
}

fn exporter(stream: &LoginStream) -> Result<[u8; limits::EXPORTER_BYTES], CodedError> {
    let (_, tls) = stream.get_ref().get_ref();
    tls.export_keying_material([0; limits::EXPORTER_BYTES], limits::EXPORTER_LABEL, None)
        .map_err(|_| CodedError::new(ErrorCode::Internal))
}

/// One line for one connection that did not get through.
pub fn log_failure(error: &HandshakeError, from: SocketAddr) {
    match error {
        HandshakeError::Refused(coded) => tracing::info!(%from, code = %coded.code, detail = %coded.detail, "refused"),
        error => tracing::info!(%from, %error, "refused"),
    }
}
