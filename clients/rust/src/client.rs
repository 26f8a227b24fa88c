//! The handle that an application holds.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use postrider_protocol::wire::{self, send};
use tokio::sync::{mpsc, oneshot};

use crate::driver::{self, Command, NewSend, SendResult};
use crate::events::Taken;
use crate::{Error, Events, Options, SendError, StateStore};

/// A client of one device: send, mark as read, close. Clones are handles of the same client. When the last one and the
/// [`Events`] are dropped, the client says goodbye and ends.
#[derive(Clone, Debug)]
pub struct Client {
    sends: mpsc::Sender<NewSend>,
    commands: mpsc::Sender<Command>,
    taken: Arc<Taken>,
    confirms_by_event: bool,
}

impl Client {
    /// Connects and logs in. From then on the client keeps itself connected, until it is closed or stopped.
    ///
    /// # Errors
    /// What no retry can mend; and, unless [`Options::retry_first`] is set, the first failure to connect.
    pub async fn connect(options: Options, state: impl StateStore) -> Result<(Client, Events), Error> {
        options.check()?;
        let confirms_by_event = !options.manual_confirm;
        let started = driver::start(options, Box::new(state)).await?;
        let taken = started.taken;
        let events = Events::new(started.events, taken.clone(), confirms_by_event);
        let client = Client { sends: started.sends, commands: started.commands, taken, confirms_by_event };
        started.ready.await.map_err(|_| Error::Closed)??;
        Ok((client, events))
    }

    /// Sends a message. Returns once it is durably queued, so that a crash of this program does not lose it; waits while
    /// 256 messages are unanswered. The [`Sending`] resolves when the server has answered, and need not be kept.
    ///
    /// Messages are sent in the order of the calls.
    ///
    /// # Errors
    /// [`SendError::TooLarge`], [`SendError::Closed`].
    pub async fn send(&self, to: To, content: impl Into<Bytes>) -> Result<Sending, SendError> {
        self.queue(to, content.into(), true).await
    }

    /// As [`send`](Self::send), but returns when the message has its place in the queue, before it is durable there: for
    /// bulk, where a crash is met by starting over. It is not on its way to the server before it is durable either.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn submit(&self, to: To, content: impl Into<Bytes>) -> Result<Sending, SendError> {
        self.queue(to, content.into(), false).await
    }

    /// Marks everything of the conversation up to `seq` as read by this user. It counts as taken, too, unless
    /// [`Options::manual_confirm`] is set: then the mark waits until the message is confirmed.
    ///
    /// A mark is repeated after a reconnect, but not after a restart of this program.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn read(&self, conversation: u64, seq: u64) -> Result<(), Error> {
        self.take_returned();
        self.command(Command::Read { conversation, seq }).await
    }

    /// Confirms every inbox entry up to `position`: the application has durably taken it. Returns once that is durable
    /// here too. For [`Options::manual_confirm`].
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn confirm(&self, position: u64) -> Result<(), Error> {
        let (done, answer) = oneshot::channel();
        self.command(Command::Confirm { position, done }).await?;
        answer.await.map_err(|_| Error::Closed)
    }

    /// Makes a one-time code that enrols another device of this user.
    ///
    /// # Errors
    /// [`Error::Server`] where codes have no use, [`Error::Lost`] when the connection is or goes down, [`Error::Closed`].
    pub async fn link_device(&self) -> Result<LinkCode, Error> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Link { reply }).await?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Waits until no message is without an answer.
    ///
    /// # Errors
    /// [`Error::Closed`] when the client ends before.
    pub async fn flushed(&self) -> Result<(), Error> {
        let (done, answer) = oneshot::channel();
        self.command(Command::Flushed { done }).await?;
        answer.await.map_err(|_| Error::Closed)
    }

    /// Ends in good order: confirms what [`Events`] returned (unless confirming is manual), waits for answers as long as
    /// [`Options::close_timeout`] and the connection last, and says goodbye.
    ///
    /// # Errors
    /// [`Error::Unanswered`] when messages are left for the next connection; [`Error::State`].
    pub async fn close(&self) -> Result<(), Error> {
        self.take_returned();
        let (done, answer) = oneshot::channel();
        match self.command(Command::Close { done }).await {
            Ok(()) => answer.await.unwrap_or(Ok(())),
            // It has ended already.
            Err(_) => Ok(()),
        }
    }

    async fn queue(&self, to: To, content: Bytes, durably: bool) -> Result<Sending, SendError> {
        let (queued, is_queued) = oneshot::channel();
        let (answer, answered) = oneshot::channel();
        let send = NewSend { to, content, durably, queued, answer };
        self.sends.send(send).await.map_err(|_| SendError::Closed)?;
        let send_id = is_queued.await.map_err(|_| SendError::Closed)??;
        Ok(Sending { send_id, answered })
    }

    async fn command(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).await.map_err(|_| Error::Closed)
    }

    fn take_returned(&self) {
        if self.confirms_by_event {
            self.taken.take_returned();
        }
    }
}

/// A message on its way: a future of the server's answer. Dropping it does not stop the message.
#[derive(Debug)]
pub struct Sending {
    send_id: u64,
    answered: oneshot::Receiver<SendResult>,
}

impl Sending {
    /// The message's own number, unique to this device.
    #[must_use]
    pub fn send_id(&self) -> u64 {
        self.send_id
    }
}

impl Future for Sending {
    type Output = Result<Ack, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answered).poll(cx).map(|result| result.unwrap_or(Err(SendError::Closed)))
    }
}

/// Whom a message goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// The direct conversation with this user, made by the first message.
    User(String),
    /// A conversation that exists.
    Conversation(u64),
}

impl To {
    /// The direct conversation with this user.
    #[must_use]
    pub fn user(name: impl Into<String>) -> Self {
        To::User(name.into())
    }

    /// A conversation that exists.
    #[must_use]
    pub fn conversation(id: u64) -> Self {
        To::Conversation(id)
    }

    pub(crate) fn into_wire(self) -> send::To {
        match self {
            To::User(name) => send::To::User(name),
            To::Conversation(id) => send::To::Conversation(id),
        }
    }

    pub(crate) fn from_wire(to: send::To) -> Self {
        match to {
            send::To::User(name) => To::User(name),
            send::To::Conversation(id) => To::Conversation(id),
        }
    }
}

/// The promise: the message is on the server's stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The message's own number.
    pub send_id: u64,
    /// The conversation it went into.
    pub conversation: u64,
    /// Its place there.
    pub seq: u64,
    /// Milliseconds since 1970 by the server's clock, the time the message carries.
    pub time: u64,
}

impl From<wire::Ack> for Ack {
    fn from(wire::Ack { send_id, conversation, seq, time }: wire::Ack) -> Self {
        Self { send_id, conversation, seq, time }
    }
}

/// A one-time code that enrols another device. Secret while it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkCode {
    /// The code.
    pub code: String,
    /// How long it may be used.
    pub expires_in: Duration,
}

impl From<wire::LinkCode> for LinkCode {
    fn from(link: wire::LinkCode) -> Self {
        Self { code: link.code, expires_in: Duration::from_secs(link.expires_in_s.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_can_be_shared_between_tasks() {
        fn shared<T: Clone + Send + Sync + 'static>() {}
        fn sent<T: Send + 'static>() {}
        shared::<Client>();
        sent::<Sending>();
        sent::<Events>();
    }
}
