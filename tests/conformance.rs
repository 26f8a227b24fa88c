//! The specification's checks: our server and our client keep them all, and planted faults are found out.

mod clients;
mod command;
mod faults;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use postrider::clock::Clock;
use postrider::config::LoginMethod;
use postrider::conformance::report::{Outcome, Report};
use postrider::conformance::requirement::Only;
use postrider::conformance::server::{self, Options};

use crate::support::{Target, TestServer};

/// A server of the kind that the checks can see most of: both logins, and timeouts that can be waited for, but that no
/// busy machine runs into.
async fn a_server() -> TestServer {
    TestServer::start_with(|config| {
        config.app[0].login = vec![LoginMethod::Open, LoginMethod::DeviceKey];
        config.listen.login_timeout_ms = 6_000;
        config.listen.idle_timeout_ms = 6_000;
    })
    .await
}

fn options(address: SocketAddr, ca: PathBuf) -> Options {
    Options {
        server: address.to_string(),
        ca,
        app: "dev".into(),
        code: None,
        patience: Duration::from_secs(10),
        longest_wait: Duration::from_secs(10),
        only: Only::default(),
    }
}

/// Everything that did not go well, as lines.
fn complaints(report: &Report) -> Vec<String> {
    let wrong = report.findings.iter().filter(|finding| !matches!(finding.outcome, Outcome::Kept { .. }));
    wrong.map(|finding| format!("{}: {:?}", finding.name, finding.outcome)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_server_keeps_every_requirement_that_is_checked() {
    let server = a_server().await;
    let report = server::run(options(server.address(), server.ca()), Clock::system(), &|_| {}).await.unwrap();
    assert!(complaints(&report).is_empty(), "{}", complaints(&report).join("\n"));
    assert!(report.is_clean() && report.counts.kept >= 50, "{:?}", report.counts);
    assert!(report.name.starts_with("postrider/"), "{}", report.name);
}
