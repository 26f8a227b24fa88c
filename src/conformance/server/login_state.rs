//! Who is who, and what a login carries on from: names, `device_id`, cursor and counters.

use postrider_protocol::error::ErrorCode;
use postrider_protocol::limits;
use postrider_protocol::wire::{self, client_frame};

use super::peer::Peer;
use super::world::{DEVICE, World};
use super::{NotKept, Verdict, checks, must};

checks! { "Names and state":
    byte_by_byte => "Names that differ in any byte are different users" ["NAME-2"];
    device_names => "A device is its name within its user" ["NAME-3", "LOGIN-13"];
    lost_state => "A device without state goes on where it was" ["LOGIN-13", "LOGIN-17"];
    wrong_number => "The number of another device is DEVICE_EXPIRED" ["LOGIN-14"];
    cursor_confirms => "Hello.cursor confirms, and Welcome.cursor is the higher of both" ["LOGIN-16", "SYNC-1"];
    cursor_ahead => "A cursor above the inbox is CURSOR_AHEAD" ["LOGIN-16"];
    many_devices => "A user has at most 16 devices, then TOO_MANY_DEVICES" ["LOGIN-15"];
}

/// Logs in with this `Hello`, which must be refused with this code.
async fn refused(world: &World, hello: wire::Hello, code: ErrorCode) -> Verdict {
    // By a good login it is known that the app is open.
    let mut peer = world.connect().await?;
    peer.say(client_frame::Body::Hello(hello)).await;
    peer.closed_with(code).await
}

async fn byte_by_byte(world: &World) -> Verdict {
    let composed = world.user("é");
    for other in [composed.replace('é', "e\u{301}"), composed.to_uppercase()] {
        let mut one = world.login(&composed, DEVICE).await?;
        let mut two = world.login(&other, DEVICE).await?;
        let mut alice = world.login(&world.user("alice"), DEVICE).await?;
        let text = format!("for {other}");
        alice.send_acked(&other, &text).await?;
        two.message(&text).await?;
        one.nothing("the message was for another name").await?;
    }
    Ok(())
}

async fn device_names(world: &World) -> Verdict {
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let first = world.login(&alice, "phone").await?.welcome.device_id;
    let second = world.login(&alice, "laptop").await?.welcome.device_id;
    let others = world.login(&bob, "phone").await?.welcome.device_id;
    must(first != second && first != others, "a device_id of its own for each device", || {
        format!("{first}, {second} and another user's {others}")
    })?;
    let again = world.login(&alice, "phone").await?.welcome.device_id;
    must(again == first, "the same device_id for the same name", || format!("{again} after {first}"))
}

async fn lost_state(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let (alice, bob) = &pair.names;
    for text in ["one", "two"] {
        pair.alice.send_acked(bob, text).await?;
    }
    let (first, _) = pair.bob.message("one").await?;
    pair.bob.confirm(first).await;
    pair.bob.settle().await?;
    let bob_again = world.login(bob, DEVICE).await?;
    let cursor = bob_again.welcome.cursor;
    must(cursor == first, "a Welcome.cursor where the device was", || format!("{cursor}, not {first}"))?;
    let mut bob_again: Peer = bob_again;
    bob_again.message("two").await?;
    let alice_again = world.login(alice, DEVICE).await?;
    let highest = alice_again.welcome.highest_send_id;
    must(highest == 2, "highest_send_id 2", || highest.to_string())
}

async fn wrong_number(world: &World) -> Verdict {
    let name = world.user("number");
    let phone = world.login(&name, "phone").await?.welcome.device_id;
    let laptop = world.login(&name, "laptop").await?.welcome.device_id;
    for device_id in [laptop, phone + laptop + 1_000_000] {
        let hello = wire::Hello { device_id, ..world.hello(&name, "phone") };
        refused(world, hello, ErrorCode::DeviceExpired).await?;
    }
    Ok(())
}

async fn cursor_confirms(world: &World) -> Verdict {
    let mut pair = world.pair().await?;
    let (_, bob) = &pair.names;
    for text in ["one", "two", "three"] {
        pair.alice.send_acked(bob, text).await?;
    }
    pair.bob.message("one").await?;
    let (second, _) = pair.bob.message("two").await?;
    let welcome = pair.bob.welcome.clone();
    let mut bob_again = world.resume(bob, DEVICE, &welcome, second).await?;
    let cursor = bob_again.welcome.cursor;
    must(cursor == second, "the cursor of Hello in Welcome", || format!("{cursor}, not {second}"))?;
    pair.alice.delivered(bob, 2).await?;
    let (third, _) = bob_again.message("three").await?;
    bob_again.confirm(third).await;
    pair.alice.delivered(bob, 3).await?;
    let older = world.resume(bob, DEVICE, &welcome, second).await?.welcome.cursor;
    must(older == third, "the server's own cursor, where it is higher", || format!("{older}, not {third}"))
}

async fn cursor_ahead(world: &World) -> Verdict {
    let name = world.user("ahead");
    let welcome = world.login(&name, DEVICE).await?.welcome;
    let hello =
        wire::Hello { device_id: welcome.device_id, cursor: welcome.head + 1_000_000, ..world.hello(&name, DEVICE) };
    refused(world, hello, ErrorCode::CursorAhead).await?;
    // With device_id 0 the cursor is ignored.
    let hello = wire::Hello { cursor: welcome.head + 1_000_000, ..world.hello(&name, DEVICE) };
    world.login_with(hello).await.map(drop)
}

async fn many_devices(world: &World) -> Verdict {
    let name = world.user("many");
    for number in 1..=limits::MAX_DEVICES {
        world.login(&name, &format!("device {number}")).await.map_err(|why| match why {
            NotKept::Broken(fault) => super::broken(format!("{} for device {number}", fault.expected), fault.came),
            why => why,
        })?;
    }
    refused(world, world.hello(&name, "one too many"), ErrorCode::TooManyDevices).await?;
    world.login(&name, "device 1").await.map(drop)
}
