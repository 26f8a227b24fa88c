//! A client that can say anything: frames as they are, in any order, and bytes that are no frames. It shares nothing
//! with our client crate, so that the two do not make the same mistake.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postrider_protocol::wire::{self, ClientFrame, client_frame, deliver, hello, send, server_frame};
use postrider_protocol::{frame, limits};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Target;

/// Longer than anything takes here, unless it does not come at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection under the test's control.
pub struct Raw {
    pub stream: TlsStream<TcpStream>,
    inbound: BytesMut,
    next_send_id: u64,
}

impl Raw {
    /// TLS, and nothing said yet.
    pub async fn connect(server: &impl Target) -> Self {
        Self::try_connect(server, Some(limits::ALPN)).await.unwrap()
    }

    /// TLS with another ALPN, or none.
    pub async fn try_connect(server: &impl Target, alpn: Option<&[u8]>) -> std::io::Result<Self> {
        let mut config = Self::tls(server);
        config.alpn_protocols = alpn.into_iter().map(<[u8]>::to_vec).collect();
        Self::over(TcpStream::connect(server.address()).await.unwrap(), config).await
    }

    /// What TLS takes to reach this server.
    pub fn tls(server: &impl Target) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(Self::roots(server))
            .with_no_client_auth();
        config.alpn_protocols = vec![limits::ALPN.to_vec()];
        config
    }

    /// Whom to trust.
    pub fn roots(server: &impl Target) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(server.ca()).unwrap()).unwrap();
        roots
    }

    /// TLS of the test's making, over a socket of the test's making.
    pub async fn over(socket: TcpStream, config: ClientConfig) -> std::io::Result<Self> {
        socket.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
        Ok(Self { stream, inbound: BytesMut::new(), next_send_id: 1 })
    }

    /// The first connection of a device, with open login.
    pub async fn login(server: &impl Target, user: &str, device: &str) -> Self {
        Self::resume(server, user, device, &wire::Welcome::default()).await.0
    }

    /// Another connection of a device; `last` is its last `Welcome`, with `cursor` what it has taken since.
    pub async fn resume(server: &impl Target, user: &str, device: &str, last: &wire::Welcome) -> (Self, wire::Welcome) {
        let mut raw = Self::connect(server).await;
        let hello = wire::Hello { device_id: last.device_id, cursor: last.cursor, ..Self::hello(user, device) };
        raw.say(client_frame::Body::Hello(hello)).await;
        let welcome = match raw.next().await {
            server_frame::Body::Welcome(welcome) => welcome,
            other => panic!("no welcome but {other:?}"),
        };
        raw.next_send_id = welcome.highest_send_id + 1;
        (raw, welcome)
    }

    pub fn hello(user: &str, device: &str) -> wire::Hello {
        wire::Hello {
            version: limits::VERSION,
            app: "dev".into(),
            user: user.into(),
            device: device.into(),
            agent: "raw".into(),
            method: Some(hello::Method::Open(wire::OpenLogin {})),
            ..Default::default()
        }
    }

    pub async fn say(&mut self, body: client_frame::Body) {
        self.write(&ClientFrame { received: 0, body: Some(body) }).await;
    }

    pub async fn write(&mut self, frame: &ClientFrame) {
        let mut out = BytesMut::new();
        frame::put(frame, &mut out);
        self.write_bytes(&out).await;
    }

    pub async fn write_bytes(&mut self, bytes: &[u8]) {
        self.try_write_bytes(bytes).await.unwrap();
    }

    /// For a server that may have closed, or takes no more.
    pub async fn try_write_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Sends text under the next `send_id`, which it returns.
    pub async fn send(&mut self, to: &str, text: &str) -> u64 {
        let send_id = self.next_send_id;
        self.next_send_id += 1;
        self.send_as(send_id, to, text).await;
        send_id
    }

    pub async fn send_as(&mut self, send_id: u64, to: &str, text: &str) {
        let to = Some(send::To::User(to.into()));
        self.say(client_frame::Body::Send(wire::Send { send_id, to, content: text.to_owned().into() })).await;
    }

    pub async fn confirm(&mut self, position: u64) {
        self.write(&ClientFrame { received: position, body: None }).await;
    }

    pub async fn read_up_to(&mut self, conversation: u64, seq: u64) {
        self.say(client_frame::Body::Read(wire::Read { conversation, seq })).await;
    }

    /// The next frame, or `None` at the end of the stream.
    pub async fn try_next(&mut self) -> Option<server_frame::Body> {
        let next = async {
            loop {
                if let Some(body) = frame::take(&mut self.inbound, limits::MAX_FRAME_BYTES).unwrap() {
                    return Some(frame::decode_server(body).unwrap().body.expect("a body this version knows"));
                }
                match self.stream.read_buf(&mut self.inbound).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("a frame or the end in time")
    }

    pub async fn next(&mut self) -> server_frame::Body {
        self.try_next().await.expect("a frame before the end")
    }

    /// The next frame that is not `CaughtUp`.
    pub async fn next_news(&mut self) -> server_frame::Body {
        loop {
            match self.next().await {
                server_frame::Body::CaughtUp(_) => {}
                other => return other,
            }
        }
    }

    pub async fn next_ack(&mut self) -> wire::Ack {
        match self.next_news().await {
            server_frame::Body::Ack(ack) => ack,
            other => panic!("no ack but {other:?}"),
        }
    }

    pub async fn next_refused(&mut self) -> (u64, u32) {
        match self.next_news().await {
            server_frame::Body::Refused(refused) => (refused.send_id, refused.error.unwrap().code),
            other => panic!("no refusal but {other:?}"),
        }
    }

    /// The next inbox entry.
    pub async fn next_entry(&mut self) -> (u64, deliver::Entry) {
        match self.next_news().await {
            server_frame::Body::Deliver(wire::Deliver { position, entry }) => (position, entry.unwrap()),
            other => panic!("no delivery but {other:?}"),
        }
    }

    pub async fn next_message(&mut self) -> (u64, wire::Message) {
        match self.next_entry().await {
            (position, deliver::Entry::Message(message)) => (position, message),
            other => panic!("no message but {other:?}"),
        }
    }

    /// The next entry, which says that `user` has taken up to the returned `seq`.
    pub async fn next_delivered(&mut self, user: &str) -> (u64, u64) {
        match self.next_entry().await {
            (position, deliver::Entry::Delivered(receipt)) if receipt.user == user => (position, receipt.seq),
            other => panic!("no delivered but {other:?}"),
        }
    }

    pub async fn next_read(&mut self, user: &str) -> (u64, u64) {
        match self.next_entry().await {
            (position, deliver::Entry::Read(receipt)) if receipt.user == user => (position, receipt.seq),
            other => panic!("no read but {other:?}"),
        }
    }

    /// The backlog, up to `CaughtUp`.
    pub async fn backlog(&mut self) -> Vec<(u64, deliver::Entry)> {
        let mut entries = Vec::new();
        loop {
            match self.next().await {
                server_frame::Body::CaughtUp(_) => return entries,
                server_frame::Body::Deliver(wire::Deliver { position, entry }) => {
                    entries.push((position, entry.unwrap()));
                }
                other => panic!("no backlog but {other:?}"),
            }
        }
    }

    /// Everything until the end must be an error with this code, and then the end.
    pub async fn closed_with(&mut self, code: postrider_protocol::error::ErrorCode) {
        match self.next_news().await {
            server_frame::Body::Error(error) => {
                assert_eq!(error.name, code.name(), "{}", error.detail);
                assert!(error.closes);
            }
            other => panic!("no error but {other:?}"),
        }
        assert_eq!(self.try_next().await, None, "nothing after a closing error");
    }

    /// Nothing comes for a while. Slow, so use it where nothing else proves the point.
    pub async fn nothing_comes(&mut self) {
        let heard = tokio::time::timeout(Duration::from_millis(300), self.next_news()).await;
        assert!(heard.is_err(), "{heard:?}");
    }

    /// Pings and waits for the pong: everything said before was taken.
    pub async fn settle(&mut self) {
        self.say(client_frame::Body::Ping(wire::Ping { token: 77 })).await;
        loop {
            if let server_frame::Body::Pong(_) = self.next().await {
                return;
            }
        }
    }
}
