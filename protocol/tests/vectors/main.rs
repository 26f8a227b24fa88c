//! The golden vectors of `protocol/vectors/`: made from the values in this folder, compared with the files, and read back
//! from the files as a client in another language reads them. `BLESS=1 cargo test -p postrider-protocol --test vectors`
//! rewrites the files and the worked examples in SPEC.md.
//!
//! # Layout
//! - [`files`]: how a vector is written down: proto3 JSON, hex, blessing
//! - [`frames`]: one frame of every kind; [`strange`]: frames that are odd but right, and frames that are wrong
//! - [`session`]: a worked session of two users; [`login`]: the example of a login proof

mod files;
mod frames;
mod login;
mod session;
mod strange;

use std::collections::BTreeSet;
use std::sync::Once;
use std::time::Duration;

use bytes::BytesMut;
use files::{AnyFrame, Direction};
use postrider_protocol::error::{CodedError, ErrorCode};
use postrider_protocol::frame;
use postrider_protocol::limits::{MAX_FRAME_BYTES, MAX_LOGIN_FRAME_BYTES};
use postrider_protocol::session::server::{AwaitingHello, Method, Session};
use postrider_protocol::wire::ClientFrame;
use serde_json::Value;

static BLESSED: Once = Once::new();

#[test]
fn the_vector_files_and_the_worked_session_are_what_their_values_make() {
    if files::blessing() { BLESSED.call_once(compare_or_bless) } else { compare_or_bless() }
}

/// Reads a vector file, after blessing when that is asked for: the tests run side by side.
fn load(path: &str) -> Value {
    if files::blessing() {
        BLESSED.call_once(compare_or_bless);
    }
    files::load(path)
}

fn compare_or_bless() {
    files::check("vectors/frames.json", &files::pretty(&strange::file(frames::all())));
    files::check("vectors/session.json", &files::pretty(&session::file()));
    files::check("vectors/proof.json", &files::pretty(&login::file()));
    files::check_spec_section("session: made from vectors/session.json", "session", &session::as_markdown());
    files::check_spec_section("proof: made from vectors/proof.json", "proof", &login::as_markdown());
}

#[test]
fn every_frame_in_the_files_decodes_and_encodes_to_the_same_bytes() {
    let frames = load("vectors/frames.json");
    let session = load("vectors/session.json");
    let steps = session["steps"].as_array().unwrap().iter().filter(|step| step.get("hex").is_some());
    let mut seen = 0;
    for vector in frames["frames"].as_array().unwrap().iter().chain(steps) {
        let (direction, wire) = (files::direction(vector), files::hex(vector));
        let read = AnyFrame::read(direction, &wire, MAX_FRAME_BYTES).expect("a vector is a good frame");
        assert_eq!(read.to_bytes(), wire, "decoded and encoded again: {vector}");
        assert_eq!(AnyFrame::from_json(direction, &vector["json"]).to_bytes(), wire, "made from its JSON: {vector}");
        seen += 1;
    }
    assert!(seen > 40, "the files hold the vectors: {seen}");
}

#[test]
fn every_kind_of_frame_has_a_vector() {
    let frames = load("vectors/frames.json");
    for direction in [Direction::ToServer, Direction::ToClient] {
        let shown: BTreeSet<String> = frames["frames"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|vector| files::direction(vector) == direction)
            .flat_map(|vector| files::arms_set(direction, &vector["json"]))
            .collect();
        let all = files::arms(direction);
        let missing: Vec<_> = all.difference(&shown).collect();
        assert!(missing.is_empty(), "no vector shows {missing:?}");
    }
}

#[test]
fn a_frame_from_a_later_version_or_a_loose_encoder_is_understood() {
    let file = load("vectors/frames.json");
    for vector in file["lenient"].as_array().unwrap() {
        let (direction, wire) = (files::direction(vector), files::hex(vector));
        let read = AnyFrame::read(direction, &wire, MAX_FRAME_BYTES).expect("lenient frames are good");
        assert_eq!(read, AnyFrame::from_json(direction, &vector["json"]), "{vector}");
        assert_ne!(read.to_bytes(), wire, "else it belongs to the ordinary frames: {vector}");
    }
}

#[test]
fn a_malformed_frame_gets_the_code_that_its_vector_names() {
    let file = load("vectors/frames.json");
    for vector in file["malformed"].as_array().unwrap() {
        let wire = files::hex(vector);
        let limit = usize::try_from(vector["limit"].as_u64().unwrap()).unwrap();
        let name = vector["error"].as_str().unwrap();
        let code = ErrorCode::ALL.iter().find(|code| code.name() == name).expect("a code of errors.toml");
        let read = AnyFrame::read(files::direction(vector), &wire, limit);
        match vector["found_in"].as_str().unwrap() {
            "length" | "protobuf" => assert_eq!(read.expect_err(name).code, *code, "{vector}"),
            "meaning before login" => {
                // Which methods are allowed is the app's to say; an unknown one is allowed by none (LOGIN-3).
                let answer = match AwaitingHello::new().handle_frame(from_client(read)) {
                    Ok(hello) if hello.method == Method::Unknown => ErrorCode::MethodNotAllowed,
                    other => other.expect_err(name).code,
                };
                assert_eq!(answer, *code, "{vector}");
            }
            "meaning after login" => {
                let mut session = Session::new(0, Duration::from_secs(1), Duration::ZERO);
                let answer = session.handle_frame(from_client(read), Duration::ZERO);
                assert_eq!(answer.expect_err(name).code, *code, "{vector}");
            }
            other => panic!("unknown stage {other}"),
        }
    }
}

fn from_client(read: Result<AnyFrame, CodedError>) -> ClientFrame {
    match read {
        Ok(AnyFrame::Client(frame)) => frame,
        other => panic!("not a client's frame of the right shape: {other:?}"),
    }
}

#[test]
fn no_beginning_of_a_frame_is_a_frame_or_an_error() {
    for vector in load("vectors/frames.json")["frames"].as_array().unwrap() {
        let wire = files::hex(vector);
        for end in 0..wire.len() {
            let taken = frame::take(&mut BytesMut::from(&wire[..end]), MAX_FRAME_BYTES);
            assert_eq!(taken, Ok(None), "{end} bytes of {vector}");
        }
    }
}

#[test]
fn every_login_frame_fits_the_limit_before_login() {
    for vector in load("vectors/frames.json")["frames"].as_array().unwrap() {
        let json = &vector["json"];
        if json.get("hello").is_some() || json.get("proof").is_some() {
            let length = files::hex(vector).len() - 4;
            assert!(length <= MAX_LOGIN_FRAME_BYTES, "{vector}");
        }
    }
}

#[test]
fn the_example_signature_verifies_and_only_over_its_own_bytes() {
    login::verify(&load("vectors/proof.json"));
}
