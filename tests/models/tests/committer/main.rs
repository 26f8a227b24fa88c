//! The hand-off to the thread that makes durable, in thousands of orders: no wake-up is lost, everybody is answered once, in
//! order and not too soon, and nothing is decided that has no place.
//!
//! Time stands still, so that whoever waits for a pause to be over where they should have been woken is found.

#![allow(missing_docs, clippy::unwrap_used)]

mod world;

use postrider_models::{in_many_orders, let_time_pass, time_has_passed};
use shuttle::thread;
use world::{Answer, Habit, World};

/// More places, or syncs, than a run needs.
const ENOUGH: u64 = 100;

#[test]
fn everybody_is_answered_once_in_order_and_after_the_sync() {
    in_many_orders(|| {
        let world = World::start(ENOUGH, ENOUGH, Habit::Sound);
        let askers = [(); 3].map(|()| world.ask_often(2));
        for asker in askers {
            assert!(matches!(asker.join().unwrap(), Answer::Durable(_)));
        }
        assert_eq!(world.stable(), 6);
        world.stop();
    });
}

#[test]
fn what_nobody_waits_for_goes_with_the_next_group() {
    in_many_orders(|| {
        let world = World::start(ENOUGH, ENOUGH, Habit::Sound);
        let lazy = world.clone();
        let lazy = thread::spawn(move || [(); 2].map(|()| lazy.ask(false)));
        let asker = world.ask_often(2);
        assert!(matches!(asker.join().unwrap(), Answer::Durable(_)));
        // The last of them is behind all that nobody waits for.
        let lazy = lazy.join().unwrap();
        assert!(matches!(world.ask(true).recv().unwrap(), Answer::Durable(5)));
        for answer in lazy {
            assert!(matches!(answer.try_recv(), Ok(Answer::Durable(_))));
        }
        world.stop();
    });
}

#[test]
fn what_nobody_waits_for_is_durable_after_a_pause() {
    in_many_orders(|| {
        let world = World::start(ENOUGH, ENOUGH, Habit::Sound);
        let askers = [(); 2].map(|()| {
            let world = world.clone();
            thread::spawn(move || {
                let answer = world.ask(false).recv().unwrap();
                assert!(time_has_passed(), "it has a sync of its own");
                answer
            })
        });
        while world.answered() < 2 {
            let_time_pass();
            thread::yield_now();
        }
        for asker in askers {
            assert!(matches!(asker.join().unwrap(), Answer::Durable(_)));
        }
        world.stop();
    });
}

#[test]
fn a_segment_ends_behind_all_that_was_decided_before() {
    in_many_orders(|| {
        let world = World::start(ENOUGH, ENOUGH, Habit::Sound);
        let asker = world.ask_often(2);
        let _lazy = world.ask(false);
        let before = world.clone();
        let ender = thread::spawn(move || before.end_segment());
        let ended = world.end_segment().unwrap();
        assert!((1..=3).contains(&ended) && ended <= world.stable(), "{ended}");
        assert!(ender.join().unwrap().is_some());
        asker.join().unwrap();
        world.stop();
        assert_eq!(world.end_segment(), None);
    });
}

#[test]
fn nothing_is_decided_while_the_gate_is_closed_and_all_go_on_when_it_opens() {
    in_many_orders(|| {
        let world = World::start(4, ENOUGH, Habit::Sound);
        let askers = [(); 4].map(|()| world.ask_often(2));
        for asker in askers {
            assert!(matches!(asker.join().unwrap(), Answer::Durable(_)));
        }
        assert_eq!(world.stable(), 8);
        world.stop();
    });
}

#[test]
fn more_than_there_is_room_for_wait_their_turn_and_all_are_answered() {
    in_many_orders(|| {
        let world = World::start(4, ENOUGH, Habit::Sound);
        let askers = [(); 6].map(|()| world.ask_often(1));
        for asker in askers {
            assert!(matches!(asker.join().unwrap(), Answer::Durable(_)));
        }
        assert_eq!(world.stable(), 6);
        world.stop();
    });
}

#[test]
fn a_full_disk_refuses_and_is_looked_at_again_after_a_pause() {
    in_many_orders(|| {
        let world = World::start(ENOUGH, ENOUGH, Habit::Sound);
        world.set_full(true);
        world.queue.look_at_gate();
        let askers = [(); 2].map(|()| world.ask_often(2));
        for asker in askers {
            assert!(matches!(asker.join().unwrap(), Answer::Durable(_) | Answer::Full));
        }
        // The thread has looked by now, or it will: nobody tells it again.
        world.set_full(false);
        while world.ask(true).recv().unwrap() == Answer::Full {
            let_time_pass();
            thread::yield_now();
        }
        world.stop();
    });
}

#[test]
fn after_a_failed_sync_nothing_is_confirmed_and_nobody_waits_in_vain() {
    in_many_orders(|| {
        let world = World::start(4, 2, Habit::Sound);
        let askers = [(); 3].map(|()| world.ask_often(3));
        for asker in askers {
            assert_eq!(asker.join().unwrap(), Answer::Failed);
        }
        assert_eq!(world.end_segment(), None);
        world.stop();
    });
}

#[test]
fn a_failure_elsewhere_frees_those_who_wait_at_the_gate() {
    in_many_orders(|| {
        let world = World::start(4, ENOUGH, Habit::Sound);
        world.stall_spill();
        let askers = [(); 4].map(|()| world.ask_often(2));
        world.queue.fail(world::Failed);
        for asker in askers {
            assert!(matches!(asker.join().unwrap(), Answer::Durable(_) | Answer::Failed));
        }
        assert_eq!(world.ask(true).recv().unwrap(), Answer::Failed);
        world.stop();
    });
}

#[test]
fn whoever_closes_leaves_nobody_without_an_answer() {
    in_many_orders(|| {
        let world = World::start(4, ENOUGH, Habit::Sound);
        let askers = [(); 3].map(|()| world.ask_often(2));
        let lazy = world.clone();
        let lazy = thread::spawn(move || lazy.ask(false).recv().unwrap());
        let ender = world.clone();
        let ender = thread::spawn(move || ender.end_segment());
        world.stop();
        for asker in askers {
            assert!(matches!(asker.join().unwrap(), Answer::Durable(_) | Answer::Closed));
        }
        assert!(matches!(lazy.join().unwrap(), Answer::Durable(_) | Answer::Closed));
        ender.join().unwrap();
        assert_eq!(world.ask(true).recv().unwrap(), Answer::Closed);
    });
}

#[test]
fn whoever_closes_frees_those_who_wait_at_the_gate() {
    in_many_orders(|| {
        let world = World::start(4, ENOUGH, Habit::Sound);
        world.stall_spill();
        let askers = [(); 4].map(|()| world.ask_often(2));
        // The first group closes the gate.
        while world.answered() == 0 {
            thread::yield_now();
        }
        world.stop();
        for asker in askers {
            assert!(matches!(asker.join().unwrap(), Answer::Durable(_) | Answer::Closed));
        }
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn whoever_looks_at_the_gate_before_listening_is_found_to_wait_for_ever() {
    in_many_orders(|| {
        let world = World::start(4, ENOUGH, Habit::LooksBeforeItListens);
        let askers = [(); 4].map(|()| world.ask_often(2));
        for asker in askers {
            asker.join().unwrap();
        }
        world.stop();
    });
}

#[test]
#[should_panic(expected = "is answered before it is durable")]
fn an_answer_before_the_sync_is_found() {
    in_many_orders(|| {
        let world = World::start(ENOUGH, ENOUGH, Habit::AnswersBeforeTheSync);
        world.ask_often(1).join().unwrap();
        world.stop();
    });
}
