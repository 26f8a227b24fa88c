//! Planted faults: each is in an otherwise right server, and a check of the requirement it breaks must say so.

use std::collections::BTreeSet;
use std::time::Duration;

use postrider::clock::Clock;
use postrider::conformance::report::Outcome;
use postrider::conformance::requirement::Only;
use postrider::conformance::server::{self, Options};
use postrider_protocol::wire::server_frame::Body;
use postrider_protocol::wire::{self, ClientFrame, ServerFrame, client_frame, deliver};

use super::{a_server, options};
use crate::support::{Meddler, Meddling, Target};

type ToClient = fn(Body, &mut State) -> Vec<Body>;
type ToServer = fn(ClientFrame, &mut State) -> Vec<ClientFrame>;

/// What a fault may need to remember of its connection.
#[derive(Default)]
struct State {
    count: u64,
    position: u64,
    held: Vec<Body>,
}

struct Planted {
    state: State,
    to_client: ToClient,
    to_server: ToServer,
}

impl Meddling for Planted {
    fn to_server(&mut self, frame: ClientFrame) -> Vec<ClientFrame> {
        (self.to_server)(frame, &mut self.state)
    }

    fn to_client(&mut self, frame: ServerFrame) -> Vec<ServerFrame> {
        let Some(body) = frame.body else { return vec![frame] };
        (self.to_client)(body, &mut self.state).into_iter().map(|body| ServerFrame { body: Some(body) }).collect()
    }
}

/// The requirements that were found broken, behind a server with this fault.
async fn broken_by(to_client: ToClient, to_server: ToServer, only: Only) -> BTreeSet<&'static str> {
    let server = &a_server().await;
    let planted = move || Planted { state: State::default(), to_client, to_server };
    let tls = server.ca().parent().unwrap().to_owned();
    let meddler = Meddler::start(server.address(), &tls, planted).await;
    let options = Options {
        patience: Duration::from_secs(3),
        longest_wait: Duration::from_secs(1),
        only,
        ..options(meddler.address(), server.ca())
    };
    let report = server::run(options, Clock::system(), &|_| {}).await.unwrap();
    let broken = report.findings.iter().filter(|finding| matches!(finding.outcome, Outcome::Broken(_)));
    broken.flat_map(|finding| finding.requirements.iter().copied()).collect()
}

fn as_it_is(body: Body, _: &mut State) -> Vec<Body> {
    vec![body]
}

fn as_said(frame: ClientFrame, _: &mut State) -> Vec<ClientFrame> {
    vec![frame]
}

/// The faults, a test each: what is wrong, the requirements that must be found broken, and how.
macro_rules! a_server_that {
    ($($name:ident breaks [$($id:literal),+] by $to_client:expr, $to_server:expr;)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let only = Only::of([$($id.to_owned()),+]);
            let broken = broken_by($to_client, $to_server, only).await;
            for id in [$($id),+] {
                assert!(broken.contains(id), "{id} is not among {broken:?}");
            }
        }
    )+};
}

a_server_that! {
    answers_pings_with_another_token_is_found breaks ["CONN-3"] by
        |body, _| vec![match body {
            Body::Pong(wire::Pong { token }) => Body::Pong(wire::Pong { token: token.wrapping_add(1) }),
            body => body,
        }], as_said;
    delivers_everything_twice_is_found breaks ["DLVR-1"] by
        |body, _| match body {
            Body::Deliver(_) => vec![body.clone(), body],
            body => vec![body],
        }, as_said;
    swaps_two_messages_is_found breaks ["DLVR-1", "DLVR-8"] by swapped, as_said;
    changes_a_byte_of_what_is_sent_is_found breaks ["DLVR-9", "CONTENT-1"] by
        |body, _| vec![match body {
            Body::Deliver(wire::Deliver { position, entry: Some(deliver::Entry::Message(mut message)) }) => {
                message.content = message.content.iter().map(|byte| byte ^ u8::from(*byte == 0xff)).collect();
                Body::Deliver(wire::Deliver { position, entry: Some(deliver::Entry::Message(message)) })
            }
            body => body,
        }], as_said;
    says_delivered_as_soon_as_it_has_the_message_is_found breaks ["RCPT-3"] by too_eager, as_said;
    never_says_caught_up_is_found breaks ["SYNC-3"] by
        |body, _| if matches!(body, Body::CaughtUp(_)) { Vec::new() } else { vec![body] }, as_said;
    repeats_caught_up_is_found breaks ["SYNC-3"] by
        |body, _| if matches!(body, Body::CaughtUp(_)) { vec![body.clone(), body] } else { vec![body] }, as_said;
    counts_the_same_send_again_is_found breaks ["SEND-4"] by as_it_is, numbered_anew;
    forgets_who_may_send_to_a_conversation_is_found breaks ["SEND-11"] by
        |body, _| vec![match body {
            Body::Refused(wire::Refused { send_id, error: Some(error) }) if error.code == 300 => {
                Body::Ack(wire::Ack { send_id, conversation: 1, seq: 1, time: 1 })
            }
            body => body,
        }], as_said;
    names_errors_wrongly_is_found breaks ["ERR-1", "FRAME-2"] by
        |body, _| vec![match body {
            Body::Error(error) => Body::Error(wire::Error { retry: !error.retry, ..error }),
            body => body,
        }], as_said;
    ignores_confirmations_is_found breaks ["DLVR-4", "RCPT-3", "SYNC-1"] by as_it_is,
        |frame, _| if frame.body.is_none() { Vec::new() } else { vec![ClientFrame { received: 0, ..frame }] };
    streams_past_the_window_is_found breaks ["DLVR-6"] by as_it_is,
        |mut frame, _| {
            if let Some(client_frame::Body::Hello(hello)) = &mut frame.body {
                hello.window = 0;
            }
            vec![frame]
        };
    ignores_the_cursor_of_hello_is_found breaks ["LOGIN-16"] by as_it_is,
        |mut frame, _| {
            if let Some(client_frame::Body::Hello(hello)) = &mut frame.body {
                hello.cursor = 0;
            }
            vec![frame]
        };
    takes_any_device_number_is_found breaks ["LOGIN-14"] by as_it_is,
        |mut frame, _| {
            if let Some(client_frame::Body::Hello(hello)) = &mut frame.body {
                hello.device_id = 0;
            }
            vec![frame]
        };
    folds_names_to_lower_case_is_found breaks ["NAME-2"] by as_it_is,
        |mut frame, _| {
            if let Some(client_frame::Body::Hello(hello)) = &mut frame.body {
                hello.user = hello.user.to_lowercase();
            }
            if let Some(client_frame::Body::Send(wire::Send { to: Some(wire::send::To::User(name)), .. })) =
                &mut frame.body
            {
                *name = name.to_lowercase();
            }
            vec![frame]
        };
    promises_larger_frames_than_anybody_may_is_found breaks ["LIMIT-1"] by
        |body, _| vec![match body {
            Body::Welcome(welcome) => Body::Welcome(wire::Welcome { max_frame_bytes: 2 << 20, ..welcome }),
            body => body,
        }], as_said;
    answers_in_another_order_is_found breaks ["SEND-2"] by
        |body, state| match body {
            Body::Ack(_) | Body::Refused(_) if state.held.is_empty() => {
                state.held.push(body);
                Vec::new()
            }
            Body::Ack(_) | Body::Refused(_) => vec![body, state.held.remove(0)],
            body => vec![body],
        }, as_said;
    loses_reads_is_found breaks ["RCPT-1"] by as_it_is,
        |frame, _| if matches!(frame.body, Some(client_frame::Body::Read(_))) { Vec::new() } else { vec![frame] };
    leaves_without_goodbye_is_found breaks ["CONN-6"] by
        |body, _| if matches!(body, Body::Goodbye(_)) { Vec::new() } else { vec![body] }, as_said;
    asks_keys_with_the_same_nonce_is_found breaks ["LOGIN-5"] by
        |body, _| vec![match body {
            Body::Challenge(_) => Body::Challenge(wire::Challenge { nonce: vec![7; 32].into() }),
            body => body,
        }], as_said;
    tells_receipts_before_acks_is_found breaks ["SEND-5"] by
        |body, state| match body {
            Body::Ack(_) => {
                state.held.push(body);
                Vec::new()
            }
            Body::Deliver(_) => {
                let mut out = vec![body];
                out.append(&mut state.held);
                out
            }
            body => vec![body],
        }, as_said;
}

fn swapped(body: Body, state: &mut State) -> Vec<Body> {
    match body {
        Body::Deliver(_) if state.held.is_empty() => {
            state.held.push(body);
            Vec::new()
        }
        Body::Deliver(_) => vec![body, state.held.remove(0)],
        body => vec![body],
    }
}

/// `delivered` right behind each `Ack`, at positions that nobody uses.
fn too_eager(body: Body, state: &mut State) -> Vec<Body> {
    match body {
        Body::Welcome(ref welcome) => {
            state.position = welcome.head + 1_000;
            vec![body]
        }
        Body::Ack(ack) => {
            state.position += 1;
            let receipt = wire::Receipt { conversation: ack.conversation, user: "bob".into(), seq: ack.seq };
            let entry = Some(deliver::Entry::Delivered(receipt));
            vec![body, Body::Deliver(wire::Deliver { position: state.position, entry })]
        }
        body => vec![body],
    }
}

/// Every send under an id of its own, as by a server that does not know that it has seen one before.
fn numbered_anew(mut frame: ClientFrame, state: &mut State) -> Vec<ClientFrame> {
    if let Some(client_frame::Body::Send(send)) = &mut frame.body {
        state.count += 1;
        send.send_id = state.count;
    }
    vec![frame]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_server_behind_the_proxy_breaks_nothing_but_what_needs_the_same_tls_connection() {
    let only = ["FRAME", "SEND-4", "LOGIN-6", "CONN-3"].map(str::to_owned);
    let broken = broken_by(as_it_is, as_said, Only::of(only)).await;
    // Proofs are tied to the TLS connection, which ends at the proxy.
    let tied: BTreeSet<_> = ["LOGIN-6", "LOGIN-8", "LOGIN-9", "LOGIN-10", "LOGIN-11"].into();
    assert!(broken.is_subset(&tied) && broken.contains("LOGIN-6"), "{broken:?}");
}
