//! The inbox, and what is confirmed.

use std::collections::BTreeSet;

use postrider_protocol::error::ErrorCode;
use postrider_protocol::wire::{self, ClientFrame, client_frame, deliver};

use super::peer::{Peer, user};
use super::world::{DEVICE, World};
use super::{NotKept, Verdict, checks, must};

checks! { "Delivery":
    one_order => "Everyone sees one order: seq without gaps, positions that rise" ["DLVR-1", "DLVR-8"];
    until_confirmed => "What is not confirmed comes again on the next connection, at the same position" ["DLVR-2", "SYNC-1"];
    not_after => "What is confirmed does not come again; one confirmation covers everything before it" ["DLVR-4", "SYNC-1"];
    while_away => "What came while the device was away waits, in order, and CaughtUp follows it" ["SYNC-1", "SYNC-3", "DLVR-2"];
    caught_up_at_once => "CaughtUp comes at once when nothing waits, once, and names Welcome.head or more" ["SYNC-3"];
    never_delivered => "Confirming what was not delivered is POSITION_NOT_DELIVERED" ["DLVR-5"];
    window => "Nothing is streamed beyond the window until it is confirmed" ["DLVR-6"];
}

async fn send_all(peer: &mut Peer, to: &str, texts: &[String]) -> Result<Vec<wire::Ack>, NotKept> {
    let sends: Vec<_> = texts.iter().map(|text| peer.next_send(user(to), text)).collect();
    let ids: Vec<u64> = sends.iter().map(|send| send.send_id).collect();
    peer.say_all(sends.into_iter().map(|send| ClientFrame { received: 0, body: Some(client_frame::Body::Send(send)) }))
        .await;
    let mut acks = Vec::new();
    for send_id in ids {
        acks.push(peer.ack(send_id).await?);
    }
    Ok(acks)
}

fn numbered(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("number {number}")).collect()
}

async fn one_order(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let (alice, bob) = pair.names.clone();
    let texts = numbered(60);
    let (from_alice, from_bob) =
        tokio::join!(send_all(&mut pair.alice, &bob, &texts), send_all(&mut pair.bob, &alice, &texts));
    let acks = [from_alice?, from_bob?].concat();
    let seqs: BTreeSet<u64> = acks.iter().map(|ack| ack.seq).collect();
    must(seqs.iter().copied().eq(1..=120), "each seq from 1 to 120 once", || format!("{seqs:?}"))?;
    for peer in [&mut pair.alice, &mut pair.bob] {
        let mut last = 0;
        for text in &texts {
            let (_, message) = peer.message(text).await?;
            must(message.seq > last, &format!("a seq above {last}"), || message.seq.to_string())?;
            last = message.seq;
        }
    }
    Ok(())
}

async fn until_confirmed(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    pair.alice.send_acked(&pair.names.1, "again and again").await?;
    let (position, _) = pair.bob.message("again and again").await?;
    for _ in 0..2 {
        let mut bob = world.resume(&pair.names.1, DEVICE, &pair.bob.welcome, 0).await?;
        let (again, _) = bob.message("again and again").await?;
        must(again == position, &format!("position {position}"), || again.to_string())?;
    }
    Ok(())
}

async fn not_after(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let bob = pair.names.1.clone();
    send_all(&mut pair.alice, &bob, &numbered(5)).await?;
    let mut last = 0;
    for text in numbered(5) {
        last = pair.bob.message(&text).await?.0;
    }
    pair.bob.confirm(last).await;
    pair.alice.delivered(&bob, 5).await?;
    let mut again = world.resume(&bob, DEVICE, &pair.bob.welcome, 0).await?;
    let cursor = again.welcome.cursor;
    must(cursor == last, &format!("Welcome.cursor {last}"), || cursor.to_string())?;
    again.nothing("everything was confirmed").await?;
    pair.alice.send_acked(&bob, "news").await?;
    again.message("news").await.map(drop)
}

async fn while_away(world: &World) -> Verdict {
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let mut to_bob = world.login(&bob, DEVICE).await?;
    to_bob.backlog().await?;
    let welcome = to_bob.welcome.clone();
    to_bob.close().await;
    let mut to_alice = world.login(&alice, DEVICE).await?;
    send_all(&mut to_alice, &bob, &numbered(100)).await?;
    let mut to_bob = world.resume(&bob, DEVICE, &welcome, 0).await?;
    let backlog = to_bob.backlog().await?;
    let texts: Vec<String> = backlog
        .iter()
        .filter_map(|heard| match &heard.what.1 {
            deliver::Entry::Message(message) => Some(String::from_utf8_lossy(&message.content).into_owned()),
            _ => None,
        })
        .collect();
    must(texts == numbered(100), "the 100 messages in their order, then CaughtUp", || {
        format!("{} messages before CaughtUp", texts.len())
    })?;
    to_alice.send_acked(&bob, "live").await?;
    to_bob.message("live").await.map(drop)
}

async fn caught_up_at_once(world: &World) -> Verdict {
    let mut peer = world.login(&world.user("nothing-waits"), DEVICE).await?;
    let head = peer.welcome.head;
    let position = peer.caught_up().await?.what;
    must(position >= head, &format!("position {head} or more"), || position.to_string())?;
    peer.say(client_frame::Body::Ping(wire::Ping { token: 9 })).await;
    match peer.other("Pong, and no second CaughtUp").await?.what {
        wire::server_frame::Body::Pong(_) => Ok(()),
        other => Err(super::broken("Pong, and no second CaughtUp", super::peer::describe(&other))),
    }
}

async fn never_delivered(world: &World) -> Verdict {
    let name = world.user("bob");
    let mut peer = world.login(&name, DEVICE).await?;
    let position = peer.caught_up().await?.what.max(peer.welcome.cursor);
    peer.confirm(position + 1).await;
    peer.closed_with(ErrorCode::PositionNotDelivered).await?;
    let mut pair = world.pair().await?;
    pair.alice.send_acked(&pair.names.1, "one").await?;
    let (position, _) = pair.bob.message("one").await?;
    pair.bob.confirm(position + 1).await;
    pair.bob.closed_with(ErrorCode::PositionNotDelivered).await
}

async fn window(world: &World) -> Verdict {
    const WINDOW: u64 = 3;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let mut to_alice = world.login(&alice, DEVICE).await?;
    send_all(&mut to_alice, &bob, &numbered(12)).await?;
    let mut peer = world.login_with(wire::Hello { window: WINDOW as u32, ..world.hello(&bob, DEVICE) }).await?;
    let mut confirmed = peer.welcome.cursor;
    let mut last = confirmed;
    for text in numbered(12) {
        if last >= confirmed + WINDOW {
            peer.nothing("the window is full").await?;
            peer.confirm(last).await;
            confirmed = last;
        }
        let (position, _) = peer.message(&text).await?;
        // With everything confirmed the next entry may lie anywhere.
        let may = position <= confirmed + WINDOW || last == confirmed;
        must(may, &format!("nothing above position {confirmed} + {WINDOW}"), || format!("position {position}"))?;
        last = position;
    }
    Ok(())
}
