//! Networks that break: cut connections and half-open ones, between clients of ours and a server that both go on.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::{Audit, Cast, Faults, Plan, Proxy, Target, TestServer, Verdict, open_state, seed};

/// Who takes part, by device, and whom each writes to.
type Roles<'a> = &'a [(&'a str, &'a str, &'a [&'a str])];

/// Everybody chats through a bad network until that many connections were cut and went silent; then it calms down, and
/// everything must have arrived, once, in order, with every receipt.
async fn chat_through(faults: Faults, roles: Roles<'_>, cut: u64, silenced: u64) {
    let seed = seed();
    let mut chance = StdRng::seed_from_u64(seed);
    let server = TestServer::start_with(|config| config.listen.idle_timeout_ms = 1_000).await;
    let proxy = Proxy::start(server.address(), faults, chance.random()).await;
    let states = tempfile::tempdir().unwrap();
    let audit = Audit::default();
    // Later devices begin where they were linked: all are there before the first word.
    for (user, device, _) in roles {
        let state = open_state(&states.path().join(format!("{user}-{device}"))).await;
        let (client, _) = postrider_client::Client::connect(server.options(user, device), state).await.unwrap();
        client.close().await.unwrap();
    }
    let mut cast = Cast::new(&audit);
    for (user, device, writes_to) in roles {
        let options = server.options_at(proxy.address(), user, device).connect_timeout(Duration::from_secs(1));
        let plan = Plan {
            options,
            state: states.path().join(format!("{user}-{device}")),
            writes_to: writes_to.iter().map(ToString::to_string).collect(),
            pace: Duration::from_millis(10),
            padding: 0,
            seed: chance.random(),
        };
        cast.enter(audit.witness(user, device), plan);
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while proxy.broken().0 < cut || proxy.broken().1 < silenced {
        assert!(Instant::now() < deadline, "not enough broke: {:?}", proxy.broken());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    proxy.calm();
    println!("cut and silenced: {:?}", proxy.broken());
    let verdict = tokio::task::spawn_blocking(|| cast.end()).await.unwrap();
    assert_eq!(verdict, Verdict::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_cost_nothing_but_time() {
    let faults = Faults { within_bytes: 60_000, half_open_percent: 0 };
    let roles: Roles<'_> =
        &[("alice", "laptop", &["bob", "carol"]), ("bob", "phone", &["alice"]), ("carol", "phone", &["bob"])];
    chat_through(faults, roles, 20, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_connections_are_noticed_and_cost_nothing_but_time() {
    let faults = Faults { within_bytes: 40_000, half_open_percent: 100 };
    let roles: Roles<'_> = &[("alice", "laptop", &["bob"]), ("bob", "phone", &["alice"])];
    chat_through(faults, roles, 0, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_device_of_a_user_stays_in_step_over_a_bad_network() {
    let faults = Faults { within_bytes: 60_000, half_open_percent: 20 };
    let roles: Roles<'_> = &[
        ("alice", "laptop", &["bob"]),
        ("alice", "phone", &["bob"]),
        ("bob", "phone", &["alice"]),
        ("bob", "tablet", &[]),
        ("bob", "desk", &["alice"]),
    ];
    chat_through(faults, roles, 16, 3).await;
}
