//! The stream against rustls's own client, over real sockets.

use std::sync::Arc;

use postrider_protocol::limits;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, SupportedCipherSuite};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::{TlsConnector, client};

use super::*;
use crate::net::certificate;
use crate::net::tls::{Shown, server_config};

const NOW: i64 = 1_800_000_000;

type Client = client::TlsStream<TcpStream>;

/// A server's configuration, and a client's that trusts it and offers one cipher suite.
struct Pair {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Pair {
    fn new(suite: SupportedCipherSuite) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let made = certificate::find_or_make(directory.path(), &["localhost".into()], NOW).expect("a certificate");
        let server =
            server_config(Arc::new(Shown::load(&made.server, NOW).expect("a certificate"))).expect("a configuration");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&made.ca).expect("a certificate")).expect("a root");
        let provider = rustls::crypto::CryptoProvider { cipher_suites: vec![suite], ..aws_lc_rs::default_provider() };
        let mut client = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![limits::ALPN.to_vec()];
        client.resumption = Resumption::in_memory_sessions(8);
        client.time_provider = Arc::new(AtNow);
        Self { server, client: Arc::new(client) }
    }

    async fn connect(&self) -> (Client, TlsStream, Option<Exported>) {
        let (near, far) = sockets().await;
        let name = ServerName::try_from("localhost").expect("a name");
        let dialled = TlsConnector::from(Arc::clone(&self.client)).connect(name, near);
        let (client, accepted) = tokio::join!(dialled, shake_hands(Arc::clone(&self.server), far));
        let (stream, exported) = accepted.expect("a handshake");
        (client.expect("a handshake"), stream, exported)
    }
}

impl Default for Pair {
    fn default() -> Self {
        Self::new(cipher_suite::TLS13_AES_128_GCM_SHA256)
    }
}

/// The certificates are made for this moment.
#[derive(Debug)]
struct AtNow;

impl rustls::time_provider::TimeProvider for AtNow {
    fn current_time(&self) -> Option<rustls_pki_types::UnixTime> {
        Some(rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(NOW.unsigned_abs())))
    }
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let near = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
    let (far, _) = listener.accept().await.expect("a connection");
    near.set_nodelay(true).expect("a socket");
    (near, far)
}

async fn shake_hands(config: Arc<ServerConfig>, socket: TcpStream) -> io::Result<(TlsStream, Option<Exported>)> {
    let mut stream = TlsStream::new(config, socket)?;
    let (mut plaintext, mut exported) = (BytesMut::new(), None);
    while stream.is_handshaking() {
        stream.readable().await?;
        exported = stream.hear(&mut plaintext).await?.or(exported);
        if stream.is_handshaking() {
            stream.flush().await?;
        }
    }
    assert!(plaintext.is_empty());
    Ok((stream, exported))
}

async fn read(stream: &mut TlsStream, plaintext: &mut BytesMut) -> io::Result<bool> {
    poll_fn(|cx| stream.poll_read(cx, plaintext)).await
}

/// Reads until so many bytes are there.
async fn read_bytes(stream: &mut TlsStream, length: usize) -> BytesMut {
    let mut plaintext = BytesMut::new();
    while plaintext.len() < length {
        assert!(read(stream, &mut plaintext).await.expect("bytes"));
    }
    plaintext
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

#[track_caller]
fn holds_no_buffer(stream: &TlsStream) {
    assert_eq!((stream.received.capacity(), stream.unsent.capacity()), (0, 0));
}

#[tokio::test]
async fn bytes_of_any_number_go_both_ways_and_leave_no_buffer_behind() {
    let (mut client, mut stream, _) = Pair::default().connect().await;
    for length in [1, 100, 16_384, 16_385, 49_152, 49_153, 1_000_000] {
        let sent = pattern(length);
        let (written, read) = tokio::join!(client.write_all(&sent), read_bytes(&mut stream, length));
        written.expect("written");
        assert!(read == sent, "{length} bytes to the server");

        let mut read = vec![0; length];
        let (written, got) = tokio::join!(stream.write_all(BytesMut::from(&sent[..])), client.read_exact(&mut read));
        written.expect("written");
        got.expect("read");
        assert!(read == sent, "{length} bytes to the client");
        holds_no_buffer(&stream);
    }
}

#[tokio::test]
async fn what_the_kernel_does_not_take_is_bounded_and_goes_first_later() {
    let (mut client, mut stream, _) = Pair::default().connect().await;
    let sent = pattern(20_000_000);
    let mut data = BytesMut::from(&sent[..]);
    let blocked = poll_fn(|cx| Poll::Ready(stream.poll_write(cx, &mut data))).await;
    assert!(blocked.is_pending() && !data.is_empty(), "more than the kernel takes");
    assert!((1..=READ_BYTES).contains(&stream.unsent.len()), "{} bytes are kept", stream.unsent.len());

    let mut read = vec![0; sent.len()];
    let (written, got) = tokio::join!(stream.write_all(data), client.read_exact(&mut read));
    written.expect("written");
    got.expect("read");
    assert!(read == sent);
    holds_no_buffer(&stream);
}

#[tokio::test]
async fn records_that_come_byte_by_byte_are_put_together() {
    let pair = Pair::default();
    let ((near, mut middle_near), (mut middle_far, far)) = (sockets().await, sockets().await);
    middle_far.set_nodelay(true).expect("a socket");
    let relay = async {
        let (mut from_client, mut to_client) = middle_near.split();
        let (mut from_server, mut to_server) = middle_far.split();
        let dribble = async {
            while let Ok(byte) = from_client.read_u8().await {
                to_server.write_u8(byte).await.expect("the server listens");
                tokio::task::yield_now().await;
            }
            to_server.shutdown().await.expect("the server listens");
        };
        tokio::join!(dribble, tokio::io::copy(&mut from_server, &mut to_client)).1.expect("copied");
    };
    let talk = async {
        let name = ServerName::try_from("localhost").expect("a name");
        let dialled = TlsConnector::from(Arc::clone(&pair.client)).connect(name, near);
        let (client, accepted) = tokio::join!(dialled, shake_hands(Arc::clone(&pair.server), far));
        let ((mut client, (mut stream, _)), sent) = ((client.expect("TLS"), accepted.expect("TLS")), pattern(20_000));
        let (written, read) = tokio::join!(client.write_all(&sent), read_bytes(&mut stream, sent.len()));
        written.expect("written");
        assert!(read == sent);
        assert_eq!(stream.received.capacity(), 0);
        client.shutdown().await.expect("closed");
        assert!(!read_to_end(&mut stream).await.expect("a good end"));
    };
    tokio::join!(relay, talk);
}

async fn read_to_end(stream: &mut TlsStream) -> io::Result<bool> {
    read(stream, &mut BytesMut::new()).await
}

#[tokio::test]
async fn what_is_exported_is_what_the_client_exports_with_every_suite() {
    for suite in [
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ] {
        let pair = Pair::new(suite);
        let (client, _stream, exported) = pair.connect().await;
        let (_, tls) = client.get_ref();
        let wanted = tls
            .export_keying_material([0; limits::EXPORTER_BYTES], limits::EXPORTER_LABEL, None)
            .expect("the client exports");
        assert_eq!(exported, Some(wanted), "{suite:?}");
    }
}

#[tokio::test]
async fn the_ticket_comes_with_the_first_bytes_and_is_good_for_the_next_connection() {
    let pair = Pair::default();
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let (mut client, mut stream, _) = pair.connect().await;
        assert_eq!(client.get_ref().1.handshake_kind(), Some(kind));
        assert!(!stream.unsent.is_empty(), "the ticket waits for what is written next");
        stream.write_all(BytesMut::from(&b"welcome"[..])).await.expect("written");
        let mut read = [0; 7];
        client.read_exact(&mut read).await.expect("read");
    }
}

#[tokio::test]
async fn either_side_may_change_its_keys_at_any_time() {
    let (mut client, mut stream, _) = Pair::default().connect().await;
    for round in 0..5 {
        client.get_mut().1.refresh_traffic_keys().expect("new keys for the client");
        client.write_all(b"new keys").await.expect("written");
        assert_eq!(&read_bytes(&mut stream, 8).await[..], b"new keys", "round {round}");
        stream.write_all(BytesMut::from(&b"so have we"[..])).await.expect("written");
        let mut read = [0; 10];
        client.read_exact(&mut read).await.expect("read");
        assert_eq!(&read, b"so have we", "round {round}");
        holds_no_buffer(&stream);
    }
}

#[tokio::test]
async fn an_end_that_was_announced_is_told_from_one_that_was_not() {
    let pair = Pair::default();
    let (mut client, mut stream, _) = pair.connect().await;
    client.write_all(b"last words").await.expect("written");
    client.shutdown().await.expect("closed");
    let mut plaintext = BytesMut::new();
    assert!(read(&mut stream, &mut plaintext).await.expect("the last words come first"));
    assert_eq!(&plaintext[..], b"last words");
    assert!(!read_to_end(&mut stream).await.expect("announced"));
    assert!(!read_to_end(&mut stream).await.expect("and so it stays"));
    stream.write_all(BytesMut::from(&b"goodbye"[..])).await.expect("our side is open");
    stream.hang_up().await.expect("closed");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.expect("an orderly end");
    assert_eq!(rest, b"goodbye");

    let (mut client, mut stream, _) = pair.connect().await;
    client.get_mut().0.shutdown().await.expect("cut off");
    assert_eq!(read_to_end(&mut stream).await.expect_err("cut off").kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_forged_record_ends_the_connection_with_an_alert_after_what_came_before_it() {
    let (mut client, mut stream, _) = Pair::default().connect().await;
    client.write_all(b"genuine").await.expect("written");
    let mut forged = vec![23, 3, 3, 0, 100];
    forged.extend([7; 100]);
    client.get_mut().0.write_all(&forged).await.expect("written");
    client.get_mut().0.flush().await.expect("written");
    assert_eq!(&read_bytes(&mut stream, 7).await[..], b"genuine");
    for _ in 0..2 {
        assert_eq!(read_to_end(&mut stream).await.expect_err("forged").kind(), io::ErrorKind::InvalidData);
    }
    drop(stream);
    let error = client.read_u8().await.expect_err("an alert");
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
}

#[tokio::test]
async fn what_is_no_handshake_is_refused_and_a_long_one_is_not_collected() {
    let garbage = [b"GET / HTTP/1.1\r\n\r\n".to_vec(), endless_hello()];
    for bytes in garbage {
        let (mut near, far) = sockets().await;
        let config = Pair::default().server;
        let accepted = tokio::spawn(shake_hands(config, far));
        near.write_all(&bytes).await.expect("written");
        let error = accepted.await.expect("no panic").err().expect("no handshake");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    }
}

/// A `ClientHello` that claims 60,000 bytes, and a third of them.
fn endless_hello() -> Vec<u8> {
    let mut bytes = vec![22, 3, 1, 0x10, 0x04, 1, 0, 0xea, 0x60];
    bytes.extend([0; 4096]);
    for _ in 0..4 {
        bytes.extend([22, 3, 1, 0x10, 0x00]);
        bytes.extend([0; 4096]);
    }
    bytes
}
