//! Committed inbox entries → the outboxes of live connections, and a hint to the other nodes.

use std::sync::Arc;

use bytes::BytesMut;
use postrider_protocol::session::server::frame as server_frame;
use postrider_protocol::wire::{self, deliver, server_frame::Body};
use postrider_protocol::{encode, frame};

use crate::bus::{Bus, InboxMoved};
use crate::hub::Hub;
use crate::ids::DeviceId;
use crate::store::{InboxEntry, Item, Publication, Receipt};

/// What a batch's completion takes along to publish with.
pub struct Publisher {
    hub: Arc<Hub>,
    bus: Arc<dyn Bus>,
}

impl Publisher {
    pub(super) fn new(hub: Arc<Hub>, bus: Arc<dyn Bus>) -> Self {
        Self { hub, bus }
    }

    /// Publishes in the given order; entries of one inbox that follow each other are published together.
    pub fn publish(&self, publications: &[Publication]) {
        for run in publications.chunk_by(|one, next| (one.app, one.user) == (next.app, next.user)) {
            let [.., Publication { app, user, entry: newest }] = run else { continue };
            self.hub.each(*app, *user, |device, outbox| {
                outbox.publish(run.iter().map(|Publication { entry, .. }| {
                    let encode = concerns(entry, device).then_some(|out: &mut BytesMut| put_entry(entry, out));
                    (entry.position, encode)
                }));
            });
            self.bus.announce(InboxMoved { app: *app, user: *user, newest: newest.position });
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
    wire::Receipt { conversation: receipt.conversation.0, user: receipt.user.as_str().into(), seq: receipt.seq.0 }
}
