//! A server whose every word is in the test's script, over real TLS on a real socket.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use postrider_client::{Event, Events, Options, Trust};
use postrider_protocol::error::{CodedError, ErrorCode};
use postrider_protocol::wire::server_frame::Body;
use postrider_protocol::wire::{self, ClientFrame, ServerFrame, client_frame, deliver};
use postrider_protocol::{frame, limits};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Nothing in these tests takes longer than this unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const CONVERSATION: u64 = 7;

pub struct FakeServer {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    pub ca_pem: Vec<u8>,
}

impl FakeServer {
    pub async fn start() -> Self {
        Self::speaking(limits::ALPN).await
    }

    pub async fn speaking(alpn: &[u8]) -> Self {
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("certificate");
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .expect("certificate fits");
        config.alpn_protocols = vec![alpn.to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let ca_pem = certified.cert.pem().into_bytes();
        Self { listener, acceptor: TlsAcceptor::from(Arc::new(config)), ca_pem }
    }

    pub fn options(&self) -> Options {
        let address = self.listener.local_addr().expect("bound").to_string();
        Options::new(address, "dev", "alice")
            .device("laptop")
            .server_name("localhost")
            .trust(Trust::CaPem(self.ca_pem.clone()))
    }

    /// The next connection, after its TLS handshake.
    pub async fn accept(&self) -> Peer {
        loop {
            let (tcp, _) = patiently(self.listener.accept()).await.expect("accept");
            if let Ok(stream) = self.acceptor.accept(tcp).await {
                return Peer { stream, input: BytesMut::new() };
            }
        }
    }

    /// The next connection, logged in by name; with its Hello.
    pub async fn welcome(&self, welcome: wire::Welcome) -> (Peer, wire::Hello) {
        let mut peer = self.accept().await;
        let hello = peer.hello().await;
        peer.say(Body::Welcome(welcome)).await;
        (peer, hello)
    }
}

pub fn welcome() -> wire::Welcome {
    wire::Welcome {
        device_id: 5,
        idle_timeout_ms: 60_000,
        max_frame_bytes: 64 * 1024,
        send_window: 256,
        ..Default::default()
    }
}

pub fn message(position: u64, seq: u64) -> Body {
    message_with(position, seq, postrider_client::content::text(format!("m{seq}")))
}

pub fn message_with(position: u64, seq: u64, content: Bytes) -> Body {
    let (sender, recipient) = ("bob".to_owned(), "alice".to_owned());
    let message = wire::Message { conversation: CONVERSATION, seq, sender, recipient, time: 1, content };
    Body::Deliver(wire::Deliver { position, entry: Some(deliver::Entry::Message(message)) })
}

pub fn ack(send_id: u64) -> Body {
    Body::Ack(wire::Ack { send_id, conversation: CONVERSATION, seq: 100 + send_id, time: 1 })
}

pub fn error(code: ErrorCode) -> Body {
    Body::Error(CodedError::new(code).to_wire())
}

/// The server's end of one connection.
pub struct Peer {
    pub stream: TlsStream<TcpStream>,
    input: BytesMut,
}

impl Peer {
    pub async fn say(&mut self, body: Body) {
        let mut out = BytesMut::new();
        frame::put(&ServerFrame { body: Some(body) }, &mut out);
        self.stream.write_all(&out).await.expect("write");
        self.stream.flush().await.expect("flush");
    }

    /// The next frame; `None` when the client has closed.
    pub async fn hear(&mut self) -> Option<ClientFrame> {
        loop {
            if let Some(body) = frame::take(&mut self.input, limits::MAX_FRAME_BYTES).expect("well-formed") {
                return Some(frame::decode_client(body).expect("well-formed"));
            }
            if patiently(self.stream.read_buf(&mut self.input)).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub async fn body(&mut self) -> client_frame::Body {
        loop {
            if let Some(body) = self.hear().await.expect("open").body {
                return body;
            }
        }
    }

    pub async fn hello(&mut self) -> wire::Hello {
        match self.body().await {
            client_frame::Body::Hello(hello) => hello,
            other => panic!("{other:?}"),
        }
    }

    pub async fn send(&mut self) -> wire::Send {
        match self.body().await {
            client_frame::Body::Send(send) => send,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until this position is confirmed.
    pub async fn confirmed(&mut self, position: u64) {
        while self.hear().await.expect("open").received != position {}
    }
}

pub async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

/// The next event that is not news of the connection.
pub async fn next(events: &mut Events) -> Event {
    loop {
        match patiently(events.next()).await.expect("open") {
            Event::Connected { .. } | Event::Disconnected { .. } => {}
            event => return event,
        }
    }
}

pub async fn next_message(events: &mut Events) -> (u64, u64) {
    match next(events).await {
        Event::Message(message) => (message.position, message.seq),
        other => panic!("{other:?}"),
    }
}
