//! A login that is given up, at each of its moments.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Waker};

use postrider::router::{self, login::Admit};
use postrider_protocol::session::server::{Hello, Method};

use crate::clock::SimClock;
use crate::disk::{Remains, SimStore, Speed};
use crate::runtime::{Runtime, SECOND};
use crate::server::{APPS, Bounds, Hints, Node, first_batch};
use crate::truth::{Kind, Left};

/// Gives a login up after so many steps of the store. Returns whether it was through by then, and the seats taken.
fn gives_up_after(steps: usize) -> (bool, usize) {
    let runtime = Runtime::new(1);
    let remains = Remains { batches: vec![first_batch()], left: Left::default() };
    let speed = Speed { sync: (10, 10), read: (10, 10) };
    let store = SimStore::open(remains, speed, 1, &runtime, runtime.waker(0), (Kind::Model, None));
    let bounds = Bounds {
        router: router::Config { inbox_entries: 10, content_bytes: 10, outbound_bytes: 10 },
        login_timeout: SECOND,
        idle_timeout: SECOND,
        max_frame_bytes: 1_000,
    };
    let clock = SimClock::new(1, &runtime);
    let for_node = Arc::clone(&store);
    let node = Node::start(0, for_node, clock.handle(), &runtime, (bounds, None), &Hints::default());
    let hello = Hello {
        app: APPS[0].1.into(),
        user: "alice".into(),
        device: "phone".into(),
        device_id: 0,
        cursor: 0,
        window: 1,
        agent: String::new(),
        method: Method::Open,
    };
    let Ok((tenant, Admit::Now(admission))) = node.router.admit(&hello) else { panic!("open login") };
    let mut login = Box::pin(node.router.log_in(tenant, hello, admission, node.router.outbox()));
    let mut cx = Context::from_waker(Waker::noop());
    let mut through = login.as_mut().poll(&mut cx).is_ready();
    for step in 0..steps {
        runtime.advance(runtime.now() + 10);
        // It hears of the last step only when it looks once more, and that it does not.
        through = step > 0 && login.as_mut().poll(&mut cx).is_ready();
        store.work();
    }
    drop(login);
    for _ in 0..10 {
        runtime.advance(runtime.now() + 10);
        store.work();
    }
    assert_eq!(node.hub.devices(APPS[0].0).len(), node.hub.connections());
    (through, node.hub.connections())
}

#[test]
fn a_login_that_is_given_up_at_any_moment_keeps_no_seat() {
    let mut moments = 0;
    for steps in 0..10 {
        let (through, seats) = gives_up_after(steps);
        if through {
            break;
        }
        moments += 1;
        assert_eq!(seats, 0, "after {steps} steps of the store");
    }
    assert!((3..10).contains(&moments), "{moments} moments: before, while and after it is synced");
}
