//! Where the acts are played: streams, answers, cuts connections, and lets the referee see everything.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use postrider_protocol::error::{CodedError, ErrorCode};
use postrider_protocol::wire::server_frame::Body;
use postrider_protocol::wire::{self, ServerFrame};
use postrider_protocol::{frame, limits};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;

use super::account::Account;
use super::referee::Referee;
use super::watch::{Wanted, Watch};
use crate::clock::Clock;
use crate::conformance::link::{Link, NoFrame};

/// A connection that was cut sooner does not count as one that stood for a while (CONN-8).
const STANDS: Duration = Duration::from_millis(1_300);

/// The client is not there any more.
#[derive(Debug)]
pub struct Gone;

/// How the strict server answers messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// At once.
    AtOnce,
    /// It takes them, and the answers are lost.
    Lost,
    /// It has not heard of them.
    Unheard,
    /// The next one is refused, the others are taken.
    RefuseOne,
}

/// One TLS connection of the client.
pub type Line = Link<TlsStream<TcpStream>>;

/// A connection that is logged in.
pub struct Live {
    pub(super) line: Line,
    pub(super) watch: Watch,
    /// When it was.
    pub(super) since: Duration,
}

/// See the module.
pub struct Stage<'a> {
    pub(super) clock: Clock,
    pub(super) listener: TcpListener,
    pub(super) config: Arc<ServerConfig>,
    pub(super) stranger: Arc<ServerConfig>,
    pub(super) patience: Duration,
    pub(super) app: String,
    pub(super) code: &'static str,
    pub(super) news: &'a (dyn Fn(&str) + Sync),
    pub(super) referee: Referee,
    pub(super) account: Account,
    pub(super) answers: Answers,
    /// Pings are not answered.
    pub(super) is_mute: bool,
    /// The client may have ended because of what we did, and been started again.
    pub(super) was_started_again: bool,
    /// The robot has asked for messages.
    pub(super) was_asked: bool,
    pub(super) agent: String,
    pub(super) live: Option<Live>,
}

/// What a stage is made of.
pub struct Props<'a> {
    pub(super) clock: Clock,
    pub(super) listener: TcpListener,
    pub(super) config: Arc<ServerConfig>,
    pub(super) stranger: Arc<ServerConfig>,
    pub(super) patience: Duration,
    pub(super) app: String,
    pub(super) code: &'static str,
    pub(super) news: &'a (dyn Fn(&str) + Sync),
}

impl<'a> Stage<'a> {
    /// Before the first act.
    pub(super) fn new(props: Props<'a>) -> Self {
        Self {
            clock: props.clock,
            listener: props.listener,
            config: props.config,
            stranger: props.stranger,
            patience: props.patience,
            app: props.app,
            code: props.code,
            news: props.news,
            referee: Referee::default(),
            account: Account::default(),
            answers: Answers::AtOnce,
            is_mute: false,
            was_started_again: true,
            was_asked: false,
            agent: String::new(),
            live: None,
        }
    }

    /// Makes sure that the client is logged in.
    pub(super) async fn ready(&mut self) -> Result<(), Gone> {
        if self.live.is_some() {
            return Ok(());
        }
        self.come_back(0, Vec::new()).await
    }

    /// Waits for the next login. Streaming starts `earlier` entries before the cursor, as if they had not been confirmed;
    /// the answers to `lost` are to be asked for again.
    pub(super) async fn come_back(&mut self, earlier: usize, lost: Vec<u64>) -> Result<(), Gone> {
        let (line, hello) = self.arrival().await?;
        self.enter(line, hello, earlier, lost).await
    }

    /// Streams the inbox from this entry on.
    pub(super) async fn stream(&mut self, from: usize) {
        let frames: Vec<Bytes> = self.account.inbox[from..].iter().map(|entry| entry.frame.clone()).collect();
        self.streamed_all();
        self.write(&frames.concat()).await;
    }

    /// Notes that the whole inbox is on its way, before a byte of it is: the client may be quick.
    pub(super) fn streamed_all(&mut self) {
        self.account.streamed = self.account.head();
        if let Some(live) = &mut self.live {
            live.watch.delivered = self.account.head();
        }
    }

    /// A connection that fails shows when it is listened to.
    pub(super) async fn write(&mut self, bytes: &[u8]) {
        if let Some(live) = &mut self.live {
            drop(live.line.write(bytes).await);
        }
    }

    pub(super) async fn say(&mut self, body: Body) {
        let mut out = BytesMut::new();
        frame::put(&ServerFrame { body: Some(body) }, &mut out);
        self.write(&out).await;
    }

    /// Listens to the client, and answers it, until `enough` or the time is over. False if the connection ended.
    pub(super) async fn listen(&mut self, time: Duration, enough: impl Fn(&Account, &Watch) -> bool) -> bool {
        let end = self.clock.elapsed() + time;
        loop {
            let Some(live) = &mut self.live else { return false };
            if enough(&self.account, &live.watch) {
                return true;
            }
            let left = end.saturating_sub(self.clock.elapsed());
            match live.line.next(limits::MAX_FRAME_BYTES, left).await {
                Ok(body) => {
                    let now = self.clock.elapsed();
                    let wanted = live.watch.frame(&body, &mut self.account, &mut self.referee, now);
                    if !self.give(wanted).await {
                        self.hang_up().await;
                        return false;
                    }
                }
                Err(NoFrame::Silence) => {
                    let Some(live) = &self.live else { return false };
                    return enough(&self.account, &live.watch);
                }
                Err(NoFrame::Malformed(error)) => {
                    self.referee.broken("FRAME-1", "a frame of a right length", error.detail);
                    self.hang_up().await;
                    return false;
                }
                Err(NoFrame::End | NoFrame::Broken(_)) => {
                    self.live = None;
                    return false;
                }
            }
        }
    }

    /// Does what a frame asks for; false at the end of the connection.
    async fn give(&mut self, wanted: Wanted) -> bool {
        match wanted {
            Wanted::Nothing => {}
            Wanted::Answer(send_id) => self.answer(send_id).await,
            Wanted::Pong(token) if !self.is_mute => self.say(Body::Pong(wire::Pong { token })).await,
            Wanted::Pong(_) => {}
            Wanted::Link => {
                if let Some(live) = &mut self.live {
                    live.watch.linked();
                }
                self.say(Body::Error(CodedError::new(ErrorCode::LinkNotAllowed).to_wire())).await;
            }
            Wanted::Goodbye => {
                self.say(Body::Goodbye(wire::Goodbye {})).await;
                self.was_started_again = true;
                return false;
            }
            Wanted::Close => return false,
        }
        true
    }

    async fn answer(&mut self, send_id: u64) {
        let answer = match self.answers {
            Answers::Unheard => return,
            Answers::Lost => {
                self.account.take(send_id);
                return;
            }
            Answers::AtOnce => self.account.take(send_id),
            Answers::RefuseOne => {
                self.answers = Answers::AtOnce;
                self.account.refuse(send_id, CodedError::new(ErrorCode::InboxFull).to_wire())
            }
        };
        self.give_answer(send_id, answer).await;
    }

    async fn give_answer(&mut self, send_id: u64, answer: Option<Body>) {
        if let Some(live) = &mut self.live {
            live.watch.answered(send_id, &mut self.account);
        }
        if let Some(answer) = answer {
            self.say(answer).await;
        }
    }

    /// Answers everything that waits.
    pub(super) async fn answer_all(&mut self) {
        self.answers = Answers::AtOnce;
        let waiting = self.live.as_ref().map(|live| live.watch.unanswered.clone()).unwrap_or_default();
        for send_id in waiting {
            let answer = self.account.take(send_id);
            self.give_answer(send_id, answer).await;
        }
    }

    /// Listens until the connection has stood for a while, so that cutting it is no reason for a long pause.
    pub(super) async fn stand(&mut self) -> Result<(), Gone> {
        loop {
            self.ready().await?;
            let since = self.live.as_ref().map_or(Duration::ZERO, |live| live.since);
            let left = (since + STANDS).saturating_sub(self.clock.elapsed());
            self.listen(left, |_, _| false).await;
            if self.live.is_some() {
                return Ok(());
            }
        }
    }

    /// Judges the silence up to now (CONN-1).
    pub(super) fn heard_last(&mut self) {
        let now = self.clock.elapsed();
        if let Some(live) = &mut self.live {
            live.watch.heard(&mut self.referee, now);
        }
    }

    /// Cuts the connection, without a word.
    pub(super) fn cut(&mut self) {
        self.live = None;
    }

    pub(super) fn is_connected(&self) -> bool {
        self.live.is_some()
    }

    /// Closes in order.
    pub(super) async fn hang_up(&mut self) {
        if let Some(live) = self.live.take() {
            live.line.close().await;
        }
    }
}

pub(super) async fn write(line: &mut Line, body: Body) -> io::Result<()> {
    let mut out = BytesMut::new();
    frame::put(&ServerFrame { body: Some(body) }, &mut out);
    line.write(&out).await
}
