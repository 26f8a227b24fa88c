//! TLS as it must not be (TLS-1 … TLS-5): old versions, other protocols, early data, handshakes within a connection,
//! certificates that nobody asked for.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use postrider_protocol::error::ErrorCode;
use postrider_protocol::wire::{self, client_frame, server_frame::Body};
use postrider_protocol::{frame, limits};
use rcgen::{CertificateParams, KeyPair};
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, ResolvesClientCert, Resumption};
use rustls::client::{Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::sign::CertifiedKey;
use rustls::{NamedGroup, SignatureScheme};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::taken_apart::{ALERT, Blocking, DATA, Forger, HANDSHAKE, frame_of};
use super::{Siege, scaled};
use crate::support::{Raw, ServerProcess, Target};

const PATIENCE: Duration = Duration::from_secs(15);

const UNEXPECTED_MESSAGE: u8 = 10;
const DECODE_ERROR: u8 = 50;
const PROTOCOL_VERSION: u8 = 70;

/// Says `bytes` instead of a handshake; everything that comes back until the end.
async fn told(server: &ServerProcess, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(server.address()).await.unwrap();
    drop(socket.write_all(bytes).await);
    let mut answer = Vec::new();
    let end = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await;
    drop(end.expect("the end in time"));
    answer
}

/// A ClientHello of a time before TLS 1.3: no `supported_versions` in it.
fn old_client_hello(version: u16) -> Vec<u8> {
    let alpn = [&[0, 16, 0, 14, 0, 12, 11][..], limits::ALPN].concat();
    let groups = [0, 10, 0, 4, 0, 2, 0, 29];
    let algorithms = [0, 13, 0, 4, 0, 2, 4, 3];
    let extensions = [&alpn[..], &groups, &algorithms].concat();
    let mut body = version.to_be_bytes().to_vec();
    body.extend_from_slice(&[7; 32]);
    // No session, ECDHE_ECDSA and ECDHE_RSA with AES-128, no compression.
    body.extend_from_slice(&[0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0]);
    body.extend_from_slice(&u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend_from_slice(&extensions);
    record(HANDSHAKE, &message(1, &body))
}

/// A message of the handshake.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind], &length[1..], body].concat()
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind, 3, 1], &length[..], body].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_before_tls_1_3_are_refused_with_an_alert() {
    let siege = Siege::begin("").await;
    for version in [0x0300, 0x0301, 0x0302, 0x0303] {
        let answer = told(&siege.server, &old_client_hello(version)).await;
        assert_eq!((answer[0], &answer[5..]), (ALERT, &[2, PROTOCOL_VERSION][..]), "{version:x}");
    }
    siege.lift().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_cannot_be_are_closed_with_an_alert_or_without_a_word_and_cost_nothing() {
    let siege = Siege::begin("").await;
    let endless = [&[HANDSHAKE, 3, 1, 0xff, 0xff][..], &[0; 70_000]].concat();
    let ssl2 = [&[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10][..], &[7; 40]].concat();
    let openings: Vec<Vec<u8>> = vec![
        endless,
        ssl2,
        record(DATA, b"data before any handshake"),
        record(ALERT, &[1, 0]).repeat(500),
        record(ALERT, &[2, 40]),
        record(20, &[1]).repeat(5_000),
        record(HANDSHAKE, &[]).repeat(5_000),
        record(HANDSHAKE, &message(20, &[0; 32])),
        record(HANDSHAKE, &message(0, &[])),
        record(24, &[1, 0xff, 0xff]),
        record(HANDSHAKE, &message(1, &[0xff; 600])),
    ];
    for (index, opening) in openings.iter().enumerate() {
        for _ in 0..scaled(5, 100) {
            let answer = told(&siege.server, opening).await;
            assert!(answer.is_empty() || answer[0] == ALERT, "opening {index} got {answer:x?}");
        }
    }
    siege.lift().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_protocol_by_alpn_is_refused_and_ours_among_hundreds_is_found() {
    let siege = Siege::begin("").await;
    let others = || (0..300).map(|number| format!("other/{number}").into_bytes());
    let connect = async |protocols: Vec<Vec<u8>>| {
        let mut config = Raw::tls(&siege.server);
        config.alpn_protocols = protocols;
        Raw::over(TcpStream::connect(siege.server.address()).await.unwrap(), config).await
    };
    for wrong in
        [others().collect(), vec![b"postrider/2".to_vec()], vec![b"postrider/1\0".to_vec()], vec![b"h2".to_vec()]]
    {
        if let Ok(mut raw) = connect(wrong).await {
            assert_eq!(raw.try_next().await, None, "TLS-2");
        }
    }
    let mut raw = connect(others().chain([limits::ALPN.to_vec()]).collect()).await.unwrap();
    raw.say(client_frame::Body::Hello(Raw::hello("polyglot", "phone"))).await;
    assert!(matches!(raw.next().await, Body::Welcome(_)));
    siege.lift().await;
}

/// Tickets of a client that believes in early data, whatever the server said.
#[derive(Debug)]
struct Hopeful(ClientSessionMemoryCache);

impl ClientSessionStore for Hopeful {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(server, group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(server)
    }

    fn set_tls12_session(&self, server: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.0.set_tls12_session(server, session);
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(server)
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        self.0.remove_tls12_session(server);
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, mut ticket: Tls13ClientSessionValue) {
        assert_eq!(ticket.max_early_data_size(), 0, "the server offers none");
        ticket._private_set_max_early_data_size(16_384);
        self.0.insert_tls13_ticket(server, ticket);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(server)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_data_is_not_accepted_and_what_it_said_was_not_said() {
    let siege = Siege::begin("[listen]\nlogin_timeout_ms = 2000\n").await;
    let mut config = Raw::tls(&siege.server);
    config.resumption = Resumption::store(Arc::new(Hopeful(ClientSessionMemoryCache::new(8))));
    config.enable_early_data = true;
    let config = Arc::new(config);
    let mut first = Blocking::connect(siege.server.address(), &config);
    first.say(client_frame::Body::Hello(Raw::hello("early bird", "phone")));
    assert!(first.hears_anything(), "a welcome, and with it a ticket");
    drop(first);

    let hello = frame_of(client_frame::Body::Hello(Raw::hello("early bird", "tablet")));
    let address = siege.server.address();
    let told = tokio::task::spawn_blocking(move || {
        let mut early = Blocking::new(address, &config);
        early.tls.early_data().expect("a ticket").write_all(&hello).unwrap();
        early.shake_hands();
        assert!(!early.tls.is_early_data_accepted(), "TLS-4");
        early.everything()
    });
    // The hello of the early data is not there: the login took too long.
    let mut told = BytesMut::from(&told.await.unwrap()[..]);
    let body = frame::take(&mut told, limits::MAX_FRAME_BYTES).unwrap().expect("one frame");
    match frame::decode_server(body).unwrap().body.unwrap() {
        Body::Error(error) => assert_eq!(error.name, "LOGIN_TIMEOUT"),
        other => panic!("{other:?}"),
    }
    assert!(told.is_empty());
    siege.lift().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_within_a_connection_ends_it_with_an_alert() {
    let siege = Siege::begin("").await;
    let hello = old_client_hello(0x0303);
    let attempts: [(&str, u8, Vec<u8>); 6] = [
        ("a client hello", HANDSHAKE, hello[5..].to_vec()),
        ("a hello request", HANDSHAKE, message(0, &[])),
        ("a certificate that nobody asked for", HANDSHAKE, message(11, &[0, 0, 0, 0])),
        ("a second finish", HANDSHAKE, message(20, &[0; 32])),
        ("a ticket from the client", HANDSHAKE, message(4, &[0; 20])),
        ("a change of cipher", 20, vec![1]),
    ];
    for (what, kind, body) in attempts {
        let mut forger = Forger::log_in(&siege.server, "forger");
        forger.write(kind, &body);
        let alert = tokio::task::spawn_blocking(move || forger.alert()).await.unwrap();
        assert!(matches!(alert, Some(UNEXPECTED_MESSAGE | DECODE_ERROR)), "{what} got {alert:?}");
    }
    siege.lift().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_records_with_nothing_in_them_ends_the_connection() {
    let siege = Siege::begin("[listen]\nidle_timeout_ms = 2000\n").await;
    let mut forger = Forger::log_in(&siege.server, "empty");
    for _ in 0..scaled(20_000, 1_000_000) {
        forger.write(DATA, &[]);
    }
    // Whether the alert is still heard behind so much that was written is chance; the end is there.
    let alert = tokio::task::spawn_blocking(move || forger.alert()).await.unwrap();
    println!("ended with {alert:?}");
    siege.lift().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_updates_are_answered_and_a_storm_of_them_ends_the_connection() {
    let siege = Siege::begin("").await;
    for round in 0..scaled(5, 100) {
        let mut raw = Raw::login(&siege.server, &format!("restless {round}"), "phone").await;
        raw.backlog().await;
        for _ in 0..scaled(50, 500) {
            for _ in 0..10 {
                raw.stream.get_mut().1.refresh_traffic_keys().unwrap();
            }
            raw.settle().await;
        }
        for _ in 0..10_000 {
            raw.stream.get_mut().1.refresh_traffic_keys().unwrap();
        }
        drop(raw.try_write_bytes(b"\0\0\0\x02\x32\0").await);
        assert_eq!(raw.try_next().await, None, "nothing but TLS was said for too long");
    }
    siege.lift().await;
}

/// Somebody with an expired certificate to show.
#[derive(Debug)]
struct Expired {
    key: Arc<CertifiedKey>,
    asked: AtomicBool,
}

impl ResolvesClientCert for Expired {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::SeqCst);
        Some(Arc::clone(&self.key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Who somebody is, a key says, after TLS: certificates of clients, expired ones too, are never asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_expired_or_not_is_not_asked_for_and_opens_nothing() {
    let siege = Siege::begin("[[app]]\nname = \"dev\"\nlogin = [\"open\"]\n[[app]]\nname = \"keys\"\n").await;
    let mut params = CertificateParams::new(vec!["alice".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let signer = provider.key_provider.load_private_key(key.serialize_der().try_into().unwrap()).unwrap();
    let key = Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signer));
    let expired = Arc::new(Expired { key, asked: AtomicBool::new(false) });

    let mut config = Raw::tls(&siege.server);
    config.client_auth_cert_resolver = Arc::clone(&expired) as Arc<dyn ResolvesClientCert>;
    let socket = TcpStream::connect(siege.server.address()).await.unwrap();
    let mut raw = Raw::over(socket, config).await.unwrap();
    let hello = wire::Hello { app: "keys".into(), ..Raw::hello("alice", "laptop") };
    raw.say(client_frame::Body::Hello(hello)).await;
    raw.closed_with(ErrorCode::MethodNotAllowed).await;
    assert!(!expired.asked.load(Ordering::SeqCst));
    siege.lift().await;
}
