//! The network: connections that deliver late, in pieces, or not at all.
//!
//! Within a direction bytes keep their order, as TCP has it; between directions and connections nothing has an order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};

use crate::dice::Dice;
use crate::runtime::{Micros, Runtime};

/// The connection broke.
#[derive(Debug)]
pub struct Broken;

/// How connections are.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    /// How long bytes travel.
    pub latency: (Micros, Micros),
    /// Bytes under way in one direction, unread ones included, before a writer has to wait.
    pub buffer: usize,
}

/// What becomes of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// After the bytes under way.
    Orderly,
    /// Instead of them.
    Reset,
}

struct Pipe {
    under_way: VecDeque<(Micros, Bytes)>,
    held: usize,
    last_arrival: Micros,
    stalled_until: Micros,
    /// Bytes go nowhere, and nobody is told.
    swallowing: bool,
    end: Option<(Micros, End)>,
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// One connection. Pipe 0 goes to the server.
pub struct Link {
    pipes: [Pipe; 2],
    quality: Quality,
    /// It did not always behave: a side that gave it up in silence had a reason.
    pub troubled: bool,
    dice: Rc<Dice>,
    runtime: Arc<Runtime>,
}

/// One end of a connection.
pub struct Socket {
    link: Rc<RefCell<Link>>,
    /// Which pipe is written.
    side: usize,
}

impl Pipe {
    fn new() -> Self {
        Self {
            under_way: VecDeque::new(),
            held: 0,
            last_arrival: 0,
            stalled_until: 0,
            swallowing: false,
            end: None,
            reader_gone: false,
            reader: None,
            writer: None,
        }
    }

    fn is_reset(&self, now: Micros) -> bool {
        matches!(self.end, Some((at, End::Reset)) if at <= now)
    }

    fn finish(&mut self, at: Micros, end: End, runtime: &Runtime) {
        if matches!(self.end, Some((_, End::Reset))) {
            return;
        }
        self.end = Some((at, end));
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            runtime.wake_at(at, waker);
        }
    }
}

/// The client's and the server's end of a new connection.
pub fn connect(runtime: &Arc<Runtime>, dice: &Rc<Dice>, quality: Quality) -> (Socket, Socket) {
    let link = Rc::new(RefCell::new(Link {
        pipes: [Pipe::new(), Pipe::new()],
        quality,
        troubled: false,
        dice: Rc::clone(dice),
        runtime: Arc::clone(runtime),
    }));
    (Socket { link: Rc::clone(&link), side: 0 }, Socket { link, side: 1 })
}

impl Link {
    fn latency(&self) -> Micros {
        self.dice.between(self.quality.latency)
    }

    /// Whose time it lives in.
    pub fn runtime(&self) -> Arc<Runtime> {
        Arc::clone(&self.runtime)
    }

    /// Both sides find it broken, each in its time. What is under way is lost.
    pub fn reset(&mut self) {
        self.troubled = true;
        let now = self.runtime.now();
        for side in 0..2 {
            let at = now + self.latency();
            self.pipes[side].finish(at, End::Reset, &self.runtime);
        }
    }

    /// Nothing gets through any more, in one direction or both, and nobody is told.
    pub fn go_half_open(&mut self, to_server: bool, to_client: bool) {
        self.troubled = true;
        for (pipe, swallow) in self.pipes.iter_mut().zip([to_server, to_client]) {
            if swallow && pipe.end.is_none() {
                pipe.swallowing = true;
                pipe.under_way.clear();
            }
        }
    }

    /// Nothing arrives for a while; then everything does.
    pub fn stall(&mut self, time: Micros) {
        self.troubled = true;
        let until = self.runtime.now() + time;
        for pipe in &mut self.pipes {
            pipe.stalled_until = pipe.stalled_until.max(until);
        }
    }

    /// The network behaves from now on; what never will is broken in the open.
    pub fn heal(&mut self) {
        let dead = self.pipes.iter().any(|pipe| pipe.swallowing);
        for pipe in &mut self.pipes {
            pipe.stalled_until = 0;
            if let Some(reader) = pipe.reader.take() {
                reader.wake();
            }
        }
        if dead {
            self.reset();
        }
    }

    /// Whether bytes, or an end, are under way.
    pub fn is_busy(&self) -> bool {
        let now = self.runtime.now();
        let ends = |pipe: &Pipe| pipe.end.is_some_and(|(at, _)| at > now);
        self.pipes.iter().any(|pipe| !pipe.reader_gone && (!pipe.under_way.is_empty() || ends(pipe)))
    }
}

impl Socket {
    /// The connection, for those who do something to it.
    pub fn link(&self) -> Rc<RefCell<Link>> {
        Rc::clone(&self.link)
    }

    /// Appends what has arrived, `most` bytes at most. 0 is the end.
    pub fn poll_read(&self, cx: &Context<'_>, into: &mut BytesMut, most: usize) -> Poll<Result<usize, Broken>> {
        let mut link = self.link.borrow_mut();
        let now = link.runtime.now();
        let runtime = Arc::clone(&link.runtime);
        let pipe = &mut link.pipes[1 - self.side];
        if pipe.is_reset(now) {
            return Poll::Ready(Err(Broken));
        }
        let mut taken = 0;
        while let Some((at, piece)) = pipe.under_way.front_mut() {
            let due = (*at).max(pipe.stalled_until);
            if due > now || taken == most {
                break;
            }
            let part = piece.len().min(most - taken);
            into.extend_from_slice(&piece[..part]);
            piece.advance(part);
            taken += part;
            if piece.is_empty() {
                pipe.under_way.pop_front();
            }
        }
        if taken > 0 {
            pipe.held -= taken;
            if let Some(writer) = pipe.writer.take() {
                writer.wake();
            }
            return Poll::Ready(Ok(taken));
        }
        pipe.reader = Some(cx.waker().clone());
        match (pipe.under_way.front(), pipe.end) {
            (Some((at, _)), _) => runtime.wake_at((*at).max(pipe.stalled_until), cx.waker().clone()),
            (None, Some((at, _))) if at <= now => return Poll::Ready(Ok(0)),
            (None, Some((at, _))) => runtime.wake_at(at, cx.waker().clone()),
            (None, None) => {}
        }
        Poll::Pending
    }

    /// Takes as many of these bytes as there is room for.
    pub fn poll_write(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Broken>> {
        let mut guard = self.link.borrow_mut();
        let link = &mut *guard;
        let now = link.runtime.now();
        if link.pipes[self.side].is_reset(now) || link.pipes[1 - self.side].is_reset(now) {
            return Poll::Ready(Err(Broken));
        }
        let pipe = &mut link.pipes[self.side];
        if pipe.reader_gone && !pipe.swallowing {
            return Poll::Ready(Err(Broken));
        }
        let room = link.quality.buffer.saturating_sub(pipe.held).min(bytes.len());
        if room == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        pipe.held += room;
        if pipe.swallowing {
            return Poll::Ready(Ok(room));
        }
        let mut rest = &bytes[..room];
        while !rest.is_empty() {
            // Mostly whole, now and then cut anywhere.
            let cut = if link.dice.chance(85) { rest.len() } else { 1 + link.dice.below(rest.len() as u64) as usize };
            let arrival = (now + link.dice.between(link.quality.latency)).max(pipe.last_arrival);
            pipe.last_arrival = arrival;
            pipe.under_way.push_back((arrival, Bytes::copy_from_slice(&rest[..cut])));
            rest = &rest[cut..];
            if let Some(reader) = pipe.reader.take() {
                link.runtime.wake_at(arrival.max(pipe.stalled_until), reader);
            }
        }
        Poll::Ready(Ok(room))
    }

    /// Writes no more; what was written still arrives.
    pub fn shut_down(&self) {
        let mut guard = self.link.borrow_mut();
        let link = &mut *guard;
        let at = (link.runtime.now() + link.dice.between(link.quality.latency)).max(link.pipes[self.side].last_arrival);
        if link.pipes[self.side].end.is_none() && !link.pipes[self.side].swallowing {
            link.pipes[self.side].finish(at, End::Orderly, &link.runtime);
        }
    }
}

impl Drop for Socket {
    /// As a kernel closes: in order, or with a reset if something was left unread.
    fn drop(&mut self) {
        self.shut_down();
        let mut guard = self.link.borrow_mut();
        let link = &mut *guard;
        let incoming = &mut link.pipes[1 - self.side];
        incoming.reader_gone = true;
        let unread = !incoming.under_way.is_empty();
        if let Some(writer) = incoming.writer.take() {
            writer.wake();
        }
        if unread && !link.pipes[self.side].swallowing {
            let at = link.runtime.now() + link.dice.between(link.quality.latency);
            link.pipes[self.side].finish(at, End::Reset, &link.runtime);
        }
    }
}
