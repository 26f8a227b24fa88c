//! The router: what a logged-in client asks for becomes operations of the store, and what the store has committed
//! becomes frames in the outboxes of live connections.
//!
//! It works in wake-ups: everything one read brought is collected in one [`Work`] and committed as one batch. The
//! batch's completion runs on the store's thread, in commit order: answers first, into the asking connection's outbox,
//! then publications through the hub. So an `Ack` is never overtaken by what it caused (SEND-5), and an inbox's entries
//! reach each connection in the order of their positions.
//!
//! # Layout
//! - [`Router`], [`Work`]: one exhaustive match on requests
//! - [`login`]: who is it? Attaches the device and seats the connection
//! - `send`, `receipt`, [`link`]: one file an operation
//! - [`sync`]: the backlog, read at the connection's own pace
//! - [`publish`]: committed entries → outboxes

pub mod link;
pub mod login;
pub mod publish;
mod receipt;
mod send;
pub mod sync;

use std::sync::Arc;

use postrider_protocol::error::{CodedError, ErrorCode};
use postrider_protocol::frame;
use postrider_protocol::limits::SEND_WINDOW;
use postrider_protocol::session::server::{Request, Requests, frame as server_frame};
use postrider_protocol::wire::{self, server_frame::Body};

use crate::bus::Bus;
use crate::clock::Clock;
use crate::hub::{Hub, Lost, Outbox};
use crate::ids::{AppId, DeviceId, Position, UserId};
use crate::store::{About, Batch, Caller, Committed, Completion, Operation, Outcome, Store, StoreError, Taking, taken};
use crate::tenant::{Tenant, Tenants};
use publish::Publisher;
use receipt::Receipts;

/// Codes for further devices that one wake-up may ask for; a client has one request at a time under way (LOGIN-20).
const MAX_LINKS: usize = 8;

/// A guess at what a frame takes, so that a batch is made with enough room at once.
const TYPICAL_FRAME_BYTES: usize = 128;

/// What the router is bounded by.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Message entries an inbox may hold.
    pub inbox_entries: u64,
    /// Bytes of content a message may have.
    pub content_bytes: usize,
    /// Bytes of unwritten frames above which a connection reads on from its inbox instead.
    pub outbound_bytes: usize,
}

/// What the router needs of the rest of the house. Knows no sockets.
pub struct Router {
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    publisher: Arc<Publisher>,
    tenants: Arc<Tenants>,
    clock: Clock,
    config: Config,
}

/// Who sits at the other end of a connection that is logged in.
pub struct Peer {
    /// The app.
    pub tenant: Arc<Tenant>,
    /// The user's number.
    pub user: UserId,
    /// The user's name.
    pub name: String,
    /// The device's number.
    pub device: DeviceId,
    /// What waits to be written to it.
    pub outbox: Arc<Outbox>,
    replies: Arc<Replies>,
}

/// Where goes what was committed for a connection: into its outbox, and to everybody whom it concerns.
struct Replies {
    outbox: Arc<Outbox>,
    publisher: Arc<Publisher>,
}

impl Peer {
    fn app(&self) -> AppId {
        self.tenant.id
    }
}

/// What one wake-up of a connection has collected. Bounded by what one read can bring.
#[derive(Default)]
pub struct Work {
    batch: Batch,
    /// The wall clock, once it was read.
    now: Option<u64>,
    links: usize,
    goodbye: bool,
}

impl Work {
    /// For the frames in so many bytes.
    #[must_use]
    pub fn of_bytes(bytes: usize) -> Self {
        Self { batch: Batch::with_capacity(bytes.div_ceil(TYPICAL_FRAME_BYTES).min(SEND_WINDOW)), ..Self::default() }
    }
}

impl Router {
    /// A router over these.
    pub fn new(
        store: Arc<dyn Store>,
        hub: Arc<Hub>,
        bus: Arc<dyn Bus>,
        tenants: Arc<Tenants>,
        clock: Clock,
        config: Config,
    ) -> Self {
        let publisher = Arc::new(Publisher::new(Arc::clone(&hub), bus));
        Self { store, hub, publisher, tenants, clock, config }
    }

    /// An outbox for a new connection.
    #[must_use]
    pub fn outbox(&self) -> Arc<Outbox> {
        Arc::new(Outbox::new(self.config.outbound_bytes))
    }

    /// Bytes of content a message may have.
    #[must_use]
    pub fn max_content_bytes(&self) -> usize {
        self.config.content_bytes
    }

    /// Collects what one frame asks for. The confirmation comes first: a `Read` may rest on it (RCPT-6).
    pub fn collect(&self, peer: &Peer, requests: Requests, work: &mut Work) {
        if let Some(position) = requests.received {
            peer.outbox.confirmed(Position(position));
            receipt::received(peer, position, self.now(work), &mut work.batch);
        }
        match requests.request {
            None => {}
            Some(Request::Send { send_id, to, content }) => {
                let now = self.now(work);
                work.batch.push(self.send(peer, send_id, to, content, now));
            }
            Some(Request::Read { conversation, seq }) => work.batch.push(receipt::read(peer, conversation, seq)),
            Some(Request::Ping { token }) => {
                let pong = server_frame(Body::Pong(wire::Pong { token }));
                peer.outbox.reply(|sender| sender.frame(|out| frame::put(&pong, out)));
            }
            Some(Request::LinkDevice) if work.links < MAX_LINKS => work.links += 1,
            Some(Request::LinkDevice) => peer.outbox.close(ErrorCode::TooManyRequests.into()),
            Some(Request::Goodbye) => work.goodbye = true,
        }
    }

    /// One moment for all of a wake-up.
    fn now(&self, work: &mut Work) -> u64 {
        *work.now.get_or_insert_with(|| self.clock.wall_ms())
    }

    /// Commits what was collected. Done when the store has taken it; the answers find their own way.
    ///
    /// As the store returns it: whoever waits needs room for a pointer, not for the rare requests, too.
    pub fn commit<'a>(&'a self, peer: &'a Peer, mut work: Work) -> Taking<'a> {
        if let Some(position) = peer.outbox.lost_confirmation() {
            receipt::received_before(peer, position, self.now(&mut work), &mut work.batch);
        }
        let Work { batch, links, goodbye, .. } = work;
        let committed = (!batch.is_empty()).then(|| self.commit_batch(peer, batch));
        if links == 0 && !goodbye {
            return committed.unwrap_or_else(taken);
        }
        Taking::Right(Box::pin(async move {
            if let Some(committed) = committed {
                committed.await;
            }
            for _ in 0..links {
                self.link(peer).await;
            }
            if goodbye {
                self.goodbye(peer).await;
            }
        }))
    }

    fn commit_batch(&self, peer: &Peer, batch: Batch) -> Taking<'_> {
        let about = Receipts::of(&batch).about();
        let caller: Arc<dyn Caller> = Arc::<Replies>::clone(&peer.replies);
        self.store.commit(batch, Completion::of(caller, about))
    }

    /// Everything that was committed before is answered first: an empty batch takes its place in the order (CONN-6).
    async fn goodbye(&self, peer: &Peer) {
        let outbox = Arc::clone(&peer.outbox);
        self.store.commit(Batch::new(), Completion::once(move |_| finish(&outbox))).await;
    }

    /// Closes the connection with `why`, after everything that was committed before is answered.
    pub async fn close(&self, peer: &Peer, why: CodedError) {
        let outbox = Arc::clone(&peer.outbox);
        self.store.commit(Batch::new(), Completion::once(move |_| outbox.close(why))).await;
    }

    /// The connection is gone.
    pub fn leave(&self, peer: &Peer) {
        self.hub.leave(peer.app(), peer.user, &peer.outbox);
    }

    /// Commits one operation and waits for its outcome. What it publishes is published in commit order, like all else.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn commit_one(&self, operation: Operation) -> Result<Outcome, CodedError> {
        let (answer, wait) = tokio::sync::oneshot::channel();
        let publisher = Arc::clone(&self.publisher);
        let done = move |committed: Result<Committed, StoreError>| {
            if let Ok(committed) = &committed {
                publisher.publish(&committed.published);
            }
            drop(answer.send(committed));
        };
        self.store.commit(vec![operation], Completion::once(done)).await;
        let committed = wait.await.unwrap_or(Err(StoreError::Closed)).map_err(|error| store_failed(&error))?;
        committed.outcomes.into_iter().next().ok_or_else(|| ErrorCode::Internal.into())
    }
}

/// After `Goodbye` the client takes what it said before for kept (CONN-9, RCPT-10).
fn finish(outbox: &Outbox) {
    if outbox.lost() == Lost::default() {
        outbox.finish();
    } else {
        outbox.close(store_failed_before());
    }
}

impl Caller for Replies {
    /// `about`: the batch's receipts.
    fn completed(&self, about: About, result: Result<Committed, StoreError>) {
        let receipts = Receipts::of_about(about);
        match result {
            Ok(committed) => self.settle(&committed, receipts),
            Err(StoreError::Full(_) | StoreError::Io(_)) if receipts.may_be_repeated(&self.outbox) => {}
            Err(error) => self.outbox.close(store_failed(&error)),
        }
    }
}

impl Replies {
    /// Answers first, then publications.
    fn settle(&self, committed: &Committed, receipts: Receipts) {
        let Self { outbox, publisher } = self;
        let confirmation_is_kept = receipts.is_confirmation_kept(&committed.outcomes);
        if confirmation_is_kept == Some(false) {
            outbox.lose(Lost { confirmation: true, reads: false });
        }
        let has_lost = |Lost { reads, confirmation }| reads || (confirmation && confirmation_is_kept != Some(true));
        if committed.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Answer(_))) && has_lost(outbox.lost()) {
            // No answer means unknown: the client asks again, and says its receipts again before that (SEND-9, RCPT-10).
            outbox.close(store_failed_before());
            return publisher.publish(&committed.published);
        }
        outbox.reply(|sender| {
            if confirmation_is_kept == Some(true) {
                sender.confirmation_is_kept();
            }
            for outcome in &committed.outcomes {
                match outcome {
                    Outcome::Answer(answer) => send::put_answer(answer, sender),
                    // Nothing is answered behind it (SEND-12).
                    Outcome::Refused(code) => sender.close((*code).into()),
                    Outcome::Received(_) | Outcome::Read(_) | Outcome::Done => {}
                    Outcome::App(_) | Outcome::Attached(_) | Outcome::Revoked(_) | Outcome::Swept { .. } => {
                        sender.close(ErrorCode::Internal.into());
                    }
                }
            }
        });
        publisher.publish(&committed.published);
    }
}

/// What a client is told when the store could not keep what it said earlier.
fn store_failed_before() -> CodedError {
    CodedError::new(ErrorCode::StoreUnavailable).after_ms(100)
}

/// What a client is told when the store fails: that it failed, not how.
fn store_failed(error: &StoreError) -> CodedError {
    tracing::error!(%error, "the store failed");
    match error {
        StoreError::Closed => CodedError::new(ErrorCode::ShuttingDown).after_ms(1000),
        StoreError::Io(_) => ErrorCode::StoreUnavailable.into(),
        StoreError::Full(_) => CodedError::new(ErrorCode::StoreUnavailable).after_ms(1000),
        StoreError::Locked(_) | StoreError::Format { .. } | StoreError::Occupied(_) | StoreError::Corrupt(_) => {
            ErrorCode::Internal.into()
        }
    }
}
