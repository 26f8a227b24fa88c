//! Every message type of the schema.

use bytes::{Bytes, BytesMut};
use postrider_protocol::wire;
use postrider_protocol::{encode, frame};
use prost::Message;

/// The first byte chooses the message type, the rest is its encoding.
///
/// What must hold: what decodes encodes to as many bytes as announced and decodes to the same value again; encoding is
/// stable; the short cuts of `encode` write what prost writes.
pub fn message_round_trip(data: &[u8]) {
    let Some((&kind, encoded)) = data.split_first() else { return };
    let encoded = Bytes::copy_from_slice(encoded);
    if let Some(check) = CHECKS.get(usize::from(kind) % CHECKS.len()) {
        check(encoded);
    }
}

macro_rules! checks {
    ($($message:ident),+ $(,)?) => {
        /// The message types by name, in the order of the first byte.
        pub const MESSAGE_TYPES: &[&str] = &[$(stringify!($message)),+];
        const CHECKS: &[fn(Bytes)] = &[$(|encoded| { same_again::<wire::$message>(encoded); }),+, hot_frames];
    };
}

checks!(
    ClientFrame,
    ServerFrame,
    Hello,
    OpenLogin,
    DeviceKeyLogin,
    EnrollLogin,
    Proof,
    Send,
    Read,
    Ping,
    LinkDevice,
    Goodbye,
    Challenge,
    Welcome,
    Ack,
    Refused,
    Deliver,
    Message,
    Receipt,
    CaughtUp,
    Pong,
    LinkCode,
    Error,
    Content,
);

fn same_again<M: Message + Default + PartialEq + std::fmt::Debug>(encoded: Bytes) -> Option<M> {
    let message = M::decode(encoded).ok()?;
    let again = message.encode_to_vec();
    assert_eq!(again.len(), message.encoded_len());
    let decoded = M::decode(&again[..]).expect("what was encoded decodes");
    assert!(decoded == message, "{message:?} came back as {decoded:?}");
    assert_eq!(decoded.encode_to_vec(), again, "encoding is stable");

    let mut framed = BytesMut::new();
    frame::put(&message, &mut framed);
    assert_eq!(framed.len(), 4 + again.len());
    assert!(framed[..4] == (again.len() as u32).to_be_bytes() && framed[4..] == again[..], "FRAME-1");
    Some(message)
}

fn hot_frames(encoded: Bytes) {
    let (mut wanted, mut written) = (BytesMut::new(), BytesMut::new());
    if let Some(deliver) = same_again::<wire::Deliver>(encoded.clone())
        && let Some(wire::deliver::Entry::Message(message)) = &deliver.entry
    {
        let message = encode::message(message);
        encode::deliver_message(deliver.position, &message, &mut written);
        frame::put(&wire::ServerFrame { body: Some(wire::server_frame::Body::Deliver(deliver)) }, &mut wanted);
    } else if let Some(ack) = same_again::<wire::Ack>(encoded) {
        encode::ack(&ack, &mut written);
        frame::put(&wire::ServerFrame { body: Some(wire::server_frame::Body::Ack(ack)) }, &mut wanted);
    }
    assert_eq!(written, wanted);
}
