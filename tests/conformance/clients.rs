//! The strict server, our client, and clients with a planted fault.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postrider::clock::Clock;
use postrider::conformance::client::{CODE, Host, Options};
use postrider::conformance::report::{Outcome, Report};
use postrider::conformance::requirement::Only;
use postrider_client::{Client, Event, Login, To, Trust};
use postrider_protocol::wire::{self, ClientFrame, ServerFrame, client_frame, server_frame};
use tokio::task::JoinHandle;

use crate::support::{Meddler, Meddling, open_state};

/// A strict server, and where its things are.
async fn a_host(only: &[&str]) -> (Host, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        listen: "127.0.0.1:0".into(),
        directory: directory.path().join("tls"),
        app: "dev".into(),
        patience: Duration::from_secs(if only.is_empty() { 30 } else { 12 }),
        only: Only::of(only.iter().map(|word| (*word).to_owned())),
    };
    (Host::bind(options, Clock::system()).await.unwrap(), directory)
}

/// Our client as an echo bot, started again with its state whenever it ends.
fn an_echo_bot(address: SocketAddr, ca: PathBuf, state: PathBuf, login: Login) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let options = postrider_client::Options::new(address.to_string(), "dev", "tester")
                .device("bot")
                .trust(Trust::CaFile(ca.clone()))
                .login(login.clone())
                .retry_first(true);
            if let Ok((client, mut events)) = Client::connect(options, open_state(&state).await).await {
                while let Some(event) = events.next().await {
                    match event {
                        Event::Message(message) if message.sender != "tester" => {
                            client.read(message.conversation, message.seq).await.unwrap();
                            if message.seq == 1 {
                                drop(client.link_device().await);
                            }
                            if message.content.len() < 1000 {
                                let to = To::conversation(message.conversation);
                                drop(client.send(to, message.content.clone()).await);
                            }
                        }
                        // REPLACED is for good.
                        Event::Stopped(error) if error.to_string().contains("REPLACED") => return,
                        Event::Stopped(_) => break,
                        _ => {}
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
}

fn outcome<'r>(report: &'r Report, id: &str) -> &'r Outcome {
    &report.findings.iter().find(|finding| finding.requirements == [id]).unwrap().outcome
}

/// What did not go well, but for what the wire does not show.
fn complaints(report: &Report) -> Vec<String> {
    let is_fine = |outcome: &Outcome| match outcome {
        Outcome::Kept { .. } => true,
        Outcome::Skipped { reason } => reason.starts_with("the wire does not show"),
        Outcome::Broken(_) | Outcome::Advice(_) => false,
    };
    let wrong = report.findings.iter().filter(|finding| !is_fine(&finding.outcome));
    wrong.map(|finding| format!("{}: {:?}", finding.requirements[0], finding.outcome)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_with_a_key_keeps_every_requirement_that_a_strict_server_can_see() {
    let (host, directory) = a_host(&[]).await;
    let login = Login::Enroll { code: CODE.into() };
    let bot = an_echo_bot(host.address(), host.ca().to_owned(), directory.path().join("state"), login);
    let report = host.judge(&|news| println!("{news}")).await.unwrap();
    bot.abort();
    let complaints = complaints(&report);
    // It is not told to leave, and REPLACED ends it: the test below sees its goodbye.
    assert!(complaints.iter().all(|complaint| complaint.starts_with("CONN-6: Skipped")), "{}", complaints.join("\n"));
    assert!(report.name.starts_with("postrider-client/"), "{}", report.name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strict_server_says_what_it_could_not_see_of_a_client_that_only_listens_and_leaves() {
    let (host, directory) = a_host(&["VER", "SEND", "CONN-6", "LOGIN-6"]).await;
    let options = postrider_client::Options::new(host.address().to_string(), "dev", "tester")
        .trust(Trust::CaFile(host.ca().to_owned()));
    let state = open_state(&directory.path().join("state")).await;
    let listener = tokio::spawn(async move {
        let (client, mut events) = Client::connect(options, state).await.unwrap();
        while !matches!(events.next().await, Some(Event::Message(message)) if message.text().is_some_and(|text| text.starts_with('[')))
        {
        }
        client.close().await.unwrap();
    });
    let report = host.judge(&|_| {}).await.unwrap();
    listener.await.unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    assert!(matches!(outcome(&report, "CONN-6"), Outcome::Kept { .. }));
    assert!(matches!(outcome(&report, "VER-3"), Outcome::Kept { .. }));
    assert!(
        matches!(outcome(&report, "SEND-9"), Outcome::Skipped { reason } if reason.contains("answer each message"))
    );
    assert!(matches!(outcome(&report, "LOGIN-6"), Outcome::Skipped { reason } if reason.contains("enrol")));
    assert!(report.findings.iter().all(|finding| finding.requirements != ["TLS-1"]), "only what was asked for");
}

#[tokio::test]
async fn a_strict_server_to_which_nobody_comes_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        listen: "127.0.0.1:0".into(),
        directory: directory.path().to_owned(),
        app: "dev".into(),
        patience: Duration::from_millis(200),
        only: Only::default(),
    };
    let error = Host::bind(options, Clock::system()).await.unwrap().judge(&|_| {}).await.unwrap_err();
    assert!(error.to_string().contains("no client connected"), "{error}");
}

type ToServer = fn(ClientFrame, &mut State) -> Vec<ClientFrame>;
type ToClient = fn(ServerFrame, &mut State) -> Vec<ServerFrame>;

#[derive(Default)]
struct State {
    count: u64,
    highest: u64,
    kept: Vec<ClientFrame>,
}

struct Planted {
    state: State,
    to_server: ToServer,
    to_client: ToClient,
}

impl Meddling for Planted {
    fn to_server(&mut self, frame: ClientFrame) -> Vec<ClientFrame> {
        (self.to_server)(frame, &mut self.state)
    }

    fn to_client(&mut self, frame: ServerFrame) -> Vec<ServerFrame> {
        (self.to_client)(frame, &mut self.state)
    }
}

/// What a strict server finds broken, or not as advised, of our client when a fault is planted between the two.
async fn wrong_with(only: &[&str], to_server: ToServer, to_client: ToClient) -> BTreeSet<&'static str> {
    let (host, directory) = a_host(only).await;
    let tls: &Path = host.ca().parent().unwrap();
    let planted = move || Planted { state: State::default(), to_server, to_client };
    let meddler = Meddler::start(host.address(), tls, planted).await;
    let bot = an_echo_bot(meddler.address(), host.ca().to_owned(), directory.path().join("state"), Login::Open);
    let report = host.judge(&|news| println!("{news}")).await.unwrap();
    bot.abort();
    let wrong = |outcome: &Outcome| matches!(outcome, Outcome::Broken(_) | Outcome::Advice(_));
    report.findings.iter().filter(|finding| wrong(&finding.outcome)).map(|finding| finding.requirements[0]).collect()
}

fn as_said(frame: ClientFrame, _: &mut State) -> Vec<ClientFrame> {
    vec![frame]
}

fn as_it_is(frame: ServerFrame, _: &mut State) -> Vec<ServerFrame> {
    vec![frame]
}

macro_rules! a_client_that {
    ($($name:ident breaks [$($id:literal),+] by $to_server:expr, $to_client:expr;)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let wrong = wrong_with(&[$($id),+], $to_server, $to_client).await;
            for id in [$($id),+] {
                assert!(wrong.contains(id), "{id} is not among {wrong:?}");
            }
        }
    )+};
}

a_client_that! {
    confirms_what_was_not_delivered_is_found breaks ["DLVR-5"] by
        |frame, _| vec![ClientFrame { received: if frame.received > 0 { frame.received + 10 } else { 0 }, ..frame }],
        as_it_is;
    never_confirms_is_found breaks ["DLVR-10"] by
        |frame, _| if frame.body.is_none() { Vec::new() } else { vec![ClientFrame { received: 0, ..frame }] },
        as_it_is;
    leaves_a_send_id_out_is_found breaks ["SEND-1"] by
        |mut frame, _| {
            if let Some(client_frame::Body::Send(send)) = &mut frame.body {
                send.send_id *= 2;
            }
            vec![frame]
        },
        as_it_is;
    gives_a_message_another_id_when_it_sends_it_again_is_found breaks ["SEND-9"] by
        |mut frame, state| {
            if let Some(client_frame::Body::Send(send)) = &mut frame.body {
                state.count += 1;
                send.send_id = state.highest + state.count;
            }
            vec![frame]
        },
        |frame, state| {
            // It counts on from what the server says and does not know that it has said it before.
            if let Some(server_frame::Body::Welcome(welcome)) = &frame.body {
                state.highest = welcome.highest_send_id;
            }
            vec![frame]
        };
    reads_before_it_confirms_is_found breaks ["RCPT-6"] by
        |frame, state| match frame {
            ClientFrame { body: Some(client_frame::Body::Read(_)), .. } => {
                // The confirmation that waited for it goes behind it.
                let mut out = vec![ClientFrame { received: 0, ..frame }];
                out.append(&mut state.kept);
                out
            }
            ClientFrame { body: None, .. } => {
                state.kept.push(frame);
                Vec::new()
            }
            frame => vec![ClientFrame { received: 0, ..frame }],
        },
        as_it_is;
    never_pings_is_found breaks ["CONN-1"] by
        |frame, _| if matches!(frame.body, Some(client_frame::Body::Ping(_))) { Vec::new() } else { vec![frame] },
        as_it_is;
    speaks_another_version_is_found breaks ["VER-1"] by
        |mut frame, state| {
            if let Some(client_frame::Body::Hello(hello)) = &mut frame.body
                && state.count == 0
            {
                state.count = 1;
                hello.version = 2;
            }
            vec![frame]
        },
        as_it_is;
    forgets_its_number_is_found breaks ["LOGIN-12"] by
        |mut frame, _| {
            if let Some(client_frame::Body::Hello(hello)) = &mut frame.body {
                hello.device_id = 0;
            }
            vec![frame]
        },
        as_it_is;
    claims_a_higher_cursor_is_found breaks ["LOGIN-16"] by
        |mut frame, _| {
            if let Some(client_frame::Body::Hello(hello)) = &mut frame.body {
                hello.cursor += 1_000;
            }
            vec![frame]
        },
        as_it_is;
    talks_while_it_waits_for_welcome_is_found breaks ["LOGIN-18"] by
        |frame, _| {
            let ping = ClientFrame { received: 0, body: Some(client_frame::Body::Ping(wire::Ping { token: 1 })) };
            if matches!(frame.body, Some(client_frame::Body::Hello(_))) { vec![frame, ping] } else { vec![frame] }
        },
        as_it_is;
    does_not_look_at_the_window_is_found breaks ["SEND-6"] by as_said,
        |mut frame, _| {
            if let Some(server_frame::Body::Welcome(welcome)) = &mut frame.body {
                welcome.send_window = 256;
            }
            vec![frame]
        };
    comes_back_at_once_is_found breaks ["CONN-8"] by as_said,
        |mut frame, _| {
            if let Some(server_frame::Body::Error(error)) = &mut frame.body {
                error.retry_after_ms = 0;
            }
            vec![frame]
        };
    comes_back_after_replaced_is_found breaks ["CONN-4"] by as_said,
        |mut frame, _| {
            if let Some(server_frame::Body::Error(error)) = &mut frame.body {
                error.code = 109;
                error.retry = true;
            }
            vec![frame]
        };
}
