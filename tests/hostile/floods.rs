//! Too many connections, messages and receipts; too few descriptors.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::{StreamExt, stream};
use postrider_protocol::error::ErrorCode;
use postrider_protocol::wire::{self, ClientFrame, client_frame, send, server_frame::Body};
use postrider_protocol::{frame, limits};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Siege, scaled};
use crate::support::{Raw, Target};

/// On however busy a machine.
const PATIENCE: Duration = Duration::from_secs(30);

const MIB: u64 = 1024 * 1024;

/// An outbox holds 64 KiB. Were it to hold what is sent to somebody who does not read, the process would grow by all of it;
/// what it grows by is the senders' batches and the store's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_never_reads_while_fifty_senders_flood_it_costs_bounded_memory() {
    let mut siege = Siege::begin("").await;
    let mut reader = Raw::connect(&siege.server).await;
    let hello = wire::Hello { window: limits::MAX_WINDOW, ..Raw::hello("reader", "phone") };
    reader.say(client_frame::Body::Hello(hello)).await;
    // The store works with memory of its own: the same flood for somebody who is away comes first.
    flood("somebody who is away", &siege, "early").await;
    siege.get_used_to_it();
    let flooded = flood("reader", &siege, "late").await;
    println!("{} MiB: grown by {} KiB", flooded / MIB, siege.grown() / 1024);
    assert!(siege.grown() < flooded * 2 / 3, "grown by {} KiB", siege.grown() / 1024);
    siege.get_used_to_it();

    // And it is all there.
    assert!(matches!(reader.next().await, Body::Welcome(_)));
    for _ in 0..100 {
        let (position, message) = reader.next_message().await;
        assert_eq!(message.content.len(), CONTENT_BYTES);
        reader.confirm(position).await;
    }
    drop(reader);
    siege.lift().await;
}

const SENDERS: usize = 50;
const CONTENT_BYTES: usize = 50_000;

/// So many senders write to one user, each with many in flight. Returns bytes of content.
async fn flood(to: &str, siege: &Siege, name: &str) -> u64 {
    let each = scaled(50, 150);
    let senders = (0..SENDERS).map(|index| {
        let server = &siege.server;
        async move {
            let mut sender = Raw::login(server, &format!("{name} sender {index}"), "phone").await;
            sender.backlog().await;
            let text = "x".repeat(CONTENT_BYTES);
            for _ in 0..each {
                sender.send(to, &text).await;
            }
            for _ in 0..each {
                sender.next_ack().await;
            }
        }
    });
    futures_util::future::join_all(senders).await;
    (SENDERS * each * CONTENT_BYTES) as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_connections_that_come_and_go_leaves_nothing_behind() {
    let siege = Siege::begin("").await;
    let count = scaled(3_000, 100_000);
    stream::iter(0..count)
        .for_each_concurrent(32, async |index| {
            let mut socket = TcpStream::connect(siege.server.address()).await.unwrap();
            match index % 4 {
                // Reset, with something unread on the way.
                0 => socket.set_zero_linger().unwrap(),
                1 => drop(socket.write_all(b"GET / HTTP/1.1\r\n\r\n").await),
                2 => drop(socket.shutdown().await),
                _ => {}
            }
        })
        .await;
    siege.lift().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_full_says_so_and_takes_clients_again_when_others_have_gone() {
    let siege = Siege::begin("[listen]\nmax_connections = 12\nlogin_timeout_ms = 3000\n").await;
    // Two places are the bystanders'; the rest is taken by who says nothing.
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(Raw::connect(&siege.server).await);
    }
    let mut one_more = Raw::connect(&siege.server).await;
    one_more.say(client_frame::Body::Hello(Raw::hello("honest", "phone"))).await;
    one_more.closed_with(ErrorCode::Overloaded).await;
    drop(silent);
    gets_in(&siege).await;
    siege.lift().await;
}

/// Somebody new gets in sooner or later, and gets an ack.
async fn gets_in(siege: &Siege) {
    let start = Instant::now();
    loop {
        let attempt = async {
            let socket = TcpStream::connect(siege.server.address()).await.ok()?;
            let mut raw = Raw::over(socket, Raw::tls(&siege.server)).await.ok()?;
            raw.say(client_frame::Body::Hello(Raw::hello("honest", "phone"))).await;
            matches!(raw.try_next().await, Some(Body::Welcome(_))).then_some(raw)
        };
        if let Ok(Some(mut raw)) = tokio::time::timeout(PATIENCE, attempt).await {
            raw.send("somebody else", "so we meet").await;
            raw.next_ack().await;
            return;
        }
        assert!(start.elapsed() < PATIENCE, "nobody gets in any more");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Connections take every descriptor they can get, while messages go on being stored, in new files now and then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_never_take_the_descriptors_that_the_store_needs_and_others_get_in_again() {
    let mut siege = Siege::begin_limited("[listen]\nlogin_timeout_ms = 60000\n", 200).await;
    let mut writer = Raw::login(&siege.server, "writer", "laptop").await;
    writer.backlog().await;
    // The store has all of the memory that it works with after four of these.
    for _ in 0..6 {
        write_several_segments(&mut writer).await;
    }
    siege.get_used_to_it();
    let mut crowd = Vec::new();
    for _ in 0..400 {
        crowd.push(TcpStream::connect(siege.server.address()).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let in_use = siege.server.descriptors().len();
    println!("{in_use} descriptors in use");
    assert!((100..170).contains(&in_use), "some are left: {in_use}");
    write_several_segments(&mut writer).await;
    drop(crowd);
    gets_in(&siege).await;
    drop(writer);
    siege.lift().await;
}

/// And if something else takes them all, by an operator's mistake: who is connected goes on, and it recovers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_any_descriptor_goes_on_for_those_it_has_and_recovers() {
    let siege = Siege::begin("[listen]\nlogin_timeout_ms = 60000\n").await;
    // What it has, and three more.
    siege.server.limit_descriptors(siege.server.descriptors().len() + 3);
    let mut crowd = Vec::new();
    for _ in 0..50 {
        crowd.push(TcpStream::connect(siege.server.address()).await.unwrap());
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(crowd);
    gets_in(&siege).await;
    siege.lift().await;
}

/// Several segments of the journal, and with them what the store has behind it.
async fn write_several_segments(writer: &mut Raw) {
    let text = "x".repeat(50_000);
    for _ in 0..100 {
        writer.send("somebody who is away", &text).await;
        writer.next_ack().await;
    }
}

/// Reads and confirmations by the ten thousand: of what was read long ago, of what nobody wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_receipts_is_taken_and_tells_nobody_anything_twice() {
    let mut siege = Siege::begin("").await;
    let mut author = Raw::login(&siege.server, "author", "laptop").await;
    author.backlog().await;
    let mut reader = Raw::login(&siege.server, "reader", "phone").await;
    reader.backlog().await;
    let messages: u64 = 20;
    let mut last = (0, 0);
    for _ in 0..messages {
        author.send("reader", "read this").await;
        author.next_ack().await;
        let (position, message) = reader.next_message().await;
        last = (position, message.conversation);
    }
    let (position, conversation) = last;
    for wave in 0..scaled(4, 40) {
        let mut storm = BytesMut::new();
        for index in 0..5_000 {
            let read = wire::Read { conversation, seq: index % messages + 1 };
            let frame = ClientFrame { received: position, body: Some(client_frame::Body::Read(read)) };
            frame::put(&frame, &mut storm);
        }
        reader.write_bytes(&storm).await;
        reader.settle().await;
        if wave == 0 {
            siege.get_used_to_it();
        }
    }
    // What a send follows is safe (RCPT-10): everything was taken.
    reader.send("author", "I have read it all").await;
    reader.next_ack().await;
    let (mut delivered, mut read, mut told) = (0, 0, 0);
    loop {
        match author.next_news().await {
            Body::Deliver(wire::Deliver { entry: Some(entry), .. }) => match entry {
                wire::deliver::Entry::Delivered(receipt) => {
                    assert!(receipt.seq > delivered, "delivered {} after {delivered}", receipt.seq);
                    delivered = receipt.seq;
                }
                wire::deliver::Entry::Read(receipt) => {
                    assert!(receipt.seq > read, "read {} after {read}", receipt.seq);
                    read = receipt.seq;
                }
                wire::deliver::Entry::Message(_) => break,
                wire::deliver::Entry::Expired(_) => panic!("nothing expires"),
            },
            other => panic!("{other:?}"),
        }
        told += 1;
    }
    assert_eq!((delivered, read), (messages, messages));
    assert!(told <= 2 * messages, "{told} receipts for {messages} messages");
    siege.lift().await;
}

/// A device that logs in again and again throws itself out, and nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_of_one_device_over_and_over_replace_each_other_and_nothing_else() {
    let siege = Siege::begin("").await;
    let mut last: Option<Raw> = None;
    for _ in 0..scaled(100, 3_000) {
        let raw = Raw::login(&siege.server, "restless", "phone").await;
        if let Some(mut older) = last.replace(raw) {
            older.closed_with(ErrorCode::Replaced).await;
        }
    }
    drop(last);
    siege.lift().await;
}

/// Sends that nobody can take, as fast as they go, and more than may wait for answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_beyond_their_window_are_closed_again_and_again_and_nobody_else_notices() {
    let mut siege = Siege::begin("").await;
    too_many_sends(&siege, "early").await;
    // What is in the journal is in memory, too, up to a bound.
    siege.get_used_to_it();
    too_many_sends(&siege, "late").await;
    siege.lift().await;
}

async fn too_many_sends(siege: &Siege, name: &str) {
    stream::iter(0..scaled(30, 500))
        .for_each_concurrent(8, async |index| {
            let mut sender = Raw::login(&siege.server, &format!("{name} sender {index}"), "phone").await;
            let mut bytes = BytesMut::new();
            for send_id in 1..=2 * limits::SEND_WINDOW as u64 {
                let to = Some(send::To::User("somebody who is away".into()));
                let send = wire::Send { send_id, to, content: "x".into() };
                frame::put(&ClientFrame { received: 0, body: Some(client_frame::Body::Send(send)) }, &mut bytes);
            }
            drop(sender.try_write_bytes(&bytes).await);
            let mut told = false;
            while let Some(body) = sender.try_next().await {
                if let Body::Error(error) = body {
                    assert_eq!(error.name, ErrorCode::TooManyRequests.name());
                    told = true;
                }
            }
            assert!(told, "closed without a word");
        })
        .await;
}
