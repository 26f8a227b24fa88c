//! What is durable before what: seen through a state store that commits when the test lets it.

use std::sync::mpsc;
use std::time::Duration;

use postrider_client::{
    Change, Client, Error, Event, MemoryState, QueuedSend, Saved, SendError, StateError, StateStore, To, content,
};
use postrider_protocol::wire::client_frame::Body;

use crate::support::{CONVERSATION, FakeServer, Peer, message, next, next_message, patiently, welcome};

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
    // The owner, and what Welcome says of the device.
    gated_after(2, MemoryState::new())
}

fn gated_after(commits: usize, memory: MemoryState) -> (Gated, mpsc::Sender<bool>) {
    let (gate, allowed) = mpsc::channel();
    for _ in 0..commits {
        gate.send(true).expect("open");
    }
    (Gated { memory, allowed }, gate)
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

/// SPEC.md, 5.2: `device_id`, before anything is sent.
#[tokio::test]
async fn nothing_follows_a_login_before_the_device_id_that_it_gave_is_durable_here() {
    let server = FakeServer::start().await;
    // Our stores forget a device with what it had to send; an application's own may keep that.
    let mut memory = MemoryState::new();
    let queued = QueuedSend { send_id: 1, to: To::user("bob"), content: content::text("kept") };
    memory.commit(&[Change::Queued(queued)]).expect("in memory");
    let (state, gate) = gated_after(1, memory);
    let (connected, (mut peer, _)) = tokio::join!(Client::connect(server.options(), state), server.welcome(welcome()));
    let (client, _events) = connected.expect("connected");
    client.read(CONVERSATION, 1).await.expect("open");
    let linking = client.clone();
    let link = tokio::spawn(async move { linking.link_device().await });
    assert!(is_silent(&mut peer).await);
    drop(peer);
    assert!(patiently(link).await.expect("ran").is_err());

    // Another login changes nothing about what is durable.
    let (mut peer, hello) = server.welcome(welcome()).await;
    assert_eq!(hello.device_id, 5, "known, though not durable");
    assert!(is_silent(&mut peer).await);
    gate.send(true).expect("open");
    assert!(matches!(peer.body().await, Body::Read(_)));
    assert_eq!(peer.send().await.send_id, 1);
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
