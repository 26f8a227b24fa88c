//! What waits to be written to one connection: a byte-bounded tail of encoded frames.
//!
//! Frames are encoded straight into the buffer that will be written; nothing is queued as a value. Inbox entries come
//! in two ways, and an outbox is in one of two states accordingly:
//! - *live*: everything durable has been written or lies in the buffer, and new entries are appended as they are
//!   published;
//! - *behind*: the tail overflowed, the client's window is full, or the connection is new. Publications only raise
//!   `newest`; the connection's task reads the inbox at its own pace until it has caught up, and is live again.
//!
//! So a slow consumer costs a cursor, not memory.
//!
//! Invariants: `confirmed ≤ delivered ≤ streamed ≤ newest`; live ⇒ `streamed = newest`.

use std::task::Waker;

use bytes::BytesMut;
use postrider_protocol::error::CodedError;

use super::wakes;
use crate::ids::Position;
use crate::sync::{AtomicWaker, Mutex, MutexGuard};

/// Bytes that the first frame after a write makes room for, so that a burst does not grow the buffer frame by frame.
const FIRST_BYTES: usize = 1024;

/// The tail of one connection.
pub struct Outbox {
    inner: Mutex<Inner>,
    waker: AtomicWaker,
    /// Bytes of unwritten frames above which inbox entries are no longer appended.
    bound: usize,
}

struct Inner {
    frames: BytesMut,
    answered: usize,
    confirmed: Position,
    delivered: Position,
    streamed: Position,
    newest: Position,
    window: u32,
    live: bool,
    closing: Option<CodedError>,
    finished: bool,
    lost: Lost,
}

impl Inner {
    /// The highest position that may be streamed. Entries that were passed over because this device needs not be told
    /// cannot be confirmed by it, so they do not use up its window.
    fn window_end(&self) -> Position {
        let base = if self.confirmed >= self.delivered { self.streamed } else { self.confirmed };
        Position(base.0.saturating_add(u64::from(self.window)))
    }

    fn readable(&self) -> Position {
        self.newest.min(self.window_end())
    }

    fn has_backlog(&self, bound: usize) -> bool {
        !self.live && self.closing.is_none() && self.frames.len() < bound && self.readable() > self.streamed
    }
}

impl Inner {
    /// Appends frames, if there is no reason to close yet. What followed one would be said before it: an answer out of order,
    /// as the one that failed has none (SEND-2), or the receipt for a message whose `Ack` was left out (SEND-5).
    fn append(&mut self, encode: impl FnOnce(&mut BytesMut)) -> bool {
        if self.closing.is_some() {
            return false;
        }
        // At rest there is no buffer; the first frame makes one for some more.
        if self.frames.capacity() == 0 {
            self.frames.reserve(FIRST_BYTES);
        }
        encode(&mut self.frames);
        true
    }

    /// Returns whether the connection's task has to know.
    fn publish<E: FnOnce(&mut BytesMut)>(&mut self, position: Position, encode: Option<E>, bound: usize) -> bool {
        if position <= self.newest || self.closing.is_some() {
            return false;
        }
        // The store gives positions one after the other: what lies between was committed on another node, whose hint is
        // late or lost, and is in the inbox.
        let gap = position.0 > self.newest.0 + 1;
        self.newest = position;
        if !self.live {
            return false;
        }
        if gap || position > self.window_end() || self.frames.len() >= bound {
            self.live = false;
        } else {
            if let Some(encode) = encode {
                self.append(encode);
                self.delivered = position;
            }
            self.streamed = position;
        }
        true
    }
}

/// What the connection's task takes when it wakes up.
#[derive(Debug)]
pub struct Output {
    /// Encoded frames to write.
    pub frames: BytesMut,
    /// How many sends the frames answer.
    pub answered: usize,
    /// The newest entry in these or earlier frames.
    pub delivered: Position,
    /// Say this and close, after the frames.
    pub closing: Option<CodedError>,
    /// Say `Goodbye` and close, after the frames.
    pub finished: bool,
}

/// What is there for the connection's task.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// Something to take, to read or to close.
    pub work: bool,
    /// The connection is closing with an error.
    pub closing: bool,
    /// So much that the connection should stop reading what its client asks. Inbox entries alone never get there (they
    /// stop at one bound, plus one page of the backlog), so a client that writes before it reads is not stuck; only answers
    /// to somebody who keeps asking and never reads do.
    pub full: bool,
}

/// What a connection has said and the store could not keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// A read mark.
    pub reads: bool,
    /// What it has confirmed.
    pub confirmation: bool,
}

/// A place in the inbox to read on from: entries above `after`, up to `up_to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// What has been streamed.
    pub after: Position,
    /// How far the window and what is durable reach.
    pub up_to: Position,
}

/// An append of frames, under the outbox's lock.
pub struct Sender<'a>(&'a mut Inner);

impl Sender<'_> {
    /// The answer to one send.
    pub fn answer(&mut self, encode: impl FnOnce(&mut BytesMut)) {
        if self.0.append(encode) {
            self.0.answered += 1;
        }
    }

    /// A confirmation is kept, and what was confirmed before with it: they are cumulative (DLVR-4).
    pub fn confirmation_is_kept(&mut self) {
        self.0.lost.confirmation = false;
    }

    /// A frame that is neither an inbox entry nor the answer to a send.
    pub fn frame(&mut self, encode: impl FnOnce(&mut BytesMut)) {
        self.0.append(encode);
    }

    /// As [`Outbox::close`], behind what was appended.
    pub fn close(&mut self, why: CodedError) {
        self.0.closing.get_or_insert(why);
    }
}

impl Outbox {
    /// An empty outbox that takes inbox entries while fewer than `bound` bytes wait. It is behind until
    /// [`attach`](Self::attach).
    #[must_use]
    pub fn new(bound: usize) -> Self {
        let inner = Inner {
            frames: BytesMut::new(),
            answered: 0,
            confirmed: Position(0),
            delivered: Position(0),
            streamed: Position(0),
            newest: Position(0),
            window: 0,
            live: false,
            closing: None,
            finished: false,
            lost: Lost::default(),
        };
        Self { inner: Mutex::new(inner), waker: AtomicWaker::new(), bound }
    }

    /// The login is committed: streaming starts after `cursor`, the inbox is durable up to `head`.
    pub fn attach(&self, cursor: Position, head: Position, window: u32) {
        let mut inner = self.lock();
        inner.confirmed = cursor;
        inner.delivered = cursor;
        inner.streamed = cursor;
        inner.newest = inner.newest.max(head);
        inner.window = window;
        inner.live = inner.newest <= inner.streamed;
    }

    /// Appends frames that are answers to what the client asked. They are bounded by what a client may ask for at once.
    pub fn reply(&self, append: impl FnOnce(&mut Sender<'_>)) {
        let mut inner = self.lock();
        append(&mut Sender(&mut inner));
        drop(inner);
        wakes::wake(&self.waker);
    }

    /// Durable entries are there, oldest first: each one's position, and how to append it (`None`: this device needs not be
    /// told). Live, they are appended; otherwise they are left to be read from the inbox. One wake-up for all of them.
    pub fn publish<E: FnOnce(&mut BytesMut)>(&self, entries: impl IntoIterator<Item = (Position, Option<E>)>) {
        let mut inner = self.lock();
        let mut wake = false;
        for (position, encode) in entries {
            wake |= inner.publish(position, encode, self.bound);
        }
        drop(inner);
        if wake {
            wakes::wake(&self.waker);
        }
    }

    /// The inbox has durable entries up to `newest` that were not published here.
    pub fn moved(&self, newest: Position) {
        let mut inner = self.lock();
        if newest > inner.newest {
            inner.newest = newest;
            inner.live = false;
            drop(inner);
            wakes::wake(&self.waker);
        }
    }

    /// The client has confirmed up to `confirmed`: the window moves.
    pub fn confirmed(&self, confirmed: Position) {
        let mut inner = self.lock();
        inner.confirmed = inner.confirmed.max(confirmed);
    }

    /// What is to be read from the inbox now: nothing while live, while enough waits to be written, or while the
    /// window is full.
    #[must_use]
    pub fn backlog(&self) -> Option<Backlog> {
        let inner = self.lock();
        inner.has_backlog(self.bound).then(|| Backlog { after: inner.streamed, up_to: inner.readable() })
    }

    /// Entries that were read: `append` writes them and says which was the last, and everything up to `through` counts
    /// as streamed. The outbox is live when nothing newer was published meanwhile.
    pub fn stream(&self, through: Position, append: impl FnOnce(&mut BytesMut) -> Option<Position>) {
        let mut inner = self.lock();
        let mut last = None;
        if !inner.append(|frames| last = append(frames)) {
            return;
        }
        if let Some(last) = last {
            inner.delivered = inner.delivered.max(last);
        }
        inner.streamed = inner.streamed.max(through);
        inner.live = inner.streamed >= inner.newest;
    }

    /// Everything up to here was written or waits to be.
    #[must_use]
    pub fn streamed(&self) -> Position {
        self.lock().streamed
    }

    /// The newest durable entry this connection knows of.
    #[must_use]
    pub fn newest(&self) -> Position {
        self.lock().newest
    }

    /// What the connection's task has to know before it sleeps.
    #[must_use]
    pub fn look(&self) -> Waiting {
        let inner = self.lock();
        let closing = inner.closing.is_some();
        Waiting {
            work: !inner.frames.is_empty() || inner.finished || closing || inner.has_backlog(self.bound),
            closing,
            full: inner.frames.len() >= 3 * self.bound,
        }
    }

    /// Says `why` after what waits, then closes. The first reason stays, and nothing more is appended.
    pub fn close(&self, why: CodedError) {
        self.reply(|sender| sender.close(why));
    }

    /// Everything the client asked is answered: the connection says `Goodbye` after what waits, then closes.
    pub fn finish(&self) {
        self.lock().finished = true;
        wakes::wake(&self.waker);
    }

    /// The store could not keep what this connection said.
    pub fn lose(&self, what: Lost) {
        let mut inner = self.lock();
        inner.lost.reads |= what.reads;
        inner.lost.confirmation |= what.confirmation;
    }

    /// What the store could not keep: the client must not be told what makes it believe otherwise (CONN-9, RCPT-10).
    #[must_use]
    pub fn lost(&self) -> Lost {
        self.lock().lost
    }

    /// What the client has confirmed and the store could not keep, to be committed once more.
    #[must_use]
    pub fn lost_confirmation(&self) -> Option<Position> {
        let inner = self.lock();
        inner.lost.confirmation.then_some(inner.confirmed)
    }

    /// Why the connection is closing, if it is.
    #[must_use]
    pub fn closing(&self) -> Option<CodedError> {
        self.lock().closing.clone()
    }

    /// Takes what waits; the outbox keeps no memory of it.
    #[must_use]
    pub fn take(&self) -> Output {
        let mut inner = self.lock();
        Output {
            frames: std::mem::take(&mut inner.frames),
            answered: std::mem::take(&mut inner.answered),
            delivered: inner.delivered,
            closing: inner.closing.clone(),
            finished: inner.finished,
        }
    }

    /// Wakes `waker` at the next change; call before looking.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic under this lock can only come from an allocation failure in an append; the frames are then still whole.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;

    fn entry(byte: u8) -> Option<impl FnOnce(&mut BytesMut)> {
        Some(move |out: &mut BytesMut| out.put_slice(&[byte; 10]))
    }

    fn live(bound: usize, window: u32) -> Outbox {
        let outbox = Outbox::new(bound);
        outbox.attach(Position(0), Position(0), window);
        outbox
    }

    #[test]
    fn a_live_outbox_appends_what_is_published_and_drops_what_it_has() {
        let outbox = live(1000, 100);
        outbox.publish([(Position(1), entry(1))]);
        outbox.publish([(Position(1), entry(1))]);
        outbox.publish([(Position(2), entry(2))]);
        let output = outbox.take();
        assert_eq!((output.frames.len(), output.delivered), (20, Position(2)));
        assert!(outbox.take().frames.is_empty());
    }

    #[test]
    fn an_outbox_that_is_empty_is_small_and_stays_so() {
        assert!(size_of::<Outbox>() <= 160, "{} bytes", size_of::<Outbox>());
        let outbox = live(1000, 100);
        outbox.publish([(Position(1), entry(1))]);
        drop(outbox.take());
        assert_eq!(outbox.lock().frames.capacity(), 0);
    }

    #[test]
    fn a_gap_between_publications_is_read_from_the_inbox() {
        let outbox = live(1000, 100);
        outbox.publish([(Position(1), entry(1))]);
        outbox.publish([(Position(3), entry(3))]);
        assert_eq!(outbox.take().frames.len(), 10);
        assert_eq!(outbox.backlog(), Some(Backlog { after: Position(1), up_to: Position(3) }));
    }

    #[test]
    fn a_full_tail_falls_behind_and_reads_on_from_the_inbox_without_a_gap() {
        let outbox = live(15, 100);
        for position in 1..=5 {
            outbox.publish([(Position(position), entry(0))]);
        }
        assert_eq!(outbox.backlog(), None, "not before the tail is written");
        assert_eq!(outbox.take().frames.len(), 20);
        assert_eq!(outbox.backlog(), Some(Backlog { after: Position(2), up_to: Position(5) }));

        outbox.publish([(Position(6), entry(0))]);
        outbox.stream(Position(5), |out| {
            out.put_slice(&[0; 3]);
            Some(Position(5))
        });
        assert_eq!(outbox.take().frames.len(), 3, "6 was published while behind: it is read, not appended");
        assert_eq!(outbox.backlog(), Some(Backlog { after: Position(5), up_to: Position(6) }));
        outbox.stream(Position(6), |_| Some(Position(6)));
        outbox.publish([(Position(7), entry(0))]);
        assert_eq!(outbox.take().frames.len(), 10, "live again");
    }

    #[test]
    fn the_window_holds_entries_back_until_the_client_confirms() {
        let outbox = live(1000, 2);
        for position in 1..=4 {
            outbox.publish([(Position(position), entry(0))]);
        }
        assert_eq!(outbox.take().frames.len(), 20);
        assert_eq!(outbox.backlog(), None);
        outbox.confirmed(Position(1));
        assert_eq!(outbox.backlog(), Some(Backlog { after: Position(2), up_to: Position(3) }));
    }

    #[test]
    fn entries_that_are_passed_over_use_up_no_window() {
        let outbox = live(1000, 2);
        for position in 1..=9 {
            outbox.publish([(Position(position), None::<fn(&mut BytesMut)>)]);
        }
        outbox.publish([(Position(10), entry(0))]);
        assert_eq!(outbox.take().frames.len(), 10);
    }

    #[test]
    fn an_entry_published_before_the_login_is_committed_is_part_of_the_backlog() {
        let outbox = Outbox::new(1000);
        outbox.publish([(Position(8), entry(0))]);
        outbox.attach(Position(5), Position(7), 100);
        assert_eq!(outbox.backlog(), Some(Backlog { after: Position(5), up_to: Position(8) }));
    }

    #[test]
    fn a_hint_from_another_node_makes_the_connection_read_its_inbox() {
        let outbox = live(1000, 100);
        outbox.moved(Position(4));
        assert_eq!(outbox.backlog(), Some(Backlog { after: Position(0), up_to: Position(4) }));
        outbox.moved(Position(3));
        assert_eq!(
            outbox.backlog(),
            Some(Backlog { after: Position(0), up_to: Position(4) }),
            "old hints change nothing"
        );
    }

    #[test]
    fn nothing_follows_the_reason_to_close() {
        use postrider_protocol::error::ErrorCode;
        let outbox = live(1000, 100);
        outbox.reply(|sender| sender.answer(|out| out.put_slice(&[1; 10])));
        outbox.publish([(Position(1), entry(1))]);
        outbox.close(ErrorCode::SendIdGap.into());
        outbox.reply(|sender| sender.answer(|out| out.put_slice(&[2; 10])));
        outbox.publish([(Position(2), entry(2))]);
        outbox.stream(Position(3), |out| {
            out.put_slice(&[3; 10]);
            Some(Position(3))
        });
        let output = outbox.take();
        assert_eq!((output.frames.as_ref(), output.answered, output.delivered), (&[1; 20][..], 1, Position(1)));
        assert_eq!(outbox.streamed(), Position(1));
    }

    #[test]
    fn the_first_reason_to_close_stays() {
        use postrider_protocol::error::ErrorCode;
        let outbox = live(10, 1);
        outbox.close(ErrorCode::Replaced.into());
        outbox.close(ErrorCode::ShuttingDown.into());
        assert_eq!(outbox.closing().map(|why| why.code), Some(ErrorCode::Replaced));
    }
}
