//! Receipts that a full disk does not keep, over a real router: what is said of them, and when they are kept after all.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use postrider::router::{self, Peer, Work, login::Admit};
use postrider_protocol::session::server::{Hello, Method, Request, Requests};
use postrider_protocol::wire::{deliver::Entry, send, server_frame::Body};
use postrider_protocol::{error::ErrorCode, frame, limits};

use crate::clock::SimClock;
use crate::disk::{Remains, SimStore, Speed};
use crate::runtime::{Runtime, SECOND};
use crate::server::{APPS, Bounds, Hints, Node, first_batch};
use crate::truth::{Kind, Left};

/// A node, its store, and time that passes when somebody waits.
struct Town {
    runtime: Arc<Runtime>,
    store: Arc<SimStore>,
    node: Node,
    _clock: Arc<SimClock>,
}

impl Town {
    fn new() -> Self {
        let runtime = Runtime::new(1);
        let remains = Remains { batches: vec![first_batch()], left: Left::default() };
        let speed = Speed { sync: (10, 10), read: (10, 10) };
        let store = SimStore::open(remains, speed, 1, &runtime, runtime.waker(0), (Kind::Model, None));
        let bounds = Bounds {
            router: router::Config { inbox_entries: 10, content_bytes: 10, outbound_bytes: 1_000 },
            login_timeout: SECOND,
            idle_timeout: SECOND,
            max_frame_bytes: 1_000,
        };
        let clock = SimClock::new(1, &runtime);
        let for_node = Arc::clone(&store);
        let node = Node::start(0, for_node, clock.handle(), &runtime, (bounds, None), &Hints::default());
        Self { runtime, store, node, _clock: clock }
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = Box::pin(future);
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
                return value;
            }
            self.pass();
        }
    }

    fn pass(&self) {
        self.runtime.advance(self.runtime.now() + 10);
        self.store.work();
    }

    /// The store does all it has taken.
    fn settle(&self) {
        while !self.store.is_idle() {
            self.pass();
        }
    }

    fn log_in(&self, user: &str) -> Peer {
        let hello = Hello {
            app: APPS[0].1.into(),
            user: user.into(),
            device: "phone".into(),
            device_id: 0,
            cursor: 0,
            window: 100,
            agent: String::new(),
            method: Method::Open,
        };
        let Ok((tenant, Admit::Now(admission))) = self.node.router.admit(&hello) else { panic!("open login") };
        let login = self.node.router.log_in(tenant, hello, admission, self.node.router.outbox());
        let Ok((peer, _)) = self.wait(login) else { panic!("{user} is let in") };
        peer
    }

    /// One wake-up of a connection, as far as the store's taking it.
    fn asks(&self, peer: &Peer, received: Option<u64>, request: Option<Request>) {
        let mut work = Work::default();
        self.node.router.collect(peer, Requests { received, request }, &mut work);
        self.wait(self.node.router.commit(peer, work));
    }

    fn fill_the_disk(&self, full: bool) {
        self.store.trouble(|trouble| trouble.full_until = if full { u64::MAX } else { 0 });
    }
}

fn a_message(to: &str) -> Option<Request> {
    Some(Request::Send { send_id: 1, to: Some(send::To::User(to.into())), content: Bytes::from_static(b"hello") })
}

fn said(peer: &Peer) -> Vec<Body> {
    let mut bytes: BytesMut = peer.outbox.take().frames;
    let mut bodies = Vec::new();
    while let Some(body) = frame::take(&mut bytes, limits::MAX_FRAME_BYTES).unwrap() {
        bodies.extend(frame::decode_server(body).unwrap().body);
    }
    bodies
}

fn is_delivered(body: &Body) -> bool {
    matches!(body, Body::Deliver(deliver) if matches!(deliver.entry, Some(Entry::Delivered(_))))
}

/// Bob has a message of alice's, and the disk is full.
fn with_a_message_to_bob() -> (Town, Peer, Peer) {
    let town = Town::new();
    let (alice, bob) = (town.log_in("alice"), town.log_in("bob"));
    town.asks(&alice, None, a_message("bob"));
    town.settle();
    assert!(matches!(said(&alice)[..], [Body::Ack(_)]));
    assert!(matches!(said(&bob)[..], [Body::Deliver(_)]));
    town.fill_the_disk(true);
    (town, alice, bob)
}

#[test]
fn a_confirmation_that_a_full_disk_did_not_keep_is_kept_with_the_next_frame_when_there_is_room() {
    let (town, alice, bob) = with_a_message_to_bob();
    town.asks(&bob, Some(1), None);
    town.settle();
    town.asks(&bob, None, Some(Request::Ping { token: 1 }));
    town.settle();
    assert_eq!(bob.outbox.closing(), None, "receipts alone end no connection");
    assert!(said(&alice).is_empty());

    town.fill_the_disk(false);
    town.asks(&bob, None, Some(Request::Ping { token: 2 }));
    town.settle();
    let told = said(&alice);
    assert!(matches!(&told[..], [receipt] if is_delivered(receipt)), "{told:?}");
    assert_eq!(bob.outbox.lost_confirmation(), None);
}

#[test]
fn an_ack_is_not_said_before_everything_that_was_confirmed_before_its_message_is_kept() {
    // CONN-9: a message is on its way before its sender's confirmation is known to be lost.
    let (town, alice, bob) = with_a_message_to_bob();
    town.asks(&bob, Some(1), None);
    town.fill_the_disk(false);
    town.asks(&bob, None, a_message("alice"));
    town.settle();
    let told = said(&bob);
    assert!(!told.iter().any(|body| matches!(body, Body::Ack(_))), "{told:?}");
    assert_eq!(bob.outbox.closing().map(|why| why.code), Some(ErrorCode::StoreUnavailable));

    // A message whose wake-up brings the confirmation along is acked.
    drop((said(&alice), bob));
    let (town, alice, bob) = with_a_message_to_bob();
    town.asks(&bob, Some(1), None);
    town.settle();
    town.fill_the_disk(false);
    town.asks(&bob, None, a_message("alice"));
    town.settle();
    let told = said(&bob);
    assert!(matches!(told[..], [Body::Ack(_)]), "{told:?}");
    assert!(said(&alice).iter().any(is_delivered));
}
