//! Many messages, a connection that keeps breaking, and state on disk.

use std::time::Instant;

use crate::support::{FakeServer, ack, patiently, welcome};
use postrider_client::{Client, FileState, To, content};
use postrider_protocol::wire::{self, Send, client_frame};

const MESSAGES: u64 = 20_000;

/// After this many frames the server hangs up, in the middle of everything.
const FRAMES_A_CONNECTION: usize = 6_000;

/// Takes messages by the rules of the spec, through one broken connection after the other.
async fn take_all(server: FakeServer) -> Vec<Send> {
    let mut taken: Vec<Send> = Vec::new();
    loop {
        let welcome = wire::Welcome { highest_send_id: taken.len() as u64, ..welcome() };
        let (mut peer, _) = server.welcome(welcome).await;
        for _ in 0..FRAMES_A_CONNECTION {
            let Some(frame) = peer.hear().await else { break };
            match frame.body {
                Some(client_frame::Body::Send(send)) => {
                    let send_id = send.send_id;
                    if send_id as usize <= taken.len() {
                        assert_eq!(taken[send_id as usize - 1], send, "the same id is the same message");
                    } else {
                        assert_eq!(send_id, taken.len() as u64 + 1, "no gap");
                        taken.push(send);
                    }
                    peer.say(ack(send_id)).await;
                }
                Some(client_frame::Body::Goodbye(_)) => return taken,
                _ => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_arrives_once_and_in_order_through_broken_connections() {
    let server = FakeServer::start().await;
    let options = server.options();
    let taken = tokio::spawn(take_all(server));
    let dir = tempfile::tempdir().expect("dir");
    let state = FileState::open(dir.path()).expect("state");
    let (client, _events) = Client::connect(options, state).await.expect("connected");
    let started = Instant::now();
    for number in 1..=MESSAGES {
        let sending = client.submit(To::user("bob"), content::text(number.to_string())).await.expect("queued");
        assert_eq!(sending.send_id(), number);
    }
    patiently(client.flushed()).await.expect("all answered");
    println!("{:.0} messages/s", MESSAGES as f64 / started.elapsed().as_secs_f64());
    patiently(client.close()).await.expect("nothing left");
    let taken = patiently(taken).await.expect("the server saw no broken rule");
    let wanted: Vec<_> = (1..=MESSAGES).map(|number| content::text(number.to_string())).collect();
    assert!(taken.into_iter().map(|send| send.content).eq(wanted));
}
