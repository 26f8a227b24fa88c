//! One logged-in connection: bytes ↔ session, on one task.
//!
//! Each wake-up does one read, one commit and one write: everything that has arrived is decoded and committed as one
//! batch, everything that waits is written at once. At rest it holds no buffer: input is read through a scratch buffer
//! that the thread's connections share, and what is written is taken from the outbox.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use postrider_protocol::error::{CodedError, ErrorCode};
use postrider_protocol::frame as frames;
use postrider_protocol::session::server::{Session, frame};
use postrider_protocol::wire::{self, server_frame::Body};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_util::codec::Decoder;

use super::Shared;
use super::codec::{CodecError, FrameCodec};
use crate::ids::Position;
use crate::router::{Peer, Work};

/// How long a closing connection may take to take its last frames.
pub const CLOSING_TIME: Duration = Duration::from_secs(5);

/// How long a closing connection goes on listening after its last frame.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes of one read; also what one wake-up may bring.
const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// A connection between login and close.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    inbound: BytesMut,
    outbound: BytesMut,
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

impl Connection {
    /// A connection whose `Welcome` was sent; `inbound` is what arrived behind the login.
    #[must_use]
    pub fn new(stream: TlsStream<TcpStream>, inbound: BytesMut, peer: Peer, session: Session) -> Self {
        let backlog_end = Some(peer.outbox.newest());
        Self { stream, inbound, outbound: BytesMut::new(), peer, session, backlog_end, broken: false }
    }

    /// Who sits at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Serves the connection until it ends. Gives its seat in the hub up.
    pub async fn serve(mut self, shared: Arc<Shared>) -> Ended {
        let ended = match self.run(&shared).await {
            Ok(ended) => ended,
            Err(CodecError::Io(_)) => Ended::Gone,
            Err(CodecError::Coded(error)) => Ended::Closed(error),
        };
        shared.router.leave(&self.peer);
        let last = match &ended {
            Ended::Gone => return ended,
            Ended::Closed(error) => Body::Error(error.to_wire()),
            Ended::Goodbye => Body::Goodbye(wire::Goodbye {}),
        };
        drop(tokio::time::timeout(CLOSING_TIME, self.say_and_close(last)).await);
        ended
    }

    async fn run(&mut self, shared: &Shared) -> Result<Ended, CodecError> {
        let timer = tokio::time::sleep(self.until_timeout(shared));
        tokio::pin!(timer);
        self.take_requests(shared).await;
        loop {
            self.read_backlog(shared).await?;
            match poll_fn(|cx| self.poll_wake(cx, timer.as_mut())).await? {
                Wake::Read => self.take_requests(shared).await,
                Wake::Eof => return Ok(Ended::Gone),
                Wake::Output => {}
                Wake::Timeout => {
                    self.session.handle_timeout(shared.clock.elapsed())?;
                    timer.set(tokio::time::sleep(self.until_timeout(shared)));
                }
            }
            if !self.outbound.is_empty() {
                // A client that does not read is not waited for when the connection is to close.
                match self.peer.outbox.closing() {
                    Some(error) => return Ok(Ended::Closed(error)),
                    None => continue,
                }
            }
            let output = self.peer.outbox.take();
            self.outbound = output.frames;
            self.session.handle_answered(output.answered);
            self.session.handle_delivered(output.delivered.0);
            if let Some(error) = output.closing {
                return Ok(Ended::Closed(error));
            }
            if output.finished {
                return Ok(Ended::Goodbye);
            }
        }
    }

    /// The timer is set lazily: frames move the session's deadline, the timer follows only when it rings.
    fn until_timeout(&self, shared: &Shared) -> Duration {
        self.session.poll_timeout().saturating_sub(shared.clock.elapsed())
    }

    /// Decodes what has arrived and commits it as one batch. What came before a mistake is committed and answered, too.
    async fn take_requests(&mut self, shared: &Shared) {
        let mut codec = FrameCodec { max_frame_bytes: shared.config.max_frame_bytes };
        let mut work = Work::default();
        let now = shared.clock.elapsed();
        let decoded = loop {
            let frame = match codec.decode(&mut self.inbound) {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(()),
                Err(CodecError::Coded(error)) => break Err(error),
                // Decoding touches no socket.
                Err(CodecError::Io(_)) => break Err(ErrorCode::Internal.into()),
            };
            match self.session.handle_frame(frame, now) {
                Ok(requests) => shared.router.collect(&self.peer, requests, &mut work),
                Err(error) => break Err(error),
            }
        };
        if self.inbound.is_empty() {
            self.inbound = BytesMut::new();
        }
        shared.router.commit(&self.peer, work).await;
        if let Err(error) = decoded {
            self.broken = true;
            shared.router.close(&self.peer, error).await;
        }
    }

    /// Reads on from the inbox if the connection is behind, and says `CaughtUp` when the backlog is through.
    async fn read_backlog(&mut self, shared: &Shared) -> Result<(), CodecError> {
        if self.outbound.is_empty() {
            shared.router.read_on(&self.peer).await?;
        }
        if let Some(end) = self.backlog_end
            && self.peer.outbox.streamed() >= end
        {
            self.backlog_end = None;
            let caught_up = frame(Body::CaughtUp(wire::CaughtUp { position: end.0 }));
            self.peer.outbox.reply(|sender| sender.frame(|out| frames::put(&caught_up, out)));
        }
        Ok(())
    }

    /// Writes what there is; then waits for bytes, output or the timer, whichever comes first.
    fn poll_wake(&mut self, cx: &mut Context<'_>, timer: Pin<&mut Sleep>) -> Poll<io::Result<Wake>> {
        self.peer.outbox.register(cx.waker());
        let written = self.poll_write_out(cx)?;
        // A client that does not read its answers is not asked for more.
        if !self.broken
            && !self.peer.outbox.is_full()
            && let Poll::Ready(read) = self.poll_read_in(cx)?
        {
            return Poll::Ready(Ok(read));
        }
        if self.peer.outbox.is_closing() || (written.is_ready() && self.peer.outbox.has_work()) {
            return Poll::Ready(Ok(Wake::Output));
        }
        timer.poll(cx).map(|()| Ok(Wake::Timeout))
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbound.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outbound))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outbound.advance(written);
        }
        self.outbound = BytesMut::new();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Reads until the socket has no more or the scratch buffer is full.
    fn poll_read_in(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Wake>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            let mut eof = false;
            while buffer.remaining() > 0 {
                let before = buffer.filled().len();
                match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                    Poll::Pending => break,
                    Poll::Ready(Err(error)) if before == 0 => return Poll::Ready(Err(error)),
                    Poll::Ready(Err(_)) => break,
                    Poll::Ready(Ok(())) => {
                        eof = buffer.filled().len() == before;
                        if eof {
                            break;
                        }
                    }
                }
            }
            let filled = buffer.filled();
            if filled.is_empty() {
                return if eof { Poll::Ready(Ok(Wake::Eof)) } else { Poll::Pending };
            }
            self.inbound.extend_from_slice(filled);
            Poll::Ready(Ok(Wake::Read))
        })
    }

    async fn say_and_close(&mut self, last: Body) -> io::Result<()> {
        self.outbound.unsplit(self.peer.outbox.take().frames);
        frames::put(&frame(last), &mut self.outbound);
        self.stream.write_all(&self.outbound).await?;
        hang_up(&mut self.stream).await
    }
}

/// Closes so that the last frame arrives: a socket closed over unread input is reset, and the reset may overtake what was
/// written. So what the client still says is read and dropped until it closes, too, or a second is over (CONN-11).
pub async fn hang_up(stream: &mut TlsStream<TcpStream>) -> io::Result<()> {
    stream.shutdown().await?;
    let (socket, _) = stream.get_mut();
    let drain = async {
        let mut dropped = [0; 4096];
        while socket.read(&mut dropped).await? > 0 {}
        Ok(())
    };
    tokio::time::timeout(LINGER, drain).await.unwrap_or(Ok(()))
}
