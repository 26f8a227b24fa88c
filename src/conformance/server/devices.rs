//! Several devices of one user.

use postrider_protocol::error::ErrorCode;

use super::world::{DEVICE, World};
use super::{Verdict, checks, must};

checks! { "Devices":
    where_they_start => "The first device starts at the oldest entry, a later one where it was linked" ["SYNC-2"];
    copies => "What one device sends the others see, and itself not" ["SYNC-4"];
    own_cursors => "Each device has its own cursor, and the first confirmation counts" ["SYNC-6", "RCPT-3"];
    later_device => "A device linked later does not vouch for what came before" ["RCPT-3"];
    replaced => "A newer connection of a device ends the older one with REPLACED" ["CONN-4"];
    undisturbed => "A newer connection of one device leaves the user's other devices alone" ["CONN-4"];
}

async fn where_they_start(world: &World) -> Verdict {
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let mut to_alice = world.login(&alice, DEVICE).await?;
    to_alice.send_acked(&bob, "before the phone").await?;
    let mut phone = world.login(&bob, "phone").await?;
    phone.message("before the phone").await?;
    let mut laptop = world.login(&bob, "laptop").await?;
    let backlog = laptop.backlog().await?;
    must(backlog.is_empty(), "no backlog for a second device", || format!("{} entries", backlog.len()))?;
    to_alice.send_acked(&bob, "for both").await?;
    phone.message("for both").await?;
    laptop.message("for both").await.map(drop)
}

async fn copies(world: &World) -> Verdict {
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let mut phone = world.login(&alice, "phone").await?;
    let mut laptop = world.login(&alice, "laptop").await?;
    let ack = phone.send_acked(&bob, "from the phone").await?;
    let (_, copy) = laptop.message("from the phone").await?;
    let about = (copy.conversation, copy.seq, &*copy.sender, &*copy.recipient);
    must(about == (ack.conversation, ack.seq, &*alice, &*bob), "the same message as from alice to bob", || {
        format!("{about:?}")
    })?;
    phone.nothing("its own message is no news").await
}

async fn own_cursors(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let bob = pair.names.1.clone();
    let mut laptop = world.login(&bob, "laptop").await?;
    pair.alice.send_acked(&bob, "for both").await?;
    pair.bob.message("for both").await?;
    let (position, _) = laptop.message("for both").await?;
    laptop.confirm(position).await;
    pair.alice.delivered(&bob, 1).await?;
    let mut again = world.resume(&bob, DEVICE, &pair.bob.welcome, 0).await?;
    let (position, _) = again.message("for both").await?;
    again.confirm(position).await;
    again.settle().await?;
    pair.alice.nothing("delivered was told already").await
}

async fn later_device(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let bob = pair.names.1.clone();
    pair.alice.send_acked(&bob, "for the first alone").await?;
    let mut laptop = world.login(&bob, "laptop").await?;
    pair.alice.send_acked(&bob, "for both").await?;
    let (position, _) = laptop.message("for both").await?;
    laptop.confirm(position).await;
    laptop.settle().await?;
    pair.alice.nothing("the first message is confirmed by nobody").await?;
    let (position, _) = pair.bob.message("for the first alone").await?;
    pair.bob.confirm(position).await;
    // With the first device's word the second message counts, too: another device has confirmed it.
    loop {
        let heard = pair.alice.entry("delivered up to seq 1 or 2").await?.what;
        match heard.1 {
            postrider_protocol::wire::deliver::Entry::Delivered(receipt) if receipt.seq == 1 => {}
            postrider_protocol::wire::deliver::Entry::Delivered(receipt) if receipt.seq == 2 => return Ok(()),
            other => return Err(super::broken("delivered up to seq 2", super::peer::describe_entry(heard.0, &other))),
        }
    }
}

async fn replaced(world: &World) -> Verdict {
    let name = world.user("alice");
    let mut older = world.login(&name, DEVICE).await?;
    let mut newer = world.resume(&name, DEVICE, &older.welcome.clone(), 0).await?;
    older.closed_with(ErrorCode::Replaced).await?;
    newer.settle().await
}

async fn undisturbed(world: &World) -> Verdict {
    let name = world.user("alice");
    let mut phone = world.login(&name, "phone").await?;
    let mut laptop = world.login(&name, "laptop").await?;
    world.login(&name, "laptop").await?.settle().await?;
    laptop.closed_with(ErrorCode::Replaced).await?;
    phone.settle().await
}
