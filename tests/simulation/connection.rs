//! One connection of the server, as `net::handshake` and `net::connection` drive it: the same calls in the same order,
//! over a simulated socket instead of TLS.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use postrider::ids::Position;
use postrider::router::login::Admit;
use postrider::router::{Peer, Work};
use postrider::store::Attached;
use postrider_protocol::error::{CodedError, ErrorCode};
use postrider_protocol::session::server::{AwaitingHello, Requests, Session, frame};
use postrider_protocol::wire::{self, server_frame::Body};
use postrider_protocol::{frame as frames, limits};

use crate::network::{Broken, Socket};
use crate::planted::Bug;
use crate::runtime::{Micros, SECOND, Sleep, timeout};
use crate::server::Node;

/// As in `net::connection`.
const CLOSING_TIME: Micros = 5 * SECOND;
const LINGER: Micros = SECOND;
const SCRATCH_BYTES: usize = 64 * 1024;

enum Ended {
    Gone,
    Closed(CodedError),
    Goodbye,
}

enum Wake {
    Read,
    Eof,
    Output,
    Timeout,
}

impl From<Broken> for Ended {
    fn from(_: Broken) -> Self {
        Ended::Gone
    }
}

impl From<CodedError> for Ended {
    fn from(error: CodedError) -> Self {
        Ended::Closed(error)
    }
}

struct Connection {
    socket: Socket,
    inbound: BytesMut,
    outbound: BytesMut,
    peer: Peer,
    session: Session,
    backlog_end: Option<Position>,
    broken: bool,
    writing: bool,
    /// For [`Bug::LosesWakeUps`].
    wrote: bool,
}

/// From an accepted socket to the end.
pub async fn serve(node: Rc<Node>, socket: Socket) {
    let mut inbound = BytesMut::new();
    let login = timeout(&node.runtime, node.bounds.login_timeout, welcome(&node, &socket, &mut inbound)).await;
    let refused = match login {
        Some(Ok((peer, session, welcome))) => {
            let backlog_end = Some(peer.outbox.newest());
            let connection = Connection {
                socket,
                inbound,
                outbound: welcome,
                peer,
                session,
                backlog_end,
                broken: false,
                writing: false,
                wrote: false,
            };
            return connection.serve(&node).await;
        }
        Some(Err(Ended::Closed(error))) => error,
        Some(Err(_)) => return,
        None => ErrorCode::LoginTimeout.into(),
    };
    let last = say_and_close(&socket, BytesMut::new(), Body::Error(refused.to_wire()));
    let _ = timeout(&node.runtime, CLOSING_TIME, last).await;
}

async fn welcome(node: &Node, socket: &Socket, inbound: &mut BytesMut) -> Result<(Peer, Session, BytesMut), Ended> {
    let mut hello = AwaitingHello::new().handle_frame(next_frame(socket, inbound).await?)?;
    if node.bug == Some(Bug::IgnoresTheWindow) {
        hello.window = limits::MAX_WINDOW;
    }
    let (tenant, admit) = node.router.admit(&hello)?;
    let Admit::Now(admission) = admit else { return Err(CodedError::new(ErrorCode::Internal).into()) };
    let (peer, attached) = node.router.log_in(tenant, hello, admission, node.router.outbox()).await?;
    let mut bytes = BytesMut::new();
    frames::put(&frame(welcome_body(node, &attached)), &mut bytes);
    let idle = Duration::from_micros(node.bounds.idle_timeout);
    Ok((peer, Session::new(attached.cursor.0, idle, node.clock.elapsed()), bytes))
}

fn welcome_body(node: &Node, attached: &Attached) -> Body {
    Body::Welcome(wire::Welcome {
        device_id: attached.device.0,
        highest_send_id: attached.highest_send_id.0,
        cursor: attached.cursor.0,
        head: attached.head.0,
        idle_timeout_ms: u32::try_from(node.bounds.idle_timeout / 1_000).expect("small"),
        max_frame_bytes: u32::try_from(node.bounds.max_frame_bytes).expect("small"),
        send_window: limits::SEND_WINDOW as u32,
        time: node.clock.wall_ms(),
        server: "postrider/simulated".into(),
        max_content_bytes: u32::try_from(node.router.max_content_bytes()).expect("small"),
    })
}

async fn next_frame(socket: &Socket, inbound: &mut BytesMut) -> Result<wire::ClientFrame, Ended> {
    loop {
        if let Some(body) = frames::take(inbound, limits::MAX_LOGIN_FRAME_BYTES)? {
            return Ok(frames::decode_client(body)?);
        }
        if poll_fn(|cx| socket.poll_read(cx, inbound, SCRATCH_BYTES)).await? == 0 {
            return Err(Ended::Gone);
        }
    }
}

async fn write_all(socket: &Socket, bytes: &mut BytesMut) -> Result<(), Broken> {
    while !bytes.is_empty() {
        let written = poll_fn(|cx| socket.poll_write(cx, bytes)).await?;
        bytes.advance(written);
    }
    Ok(())
}

async fn say_and_close(socket: &Socket, mut bytes: BytesMut, last: Body) -> Result<(), Broken> {
    frames::put(&frame(last), &mut bytes);
    write_all(socket, &mut bytes).await?;
    socket.shut_down();
    let runtime = socket.link().borrow().runtime();
    let drain = async {
        let mut dropped = BytesMut::new();
        while let Ok(1..) = poll_fn(|cx| socket.poll_read(cx, &mut dropped, 4096)).await {
            dropped.clear();
        }
    };
    let _ = timeout(&runtime, LINGER, drain).await;
    Ok(())
}

impl Connection {
    async fn serve(mut self, node: &Node) {
        let Err(ended) = self.run(node).await;
        if node.bug != Some(Bug::KeepsItsSeat) || !matches!(ended, Ended::Gone) {
            node.router.leave(&self.peer);
        }
        let last = match &ended {
            Ended::Gone => return,
            Ended::Closed(_) if node.bug == Some(Bug::ClosesInSilence) => return,
            Ended::Closed(error) => Body::Error(error.to_wire()),
            Ended::Goodbye => Body::Goodbye(wire::Goodbye {}),
        };
        let mut bytes = std::mem::take(&mut self.outbound);
        bytes.unsplit(self.peer.outbox.take().frames);
        let _ = timeout(&node.runtime, CLOSING_TIME, say_and_close(&self.socket, bytes, last)).await;
    }

    async fn run(&mut self, node: &Node) -> Result<Infallible, Ended> {
        let mut timer = node.runtime.sleep(self.until_timeout(node));
        self.take_requests(node).await;
        loop {
            if !self.writing {
                self.read_backlog(node).await?;
                self.take_output(node).await?;
            } else if let Some(error) = self.peer.outbox.closing() {
                return Err(Ended::Closed(error));
            }
            match poll_fn(|cx| self.poll_wake(cx, &mut timer, node)).await? {
                Wake::Read => self.take_requests(node).await,
                Wake::Eof => return Err(Ended::Gone),
                Wake::Output => {}
                Wake::Timeout => {
                    self.session.handle_timeout(node.clock.elapsed())?;
                    timer = node.runtime.sleep(self.until_timeout(node));
                }
            }
        }
    }

    async fn take_output(&mut self, node: &Node) -> Result<(), Ended> {
        let output = self.peer.outbox.take();
        self.wrote = !output.frames.is_empty();
        self.outbound.unsplit(output.frames);
        self.session.handle_answered(output.answered);
        self.session.handle_delivered(output.delivered.0);
        if node.bug == Some(Bug::ConfirmsWhatItWrote) && output.delivered.0 > self.session.confirmed() {
            let mut work = Work::default();
            let received = Some(output.delivered.0);
            node.router.collect(&self.peer, Requests { received, request: None }, &mut work);
            node.router.commit(&self.peer, work).await;
        }
        match output.closing {
            Some(error) => Err(Ended::Closed(error)),
            None if output.finished => Err(Ended::Goodbye),
            None => Ok(()),
        }
    }

    fn until_timeout(&self, node: &Node) -> Micros {
        let time = self.session.poll_timeout().saturating_sub(node.clock.elapsed());
        u64::try_from(time.as_micros()).expect("small")
    }

    async fn take_requests(&mut self, node: &Node) {
        let mut work = Work::default();
        let decoded = self.decode(node, &mut work);
        node.router.commit(&self.peer, work).await;
        if let Err(error) = decoded {
            self.broken = true;
            node.router.close(&self.peer, error).await;
        }
    }

    fn decode(&mut self, node: &Node, work: &mut Work) -> Result<(), CodedError> {
        let now = node.clock.elapsed();
        while let Some(body) = frames::take(&mut self.inbound, node.bounds.max_frame_bytes)? {
            let requests = self.session.handle_frame(frames::decode_client(body)?, now)?;
            node.router.collect(&self.peer, requests, work);
        }
        Ok(())
    }

    async fn read_backlog(&mut self, node: &Node) -> Result<(), CodedError> {
        node.router.read_on(&self.peer).await?;
        let early = node.bug == Some(Bug::IsCaughtUpTooEarly);
        if let Some(end) = self.backlog_end
            && (early || self.peer.outbox.streamed() >= end)
        {
            self.backlog_end = None;
            let caught_up = frame(Body::CaughtUp(wire::CaughtUp { position: end.0 }));
            self.peer.outbox.reply(|sender| sender.frame(|out| frames::put(&caught_up, out)));
        }
        Ok(())
    }

    fn poll_wake(&mut self, cx: &mut Context<'_>, timer: &mut Sleep, node: &Node) -> Poll<Result<Wake, Broken>> {
        if node.bug != Some(Bug::LosesWakeUps) || !std::mem::take(&mut self.wrote) {
            self.peer.outbox.register(cx.waker());
        }
        self.writing = self.poll_write_out(cx)?.is_pending();
        let waiting = self.peer.outbox.look();
        if !self.broken
            && !waiting.full
            && let Poll::Ready(read) = self.poll_read_in(cx)?
        {
            return Poll::Ready(Ok(read));
        }
        if waiting.closing || (waiting.work && !self.writing) {
            return Poll::Ready(Ok(Wake::Output));
        }
        Pin::new(timer).poll(cx).map(|()| Ok(Wake::Timeout))
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while !self.outbound.is_empty() {
            let written = ready!(self.socket.poll_write(cx, &self.outbound))?;
            self.outbound.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read_in(&mut self, cx: &mut Context<'_>) -> Poll<Result<Wake, Broken>> {
        match ready!(self.socket.poll_read(cx, &mut self.inbound, SCRATCH_BYTES))? {
            0 => Poll::Ready(Ok(Wake::Eof)),
            _ => Poll::Ready(Ok(Wake::Read)),
        }
    }
}
