//! Confirmations and what they tell: RCPT.

use super::world::World;
use crate::ids::{Position, Seq};
use crate::store::{Attached, Operation, Outcome, Refusal};

fn alice_and_bob(world: &World) -> (Attached, Attached) {
    (world.attach("alice", "phone"), world.attach("bob", "phone"))
}

pub fn a_confirmation_tells_delivered_and_trims(world: &mut World) {
    let (alice, bob) = alice_and_bob(world);
    for id in 1..=3 {
        world.acked(&alice, id, "bob", "hi");
    }
    assert_eq!(world.published(world.receiving(&bob, 2)), ["1: 1 1.2 bob delivered"]);
    world.restart();
    assert_eq!(world.inbox(&bob), ["3 1.3 alice>bob hi"]);
    assert_eq!(world.inbox(&alice), ["1 1.2 bob delivered"]);
    assert_eq!(world.attach("bob", "phone").cursor, Position(2));
    assert_eq!(world.user("bob").map(|bob| (bob.head.0, bob.entries)), Some((3, 1)));
}

pub fn an_old_confirmation_is_ignored(world: &mut World) {
    let (alice, bob) = alice_and_bob(world);
    world.acked(&alice, 1, "bob", "hi");
    world.acked(&alice, 2, "bob", "hi");
    assert_eq!(world.received(&bob, 2), Outcome::Received(Position(2)));
    world.now = 3_000;
    for old in [0, 1, 2] {
        let (outcome, published) = world.step(world.receiving(&bob, old));
        assert_eq!((outcome, published.len()), (Outcome::Received(Position(2)), 0));
    }
    assert_eq!(world.user("bob").expect("made").devices[0].seen, 1_000);
}

pub fn a_position_above_the_inbox_is_refused(world: &mut World) {
    let (alice, bob) = alice_and_bob(world);
    world.acked(&alice, 1, "bob", "hi");
    for above in [2, u64::MAX] {
        assert_eq!(world.received(&bob, above), Outcome::Refused(Refusal::PositionNotDelivered));
    }
    assert_eq!(world.attach("bob", "phone").cursor, Position(0));
    assert!(world.inbox(&alice).is_empty());
}

pub fn receipts_coalesce(world: &mut World) {
    let (alice, bob) = alice_and_bob(world);
    let carol = world.attach("carol", "phone");
    for id in 1..=3 {
        world.acked(&alice, id, "bob", "hi");
    }
    world.acked(&alice, 4, "carol", "hi");
    world.received(&bob, 1);
    world.received(&carol, 1);
    world.read(&bob, 1, 1);
    world.restart();
    world.received(&bob, 2);
    assert_eq!(world.inbox(&alice), ["2 2.1 carol delivered", "3 1.1 bob read", "4 1.2 bob delivered"]);
    let both = world.commit(vec![world.receiving(&bob, 3), world.reading(&bob, 1, 3)]);
    assert_eq!(both.published.len(), 2);
    assert_eq!(world.inbox(&alice), ["2 2.1 carol delivered", "5 1.3 bob delivered", "6 1.3 bob read"]);
    assert_eq!(world.user("alice").map(|alice| alice.entries), Some(0), "receipts are not counted");
}

pub fn read_is_told_when_delivered_has_caught_up(world: &mut World) {
    let (alice, bob) = alice_and_bob(world);
    world.acked(&alice, 1, "bob", "hi");
    world.acked(&alice, 2, "bob", "hi");
    assert_eq!(world.step(world.reading(&bob, 1, 2)), (Outcome::Read(Seq(0)), vec![]));
    world.restart();
    assert_eq!(world.published(world.receiving(&bob, 1)), ["1: 1 1.1 bob delivered", "1: 2 1.1 bob read"]);
    assert_eq!(world.published(world.receiving(&bob, 2)), ["1: 3 1.2 bob delivered", "1: 4 1.2 bob read"]);
    assert_eq!(world.step(world.reading(&bob, 1, 1)), (Outcome::Read(Seq(2)), vec![]), "it never goes back");
}

pub fn read_refuses_what_was_not_sent_and_strangers(world: &mut World) {
    let (alice, bob) = alice_and_bob(world);
    let carol = world.attach("carol", "phone");
    world.acked(&alice, 1, "bob", "hi");
    assert_eq!(world.read(&bob, 1, 2), Outcome::Refused(Refusal::SeqNotSent));
    assert_eq!(world.read(&bob, 2, 1), Outcome::Refused(Refusal::UnknownConversation));
    assert_eq!(world.read(&carol, 1, 1), Outcome::Refused(Refusal::UnknownConversation));
    world.received(&bob, 1);
    assert_eq!(world.inbox(&alice), ["1 1.1 bob delivered"], "the refused read was not kept");
}

pub fn receipts_for_a_removed_user_are_dropped(world: &mut World) {
    let (alice, bob) = alice_and_bob(world);
    world.acked(&alice, 1, "bob", "hi");
    world.outcome(Operation::RemoveUser { app: world.app, name: "alice".into() });
    assert_eq!(world.step(world.receiving(&bob, 1)), (Outcome::Received(Position(1)), vec![]));
    assert_eq!(world.step(world.reading(&bob, 1, 1)), (Outcome::Read(Seq(1)), vec![]));
    let successor = world.attach("alice", "phone");
    assert!(world.inbox(&successor).is_empty());
}
