//! Receipts.

use postrider_protocol::error::ErrorCode;
use postrider_protocol::wire::{self, ClientFrame, client_frame};

use super::world::{DEVICE, World};
use super::{Verdict, checks};

checks! { "Receipts":
    never_early => "delivered comes when the recipient has confirmed, for what was confirmed, and never before" ["RCPT-1", "RCPT-3", "DLVR-4"];
    read_too => "read comes when the recipient has said so, to the sender and to the reader's other devices" ["RCPT-1", "RCPT-4"];
    repetitions => "Confirmations and reads that are not above the former are ignored" ["RCPT-2"];
    read_waits => "A Read that runs ahead of the confirmation takes effect with it" ["RCPT-6"];
    received_first => "The received of a frame takes effect before its body" ["CONN-9", "RCPT-6"];
    wrong_reads => "A Read of what is not there is UNKNOWN_CONVERSATION or SEQ_NOT_SENT; seq 0 says nothing" ["RCPT-5"];
    while_away => "Receipts wait for a sender who is away, the last of each kind at least" ["RCPT-1", "RCPT-7"];
    to_oneself => "A note to oneself is delivered once, and has its receipts" ["SYNC-5", "SEND-10"];
}

async fn never_early(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let bob = &pair.names.1;
    for text in ["one", "two", "three"] {
        pair.alice.send_acked(bob, text).await?;
    }
    pair.bob.message("one").await?;
    let (second, _) = pair.bob.message("two").await?;
    pair.bob.message("three").await?;
    pair.alice.nothing("nothing is confirmed").await?;
    pair.bob.confirm(second).await;
    pair.alice.delivered(bob, 2).await?;
    pair.alice.nothing("the third message is not confirmed").await
}

async fn read_too(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let bob = pair.names.1.clone();
    let mut laptop = world.login(&bob, "another").await?;
    let conversation = pair.alice.send_acked(&bob, "read me").await?.conversation;
    let (position, _) = pair.bob.message("read me").await?;
    pair.bob.confirm(position).await;
    pair.alice.delivered(&bob, 1).await?;
    pair.alice.nothing("nothing is read").await?;
    pair.bob.read_up_to(conversation, 1).await;
    pair.alice.read(&bob, 1).await?;
    laptop.message("read me").await?;
    laptop.read(&bob, 1).await.map(drop)
}

async fn repetitions(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let bob = pair.names.1.clone();
    let conversation = pair.alice.send_acked(&bob, "one").await?.conversation;
    pair.alice.send_acked(&bob, "two").await?;
    let (first, _) = pair.bob.message("one").await?;
    let (second, _) = pair.bob.message("two").await?;
    for position in [second, first, second] {
        pair.bob.confirm(position).await;
    }
    for seq in [2, 1, 2] {
        pair.bob.read_up_to(conversation, seq).await;
    }
    pair.bob.settle().await?;
    pair.alice.delivered(&bob, 2).await?;
    pair.alice.read(&bob, 2).await?;
    pair.alice.nothing("watermarks never go back").await
}

async fn read_waits(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let bob = pair.names.1.clone();
    let conversation = pair.alice.send_acked(&bob, "read me").await?.conversation;
    let (position, _) = pair.bob.message("read me").await?;
    pair.bob.read_up_to(conversation, 1).await;
    pair.bob.settle().await?;
    pair.alice.nothing("what is not delivered is not read").await?;
    pair.bob.confirm(position).await;
    pair.alice.delivered(&bob, 1).await?;
    pair.alice.read(&bob, 1).await.map(drop)
}

async fn received_first(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let bob = pair.names.1.clone();
    let conversation = pair.alice.send_acked(&bob, "read me").await?.conversation;
    let (received, _) = pair.bob.message("read me").await?;
    let read = client_frame::Body::Read(wire::Read { conversation, seq: 1 });
    pair.bob.say_all([ClientFrame { received, body: Some(read) }]).await;
    pair.alice.delivered(&bob, 1).await?;
    pair.alice.read(&bob, 1).await.map(drop)
}

async fn wrong_reads(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let bob = pair.names.1.clone();
    let conversation = pair.alice.send_acked(&bob, "only for bob").await?.conversation;
    pair.bob.message("only for bob").await?;
    pair.bob.read_up_to(conversation, 0).await;
    pair.bob.settle().await?;
    pair.bob.read_up_to(conversation, 2).await;
    pair.bob.closed_with(ErrorCode::SeqNotSent).await?;
    for number in [conversation, u64::MAX] {
        let mut eve = world.login(&world.user("eve"), DEVICE).await?;
        eve.read_up_to(number, 1).await;
        eve.closed_with(ErrorCode::UnknownConversation).await?;
    }
    Ok(())
}

async fn while_away(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let (alice, bob) = pair.names.clone();
    let welcome = pair.alice.welcome.clone();
    let mut conversation = 0;
    for text in ["one", "two", "three"] {
        conversation = pair.alice.send_acked(&bob, text).await?.conversation;
    }
    pair.alice.close().await;
    for (seq, text) in (1..).zip(["one", "two", "three"]) {
        let (position, _) = pair.bob.message(text).await?;
        pair.bob.confirm(position).await;
        pair.bob.read_up_to(conversation, seq).await;
    }
    pair.bob.settle().await?;
    let mut again = world.resume(&alice, DEVICE, &welcome, 0).await?;
    let (mut delivered, mut read) = (0, 0);
    while (delivered, read) != (3, 3) {
        let entry = again.entry("delivered and read up to seq 3").await?.what;
        match &entry.1 {
            wire::deliver::Entry::Delivered(receipt) if receipt.user == bob => delivered = receipt.seq,
            wire::deliver::Entry::Read(receipt) if receipt.user == bob => read = receipt.seq,
            other => {
                let came = super::peer::describe_entry(entry.0, other);
                return Err(super::broken("delivered and read up to seq 3", came));
            }
        }
    }
    again.nothing("both watermarks are told").await
}

async fn to_oneself(world: &World) -> Verdict {
    let name = world.user("alice");
    let mut phone = world.login(&name, "phone").await?;
    let mut laptop = world.login(&name, "laptop").await?;
    let conversation = phone.send_acked(&name, "buy milk").await?.conversation;
    let (position, _) = phone.message("buy milk").await?;
    laptop.message("buy milk").await?;
    phone.nothing("a note is one entry").await?;
    phone.confirm(position).await;
    phone.delivered(&name, 1).await?;
    phone.read_up_to(conversation, 1).await;
    phone.read(&name, 1).await?;
    laptop.delivered(&name, 1).await?;
    laptop.read(&name, 1).await.map(drop)
}
