//! What each corpus begins with: the golden vectors, in the form that each target reads.

use std::collections::BTreeMap;
use std::path::PathBuf;

use data_encoding::HEXLOWER;
use postrider_fuzz::{MESSAGE_TYPES, RAW, TARGETS};
use serde_json::Value;

const CLIENT: &str = "client to server";

/// A golden frame.
struct Vector {
    name: String,
    /// On the connection of this name, in a session.
    connection: Option<String>,
    from_client: bool,
    /// The kind of body, as in the schema.
    kind: Option<String>,
    /// Length prefix and body.
    bytes: Vec<u8>,
}

impl Vector {
    fn body(&self) -> &[u8] {
        self.bytes.get(4..).unwrap_or_default()
    }

    /// As `frames` reads it.
    fn raw(&self) -> Vec<u8> {
        let length = u16::try_from(self.body().len()).unwrap().to_be_bytes();
        [&[RAW], &length[..], self.body()].concat()
    }
}

fn vectors(file: &str) -> Vec<Vector> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../protocol/vectors").join(file);
    let json: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let lists = json.as_object().unwrap().values().filter_map(Value::as_array).flatten();
    let with_bytes = lists.enumerate().filter(|(_, vector)| vector["hex"].is_string());
    let found: Vec<Vector> = with_bytes
        .map(|(number, vector)| Vector {
            name: vector["name"].as_str().map_or_else(|| format!("step_{number:02}"), str::to_owned),
            connection: vector["connection"].as_str().map(str::to_owned),
            from_client: vector["direction"] == CLIENT,
            kind: vector["json"].as_object().and_then(|json| json.keys().find(|key| *key != "received")).cloned(),
            bytes: HEXLOWER.decode(vector["hex"].as_str().unwrap().as_bytes()).unwrap(),
        })
        .collect();
    assert!(found.len() > 10, "{file}");
    found
}

/// What went over one connection of a session, as three targets read it.
#[derive(Default)]
struct Connection {
    both: Vec<u8>,
    client: Vec<u8>,
    server: Vec<u8>,
}

/// Target → name → bytes.
fn seeds() -> BTreeMap<(&'static str, String), Vec<u8>> {
    let mut seeds = BTreeMap::new();
    let frames = vectors("frames.json");
    for vector in &frames {
        seeds.insert(("frame_decoder", vector.name.clone()), [&[3], &vector.bytes[..]].concat());
        let direction = if vector.from_client { "ClientFrame" } else { "ServerFrame" };
        seeds.insert(("message_round_trip", vector.name.clone()), [&[type_of(direction)], vector.body()].concat());
        if let Some(inner) = inner(vector) {
            let hot = [&[MESSAGE_TYPES.len() as u8], &inner[1..]].concat();
            seeds.insert(("message_round_trip", format!("{}_hot", vector.name)), hot);
            seeds.insert(("message_round_trip", format!("{}_alone", vector.name)), inner);
        }
        if vector.from_client {
            seeds.insert(("server_session", vector.name.clone()), [&vector.raw()[..], &[1, 4, 200, 0]].concat());
        } else {
            seeds.insert(("client_session", vector.name.clone()), [&[0, 0, 4], &vector.raw()[..]].concat());
        }
    }
    let mut connections: BTreeMap<String, Connection> = BTreeMap::new();
    for step in vectors("session.json") {
        let of = connections.entry(step.connection.clone().unwrap().replace(' ', "_")).or_default();
        of.both.extend_from_slice(&step.bytes);
        let (told, begin): (_, &[u8]) =
            if step.from_client { (&mut of.client, &[]) } else { (&mut of.server, &[0, 1, 4]) };
        // The first frame is the login's; an operation byte goes before each later one. The client writes in between.
        match (told.is_empty(), step.from_client) {
            (true, _) => told.extend_from_slice(begin),
            (false, true) => told.extend_from_slice(&[5, 20, 0]),
            (false, false) => told.extend_from_slice(&[5, 1, 9, 7, 0xf7, 15, 8, 0xf7, 15, 0]),
        }
        told.extend_from_slice(&step.raw());
        if step.from_client && told.len() == step.raw().len() {
            told.push(100);
        }
    }
    for (name, Connection { both, client, server }) in connections {
        seeds.insert(("frame_decoder", name.clone()), [&[0x85], &both[..]].concat());
        seeds.insert(("server_session", name.clone()), client);
        seeds.insert(("client_session", name), server);
    }
    seeds.extend(written_by_hand());
    seeds
}

/// What is in the frame, as a message of its own.
fn inner(vector: &Vector) -> Option<Vec<u8>> {
    let camel = |part: &str| part[..1].to_uppercase() + &part[1..];
    let name: String = vector.kind.as_ref()?.split('_').map(camel).collect();
    // Its field has a key of one byte and, being short, a length of one.
    Some([&[type_of(MESSAGE_TYPES.iter().find(|known| **known == name)?)], vector.body().get(2..)?].concat())
}

fn type_of(name: &str) -> u8 {
    MESSAGE_TYPES.iter().position(|known| *known == name).unwrap() as u8
}

/// As `client_session` reads it: an open login, and a welcome made of small numbers.
const LOGIN: [u8; 11] = [0, 1, 4, 2, 1, 0, 0, 9, 200, 0, 10];

/// A message at position 5.
const MESSAGE: [u8; 6] = [0, 5, 4, 5, 1, 1];

/// For what no golden vector tells of.
fn written_by_hand() -> impl Iterator<Item = ((&'static str, String), Vec<u8>)> {
    let text = |target, name: &str, text: &str| ((target, name.to_owned()), text.as_bytes().to_vec());
    let bytes = |target, name: &str, bytes: &[u8]| ((target, name.to_owned()), bytes.to_vec());
    let noise = |by: u32, length: u32| (0..length).map(|step| (step.wrapping_mul(by) >> 13) as u8).collect::<Vec<_>>();
    vec![
        bytes("session_pair", "a_talk", &[0, 0x60, 0x90, 0, 0, 0x60, 0x90, 0xb0, 0xe0, 0x60, 0x90, 0xb0]),
        bytes("session_pair", "splits", &[0, 0, 0x50, 7, 0x50, 50, 0x80, 9, 0x80, 99, 0xb0, 0x60, 0x90, 0xb0]),
        bytes("session_pair", "breaks", &[0, 0x60, 0x90, 0, 0, 0x60, 0xf0, 0, 0x60, 0x90, 0xb0, 0xf8, 0x60, 0xd0, 250]),
        bytes("client_session", "read_marks", &[&LOGIN[..], &MESSAGE, &[9, 1, 1, 15, 8, 5, 15]].concat()),
        bytes(
            "client_session",
            "confirmed_before",
            &[&LOGIN[..], &MESSAGE, &[8, 5, 15, 14, 1], &LOGIN, &[15]].concat(),
        ),
        bytes("client_session", "timers", &[&LOGIN[..], &[13, 5, 1, 9, 7, 1, 15, 13, 13]].concat()),
        bytes("client_session", "goodbye", &[&LOGIN[..], &[5, 1, 9, 7, 1, 11, 1, 15, 10, 15, 8, 5, 15]].concat()),
        bytes("session_pair", "noise", &noise(0x9e37_79b9, 300)),
        text(
            "config_file",
            "apps",
            "[[app]]\nname = \"shop\"\nlogin = [\"device-key\", \"open\"]\n[[app]]\nname = \"b\"\n",
        ),
        text(
            "config_file",
            "environment",
            "data = \"d\"\n\u{1}POSTRIDER_LISTEN_ADDRESS=127.0.0.1:1, [::1]:2\nPOSTRIDER_TLS_NAMES=a\n",
        ),
        text("config_file", "unknown_key", "data = \"d\"\n\n[lisen]\n"),
        text("config_file", "wrong_type", "[listen]\nmax_connections = \"many\"\naddress = [\"127.0.0.1:1\"]\n"),
        text("enrolment", "typed", "\u{1}pr-abcde fghjk-mnpqr-stvwx"),
        text("enrolment", "look_alikes", "\u{1}O0000-I1111-L1111-00000"),
        bytes("enrolment", "made", &[&[2], &noise(0x85eb_ca6b, 24)[..]].concat()),
        bytes("enrolment", "proof", b"\0\x01\x02\x03dev\x05alice\x05phone\x07\x01\x04\x03dev\x03bob\x05phone"),
        bytes("enrolment", "signature", b"\0\x01\x02\x03dev\x05alice\x05phone\x07\x01\x00"),
        bytes("client_state", "not_a_log", b"\0PRSTATE1\0\0\0\0\0\0\0\0garbage"),
        bytes("client_state", "records", b"\x01\x04\x0a\x02\x10\x01\x0a\x0a\x08\x2a\x06\x08\x05\x12\x02bob"),
        bytes(
            "client_state",
            "cut",
            &[2, 3, 1, 3, 9, 2, 6, 1, 3, b'b', b'o', b'b', 2, b'h', b'i', 1, 3, 4, 1, 2, 1, 7, 0, 70, 1],
        ),
        bytes("client_state", "flipped", &[2, 2, 1, 1, 5, 2, 3, 9, 5, 1, 0, 40, 0x81]),
        bytes("client_state", "key", &[2, 2, 1, 3, 9, 1, 2, 4, b'k', b'e', b'y', b'!', 0, 60, 0x90]),
        bytes(
            "store_history",
            "a_message",
            &[0, 0, 0, 1, 0xff, 1, 9, 0xb0, 0x60, 1, 1, 0xb0, 0, 0x88, 1, 1, 1, 0xb0, 0xff],
        ),
        bytes("store_history", "noise", &noise(0x9e37_79b9, 400)),
        bytes("store_history", "more_noise", &noise(0xc2b2_ae35, 400)),
        bytes("journal_replay", "nothing_else", &[0]),
        bytes("journal_replay", "gone", &[1, 3, 1, 3]),
        bytes("journal_replay", "noise", &noise(0x85eb_ca6b, 200)),
        bytes("journal_damage", "cut", &[0, 0, 1, 200, 0]),
        bytes("journal_damage", "flipped", &[3, 0, 0, 90, 1, 3, 1, 0, 90, 1]),
        bytes("journal_damage", "hole", &[1, 1, 2, 0, 0]),
        bytes("journal_damage", "astray", &[4, 0, 1, 0, 250, 2, 0, 5, 1, 0, 0, 0]),
    ]
    .into_iter()
}

#[test]
fn the_corpora_begin_with_the_golden_vectors() {
    let seeds = seeds();
    for (target, _) in TARGETS {
        assert!(seeds.keys().any(|(of, _)| of == target), "{target} has no seed");
    }
    for ((target, name), bytes) in seeds {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target).join(format!("seed_{name}"));
        if std::env::var_os("BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
            continue;
        }
        let there = std::fs::read(&path).unwrap_or_default();
        assert!(there == bytes, "{} is not so; run: BLESS=1 cargo test -p postrider-fuzz --test smoke", path.display());
    }
}
