//! A server without sockets: router and hub over any store, and what its clients send.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use postrider::bus::Local;
use postrider::clock::{Clock, Source};
use postrider::hub::Hub;
use postrider::router::{Config, Peer, Router};
use postrider::store::{Admission, Operation, Outcome, Store, commit_and_wait};
use postrider::tenant::{LoginMethod, Tenant, Tenants};
use postrider_protocol::frame as frames;
use postrider_protocol::limits::DEFAULT_WINDOW;
use postrider_protocol::session::server::{Hello, Method};
use postrider_protocol::wire::{self, ClientFrame, client_frame::Body, send::To};
use tokio::runtime::{Builder, Runtime};

/// Messages that one wake-up brings, as measured at 200 pairs with 32 in flight.
pub const AT_ONCE: u64 = 16;

const CONTENT: &[u8] = &[b'x'; 100];
const APP: &str = "bench";

pub struct World {
    pub router: Router,
    runtime: Runtime,
}

/// Time that stands still, so that every run is the same.
struct Still;

impl World {
    pub fn new(store: Arc<dyn Store>) -> Self {
        let runtime = Builder::new_current_thread().build().unwrap();
        let made = runtime.block_on(commit_and_wait(&*store, vec![Operation::EnsureApp(APP.into())])).unwrap();
        let [Outcome::App(app)] = made.outcomes[..] else { panic!("no app but {made:?}") };
        let tenants = Tenants::new([Tenant::new(app, APP.into(), vec![LoginMethod::Open])]);
        let config = Config { inbox_entries: 1 << 20, content_bytes: 1 << 14, outbound_bytes: 1 << 18 };
        let clock = Clock::from_source(Arc::new(Still));
        let router = Router::new(store, Arc::new(Hub::default()), Arc::new(Local), Arc::new(tenants), clock, config);
        Self { router, runtime }
    }

    pub fn log_in(&self, user: &str) -> Peer {
        let hello = Hello {
            app: APP.into(),
            user: user.into(),
            device: "phone".into(),
            device_id: 0,
            cursor: 0,
            window: DEFAULT_WINDOW,
            agent: String::new(),
            method: Method::Open,
        };
        let (tenant, _) = self.router.admit(&hello).unwrap();
        let login = self.router.log_in(tenant, hello, Admission::Open, self.router.outbox());
        let (peer, _) = self.wait(login).map_err(|error| error.code).unwrap();
        peer
    }

    /// Runs what the router does to its end.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}

/// The frames of one wake-up of somebody who sends: number `wake_up`, from 0.
pub fn sends(wake_up: u64, to: &str) -> Vec<ClientFrame> {
    let first = wake_up * AT_ONCE + 1;
    (first..first + AT_ONCE).map(|send_id| frame(send(send_id, to))).collect()
}

pub fn encoded(frames: &[ClientFrame]) -> BytesMut {
    let mut out = BytesMut::new();
    for frame in frames {
        frames::put(frame, &mut out);
    }
    out
}

fn frame(body: Body) -> ClientFrame {
    ClientFrame { received: 0, body: Some(body) }
}

fn send(send_id: u64, to: &str) -> Body {
    Body::Send(wire::Send { send_id, to: Some(To::User(to.into())), content: Bytes::from_static(CONTENT) })
}

impl Source for Still {
    fn wall_ms(&self) -> u64 {
        1_000_000_000_000
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}
