//! What is durable before what: seen through a state store that commits when the test lets it.

use std::sync::mpsc;
use std::time::Duration;

use postrider_client::{
    Change, Client, Error, Event, MemoryState, Saved, SendError, StateError, StateStore, To, content,
};

use crate::support::{FakeServer, Peer, message, next, next_message, patiently, welcome};

/// Commits only as often as it is allowed to, and fails when told to.
struct Gated {
    memory: MemoryState,
    allowed: mpsc::Receiver<bool>,
}

impl StateStore for Gated {
    fn load(&mut self) -> Result<Saved, StateError> {
        self.memory.load()
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StateError> {
        match self.allowed.recv() {
            Ok(true) => self.memory.commit(changes),
            _ => Err(StateError::Io { action: "write".into(), detail: "disk full".into() }),
        }
    }
}

fn gated() -> (Gated, mpsc::Sender<bool>) {
    let (gate, allowed) = mpsc::channel();
    // The owner, and what Welcome says of the device.
    for _ in 0..2 {
        gate.send(true).expect("open");
    }
    (Gated { memory: MemoryState::new(), allowed }, gate)
}

async fn is_silent(peer: &mut Peer) -> bool {
    tokio::time::timeout(Duration::from_millis(200), peer.hear()).await.is_err()
}

/// SEND-8.
#[tokio::test]
async fn a_message_goes_on_the_wire_only_when_it_is_durable_here() {
    let server = FakeServer::start().await;
    let (state, gate) = gated();
    let (connected, (mut peer, _)) = tokio::join!(Client::connect(server.options(), state), server.welcome(welcome()));
    let (client, _events) = connected.expect("connected");
    let sender = client.clone();
    let send = tokio::spawn(async move { sender.send(To::user("bob"), content::text("x")).await });
    assert!(is_silent(&mut peer).await && !send.is_finished());
    gate.send(true).expect("open");
    assert_eq!(peer.send().await.send_id, 1);
    assert_eq!(patiently(send).await.expect("ran").expect("queued").send_id(), 1);
    drop(gate);
}

/// DLVR-4.
#[tokio::test]
async fn a_position_is_confirmed_only_when_it_is_durable_here() {
    let server = FakeServer::start().await;
    let (state, gate) = gated();
    let (connected, (mut peer, _)) = tokio::join!(Client::connect(server.options(), state), server.welcome(welcome()));
    let (_client, mut events) = connected.expect("connected");
    for position in 1..=2 {
        peer.say(message(position, position)).await;
        assert_eq!(next_message(&mut events).await, (position, position));
    }
    assert!(is_silent(&mut peer).await);
    gate.send(true).expect("open");
    peer.confirmed(1).await;
    drop(gate);
}

#[tokio::test]
async fn a_state_that_cannot_be_written_stops_the_client_before_it_promises_anything() {
    let server = FakeServer::start().await;
    let (state, gate) = gated();
    let (connected, (mut peer, _)) = tokio::join!(Client::connect(server.options(), state), server.welcome(welcome()));
    let (client, mut events) = connected.expect("connected");
    gate.send(false).expect("open");
    assert!(matches!(client.send(To::user("bob"), content::text("x")).await, Err(SendError::Closed)));
    assert!(matches!(next(&mut events).await, Event::Stopped(Error::State(StateError::Io { .. }))));
    assert!(peer.hear().await.is_none(), "nothing was sent");
}
