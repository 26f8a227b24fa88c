//! Servers that are killed while the load runs; and one that forgets when it is.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postrider::bench::report::Report;
use postrider::bench::scenario::{Mixed, Offline, Rate, Scenario};
use postrider::bench::servers::{Chaos, Choice};
use postrider::bench::{self, Options};
use postrider::clock::Clock;

use super::spread::own;
use super::{ms, options};

async fn killed(directory: &tempfile::TempDir, executable: PathBuf, scenario: Scenario) -> Report {
    let Choice::Own { place, config, .. } = own(directory) else { panic!("a server of our own") };
    let server = Choice::Own { place, config, chaos: Some(Chaos { every: ms(700) }) };
    let options = Options { executable, ..options(server, scenario) };
    let mut report = bench::run(options, Clock::system(), Arc::default()).await.unwrap();
    report.judge(&[]);
    report
}

fn server() -> PathBuf {
    env!("CARGO_BIN_EXE_postrider").into()
}

/// Some seconds of messages.
fn steady() -> Scenario {
    Scenario::Rate(Rate { pairs: 5, rate: 200.0, size: 40, warmup: ms(0), duration: ms(4000) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_again_and_again_loses_nothing_it_acked() {
    let directory = tempfile::tempdir().unwrap();
    let report = killed(&directory, server(), steady()).await;
    assert!(report.kills.unwrap() > 0 && report.returns.unwrap() >= 10, "{report:?}");
    assert!(report.failures.is_empty() && report.audit.sent >= 100, "{report:?}");
    assert_eq!((report.audit.received, report.audit.delivered), (report.audit.sent, report.audit.sent));
    let mixed = Mixed { users: 12, messages: 10, comings: 3, contacts: 2, size: 40, duration: ms(3000) };
    let report = killed(&directory, server(), Scenario::Mixed(mixed)).await;
    assert!(report.kills.unwrap() > 0 && report.failures.is_empty(), "{report:?}");
    let sent = report.audit.sent;
    assert_eq!((report.audit.received, report.audit.read), (sent, sent));
    assert_eq!(sent + report.unsent.unwrap_or_default(), 120);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_for_the_absent_survives_being_killed() {
    let directory = tempfile::tempdir().unwrap();
    let offline = Offline { pairs: 4, window: 1, messages: 3000, size: 40, leave: false };
    let report = killed(&directory, server(), Scenario::Offline(offline)).await;
    assert!(report.failures.is_empty(), "{report:?}");
    assert_eq!((report.audit.acked, report.audit.received), (3000, 3000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgets_when_it_is_killed_is_found_out() {
    let directory = tempfile::tempdir().unwrap();
    let report = killed(&directory, forgetful(directory.path()), steady()).await;
    assert!(report.kills.unwrap() > 0, "{report:?}");
    // Whether a message was under way when it was killed is chance; that it does not know its devices any more is not.
    let faults = report.audit.lost + report.audit.unanswered + report.audit.disconnected;
    assert!(faults > 0 && !report.failures.is_empty(), "{report:?}");
}

/// A server that keeps its certificate and nothing else from one start to the next.
fn forgetful(directory: &Path) -> PathBuf {
    let path = directory.join("forgetful");
    let script = format!(
        "#!/bin/sh\nfor each in data/*; do [ \"$each\" = data/tls ] || rm -rf \"$each\"; done\nexec {} \"$@\"\n",
        server().display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path
}
