//! Confirmations, `delivered` and `read`.

use postrider_protocol::error::ErrorCode;
use postrider_protocol::wire::{self, ClientFrame, client_frame};

use crate::support::{Raw, TestServer};

#[tokio::test]
async fn confirming_a_position_that_was_never_delivered_closes_with_a_coded_error() {
    let server = TestServer::start().await;
    let mut bob = Raw::login(&server, "bob", "phone").await;
    bob.confirm(1).await;
    bob.closed_with(ErrorCode::PositionNotDelivered).await;
}

#[tokio::test]
async fn confirming_an_old_position_again_is_ignored() {
    let server = TestServer::start().await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    let mut bob = Raw::login(&server, "bob", "phone").await;
    alice.send("bob", "one").await;
    alice.send("bob", "two").await;
    alice.next_ack().await;
    alice.next_ack().await;
    let first = bob.next_message().await.0;
    let second = bob.next_message().await.0;
    bob.confirm(second).await;
    bob.confirm(first).await;
    bob.confirm(second).await;
    assert_eq!(alice.next_delivered("bob").await.1, 2);
    alice.nothing_comes().await;
    bob.settle().await;
}

#[tokio::test]
async fn one_confirmation_covers_everything_before_it() {
    let server = TestServer::start().await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    let mut bob = Raw::login(&server, "bob", "phone").await;
    for _ in 0..5 {
        alice.send("bob", "again").await;
        alice.next_ack().await;
    }
    let mut last = 0;
    for _ in 0..5 {
        last = bob.next_message().await.0;
    }
    bob.confirm(last).await;
    assert_eq!(alice.next_delivered("bob").await.1, 5);
}

#[tokio::test]
async fn receipts_reach_a_sender_who_was_away_and_newer_ones_take_the_place_of_older_ones() {
    let server = TestServer::start().await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    for _ in 0..3 {
        alice.send("bob", "are you there").await;
        alice.next_ack().await;
    }
    drop(alice);
    let mut bob = Raw::login(&server, "bob", "phone").await;
    for _ in 0..3 {
        let (position, message) = bob.next_message().await;
        bob.confirm(position).await;
        bob.read_up_to(message.conversation, message.seq).await;
    }
    bob.settle().await;

    let mut alice = Raw::login(&server, "alice", "laptop").await;
    assert_eq!(alice.next_delivered("bob").await.1, 3);
    assert_eq!(alice.next_read("bob").await.1, 3);
    alice.nothing_comes().await;
}

#[tokio::test]
async fn a_read_that_runs_ahead_of_the_confirmation_takes_effect_with_it() {
    let server = TestServer::start().await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    let mut bob = Raw::login(&server, "bob", "phone").await;
    alice.send("bob", "read me").await;
    alice.next_ack().await;
    let (position, message) = bob.next_message().await;
    bob.read_up_to(message.conversation, 1).await;
    bob.settle().await;
    alice.nothing_comes().await;
    bob.confirm(position).await;
    assert_eq!(alice.next_delivered("bob").await.1, 1);
    assert_eq!(alice.next_read("bob").await.1, 1);
}

#[tokio::test]
async fn a_confirmation_rides_on_any_frame_and_comes_before_its_body() {
    let server = TestServer::start().await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    let mut bob = Raw::login(&server, "bob", "phone").await;
    alice.send("bob", "read me").await;
    alice.next_ack().await;
    let (received, message) = bob.next_message().await;
    let read = wire::Read { conversation: message.conversation, seq: 1 };
    bob.write(&ClientFrame { received, body: Some(client_frame::Body::Read(read)) }).await;
    assert_eq!(alice.next_delivered("bob").await.1, 1);
    assert_eq!(alice.next_read("bob").await.1, 1);
}

#[tokio::test]
async fn reading_what_was_never_sent_or_is_nobodys_business_closes_with_a_coded_error() {
    let server = TestServer::start().await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    alice.send("bob", "hello").await;
    let conversation = alice.next_ack().await.conversation;

    let mut bob = Raw::login(&server, "bob", "phone").await;
    bob.next_message().await;
    bob.read_up_to(conversation, 2).await;
    bob.closed_with(ErrorCode::SeqNotSent).await;

    let mut eve = Raw::login(&server, "eve", "phone").await;
    eve.read_up_to(conversation, 1).await;
    eve.closed_with(ErrorCode::UnknownConversation).await;
}

#[tokio::test]
async fn a_note_to_oneself_comes_back_and_can_be_delivered_and_read() {
    let server = TestServer::start().await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    alice.send("alice", "buy milk").await;
    let ack = alice.next_ack().await;
    let (position, note) = alice.next_message().await;
    assert_eq!((note.sender.as_str(), note.recipient.as_str(), note.seq), ("alice", "alice", ack.seq));
    alice.confirm(position).await;
    assert_eq!(alice.next_delivered("alice").await.1, 1);
    alice.read_up_to(note.conversation, 1).await;
    assert_eq!(alice.next_read("alice").await.1, 1);
}
