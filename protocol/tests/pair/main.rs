//! Both sessions against each other in simulated time, over a link that splits what it carries and breaks.

#![allow(missing_docs)]

mod world;

use proptest::prelude::*;

use world::{Step, World};

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Send),
        12 => (1usize..200).prop_map(Step::ToServer),
        12 => (1usize..200).prop_map(Step::ToClient),
        8 => Just(Step::Take),
        4 => (1u64..4_000).prop_map(Step::Wait),
        2 => Just(Step::Break),
        2 => Just(Step::Read),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn over_any_broken_link_every_send_is_answered_once_and_every_message_taken_once_in_order(
        steps in proptest::collection::vec(step(), 0..400),
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.settle();
    }
}

#[test]
fn a_client_that_has_nothing_to_say_pings_in_time_and_is_never_idle() {
    let mut world = World::new();
    // Nothing was sent: a login is all there is to settle.
    world.settle();
    for _ in 0..1_000 {
        world.step(Step::Wait(100));
        world.step(Step::ToServer(usize::MAX));
        world.step(Step::ToClient(usize::MAX));
    }
    world.step(Step::Send);
    world.settle();
    assert_eq!(world.breaks_by_silence, 0);
}

#[test]
fn a_connection_that_carries_nothing_any_more_is_given_up_by_both_sides() {
    let mut world = World::new();
    // Nothing was sent: a login is all there is to settle.
    world.settle();
    for _ in 0..1_000 {
        world.step(Step::Wait(100));
        if world.breaks_by_silence > 0 {
            return;
        }
    }
    panic!("nobody noticed");
}
