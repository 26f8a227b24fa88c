//! One connection of the generator: bytes ↔ session ↔ part, on one task. Like the server's: at most one read and one
//! write a wake-up, no buffer at rest. Nothing is made durable here: the generator's own disk is not what is measured.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use postrider_protocol::error::CodedError;
use postrider_protocol::session::client::{Device, Event, Session};
use postrider_protocol::{frame, limits, wire};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::client::TlsStream;

use super::control::{Stage, Steered};
use super::dial::DialError;
use super::member::Member;
use crate::clock::Clock;

/// Bytes of one read.
const SCRATCH_BYTES: usize = 64 * 1024;

/// How long a connection sleeps whose session has no deadline.
const LONG: Duration = Duration::from_secs(3600);

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// What a connection does in a run.
pub trait Part: Send + 'static {
    /// Something happened.
    fn handle(&mut self, event: Event, device: &mut Device, now: Duration);

    /// Everything that had happened has been handled: queue what is due. `Break` when the work is done.
    fn act(&mut self, device: &mut Device, stage: Stage, now: Duration) -> ControlFlow<()>;
}

/// A connection that is logged in.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    inbound: BytesMut,
    outbound: BytesMut,
    session: Session,
    resumed: bool,
}

/// How a connection ended as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its work is done, or the run is over.
    Done,
    /// The member has gone, and will come again.
    Left,
}

/// Why a connection ended before its work did.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The socket.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// Not the protocol.
    #[error("the server broke the protocol: {0}")]
    Protocol(#[from] CodedError),
    /// The server closed it with an error.
    #[error("the server closed the connection: {}: {}", .0.name, .0.detail)]
    Closed(wire::Error),
    /// The server said goodbye.
    #[error("the server said goodbye")]
    Goodbye,
    /// The server is silent.
    #[error("the server does not answer any more")]
    Unresponsive,
    /// It could not be made again.
    #[error("cannot connect again: {0}")]
    Dial(#[from] DialError),
    /// A bug of the generator's.
    #[error("its task panicked")]
    Panicked,
}

impl Broken {
    /// Whether another connection may do better.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Io(_) | Self::Goodbye | Self::Unresponsive => true,
            Self::Closed(error) => error.retry,
            Self::Dial(error) => error.may_pass(),
            Self::Protocol(_) | Self::Panicked => false,
        }
    }
}

impl Connection {
    pub(super) fn new(stream: TlsStream<TcpStream>, inbound: BytesMut, session: Session, resumed: bool) -> Self {
        Self { stream, inbound, outbound: BytesMut::new(), session, resumed }
    }

    /// Whether its TLS session resumed an earlier one.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Plays the member's part until its work is done, it leaves, or the run halts.
    ///
    /// # Errors
    /// [`Broken`], when the connection ends before.
    pub async fn play(mut self, member: &mut Member, steered: &Steered, clock: &Clock) -> Result<Ended, Broken> {
        let timer = tokio::time::sleep(self.until_timeout(clock.elapsed()));
        tokio::pin!(timer);
        loop {
            let now = clock.elapsed();
            self.take_frames(&mut member.device, now)?;
            while let Some(event) = self.session.poll_event() {
                match event {
                    Event::Closed(Some(error)) => return Err(Broken::Closed(error)),
                    Event::Closed(None) => return Err(Broken::Goodbye),
                    Event::Unresponsive => return Err(Broken::Unresponsive),
                    event => member.actor.handle(event, &mut member.device, now),
                }
            }
            let stage = steered.stage();
            if stage == Stage::Halt || member.actor.act(&mut member.device, stage, now).is_break() {
                // Reset, so that the port is free at once: what is on its way is not needed any more.
                drop(self.stream.get_ref().0.set_zero_linger());
                return Ok(Ended::Done);
            }
            // Nobody leaves without an answer.
            if stage < Stage::Finish && member.device.outbox.is_empty() && !member.is_there(now) {
                return Ok(Ended::Left);
            }
            let woke = poll_fn(|cx| self.poll_wake(cx, &mut member.device, steered, timer.as_mut(), now)).await?;
            if woke == Wake::Timeout {
                self.session.handle_timeout(clock.elapsed());
                timer.set(tokio::time::sleep(self.until_timeout(clock.elapsed())));
            }
        }
    }

    fn take_frames(&mut self, device: &mut Device, now: Duration) -> Result<(), CodedError> {
        while let Some(body) = frame::take(&mut self.inbound, limits::MAX_FRAME_BYTES)? {
            self.session.handle_frame(frame::decode_server(body)?, device, now)?;
        }
        if self.inbound.is_empty() {
            self.inbound = BytesMut::new();
        }
        Ok(())
    }

    fn until_timeout(&self, now: Duration) -> Duration {
        self.session.poll_timeout().map_or(LONG, |at| at.saturating_sub(now))
    }

    /// Writes what there is; then waits for bytes, the bell or the timer.
    fn poll_wake(
        &mut self,
        cx: &mut Context<'_>,
        device: &mut Device,
        steered: &Steered,
        timer: Pin<&mut Sleep>,
        now: Duration,
    ) -> Poll<io::Result<Wake>> {
        let _ = self.poll_write_out(cx, device, now)?;
        if let Poll::Ready(read) = self.poll_read_in(cx)? {
            return Poll::Ready(Ok(read));
        }
        if steered.was_rung(cx.waker()) {
            return Poll::Ready(Ok(Wake::Bell));
        }
        timer.poll(cx).map(|()| Ok(Wake::Timeout))
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>, device: &mut Device, now: Duration) -> Poll<io::Result<()>> {
        let mut wrote = false;
        while !self.outbound.is_empty() || self.session.poll_transmit(device, &mut self.outbound, now) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outbound))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outbound.advance(written);
            wrote = true;
        }
        if wrote {
            self.outbound = BytesMut::new();
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_read_in(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Wake>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            while buffer.remaining() > 0 {
                let before = buffer.filled().len();
                match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                    Poll::Pending => break,
                    Poll::Ready(Err(error)) if before == 0 => return Poll::Ready(Err(error)),
                    Poll::Ready(Err(_)) => break,
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    Poll::Ready(Ok(())) if buffer.filled().len() == before => break,
                    Poll::Ready(Ok(())) => {}
                }
            }
            if buffer.filled().is_empty() {
                return Poll::Pending;
            }
            self.inbound.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(Wake::Read))
        })
    }
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    Read,
    Bell,
    Timeout,
}
