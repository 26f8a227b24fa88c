//! The way of a message through the server, without sockets and without TLS, for a machine that counts instructions:
//! `benches/instructions` runs it under callgrind.
//!
//! One sender, one recipient. A wake-up brings 16 messages, and the confirmation of the last receipt; they are decoded,
//! pass session and router, are committed, acked and delivered; the recipient confirms the last, and the sender is told.

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod bare;
mod world;

use std::future::poll_fn;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bare::Bare;
use bytes::BytesMut;
use postrider::hub::wakes;
use postrider::router::{Peer, Work};
use postrider::store::Store;
use postrider::store::engine::{Around, Engine, EngineConfig};
use postrider_protocol::frame as frames;
use postrider_protocol::limits::DEFAULT_FRAME_BYTES;
use postrider_protocol::session::server::Session;
use postrider_protocol::wire::ClientFrame;
use world::{World, encoded, sends};

/// What clients send is made before, as much in a short run as in a long one: the difference of two runs is the server's.
const PREPARED: u64 = 704;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [store, wake_ups] = &arguments[..] else { return usage() };
    let Some(wake_ups) = wake_ups.parse().ok().filter(|wake_ups| *wake_ups <= PREPARED) else { return usage() };
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = match store.as_str() {
        "bare" => Arc::new(Bare::default()),
        "engine" => Arc::new(
            Engine::open(&EngineConfig {
                // Room for a long run, and little to prepare before it.
                segment_bytes: 8 << 20,
                segments: 2,
                queue_bytes: 1 << 20,
                around_completions: Some(Around { before: wakes::hold, after: wakes::release }),
                ..EngineConfig::new(directory.path())
            })
            .unwrap(),
        ),
        _ => return usage(),
    };
    run(store, wake_ups);
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: send_path bare|engine WAKE_UPS, at most {PREPARED} wake-ups of 16 messages");
    ExitCode::from(2)
}

fn run(store: Arc<dyn Store>, wake_ups: u64) {
    let world = World::new(store);
    let (mut alice, mut bob) = (Line::new(world.log_in("alice")), Line::new(world.log_in("bob")));
    let prepared: Vec<_> = (0..PREPARED).map(|wake_up| encoded(&sends(wake_up, "bob"))).collect();
    let mut taken = BytesMut::new();
    for sent in prepared.iter().take(usize::try_from(wake_ups).unwrap()) {
        alice.read(&world, &[&taken[..], sent].concat());
        // The recipient first: the sender's acks are written before, and are looked for after.
        let delivered = bob.write(&world);
        let acks = alice.write(&world);
        assert!(delivered.len() > acks.len() && !acks.is_empty());
        bob.read(&world, &bob.confirmation());
        assert!(!alice.write(&world).is_empty());
        taken = alice.confirmation();
    }
}

/// A connection that is logged in; it does what `net::connection` does between a read and a write.
struct Line {
    peer: Peer,
    session: Session,
    inbound: BytesMut,
}

impl Line {
    fn new(peer: Peer) -> Self {
        Self { peer, session: Session::new(0, Duration::from_secs(120), Duration::ZERO), inbound: BytesMut::new() }
    }

    /// What is read becomes one batch.
    fn read(&mut self, world: &World, bytes: &[u8]) {
        self.inbound.extend_from_slice(bytes);
        let mut work = Work::of_bytes(self.inbound.len());
        while let Some(body) = frames::take(&mut self.inbound, DEFAULT_FRAME_BYTES).unwrap() {
            let frame = frames::decode_client(body).unwrap();
            let requests = self.session.handle_frame(frame, Duration::ZERO).unwrap();
            world.router.collect(&self.peer, requests, &mut work);
        }
        self.inbound = BytesMut::new();
        world.wait(world.router.commit(&self.peer, work));
    }

    /// Waits until there is something to write, and takes it all.
    fn write(&mut self, world: &World) -> BytesMut {
        let outbox = &self.peer.outbox;
        world.wait(poll_fn(|cx| {
            outbox.register(cx.waker());
            if outbox.look().work { Poll::Ready(()) } else { Poll::Pending }
        }));
        let output = outbox.take();
        assert!(
            output.closing.is_none() && outbox.backlog().is_none(),
            "a connection that is neither closed nor behind"
        );
        self.session.handle_answered(output.answered);
        self.session.handle_delivered(output.delivered.0);
        output.frames
    }

    /// The frame that confirms everything that was written to it.
    fn confirmation(&self) -> BytesMut {
        encoded(&[ClientFrame { received: self.peer.outbox.streamed().0, body: None }])
    }
}
