//! A node of the server: the real router, hub and tenants over the simulated store, and its connections' tasks.

use std::sync::{Arc, Mutex};

use postrider::bus::{Bus, InboxMoved};
use postrider::clock::Clock;
use postrider::hub::Hub;
use postrider::ids::{AppId, UserId};
use postrider::router::{self, Router};
use postrider::store::{Batch, Operation, Outcome, Store, Sweep};
use postrider::tenant::{LoginMethod, Tenant, Tenants};
use postrider_protocol::error::ErrorCode;

use crate::planted::Bug;
use crate::runtime::{Micros, Runtime};

/// The apps there are, in the order in which they are made.
pub const APPS: [(AppId, &str); 2] = [(AppId(1), "dev"), (AppId(2), "shop")];

/// What a store holds before anybody has come.
pub fn first_batch() -> Batch {
    APPS.iter().map(|(_, name)| Operation::EnsureApp((*name).into())).collect()
}

/// What a server is bounded by, in a simulation small enough to be reached.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub router: router::Config,
    pub login_timeout: Micros,
    pub idle_timeout: Micros,
    pub max_frame_bytes: usize,
}

/// What the connections of a node share.
pub struct Node {
    pub number: usize,
    pub router: Router,
    pub hub: Arc<Hub>,
    pub clock: Clock,
    pub runtime: Arc<Runtime>,
    pub bounds: Bounds,
    pub bug: Option<Bug>,
}

/// Hints that are on their way to the other nodes. The world takes them out after each step.
#[derive(Clone, Default)]
pub struct Hints(Arc<Mutex<Vec<(usize, InboxMoved)>>>);

impl Hints {
    /// Takes what was announced, with the node that announced it.
    pub fn take(&self) -> Vec<(usize, InboxMoved)> {
        std::mem::take(&mut *self.0.lock().expect("one thread"))
    }
}

struct SimBus {
    from: usize,
    hints: Hints,
}

impl Bus for SimBus {
    fn announce(&self, hint: InboxMoved) {
        self.hints.0.lock().expect("one thread").push((self.from, hint));
    }
}

impl Node {
    /// A node that has just started.
    pub fn start(
        number: usize,
        store: Arc<dyn Store>,
        clock: Clock,
        runtime: &Arc<Runtime>,
        (bounds, bug): (Bounds, Option<Bug>),
        hints: &Hints,
    ) -> Self {
        let hub = Arc::new(Hub::default());
        let bus = Arc::new(SimBus { from: number, hints: hints.clone() });
        let tenant = |(id, name): (AppId, &str)| Tenant::new(id, name.into(), vec![LoginMethod::Open]);
        let tenants = Tenants::new(APPS.map(tenant));
        let router = Router::new(store, Arc::clone(&hub), bus, Arc::new(tenants), clock.clone(), bounds.router);
        Self { number, router, hub, clock, runtime: Arc::clone(runtime), bounds, bug }
    }

    /// As `src/sweeper.rs` does it, in slices of two users.
    pub async fn sweep(&self, before: u64) {
        for (app, _) in APPS {
            self.sweep_app(app, before).await;
        }
    }

    async fn sweep_app(&self, app: AppId, before: u64) {
        let connected = Arc::new(self.hub.devices(app));
        let mut after = UserId(0);
        loop {
            let sweep = Sweep { app, after, limit: 2, before, connected: Arc::clone(&connected) };
            match self.router.commit_one(Operation::Sweep(sweep)).await {
                Ok(Outcome::Swept { next: Some(user), .. }) => after = user,
                _ => return,
            }
        }
    }

    /// As the operator's socket does it.
    pub async fn revoke(&self, store: &dyn Store, app: AppId, user: String, device: String) {
        let Ok(Some(found)) = store.find_user(app, &user).await else { return };
        let revoke = Operation::RevokeDevice { app, user, device };
        if let Ok(Outcome::Revoked(device)) = self.router.commit_one(revoke).await {
            self.hub.close_user(app, found.id, Some(device), &ErrorCode::DeviceExpired.into());
        }
    }
}
