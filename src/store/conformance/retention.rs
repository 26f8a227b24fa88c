//! Devices and messages that end before their time.

use std::sync::Arc;

use super::world::World;
use crate::ids::{DeviceId, Position, UserId};
use crate::store::{Operation, Outcome, Refusal, Sweep};

fn swept(devices: u64, entries: u64) -> Outcome {
    Outcome::Swept { next: None, devices, entries }
}

pub fn what_only_a_revoked_device_was_entitled_to_expires(world: &mut World) {
    let (alice, _phone) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    world.acked(&alice, 1, "bob", "one");
    world.acked(&alice, 2, "bob", "two");
    let laptop = world.attach("bob", "laptop");
    world.acked(&alice, 3, "bob", "three");
    world.acked(&alice, 4, "bob", "four");
    world.received(&laptop, 3);
    world.restart();
    let told = world.published(world.revoking("bob", "phone"));
    assert_eq!(told, ["1: 1 1.2 bob expired", "2: 5 1.2 bob expired", "1: 2 1.3 bob delivered"]);
    assert_eq!(world.inbox(&laptop), ["4 1.4 alice>bob four", "5 1.2 bob expired"]);
}

pub fn what_a_removed_user_had_not_taken_is_told_to_its_senders(world: &mut World) {
    let (alice, bob) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    for id in 1..=3 {
        world.acked(&alice, id, "bob", "hi");
    }
    world.received(&bob, 1);
    let told = world.published(Operation::RemoveUser { app: world.app, name: "bob".into() });
    assert_eq!(told, ["1: 2 1.3 bob expired"]);
    world.restart();
    assert_eq!(world.inbox(&alice), ["1 1.1 bob delivered", "2 1.3 bob expired"]);
}

pub fn a_revoked_device_no_longer_holds_the_inbox(world: &mut World) {
    let (alice, phone) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    let laptop = world.attach("bob", "laptop");
    world.acked(&alice, 1, "bob", "hi");
    world.received(&laptop, 1);
    assert_eq!(world.inbox(&laptop).len(), 1);
    let (outcome, published) = world.step(world.revoking("bob", "phone"));
    assert_eq!((outcome, published.len()), (Outcome::Revoked(phone.device), 0));
    world.restart();
    assert!(world.inbox(&laptop).is_empty());
    assert_eq!(world.user("bob").map(|bob| (bob.devices.len(), bob.entries)), Some((1, 0)));
}

pub fn an_inbox_without_devices_waits_for_the_next_one(world: &mut World) {
    let (alice, phone) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    world.acked(&alice, 1, "bob", "hi");
    assert_eq!(world.published(world.revoking("bob", "phone")), [""; 0]);
    world.acked(&alice, 2, "bob", "ho");
    world.restart();
    let laptop = world.attach("bob", "laptop");
    assert_eq!((laptop.cursor, world.inbox(&phone).len()), (Position(0), 2));
    assert_eq!(world.published(world.receiving(&laptop, 2)), ["1: 1 1.2 bob delivered"]);
}

pub fn a_silent_device_expires_unless_it_is_connected(world: &mut World) {
    let alice = world.attach("alice", "phone");
    let bob = world.attach("bob", "phone");
    world.now = 2_000;
    let tablet = world.attach("bob", "tablet");
    assert_eq!(world.outcome(world.sweeping(1_000, &[])), swept(0, 0));
    assert_eq!(world.outcome(world.sweeping(1_001, &[bob.device])), swept(1, 0));
    assert_eq!(world.send(&alice, 1, "bob", "hi"), Outcome::Refused(Refusal::DeviceExpired));
    assert_eq!(world.received(&bob, 0), Outcome::Received(Position(0)), "the connected one is still there");
    world.restart();
    assert_eq!(world.outcome(world.sweeping(1_001, &[])), swept(1, 0));
    assert_eq!(world.received(&bob, 0), Outcome::Refused(Refusal::DeviceExpired));
    assert_eq!(world.received(&tablet, 0), Outcome::Received(Position(0)));
}

pub fn old_messages_expire_and_are_told(world: &mut World) {
    let (alice, bob) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    let everyone = [alice.device, bob.device];
    world.acked(&alice, 1, "bob", "old");
    world.acked(&bob, 1, "alice", "taken");
    world.received(&alice, 1);
    world.acked(&alice, 2, "bob", "old too");
    world.now = 2_000;
    world.acked(&alice, 3, "bob", "new");
    assert_eq!(world.inbox(&bob).len(), 4);
    let (outcome, published) = world.step(world.sweeping(2_000, &everyone));
    assert_eq!((outcome, published.len()), (swept(0, 2), 2));
    world.restart();
    assert_eq!(world.inbox(&bob), ["2 1.2 alice delivered", "4 1.4 alice>bob new", "5 1.3 bob expired"]);
    assert_eq!(world.inbox(&alice), ["2 1.3 bob expired"]);
    assert_eq!(world.published(world.receiving(&bob, 4)), ["1: 3 1.4 bob delivered"]);
    assert_eq!(world.user("bob").map(|bob| bob.entries), Some(0));
}

pub fn old_messages_that_some_device_took_expire_without_a_word(world: &mut World) {
    let (alice, phone) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    let laptop = world.attach("bob", "laptop");
    world.acked(&alice, 1, "bob", "taken by the laptop");
    world.received(&laptop, 1);
    let everyone = [alice.device, phone.device, laptop.device];
    assert_eq!(world.step(world.sweeping(1_500, &everyone)), (swept(0, 1), vec![]));
    world.restart();
    assert!(world.inbox(&phone).is_empty());
}

pub fn old_messages_of_a_user_without_devices_are_told_to_the_sender_only(world: &mut World) {
    let (alice, bob) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    world.acked(&alice, 1, "bob", "old");
    world.outcome(world.revoking("bob", "phone"));
    assert_eq!(world.published(world.sweeping(1_500, &[alice.device])), ["1: 1 1.1 bob expired"]);
    assert!(world.inbox(&bob).is_empty());
    let back = world.attach("bob", "phone");
    assert_eq!((back.cursor, back.head), (Position(1), Position(1)));
}

pub fn a_sweep_goes_on_where_it_stopped(world: &mut World) {
    for name in ["alice", "bob", "carol"] {
        world.attach(name, "phone");
    }
    let sweep = |after, limit| {
        let (after, connected) = (UserId(after), Arc::new([DeviceId(3)].into()));
        world.outcome(Operation::Sweep(Sweep { app: world.app, after, limit, before: 5_000, connected }))
    };
    assert_eq!(sweep(0, 2), Outcome::Swept { next: Some(UserId(2)), devices: 2, entries: 0 });
    assert_eq!(sweep(2, 2), swept(0, 0));
    assert_eq!(sweep(0, 0), Outcome::Swept { next: Some(UserId(1)), devices: 0, entries: 0 }, "it always goes on");
    assert_eq!(sweep(3, 1), swept(0, 0));
    let elsewhere =
        Sweep { app: crate::ids::AppId(5), after: UserId(0), limit: 5, before: 5_000, connected: Arc::default() };
    assert_eq!(world.outcome(Operation::Sweep(elsewhere)), swept(0, 0));
}

pub fn a_note_to_oneself_that_expires_is_told(world: &mut World) {
    let alice = world.attach("alice", "phone");
    world.acked(&alice, 1, "alice", "do not forget");
    world.now = 2_000;
    let (outcome, _) = world.step(world.sweeping(2_000, &[alice.device]));
    assert_eq!(outcome, swept(0, 1));
    world.restart();
    assert_eq!(world.inbox(&alice), ["2 1.1 alice expired"]);
}
