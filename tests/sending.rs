//! Sends and their answers.

use postrider_protocol::error::ErrorCode;
use postrider_protocol::wire;

use crate::support::{Raw, TestServer};

#[tokio::test]
async fn a_message_is_acked_delivered_and_read_from_end_to_end() {
    let server = TestServer::start().await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    let mut bob = Raw::login(&server, "bob", "phone").await;

    assert_eq!(alice.send("bob", "hello").await, 1);
    let ack = alice.next_ack().await;
    assert_eq!((ack.send_id, ack.seq), (1, 1));
    let (position, message) = bob.next_message().await;
    assert_eq!(
        (message.sender.as_str(), message.recipient.as_str(), &message.content[..]),
        ("alice", "bob", &b"hello"[..])
    );
    assert_eq!((message.conversation, message.seq, message.time), (ack.conversation, ack.seq, ack.time));

    bob.confirm(position).await;
    assert_eq!(alice.next_delivered("bob").await.1, 1);
    bob.read_up_to(message.conversation, 1).await;
    assert_eq!(alice.next_read("bob").await.1, 1);
}

#[tokio::test]
async fn a_resent_send_id_gets_the_first_answer_and_makes_no_second_message() {
    let mut server = TestServer::start().await;
    let mut bob = Raw::login(&server, "bob", "phone").await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    alice.send_as(1, "bob", "once").await;
    let first = alice.next_ack().await;

    alice.send_as(1, "bob", "once").await;
    assert_eq!(alice.next_ack().await, first, "on the same connection");
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    alice.send_as(1, "bob", "once").await;
    assert_eq!(alice.next_ack().await, first, "after a reconnect");
    bob.next_message().await;
    server.restart().await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    alice.send_as(1, "bob", "once").await;
    assert_eq!(alice.next_ack().await, first, "after a restart of the server");

    let mut bob = Raw::login(&server, "bob", "phone").await;
    assert_eq!(bob.backlog().await.len(), 1);
    bob.nothing_comes().await;
}

#[tokio::test]
async fn the_same_send_id_with_other_content_closes_with_a_coded_error() {
    let server = TestServer::start().await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    alice.send_as(1, "bob", "one thing").await;
    alice.next_ack().await;
    alice.send_as(1, "bob", "another").await;
    alice.closed_with(ErrorCode::SendIdReused).await;
}

#[tokio::test]
async fn a_gap_in_send_ids_closes_with_a_coded_error() {
    let server = TestServer::start().await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    alice.send_as(2, "bob", "too early").await;
    alice.closed_with(ErrorCode::SendIdGap).await;
}

#[tokio::test]
async fn a_client_that_writes_everything_before_it_reads_anything_is_not_stuck() {
    let server = TestServer::start().await;
    let long = "x".repeat(50_000);
    let mut bob = Raw::login(&server, "bob", "phone").await;
    for _ in 0..400 {
        bob.send("alice", &long).await;
        bob.next_ack().await;
    }
    // 20 MB flow towards alice from here on, more than the sockets hold; she writes 12 MB and only then reads.
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    let writing = async {
        for _ in 0..250 {
            alice.send("bob", &long).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), writing).await.expect("the server goes on reading");
    let (mut messages, mut acks) = (0, 0);
    while messages < 400 || acks < 250 {
        match alice.next_news().await {
            wire::server_frame::Body::Ack(_) => acks += 1,
            wire::server_frame::Body::Deliver(_) => messages += 1,
            other => panic!("{other:?}"),
        }
    }
}
