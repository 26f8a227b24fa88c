//! Frames that are well-formed and otherwise anything: what a decoder would let through.

use bytes::Bytes;
use postrider_protocol::frame;
use postrider_protocol::wire::{self, ClientFrame, ServerFrame, client_frame, deliver, hello, send, server_frame};

use crate::dice::Dice;

/// Marks a frame given as its bytes on the wire rather than as choices: that is how the golden vectors get in.
pub const RAW: u8 = 0xff;

/// The next client frame; `None` ends the run. Bytes that do not decode give an empty frame.
pub fn client_frame(dice: &mut Dice<'_>) -> Option<ClientFrame> {
    let kind = dice.byte()?;
    if kind == RAW {
        return Some(raw(dice, frame::decode_client)?.unwrap_or_default());
    }
    let received = dice.number()?;
    let body = match kind % 8 {
        0 => None,
        1 => Some(client_frame::Body::Hello(hello(dice)?)),
        2 => Some(client_frame::Body::Proof(wire::Proof { signature: filled(dice)? })),
        3 => Some(client_frame::Body::Send(send(dice)?)),
        4 => Some(client_frame::Body::Read(wire::Read { conversation: dice.number()?, seq: dice.number()? })),
        5 => Some(client_frame::Body::Ping(wire::Ping { token: dice.number()? })),
        6 => Some(client_frame::Body::LinkDevice(wire::LinkDevice {})),
        _ => Some(client_frame::Body::Goodbye(wire::Goodbye {})),
    };
    Some(ClientFrame { received, body })
}

/// The next server frame; as [`client_frame`].
pub fn server_frame(dice: &mut Dice<'_>) -> Option<ServerFrame> {
    let kind = dice.byte()?;
    if kind == RAW {
        return Some(raw(dice, frame::decode_server)?.unwrap_or_default());
    }
    let body = match kind % 11 {
        0 => return Some(ServerFrame { body: None }),
        1 => server_frame::Body::Challenge(wire::Challenge { nonce: filled(dice)? }),
        2 => server_frame::Body::Welcome(welcome(dice)?),
        3 => server_frame::Body::Ack(wire::Ack { send_id: dice.number()?, ..Default::default() }),
        4 => server_frame::Body::Refused(wire::Refused { send_id: dice.number()?, error: error(dice)? }),
        5 => server_frame::Body::Deliver(deliver(dice)?),
        6 => server_frame::Body::CaughtUp(wire::CaughtUp { position: dice.number()? }),
        7 => server_frame::Body::Pong(wire::Pong { token: dice.number()? }),
        8 => server_frame::Body::LinkCode(wire::LinkCode { code: dice.text()?, expires_in_s: 60 }),
        9 => server_frame::Body::Error(error(dice)?.unwrap_or_default()),
        _ => server_frame::Body::Goodbye(wire::Goodbye {}),
    };
    Some(ServerFrame { body: Some(body) })
}

/// A body behind its two-byte length.
fn raw<F, E>(dice: &mut Dice<'_>, decode: impl FnOnce(Bytes) -> Result<F, E>) -> Option<Option<F>> {
    let length = u16::from_be_bytes([dice.byte()?, dice.byte()?]);
    Some(decode(Bytes::copy_from_slice(dice.take(length.into()))).ok())
}

fn hello(dice: &mut Dice<'_>) -> Option<wire::Hello> {
    let method = match dice.byte()? % 4 {
        0 => None,
        1 => Some(hello::Method::Open(wire::OpenLogin {})),
        2 => Some(hello::Method::DeviceKey(wire::DeviceKeyLogin {})),
        _ => Some(hello::Method::Enroll(wire::EnrollLogin { code: dice.text()?, public_key: filled(dice)? })),
    };
    Some(wire::Hello {
        version: u32::from(dice.byte()? % 3),
        app: dice.text()?,
        user: dice.text()?,
        device: dice.text()?,
        device_id: dice.number()?,
        cursor: dice.number()?,
        window: dice.number()? as u32,
        agent: dice.text()?,
        method,
    })
}

fn welcome(dice: &mut Dice<'_>) -> Option<wire::Welcome> {
    Some(wire::Welcome {
        device_id: dice.number()?,
        highest_send_id: dice.number()?,
        cursor: dice.number()?,
        head: dice.number()?,
        idle_timeout_ms: dice.number()? as u32,
        max_frame_bytes: dice.number()? as u32,
        send_window: dice.number()? as u32,
        ..Default::default()
    })
}

fn send(dice: &mut Dice<'_>) -> Option<wire::Send> {
    let to = match dice.byte()? % 3 {
        0 => None,
        1 => Some(send::To::User(dice.text()?)),
        _ => Some(send::To::Conversation(dice.number()?)),
    };
    Some(wire::Send { send_id: dice.number()?, to, content: Bytes::copy_from_slice(dice.bytes()?) })
}

fn deliver(dice: &mut Dice<'_>) -> Option<wire::Deliver> {
    let kind = dice.byte()? % 5;
    let position = dice.number()?;
    let (conversation, seq) = (dice.number()?, dice.number()?);
    let receipt = wire::Receipt { conversation, user: "bob".into(), seq };
    let entry = match kind {
        0 => None,
        1 => Some(deliver::Entry::Delivered(receipt)),
        2 => Some(deliver::Entry::Read(receipt)),
        3 => Some(deliver::Entry::Expired(receipt)),
        _ => Some(deliver::Entry::Message(wire::Message { conversation, seq, ..Default::default() })),
    };
    Some(wire::Deliver { position, entry })
}

fn error(dice: &mut Dice<'_>) -> Option<Option<wire::Error>> {
    let flags = dice.byte()?;
    let error = wire::Error {
        code: dice.number()? as u32,
        retry: flags & 1 != 0,
        closes: flags & 2 != 0,
        retry_after_ms: dice.number()? as u32,
        ..Default::default()
    };
    Some((flags & 4 == 0).then_some(error))
}

/// As many equal bytes as the length says: keys, nonces and signatures matter here by their length alone.
fn filled(dice: &mut Dice<'_>) -> Option<Bytes> {
    let length = dice.byte()?;
    Some(vec![length; length.into()].into())
}
