//! The door: from a TCP connection to `Welcome`, or to a refusal.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use bytes::Bytes;
use postrider_protocol::error::{CodedError, ErrorCode};
use postrider_protocol::limits::{self, EXPORTER_BYTES, EXPORTER_LABEL};
use postrider_protocol::wire::server_frame::Body;
use postrider_protocol::wire::{self, client_frame, hello};
use postrider_protocol::{frame, proof};
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::account::DEVICE_ID;
use super::stage::{Gone, Line, Live, Stage, write};
use super::watch::{IDLE_TIMEOUT_MS, MAX_FRAME_BYTES, SEND_WINDOW, Watch, judge_hello};
use crate::conformance::link::{Link, NoFrame};

/// Logins in a row that are turned away before the client is given up.
const MOST_REFUSED: usize = 5;

/// How long a client is watched between `Hello` and its answer (LOGIN-18).
const HELLO_PAUSE: Duration = Duration::from_millis(300);

impl Stage<'_> {
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
}

/// A code as LOGIN-8 reads it.
fn typed(code: &str) -> String {
    let letters = code.chars().filter(|c| !matches!(c, ' ' | '-')).map(|c| c.to_ascii_uppercase());
    letters
        .map(|c| {
            if c == 'O' {
                '0'
            } else if matches!(c, 'I' | 'L') {
                '1'
            } else {
                c
            }
        })
        .collect()
}
