//! What happens to a client, in order.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use postrider_protocol::wire::{self, deliver};
use tokio::sync::{Notify, mpsc};

use crate::{Ack, Error, SendError, content};

/// One thing that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A message arrived, or was sent by another device of this user. Each arrives once, in order of `seq`.
    Message(Message),
    /// Everything of the conversation up to `seq` has reached a device of `user`.
    Delivered(Receipt),
    /// `user` has read everything of the conversation up to `seq`.
    Read(Receipt),
    /// What `user` had not got by the end of the retention, up to `seq`, is gone.
    Expired(Receipt),
    /// An inbox entry of a kind that this version does not know. Confirmed like any other.
    Unknown {
        /// Where in the inbox.
        position: u64,
    },
    /// What was in the inbox when the connection was made has all been given out before this.
    CaughtUp,
    /// Logged in.
    Connected {
        /// Not for the first time since the client was made.
        resumed: bool,
    },
    /// The connection is gone, or an attempt to make one failed; the next is under way.
    Disconnected {
        /// What happened, for a person.
        reason: String,
        /// When the next attempt starts, from now.
        retry_in: Duration,
    },
    /// How a message went that an earlier run of this program sent.
    Answered(Answer),
    /// The client has stopped for good; nothing follows.
    Stopped(Error),
}

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where in this device's inbox.
    pub position: u64,
    /// The conversation.
    pub conversation: u64,
    /// 1, 2, 3 … within the conversation: the order everyone sees.
    pub seq: u64,
    /// Who sent it.
    pub sender: String,
    /// The other user of a direct conversation, as the sender addressed it.
    pub recipient: String,
    /// Milliseconds since 1970 by the server's clock.
    pub time: u64,
    /// What it says; [`text`](Self::text) reads the protocol's own format.
    pub content: Bytes,
}

impl Message {
    /// The text of a text message; `None` for content of another kind or format.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        content::as_text(&self.content)
    }
}

/// A watermark: what it says of `seq` holds for every message of the conversation up to it. It may come late or again, and
/// one below another says nothing new (RCPT-2); it is never false.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Where in this device's inbox.
    pub position: u64,
    /// The conversation.
    pub conversation: u64,
    /// Who took, read, or lost to expiry.
    pub user: String,
    /// Up to which message.
    pub seq: u64,
}

/// The answer to a message of an earlier run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The message's own number, as [`Sending::send_id`](crate::Sending::send_id) gave it then.
    pub send_id: u64,
    /// The answer.
    pub result: Result<Ack, SendError>,
}

impl Event {
    /// The inbox position, for an event that is an inbox entry.
    #[must_use]
    pub fn position(&self) -> Option<u64> {
        match self {
            Event::Message(message) => Some(message.position),
            Event::Delivered(receipt) | Event::Read(receipt) | Event::Expired(receipt) => Some(receipt.position),
            Event::Unknown { position } => Some(*position),
            _ => None,
        }
    }

    pub(crate) fn from_entry(position: u64, entry: Option<deliver::Entry>) -> Self {
        let receipt = |wire::Receipt { conversation, user, seq }| Receipt { position, conversation, user, seq };
        match entry {
            Some(deliver::Entry::Message(message)) => {
                let wire::Message { conversation, seq, sender, recipient, time, content } = message;
                Event::Message(Message { position, conversation, seq, sender, recipient, time, content })
            }
            Some(deliver::Entry::Delivered(it)) => Event::Delivered(receipt(it)),
            Some(deliver::Entry::Read(it)) => Event::Read(receipt(it)),
            Some(deliver::Entry::Expired(it)) => Event::Expired(receipt(it)),
            None => Event::Unknown { position },
        }
    }
}

/// The events of a client, in order. Also a [`Stream`].
///
/// While nobody takes them, the server holds what is further in the inbox back; nothing piles up here beyond
/// [`Options::window`](crate::Options::window). Dropping it is fine for a program that only sends.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<Event>,
    taken: Arc<Taken>,
    confirms: bool,
}

impl Events {
    pub(crate) fn new(receiver: mpsc::Receiver<Event>, taken: Arc<Taken>, confirms: bool) -> Self {
        Self { receiver, taken, confirms }
    }

    /// The next event; `None` after the client has been closed or stopped. Asking confirms everything returned before,
    /// unless [`Options::manual_confirm`](crate::Options::manual_confirm) is set: the application has taken it, and it
    /// will not come again. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.confirms {
            self.taken.take_returned();
        }
        let polled = self.receiver.poll_recv(cx);
        if let Poll::Ready(Some(event)) = &polled
            && let Some(position) = event.position()
        {
            self.taken.set_returned(position);
        }
        polled
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(cx)
    }
}

/// How far the application has got: written by [`Events`], read by the driver.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    returned: AtomicU64,
    taken: AtomicU64,
    changed: Notify,
}

impl Taken {
    /// Everything returned so far counts as taken.
    pub(crate) fn take_returned(&self) {
        let returned = self.returned.load(Ordering::Acquire);
        if self.taken.fetch_max(returned, Ordering::AcqRel) < returned {
            self.changed.notify_one();
        }
    }

    pub(crate) fn position(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }

    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn set_returned(&self, position: u64) {
        self.returned.fetch_max(position, Ordering::AcqRel);
    }
}
