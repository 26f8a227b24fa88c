//! The hub: which connections of a user are live on this node. A cache of live connections, never the truth: whoever is
//! not found here reads the inbox later.
//!
//! # Layout
//! - [`Hub`]: (app, user) → connections
//! - [`outbox`]: what waits to be written to one connection, bounded
//! - [`wakes`]: one wake-up for all that one commit brings

pub mod outbox;
pub mod wakes;

use std::collections::HashSet;
use std::sync::Arc;

use postrider_protocol::error::{CodedError, ErrorCode};

pub use outbox::{Lost, Outbox, Output, Sender, Waiting};

use crate::ids::{AppId, DeviceId, Position, UserId};
use crate::sync::{AtomicUsize, DashMap, Ordering};

/// The live connections of this node.
///
/// Locks: a shard of the map, then an outbox; never the other way round, and neither across an await.
#[derive(Default)]
pub struct Hub {
    users: DashMap<(AppId, UserId), Vec<Seat>>,
    connections: AtomicUsize,
}

/// One device's place.
struct Seat {
    device: DeviceId,
    outbox: Arc<Outbox>,
}

impl Hub {
    /// Seats a connection. A connection of the same device that is already here is told `REPLACED` (CONN-4).
    pub fn join(&self, app: AppId, user: UserId, device: DeviceId, outbox: Arc<Outbox>) {
        // Most users have one device here: room for one.
        let mut seats = self.users.entry((app, user)).or_insert_with(|| Vec::with_capacity(1));
        match seats.iter_mut().find(|seat| seat.device == device) {
            Some(seat) => std::mem::replace(&mut seat.outbox, outbox).close(ErrorCode::Replaced.into()),
            None => {
                seats.push(Seat { device, outbox });
                self.connections.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Gives the seat up, unless a newer connection of the device has it by now.
    pub fn leave(&self, app: AppId, user: UserId, outbox: &Arc<Outbox>) {
        let Some(mut seats) = self.users.get_mut(&(app, user)) else { return };
        let before = seats.len();
        seats.retain(|seat| !Arc::ptr_eq(&seat.outbox, outbox));
        self.connections.fetch_sub(before - seats.len(), Ordering::Relaxed);
        let empty = seats.is_empty();
        drop(seats);
        if empty {
            self.users.remove_if(&(app, user), |_, seats| seats.is_empty());
        }
    }

    /// Calls `tell` with each live connection of a user. `tell` must not call the hub.
    pub fn each(&self, app: AppId, user: UserId, mut tell: impl FnMut(DeviceId, &Outbox)) {
        if let Some(seats) = self.users.get(&(app, user)) {
            for seat in seats.iter() {
                tell(seat.device, &seat.outbox);
            }
        }
    }

    /// Another node says that this inbox has entries up to `newest`: the user's connections here read on.
    pub fn moved(&self, app: AppId, user: UserId, newest: Position) {
        self.each(app, user, |_, outbox| outbox.moved(newest));
    }

    /// Closes the connections of one device, or of all of a user's.
    pub fn close_user(&self, app: AppId, user: UserId, only: Option<DeviceId>, why: &CodedError) {
        self.each(app, user, |device, outbox| {
            if only.is_none_or(|only| only == device) {
                outbox.close(why.clone());
            }
        });
    }

    /// Closes every connection, each with its own error.
    pub fn close_all(&self, mut why: impl FnMut() -> CodedError) {
        for seats in &self.users {
            for seat in seats.value() {
                seat.outbox.close(why());
            }
        }
    }

    /// The devices of an app that are connected here.
    #[must_use]
    pub fn devices(&self, app: AppId) -> HashSet<DeviceId> {
        let of_app = self.users.iter().filter(|seats| seats.key().0 == app);
        of_app.flat_map(|seats| seats.iter().map(|seat| seat.device).collect::<Vec<_>>()).collect()
    }

    /// How many connections are logged in here.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: AppId = AppId(1);
    const ALICE: UserId = UserId(1);

    fn outbox() -> Arc<Outbox> {
        Arc::new(Outbox::new(1000))
    }

    #[test]
    fn a_newer_connection_of_the_same_device_replaces_the_older_one() {
        let hub = Hub::default();
        let (older, newer, other) = (outbox(), outbox(), outbox());
        hub.join(APP, ALICE, DeviceId(1), Arc::clone(&older));
        hub.join(APP, ALICE, DeviceId(2), Arc::clone(&other));
        hub.join(APP, ALICE, DeviceId(1), Arc::clone(&newer));
        assert_eq!(older.closing().map(|why| why.code), Some(ErrorCode::Replaced));
        assert!(newer.closing().is_none() && other.closing().is_none());
        assert_eq!(hub.connections(), 2);

        hub.leave(APP, ALICE, &older);
        assert_eq!(hub.connections(), 2, "the older one has no seat to give up");
        hub.leave(APP, ALICE, &newer);
        hub.leave(APP, ALICE, &other);
        assert_eq!((hub.connections(), hub.users.len()), (0, 0));
    }

    #[test]
    fn nothing_crosses_apps() {
        let hub = Hub::default();
        hub.join(APP, ALICE, DeviceId(1), outbox());
        let mut told = 0;
        hub.each(AppId(2), ALICE, |_, _| told += 1);
        assert_eq!(told, 0);
        assert_eq!(hub.devices(APP), [DeviceId(1)].into());
    }
}
