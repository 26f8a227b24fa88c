//! How vectors are written down: proto3's own JSON with the schema's field names, and the whole frame in hex.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bytes::BytesMut;
use data_encoding::HEXLOWER;
use postrider_protocol::error::CodedError;
use postrider_protocol::frame;
use postrider_protocol::wire::{ClientFrame, ServerFrame};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, ReflectMessage, SerializeOptions};
use serde::Serialize;
use serde_json::Value;

/// Which way a frame travels, and so which message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Direction {
    #[serde(rename = "client to server")]
    ToServer,
    #[serde(rename = "server to client")]
    ToClient,
}

/// A frame of either direction.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyFrame {
    Client(ClientFrame),
    Server(ServerFrame),
}

impl AnyFrame {
    pub fn direction(&self) -> Direction {
        match self {
            AnyFrame::Client(_) => Direction::ToServer,
            AnyFrame::Server(_) => Direction::ToClient,
        }
    }

    /// Takes the one frame that `wire` holds, under a limit of `max` bytes.
    pub fn read(direction: Direction, wire: &[u8], max: usize) -> Result<AnyFrame, CodedError> {
        let mut buffer = BytesMut::from(wire);
        let body = frame::take(&mut buffer, max)?.expect("a vector is a whole frame");
        assert!(buffer.is_empty(), "a vector is one frame");
        Ok(match direction {
            Direction::ToServer => AnyFrame::Client(frame::decode_client(body)?),
            Direction::ToClient => AnyFrame::Server(frame::decode_server(body)?),
        })
    }

    /// Reads the JSON with a protobuf library that knows the schema and nothing of this crate.
    pub fn from_json(direction: Direction, json: &Value) -> AnyFrame {
        let message = DynamicMessage::deserialize(descriptor(direction), json).expect("JSON of the schema");
        let body = message.encode_to_vec().into();
        match direction {
            Direction::ToServer => AnyFrame::Client(frame::decode_client(body).expect("of the schema")),
            Direction::ToClient => AnyFrame::Server(frame::decode_server(body).expect("of the schema")),
        }
    }

    /// The whole frame, length first.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = BytesMut::new();
        match self {
            AnyFrame::Client(frame) => frame::put(frame, &mut out),
            AnyFrame::Server(frame) => frame::put(frame, &mut out),
        }
        out.to_vec()
    }
}

/// The JSON of a frame. Numbers that not every language's JSON can hold are strings; readers of proto3 JSON take both.
impl Serialize for AnyFrame {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (body, numbers) = match self {
            AnyFrame::Client(frame) => (frame.encode_to_vec(), format!("{frame:?}")),
            AnyFrame::Server(frame) => (frame.encode_to_vec(), format!("{frame:?}")),
        };
        let message = DynamicMessage::decode(descriptor(self.direction()), &body[..]).expect("of the schema");
        let options = SerializeOptions::new()
            .use_proto_field_name(true)
            .stringify_64_bit_integers(numbers.contains(&u64::MAX.to_string()));
        message.serialize_with_options(serializer, &options)
    }
}

static SCHEMA: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let schema = protox::compile([here("schema/postrider.proto")], [here("schema")]).expect("the schema compiles");
    DescriptorPool::from_file_descriptor_set(schema).expect("the schema is whole")
});

fn descriptor(direction: Direction) -> MessageDescriptor {
    let name = match direction {
        Direction::ToServer => "postrider.v1.ClientFrame",
        Direction::ToClient => "postrider.v1.ServerFrame",
    };
    SCHEMA.get_message_by_name(name).expect("the schema has it")
}

/// Every arm of every `oneof` that a frame of this direction may hold, as `Message.field`.
pub fn arms(direction: Direction) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![descriptor(direction)];
    while let Some(message) = open.pop() {
        for field in message.fields() {
            if field.containing_oneof().is_some() {
                found.insert(format!("{}.{}", message.name(), field.name()));
            }
            open.extend(field.kind().as_message().cloned());
        }
    }
    found
}

/// The arms that this frame uses.
pub fn arms_set(direction: Direction, json: &Value) -> Vec<String> {
    let message = DynamicMessage::deserialize(descriptor(direction), json).expect("JSON of the schema");
    let mut found = Vec::new();
    let mut open = vec![message];
    while let Some(message) = open.pop() {
        for (field, value) in message.fields() {
            if field.containing_oneof().is_some() {
                found.push(format!("{}.{}", message.descriptor().name(), field.name()));
            }
            open.extend(value.as_message().cloned());
        }
    }
    found
}

pub fn to_hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// The bytes under `hex` of a vector.
pub fn hex(vector: &Value) -> Vec<u8> {
    bytes_of(vector, "hex")
}

/// The bytes under any key.
pub fn bytes_of(vector: &Value, key: &str) -> Vec<u8> {
    HEXLOWER.decode(vector[key].as_str().expect("hex is a string").as_bytes()).expect("lower-case hex")
}

pub fn direction(vector: &Value) -> Direction {
    match vector["direction"].as_str() {
        Some("client to server") => Direction::ToServer,
        Some("server to client") => Direction::ToClient,
        other => panic!("no direction: {other:?}"),
    }
}

pub fn pretty(file: &impl Serialize) -> String {
    serde_json::to_string_pretty(file).expect("vectors are JSON") + "\n"
}

pub fn load(path: &str) -> Value {
    let text = std::fs::read_to_string(here(path)).expect("the vector file is readable");
    serde_json::from_str(&text).expect("the vector file is JSON")
}

/// Whether the files are to be rewritten.
pub fn blessing() -> bool {
    std::env::var_os("BLESS").is_some()
}

/// Compares a file with what its source makes, or rewrites it when blessing.
pub fn check(path: &str, wanted: &str) {
    if blessing() {
        std::fs::write(here(path), wanted).expect("the file is writable");
        return;
    }
    let found = std::fs::read_to_string(here(path)).unwrap_or_default();
    assert!(found == wanted, "{path} is outdated; run: BLESS=1 cargo test -p postrider-protocol --test vectors");
}

/// The same for the part of SPEC.md between `<!-- begin -->` and `<!-- /end -->`.
pub fn check_spec_section(begin: &str, end: &str, wanted: &str) {
    let spec = std::fs::read_to_string(here("SPEC.md")).expect("SPEC.md is readable");
    let (begin, end) = (format!("<!-- {begin} -->\n"), format!("<!-- /{end} -->"));
    let (before, rest) = spec.split_once(&begin).expect("SPEC.md has the begin marker");
    let (_, after) = rest.split_once(&end).expect("SPEC.md has the end marker");
    check("SPEC.md", &format!("{before}{begin}{wanted}{end}{after}"));
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
