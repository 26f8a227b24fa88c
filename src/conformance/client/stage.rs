//! Where the acts are played: accepts the client, logs it in, streams, answers, and lets the referee see everything.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use bytes::{Bytes, BytesMut};
use postrider_protocol::error::{CodedError, ErrorCode};
use postrider_protocol::limits::{self, EXPORTER_BYTES, EXPORTER_LABEL};
use postrider_protocol::wire::server_frame::Body;
use postrider_protocol::wire::{self, ServerFrame, client_frame, hello};
use postrider_protocol::{frame, proof};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::account::{Account, DEVICE_ID};
use super::referee::Referee;
use super::watch::{IDLE_TIMEOUT_MS, MAX_FRAME_BYTES, SEND_WINDOW, Wanted, Watch, judge_hello};
use crate::clock::Clock;
use crate::conformance::link::{Link, NoFrame};

/// A connection that was cut sooner does not count as one that stood for a while (CONN-8).
const STANDS: Duration = Duration::from_millis(1_300);

/// How long a client is watched between `Hello` and its answer (LOGIN-18).
const HELLO_PAUSE: Duration = Duration::from_millis(300);

/// Logins in a row that are turned away before the client is given up.
const MOST_REFUSED: usize = 5;

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

struct Live {
    line: Line,
    watch: Watch,
    since: Duration,
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
    live: Option<Live>,
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

    /// The next TCP connection.
    pub(super) async fn tcp(&mut self) -> Result<TcpStream, Gone> {
        let accepted = tokio::time::timeout(self.patience, self.listener.accept()).await;
        let (tcp, _) = accepted.map_err(|_| Gone)?.map_err(|_| Gone)?;
        // Small frames are written one by one on purpose.
        drop(tcp.set_nodelay(true));
        Ok(tcp)
    }

    /// The next connection over TLS as it should be.
    pub(super) async fn line(&mut self) -> Result<Line, Gone> {
        loop {
            let tcp = self.tcp().await?;
            match self.tls(Arc::clone(&self.config), tcp).await {
                Ok(mut stream) => {
                    let tls = stream.get_mut().1;
                    self.referee.kept("TLS-1");
                    // Our tickets allow it, so that a client that would use it does.
                    let used = tls.early_data().is_some();
                    self.referee.judge("TLS-4", !used, "no early data", || "early data".into());
                    let named = tls.alpn_protocol() == Some(limits::ALPN);
                    self.referee.judge("TLS-2", named, "the ALPN name postrider/1", || "none".into());
                    if named {
                        return Ok(Link::new(stream));
                    }
                }
                Err(error) => (self.news)(&format!("a connection did not get through TLS: {error}")),
            }
        }
    }

    pub(super) async fn tls(&self, config: Arc<ServerConfig>, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let accepting = TlsAcceptor::from(config).accept(tcp);
        tokio::time::timeout(self.patience, accepting).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }

    /// The next connection and its `Hello`; connections that cannot go on are told so.
    pub(super) async fn arrival(&mut self) -> Result<(Line, wire::Hello), Gone> {
        for _ in 0..MOST_REFUSED {
            let mut line = self.line().await?;
            let Ok(body) = line.next(limits::MAX_FRAME_BYTES, self.patience).await else { continue };
            let judged = judge_hello(&body, &self.account, self.was_started_again, &mut self.referee);
            let why = match judged {
                Ok(hello) if hello.app == self.app => {
                    self.agent.clone_from(&hello.agent);
                    self.was_started_again = false;
                    return Ok((line, hello));
                }
                Ok(hello) => format!("the app is \"{}\", not \"{}\"", hello.app, self.app),
                Err(why) => why.to_owned(),
            };
            (self.news)(&format!("turned a login away: {why}"));
            let error = CodedError::with(ErrorCode::UnknownApp, why).to_wire();
            drop(write(&mut line, Body::Error(error)).await);
            line.close().await;
        }
        Err(Gone)
    }

    /// Challenges where the method wants it, and checks the proof; the reason why it fails, if it does.
    pub(super) async fn prove(&mut self, line: &mut Line, hello: &wire::Hello) -> Result<(), ErrorCode> {
        let key = match &hello.method {
            Some(hello::Method::Open(_)) if self.account.key.is_none() => return Ok(()),
            Some(hello::Method::DeviceKey(_)) => self.account.key.clone(),
            Some(hello::Method::Enroll(enroll)) => {
                let good = typed(&enroll.code) == typed(self.code);
                let same = self.account.key.as_ref().is_none_or(|key| *key == enroll.public_key[..]);
                Some(enroll.public_key.to_vec()).filter(|_| good && same)
            }
            _ => return Err(ErrorCode::LoginFailed),
        };
        let nonce: [u8; limits::NONCE_BYTES] = self.clock.random_bytes();
        let challenge = wire::Challenge { nonce: Bytes::copy_from_slice(&nonce) };
        write(line, Body::Challenge(challenge)).await.map_err(|_| ErrorCode::LoginFailed)?;
        let body = line.next(limits::MAX_LOGIN_FRAME_BYTES, self.patience).await.map_err(|_| ErrorCode::LoginFailed)?;
        let proof = frame::decode_client(body).ok().and_then(|frame| match frame.body {
            Some(client_frame::Body::Proof(proof)) => Some(proof),
            _ => None,
        });
        self.referee.judge("LOGIN-5", proof.is_some(), "Proof after Challenge", || "another frame".into());
        let (Some(key), Some(proof)) = (key, proof) else { return Err(ErrorCode::LoginFailed) };
        let exporter: [u8; EXPORTER_BYTES] = line
            .stream()
            .get_ref()
            .1
            .export_keying_material([0; EXPORTER_BYTES], EXPORTER_LABEL, None)
            .map_err(|_| ErrorCode::Internal)?;
        let bytes = proof::signed_bytes(&exporter, &nonce, &hello.app, &hello.user, &hello.device);
        let holds = UnparsedPublicKey::new(&ED25519, &key).verify(&bytes, &proof.signature).is_ok();
        self.referee.judge("LOGIN-6", holds, "a signature by the device's key over the bytes of LOGIN-6", || {
            "one that does not verify".into()
        });
        if !holds {
            return Err(ErrorCode::LoginFailed);
        }
        self.account.key = Some(key);
        Ok(())
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

    /// The same, for a client that has said `Hello`.
    pub(super) async fn enter(
        &mut self,
        mut line: Line,
        mut hello: wire::Hello,
        earlier: usize,
        lost: Vec<u64>,
    ) -> Result<(), Gone> {
        for _ in 0..MOST_REFUSED {
            self.judge_pause(&mut line).await;
            match self.prove(&mut line, &hello).await {
                Ok(()) => {
                    if self.welcome(line, &hello, earlier, &lost).await.is_ok() {
                        return Ok(());
                    }
                }
                Err(code) => {
                    (self.news)(&format!("turned a login away: {}", code.name()));
                    drop(write(&mut line, Body::Error(CodedError::new(code).to_wire())).await);
                    line.close().await;
                }
            }
            (line, hello) = self.arrival().await?;
        }
        Err(Gone)
    }

    /// Nothing comes between `Hello` and its answer.
    async fn judge_pause(&mut self, line: &mut Line) {
        let early = !matches!(line.next(limits::MAX_FRAME_BYTES, HELLO_PAUSE).await, Err(NoFrame::Silence));
        let early = early || line.leftover() > 0;
        self.referee.judge("LOGIN-18", !early, "nothing between Hello and its answer", || "bytes, or the end".into());
    }

    async fn welcome(&mut self, mut line: Line, hello: &wire::Hello, earlier: usize, lost: &[u64]) -> io::Result<()> {
        self.account.names = Some((hello.user.clone(), hello.device.clone()));
        if hello.device_id == DEVICE_ID {
            self.account.confirmed = self.account.confirmed.max(hello.cursor.min(self.account.streamed));
        }
        let passed = self.account.inbox.iter().take_while(|entry| entry.position <= self.account.confirmed).count();
        let start = passed.saturating_sub(earlier);
        let cursor = start.checked_sub(1).map_or(0, |last| self.account.inbox[last].position);
        let cursor = if earlier == 0 { self.account.confirmed } else { cursor };
        let welcome = wire::Welcome {
            device_id: DEVICE_ID,
            highest_send_id: self.account.highest_send_id(),
            cursor,
            head: self.account.head(),
            idle_timeout_ms: IDLE_TIMEOUT_MS,
            max_frame_bytes: u32::try_from(MAX_FRAME_BYTES).unwrap_or(u32::MAX),
            send_window: u32::try_from(SEND_WINDOW).unwrap_or(u32::MAX),
            time: self.clock.wall_ms(),
            server: concat!("postrider-conformance/", env!("CARGO_PKG_VERSION")).to_owned(),
            max_content_bytes: u32::try_from(MAX_FRAME_BYTES - limits::FRAME_OVERHEAD_BYTES).unwrap_or(u32::MAX),
        };
        write(&mut line, Body::Welcome(welcome)).await?;
        self.account.is_known = true;
        let now = self.clock.elapsed();
        let mut watch = Watch::new(&self.account, cursor, now);
        watch.expect_again(lost.iter().copied());
        self.live = Some(Live { line, watch, since: now });
        self.stream(start).await;
        self.say(Body::CaughtUp(wire::CaughtUp { position: self.account.head() })).await;
        Ok(())
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

/// A code as LOGIN-8 reads it.
fn typed(code: &str) -> String {
    let letters = code.chars().filter(|c| !matches!(c, ' ' | '-')).map(|c| c.to_ascii_uppercase());
    letters.map(|c| if c == 'O' { '0' } else if matches!(c, 'I' | 'L') { '1' } else { c }).collect()
}

pub(super) async fn write(line: &mut Line, body: Body) -> io::Result<()> {
    let mut out = BytesMut::new();
    frame::put(&ServerFrame { body: Some(body) }, &mut out);
    line.write(&out).await
}
