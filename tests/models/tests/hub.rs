//! Publishing against connecting, replacing and leaving, in thousands of orders: no wake-up is lost, nothing is passed
//! over, nothing comes twice.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use postrider_models::ids::DeviceId;
use postrider_models::in_many_orders;
use postrider_protocol::error::ErrorCode;
use shuttle::thread;
use support::{Ended, Habit, PHONE, World};

#[test]
fn a_connection_gets_every_entry_once_and_in_order_though_its_tail_overflows() {
    in_many_orders(|| {
        // Two entries fill the tail, and the window ends before the inbox does.
        let world = World::start(16, 5);
        let connection = world.connect(PHONE, Habit::Lasting);
        world.publish(8);
        assert_eq!(connection.join().unwrap(), Ended::Served(8));
        world.stop();
    });
}

#[test]
fn a_newer_connection_goes_on_where_the_older_one_was_and_the_older_one_is_told() {
    in_many_orders(|| {
        let world = World::start(24, 4);
        let older = world.connect(PHONE, Habit::Lasting);
        let publisher = world.clone();
        let publisher = thread::spawn(move || publisher.publish(5));
        let newer = world.connect(PHONE, Habit::Lasting);
        publisher.join().unwrap();
        // Which of the two is the newer is for the store's order to say; the other one was served or replaced.
        let ended = [older.join().unwrap(), newer.join().unwrap()];
        assert!(ended.contains(&Ended::Served(5)), "{ended:?}");
        assert!(ended.iter().all(|ended| matches!(ended, Ended::Served(5) | Ended::Closed(ErrorCode::Replaced))));
        world.stop();
    });
}

#[test]
fn a_connection_that_breaks_leaves_its_seat_and_the_next_one_misses_nothing() {
    in_many_orders(|| {
        let world = World::start(16, 4);
        let first = world.connect(PHONE, Habit::BreaksAfter(2));
        let other = world.connect(DeviceId(2), Habit::Lasting);
        world.publish(5);
        assert!(matches!(first.join().unwrap(), Ended::Broken | Ended::Served(_)));
        let again = world.connect(PHONE, Habit::Lasting);
        assert_eq!(again.join().unwrap(), Ended::Served(5));
        assert_eq!(other.join().unwrap(), Ended::Served(5));
        world.stop();
    });
}

#[test]
fn a_stop_reaches_every_connection_that_is_seated_by_then() {
    in_many_orders(|| {
        let world = World::start(16, 4);
        let connections = [PHONE, DeviceId(2)].map(|device| world.connect(device, Habit::Lasting));
        world.publish(3);
        world.close_all();
        for connection in connections {
            let ended = connection.join().unwrap();
            // Who logs in after the stop is served: it is the listener that takes nobody any more.
            assert!(matches!(ended, Ended::Closed(ErrorCode::ShuttingDown) | Ended::Served(3)), "{ended:?}");
        }
        world.stop();
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_task_that_looks_before_it_registers_is_found_to_sleep_for_ever() {
    in_many_orders(|| {
        let world = World::start(16, 4);
        let connection = world.connect(PHONE, Habit::LooksBeforeItRegisters);
        world.publish(4);
        connection.join().unwrap();
        world.stop();
    });
}
