//! The one task behind a client.
//!
//! It owns everything: the connection, the session on it, the state store, and what outlives a connection. Handles reach
//! it through bounded channels. Each turn of its loop takes one thing that happened, then moves everything that can
//! move: a commit of the state, and one write to the socket.
//!
//! Invariants:
//! - A message is durable here before it goes on the wire, and a position before it is confirmed. Nothing follows a login
//!   before the device id that it gave is durable: a client that forgot it would come back as another device, and send
//!   again what this one has sent.
//! - The events channel has room for all the server may stream before the application confirms, so a program that waits
//!   for an ack and takes no events still gets it. A server that streams more is not read from.

mod backoff;
mod commit;
mod connection;
mod link;
mod start;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider_protocol::limits;
use postrider_protocol::session::client::{Device, PushError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::events::Taken;
use crate::key::DeviceKey;
use crate::tls::Tls;
use crate::{Ack, Change, Error, Event, LinkCode, Options, QueuedSend, SendError, StateError, To};
use backoff::Backoff;
use commit::{Batch, Committer};
use link::Link;

pub(crate) use start::start;

/// How a message went.
pub(crate) type SendResult = Result<Ack, SendError>;

/// Commands on their way from handles to the task, of each kind.
const COMMANDS: usize = 64;

/// Room in the events channel for what is not an inbox entry.
const OTHER_EVENTS: usize = limits::SEND_WINDOW + 64;

/// News of the connection is dropped when the events channel has less room than this: the rest is for inbox entries.
const KEPT_FREE: usize = 16;

/// A message that an application hands over.
pub(crate) struct NewSend {
    pub(crate) to: To,
    pub(crate) content: Bytes,
    /// Whether `queued` waits for the commit.
    pub(crate) durably: bool,
    pub(crate) queued: oneshot::Sender<Result<u64, SendError>>,
    pub(crate) answer: oneshot::Sender<SendResult>,
}

/// Anything else that an application asks for.
pub(crate) enum Command {
    Read { conversation: u64, seq: u64 },
    Confirm { position: u64, done: oneshot::Sender<()> },
    Link { reply: oneshot::Sender<Result<LinkCode, Error>> },
    Flushed { done: oneshot::Sender<()> },
    Close { done: oneshot::Sender<Result<(), Error>> },
}

/// The ends that a client holds.
pub(crate) struct Started {
    pub(crate) sends: mpsc::Sender<NewSend>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) taken: Arc<Taken>,
    /// Resolves at the first login.
    pub(crate) ready: oneshot::Receiver<Result<(), Error>>,
}

struct Driver {
    options: Options,
    tls: Tls,
    link: Link,
    device: Device,
    /// What the last Welcome gave.
    device_id: u64,
    /// What a start from the state would present.
    durable_device_id: u64,
    key: Option<DeviceKey>,
    committer: Committer,
    backoff: Backoff,
    sends: mpsc::Receiver<NewSend>,
    commands: mpsc::Receiver<Command>,
    sends_gone: bool,
    commands_gone: bool,
    events: mpsc::Sender<Event>,
    /// Events that found no room. While there are any, the socket is not read.
    backlog: VecDeque<Event>,
    taken: Arc<Taken>,
    /// The highest position handed to the committer.
    cursor: u64,
    /// Present until the first login.
    ready: Option<oneshot::Sender<Result<(), Error>>>,
    caught_up_once: bool,
    /// Messages up to this id are from an earlier run.
    earlier: u64,
    /// Who waits for which message's answer; no more than the outbox holds.
    answers: HashMap<u64, oneshot::Sender<SendResult>>,
    links: VecDeque<oneshot::Sender<Result<LinkCode, Error>>>,
    flushes: Vec<oneshot::Sender<()>>,
    closing: Option<Closing>,
    started: Instant,
}

struct Closing {
    deadline: Instant,
    done: Vec<oneshot::Sender<Result<(), Error>>>,
}

/// Why the task ends.
enum End {
    Closed,
    Stopped(Error),
}

impl Driver {
    async fn run(mut self) {
        let end = loop {
            match self.turn().await {
                Ok(()) => {}
                Err(end) => break end,
            }
        };
        self.finish(end).await;
    }

    /// Moves what can move, then waits for one thing to happen.
    async fn turn(&mut self) -> Result<(), End> {
        self.advance();
        if self.closing.is_some() && self.link.session().is_none() && self.committer.is_idle() {
            return Err(End::Closed);
        }
        let read = self.backlog.is_empty();
        let deadline = self.deadline();
        let takes_sends = !self.sends_gone && (self.closing.is_some() || self.device.outbox.has_room());
        let takes_commands = !self.commands_gone && self.device.inbox.has_room_for_read();
        let unheard = self.sends_gone && self.commands_gone && self.closing.is_none();
        tokio::select! {
            event = self.link.next(read) => self.handle_link(event),
            committed = self.committer.done() => self.handle_committed(committed),
            send = self.sends.recv(), if takes_sends => {
                self.handle_send(send);
                Ok(())
            }
            command = self.commands.recv(), if takes_commands => {
                self.handle_command(command);
                Ok(())
            }
            () = self.taken.changed() => Ok(()),
            open = has_room(&self.events), if !read => {
                self.tell_backlog(open);
                Ok(())
            }
            () = self.events.closed(), if unheard => {
                self.close(None);
                Ok(())
            }
            () = sleep_until(deadline.unwrap_or(self.started)), if deadline.is_some() => self.handle_deadline(),
        }
    }

    /// Starts a commit, says goodbye when everything else is said, and fills the output when it is empty.
    fn advance(&mut self) {
        self.take_more_sends();
        let taken = self.taken.position();
        self.confirm(taken);
        self.committer.start();
        let now = self.now();
        let says_goodbye = self.closing.is_some() && self.committer.is_idle();
        let paused = !self.backlog.is_empty();
        let Some((session, output)) = self.link.session() else { return };
        session.set_paused(paused, now);
        if says_goodbye {
            session.goodbye();
        }
        // The session's deadlines pass meanwhile; the commit wakes the task.
        let may_speak = self.device_id == self.durable_device_id;
        if may_speak && output.is_empty() {
            session.poll_transmit(&mut self.device, output, now);
        }
    }

    /// Messages that wait in the channel share the next commit and the next write.
    fn take_more_sends(&mut self) {
        while self.device.outbox.has_room() && self.closing.is_none() {
            let Ok(send) = self.sends.try_recv() else { return };
            self.handle_send(Some(send));
        }
    }

    fn handle_send(&mut self, send: Option<NewSend>) {
        let Some(NewSend { to, content, durably, queued, answer }) = send else {
            self.sends_gone = true;
            return;
        };
        if self.closing.is_some() {
            let _ = queued.send(Err(SendError::Closed));
            return;
        }
        let send_id = match self.device.outbox.push(to.clone().into_wire(), content.clone()) {
            Ok(send_id) => send_id,
            Err(error @ PushError::TooLarge { .. }) => {
                let _ = queued.send(Err(SendError::TooLarge { detail: error.to_string() }));
                return;
            }
            // Nothing is taken from the channel without room.
            Err(PushError::Full) => return,
        };
        self.answers.insert(send_id, answer);
        let batch = self.committer.pending();
        batch.push(Change::Queued(QueuedSend { send_id, to, content }));
        if durably {
            batch.queued.push((send_id, queued));
        } else {
            let _ = queued.send(Ok(send_id));
        }
    }

    fn handle_command(&mut self, command: Option<Command>) {
        match command {
            None => self.commands_gone = true,
            Some(Command::Read { conversation, seq }) => {
                self.device.inbox.read(conversation, seq);
            }
            Some(Command::Confirm { position, done }) => {
                self.confirm(position);
                self.committer.pending().confirmed.push(done);
            }
            Some(Command::Link { reply }) => self.handle_link_command(reply),
            Some(Command::Flushed { done }) => {
                self.flushes.retain(|waiter| !waiter.is_closed());
                self.flushes.push(done);
                self.tell_flushed();
            }
            Some(Command::Close { done }) => self.close(Some(done)),
        }
    }

    fn handle_link_command(&mut self, reply: oneshot::Sender<Result<LinkCode, Error>>) {
        match self.link.session() {
            Some((session, _)) if self.links.len() < COMMANDS => {
                session.link();
                self.links.push_back(reply);
            }
            _ => {
                let _ = reply.send(Err(self.lost("there is no connection now")));
            }
        }
    }

    fn handle_committed(&mut self, committed: Result<Batch, StateError>) -> Result<(), End> {
        let batch = committed.map_err(|error| End::Stopped(error.into()))?;
        self.device.outbox.release(batch.release);
        self.device.inbox.confirm(batch.cursor);
        self.durable_device_id = batch.device_id.unwrap_or(self.durable_device_id);
        for (send_id, queued) in batch.queued {
            let _ = queued.send(Ok(send_id));
        }
        for confirmed in batch.confirmed {
            let _ = confirmed.send(());
        }
        Ok(())
    }

    /// Positions that were never given out are not taken, whoever says so.
    fn confirm(&mut self, position: u64) {
        let position = position.min(self.device.inbox.seen());
        if position > self.cursor {
            self.cursor = position;
            self.committer.pending().push(Change::Cursor(position));
        }
    }

    fn tell_flushed(&mut self) {
        if self.device.outbox.is_empty() {
            for waiter in self.flushes.drain(..) {
                let _ = waiter.send(());
            }
        }
    }

    fn close(&mut self, done: Option<oneshot::Sender<Result<(), Error>>>) {
        // What was handed over before the call still goes.
        self.take_more_sends();
        let deadline = Instant::now() + self.options.close_timeout;
        let closing = self.closing.get_or_insert_with(|| Closing { deadline, done: Vec::new() });
        closing.done.extend(done);
        self.sends.close();
    }

    /// Gives an event to the application, or keeps it and stops reading.
    fn tell(&mut self, event: Event) {
        if self.backlog.is_empty() {
            match self.events.try_send(event) {
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
                Err(mpsc::error::TrySendError::Full(event)) => self.backlog.push_back(event),
            }
        } else {
            self.backlog.push_back(event);
        }
    }

    /// Moves on what found no room before.
    fn tell_backlog(&mut self, open: bool) {
        if !open {
            self.backlog.clear();
        }
        for event in std::mem::take(&mut self.backlog) {
            self.tell(event);
        }
    }

    /// Gives news of the connection, unless the application is far behind: then it is of no use.
    fn tell_news(&mut self, event: Event) {
        if self.events.capacity() > KEPT_FREE && self.backlog.is_empty() {
            self.tell(event);
        }
    }

    /// Ends the task: what has happened is made durable and the store let go before anyone hears of the end.
    async fn finish(self, end: End) {
        let Driver { mut committer, device, events, backlog, ready, closing, link, sends, commands, .. } = self;
        // Handles see the end at once; a later call finds the client closed.
        drop((link, sends));
        let mut outcome = match &end {
            End::Stopped(error @ Error::State(_)) => Err(error.clone()),
            _ => flush(&mut committer).await,
        };
        drop(committer);
        if outcome.is_ok() && !device.outbox.is_empty() {
            outcome = Err(Error::Unanswered(device.outbox.len()));
        }
        for done in closing.into_iter().flat_map(|closing| closing.done) {
            let _ = done.send(outcome.clone());
        }
        drop(commands);
        if let Some(ready) = ready {
            let error = if let End::Stopped(error) = &end { error.clone() } else { Error::Closed };
            let _ = ready.send(Err(error));
        }
        for event in backlog {
            let _ = events.send(event).await;
        }
        if let End::Stopped(error) = end {
            let _ = events.send(Event::Stopped(error)).await;
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn lost(&self, detail: impl Into<String>) -> Error {
        Error::Lost { server: self.options.server.clone(), detail: detail.into() }
    }
}

/// Waits until an event can be sent; false when nobody takes events any more.
async fn has_room(events: &mpsc::Sender<Event>) -> bool {
    events.reserve().await.is_ok()
}

async fn flush(committer: &mut Committer) -> Result<(), Error> {
    while !committer.is_idle() {
        committer.start();
        committer.done().await?;
    }
    Ok(())
}
