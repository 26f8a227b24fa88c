//! The load generator against a real server: what it reports is true, also of a server that stalls or refuses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postrider::bench::audit::Audit;
use postrider::bench::report::Report;
use postrider::bench::scenario::{Connect, Offline, Pairs, Rate, Scenario};
use postrider::bench::{self, BenchError, Options, Target};
use postrider::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::{Target as _, TestServer};

async fn try_run(server: &TestServer, address: SocketAddr, scenario: Scenario) -> Result<Report, BenchError> {
    let target = Target { server: address.to_string(), ca: server.ca(), app: "dev".into() };
    let options = Options { target, scenario, server_pid: None, source_addresses: None };
    bench::run(options, Clock::system(), Arc::default()).await
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
    let report = run(&server, Scenario::Offline(Offline { pairs: 3, window: 16, messages: 301, size: 28 })).await;
    assert_eq!(report.audit, all_well(301));
    assert!(report.stored_per_s.unwrap() > 0.0 && report.drained_per_s.unwrap() > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_made_and_held_and_resumed_where_asked() {
    let server = TestServer::start().await;
    let connect = Connect { connections: 40, rate: None, hold: ms(1), resume: false };
    let report = run(&server, Scenario::Connect(connect.clone())).await;
    assert_eq!((report.connections, report.resumed, report.audit), (40, Some(0), Audit::default()));
    assert!(report.connects_per_s.unwrap() > 0.0);
    let report = run(&server, Scenario::Connect(Connect { resume: true, ..connect })).await;
    assert!(report.resumed.unwrap() > 0);
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
    assert!((390..=410).contains(&report.audit.sent), "{}", report.audit.sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_messages_are_a_fault_of_the_run() {
    let server = TestServer::start_with(|config| config.limits.inbox_entries = 10).await;
    let mut report = run(&server, Scenario::Offline(Offline { pairs: 1, window: 8, messages: 10, size: 28 })).await;
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
    let target = Target { server: server.address().to_string(), ca: empty.path().into(), app: "dev".into() };
    let connect = Connect { connections: 1, rate: None, hold: ms(0), resume: false };
    let options =
        Options { target, scenario: Scenario::Connect(connect), server_pid: Some(u32::MAX), source_addresses: None };
    let error = bench::run(options.clone(), Clock::system(), Arc::default()).await.unwrap_err();
    assert!(matches!(error, BenchError::Ca { .. }), "{error}");
    let target = Target { ca: server.ca(), ..options.target.clone() };
    let error = bench::run(Options { target, ..options }, Clock::system(), Arc::default()).await.unwrap_err();
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
