//! Messages and their answers.

use postrider_protocol::error::ErrorCode;
use postrider_protocol::wire::server_frame::Body;
use postrider_protocol::wire::{ClientFrame, client_frame, deliver, send};

use super::peer::{describe, describe_entry, user};
use super::world::{DEVICE, World};
use super::{Verdict, broken, checks, must};

checks! { "Sending":
    end_to_end => "A message arrives as it was sent, and Ack and message agree" ["SEND-10", "DLVR-9", "CONTENT-1"];
    in_order => "Sends are answered one by one and in order, refused ones among them" ["SEND-2", "SEND-3", "CONN-9"];
    by_number => "A conversation can be addressed by its number" ["SEND-10"];
    to_nobody => "What cannot be addressed is refused, and its send_id is used up" ["SEND-3", "SEND-11", "ERR-4"];
    ack_first => "The Ack of a message comes before any receipt for it" ["SEND-5"];
}

async fn end_to_end(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let (alice, bob) = pair.names.clone();
    let every_byte: Vec<u8> = (0..=255).collect();
    for (seq, content) in (1..).zip([b"hello".to_vec(), Vec::new(), every_byte, vec![0xff; 5000]]) {
        let mut send = pair.alice.next_send(user(&bob), "");
        send.content = content.clone().into();
        pair.alice.say(client_frame::Body::Send(send)).await;
        let ack = pair.alice.ack(seq).await?;
        must(ack.seq == seq, &format!("seq {seq} of a new conversation"), || ack.seq.to_string())?;
        match pair.bob.entry("Deliver of a message").await?.what {
            (_, deliver::Entry::Message(message)) => {
                let about = (message.conversation, message.seq, message.time, &*message.sender, &*message.recipient);
                let wanted = (ack.conversation, ack.seq, ack.time, &*alice, &*bob);
                must(about == wanted, &format!("{wanted:?}, as Ack and sender said"), || format!("{about:?}"))?;
                must(message.content == content, "the content byte by byte", || "other bytes".into())?;
            }
            (position, entry) => return Err(broken("the message", describe_entry(position, &entry))),
        }
    }
    Ok(())
}

async fn in_order(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let bob = pair.names.1.clone();
    let refused = |send_id: u64| send_id.is_multiple_of(7);
    let sends: Vec<_> = (1..=50)
        .map(|send_id| pair.alice.next_send(if refused(send_id) { None } else { user(&bob) }, &send_id.to_string()))
        .collect();
    let frame = |send| ClientFrame { received: 0, body: Some(client_frame::Body::Send(send)) };
    pair.alice.say_all(sends.into_iter().map(frame)).await;
    let mut seq = 0;
    for send_id in 1..=50 {
        if refused(send_id) {
            pair.alice.refused(send_id, ErrorCode::BadRecipient).await?;
            continue;
        }
        seq += 1;
        let ack = pair.alice.ack(send_id).await?;
        must(ack.seq == seq, &format!("seq {seq} for send_id {send_id}"), || format!("seq {}", ack.seq))?;
    }
    for send_id in (1..=50).filter(|send_id| !refused(*send_id)) {
        pair.bob.message(&send_id.to_string()).await?;
    }
    Ok(())
}

async fn by_number(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let conversation = pair.alice.send_acked(&pair.names.1, "by name").await?.conversation;
    let send = pair.alice.next_send(Some(send::To::Conversation(conversation)), "by number");
    pair.alice.say(client_frame::Body::Send(send)).await;
    let ack = pair.alice.ack(2).await?;
    must((ack.conversation, ack.seq) == (conversation, 2), "the same conversation, seq 2", || {
        describe(&Body::Ack(ack))
    })?;
    let answer = pair.bob.next_send(Some(send::To::Conversation(conversation)), "and back");
    pair.bob.say(client_frame::Body::Send(answer)).await;
    pair.bob.ack(1).await?;
    let (_, message) = pair.alice.message("and back").await?;
    must(message.recipient == pair.names.0, "the other user as recipient", || message.recipient)
}

async fn to_nobody(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let conversation = pair.alice.send_acked(&pair.names.1, "between us").await?.conversation;
    let mut eve = world.login(&world.user("eve"), DEVICE).await?;
    let by_number = |number| Some(send::To::Conversation(number));
    let cases = [
        (by_number(conversation), ErrorCode::NotAccepted),
        (by_number(0), ErrorCode::NotAccepted),
        (by_number(u64::MAX), ErrorCode::NotAccepted),
        (None, ErrorCode::BadRecipient),
        (user(""), ErrorCode::BadRecipient),
        (user(&"x".repeat(65)), ErrorCode::BadRecipient),
        (user("a\nb"), ErrorCode::BadRecipient),
    ];
    let count = cases.len() as u64;
    for (send_id, (to, code)) in (1..).zip(cases) {
        let send = eve.next_send(to, "from a stranger");
        eve.say(client_frame::Body::Send(send)).await;
        eve.refused(send_id, code).await?;
    }
    let ack = eve.send_acked(&pair.names.1, "by name").await?;
    must(ack.send_id == count + 1, "the next send_id to be taken", || ack.send_id.to_string())?;
    pair.bob.message("between us").await?;
    pair.bob.message("by name").await.map(drop)
}

async fn ack_first(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let (alice, bob) = pair.names.clone();
    for seq in 1..=20 {
        let send_id = pair.alice.send(&bob, &seq.to_string()).await;
        let (position, _) = pair.bob.message(&seq.to_string()).await?;
        pair.bob.confirm(position).await;
        let receipt = pair.alice.delivered(&bob, seq).await?;
        let ack = pair.alice.answer("Ack").await?;
        must(ack.number < receipt.number, &format!("Ack of send_id {send_id} to {alice}, then delivered"), || {
            "delivered first".into()
        })?;
    }
    Ok(())
}
