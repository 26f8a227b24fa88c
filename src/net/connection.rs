//! One logged-in connection: bytes ↔ session, on one task.
//!
//! Each wake-up does one read, one commit and one write: everything that has arrived is decoded and committed as one
//! batch, everything that waits is written at once. At rest it holds no buffer: see [`TlsStream`] for what is read and
//! written, and what is written is taken from the outbox.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use postrider_protocol::error::CodedError;
use postrider_protocol::frame as frames;
use postrider_protocol::session::server::{Session, frame};
use postrider_protocol::wire::{self, server_frame::Body};
use tokio::time::Sleep;

use super::Shared;
use super::tls::stream::TlsStream;
use crate::ids::Position;
use crate::router::{Peer, Work};
use crate::store::Taking;

/// How long a closing connection may take to take its last frames.
pub const CLOSING_TIME: Duration = Duration::from_secs(5);

/// A connection between login and close.
pub struct Connection {
    stream: TlsStream,
    /// For the log.
    from: SocketAddr,
    inbound: BytesMut,
    /// Frames that are not yet encrypted.
    outbound: BytesMut,
    /// The kernel did not take everything the last time.
    writing: bool,
    peer: Peer,
    session: Session,
    /// Where `CaughtUp` is due; `None` once it was said (SYNC-3).
    backlog_end: Option<Position>,
    /// The client broke a rule: it is heard no more, and told when what it asked before is answered.
    broken: bool,
}

/// How a connection ended.
#[derive(Debug)]
pub enum Ended {
    /// The client closed or the network broke.
    Gone,
    /// The client was told why.
    Closed(CodedError),
    /// The client said `Goodbye` and was answered.
    Goodbye,
}

/// What one wake-up brought.
enum Wake {
    /// Bytes were appended to `inbound`, or may have been left there by the login.
    Read,
    /// The client closed its side.
    Eof,
    /// The outbox has something, or the inbox is to be read on.
    Output,
    /// The timer rang.
    Timeout,
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Ended::Gone
    }
}

impl From<CodedError> for Ended {
    fn from(error: CodedError) -> Self {
        Ended::Closed(error)
    }
}

impl Connection {
    /// A connection that says `welcome` first; `inbound` is what arrived behind the login.
    #[must_use]
    pub fn new(
        stream: TlsStream,
        from: SocketAddr,
        inbound: BytesMut,
        welcome: BytesMut,
        peer: Peer,
        session: Session,
    ) -> Self {
        let backlog_end = Some(peer.outbox.newest());
        Self { stream, from, inbound, outbound: welcome, writing: false, peer, session, backlog_end, broken: false }
    }

    /// One line for the end of this connection.
    pub fn log_end(&self, ended: &Ended) {
        let (from, user, device) = (self.from, self.peer.user, self.peer.device);
        match ended {
            Ended::Closed(error) => {
                tracing::info!(%from, %user, %device, code = %error.code, detail = %error.detail, "closed");
            }
            ended => tracing::debug!(%from, %user, %device, ?ended, "closed"),
        }
    }

    /// Serves the connection until it ends. Gives its seat in the hub up.
    pub async fn serve(&mut self, shared: &Shared) -> Ended {
        let Err(ended) = self.run(shared).await;
        shared.router.leave(&self.peer);
        let last = match &ended {
            Ended::Gone => return ended,
            Ended::Closed(error) => Body::Error(error.to_wire()),
            Ended::Goodbye => Body::Goodbye(wire::Goodbye {}),
        };
        // Boxed: a connection at rest needs no room for it.
        drop(Box::pin(tokio::time::timeout(CLOSING_TIME, self.say_and_close(last))).await);
        ended
    }

    async fn run(&mut self, shared: &Shared) -> Result<Infallible, Ended> {
        let timer = tokio::time::sleep(self.until_timeout(shared));
        tokio::pin!(timer);
        self.take_requests(shared).await;
        loop {
            if !self.writing {
                if self.peer.outbox.backlog().is_some() {
                    // Boxed: a connection at rest is not behind.
                    Box::pin(shared.router.read_on(&self.peer)).await?;
                }
                self.say_caught_up();
                self.take_output()?;
            } else if let Some(error) = self.peer.outbox.closing() {
                // A client that does not read is not waited for when the connection is to close.
                return Err(Ended::Closed(error));
            }
            match poll_fn(|cx| self.poll_wake(cx, timer.as_mut())).await? {
                Wake::Read => self.take_requests(shared).await,
                Wake::Eof => return Err(Ended::Gone),
                Wake::Output => {}
                Wake::Timeout => {
                    self.session.handle_timeout(shared.clock.elapsed())?;
                    timer.set(tokio::time::sleep(self.until_timeout(shared)));
                }
            }
        }
    }

    /// Takes what waits in the outbox, to be written.
    fn take_output(&mut self) -> Result<(), Ended> {
        let output = self.peer.outbox.take();
        self.outbound.unsplit(output.frames);
        self.session.handle_answered(output.answered);
        self.session.handle_delivered(output.delivered.0);
        match output.closing {
            Some(error) => Err(Ended::Closed(error)),
            None if output.finished => Err(Ended::Goodbye),
            None => Ok(()),
        }
    }

    /// The timer is set lazily: frames move the session's deadline, the timer follows only when it rings.
    fn until_timeout(&self, shared: &Shared) -> Duration {
        self.session.poll_timeout().saturating_sub(shared.clock.elapsed())
    }

    /// Decodes what has arrived and commits it as one batch. What came before a mistake is committed and answered, too.
    fn take_requests<'a>(&'a mut self, shared: &'a Shared) -> Taking<'a> {
        let mut work = Work::of_bytes(self.inbound.len());
        let decoded = self.decode(shared, &mut work);
        if self.inbound.is_empty() {
            self.inbound = BytesMut::new();
        }
        self.broken |= decoded.is_err();
        let peer = &self.peer;
        let committed = shared.router.commit(peer, work);
        let Err(error) = decoded else { return committed };
        Taking::Right(Box::pin(async move {
            committed.await;
            shared.router.close(peer, error).await;
        }))
    }

    fn decode(&mut self, shared: &Shared, work: &mut Work) -> Result<(), CodedError> {
        let now = shared.clock.elapsed();
        while let Some(body) = frames::take(&mut self.inbound, shared.config.max_frame_bytes)? {
            let requests = self.session.handle_frame(frames::decode_client(body)?, now)?;
            shared.router.collect(&self.peer, requests, work);
        }
        Ok(())
    }

    /// Says `CaughtUp` when the backlog is through.
    fn say_caught_up(&mut self) {
        if let Some(end) = self.backlog_end
            && self.peer.outbox.streamed() >= end
        {
            self.backlog_end = None;
            let caught_up = frame(Body::CaughtUp(wire::CaughtUp { position: end.0 }));
            self.peer.outbox.reply(|sender| sender.frame(|out| frames::put(&caught_up, out)));
        }
    }

    /// Writes what there is; then waits for bytes, output or the timer, whichever comes first.
    fn poll_wake(&mut self, cx: &mut Context<'_>, timer: Pin<&mut Sleep>) -> Poll<io::Result<Wake>> {
        self.peer.outbox.register(cx.waker());
        self.writing = self.stream.poll_write(cx, &mut self.outbound)?.is_pending();
        if self.outbound.is_empty() {
            self.outbound = BytesMut::new();
        }
        let waiting = self.peer.outbox.look();
        // A client that does not read its answers is not asked for more.
        if !self.broken
            && !waiting.full
            && let Poll::Ready(more) = self.stream.poll_read(cx, &mut self.inbound)?
        {
            return Poll::Ready(Ok(if more { Wake::Read } else { Wake::Eof }));
        }
        if waiting.closing || (waiting.work && !self.writing) {
            return Poll::Ready(Ok(Wake::Output));
        }
        timer.poll(cx).map(|()| Ok(Wake::Timeout))
    }

    async fn say_and_close(&mut self, last: Body) -> io::Result<()> {
        let mut bytes = std::mem::take(&mut self.outbound);
        bytes.unsplit(self.peer.outbox.take().frames);
        frames::put(&frame(last), &mut bytes);
        self.stream.write_all(bytes).await?;
        self.stream.hang_up().await
    }
}
