//! The connection below the session: not there, being made, or up.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use postrider_protocol::session::client as session;
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::client::TlsStream;

use crate::Error;
use crate::tls::Tls;

/// Room made for each read, in bytes.
const READ_BYTES: usize = 16 * 1024;

type Stream = TlsStream<TcpStream>;

/// Where the connection stands.
pub(super) enum Link {
    /// Until the next attempt.
    Down { retry_at: Instant },
    /// TCP and TLS; the login follows.
    Connecting { attempt: Pin<Box<dyn Future<Output = Result<Stream, Error>> + Send>>, deadline: Instant },
    /// Frames can be exchanged.
    Up(Box<Connection>),
}

/// What happened to the connection.
pub(super) enum LinkEvent {
    RetryDue,
    Connected(Box<Result<Stream, Error>>),
    /// Everything there was to write is written.
    Written,
    /// This many bytes have arrived; 0 at the end of the stream.
    Read(usize),
    Failed(io::Error),
}

/// A TLS connection with its buffers.
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) input: BytesMut,
    pub(super) output: BytesMut,
    needs_flush: bool,
    pub(super) phase: Phase,
}

/// What the connection is good for.
pub(super) enum Phase {
    Login { login: session::Login, deadline: Instant },
    Session { session: Box<session::Session>, since: Instant },
}

impl Link {
    pub(super) fn connecting(server: String, tls: Tls, timeout: Duration) -> Self {
        let deadline = Instant::now() + timeout;
        let attempt = async move {
            let timed_out = Error::Timeout { server: server.clone(), timeout };
            tokio::time::timeout_at(deadline, connect(server, tls)).await.unwrap_or(Err(timed_out))
        };
        Link::Connecting { attempt: Box::pin(attempt), deadline }
    }

    /// The next thing that happens; reads only if `read`. Dropping the future loses nothing.
    pub(super) async fn next(&mut self, read: bool) -> LinkEvent {
        match self {
            Link::Down { retry_at } => {
                sleep_until(*retry_at).await;
                LinkEvent::RetryDue
            }
            Link::Connecting { attempt, .. } => LinkEvent::Connected(Box::new(attempt.await)),
            Link::Up(connection) => std::future::poll_fn(|cx| connection.poll(cx, read)).await,
        }
    }

    pub(super) fn session(&mut self) -> Option<(&mut session::Session, &mut BytesMut)> {
        match self {
            Link::Up(connection) => match &mut connection.phase {
                Phase::Session { session, .. } => Some((session, &mut connection.output)),
                Phase::Login { .. } => None,
            },
            _ => None,
        }
    }
}

impl Connection {
    pub(super) fn new(stream: Stream, phase: Phase) -> Self {
        Self { stream, input: BytesMut::new(), output: BytesMut::new(), needs_flush: false, phase }
    }

    fn poll(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<LinkEvent> {
        match self.poll_write(cx) {
            Poll::Ready(Ok(true)) => return Poll::Ready(LinkEvent::Written),
            Poll::Ready(Err(error)) => return Poll::Ready(LinkEvent::Failed(error)),
            Poll::Ready(Ok(false)) | Poll::Pending => {}
        }
        if !read {
            return Poll::Pending;
        }
        self.input.reserve(READ_BYTES);
        let outcome = ready!(pin!(self.stream.read_buf(&mut self.input)).poll(cx));
        Poll::Ready(outcome.map_or_else(LinkEvent::Failed, LinkEvent::Read))
    }

    /// Ready(true) when the last byte has gone out, Ready(false) when there was nothing to write.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
            self.needs_flush = true;
        }
        if !self.needs_flush {
            return Poll::Ready(Ok(false));
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.needs_flush = false;
        Poll::Ready(Ok(true))
    }
}

async fn connect(server: String, tls: Tls) -> Result<Stream, Error> {
    let unreachable = |error: io::Error| Error::Unreachable { server: server.clone(), detail: plain(&error) };
    let tcp = TcpStream::connect(&server).await.map_err(unreachable)?;
    // Frames are written as one piece for each wake-up; waiting for more would only delay them.
    tcp.set_nodelay(true).map_err(unreachable)?;
    tls.handshake(tcp).await
}

/// An operating system's error without its number.
pub(super) fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => "the server closed it without a word".into(),
        _ => error.to_string(),
    }
}
