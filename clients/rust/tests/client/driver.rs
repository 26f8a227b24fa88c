//! The client against a scripted server, over real TLS.

use std::time::{Duration, Instant};

use crate::support::{
    CONVERSATION, FakeServer, Peer, ack, error, message, message_with, next, next_message, patiently, welcome,
};
use postrider_client::{
    Client, Error, ErrorCode, Event, FileState, Login, MemoryState, SendError, StateError, To, content,
};
use postrider_protocol::limits;
use postrider_protocol::wire::server_frame::Body;
use postrider_protocol::wire::{self, client_frame, hello};
use tokio::io::AsyncWriteExt as _;

fn bob() -> To {
    To::user("bob")
}

#[tokio::test]
async fn a_send_resolves_at_its_ack_and_a_refusal_says_why() {
    let server = FakeServer::start().await;
    let (connected, (mut peer, hello)) =
        tokio::join!(Client::connect(server.options(), MemoryState::new()), server.welcome(welcome()));
    let (client, _events) = connected.expect("connected");
    assert_eq!((hello.app.as_str(), hello.user.as_str(), hello.device.as_str()), ("dev", "alice", "laptop"));

    let first = client.send(bob(), content::text("hi")).await.expect("queued");
    let second = client.send(To::conversation(9), content::text("no")).await.expect("queued");
    let sent = peer.send().await;
    assert_eq!((sent.send_id, sent.to), (1, Some(wire::send::To::User("bob".into()))));
    assert_eq!(sent.content, content::text("hi"));
    assert_eq!(peer.send().await.to, Some(wire::send::To::Conversation(9)));
    peer.say(ack(1)).await;
    let error = Some(postrider_protocol::error::CodedError::new(ErrorCode::InboxFull).to_wire());
    peer.say(Body::Refused(wire::Refused { send_id: 2, error })).await;

    let acked = patiently(first).await.expect("acked");
    assert_eq!((acked.send_id, acked.conversation, acked.seq), (1, CONVERSATION, 101));
    match patiently(second).await {
        Err(SendError::Refused { send_id: 2, code: 303, name, retry: true, .. }) => assert_eq!(name, "INBOX_FULL"),
        other => panic!("{other:?}"),
    }
    patiently(client.flushed()).await.expect("nothing is unanswered");
}

#[tokio::test]
async fn what_had_no_answer_is_sent_again_under_its_id_after_a_reconnect() {
    let server = FakeServer::start().await;
    let (connected, (mut peer, _)) =
        tokio::join!(Client::connect(server.options(), MemoryState::new()), server.welcome(welcome()));
    let (client, _events) = connected.expect("connected");
    let mut sendings = Vec::new();
    for text in ["a", "b", "c"] {
        sendings.push(client.send(bob(), content::text(text)).await.expect("queued"));
    }
    assert_eq!(peer.send().await.send_id, 1);
    peer.say(ack(1)).await;
    patiently(sendings.remove(0)).await.expect("acked");
    drop(peer);

    let highest = wire::Welcome { highest_send_id: 1, ..welcome() };
    let (mut peer, hello) = server.welcome(highest).await;
    assert_eq!(hello.device_id, 5, "what Welcome answered is presented from then on");
    for (send_id, text) in [(2, "b"), (3, "c")] {
        let sent = peer.send().await;
        assert_eq!((sent.send_id, sent.content), (send_id, content::text(text)));
        peer.say(ack(send_id)).await;
    }
    for sending in sendings {
        patiently(sending).await.expect("acked");
    }
}

#[tokio::test]
async fn a_repeated_delivery_is_dropped_and_what_was_taken_is_confirmed() {
    let server = FakeServer::start().await;
    let (connected, (mut peer, _)) =
        tokio::join!(Client::connect(server.options(), MemoryState::new()), server.welcome(welcome()));
    let (_client, mut events) = connected.expect("connected");
    for (position, seq) in [(3, 1), (5, 2), (3, 1), (5, 2), (6, 3)] {
        peer.say(message(position, seq)).await;
    }
    assert_eq!(next_message(&mut events).await, (3, 1));
    assert_eq!(next_message(&mut events).await, (5, 2));
    peer.confirmed(3).await;
    drop(peer);

    // The third waits in the client, not confirmed; the server sends it again.
    let (mut peer, hello) = server.welcome(wire::Welcome { cursor: 3, ..welcome() }).await;
    assert_eq!(hello.cursor, 3);
    for (position, seq) in [(5, 2), (6, 3), (7, 4)] {
        peer.say(message(position, seq)).await;
    }
    assert_eq!(next_message(&mut events).await, (6, 3));
    assert_eq!(next_message(&mut events).await, (7, 4));
    peer.confirmed(6).await;
}

#[tokio::test]
async fn a_restarted_client_resumes_where_the_last_run_stopped() {
    let server = FakeServer::start().await;
    let dir = tempfile::tempdir().expect("dir");
    let state = FileState::open(dir.path()).expect("state");
    let (connected, (mut peer, _)) = tokio::join!(Client::connect(server.options(), state), server.welcome(welcome()));
    let (client, mut events) = connected.expect("connected");
    let sending = client.send(bob(), content::text("kept")).await.expect("queued");
    assert_eq!((sending.send_id(), peer.send().await.send_id), (1, 1));
    peer.say(message(4, 1)).await;
    peer.say(message(5, 2)).await;
    assert_eq!(next_message(&mut events).await, (4, 1));
    assert_eq!(next_message(&mut events).await, (5, 2));
    peer.confirmed(4).await;
    // The end of a process: nobody says goodbye for it, and its last event was never confirmed.
    assert!(matches!(FileState::open(dir.path()), Err(StateError::InUse { .. })));
    let copy = tempfile::tempdir().expect("dir");
    std::fs::copy(dir.path().join("state.log"), copy.path().join("state.log")).expect("copied");
    drop((client, events, sending, peer));

    let state = FileState::open(copy.path()).expect("state");
    let (connected, (mut peer, hello)) = tokio::join!(
        Client::connect(server.options(), state),
        server.welcome(wire::Welcome { cursor: 4, ..welcome() })
    );
    let (client, mut events) = connected.expect("connected");
    assert_eq!((hello.device_id, hello.cursor), (5, 4));
    assert_eq!(peer.send().await.content, content::text("kept"));
    peer.say(ack(1)).await;
    match next(&mut events).await {
        Event::Answered(answer) => assert_eq!((answer.send_id, answer.result.expect("acked").seq), (1, 101)),
        other => panic!("{other:?}"),
    }
    peer.say(message(5, 2)).await;
    assert_eq!(next_message(&mut events).await, (5, 2));
    assert_eq!(client.send(bob(), content::text("next")).await.expect("queued").send_id(), 2);
}

#[tokio::test]
async fn an_error_that_no_retry_mends_stops_the_client() {
    let server = FakeServer::start().await;
    let (connected, (mut peer, _)) =
        tokio::join!(Client::connect(server.options(), MemoryState::new()), server.welcome(welcome()));
    let (client, mut events) = connected.expect("connected");
    let sending = client.send(bob(), content::text("x")).await.expect("queued");
    peer.say(error(ErrorCode::Replaced)).await;
    match next(&mut events).await {
        Event::Stopped(stopped) => {
            assert_eq!(stopped.code(), Some(ErrorCode::Replaced));
            assert!(stopped.is_permanent());
        }
        other => panic!("{other:?}"),
    }
    assert!(patiently(events.next()).await.is_none());
    assert_eq!(patiently(sending).await, Err(SendError::Closed));
    assert!(matches!(client.send(bob(), content::text("y")).await, Err(SendError::Closed)));
    patiently(client.close()).await.expect("nothing to close");
}

#[tokio::test]
async fn a_half_open_connection_is_detected_and_replaced() {
    let server = FakeServer::start().await;
    let idle_timeout_ms = limits::MIN_IDLE_TIMEOUT_MS;
    let (connected, (mut peer, _)) = tokio::join!(
        Client::connect(server.options(), MemoryState::new()),
        server.welcome(wire::Welcome { idle_timeout_ms, ..welcome() })
    );
    let (client, _events) = connected.expect("connected");
    let started = Instant::now();
    assert!(matches!(peer.body().await, client_frame::Body::Ping(_)));
    let sending = client.send(bob(), content::text("x")).await.expect("queued");
    // From here on the server is gone without a trace.
    let (mut peer, _) = server.welcome(welcome()).await;
    let idle_timeout = Duration::from_millis(idle_timeout_ms.into());
    assert!(started.elapsed() >= idle_timeout, "not before the idle timeout");
    assert_eq!(peer.send().await.send_id, 1);
    peer.say(ack(1)).await;
    patiently(sending).await.expect("acked");
}

#[tokio::test]
async fn waiting_for_an_ack_while_events_pile_up_does_not_hang() {
    let server = FakeServer::start().await;
    let window = 8;
    let (connected, (mut peer, hello)) =
        tokio::join!(Client::connect(server.options().window(window), MemoryState::new()), server.welcome(welcome()));
    let (client, mut events) = connected.expect("connected");
    assert_eq!(hello.window, window);
    for position in 1..=window.into() {
        peer.say(message(position, position)).await;
    }
    let sending = client.send(bob(), content::text("x")).await.expect("queued");
    assert_eq!(peer.send().await.send_id, 1);
    peer.say(ack(1)).await;
    patiently(sending).await.expect("acked, though no event was taken");
    for position in 1..=window.into() {
        assert_eq!(next_message(&mut events).await, (position, position));
    }
}

#[tokio::test]
async fn a_server_that_streams_beyond_the_window_is_not_read_from() {
    let server = FakeServer::start().await;
    let (connected, (mut peer, _)) =
        tokio::join!(Client::connect(server.options().window(1), MemoryState::new()), server.welcome(welcome()));
    let (_client, mut events) = connected.expect("connected");
    // Far more than the sockets' buffers and the client's events channel hold together.
    let flood = 600;
    let content = content::text("x".repeat(60_000));
    let writer = tokio::spawn(async move {
        for position in 1..=flood {
            peer.say(message_with(position, position, content.clone())).await;
        }
        peer
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!writer.is_finished(), "the client has read on");
    for position in 1..=flood {
        assert_eq!(next_message(&mut events).await, (position, position));
    }
    patiently(writer).await.expect("written");
}

#[tokio::test]
async fn closing_confirms_what_was_returned_marks_reads_and_says_goodbye_last() {
    let server = FakeServer::start().await;
    let (connected, (mut peer, _)) =
        tokio::join!(Client::connect(server.options(), MemoryState::new()), server.welcome(welcome()));
    let (client, mut events) = connected.expect("connected");
    peer.say(message(4, 1)).await;
    assert_eq!(next_message(&mut events).await, (4, 1));
    client.read(CONVERSATION, 1).await.expect("open");
    let sending = client.submit(bob(), content::text("last")).await.expect("queued");
    let script = async {
        let (mut received, mut read) = (0, None);
        loop {
            let frame = peer.hear().await.expect("open");
            received = received.max(frame.received);
            match frame.body {
                Some(client_frame::Body::Read(mark)) => {
                    assert_eq!(received, 4, "a read mark goes with or after the confirmation");
                    read = Some(mark.seq);
                }
                Some(client_frame::Body::Send(send)) => peer.say(ack(send.send_id)).await,
                Some(client_frame::Body::Goodbye(_)) => break,
                _ => {}
            }
        }
        peer.say(Body::Goodbye(wire::Goodbye {})).await;
        assert_eq!((received, read), (4, Some(1)));
        assert!(peer.hear().await.is_none(), "the client closes too");
    };
    let (closed, ()) = tokio::join!(patiently(client.close()), script);
    closed.expect("in good order");
    patiently(sending).await.expect("acked");
    assert!(patiently(events.next()).await.is_none_or(|event| matches!(event, Event::Connected { .. })));
}

#[tokio::test]
async fn closing_says_what_has_no_answer_and_lets_the_state_go() {
    let server = FakeServer::start().await;
    let dir = tempfile::tempdir().expect("dir");
    let state = FileState::open(dir.path()).expect("state");
    let options = server.options().close_timeout(Duration::from_millis(200));
    let (connected, (_peer, _)) = tokio::join!(Client::connect(options, state), server.welcome(welcome()));
    let (client, _events) = connected.expect("connected");
    let _sending = client.send(bob(), content::text("x")).await.expect("queued");
    assert!(matches!(patiently(client.close()).await, Err(Error::Unanswered(1))));
    FileState::open(dir.path()).expect("free for the next run");
}

#[tokio::test]
async fn dropping_every_handle_says_goodbye() {
    let server = FakeServer::start().await;
    let (connected, (mut peer, _)) =
        tokio::join!(Client::connect(server.options(), MemoryState::new()), server.welcome(welcome()));
    drop(connected.expect("connected"));
    assert!(matches!(peer.body().await, client_frame::Body::Goodbye(_)));
}

#[tokio::test]
async fn manual_confirmation_confirms_nothing_by_itself() {
    let server = FakeServer::start().await;
    let (connected, (mut peer, _)) =
        tokio::join!(Client::connect(server.options().manual_confirm(), MemoryState::new()), server.welcome(welcome()));
    let (client, mut events) = connected.expect("connected");
    for position in 1..=3 {
        peer.say(message(position, position)).await;
        assert_eq!(next_message(&mut events).await, (position, position));
    }
    client.read(CONVERSATION, 1).await.expect("open");
    patiently(client.confirm(2)).await.expect("durable");
    let frame = peer.hear().await.expect("open");
    assert_eq!(frame.received, 2, "nothing was said before");
    assert!(matches!(frame.body, Some(client_frame::Body::Read(wire::Read { seq: 1, .. }))));
}

#[tokio::test]
async fn linking_a_device_gives_a_code_or_says_why_not() {
    let server = FakeServer::start().await;
    let (connected, (mut peer, _)) =
        tokio::join!(Client::connect(server.options(), MemoryState::new()), server.welcome(welcome()));
    let (client, _events) = connected.expect("connected");
    let script = async {
        assert!(matches!(peer.body().await, client_frame::Body::LinkDevice(_)));
        peer.say(Body::LinkCode(wire::LinkCode { code: "abc".into(), expires_in_s: 60 })).await;
        assert!(matches!(peer.body().await, client_frame::Body::LinkDevice(_)));
        peer.say(error(ErrorCode::LinkNotAllowed)).await;
    };
    let calls = async { (client.link_device().await, client.link_device().await) };
    let ((code, refused), ()) = tokio::join!(patiently(calls), script);
    let code = code.expect("a code");
    assert_eq!((code.code.as_str(), code.expires_in), ("abc", Duration::from_secs(60)));
    assert_eq!(refused.expect_err("not allowed").code(), Some(ErrorCode::LinkNotAllowed));
}

#[tokio::test]
async fn a_device_enrols_once_and_proves_its_key_from_then_on() {
    let server = FakeServer::start().await;
    let dir = tempfile::tempdir().expect("dir");
    let options = server.options().login(Login::Enroll { code: "once".into() });
    let state = FileState::open(dir.path()).expect("state");
    let script = async {
        // The code is right, but the client never hears so.
        let mut peer = server.accept().await;
        let Some(hello::Method::Enroll(enroll)) = peer.hello().await.method else { panic!("enroll first") };
        assert_eq!(enroll.code, "once");
        assert!(challenged(&mut peer, &enroll.public_key).await);
        drop(peer);
        let mut peer = server.accept().await;
        assert!(matches!(peer.hello().await.method, Some(hello::Method::Enroll(_))));
        peer.say(error(ErrorCode::LoginFailed)).await;
        // So it lets its key speak.
        let mut peer = server.accept().await;
        assert!(matches!(peer.hello().await.method, Some(hello::Method::DeviceKey(_))));
        assert!(challenged(&mut peer, &enroll.public_key).await);
        peer.say(Body::Welcome(welcome())).await;
        (peer, enroll.public_key)
    };
    let connect = Client::connect(options.clone().retry_first(true), state);
    let (connected, (peer, public_key)) = tokio::join!(patiently(connect), script);
    let (client, events) = connected.expect("connected");
    drop((events, peer));
    let _ = patiently(client.close()).await;

    let script = async {
        let mut peer = server.accept().await;
        assert!(matches!(peer.hello().await.method, Some(hello::Method::DeviceKey(_))));
        assert!(challenged(&mut peer, &public_key).await);
        peer.say(Body::Welcome(welcome())).await;
        peer
    };
    let state = FileState::open(dir.path()).expect("state");
    let (connected, _peer) = tokio::join!(patiently(Client::connect(options, state)), script);
    connected.expect("connected");
}

/// Challenges a client, and checks its signature against the key and this TLS connection.
async fn challenged(peer: &mut Peer, public_key: &[u8]) -> bool {
    let nonce = [7; limits::NONCE_BYTES];
    peer.say(Body::Challenge(wire::Challenge { nonce: nonce.to_vec().into() })).await;
    let client_frame::Body::Proof(proof) = peer.body().await else { return false };
    let tls = peer.stream.get_ref().1;
    let exporter = tls.export_keying_material([0; limits::EXPORTER_BYTES], limits::EXPORTER_LABEL, None);
    let signed =
        postrider_protocol::proof::signed_bytes(&exporter.expect("exporter"), &nonce, "dev", "alice", "laptop");
    let key = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, public_key);
    key.verify(&signed, &proof.signature).is_ok()
}

#[tokio::test]
async fn a_refused_login_is_returned_with_its_code() {
    let server = FakeServer::start().await;
    let script = async {
        let mut peer = server.accept().await;
        peer.hello().await;
        peer.say(error(ErrorCode::UnknownApp)).await;
        peer
    };
    let connect = Client::connect(server.options().retry_first(true), MemoryState::new());
    let (connected, _peer) = tokio::join!(patiently(connect), script);
    assert_eq!(connected.expect_err("permanent").code(), Some(ErrorCode::UnknownApp));
}

#[tokio::test]
async fn each_way_of_not_reaching_a_server_says_in_one_line_what_is_wrong() {
    let server = FakeServer::start().await;
    let stranger = FakeServer::start().await;
    let web = FakeServer::speaking(b"h2").await;
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
    let plain_address = plain.local_addr().expect("bound").to_string();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
    let closed_address = closed.local_addr().expect("bound").to_string();
    drop(closed);
    let at = |address: String| {
        postrider_client::Options::new(address, "dev", "alice")
            .server_name("localhost")
            .trust(postrider_client::Trust::CaPem(server.ca_pem.clone()))
    };
    let serve = async {
        let ssh = async {
            let (mut tcp, _) = plain.accept().await.expect("accept");
            tcp.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").await.expect("write");
            std::future::pending::<()>().await;
        };
        tokio::join!(server.accept(), stranger.accept(), web.accept(), ssh)
    };
    let untrusted = server.options().trust(postrider_client::Trust::CaPem(stranger.ca_pem.clone()));
    let attempts = async {
        let mut seen = Vec::new();
        for options in [
            at(closed_address),
            untrusted,
            server.options().server_name("example.com"),
            web.options(),
            at(plain_address),
            at("no-port".into()),
        ] {
            let error = Client::connect(options, MemoryState::new()).await.expect_err("cannot work");
            let text = error.to_string();
            assert!(!text.contains('\n') && text.len() < 300, "{text}");
            seen.push((error, text));
        }
        seen
    };
    let seen = tokio::select! {
        seen = patiently(attempts) => seen,
        _ = serve => unreachable!("one of them waits for ever"),
    };
    let texts: Vec<_> = seen.iter().map(|(_, text)| text.as_str()).collect();
    assert!(matches!(seen[0].0, Error::Unreachable { .. }) && texts[0].contains("connection refused"), "{texts:#?}");
    assert!(matches!(seen[1].0, Error::Untrusted { .. }), "{texts:#?}");
    assert!(matches!(seen[2].0, Error::Untrusted { .. }) && texts[2].contains("example.com"), "{texts:#?}");
    assert!(matches!(seen[3].0, Error::NotPostrider { .. }), "{texts:#?}");
    assert!(matches!(seen[4].0, Error::NotPostrider { .. }), "{texts:#?}");
    assert!(matches!(seen[5].0, Error::Options(_)), "{texts:#?}");
}

#[tokio::test]
async fn a_state_serves_one_device_only() {
    let server = FakeServer::start().await;
    let dir = tempfile::tempdir().expect("dir");
    let state = FileState::open(dir.path()).expect("state");
    let (connected, _peer) = tokio::join!(Client::connect(server.options(), state), server.welcome(welcome()));
    let (client, _events) = connected.expect("connected");
    drop(_peer);
    let _ = patiently(client.close()).await;
    let state = FileState::open(dir.path()).expect("state");
    let connected = Client::connect(server.options().device("phone"), state).await;
    assert!(matches!(connected.expect_err("another device"), Error::State(StateError::WrongOwner { .. })));
}
