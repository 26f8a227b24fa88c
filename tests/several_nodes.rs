//! The seam for several nodes: two routers with a hub each over one store, joined by a bus that carries hints only.

use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use postrider::bus::{Bus, InboxMoved};
use postrider::clock::Clock;
use postrider::hub::Hub;
use postrider::ids::AppId;
use postrider::router::{Config, Peer, Router, Work};
use postrider::store::memory::Memory;
use postrider::store::{Admission, Operation, Outcome, Store, commit_and_wait};
use postrider::tenant::{LoginMethod, Tenant, Tenants};
use postrider_protocol::session::server::{Hello, Method, Request, Requests};
use postrider_protocol::wire::{deliver, send, server_frame};
use postrider_protocol::{frame, limits};

/// Hands hints to the other node's hub; repeats each, which must change nothing.
#[derive(Default)]
struct Wire(OnceLock<Arc<Hub>>);

impl Bus for Wire {
    fn announce(&self, hint: InboxMoved) {
        for _ in 0..2 {
            self.0.get().unwrap().moved(hint.app, hint.user, hint.newest);
        }
    }
}

struct Node {
    router: Router,
    hub: Arc<Hub>,
    wire: Arc<Wire>,
}

fn node(store: &Arc<dyn Store>, app: AppId) -> Node {
    let (hub, wire) = (Arc::new(Hub::default()), Arc::new(Wire::default()));
    let tenants = Tenants::new([Tenant::new(app, "dev".into(), vec![LoginMethod::Open])]);
    let config = Config { inbox_entries: 100, content_bytes: 1000, outbound_bytes: 10_000 };
    let bus = Arc::clone(&wire) as Arc<dyn Bus>;
    let router = Router::new(Arc::clone(store), Arc::clone(&hub), bus, Arc::new(tenants), Clock::system(), config);
    Node { router, hub, wire }
}

impl Node {
    async fn log_in(&self, user: &str) -> Peer {
        let hello = Hello {
            app: "dev".into(),
            user: user.into(),
            device: "phone".into(),
            device_id: 0,
            cursor: 0,
            window: 100,
            agent: String::new(),
            method: Method::Open,
        };
        let tenant = self.router.admit(&hello).unwrap().0;
        self.router.log_in(tenant, hello, Admission::Open, self.router.outbox()).await.unwrap().0
    }

    async fn ask(&self, peer: &Peer, requests: Requests) {
        let mut work = Work::default();
        self.router.collect(peer, requests, &mut work);
        self.router.commit(peer, work).await;
    }

    /// What the connection would write now, the backlog included.
    async fn frames(&self, peer: &Peer) -> Vec<server_frame::Body> {
        while self.router.read_on(peer).await.unwrap() {}
        let mut written = BytesMut::from(&peer.outbox.take().frames[..]);
        let mut frames = Vec::new();
        while let Some(body) = frame::take(&mut written, limits::MAX_FRAME_BYTES).unwrap() {
            frames.push(frame::decode_server(body).unwrap().body.unwrap());
        }
        frames
    }
}

#[tokio::test]
async fn a_message_committed_on_one_node_reaches_a_connection_of_another_by_a_hint_alone() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let made = commit_and_wait(&*store, vec![Operation::EnsureApp("dev".into())]).await.unwrap();
    let [Outcome::App(app)] = made.outcomes[..] else { panic!("{made:?}") };
    let (east, west) = (node(&store, app), node(&store, app));
    east.wire.0.set(Arc::clone(&west.hub)).unwrap_or_else(|_| unreachable!());
    west.wire.0.set(Arc::clone(&east.hub)).unwrap_or_else(|_| unreachable!());
    let (alice, bob) = (east.log_in("alice").await, west.log_in("bob").await);

    for send_id in 1..=3 {
        let to = Some(send::To::User("bob".into()));
        let request = Some(Request::Send { send_id, to, content: "across".into() });
        east.ask(&alice, Requests { received: None, request }).await;
    }
    assert_eq!(east.frames(&alice).await.len(), 3, "three acks");
    let told = west.frames(&bob).await;
    let position = |body: &server_frame::Body| match body {
        server_frame::Body::Deliver(delivery) => delivery.position,
        other => panic!("{other:?}"),
    };
    assert_eq!(told.iter().map(position).collect::<Vec<_>>(), [1, 2, 3]);

    west.ask(&bob, Requests { received: Some(3), request: None }).await;
    let receipts = east.frames(&alice).await;
    let [server_frame::Body::Deliver(receipt)] = &receipts[..] else { panic!("{receipts:?}") };
    assert!(matches!(&receipt.entry, Some(deliver::Entry::Delivered(delivered)) if delivered.seq == 3));
}
