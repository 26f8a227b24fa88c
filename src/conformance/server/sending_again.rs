//! What is sent again, and ids that are wrong.

use postrider_protocol::error::ErrorCode;
use postrider_protocol::limits;
use postrider_protocol::wire::server_frame::Body;
use postrider_protocol::wire::{self, ClientFrame, client_frame, send};

use super::peer::{Peer, describe, user};
use super::world::{DEVICE, World};
use super::{Verdict, broken, checks, must};

checks! { "Sending again":
    same_answer => "A repeated send_id gets the first answer and makes no second message" ["SEND-4", "CONN-10"];
    refused_for_good => "A repeated send_id that was refused is refused again" ["SEND-3", "SEND-4"];
    last_256 => "The answers to the last 256 sends are kept" ["SEND-4", "SEND-12"];
    reused => "The same send_id for another message is SEND_ID_REUSED, and no later send is answered before it" ["SEND-12", "SEND-2"];
    gap => "A send_id that is 0 or leaves one out is SEND_ID_GAP, and consumes nothing" ["SEND-12", "SEND-1"];
    each_device => "Each device counts its sends by itself" ["SEND-1", "LOGIN-17"];
}

fn message(send_id: u64, to: Option<send::To>, text: &str) -> client_frame::Body {
    client_frame::Body::Send(wire::Send { send_id, to, content: text.to_owned().into() })
}

async fn same_answer(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let (alice, bob) = pair.names.clone();
    let first = pair.alice.send_acked(&bob, "once").await?;
    let same = |again: wire::Ack| {
        must(again == first, &describe(&Body::Ack(first)), || {
            format!("{} at {}", describe(&Body::Ack(again)), again.time)
        })
    };
    pair.alice.say(message(1, user(&bob), "once")).await;
    same(pair.alice.ack(1).await?)?;
    let mut again = world.login(&alice, DEVICE).await?;
    again.say(message(1, user(&bob), "once")).await;
    same(again.ack(1).await?)?;
    again.send_acked(&bob, "and another").await?;
    again.say(message(1, user(&bob), "once")).await;
    same(again.ack(1).await?)?;
    pair.bob.message("once").await?;
    pair.bob.message("and another").await?;
    pair.bob.nothing("a repetition makes no message").await
}

async fn refused_for_good(world: &World) -> Verdict {
    let mut peer = world.login(&world.user("alice"), DEVICE).await?;
    for _ in 0..2 {
        peer.say(message(1, None, "to whom?")).await;
        peer.refused(1, ErrorCode::BadRecipient).await?;
    }
    peer.say(message(2, user(&world.user("bob")), "to bob")).await;
    peer.ack(2).await.map(drop)
}

async fn last_256(world: &World) -> Verdict {
    let bob = world.user("bob");
    let mut peer = world.login(&world.user("alice"), DEVICE).await?;
    let kept = limits::KEPT_ANSWERS as u64;
    let highest = kept + 44;
    let mut first = Vec::new();
    // As many at once as the server lets wait.
    let mut sent = 0;
    while sent < highest {
        let window = u64::from(peer.welcome.send_window).clamp(1, kept).min(highest - sent);
        let frame = |send_id| ClientFrame { received: 0, body: Some(message(send_id, user(&bob), "x")) };
        peer.say_all((sent + 1..=sent + window).map(frame)).await;
        for send_id in sent + 1..=sent + window {
            first.push(peer.ack(send_id).await?);
        }
        sent += window;
    }
    let oldest_kept = highest - kept + 1;
    for send_id in [oldest_kept, highest] {
        peer.say(message(send_id, user(&bob), "x")).await;
        let again = peer.ack(send_id).await?;
        let wanted = first[send_id as usize - 1];
        must(again == wanted, &describe(&Body::Ack(wanted)), || describe(&Body::Ack(again)))?;
    }
    peer.say(message(1, user(&bob), "x")).await;
    let expected = "Error SEND_ID_TOO_OLD (306), or the first answer";
    match peer.next(expected).await? {
        Body::Ack(ack) if ack == first[0] => Ok(()),
        Body::Error(error) if error.code == ErrorCode::SendIdTooOld.number() => peer.end(expected).await,
        other => Err(broken(expected, describe(&other))),
    }
}

async fn reused(world: &World) -> Verdict {
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let ack = world.login(&alice, DEVICE).await?.send_acked(&bob, "one thing").await?;
    for (to, text) in [
        (user(&bob), "another"),
        (user(&alice), "one thing"),
        (Some(send::To::Conversation(ack.conversation + 1)), "one thing"),
    ] {
        let mut peer = world.login(&alice, DEVICE).await?;
        let behind = message(2, user(&bob), "behind it");
        let frame = |body| ClientFrame { received: 0, body: Some(body) };
        peer.say_all([message(1, to, text), behind].map(frame)).await;
        peer.closed_unanswered_with(ErrorCode::SendIdReused).await?;
    }
    let mut again = world.login(&alice, DEVICE).await?;
    again.say(message(2, user(&bob), "behind it")).await;
    again.ack(2).await?;
    let mut to_bob = world.login(&bob, DEVICE).await?;
    to_bob.message("one thing").await?;
    to_bob.message("behind it").await?;
    to_bob.nothing("no other message was taken, and none twice").await
}

async fn gap(world: &World) -> Verdict {
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    for send_id in [0, 2, u64::MAX] {
        let mut peer = world.login(&alice, DEVICE).await?;
        peer.say(message(send_id, user(&bob), "out of turn")).await;
        peer.closed_with(ErrorCode::SendIdGap).await?;
    }
    let mut peer = world.login(&alice, DEVICE).await?;
    let highest = peer.welcome.highest_send_id;
    must(highest == 0, "highest_send_id 0: nothing was consumed", || highest.to_string())?;
    peer.send_acked(&bob, "in turn").await.map(drop)
}

async fn each_device(world: &World) -> Verdict {
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let mut seqs = Vec::new();
    for device in ["phone", "laptop"] {
        let mut peer: Peer = world.login(&alice, device).await?;
        let highest = peer.welcome.highest_send_id;
        must(highest == 0, "highest_send_id 0 for a new device", || highest.to_string())?;
        seqs.push(peer.send_acked(&bob, device).await?.seq);
    }
    must(seqs == [1, 2], "seq 1 and 2 for two messages", || format!("{seqs:?}"))
}
