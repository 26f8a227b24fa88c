//! Committed inbox entries → the outboxes of live connections, and a hint to the other nodes.

use std::sync::Arc;

use bytes::BytesMut;
use postrider_protocol::session::server::frame as server_frame;
use postrider_protocol::wire::{self, deliver, server_frame::Body};
use postrider_protocol::{encode, frame};

use super::Router;
use crate::bus::{Bus, InboxMoved};
use crate::hub::Hub;
use crate::ids::DeviceId;
use crate::store::{InboxEntry, Item, Publication, Receipt};

/// What a batch's completion takes along to publish with.
pub struct Publisher {
    hub: Arc<Hub>,
    bus: Arc<dyn Bus>,
}

impl Router {
    pub(super) fn publisher(&self) -> Publisher {
        Publisher { hub: Arc::clone(&self.hub), bus: Arc::clone(&self.bus) }
    }
}

impl Publisher {
    /// Publishes in the given order.
    pub fn publish(&self, publications: &[Publication]) {
        for Publication { app, user, entry } in publications {
            self.hub.each(*app, *user, |device, outbox| {
                let encode = concerns(entry, device).then_some(|out: &mut BytesMut| put_entry(entry, out));
                outbox.publish(entry.position, encode);
            });
            self.bus.announce(InboxMoved { app: *app, user: *user, newest: entry.position });
        }
    }
}

/// Whether a device is to be told of an entry: not if it is the device's own doing (SYNC-4).
pub(super) fn concerns(entry: &InboxEntry, device: DeviceId) -> bool {
    entry.origin != device
}

/// Appends the `Deliver` frame of an entry.
pub(super) fn put_entry(entry: &InboxEntry, out: &mut BytesMut) {
    let position = entry.position.0;
    let receipt = match &entry.item {
        Item::Message(message) => return encode::deliver_message(position, message, out),
        Item::Delivered(receipt) => deliver::Entry::Delivered(to_wire(receipt)),
        Item::Read(receipt) => deliver::Entry::Read(to_wire(receipt)),
        Item::Expired(receipt) => deliver::Entry::Expired(to_wire(receipt)),
    };
    frame::put(&server_frame(Body::Deliver(wire::Deliver { position, entry: Some(receipt) })), out);
}

fn to_wire(receipt: &Receipt) -> wire::Receipt {
    wire::Receipt { conversation: receipt.conversation.0, user: receipt.user.clone(), seq: receipt.seq.0 }
}
