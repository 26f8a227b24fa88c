//! Guessing: how often, and what the time it takes gives away (LOGIN-4, LOGIN-21).

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use postrider_protocol::error::ErrorCode;
use postrider_protocol::wire::{self, client_frame, server_frame::Body};
use tokio::net::TcpSocket;

use super::logins::{APPS, Challenged, code, enroll, key, with_code, with_key};
use super::{Siege, scaled};
use crate::support::{Raw, ServerProcess, Target};

const NO_BOUNDS: &str = "[limits]\nfailed_logins = 0\nfailed_logins_per_address = 0\n";

/// Attempts at once.
const AT_ONCE: usize = 10;

/// So that one guess does not wait for another.
const BETWEEN_GUESSES: Duration = Duration::from_millis(5);

/// From an address of this machine.
async fn connect_from(server: &ServerProcess, host: u8) -> Raw {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0))).unwrap();
    Raw::over(socket.connect(server.address()).await.unwrap(), Raw::tls(server)).await.unwrap()
}

/// What an attempt with the wrong key got.
async fn wrong_key_from(server: &ServerProcess, host: u8, user: &str) -> wire::Error {
    let mut raw = connect_from(server, host).await;
    raw.say(client_frame::Body::Hello(with_key("keys", user, "laptop"))).await;
    let mut answer = raw.next().await;
    if let Body::Challenge(_) = answer {
        raw.say(client_frame::Body::Proof(wire::Proof { signature: Bytes::from_static(&[7; 64]) })).await;
        answer = raw.next().await;
    }
    match answer {
        Body::Error(error) => {
            assert_eq!(raw.try_next().await, None);
            error
        }
        other => panic!("{other:?}"),
    }
}

/// How many of so many attempts were looked at; the others were told to wait.
async fn looked_at(server: &ServerProcess, host: u8, attempts: usize, user: impl Fn(usize) -> String) -> u32 {
    let attempts = stream::iter(0..attempts).map(|index| {
        let user = user(index);
        async move { wrong_key_from(server, host, &user).await }
    });
    let mut looked_at = 0;
    let mut attempts = attempts.buffer_unordered(AT_ONCE);
    while let Some(error) = attempts.next().await {
        if error.name == ErrorCode::LoginFailed.name() {
            looked_at += 1;
        } else {
            assert_eq!(error.name, ErrorCode::TooManyAttempts.name());
            assert!(error.retry && error.retry_after_ms > 0, "{error:?}");
        }
    }
    looked_at
}

/// LOGIN-21
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_login_attempts_are_limited_by_address_and_honest_users_get_in_meanwhile() {
    let siege = Siege::begin(&format!("{APPS}[limits]\nfailed_logins = 4\nfailed_logins_per_address = 60\n")).await;
    let server = &siege.server;
    let alice = key(1);
    enroll(server, "keys", "alice", "laptop", &alice).await;
    let start = Instant::now();
    let attempts = scaled(300, 10_000);
    let by_minute = |bound: f64| bound * (1.0 + start.elapsed().as_secs_f64() / 60.0) + 2.0 * AT_ONCE as f64;

    let tried = looked_at(server, 2, attempts, |_| "alice".into()).await;
    println!("{tried} of {attempts} attempts for one user were looked at");
    assert!(f64::from(tried) <= by_minute(4.0), "{tried}");
    // Whatever the thief has by now: with a quarter of a minute for each attempt, the next one is not looked at.
    let mut raw = connect_from(server, 2).await;
    raw.say(client_frame::Body::Hello(with_key("keys", "alice", "laptop"))).await;
    raw.closed_with(ErrorCode::TooManyAttempts).await;
    let tried = looked_at(server, 3, attempts, |index| format!("user {index}")).await;
    println!("{tried} of {attempts} attempts for as many users were looked at");
    assert!(f64::from(tried) <= by_minute(60.0), "{tried}");

    // She is let in from elsewhere, and others from where she is attacked.
    Challenged::new(server, with_key("keys", "alice", "laptop")).await.let_in(&alice).await;
    let bob = key(2);
    let bobs = code(server, "keys", "bob").await;
    let with_code = with_code("keys", "bob", "phone", &bobs, &bob);
    Challenged::on(connect_from(server, 2).await, with_code).await.let_in(&bob).await;
    siege.lift().await;
}

/// Who is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    UnknownUser,
    WrongKey,
    /// Of a user with many devices.
    WrongKeyAmongMany,
    WrongCode,
    WrongCodeOfNobody,
}

impl Asked {
    const ALL: [Asked; 5] =
        [Asked::UnknownUser, Asked::WrongKey, Asked::WrongKeyAmongMany, Asked::WrongCode, Asked::WrongCodeOfNobody];

    fn hello(self, round: usize) -> wire::Hello {
        let code = format!("PR-AAAAA-BBBBB-CCCCC-{round:05}");
        match self {
            Asked::UnknownUser => with_key("keys", &format!("nobody {round}"), "laptop"),
            Asked::WrongKey => with_key("keys", "alice", "laptop"),
            Asked::WrongKeyAmongMany => with_key("keys", "bob", "device 3"),
            Asked::WrongCode => with_code("keys", "alice", "new", &code, &key(7)),
            Asked::WrongCodeOfNobody => with_code("keys", &format!("nobody {round}"), "new", &code, &key(7)),
        }
    }
}

/// LOGIN-4. Ranks, not averages, are compared, so that a busy machine's outliers do not matter: of two attempts, one of each
/// kind, each is the slower one as often as the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_long_a_refusal_takes_does_not_tell_an_unknown_user_from_a_wrong_key() {
    let mut siege = Siege::begin(&format!("{APPS}{NO_BOUNDS}[listen]\nlogin_timeout_ms = 60000\n")).await;
    let server = &siege.server;
    enroll(server, "keys", "alice", "laptop", &key(1)).await;
    for index in 0..10 {
        enroll(server, "keys", "bob", &format!("device {index}"), &key(2)).await;
    }
    // All connections first, so that what is measured is answers and not handshakes.
    let rounds = scaled(100, 1_000);
    let challenged = stream::iter(0..rounds * Asked::ALL.len()).map(|index| async move {
        let asked = Asked::ALL[index % Asked::ALL.len()];
        (asked, Challenged::new(server, asked.hello(index)).await)
    });
    let challenged: Vec<_> = challenged.buffered(AT_ONCE).collect().await;
    let mut answers = Vec::new();
    for (asked, mut challenged) in challenged {
        let signature = challenged.proof(&key(8));
        answers.push(tokio::spawn(async move {
            let start = Instant::now();
            let answer = challenged.answer(&signature).await;
            let took = start.elapsed();
            assert!(matches!(answer, Body::Error(error) if error.name == ErrorCode::LoginFailed.name()));
            (asked, took)
        }));
        tokio::time::sleep(BETWEEN_GUESSES).await;
    }
    let taken: Vec<_> = futures_util::future::join_all(answers).await.into_iter().map(Result::unwrap).collect();
    // That so many connections cost little is another test's.
    siege.allow_for_the_allocator();
    // Longer than anything that is looked up or checked: what that took is not to be seen.
    assert!(taken.iter().all(|(_, took)| *took >= Duration::from_millis(245)), "told too soon");
    let of = |kind: Asked| taken.iter().filter(|(asked, _)| *asked == kind).map(|(_, took)| *took).collect::<Vec<_>>();
    let known = of(Asked::WrongKey);
    for kind in Asked::ALL {
        let times = of(kind);
        println!(
            "{kind:?}: usually {:?}, slower than a wrong key in {:.2} of all pairs",
            median(&times),
            slower(&times, &known)
        );
    }
    for (kind, other) in [
        (Asked::UnknownUser, Asked::WrongKey),
        (Asked::WrongKeyAmongMany, Asked::UnknownUser),
        (Asked::WrongCode, Asked::WrongCodeOfNobody),
    ] {
        // With 100 of each, chance strays from a half by 0.04 (one standard deviation).
        let share = slower(&of(kind), &of(other));
        assert!((0.34..=0.66).contains(&share), "{kind:?} is slower than {other:?} in {share:.2} of all pairs");
    }
    siege.lift().await;
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

/// In how many of all pairs the one is slower than the other: a half, if they are alike.
fn slower(one: &[Duration], other: &[Duration]) -> f64 {
    let wins: usize = one.iter().map(|time| other.iter().filter(|other| time > *other).count()).sum();
    wins as f64 / (one.len() * other.len()) as f64
}
