//! The frame codec, and what is unknown.

use bytes::{BufMut, BytesMut};
use postrider_protocol::error::ErrorCode;
use postrider_protocol::wire::server_frame::Body;
use postrider_protocol::wire::{self, ClientFrame, client_frame};
use postrider_protocol::{frame, limits};
use prost::Message as _;

use super::peer::describe;
use super::world::{DEVICE, World};
use super::{Verdict, broken, checks};

checks! { "Frames":
    split => "Frames may come byte by byte, and many in one piece" ["FRAME-1"];
    empty => "A length of 0 is FRAME_EMPTY, before and after login" ["FRAME-2", "ERR-1"];
    too_long => "A length above the limit is FRAME_TOO_LARGE on its four bytes alone" ["FRAME-3", "FRAME-4", "LIMIT-1"];
    garbage => "What is no protobuf, or no UTF-8 where text belongs, is BAD_FRAME" ["FRAME-5"];
    says_nothing => "A frame that says nothing known is BAD_FRAME, unless it confirms" ["FRAME-6"];
    unknown_fields => "Unknown fields are ignored" ["VER-2"];
    before_a_mistake => "What came before a mistake is still done and answered" ["ERR-1", "CONN-9"];
}

/// A field number that no version uses, and its value.
const UNKNOWN_FIELD: &[u8] = b"\xfa\x7f\x03new";

async fn split(world: &World) -> Verdict {
    let name = world.user("pieces");
    let mut peer = world.connect().await?;
    let hello = client_frame::Body::Hello(world.hello(&name, DEVICE));
    let mut bytes = BytesMut::new();
    frame::put(&ClientFrame { received: 0, body: Some(hello) }, &mut bytes);
    for byte in &bytes {
        peer.write(&[*byte]).await;
    }
    match peer.next("Welcome").await? {
        Body::Welcome(welcome) => peer.welcomed(welcome),
        // Without a login the frame was understood all the same.
        Body::Error(error) if error.code == ErrorCode::MethodNotAllowed.number() => return Ok(()),
        other => return Err(broken("Welcome", describe(&other))),
    }
    peer.backlog().await?;
    let pings = (1..=100).map(|token| client_frame::Body::Ping(wire::Ping { token }));
    peer.say_all(pings.map(|ping| ClientFrame { received: 0, body: Some(ping) })).await;
    for token in 1..=100 {
        match peer.other("Pong").await?.what {
            Body::Pong(pong) if pong.token == token => {}
            other => return Err(broken(format!("Pong{{token {token}}}"), describe(&other))),
        }
    }
    Ok(())
}

async fn empty(world: &World) -> Verdict {
    let mut early = world.connect().await?;
    early.write(&[0; 4]).await;
    early.closed_with(ErrorCode::FrameEmpty).await?;
    let mut late = world.login(&world.user("empty"), DEVICE).await?;
    late.write(&[0; 4]).await;
    late.closed_with(ErrorCode::FrameEmpty).await
}

async fn too_long(world: &World) -> Verdict {
    let mut early = world.connect().await?;
    early.write(&(limits::MAX_LOGIN_FRAME_BYTES as u32 + 1).to_be_bytes()).await;
    early.closed_with(ErrorCode::FrameTooLarge).await?;
    for above in [1, u32::MAX / 2] {
        let mut late = world.login(&world.user("long"), DEVICE).await?;
        let length = late.welcome.max_frame_bytes.saturating_add(above);
        late.write(&length.to_be_bytes()).await;
        late.closed_with(ErrorCode::FrameTooLarge).await?;
    }
    Ok(())
}

async fn garbage(world: &World) -> Verdict {
    // Not protobuf; a field cut short; a name that is not UTF-8.
    let hello_with_bad_name = b"\0\0\0\x06\x12\x04\x22\x02\xff\xfe";
    for bytes in [&b"\0\0\0\x05hello"[..], b"\0\0\0\x02\x12\x7f", hello_with_bad_name] {
        let mut early = world.connect().await?;
        early.write(bytes).await;
        early.closed_with(ErrorCode::BadFrame).await?;
    }
    let send_with_bad_name = b"\0\0\0\x08\x22\x06\x08\x01\x12\x02\xff\xfe";
    for bytes in [&b"\0\0\0\x05hello"[..], send_with_bad_name] {
        let mut late = world.login(&world.user("garbage"), DEVICE).await?;
        late.write(bytes).await;
        late.closed_with(ErrorCode::BadFrame).await?;
    }
    Ok(())
}

async fn says_nothing(world: &World) -> Verdict {
    let mut peer = world.login(&world.user("mute"), DEVICE).await?;
    peer.write(b"\0\0\0\x02\x08\x00").await;
    peer.closed_with(ErrorCode::BadFrame).await?;
    let mut peer = world.login(&world.user("mute"), DEVICE).await?;
    peer.write(&framed(UNKNOWN_FIELD)).await;
    peer.closed_with(ErrorCode::BadFrame).await?;

    let mut pair = world.pair().await?;
    pair.alice.send_acked(&pair.names.1, "confirm me").await?;
    let (position, _) = pair.bob.message("confirm me").await?;
    let confirmation = ClientFrame { received: position, body: None }.encode_to_vec();
    pair.bob.write(&framed(&[&confirmation, UNKNOWN_FIELD].concat())).await;
    pair.alice.delivered(&pair.names.1, 1).await?;
    pair.bob.settle().await
}

async fn unknown_fields(world: &World) -> Verdict {
    let mut peer = world.login(&world.user("new"), DEVICE).await?;
    let inner = [&wire::Ping { token: 5 }.encode_to_vec()[..], UNKNOWN_FIELD].concat();
    // Field 6, of bytes: the ping, one field more inside it, and one more beside it.
    let ping = [&[0x32, u8::try_from(inner.len()).unwrap_or(0)], &inner[..], UNKNOWN_FIELD].concat();
    peer.write(&framed(&ping)).await;
    peer.backlog().await?;
    match peer.other("Pong{token 5}").await?.what {
        Body::Pong(wire::Pong { token: 5 }) => Ok(()),
        other => Err(broken("Pong{token 5}", describe(&other))),
    }
}

async fn before_a_mistake(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let send = pair.alice.next_send(super::peer::user(&pair.names.1), "the last words");
    let mut bytes = BytesMut::new();
    frame::put(&ClientFrame { received: 0, body: Some(client_frame::Body::Send(send)) }, &mut bytes);
    bytes.put_u32(0);
    pair.alice.write(&bytes).await;
    pair.alice.ack(1).await?;
    pair.alice.closed_with(ErrorCode::FrameEmpty).await?;
    pair.bob.message("the last words").await.map(drop)
}

/// Bytes as a frame's body.
fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), body].concat()
}
