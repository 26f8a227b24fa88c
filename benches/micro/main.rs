//! Each step of a message's way through the server: nanoseconds and allocations. See `README.md` above this directory.
//!
//! # Layout
//! - this file: what is measured
//! - `measure`: criterion for the time, a counting allocator for the allocations
//! - `world`: a server without sockets; `bare`: a store that is not measured
//! - `people`, of the store's benches: users who ask a store directly
//! - `send_path`: a program of its own, whose instructions are counted

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod bare;
mod measure;
#[path = "../store/people.rs"]
#[allow(dead_code, reason = "the store's benches use all of it")]
mod people;
mod world;

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use criterion::Criterion;
use postrider::hub::{Hub, Outbox};
use postrider::ids::{AppId, DeviceId, Position, UserId};
use postrider::router::Work;
use postrider::store::engine::{Engine, EngineConfig};
use postrider::store::{Attached, Batch, Completion, Store, commit_and_wait};
use postrider_protocol::encode::{self, MessageParts};
use postrider_protocol::limits::{DEFAULT_FRAME_BYTES, DEFAULT_WINDOW};
use postrider_protocol::session::server::Session;
use postrider_protocol::{frame, wire};

use bare::Bare;
use measure::measure;
use people::Pair;
use world::{AT_ONCE, World, encoded, sends};

/// Connections that commit at the same time, and users who are connected.
const PAIRS: usize = 64;
const CONNECTED: u64 = 10_000;

fn main() {
    let mut criterion = Criterion::default().measurement_time(Duration::from_secs(2)).configure_from_args();
    frame_decode(&mut criterion);
    frame_encode(&mut criterion);
    session(&mut criterion);
    router(&mut criterion);
    hub(&mut criterion);
    store(&mut criterion);
    criterion.final_summary();
}

fn frame_decode(criterion: &mut Criterion) {
    let bytes = encoded(&sends(0, "bob"));
    let arrive = || bytes.clone();
    measure(criterion, "decode: Send", AT_ONCE, arrive, |mut inbound| {
        while let Some(body) = frame::take(&mut inbound, DEFAULT_FRAME_BYTES).unwrap() {
            std::hint::black_box(frame::decode_client(body).unwrap());
        }
    });
}

fn frame_encode(criterion: &mut Criterion) {
    let message = message();
    measure(criterion, "encode: Deliver", AT_ONCE, BytesMut::new, |mut out| {
        (1..=AT_ONCE).for_each(|position| encode::deliver_message(position, &message, &mut out));
        out
    });
    measure(criterion, "encode: Ack", AT_ONCE, BytesMut::new, |mut out| {
        for send_id in 1..=AT_ONCE {
            encode::ack(&wire::Ack { send_id, conversation: 7, seq: send_id, time: 1_000_000_000_000 }, &mut out);
        }
        out
    });
}

fn session(criterion: &mut Criterion) {
    let arrive = || (Session::new(0, Duration::ZERO, Duration::ZERO), sends(0, "bob"));
    measure(criterion, "session: Send to request", AT_ONCE, arrive, |(mut session, frames)| {
        for frame in frames {
            std::hint::black_box(session.handle_frame(frame, Duration::ZERO).unwrap());
        }
    });
}

fn router(criterion: &mut Criterion) {
    let world = World::new(Arc::new(Bare::default()));
    let (alice, bob) = (world.log_in("alice"), world.log_in("bob"));
    let arrive = || {
        for peer in [&alice, &bob] {
            written_and_confirmed(&peer.outbox);
        }
        let mut session = Session::new(0, Duration::ZERO, Duration::ZERO);
        let frames = sends(0, "bob").into_iter();
        frames.map(|frame| session.handle_frame(frame, Duration::ZERO).unwrap()).collect::<Vec<_>>()
    };
    measure(criterion, "router: request to outboxes", AT_ONCE, arrive, |requests| {
        let mut work = Work::of_bytes(requests.len() * 128);
        for requests in requests {
            world.router.collect(&alice, requests, &mut work);
        }
        world.wait(world.router.commit(&alice, work));
    });
}

fn hub(criterion: &mut Criterion) {
    let hub = Hub::default();
    let app = AppId(1);
    for user in 0..CONNECTED {
        let outbox = Arc::new(Outbox::new(1 << 18));
        outbox.attach(Position(0), Position(0), DEFAULT_WINDOW);
        hub.join(app, UserId(user), DeviceId(user + 1), outbox);
    }
    let message = &message();
    let mut round = 0;
    let next = || {
        round += 1;
        let user = UserId(round % CONNECTED);
        let mut newest = 0;
        hub.each(app, user, |_, outbox| newest = written_and_confirmed(outbox).0);
        (user, newest)
    };
    measure(criterion, "hub: publish", AT_ONCE, next, |(user, newest)| {
        hub.each(app, user, |_, outbox| {
            outbox.publish((newest + 1..=newest + AT_ONCE).map(|position| {
                let encode = Some(move |out: &mut BytesMut| encode::deliver_message(position, message, out));
                (Position(position), encode)
            }));
        });
    });
}

/// What waited is gone, and the client's window as wide as ever. The newest entry it has.
fn written_and_confirmed(outbox: &Outbox) -> Position {
    drop(outbox.take());
    let newest = outbox.streamed();
    outbox.confirmed(newest);
    newest
}

/// The journal as it is used: many connections commit, one sync serves them all.
fn store(criterion: &mut Criterion) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = Engine::open(&EngineConfig::new(directory.path())).unwrap();
    let pairs = people::pairs(&store, "user", PAIRS);
    let (told, done) = sync_channel(2 * PAIRS);
    let mut sent = 0;
    let arrive = || {
        // What was sent before is confirmed, so that the store is as small at the end as it was at the start.
        if sent > 0 {
            all_confirm(&store, &pairs);
        }
        let ids = sent + 1..=sent + AT_ONCE;
        sent += AT_ONCE;
        pairs.iter().map(|pair| ids.clone().map(|id| pair.send(id)).collect()).collect::<Vec<Batch>>()
    };
    measure(criterion, "store: journal append", AT_ONCE * PAIRS as u64, arrive, |batches| {
        let count = batches.len();
        batches.into_iter().for_each(|batch| commit(&store, batch, &told));
        done.iter().take(count).for_each(drop);
    });
}

fn commit(store: &dyn Store, batch: Batch, told: &SyncSender<()>) {
    let told = told.clone();
    people::wait(store.commit(
        batch,
        Completion::once(move |committed| {
            committed.unwrap();
            told.send(()).unwrap();
        }),
    ));
}

fn all_confirm(store: &dyn Store, pairs: &[Pair]) {
    // The senders second: they confirm the receipts that the recipients' confirmations have brought.
    let sides: [fn(&Pair) -> &Attached; 2] = [|pair| &pair.recipient, |pair| &pair.sender];
    for side in sides {
        let heads = people::wait(store.list_users(people::APP, "", 2 * PAIRS)).unwrap();
        let confirm = |pair: &Pair| {
            let attached = side(pair);
            let head = heads.iter().find(|user| user.id == attached.user).unwrap().head;
            people::received(attached, head)
        };
        let batch = pairs.iter().map(confirm).collect();
        people::wait(commit_and_wait(store, batch)).unwrap();
    }
}

/// A message as the store keeps it.
fn message() -> Bytes {
    encode::message_of(MessageParts {
        conversation: 7,
        seq: 1,
        sender: "alice",
        recipient: "bob",
        time: 1_000_000_000_000,
        content: people::CONTENT,
    })
}
