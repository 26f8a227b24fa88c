//! The bus: how several nodes over one store tell each other that an inbox has moved.
//!
//! It carries hints only. A hint that is lost, repeated or out of order may delay a delivery; it never loses, repeats or
//! reorders one, because a connection always reads its inbox. One node alone needs no hints: [`Local`].

use crate::ids::{AppId, Position, UserId};

/// "This inbox has durable entries up to this position."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxMoved {
    /// In which app.
    pub app: AppId,
    /// Whose inbox.
    pub user: UserId,
    /// The newest position.
    pub newest: Position,
}

/// Tells the other nodes. Must not block; what it cannot pass on it drops.
pub trait Bus: Send + Sync + 'static {
    /// Announces a hint to every other node, which hands it to its hub.
    fn announce(&self, hint: InboxMoved);
}

/// The bus of a server that runs alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Local;

impl Bus for Local {
    fn announce(&self, _: InboxMoved) {}
}
