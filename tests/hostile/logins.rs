//! Proofs and codes that are forged or replayed (LOGIN-4 … LOGIN-11).

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use bytes::Bytes;
use postrider::admin::client::Admin;
use postrider_protocol::error::ErrorCode;
use postrider_protocol::limits::{EXPORTER_BYTES, EXPORTER_LABEL};
use postrider_protocol::proof::signed_bytes;
use postrider_protocol::wire::{self, client_frame, hello, server_frame::Body};

use super::Siege;
use crate::support::{Raw, ServerProcess};

/// Bystanders are in the app with open login; what is attacked has keys.
pub const APPS: &str = "[[app]]\nname = \"dev\"\nlogin = [\"open\"]\n[[app]]\nname = \"keys\"\n[[app]]\nname = \"others\"\n\
                    [[app]]\nname = \"mixed\"\nlogin = [\"open\", \"device-key\"]\n";

pub fn key(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

pub fn with_key(app: &str, user: &str, device: &str) -> wire::Hello {
    let method = Some(hello::Method::DeviceKey(wire::DeviceKeyLogin {}));
    wire::Hello { app: app.into(), method, ..Raw::hello(user, device) }
}

pub fn with_code(app: &str, user: &str, device: &str, code: &str, key: &Ed25519KeyPair) -> wire::Hello {
    let public_key = Bytes::copy_from_slice(key.public_key().as_ref());
    let method = Some(hello::Method::Enroll(wire::EnrollLogin { code: code.into(), public_key }));
    wire::Hello { app: app.into(), method, ..Raw::hello(user, device) }
}

pub async fn code(server: &ServerProcess, app: &str, user: &str) -> String {
    let admin = Admin::new(&server.data());
    admin.add_user(app, user).await.unwrap();
    admin.add_code(app, user).await.unwrap().code
}

/// A connection that was challenged, with everything a proof needs.
pub struct Challenged {
    pub raw: Raw,
    hello: wire::Hello,
    nonce: [u8; 32],
}

impl Challenged {
    pub async fn new(server: &ServerProcess, hello: wire::Hello) -> Self {
        Self::on(Raw::connect(server).await, hello).await
    }

    pub async fn on(mut raw: Raw, hello: wire::Hello) -> Self {
        raw.say(client_frame::Body::Hello(hello.clone())).await;
        match raw.next().await {
            Body::Challenge(challenge) => Self { raw, hello, nonce: challenge.nonce.as_ref().try_into().unwrap() },
            other => panic!("no challenge but {other:?}"),
        }
    }

    fn exporter(&self) -> [u8; EXPORTER_BYTES] {
        self.raw.stream.get_ref().1.export_keying_material([0; EXPORTER_BYTES], EXPORTER_LABEL, None).unwrap()
    }

    pub fn proof(&self, key: &Ed25519KeyPair) -> Vec<u8> {
        let wire::Hello { app, user, device, .. } = &self.hello;
        sign(key, &signed_bytes(&self.exporter(), &self.nonce, app, user, device))
    }

    pub async fn answer(&mut self, signature: &[u8]) -> Body {
        self.raw.say(client_frame::Body::Proof(wire::Proof { signature: Bytes::copy_from_slice(signature) })).await;
        self.raw.next().await
    }

    pub async fn let_in(mut self, key: &Ed25519KeyPair) -> Raw {
        let proof = self.proof(key);
        match self.answer(&proof).await {
            Body::Welcome(_) => self.raw,
            other => panic!("not let in: {other:?}"),
        }
    }

    async fn refused(mut self, signature: &[u8], why: &str) {
        match self.answer(signature).await {
            Body::Error(error) => assert_eq!(error.name, ErrorCode::LoginFailed.name(), "{why}: {}", error.detail),
            other => panic!("{why}: {other:?}"),
        }
        assert_eq!(self.raw.try_next().await, None, "closed");
    }
}

fn sign(key: &Ed25519KeyPair, bytes: &[u8]) -> Vec<u8> {
    key.sign(bytes).as_ref().to_vec()
}

pub async fn enroll(server: &ServerProcess, app: &str, user: &str, device: &str, key: &Ed25519KeyPair) {
    let code = code(server, app, user).await;
    Challenged::new(server, with_code(app, user, device, &code, key)).await.let_in(key).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proof_that_was_heard_on_one_connection_opens_no_other() {
    let siege = Siege::begin(APPS).await;
    let server = &siege.server;
    let alice = key(1);
    enroll(server, "keys", "alice", "laptop", &alice).await;

    let hers = Challenged::new(server, with_key("keys", "alice", "laptop")).await;
    let heard = hers.proof(&alice);
    let _still_there = hers.let_in(&alice).await;
    let thief = Challenged::new(server, with_key("keys", "alice", "laptop")).await;
    thief.refused(&heard, "replayed").await;

    // Nor does it with her nonce, which the thief cannot make the server take, or with her connection's exporter.
    let hers = Challenged::new(server, with_key("keys", "alice", "laptop")).await;
    let thief = Challenged::new(server, with_key("keys", "alice", "laptop")).await;
    assert_ne!(hers.nonce, thief.nonce, "LOGIN-5");
    let relayed = sign(&alice, &signed_bytes(&hers.exporter(), &thief.nonce, "keys", "alice", "laptop"));
    thief.refused(&relayed, "relayed by somebody in the middle").await;
    siege.lift().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_proofs_are_refused_whatever_is_wrong_with_them() {
    let siege = Siege::begin(APPS).await;
    let server = &siege.server;
    let (alice, bob) = (key(1), key(2));
    enroll(server, "keys", "alice", "laptop", &alice).await;
    enroll(server, "keys", "bob", "phone", &bob).await;
    enroll(server, "others", "alice", "laptop", &bob).await;

    let challenged = async || Challenged::new(server, with_key("keys", "alice", "laptop")).await;
    for (why, app, user, device) in [
        ("another app's", "others", "alice", "laptop"),
        ("another user's", "keys", "bob", "laptop"),
        ("another device's", "keys", "alice", "phone"),
        ("names moved over their borders", "keysa", "lice", "laptop"),
    ] {
        let attempt = challenged().await;
        let signed = signed_bytes(&attempt.exporter(), &attempt.nonce, app, user, device);
        attempt.refused(&sign(&alice, &signed), why).await;
    }
    let attempt = challenged().await;
    let by_bob = attempt.proof(&bob);
    attempt.refused(&by_bob, "bob's key").await;
    challenged().await.refused(&[0; 64], "nothing").await;
    challenged().await.refused(&[0xff; 64], "no number").await;
    let attempt = challenged().await;
    let mut malleable = attempt.proof(&alice);
    add_the_order(&mut malleable[32..]);
    attempt.refused(&malleable, "the same signature, written otherwise").await;
    let attempt = challenged().await;
    let mut flipped = attempt.proof(&alice);
    flipped[17] ^= 1;
    attempt.refused(&flipped, "a bit flipped").await;

    // And a proof that nobody asked for.
    let mut raw = Raw::connect(server).await;
    raw.say(client_frame::Body::Proof(wire::Proof { signature: Bytes::from_static(&[1; 64]) })).await;
    raw.closed_with(ErrorCode::LoginRequired).await;
    challenged().await.let_in(&alice).await;
    siege.lift().await;
}

/// Adds the order of the curve's group to the half of a signature that is a number: to a careless verifier it is as good.
fn add_the_order(scalar: &mut [u8]) {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0;
    for (byte, order) in scalar.iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_opens_its_own_users_door_once_and_no_other() {
    let siege = Siege::begin(APPS).await;
    let server = &siege.server;
    let (alice, thief) = (key(1), key(9));
    let hers = code(server, "keys", "alice").await;
    let bobs = code(server, "keys", "bob").await;
    code(server, "others", "alice").await;

    let attempt = async |app: &str, user: &str, device: &str, code: &str, why: &str| {
        let challenged = Challenged::new(server, with_code(app, user, device, code, &thief)).await;
        let proof = challenged.proof(&thief);
        challenged.refused(&proof, why).await;
    };
    attempt("keys", "alice", "phone", &bobs, "bob's code for alice").await;
    attempt("others", "alice", "phone", &hers, "her code in another app").await;
    attempt("keys", "nobody", "phone", &hers, "a user that there is not").await;
    let mut near = hers.clone().into_bytes();
    let last = near.len() - 1;
    near[last] = if near[last] == b'7' { b'8' } else { b'7' };
    attempt("keys", "alice", "phone", &String::from_utf8(near).unwrap(), "one letter wrong").await;
    // Whoever has the code but cannot sign with the key he shows does not use it up.
    let challenged = Challenged::new(server, with_code("keys", "alice", "phone", &hers, &thief)).await;
    let by_another = challenged.proof(&alice);
    challenged.refused(&by_another, "a key that the thief does not have").await;

    // It is still good, once.
    Challenged::new(server, with_code("keys", "alice", "laptop", &hers, &alice)).await.let_in(&alice).await;
    attempt("keys", "alice", "tablet", &hers, "used").await;
    attempt("keys", "alice", "laptop", &hers, "used, for the device that it made").await;
    let another = code(server, "keys", "alice").await;
    attempt("keys", "alice", "laptop", &another, "a good code, for a device that has a key").await;
    Challenged::new(server, with_key("keys", "alice", "laptop")).await.let_in(&alice).await;
    siege.lift().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_alone_does_not_open_what_a_key_has_closed() {
    let siege = Siege::begin(APPS).await;
    enroll(&siege.server, "mixed", "alice", "laptop", &key(1)).await;
    for device in ["laptop", "phone"] {
        let mut raw = Raw::connect(&siege.server).await;
        let hello = wire::Hello { app: "mixed".into(), ..Raw::hello("alice", device) };
        raw.say(client_frame::Body::Hello(hello)).await;
        raw.closed_with(ErrorCode::LoginFailed).await;
    }
    siege.lift().await;
}
