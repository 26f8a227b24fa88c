//! Who does not read costs bounded memory: the server's process is measured from outside.

use std::time::Duration;

use bytes::BytesMut;
use postrider_protocol::error::ErrorCode;
use postrider_protocol::wire::{self, ClientFrame, client_frame, server_frame::Body};
use postrider_protocol::{frame, limits};

use crate::support::{Raw, ServerProcess};

/// Small caches and a small journal, so that what is measured is what waits for somebody who does not read.
const SMALL_CACHES: &str =
    "[store]\ncache_bytes = 4194304\nqueue_bytes = 4194304\nsegment_bytes = 1048576\nsegments = 2\n";

const CONTENT_BYTES: usize = 50_000;

/// 60 MB: several times what the process may grow by.
const MESSAGES: u64 = 1_200;

const MIB: u64 = 1024 * 1024;

/// What the process may grow by for somebody who does not read. A connection's outbox holds 64 KiB; the rest is room
/// for the store's and the allocator's moods.
const MAY_GROW: u64 = 24 * MIB;

/// And when everything is then read from disk, through the store's cache.
const MAY_GROW_READING: u64 = 48 * MIB;

#[tokio::test]
async fn a_recipient_that_never_reads_costs_bounded_memory_and_gets_everything_later() {
    let server = ServerProcess::start(SMALL_CACHES);
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    alice.backlog().await;
    let mut bystander = Raw::login(&server, "bystander", "laptop").await;
    bystander.backlog().await;
    let mut friend = Raw::login(&server, "friend", "phone").await;
    friend.backlog().await;
    // The store takes memory to work with, up to a bound of its own: the same load for somebody who is away comes first, and
    // again, for when the machine is busy it takes longer to get there.
    send_all(&mut alice, "somebody who is away", async || {}).await;
    send_all(&mut alice, "somebody else who is away", async || {}).await;

    let mut bob = Raw::connect(&server).await;
    let hello = wire::Hello { window: limits::MAX_WINDOW, ..Raw::hello("bob", "phone") };
    bob.say(client_frame::Body::Hello(hello)).await;
    let before = server.peak_memory();
    let goes_on = async || {
        bystander.send("friend", "still well?").await;
        bystander.next_ack().await;
        friend.next_message().await;
    };
    send_all(&mut alice, "bob", goes_on).await;
    let grown = server.peak_memory().saturating_sub(before);
    println!(
        "{} MB for who does not read: grown by {} KiB over {} KiB",
        MESSAGES * 50 / 1_000,
        grown / 1024,
        before / 1024
    );
    assert!(grown < MAY_GROW, "grown by {grown} bytes");

    assert!(matches!(bob.next().await, Body::Welcome(_)));
    for seq in 1..=MESSAGES {
        let (position, message) = bob.next_message().await;
        assert_eq!((message.seq, &message.content[..]), (seq, text(seq).as_bytes()));
        if seq % 100 == 0 {
            bob.confirm(position).await;
        }
    }
    let grown = server.peak_memory().saturating_sub(before);
    println!("and read from disk: {} KiB", grown / 1024);
    assert!(grown < MAY_GROW_READING, "grown by {grown} bytes");
}

/// Sends [`MESSAGES`], some in flight at a time, and calls `meanwhile` now and then.
async fn send_all(sender: &mut Raw, to: &str, mut meanwhile: impl AsyncFnMut()) {
    let (mut sent, mut acked) = (0, 0);
    while acked < MESSAGES {
        while sent < MESSAGES && sent - acked < 64 {
            sent += 1;
            sender.send(to, &text(sent)).await;
        }
        loop {
            match sender.next().await {
                Body::Ack(_) => break,
                Body::Deliver(_) => {}
                other => panic!("no ack but {other:?}"),
            }
        }
        acked += 1;
        if acked % 200 == 0 {
            meanwhile().await;
        }
    }
}

fn text(number: u64) -> String {
    format!("{number:0CONTENT_BYTES$}")
}

#[tokio::test]
async fn a_sender_that_never_reads_its_answers_costs_bounded_memory_and_can_still_read_them_all() {
    let server = ServerProcess::start(SMALL_CACHES);
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    alice.backlog().await;
    let before = server.memory();

    // A refusal is the longest answer there is: it fills the buffers of the sockets soonest.
    let mut sent = 0;
    loop {
        let mut bytes = BytesMut::new();
        for _ in 0..limits::SEND_WINDOW / 2 {
            sent += 1;
            let send = wire::Send { send_id: sent, to: None, content: "x".into() };
            frame::put(&ClientFrame { received: 0, body: Some(client_frame::Body::Send(send)) }, &mut bytes);
        }
        match tokio::time::timeout(Duration::from_secs(1), alice.try_write_bytes(&bytes)).await {
            // Time to answer: more than the window at once is another mistake.
            Ok(Ok(())) => tokio::time::sleep(Duration::from_millis(5)).await,
            Ok(Err(_)) | Err(_) => break,
        }
    }
    let grown = server.peak_memory().saturating_sub(before);
    println!("{sent} sends without reading an answer: grown by {} KiB", grown / 1024);
    assert!(grown < MAY_GROW, "grown by {grown} bytes");

    let mut answered = 0;
    while let Some(body) = alice.try_next().await {
        match body {
            Body::Refused(refused) => {
                assert_eq!(refused.send_id, answered + 1);
                answered = refused.send_id;
            }
            // More waits for an answer than may; who does not read this either is not waited for.
            Body::Error(error) => assert_eq!(error.name, ErrorCode::TooManyRequests.name()),
            other => panic!("{other:?}"),
        }
    }
    println!("answered: {answered}");
    let (mut alice, welcome) = Raw::resume(&server, "alice", "laptop", &wire::Welcome::default()).await;
    assert!(answered > 0 && welcome.highest_send_id >= answered);
    assert_eq!(alice.send("bob", "better now").await, welcome.highest_send_id + 1);
    assert_eq!(alice.next_ack().await.send_id, welcome.highest_send_id + 1);
}
