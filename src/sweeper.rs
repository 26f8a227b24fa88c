//! Housekeeping: expires devices that were unseen, and messages that were undelivered, for longer than the retention.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::hub::Hub;
use crate::ids::{AppId, UserId};
use crate::router::Router;
use crate::store::{Operation, Outcome, Sweep};
use crate::tenant::Tenants;

/// Users looked at in one commit, so that a sweep never holds other commits up for long.
const SLICE_USERS: usize = 256;

/// What a sweep needs.
pub struct Sweeper {
    /// To commit and publish with.
    pub router: Arc<Router>,
    /// A connected device counts as seen.
    pub hub: Arc<Hub>,
    /// Whose inboxes.
    pub tenants: Arc<Tenants>,
    /// What "unseen for too long" means now.
    pub clock: Clock,
    /// How long what is undelivered is kept.
    pub retention: Duration,
}

/// How much faster than time passes the wall clock may run before it is not believed.
const BELIEVED_LEAP: Duration = Duration::from_secs(60 * 60);

impl Sweeper {
    /// Sweeps at once and then every `pause`, until `stop`.
    pub async fn run(self, pause: Duration, stop: CancellationToken) {
        let started = (self.clock.wall_ms(), self.clock.elapsed());
        loop {
            let now = self.now(started);
            for tenant in self.tenants.all() {
                tokio::select! {
                    () = self.sweep(tenant.id, now) => {}
                    () = stop.cancelled() => return,
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// The wall clock's milliseconds, unless it has leapt since the start: then a message would expire before its time.
    fn now(&self, (wall_ms, elapsed): (u64, Duration)) -> u64 {
        let passed = self.clock.elapsed().saturating_sub(elapsed) + BELIEVED_LEAP;
        let latest = wall_ms.saturating_add(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX));
        let now = self.clock.wall_ms();
        if now > latest {
            tracing::warn!(leap_ms = now - latest, "the wall clock has leapt: nothing expires before its time");
        }
        now.min(latest)
    }

    /// Sweeps every user of an app, a slice at a time. `now`: in milliseconds since 1970.
    async fn sweep(&self, app: AppId, now: u64) {
        let kept_ms = u64::try_from(self.retention.as_millis()).unwrap_or(u64::MAX);
        let before = now.saturating_sub(kept_ms);
        // Asked once: whoever comes later counts as seen by its login.
        let connected = Arc::new(self.hub.devices(app));
        let mut after = UserId(0);
        loop {
            let sweep = Sweep { app, after, limit: SLICE_USERS, before, connected: Arc::clone(&connected) };
            match self.router.commit_one(Operation::Sweep(sweep)).await {
                Ok(Outcome::Swept { next, devices, entries }) => {
                    if devices + entries > 0 {
                        tracing::info!(%app, devices, entries, "expired");
                    }
                    match next {
                        Some(user) => after = user,
                        None => return,
                    }
                }
                Ok(_) | Err(_) => return,
            }
        }
    }
}
