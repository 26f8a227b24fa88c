//! The life of a connection: pings, silence, goodbye.

use std::time::Duration;

use postrider_protocol::error::ErrorCode;
use postrider_protocol::wire::server_frame::Body;
use postrider_protocol::wire::{self, client_frame};

use super::peer::describe;
use super::world::{DEVICE, World};
use super::{NotKept, Verdict, broken, checks};

checks! { "Connections":
    pong => "Ping is answered by Pong with the same token" ["CONN-3"];
    idle => "Silence for idle_timeout_ms ends with IDLE_TIMEOUT, whatever the server sends meanwhile" ["CONN-2"];
    goodbye => "Goodbye is answered by everything that was asked, then Goodbye, then the end" ["CONN-6", "CONN-9"];
    orderly_end => "After the last frame comes TLS close_notify" ["CONN-11"];
    what_was_answered => "After Goodbye everything is where it was" ["CONN-9", "SEND-4"];
}

async fn pong(world: &World) -> Verdict {
    let mut peer = world.login(&world.user("ping"), DEVICE).await?;
    peer.backlog().await?;
    for token in [0, 1, u64::MAX] {
        peer.say(client_frame::Body::Ping(wire::Ping { token })).await;
        match peer.other("Pong").await?.what {
            Body::Pong(pong) if pong.token == token => {}
            other => return Err(broken(format!("Pong{{token {token}}}"), describe(&other))),
        }
    }
    Ok(())
}

async fn idle(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let timeout = Duration::from_millis(pair.bob.welcome.idle_timeout_ms.into());
    if timeout > world.options.longest_wait {
        return Err(NotKept::Skipped(format!(
            "the server allows {} s of silence; wait longer with --longest-wait",
            timeout.as_secs()
        )));
    }
    // What the server sends does not count.
    pair.alice.send_acked(&pair.names.1, "are you asleep?").await?;
    pair.alice.close().await;
    pair.bob.message("are you asleep?").await?;
    pair.bob.wait_up_to(timeout + world.options.patience);
    pair.bob.closed_with(ErrorCode::IdleTimeout).await
}

async fn goodbye(world: &World) -> Verdict {
    let mut peer = world.login(&world.user("alice"), DEVICE).await?;
    peer.backlog().await?;
    let bob = world.user("bob");
    let sends: Vec<_> = (1..=20).map(|number| peer.next_send(super::peer::user(&bob), &number.to_string())).collect();
    let bodies = sends.into_iter().map(client_frame::Body::Send).chain([client_frame::Body::Goodbye(wire::Goodbye {})]);
    peer.say_all(bodies.map(|body| wire::ClientFrame { received: 0, body: Some(body) })).await;
    for send_id in 1..=20 {
        peer.ack(send_id).await?;
    }
    match peer.next("Goodbye").await? {
        Body::Goodbye(_) => peer.end("the end after Goodbye").await,
        other => Err(broken("Goodbye", describe(&other))),
    }
}

async fn orderly_end(world: &World) -> Verdict {
    let mut peer = world.login(&world.user("leaver"), DEVICE).await?;
    peer.backlog().await?;
    peer.say(client_frame::Body::Goodbye(wire::Goodbye {})).await;
    match peer.next("Goodbye").await? {
        Body::Goodbye(_) => peer.end_in_order().await,
        other => Err(broken("Goodbye", describe(&other))),
    }
}

async fn what_was_answered(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let (alice, bob) = pair.names.clone();
    let ack = pair.alice.send_acked(&bob, "before").await?;
    pair.bob.message("before").await?;
    pair.alice.say(client_frame::Body::Goodbye(wire::Goodbye {})).await;
    pair.alice.other("Goodbye").await?;
    let again = world.login(&alice, DEVICE).await?;
    super::must(again.welcome.highest_send_id == ack.send_id, "highest_send_id 1", || {
        again.welcome.highest_send_id.to_string()
    })
}
