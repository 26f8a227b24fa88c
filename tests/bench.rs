//! The load generator against a real server: what it reports is true, also of a server that stalls or refuses.

mod chaos;
mod life;
mod spread;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use postrider::bench::audit::Audit;
use postrider::bench::preflight::Wishes;
use postrider::bench::report::Report;
use postrider::bench::scenario::{Connect, Fanout, Offline, Pairs, Rate, Scenario};
use postrider::bench::servers::Choice;
use postrider::bench::{self, BenchError, Options, Target};
use postrider::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::{Target as _, TestServer};

/// Against this server, in this process.
fn options(server: Choice, scenario: Scenario) -> Options {
    let executable = PathBuf::from(env!("CARGO_BIN_EXE_postrider"));
    Options { server, scenario, logins_at_once: None, logins_per_s: None, spread: Wishes::default(), executable }
}

fn there(server: &TestServer, address: SocketAddr) -> Choice {
    let target = Target { server: address.to_string(), ca: server.ca(), app: "dev".into() };
    Choice::There { target, pid: None }
}

async fn try_run(server: &TestServer, address: SocketAddr, scenario: Scenario) -> Result<Report, BenchError> {
    bench::run(options(there(server, address), scenario), Clock::system(), Arc::default()).await
}

async fn run(server: &TestServer, scenario: Scenario) -> Report {
    try_run(server, server.address(), scenario).await.unwrap()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// So many messages, and no fault.
fn all_well(messages: u64) -> Audit {
    let (sent, acked, received, delivered) = (messages, messages, messages, messages);
    Audit { sent, acked, received, delivered, ..Audit::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pairs_report_messages_latencies_and_a_clean_audit() {
    let server = TestServer::start().await;
    let pairs = Pairs { pairs: 2, window: 4, size: 100, warmup: ms(100), duration: ms(700) };
    let report = run(&server, Scenario::Pairs(pairs)).await;
    assert!(report.messages.unwrap() > 0 && report.messages_per_s.unwrap() > 0.0);
    let latency = report.latency_ms.unwrap();
    assert!(latency.p50 > 0.0 && latency.p50 <= latency.p99 && latency.p99 <= latency.max, "{latency:?}");
    assert!(report.audit.sent >= report.messages.unwrap());
    assert_eq!(report.audit, all_well(report.audit.sent));
    assert_eq!((report.connections, report.failures.len()), (4, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_for_the_absent_is_drained_whole() {
    let server = TestServer::start().await;
    let report =
        run(&server, Scenario::Offline(Offline { pairs: 3, window: 16, messages: 301, size: 28, leave: false })).await;
    assert_eq!(report.audit, all_well(301));
    assert!(report.stored_per_s.unwrap() > 0.0 && report.drained_per_s.unwrap() > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_made_and_held_and_resumed_where_asked() {
    let server = TestServer::start().await;
    let connect = Connect { connections: 40, users: 70, settle: ms(10), hold: ms(1), resume: false };
    let report = run(&server, Scenario::Connect(connect.clone())).await;
    assert_eq!((report.connections, report.resumed, report.audit), (40, Some(0), Audit::default()));
    assert!(report.connects_per_s.unwrap() > 0.0 && report.connect_ms.unwrap().p50 > 0.0);
    let report = run(&server, Scenario::Connect(Connect { resume: true, ..connect })).await;
    assert_eq!(report.resumed, Some(40), "each has a ticket of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_come_at_the_rate_that_is_asked_for() {
    let server = TestServer::start().await;
    let connect = Connect { connections: 20, users: 20, settle: ms(10), hold: ms(1), resume: false };
    let options = options(there(&server, server.address()), Scenario::Connect(connect));
    let options = Options { logins_per_s: Some(40.0), logins_at_once: Some(1), ..options };
    let report = bench::run(options, Clock::system(), Arc::default()).await.unwrap();
    // The last of twenty is due after 475 ms.
    assert!(report.connects_per_s.unwrap() < 43.0, "{:?}", report.connects_per_s);
    assert_eq!(report.audit, Audit::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_to_stay_is_stored_and_waits() {
    let server = TestServer::start().await;
    let mut report =
        run(&server, Scenario::Offline(Offline { pairs: 2, window: 8, messages: 50, size: 28, leave: true })).await;
    report.judge(&[]);
    assert_eq!((report.audit.acked, report.audit.received, report.failures.len()), (50, 0, 0));
    assert!(report.stored_per_s.unwrap() > 0.0 && report.drained_per_s.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_sends_to_many_reaches_each_of_them() {
    let server = TestServer::start().await;
    let fanout = Fanout { senders: 2, recipients: 5, window: 20, size: 40, warmup: ms(50), duration: ms(500) };
    let report = run(&server, Scenario::Fanout(fanout)).await;
    assert!(report.messages.unwrap() > 0 && report.latency_ms.unwrap().p50 > 0.0);
    assert!(report.audit.sent >= 40, "each sender fills its window");
    assert_eq!((report.audit, report.connections), (all_well(report.audit.sent), 12));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_shows_in_the_latencies_of_all_messages_that_were_due_meanwhile() {
    let server = TestServer::start().await;
    let (stall, stalled) = watch::channel(false);
    let proxy = proxy(server.address(), stalled).await;
    let rate = Rate { pairs: 4, rate: 200.0, size: 100, warmup: ms(0), duration: ms(2000) };
    let stalling = async {
        // Connected within the first part at the latest; what comes earlier stalls the start, which is as good.
        tokio::time::sleep(ms(700)).await;
        stall.send(true).unwrap();
        tokio::time::sleep(ms(800)).await;
        stall.send(false).unwrap();
    };
    let (report, ()) = tokio::join!(try_run(&server, proxy, Scenario::Rate(rate)), stalling);
    let report = report.unwrap();
    let latency = report.latency_ms.unwrap();
    // Of 400 messages 160 were due while nothing moved. A loop that waits for answers would have seen four late ones.
    assert!(latency.p99 > 500.0, "{latency:?}");
    assert_eq!(report.audit, all_well(report.audit.sent));
    // All that were due in two seconds; more where the generator was late to notice that they were over.
    let due = report.audit.sent + report.unsent.unwrap_or_default();
    assert!((400..800).contains(&due), "{due}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_messages_are_a_fault_of_the_run() {
    let server = TestServer::start_with(|config| config.limits.inbox_entries = 10).await;
    let mut report =
        run(&server, Scenario::Offline(Offline { pairs: 1, window: 8, messages: 10, size: 28, leave: false })).await;
    report.judge(&[]);
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    let small = TestServer::start_with(|config| config.limits.content_bytes = 64).await;
    let pairs = Pairs { pairs: 1, window: 1, size: 65, warmup: ms(0), duration: ms(100) };
    let mut report = run(&small, Scenario::Pairs(pairs)).await;
    report.judge(&[]);
    assert!(report.audit.refused > 0 && report.failures.len() == 1, "{:?}", report.failures);
}

#[tokio::test]
async fn a_ca_without_a_certificate_and_a_process_that_is_not_there_are_told_before_anything_is_connected() {
    let server = TestServer::start().await;
    let empty = tempfile::NamedTempFile::new().unwrap();
    let connect = Connect { connections: 1, users: 1, settle: ms(10), hold: ms(0), resume: false };
    let run = |ca, pid| {
        let target = Target { server: server.address().to_string(), ca, app: "dev".into() };
        let options = options(Choice::There { target, pid }, Scenario::Connect(connect.clone()));
        bench::run(options, Clock::system(), Arc::default())
    };
    let error = run(empty.path().into(), None).await.unwrap_err();
    assert!(matches!(error, BenchError::Ca { .. }), "{error}");
    let error = run(server.ca(), Some(u32::MAX)).await.unwrap_err();
    assert!(matches!(error, BenchError::NoProcess(u32::MAX)), "{error}");
}

/// Forwards bytes both ways, but none while it is stalled.
async fn proxy(to: SocketAddr, stalled: watch::Receiver<bool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(to).await.unwrap();
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            tokio::spawn(forward(from_client, to_server, stalled.clone()));
            tokio::spawn(forward(from_server, to_client, stalled.clone()));
        }
    });
    address
}

async fn forward(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut stalled: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let moving = stalled.wait_for(|stalled| !stalled).await.is_ok();
        if !moving || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
