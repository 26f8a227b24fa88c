//! Messages that have no answer yet. Outlives every connection.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message as _;

use crate::limits;
use crate::wire::{self, ClientFrame, client_frame, send};

/// No message gets a higher number, so that there is always a next one.
pub(super) const LAST_SEND_ID: u64 = u64::MAX - 1;

/// Messages without an answer, in order of their `send_id`.
///
/// Invariant: the ids it holds lie within [`limits::SEND_WINDOW`] of each other, so that whatever is sent again after a
/// loss of connection or of power is among the answers the server keeps (SEND-4): `SEND_ID_TOO_OLD` cannot happen.
#[derive(Debug)]
pub struct Outbox {
    sends: VecDeque<wire::Send>,
    /// The highest id given out.
    highest: u64,
    /// Ids up to this one may be written.
    released: u64,
    max_frame_bytes: usize,
}

/// Why a message was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// [`limits::SEND_WINDOW`] messages are unanswered; wait for an answer.
    #[error("the outbox is full")]
    Full,
    /// The message would make a frame above the server's limit.
    #[error("the message takes {bytes} bytes on the wire; the server takes {limit}")]
    TooLarge {
        /// The frame's length.
        bytes: usize,
        /// `Welcome.max_frame_bytes`.
        limit: usize,
    },
}

impl Default for Outbox {
    fn default() -> Self {
        Self { sends: VecDeque::new(), highest: 0, released: 0, max_frame_bytes: limits::MAX_FRAME_BYTES }
    }
}

impl Outbox {
    /// What an earlier run left: `unanswered` in order of their ids, all of them durable. `highest` is the highest id
    /// ever used; an id among `unanswered` above it counts. One that no client gives a message is never written.
    #[must_use]
    pub fn restore(highest: u64, unanswered: impl IntoIterator<Item = wire::Send>) -> Self {
        let sends: VecDeque<_> = unanswered.into_iter().collect();
        let highest = sends.back().map_or(0, |last| last.send_id).max(highest);
        Self { sends, highest, released: highest.min(LAST_SEND_ID), ..Self::default() }
    }

    /// Queues a message and gives it its `send_id`. It is not written before [`release`](Self::release).
    ///
    /// # Errors
    /// See [`PushError`]; nothing changes.
    pub fn push(&mut self, to: send::To, content: Bytes) -> Result<u64, PushError> {
        if !self.has_room() {
            return Err(PushError::Full);
        }
        let send = wire::Send { send_id: self.highest + 1, to: Some(to), content };
        self.check_size(&send)?;
        self.highest = send.send_id;
        self.sends.push_back(send);
        Ok(self.highest)
    }

    /// Whether [`push`](Self::push) has room for one more.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let span = |oldest: &wire::Send| self.highest - oldest.send_id + 1;
        self.highest < LAST_SEND_ID && self.sends.front().map_or(0, span) < limits::SEND_WINDOW as u64
    }

    /// Lets everything up to this id be written: it is durable here.
    pub fn release(&mut self, up_to: u64) {
        self.released = self.released.max(up_to.min(self.highest).min(LAST_SEND_ID));
    }

    /// Whether nothing waits for an answer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sends.is_empty()
    }

    /// How many wait for an answer.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sends.len()
    }

    /// The highest `send_id` given out; 0 before the first.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.highest
    }

    /// Every message up to this `send_id` has its answer; 0 when none has.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.sends.front().map_or(self.highest, |first| first.send_id.saturating_sub(1))
    }

    /// What waits for an answer, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &wire::Send> {
        self.sends.iter()
    }

    /// A client that lost its state goes on from the server's count; one that holds unanswered sends is ahead of it.
    pub(super) fn handle_welcome(&mut self, welcome: &wire::Welcome) -> Result<(), PushError> {
        let limit = usize::try_from(welcome.max_frame_bytes).unwrap_or(usize::MAX);
        self.max_frame_bytes = limit.clamp(limits::MAX_LOGIN_FRAME_BYTES, limits::MAX_FRAME_BYTES);
        if self.sends.is_empty() {
            self.released = self.released.max(welcome.highest_send_id);
        }
        self.highest = self.highest.max(welcome.highest_send_id);
        self.sends.iter().try_for_each(|send| self.check_size(send))
    }

    /// The first message with this id or a higher one that may be written.
    pub(super) fn released_from(&self, send_id: u64) -> Option<&wire::Send> {
        let index = self.sends.partition_point(|send| send.send_id < send_id);
        self.sends.get(index).filter(|send| send.send_id <= self.released)
    }

    /// Forgets an answered message; false if it is not here.
    pub(super) fn answer(&mut self, send_id: u64) -> bool {
        let Ok(index) = self.sends.binary_search_by_key(&send_id, |send| send.send_id) else { return false };
        self.sends.remove(index).is_some()
    }

    fn check_size(&self, send: &wire::Send) -> Result<(), PushError> {
        let body = Some(client_frame::Body::Send(send.clone()));
        let bytes = ClientFrame { received: u64::MAX, body }.encoded_len();
        let limit = self.max_frame_bytes;
        if bytes > limit { Err(PushError::TooLarge { bytes, limit }) } else { Ok(()) }
    }
}
