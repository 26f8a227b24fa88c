//! The backlog: a connection that is behind reads on from its inbox, a page at a time, at its own pace.

use postrider_protocol::error::CodedError;

use super::publish::{concerns, put_entry};
use super::{Peer, Router, store_failed};
use crate::store::{Page, ReadLimit};

/// Entries of one page: enough to fill a write, few enough to keep other connections served.
const PAGE_ENTRIES: usize = 512;

impl Router {
    /// Streams one page, if the connection is behind and there is room. Returns whether something was streamed.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` or `INTERNAL` when the inbox cannot be read.
    pub async fn read_on(&self, peer: &Peer) -> Result<bool, CodedError> {
        let Some(backlog) = peer.outbox.backlog() else { return Ok(false) };
        let limit = ReadLimit { entries: PAGE_ENTRIES, bytes: self.config.outbound_bytes };
        let page = self.store.read_inbox(peer.app(), peer.user, backlog.after, backlog.up_to, limit).await;
        let Page { entries, complete } = page.map_err(|error| store_failed(&error))?;
        let through = match entries.last() {
            Some(last) if !complete => last.position,
            _ => backlog.up_to,
        };
        peer.outbox.stream(through, |out| {
            let mut delivered = None;
            for entry in entries.iter().filter(|entry| concerns(entry, peer.device)) {
                put_entry(entry, out);
                delivered = Some(entry.position);
            }
            delivered
        });
        Ok(true)
    }
}
