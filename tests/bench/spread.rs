//! Runs over several generator processes and several servers.

use std::sync::Arc;

use postrider::bench::preflight::Wishes;
use postrider::bench::scenario::{Connect, Pairs, Scenario};
use postrider::bench::servers::Choice;
use postrider::bench::{self, BenchError, Options};
use postrider::clock::Clock;

use super::{all_well, ms, options, there};
use crate::support::{Target as _, TestServer};

/// Servers of the run's own that start fast.
pub fn own(directory: &tempfile::TempDir) -> Choice {
    let config = directory.path().join("small.toml");
    std::fs::write(&config, "[store]\nsegment_bytes = 1048576\n").unwrap();
    Choice::Own { place: directory.path().into(), config: Some(config), chaos: None }
}

fn spread(processes: u16, servers: Option<u16>) -> Wishes {
    Wishes { processes: Some(processes), servers, source_addresses: Some(2) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_over_several_processes_and_servers_adds_up_like_one() {
    let directory = tempfile::tempdir().unwrap();
    let pairs = Pairs { pairs: 5, window: 4, size: 100, warmup: ms(100), duration: ms(800) };
    let options = options(own(&directory), Scenario::Pairs(pairs));
    let options = Options { spread: spread(2, Some(2)), ..options };
    let report = bench::run(options, Clock::system(), Arc::default()).await.unwrap();
    assert!(report.messages.unwrap() > 0 && report.latency_ms.unwrap().p50 > 0.0);
    assert!(report.server_cpu_us_per_message.is_some() && report.generator_cpu_us_per_message.is_some());
    assert!(report.audit.sent >= report.messages.unwrap());
    assert_eq!((report.audit, report.connections), (all_well(report.audit.sent), 10));
    assert!(report.notes.iter().any(|note| note.contains("2 generator processes and 2 servers")), "{:?}", report.notes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_several_processes_are_all_there_at_once() {
    let server = TestServer::start().await;
    let connect = Connect { connections: 31, users: 31, settle: ms(10), hold: ms(1), resume: true };
    let options = options(there(&server, server.address()), Scenario::Connect(connect));
    let options = Options { spread: spread(3, None), ..options };
    let report = bench::run(options, Clock::system(), Arc::default()).await.unwrap();
    assert_eq!((report.connections, report.resumed, report.audit), (31, Some(31), all_well(0)));
    assert!(report.connects_per_s.unwrap() > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_one_process_from_its_work_ends_the_run() {
    let server = TestServer::start_with(|config| config.listen.max_connections = 3).await;
    let connect = Connect { connections: 20, users: 20, settle: ms(10), hold: ms(1), resume: false };
    let options = options(there(&server, server.address()), Scenario::Connect(connect));
    let options = Options { spread: spread(2, None), ..options };
    let error = bench::run(options, Clock::system(), Arc::default()).await.unwrap_err();
    assert!(matches!(&error, BenchError::Worker(why) if why.contains("cannot connect")), "{error}");
}
