//! Clients that are logged in and claim what is not theirs: senders, devices, receipts, copies, other apps' numbers.

use bytes::{Bytes, BytesMut};
use postrider_protocol::error::ErrorCode;
use postrider_protocol::wire::{self, client_frame, deliver, send, server_frame::Body};
use prost::Message;

use super::Siege;
use crate::support::{Raw, ServerProcess};

const TWO_APPS: &str = "[[app]]\nname = \"dev\"\nlogin = [\"open\"]\n[[app]]\nname = \"other\"\nlogin = [\"open\"]\n";

async fn login_to(server: &ServerProcess, app: &str, user: &str, device: &str) -> Raw {
    let mut raw = Raw::connect(server).await;
    raw.say(client_frame::Body::Hello(wire::Hello { app: app.into(), ..Raw::hello(user, device) })).await;
    assert!(matches!(raw.next().await, Body::Welcome(_)));
    raw.backlog().await;
    raw
}

async fn login(server: &ServerProcess, user: &str, device: &str) -> Raw {
    login_to(server, "dev", user, device).await
}

async fn send_to_conversation(raw: &mut Raw, send_id: u64, conversation: u64) {
    let to = Some(send::To::Conversation(conversation));
    raw.say(client_frame::Body::Send(wire::Send { send_id, to, content: Bytes::from_static(b"forged") })).await;
}

/// Alice and bob talk, and mallory wants to. Gives their conversation and what was said in it.
async fn talk(alice: &mut Raw, bob: &mut Raw) -> (u64, u64) {
    alice.send("bob", "between us").await;
    let ack = alice.next_ack().await;
    let (position, message) = bob.next_message().await;
    bob.confirm(position).await;
    alice.next_delivered("bob").await;
    (message.conversation, ack.seq)
}

/// The server says who sent: fields that a client adds, of whatever number, change nothing (VER-2).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_cannot_be_forged() {
    let siege = Siege::begin("").await;
    let mut mallory = login(&siege.server, "mallory", "phone").await;
    let mut bob = login(&siege.server, "bob", "laptop").await;
    let send =
        wire::Send { send_id: 1, to: Some(send::To::User("bob".into())), content: Bytes::from_static(b"pay me") };
    let mut forged = send.encode_to_vec();
    // What a message that is delivered has: conversation, seq, sender, time, and whatever a later version may have.
    forged.extend(wire::Message { sender: "alice".into(), ..Default::default() }.encode_to_vec());
    for field in [5, 6, 7, 15, 100] {
        prost::encoding::string::encode(field, &"alice".to_owned(), &mut forged);
    }
    // `sender` is field 3 of a message and `conversation` of a send: as a string it is no conversation.
    let mut raw = login(&siege.server, "mallory", "tablet").await;
    raw.write_bytes(&as_body(4, &forged)).await;
    raw.closed_with(ErrorCode::BadFrame).await;

    let mut forged = send.encode_to_vec();
    for field in [5, 6, 7, 15, 100] {
        prost::encoding::string::encode(field, &"alice".to_owned(), &mut forged);
    }
    mallory.write_bytes(&as_body(4, &forged)).await;
    mallory.next_ack().await;
    let (_, message) = bob.next_message().await;
    assert_eq!((message.sender.as_str(), &message.content[..]), ("mallory", &b"pay me"[..]));
    siege.lift().await;
}

/// A frame whose body is field `number` with these bytes.
fn as_body(number: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut frame);
    prost::encoding::encode_varint(body.len() as u64, &mut frame);
    frame.extend_from_slice(body);
    [&u32::try_from(frame.len()).unwrap().to_be_bytes(), &frame[..]].concat()
}

/// What only a server says, said by a client: copies of what a user "sent", receipts, acks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_server_says_a_client_says_in_vain() {
    let siege = Siege::begin("").await;
    let mut bob = login(&siege.server, "bob", "laptop").await;
    let receipt = wire::Receipt { conversation: 1, user: "bob".into(), seq: 1 };
    let copy = wire::Message {
        conversation: 1,
        seq: 99,
        sender: "bob".into(),
        recipient: "alice".into(),
        ..Default::default()
    };
    let entries =
        [deliver::Entry::Message(copy), deliver::Entry::Delivered(receipt.clone()), deliver::Entry::Read(receipt)];
    let mut said: Vec<Body> =
        entries.map(|entry| Body::Deliver(wire::Deliver { position: 1, entry: Some(entry) })).into();
    said.push(Body::Ack(wire::Ack { send_id: 1, conversation: 1, seq: 1, time: 1 }));
    said.push(Body::Welcome(wire::Welcome { device_id: 1, ..Default::default() }));
    for (index, body) in said.into_iter().enumerate() {
        let mut mallory = login(&siege.server, &format!("mallory {index}"), "phone").await;
        let bytes = wire::ServerFrame { body: Some(body) }.encode_to_vec();
        mallory.write_bytes(&[&u32::try_from(bytes.len()).unwrap().to_be_bytes(), &bytes[..]].concat()).await;
        // To a server these are other frames, or none: told, or without effect.
        mallory.say(client_frame::Body::Ping(wire::Ping { token: 5 })).await;
        loop {
            match mallory.try_next().await {
                Some(Body::Pong(_)) | None => break,
                Some(Body::Error(_) | Body::Refused(_)) => {}
                Some(other) => panic!("{other:?}"),
            }
        }
    }
    bob.nothing_comes().await;
    siege.lift().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_of_others_is_neither_written_to_nor_read() {
    let siege = Siege::begin("").await;
    let mut alice = login(&siege.server, "alice", "laptop").await;
    let mut bob = login(&siege.server, "bob", "phone").await;
    let (conversation, seq) = talk(&mut alice, &mut bob).await;
    let mut mallory = login(&siege.server, "mallory", "phone").await;
    for (send_id, conversation) in [(1, conversation), (2, 0), (3, conversation + 1_000), (4, u64::MAX)] {
        send_to_conversation(&mut mallory, send_id, conversation).await;
        assert_eq!(mallory.next_refused().await, (send_id, ErrorCode::NotAccepted.number()), "SEND-11");
    }
    // Receipts for what others wrote to each other, and for what nobody wrote.
    for (index, conversation) in [conversation, conversation + 1_000, u64::MAX].into_iter().enumerate() {
        let mut mallory = login(&siege.server, &format!("mallory {index}"), "phone").await;
        mallory.read_up_to(conversation, seq).await;
        mallory.closed_with(ErrorCode::UnknownConversation).await;
    }
    alice.nothing_comes().await;
    bob.nothing_comes().await;
    siege.lift().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_for_what_was_not_delivered_are_refused() {
    let siege = Siege::begin("").await;
    let mut alice = login(&siege.server, "alice", "laptop").await;
    let mut bob = login(&siege.server, "bob", "phone").await;
    let (conversation, seq) = talk(&mut alice, &mut bob).await;
    bob.read_up_to(conversation, seq + 1).await;
    bob.closed_with(ErrorCode::SeqNotSent).await;
    for position in [2, 1_000, u64::MAX] {
        // A position of alice's inbox, or of nobody's: in bob's it was never delivered.
        let mut bob = login(&siege.server, "bob", "phone").await;
        bob.confirm(position).await;
        bob.closed_with(ErrorCode::PositionNotDelivered).await;
    }
    // And what is in his inbox, but was not streamed yet: it would be a delivery that never was.
    for _ in 0..3 {
        alice.send("bob", "wait for it").await;
        alice.next_ack().await;
    }
    let mut bob = Raw::connect(&siege.server).await;
    let hello = wire::Hello { window: 1, ..Raw::hello("bob", "phone") };
    bob.say(client_frame::Body::Hello(hello)).await;
    let Body::Welcome(welcome) = bob.next().await else { panic!("no welcome") };
    let (position, _) = bob.next_message().await;
    assert!(position < welcome.head);
    bob.confirm(welcome.head).await;
    bob.closed_with(ErrorCode::PositionNotDelivered).await;
    alice.nothing_comes().await;
    siege.lift().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_cannot_be_taken_for_another_by_its_number_or_its_cursor() {
    let siege = Siege::begin("").await;
    let last = wire::Welcome::default();
    let (alice, alices) = Raw::resume(&siege.server, "alice", "laptop", &last).await;
    let (_, bobs) = Raw::resume(&siege.server, "bob", "phone", &last).await;
    assert_ne!(alices.device_id, bobs.device_id);
    let attempts = [
        ("bob's device as alice's", "alice", "laptop", bobs.device_id, 0, ErrorCode::DeviceExpired),
        ("alice's device as mallory's", "mallory", "laptop", alices.device_id, 0, ErrorCode::DeviceExpired),
        ("a number nobody has", "alice", "laptop", u64::MAX, 0, ErrorCode::DeviceExpired),
        ("ahead of every inbox", "alice", "laptop", alices.device_id, u64::MAX, ErrorCode::CursorAhead),
        ("ahead of her own", "alice", "laptop", alices.device_id, alices.head + 1, ErrorCode::CursorAhead),
    ];
    for (what, user, device, device_id, cursor, code) in attempts {
        println!("{what}");
        let mut raw = Raw::connect(&siege.server).await;
        let hello = wire::Hello { device_id, cursor, ..Raw::hello(user, device) };
        raw.say(client_frame::Body::Hello(hello)).await;
        raw.closed_with(code).await;
    }
    let mut alice = alice;
    alice.backlog().await;
    alice.settle().await;
    siege.lift().await;
}

/// Numbers are per app or mean nothing outside of theirs: what is 1 here may be 1 there (DESIGN: nothing crosses apps).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_and_names_of_another_app_open_nothing_here() {
    let siege = Siege::begin(TWO_APPS).await;
    let server = &siege.server;
    let mut alice = login(server, "alice", "laptop").await;
    let mut bob = login(server, "bob", "phone").await;
    let (conversation, seq) = talk(&mut alice, &mut bob).await;

    // The other app has users of the same names, and no conversation with either number.
    let mut other_alice = login_to(server, "other", "alice", "laptop").await;
    let mut other_bob = login_to(server, "other", "bob", "phone").await;
    for (send_id, number) in (1..=conversation + 1).zip(1..) {
        send_to_conversation(&mut other_alice, send_id, number).await;
        assert_eq!(other_alice.next_refused().await, (send_id, ErrorCode::NotAccepted.number()));
    }
    let mut reader = login_to(server, "other", "bob", "tablet").await;
    reader.read_up_to(conversation, seq).await;
    reader.closed_with(ErrorCode::UnknownConversation).await;
    let (_, welcome) = Raw::resume(server, "carol", "phone", &wire::Welcome::default()).await;
    let mut thief = Raw::connect(server).await;
    let hello = wire::Hello { app: "other".into(), device_id: welcome.device_id, ..Raw::hello("carol", "phone") };
    thief.say(client_frame::Body::Hello(hello)).await;
    thief.closed_with(ErrorCode::DeviceExpired).await;

    // A message between the same names stays in its app.
    let send_id = conversation + 2;
    other_alice.send_as(send_id, "bob", "elsewhere").await;
    assert_eq!(other_alice.next_ack().await.seq, 1, "the first of another conversation");
    assert_eq!(other_bob.next_message().await.1.content, "elsewhere");
    bob.nothing_comes().await;
    siege.lift().await;
}

/// A message that was sent is what it is: the same number with another text, or another device's number, changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_cannot_be_rewritten() {
    let siege = Siege::begin("").await;
    let mut alice = login(&siege.server, "alice", "laptop").await;
    let mut bob = login(&siege.server, "bob", "phone").await;
    alice.send("bob", "yes").await;
    alice.next_ack().await;
    assert_eq!(bob.next_message().await.1.content, "yes");
    alice.send_as(1, "bob", "no").await;
    alice.closed_with(ErrorCode::SendIdReused).await;
    // Another device of hers has its own numbers.
    let mut tablet = login(&siege.server, "alice", "tablet").await;
    tablet.send_as(2, "bob", "no").await;
    tablet.closed_with(ErrorCode::SendIdGap).await;
    for send_id in [0, u64::MAX] {
        let mut alice = login(&siege.server, "alice", "laptop").await;
        alice.send_as(send_id, "bob", "no").await;
        alice.closed_with(ErrorCode::SendIdGap).await;
    }
    bob.nothing_comes().await;
    siege.lift().await;
}
