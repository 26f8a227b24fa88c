//! What is no frame, and what is one that is too large, too deep or too short (FRAME-1 … FRAME-7).

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use postrider_protocol::error::ErrorCode;
use postrider_protocol::wire::{self, ClientFrame, client_frame, hello, send, server_frame::Body};
use postrider_protocol::{frame, limits};
use prost::Message;
use tokio::io::AsyncWriteExt;

use super::{Siege, scaled};
use crate::support::{Raw, ServerProcess};

/// Attackers at once.
const AT_ONCE: usize = 8;

/// One frame of each kind, with everything in it that it may have.
fn one_of_each() -> Vec<Vec<u8>> {
    let method = hello::Method::Enroll(wire::EnrollLogin {
        code: "PR-ABCDE-FGHJK-MNPQR-STVWX".into(),
        public_key: Bytes::from_static(&[7; 32]),
    });
    let full = wire::Hello {
        device_id: 1 << 40,
        cursor: 1 << 50,
        window: 1 << 20,
        method: Some(method),
        ..Raw::hello("somebody", "phone")
    };
    let to = Some(send::To::User("bystander bob".into()));
    let bodies = [
        client_frame::Body::Hello(full),
        client_frame::Body::Proof(wire::Proof { signature: Bytes::from_static(&[9; 64]) }),
        // A send_id out of order, so that the bystanders' conversation stays theirs.
        client_frame::Body::Send(wire::Send { send_id: 1 << 30, to, content: Bytes::from_static(b"hello") }),
        client_frame::Body::Read(wire::Read { conversation: 1 << 40, seq: 1 << 50 }),
        client_frame::Body::Ping(wire::Ping { token: u64::MAX }),
        client_frame::Body::LinkDevice(wire::LinkDevice {}),
        client_frame::Body::Goodbye(wire::Goodbye {}),
    ];
    let frames = bodies.map(|body| ClientFrame { received: 1 << 60, body: Some(body) });
    frames.iter().map(Message::encode_to_vec).collect()
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

#[derive(Clone, Copy)]
enum Phase {
    BeforeLogin,
    AfterLogin,
}

impl Phase {
    async fn connect(self, server: &ServerProcess, user: usize) -> Raw {
        match self {
            Phase::BeforeLogin => Raw::connect(server).await,
            Phase::AfterLogin => {
                let mut raw = Raw::login(server, &format!("attacker {user}"), "phone").await;
                raw.backlog().await;
                raw
            }
        }
    }
}

/// Every place to cut, or every few of them.
fn cuts(of: &[u8]) -> impl Iterator<Item = usize> {
    (0..of.len()).step_by(scaled(4, 1))
}

/// The stream ends in the middle of a frame: whoever does that is gone, and at most told what was wrong so far.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_ends_within_any_frame_is_a_clean_end_before_and_after_login() {
    let siege = Siege::begin("").await;
    for phase in [Phase::BeforeLogin, Phase::AfterLogin] {
        let all = one_of_each().into_iter().map(|body| framed(&body));
        let parts = all.flat_map(|whole| cuts(&whole).map(|cut| whole[..cut].to_vec()).collect::<Vec<_>>());
        stream::iter(parts.enumerate())
            .for_each_concurrent(AT_ONCE, async |(index, part)| {
                let mut raw = phase.connect(&siege.server, index).await;
                raw.write_bytes(&part).await;
                raw.stream.shutdown().await.unwrap();
                assert_eq!(raw.try_next().await, None, "{part:x?}");
            })
            .await;
    }
    siege.lift().await;
}

/// The length is right and the protobuf is cut: something is always answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_with_any_part_of_its_body_is_answered_before_and_after_login() {
    let siege = Siege::begin("").await;
    for phase in [Phase::BeforeLogin, Phase::AfterLogin] {
        let parts =
            one_of_each().into_iter().flat_map(|body| cuts(&body).map(|cut| framed(&body[..cut])).collect::<Vec<_>>());
        stream::iter(parts.enumerate())
            .for_each_concurrent(AT_ONCE, async |(index, part)| {
                let mut raw = phase.connect(&siege.server, index).await;
                raw.write_bytes(&part).await;
                is_judged(&mut raw, &part).await;
            })
            .await;
    }
    siege.lift().await;
}

/// A coded error and the end; or it was a frame after all.
async fn is_judged(raw: &mut Raw, bytes: &[u8]) {
    match raw.next().await {
        Body::Error(error) => {
            assert!(error.code > 0 && !error.name.is_empty());
            if error.closes {
                assert_eq!(raw.try_next().await, None, "nothing after a closing error");
            }
        }
        Body::Goodbye(_) => assert_eq!(raw.try_next().await, None),
        Body::Pong(_) | Body::Challenge(_) | Body::Refused(_) => {}
        other => panic!("{bytes:x?} got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn length_bombs_are_refused_on_their_word_and_cost_nothing() {
    let siege = Siege::begin("").await;
    let lengths = [8_193, 65_537, 1 << 20, 1 << 24, i32::MAX as u32, 1 << 31, u32::MAX];
    for (index, length) in lengths.into_iter().enumerate() {
        let mut early = Phase::BeforeLogin.connect(&siege.server, index).await;
        early.write_bytes(&length.to_be_bytes()).await;
        early.closed_with(ErrorCode::FrameTooLarge).await;
        if length > limits::DEFAULT_FRAME_BYTES as u32 {
            let mut late = Phase::AfterLogin.connect(&siege.server, index).await;
            late.write_bytes(&length.to_be_bytes()).await;
            late.closed_with(ErrorCode::FrameTooLarge).await;
        }
    }
    siege.lift().await;
}

/// The longest frame that is taken before login, all of it but the last byte, from many at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_never_finished_cost_at_most_32_kib_a_connection_before_login() {
    let mut siege = Siege::begin("").await;
    let count = scaled(300, 2_000);
    let mut part = BytesMut::new();
    part.put_u32(limits::MAX_LOGIN_FRAME_BYTES as u32);
    part.put_bytes(0, limits::MAX_LOGIN_FRAME_BYTES - 1);
    for _ in 0..2 {
        let held = stream::iter(0..count).map(|index| {
            let (siege, part) = (&siege, &part);
            async move {
                let mut raw = Phase::BeforeLogin.connect(&siege.server, index).await;
                raw.write_bytes(part).await;
                raw
            }
        });
        let held: Vec<Raw> = held.buffer_unordered(AT_ONCE).collect().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        siege.costs_little(count);
        drop(held);
        siege.allow_for_the_allocator();
    }
    siege.lift().await;
}

/// Nested groups, a body a thousand times over, numbers without end, tags that there cannot be.
fn amplifiers(bytes: usize) -> Vec<(&'static str, Vec<u8>)> {
    let mut nested = BytesMut::new();
    let empty_nest: Vec<u8> = vec![0x7b; bytes];
    // Field 15 as a length-delimited message that holds one, that holds one …, all of them unknown.
    for depth in (0..bytes / 4).rev() {
        let length = depth.min(nested.len());
        let mut outer = BytesMut::new();
        prost::encoding::encode_key(15, prost::encoding::WireType::LengthDelimited, &mut outer);
        prost::encoding::encode_varint(length as u64, &mut outer);
        if outer.len() + nested.len() >= bytes {
            break;
        }
        outer.extend_from_slice(&nested);
        nested = outer;
    }
    vec![
        ("groups in groups", empty_nest),
        ("messages in messages", nested.to_vec()),
        ("hellos upon hellos", [0x12, 0].repeat(bytes / 2)),
        ("sends upon sends", [0x22, 0].repeat(bytes / 2)),
        ("reads upon reads", [0x2a, 0].repeat(bytes / 2)),
        ("body after body", [0x12, 0, 0x1a, 0, 0x22, 0, 0x2a, 0].repeat(bytes / 8)),
        ("a hello that repeats its names", hello_repeating_its_names(bytes)),
        ("a number without end", [&[0x08][..], &[0x80; 200]].concat()),
        ("a tag without end", vec![0xff; bytes]),
        ("tags of field zero", vec![0; bytes]),
        ("a length beyond the frame", vec![0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        ("a length beyond any memory", vec![0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ("numbers of no use", [0x78, 1].repeat(bytes / 2)),
    ]
}

/// `user`, given hundreds of times within one hello: the last one counts, and only one is kept.
fn hello_repeating_its_names(bytes: usize) -> Vec<u8> {
    let user = [&[0x1a, 60][..], &[b'x'; 60]].concat().repeat((bytes - 16) / 62);
    let mut frame = BytesMut::new();
    prost::encoding::encode_key(2, prost::encoding::WireType::LengthDelimited, &mut frame);
    prost::encoding::encode_varint(user.len() as u64, &mut frame);
    frame.extend_from_slice(&user);
    frame.to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nested_and_repeated_fields_are_judged_like_any_frame_and_amplify_nothing() {
    let siege = Siege::begin("").await;
    for round in 0..scaled(5, 100) {
        for (what, body) in amplifiers(limits::MAX_LOGIN_FRAME_BYTES) {
            println!("before login: {what}");
            let mut raw = Phase::BeforeLogin.connect(&siege.server, round).await;
            raw.write_bytes(&framed(&body)).await;
            is_judged(&mut raw, &body[..16.min(body.len())]).await;
        }
        for (what, body) in amplifiers(limits::DEFAULT_FRAME_BYTES) {
            println!("after login: {what}");
            let mut raw = Phase::AfterLogin.connect(&siege.server, round).await;
            raw.write_bytes(&framed(&body)).await;
            raw.say(client_frame::Body::Ping(wire::Ping { token: 1 })).await;
            is_judged(&mut raw, &body[..16.min(body.len())]).await;
        }
    }
    siege.lift().await;
}

/// A wake-up brings what fits 64 KiB, however small the frames: thousands of requests that each take memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_smallest_frames_in_the_greatest_number_cost_bounded_memory() {
    let mut siege = Siege::begin("").await;
    let first = smallest_frames(&siege, "early").await;
    println!("{first} bytes each");
    assert!(first < 1024 * 1024, "{first} bytes a connection");
    siege.allow_for_the_allocator();
    smallest_frames(&siege, "late").await;
    siege.lift().await;
}

/// What each of some connections costs that asks as often as it can.
async fn smallest_frames(siege: &Siege, name: &str) -> u64 {
    let smallest = [
        client_frame::Body::Ping(wire::Ping { token: 0 }),
        client_frame::Body::Read(wire::Read { conversation: 0, seq: 0 }),
        client_frame::Body::LinkDevice(wire::LinkDevice {}),
    ];
    let mut attackers = Vec::new();
    for (index, body) in smallest.into_iter().cycle().take(30).enumerate() {
        let mut raw = Raw::login(&siege.server, &format!("{name} attacker {index}"), "phone").await;
        raw.backlog().await;
        let mut many = BytesMut::new();
        while many.len() < 256 * 1024 {
            frame::put(&ClientFrame { received: 0, body: Some(body.clone()) }, &mut many);
        }
        attackers.push(tokio::spawn(async move {
            // Nobody reads the answers; the server stops to take requests, or closes.
            drop(tokio::time::timeout(Duration::from_millis(500), raw.try_write_bytes(&many)).await);
            raw
        }));
    }
    let held = futures_util::future::join_all(attackers).await;
    siege.grown() / held.len() as u64
}
