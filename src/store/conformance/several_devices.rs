//! One inbox, several devices.

use super::world::World;
use crate::ids::{Position, Seq};
use crate::store::{Operation, Outcome};

pub fn a_send_appears_on_the_senders_other_devices(world: &mut World) {
    let (phone, bob) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    world.acked(&phone, 1, "bob", "alone");
    assert!(world.inbox(&phone).is_empty(), "no copy for a single device");
    let laptop = world.attach("alice", "laptop");
    let told = world.published(Operation::Send(world.sending(&phone, 2, "bob", "hi")));
    assert_eq!(told, ["2: 2 1.2 alice>bob hi", "1: 1 -1 1.2 alice>bob hi"]);
    world.restart();
    assert_eq!(world.inbox(&laptop), ["1 -1 1.2 alice>bob hi"]);
    assert_eq!(
        world.step(world.receiving(&laptop, 1)),
        (Outcome::Received(Position(1)), vec![]),
        "one's own: no receipt"
    );
    world.received(&bob, 2);
    world.received(&phone, 1);
    assert_eq!(world.inbox(&laptop), ["2 1.2 bob delivered"]);
}

pub fn delivered_comes_with_the_first_device_and_trimming_with_the_last(world: &mut World) {
    let alice = world.attach("alice", "phone");
    let [phone, laptop, tablet] = ["phone", "laptop", "tablet"].map(|device| world.attach("bob", device));
    world.acked(&alice, 1, "bob", "hi");
    world.acked(&alice, 2, "bob", "ho");
    assert_eq!(world.published(world.receiving(&laptop, 2)), ["1: 1 1.2 bob delivered"]);
    assert_eq!(world.published(world.receiving(&phone, 1)), [""; 0]);
    assert_eq!(world.inbox(&phone).len(), 2);
    world.restart();
    world.received(&tablet, 2);
    assert_eq!(world.inbox(&phone), ["2 1.2 alice>bob ho"]);
    assert_eq!(world.published(world.receiving(&phone, 2)), [""; 0]);
    assert!(world.inbox(&phone).is_empty());
}

pub fn a_device_passes_over_its_own_doing(world: &mut World) {
    let (phone, bob) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    let laptop = world.attach("alice", "laptop");
    world.acked(&phone, 1, "bob", "one");
    world.acked(&bob, 1, "alice", "two");
    world.acked(&phone, 2, "bob", "three");
    world.restart();
    world.received(&laptop, 3);
    assert_eq!(world.inbox(&phone), ["2 1.2 bob>alice two", "3 -1 1.3 alice>bob three"], "its own first is passed");
    world.received(&phone, 2);
    assert!(world.inbox(&phone).is_empty(), "it was never told of the third, and does not keep it");
    assert_eq!(world.attach("alice", "phone").cursor, Position(3));
}

pub fn a_later_device_cannot_confirm_what_it_was_not_entitled_to(world: &mut World) {
    let (alice, phone) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    world.acked(&alice, 1, "bob", "for the phone only");
    let laptop = world.attach("bob", "laptop");
    assert_eq!(laptop.cursor, Position(1), "it starts where it was linked");
    world.acked(&alice, 2, "bob", "for both");
    assert_eq!(world.published(world.receiving(&laptop, 2)), [""; 0], "the first message waits for the phone");
    world.restart();
    assert_eq!(world.published(world.receiving(&phone, 1)), ["1: 1 1.2 bob delivered"], "and closes the hole");
    assert_eq!(world.inbox(&phone), ["2 1.2 alice>bob for both"]);
}

pub fn read_appears_on_the_readers_other_devices(world: &mut World) {
    let (alice, phone) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    let laptop = world.attach("bob", "laptop");
    world.acked(&alice, 1, "bob", "hi");
    world.acked(&alice, 2, "bob", "ho");
    world.received(&phone, 1);
    let told = world.published(world.reading(&phone, 1, 2));
    assert_eq!(told, ["1: 2 1.1 bob read", "2: 3 -2 1.1 bob read"]);
    let told = world.published(world.receiving(&laptop, 2));
    let wanted = ["1: 3 1.2 bob delivered", "1: 4 1.2 bob read", "2: 4 1.2 bob read"];
    assert_eq!(told, wanted, "a read that had to wait is nobody's doing: all devices are told");
    assert_eq!(world.read(&laptop, 1, 1), Outcome::Read(Seq(2)));
}

pub fn a_first_device_starts_at_what_is_unconfirmed(world: &mut World) {
    let (alice, phone) = (world.attach("alice", "phone"), world.attach("bob", "phone"));
    let laptop = world.attach("bob", "laptop");
    for id in 1..=3 {
        world.acked(&alice, id, "bob", "hi");
    }
    world.received(&laptop, 2);
    world.outcome(world.revoking("bob", "laptop"));
    world.outcome(world.revoking("bob", "phone"));
    world.restart();
    let tablet = world.attach("bob", "tablet");
    assert_eq!((tablet.cursor, tablet.head), (Position(2), Position(3)));
    assert_eq!(world.published(world.receiving(&tablet, 3)), ["1: 2 1.3 bob delivered"]);
    assert!(world.inbox(&phone).is_empty());
}
