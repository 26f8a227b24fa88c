//! Scenarios in which people come and go.

use postrider::bench::scenario::{Mixed, Reconnect, Scenario, Soak};

use super::{all_well, ms, run};
use crate::support::TestServer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_reconnects_brings_everybody_back_and_loses_nothing_that_was_on_its_way() {
    let server = TestServer::start().await;
    let storm = Reconnect { connections: 60, bystanders: 3, rate: 5.0, size: 40, calm: ms(300) };
    let report = run(&server, Scenario::Reconnect(storm)).await;
    assert!(report.storm_full_s.unwrap() > 0.0 && report.storm_resumed_s.unwrap() > 0.0);
    assert_eq!(report.resumed, Some(60), "in the second storm, each with a ticket of its own");
    assert!(report.latency_ms.is_some() && report.storm_full_login_ms.is_some());
    // The few of the bystanders, and two of each of the 30 pairs that dropped.
    assert!(report.audit.sent >= 60, "{:?}", report.audit);
    assert_eq!((report.audit, report.connections), (all_well(report.audit.sent), 66));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_day_everybody_sends_all_they_have_to_say_comes_and_goes_and_all_is_read() {
    let server = TestServer::start().await;
    let mixed = Mixed { users: 20, messages: 10, comings: 3, contacts: 3, size: 40, duration: ms(3000) };
    let report = run(&server, Scenario::Mixed(mixed)).await;
    let sent = report.audit.sent;
    assert_eq!(report.audit, postrider::bench::audit::Audit { read: sent, ..all_well(sent) });
    // A machine so busy that the day is over before all are connected leaves some unsaid, and says so.
    assert_eq!(sent + report.unsent.unwrap_or_default(), 200);
    assert!(sent > 0 && report.returns.unwrap() >= 10, "{report:?}");
    assert!(report.spike_latency_ms.is_some() && report.latency_ms.is_some() && report.connect_ms.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_soak_tells_its_beginning_from_its_end() {
    let server = TestServer::start().await;
    let report = run(&server, Scenario::Soak(Soak { pairs: 3, rate: 100.0, size: 40, duration: ms(1500) })).await;
    assert!(report.first_latency_ms.is_some() && report.last_latency_ms.is_some());
    let sent = report.audit.sent;
    let due = sent + report.unsent.unwrap_or_default();
    assert!((150..400).contains(&due), "{due}");
    assert_eq!(report.audit, postrider::bench::audit::Audit { read: sent, ..all_well(sent) });
}
