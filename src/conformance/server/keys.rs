//! Device keys and enrolment codes.

use std::collections::BTreeSet;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use postrider_protocol::error::ErrorCode;
use postrider_protocol::limits::{EXPORTER_BYTES, EXPORTER_LABEL, NONCE_BYTES};
use postrider_protocol::proof;
use postrider_protocol::wire::server_frame::Body;
use postrider_protocol::wire::{self, client_frame, hello};

use super::peer::{Peer, describe};
use super::world::World;
use super::{NotKept, Verdict, broken, checks, must};

checks! { "Device keys":
    challenges => "Every key login is challenged with a nonce of its own, and fails the same way whatever is wrong" ["LOGIN-4", "LOGIN-5"];
    wrong_lengths => "A key, signature or code of a wrong length is BAD_FRAME" ["LOGIN-9"];
    only_a_proof => "Another frame instead of Proof is LOGIN_REQUIRED" ["LOGIN-18"];
    linking => "LinkDevice is answered by a code, or by LINK_NOT_ALLOWED on a connection that goes on" ["LOGIN-20", "LOGIN-8", "ERR-4"];
    enrolling => "A code enrols one key, which logs in from then on; the code is used up" ["LOGIN-6", "LOGIN-8", "LOGIN-9", "LOGIN-10", "LOGIN-11"];
}

fn new_key(world: &World) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&world.clock.random_bytes::<32>()).expect("32 bytes are an Ed25519 seed")
}

fn enroll(code: &str, public_key: &[u8]) -> hello::Method {
    hello::Method::Enroll(wire::EnrollLogin { code: code.to_owned(), public_key: public_key.to_vec().into() })
}

const BY_KEY: hello::Method = hello::Method::DeviceKey(wire::DeviceKeyLogin {});

/// A code of the right form that nobody made.
const NO_CODE: &str = "PR-00000-00000-00000-00000";

/// Says `Hello` with this method, up to the nonce.
async fn challenged(world: &World, hello: &wire::Hello, method: hello::Method) -> Result<(Peer, Vec<u8>), NotKept> {
    let mut peer = world.connect().await?;
    peer.say(client_frame::Body::Hello(wire::Hello { method: Some(method), ..hello.clone() })).await;
    match peer.next("Challenge").await? {
        Body::Challenge(challenge) => {
            let length = challenge.nonce.len();
            must(length == NONCE_BYTES, "a nonce of 32 bytes", || format!("{length} bytes"))?;
            Ok((peer, challenge.nonce.to_vec()))
        }
        Body::Error(error) if error.code == ErrorCode::MethodNotAllowed.number() => {
            let app = &hello.app;
            Err(NotKept::Skipped(format!(
                "the app \"{app}\" does not allow device keys; name one that does with --app"
            )))
        }
        other => Err(broken("Challenge", describe(&other))),
    }
}

/// What is under the signature of a right proof (LOGIN-6).
fn right_bytes(peer: &Peer, hello: &wire::Hello, nonce: &[u8]) -> Result<Vec<u8>, NotKept> {
    let exported = peer.tls().export_keying_material([0; EXPORTER_BYTES], EXPORTER_LABEL, None);
    let exporter = exported.map_err(|error| broken("a TLS exporter", error.to_string()))?;
    let nonce = nonce.try_into().map_err(|_| broken("a nonce of 32 bytes", "another length"))?;
    Ok(proof::signed_bytes(&exporter, &nonce, &hello.app, &hello.user, &hello.device))
}

async fn prove(peer: &mut Peer, signature: &[u8]) {
    peer.say(client_frame::Body::Proof(wire::Proof { signature: signature.to_vec().into() })).await;
}

/// The whole login, as it should be.
async fn log_in(
    world: &World,
    hello: &wire::Hello,
    method: hello::Method,
    key: &Ed25519KeyPair,
) -> Result<Body, NotKept> {
    let (mut peer, nonce) = challenged(world, hello, method).await?;
    let bytes = right_bytes(&peer, hello, &nonce)?;
    prove(&mut peer, key.sign(&bytes).as_ref()).await;
    peer.next("Welcome or LOGIN_FAILED").await
}

async fn welcomed(
    world: &World,
    hello: &wire::Hello,
    method: hello::Method,
    key: &Ed25519KeyPair,
    why: &str,
) -> Result<wire::Welcome, NotKept> {
    match log_in(world, hello, method, key).await? {
        Body::Welcome(welcome) => Ok(welcome),
        other => Err(broken(format!("Welcome: {why}"), describe(&other))),
    }
}

async fn failed(world: &World, hello: &wire::Hello, method: hello::Method, key: &Ed25519KeyPair, why: &str) -> Verdict {
    match log_in(world, hello, method, key).await? {
        Body::Error(error) if error.code == ErrorCode::LoginFailed.number() => Ok(()),
        other => Err(broken(format!("Error LOGIN_FAILED (200): {why}"), describe(&other))),
    }
}

async fn challenges(world: &World) -> Verdict {
    let key = new_key(world);
    let hello = world.hello(&world.user("stranger"), "phone");
    let mut nonces = BTreeSet::new();
    for _ in 0..3 {
        for method in [BY_KEY, enroll(NO_CODE, key.public_key().as_ref())] {
            let (mut peer, nonce) = challenged(world, &hello, method).await?;
            must(nonces.insert(nonce), "a nonce that was never used", || "the same again".into())?;
            prove(&mut peer, &[0; 64]).await;
            peer.closed_with(ErrorCode::LoginFailed).await?;
        }
    }
    failed(world, &hello, BY_KEY, &key, "no such user").await?;
    failed(world, &hello, enroll("", key.public_key().as_ref()), &key, "no such code").await
}

async fn wrong_lengths(world: &World) -> Verdict {
    let hello = world.hello(&world.user("lengths"), "phone");
    // Whether keys are allowed at all is asked with a right one.
    let (mut peer, _) = challenged(world, &hello, BY_KEY).await?;
    prove(&mut peer, &[0; 63]).await;
    peer.closed_with(ErrorCode::BadFrame).await?;
    for method in [enroll(NO_CODE, &[1; 31]), enroll(&"0".repeat(65), &[1; 32])] {
        let mut peer = world.connect().await?;
        peer.say(client_frame::Body::Hello(wire::Hello { method: Some(method), ..hello.clone() })).await;
        peer.closed_with(ErrorCode::BadFrame).await?;
    }
    Ok(())
}

async fn only_a_proof(world: &World) -> Verdict {
    let hello = world.hello(&world.user("proof"), "phone");
    let (mut peer, _) = challenged(world, &hello, BY_KEY).await?;
    peer.say(client_frame::Body::Ping(wire::Ping { token: 1 })).await;
    peer.closed_with(ErrorCode::LoginRequired).await
}

/// Asks for a code for another device; `None` where there are none.
async fn link(peer: &mut Peer) -> Result<Option<String>, NotKept> {
    peer.say(client_frame::Body::LinkDevice(wire::LinkDevice {})).await;
    let expected = "LinkCode, or Error LINK_NOT_ALLOWED (403)";
    loop {
        match peer.other(expected).await?.what {
            Body::LinkCode(code) => {
                must(code.expires_in_s > 0, "a code that is still good", || "one that expires in 0 s".into())?;
                return Ok(Some(code.code));
            }
            Body::Error(error) if error.code == ErrorCode::LinkNotAllowed.number() && !error.closes => return Ok(None),
            Body::CaughtUp(_) => {}
            other => return Err(broken(expected, describe(&other))),
        }
    }
}

async fn linking(world: &World) -> Verdict {
    let mut peer = world.login(&world.user("linker"), "phone").await?;
    if let Some(code) = link(&mut peer).await? {
        let groups: Vec<&str> = code.split('-').collect();
        let crockford = |c: char| matches!(c, '0'..='9' | 'A'..='H' | 'J' | 'K' | 'M' | 'N' | 'P'..='T' | 'V'..='Z');
        let right = groups.len() == 5
            && groups[0] == "PR"
            && groups[1..].iter().all(|group| group.len() == 5 && group.chars().all(crockford));
        must(right, "PR- and four groups of five characters of Crockford's base32", || "another form".into())?;
    }
    peer.settle().await
}

async fn enrolling(world: &World) -> Verdict {
    let (user, code) = match &world.options.code {
        Some((user, code)) => (user.clone(), code.clone()),
        None => {
            let user = world.user("owner");
            let mut first = world.login(&user, "first").await?;
            let Some(code) = link(&mut first).await? else {
                return Err(NotKept::Skipped("no code is to be had; give a fresh one with --user and --code".into()));
            };
            (user, code)
        }
    };
    let hello = world.hello(&user, &world.user("keyed"));
    let (key, other) = (new_key(world), new_key(world));
    let public = key.public_key().as_ref();

    failed(world, &hello, enroll(&code, public), &other, "the signature is by another key").await?;
    // As a person may type it.
    let typed = code.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
    let welcome = welcomed(world, &hello, enroll(&typed, public), &key, "the code is good").await?;
    let again = welcomed(world, &hello, enroll(&code, public), &key, "the same key enrols again").await?;
    must(again.device_id == welcome.device_id, "the same device", || format!("device_id {}", again.device_id))?;
    failed(world, &hello, enroll(&code, other.public_key().as_ref()), &other, "the code is used up").await?;

    let known = wire::Hello { device_id: welcome.device_id, ..hello.clone() };
    welcomed(world, &known, BY_KEY, &key, "the device's key").await?;
    failed(world, &known, BY_KEY, &other, "another key").await?;
    let elsewhere = wire::Hello { device: "nobody's".into(), ..hello.clone() };
    failed(world, &elsewhere, BY_KEY, &key, "a device without a key").await?;
    no_open_login_any_more(world, &user).await
}

/// From its first enrolment on a user's other devices enrol, too (LOGIN-11).
async fn no_open_login_any_more(world: &World, user: &str) -> Verdict {
    let mut peer = world.connect().await?;
    peer.say(client_frame::Body::Hello(world.hello(user, "by name"))).await;
    match peer.next("Error LOGIN_FAILED (200): the user has a key").await? {
        Body::Error(error) if error.code == ErrorCode::LoginFailed.number() => Ok(()),
        Body::Error(error) if error.code == ErrorCode::MethodNotAllowed.number() => Ok(()),
        other => Err(broken("Error LOGIN_FAILED (200): the user has a key", describe(&other))),
    }
}
