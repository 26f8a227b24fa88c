//! What breaks the rules gets a coded error or a clean close, and the server goes on.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use postrider_protocol::error::ErrorCode;
use postrider_protocol::wire::{self, ClientFrame, client_frame};
use postrider_protocol::{frame, limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Raw, Target, TestServer};

/// A pair that talks before and after shows that the server goes on.
async fn still_serves(server: &TestServer) {
    let mut alice = Raw::login(server, "a bystander", "laptop").await;
    let mut bob = Raw::login(server, "another", "phone").await;
    bob.backlog().await;
    alice.send("another", "still here?").await;
    alice.next_ack().await;
    bob.next_message().await;
}

#[tokio::test]
async fn a_frame_of_length_zero_is_told_and_closed_before_and_after_login() {
    let server = TestServer::start().await;
    let mut early = Raw::connect(&server).await;
    early.write_bytes(&[0; 4]).await;
    early.closed_with(ErrorCode::FrameEmpty).await;
    let mut late = Raw::login(&server, "alice", "laptop").await;
    late.write_bytes(&[0; 4]).await;
    late.closed_with(ErrorCode::FrameEmpty).await;
    still_serves(&server).await;
}

#[tokio::test]
async fn a_length_above_the_limit_is_refused_on_its_word_alone() {
    let server = TestServer::start().await;
    let mut early = Raw::connect(&server).await;
    early.write_bytes(&(limits::MAX_LOGIN_FRAME_BYTES as u32 + 1).to_be_bytes()).await;
    early.closed_with(ErrorCode::FrameTooLarge).await;
    let mut late = Raw::login(&server, "alice", "laptop").await;
    late.write_bytes(&u32::MAX.to_be_bytes()).await;
    late.closed_with(ErrorCode::FrameTooLarge).await;
    still_serves(&server).await;
}

#[tokio::test]
async fn bytes_that_are_no_protobuf_are_a_bad_frame() {
    let server = TestServer::start().await;
    let mut early = Raw::connect(&server).await;
    early.write_bytes(b"\0\0\0\x05hello").await;
    early.closed_with(ErrorCode::BadFrame).await;
    let mut late = Raw::login(&server, "alice", "laptop").await;
    late.write_bytes(b"\0\0\0\x05hello").await;
    late.closed_with(ErrorCode::BadFrame).await;
    still_serves(&server).await;
}

#[tokio::test]
async fn what_came_before_a_bad_frame_is_still_answered() {
    let server = TestServer::start().await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    let send =
        wire::Send { send_id: 1, to: Some(wire::send::To::User("bob".into())), content: "the last words".into() };
    let mut bytes = BytesMut::new();
    frame::put(&ClientFrame { received: 0, body: Some(client_frame::Body::Send(send)) }, &mut bytes);
    bytes.put_u32(0);
    alice.write_bytes(&bytes).await;
    let mut bob = Raw::login(&server, "bob", "phone").await;
    assert_eq!(&bob.next_message().await.1.content[..], b"the last words");
}

#[tokio::test]
async fn a_frame_before_login_needs_a_login() {
    let server = TestServer::start().await;
    let mut alice = Raw::connect(&server).await;
    alice.send_as(1, "bob", "no hello first").await;
    alice.closed_with(ErrorCode::LoginRequired).await;
}

#[tokio::test]
async fn a_second_hello_closes() {
    let server = TestServer::start().await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    alice.say(client_frame::Body::Hello(Raw::hello("alice", "laptop"))).await;
    alice.closed_with(ErrorCode::AlreadyLoggedIn).await;
}

#[tokio::test]
async fn wrong_versions_apps_methods_and_names_each_have_their_code() {
    let server = TestServer::start().await;
    let good = || Raw::hello("alice", "laptop");
    let cases = [
        (wire::Hello { version: 99, ..good() }, ErrorCode::UnsupportedVersion),
        (wire::Hello { app: "nope".into(), ..good() }, ErrorCode::UnknownApp),
        (wire::Hello { user: String::new(), ..good() }, ErrorCode::BadName),
        (wire::Hello { device: "x".repeat(65), ..good() }, ErrorCode::BadName),
        (wire::Hello { method: None, ..good() }, ErrorCode::MethodNotAllowed),
        (
            wire::Hello { method: Some(wire::hello::Method::DeviceKey(wire::DeviceKeyLogin {})), ..good() },
            ErrorCode::MethodNotAllowed,
        ),
    ];
    for (hello, code) in cases {
        let mut raw = Raw::connect(&server).await;
        raw.say(client_frame::Body::Hello(hello)).await;
        raw.closed_with(code).await;
    }
}

#[tokio::test]
async fn a_message_that_cannot_be_taken_is_refused_and_uses_its_send_id_up() {
    let server = TestServer::start_with(|config| config.limits.content_bytes = 10).await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    alice.send("bob", "far too long for this server").await;
    assert_eq!(alice.next_refused().await, (1, ErrorCode::ContentTooLarge.number()));
    alice.send("", "no name").await;
    assert_eq!(alice.next_refused().await, (2, ErrorCode::BadRecipient.number()));
    alice.send_as(1, "bob", "far too long for this server").await;
    assert_eq!(alice.next_refused().await, (1, ErrorCode::ContentTooLarge.number()), "the first answer stays");
    alice.send("bob", "short").await;
    assert_eq!(alice.next_ack().await.send_id, 3);
}

/// SEND-11.
#[tokio::test]
async fn a_full_inbox_refuses_with_a_code_and_takes_messages_again_later() {
    let server = TestServer::start_with(|config| config.limits.inbox_entries = 2).await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    for _ in 0..2 {
        alice.send("bob", "hi").await;
        alice.next_ack().await;
    }
    alice.send("bob", "hi").await;
    assert_eq!(alice.next_refused().await, (3, ErrorCode::InboxFull.number()));
    let mut bob = Raw::login(&server, "bob", "phone").await;
    let last = bob.backlog().await[1].0;
    bob.confirm(last).await;
    alice.next_delivered("bob").await;
    alice.send("bob", "hi").await;
    assert_eq!(alice.next_ack().await.seq, 3);
}

/// CONN-2.
#[tokio::test]
async fn silence_is_closed_after_the_idle_timeout_and_what_was_in_flight_comes_on_the_next_connection() {
    let server = TestServer::start_with(|config| config.listen.idle_timeout_ms = 1_000).await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    let mut half_open = Raw::login(&server, "bob", "phone").await;
    half_open.backlog().await;
    alice.send("bob", "into the void").await;
    alice.next_ack().await;
    half_open.next_message().await;
    half_open.closed_with(ErrorCode::IdleTimeout).await;
    let mut bob = Raw::login(&server, "bob", "phone").await;
    assert_eq!(&bob.next_message().await.1.content[..], b"into the void");
}

#[tokio::test]
async fn pings_are_answered_and_keep_a_connection_open() {
    let server = TestServer::start_with(|config| config.listen.idle_timeout_ms = 1_000).await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        alice.settle().await;
    }
}

/// LOGIN-19.
#[tokio::test]
async fn a_login_that_takes_too_long_is_told_so() {
    let server = TestServer::start_with(|config| config.listen.login_timeout_ms = 1_000).await;
    let mut silent = Raw::connect(&server).await;
    silent.closed_with(ErrorCode::LoginTimeout).await;
}

#[tokio::test]
async fn garbage_and_plain_text_instead_of_tls_are_closed_and_the_server_goes_on() {
    let server = TestServer::start().await;
    for opening in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0xff; 64], &[0; 64], b"\0\0\0\x02\x12\0"] {
        let mut socket = TcpStream::connect(server.address()).await.unwrap();
        socket.write_all(opening).await.unwrap();
        let mut answer = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut answer)).await;
        assert!(end.is_ok(), "closed in time");
    }
    still_serves(&server).await;
}

#[tokio::test]
async fn a_client_that_does_not_offer_the_protocol_by_alpn_is_closed() {
    let server = TestServer::start().await;
    for offered in [None, Some(&b"http/1.1"[..])] {
        if let Ok(mut raw) = Raw::try_connect(&server, offered).await {
            assert_eq!(raw.try_next().await, None, "TLS-2");
        }
    }
    still_serves(&server).await;
}

#[tokio::test]
async fn more_connections_than_the_limit_are_told_that_the_server_is_full() {
    let server = TestServer::start_with(|config| config.listen.max_connections = 1).await;
    let _only = Raw::login(&server, "alice", "laptop").await;
    let mut one_more = Raw::connect(&server).await;
    one_more.say(client_frame::Body::Hello(Raw::hello("bob", "phone"))).await;
    one_more.closed_with(ErrorCode::Overloaded).await;
}

/// SEND-6.
#[tokio::test]
async fn more_sends_than_the_window_without_reading_an_answer_close() {
    let server = TestServer::start().await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    let mut bytes = BytesMut::new();
    for send_id in 1..=limits::SEND_WINDOW as u64 + 1 {
        let send = wire::Send { send_id, to: Some(wire::send::To::User("bob".into())), content: "x".into() };
        frame::put(&ClientFrame { received: 0, body: Some(client_frame::Body::Send(send)) }, &mut bytes);
    }
    alice.write_bytes(&bytes).await;
    for _ in 0..limits::SEND_WINDOW {
        alice.next_ack().await;
    }
    alice.closed_with(ErrorCode::TooManyRequests).await;
}

#[tokio::test]
async fn goodbye_is_answered_after_everything_that_was_asked_before_it() {
    let server = TestServer::start().await;
    let mut alice = Raw::login(&server, "alice", "laptop").await;
    alice.send("bob", "and that is all").await;
    alice.say(client_frame::Body::Goodbye(wire::Goodbye {})).await;
    alice.next_ack().await;
    assert_eq!(alice.next_news().await, wire::server_frame::Body::Goodbye(wire::Goodbye {}));
    assert_eq!(alice.try_next().await, None);
}

/// CONN-7.
#[tokio::test]
async fn a_server_that_stops_tells_its_clients_when_to_come_back_and_spreads_them() {
    let mut server = TestServer::start_with(|config| config.shutdown.spread_ms = 60_000).await;
    let mut clients = Vec::new();
    for number in 0..10 {
        let mut client = Raw::login(&server, &format!("user {number}"), "laptop").await;
        client.backlog().await;
        clients.push(client);
    }
    server.stop().await;
    let mut waits = std::collections::BTreeSet::new();
    for mut client in clients {
        match client.next_news().await {
            wire::server_frame::Body::Error(error) => {
                assert_eq!((&*error.name, error.retry, error.closes), ("SHUTTING_DOWN", true, true));
                waits.insert(error.retry_after_ms);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(client.try_next().await, None);
    }
    assert!(waits.len() >= 5 && waits.last().unwrap() - waits.first().unwrap() > 1_000, "{waits:?}");
}
