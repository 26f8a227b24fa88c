//! Who says nothing, or a byte at a time: gone when the time is over, cheap until then, and in nobody's way.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::{StreamExt, stream};
use postrider_protocol::error::ErrorCode;
use postrider_protocol::wire::{self, ClientFrame, client_frame};
use postrider_protocol::{frame, limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Siege, is_full, scaled};
use crate::support::{Raw, Target};

/// Connections being made at once.
const AT_ONCE: usize = 16;

/// A login that takes longer than this is ended.
const SHORT_LOGIN: &str = "[listen]\nlogin_timeout_ms = 2000\n";
const LOGIN_TIME: Duration = Duration::from_millis(2_000);

/// The pause between two bytes: several within the time of a login.
const DRIP: Duration = Duration::from_millis(100);

/// On however busy a machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The start of a TLS record with a ClientHello that never ends: 64 KiB are announced in pieces of 16 KiB.
fn endless_client_hello(bytes: usize) -> Vec<u8> {
    let mut hello = vec![1, 0, 0xff, 0xff, 3, 3];
    hello.resize(bytes, 0);
    let records = hello.chunks(16_000).map(|part| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&[22, 3, 1][..], &length, part].concat()
    });
    records.collect::<Vec<_>>().concat()
}

/// Says `bytes` one at a time until the server closes; how long that took.
async fn drip(bytes: &[u8], mut say: impl AsyncFnMut(&[u8]) -> std::io::Result<()>) -> Duration {
    let start = Instant::now();
    for byte in bytes.iter().cycle() {
        if say(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(DRIP).await;
        assert!(start.elapsed() < PATIENCE, "the server waits for ever");
    }
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_hello_of_a_byte_at_a_time_is_closed_when_the_time_for_a_login_is_over() {
    let siege = Siege::begin(SHORT_LOGIN).await;
    let mut socket = TcpStream::connect(siege.server.address()).await.unwrap();
    let took = drip(&endless_client_hello(1_000), async |byte| socket.write_all(byte).await).await;
    assert!(took >= LOGIN_TIME - Duration::from_millis(200), "{took:?}");
    siege.lift().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_of_a_byte_at_a_time_is_told_that_it_took_too_long() {
    let siege = Siege::begin(SHORT_LOGIN).await;
    let mut hello = BytesMut::new();
    let body = client_frame::Body::Hello(wire::Hello { agent: "x".repeat(2_000), ..Raw::hello("slow", "phone") });
    frame::put(&ClientFrame { received: 0, body: Some(body) }, &mut hello);
    let mut raw = Raw::connect(&siege.server).await;
    let start = Instant::now();
    for byte in hello.iter() {
        if start.elapsed() > LOGIN_TIME || raw.try_write_bytes(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(DRIP).await;
    }
    raw.closed_with(ErrorCode::LoginTimeout).await;
    siege.lift().await;
}

/// Bytes are not frames: part of one keeps nobody awake (CONN-2).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_of_a_byte_at_a_time_does_not_keep_a_connection_open() {
    let siege = Siege::begin("[listen]\nidle_timeout_ms = 2000\n").await;
    let mut raw = Raw::login(&siege.server, "slow", "phone").await;
    raw.backlog().await;
    raw.write_bytes(&60_000u32.to_be_bytes()).await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2_500) && raw.try_write_bytes(&[0x22]).await.is_ok() {
        tokio::time::sleep(DRIP).await;
    }
    raw.closed_with(ErrorCode::IdleTimeout).await;
    siege.lift().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_cost_little_and_end_when_the_time_for_a_login_is_over() {
    let mut siege = Siege::begin(SHORT_LOGIN).await;
    let count = scaled(300, 5_000);
    for _ in 0..2 {
        let sockets = stream::iter(0..count).map(|_| TcpStream::connect(siege.server.address()));
        let mut sockets: Vec<_> = sockets.buffer_unordered(AT_ONCE).map(Result::unwrap).collect().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        siege.costs_little(count);
        for socket in &mut sockets {
            let end = tokio::time::timeout(PATIENCE, socket.read(&mut [0; 16])).await.expect("the end in time");
            assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        }
        siege.allow_for_the_allocator();
    }
    siege.lift().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_silent_after_tls_cost_little_and_are_told_that_the_login_took_too_long() {
    let mut siege = Siege::begin(if is_full() { "" } else { SHORT_LOGIN }).await;
    let count = scaled(200, 500);
    for _ in 0..2 {
        let raws = stream::iter(0..count).map(|_| Raw::connect(&siege.server));
        let mut raws: Vec<_> = raws.buffer_unordered(AT_ONCE).collect().await;
        siege.costs_little(count);
        for raw in &mut raws {
            raw.closed_with(ErrorCode::LoginTimeout).await;
        }
        siege.allow_for_the_allocator();
    }
    siege.lift().await;
}

/// TLS lets a ClientHello be 64 KiB and more; ours are below two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_hello_without_end_costs_at_most_32_kib() {
    let siege = Siege::begin("").await;
    let count = scaled(200, 2_000);
    let hello = endless_client_hello(65_000);
    let sockets = stream::iter(0..count).map(|_| async {
        let mut socket = TcpStream::connect(siege.server.address()).await.unwrap();
        // The server may hang up in the middle.
        drop(socket.write_all(&hello).await);
        socket
    });
    let sockets: Vec<_> = sockets.buffer_unordered(AT_ONCE).collect().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    siege.costs_little(count);
    drop(sockets);
    siege.lift().await;
}

/// A third of them says nothing, a third is in TLS and drips its login, a third drips its ClientHello.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_slow_connections_is_in_no_honest_users_way() {
    let mut siege = Siege::begin("[listen]\nlogin_timeout_ms = 120000\n").await;
    // It comes twice.
    drop(crowd(&siege).await);
    siege.allow_for_the_allocator();
    let crowd = crowd(&siege).await;
    let count = crowd.len();
    let honest = tokio::select! {
        honest = honest_logins(&siege) => honest,
        () = keep_dripping(crowd) => unreachable!("it drips for ever"),
    };
    let (median, p99) = (honest[honest.len() / 2], honest[honest.len() * 99 / 100]);
    println!("{} honest logins beside {count} slow ones: usually {median:?}, p99 {p99:?}", honest.len());
    let limit = if is_full() { Duration::from_secs(1) } else { Duration::from_secs(5) };
    assert!(p99 <= limit, "{p99:?}");
    siege.lift().await;
}

async fn crowd(siege: &Siege) -> Vec<Slow> {
    let count = scaled(500, 15_000);
    let crowd = stream::iter(0..count).map(|index| {
        let server = &siege.server;
        async move {
            if index % 3 == 0 {
                return Slow::InLogin(Box::new(Raw::connect(server).await));
            }
            Slow::BeforeTls(TcpStream::connect(server.address()).await.unwrap(), index % 3 == 1)
        }
    });
    let crowd: Vec<_> = crowd.buffer_unordered(AT_ONCE).collect().await;
    siege.costs_little(count);
    crowd
}

enum Slow {
    /// Whether it also says something.
    BeforeTls(TcpStream, bool),
    InLogin(Box<Raw>),
}

/// A byte for each, round after round.
async fn keep_dripping(mut crowd: Vec<Slow>) {
    let hello = endless_client_hello(4_000);
    let login = u32::try_from(limits::MAX_LOGIN_FRAME_BYTES).unwrap().to_be_bytes();
    for round in 0.. {
        for slow in &mut crowd {
            match slow {
                Slow::BeforeTls(_, false) => {}
                Slow::BeforeTls(socket, true) => socket.write_all(&hello[round..=round]).await.unwrap(),
                Slow::InLogin(raw) => raw.write_bytes(&[*login.get(round).unwrap_or(&0)]).await,
            }
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(DRIP).await;
    }
}

/// How long each of some honest logins took, from the TCP connection to `Welcome`, the shortest first.
async fn honest_logins(siege: &Siege) -> Vec<Duration> {
    let mut taken = Vec::new();
    for index in 0..scaled(50, 300) {
        let start = Instant::now();
        let raw = Raw::login(&siege.server, &format!("honest {index}"), "phone").await;
        taken.push(start.elapsed());
        drop(raw);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    taken.sort_unstable();
    taken
}
