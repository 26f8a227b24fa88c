//! Any bytes as what a peer sends.

use bytes::BytesMut;
use postrider_protocol::error::CodedError;
use postrider_protocol::frame;
use postrider_protocol::limits::{LENGTH_PREFIX_BYTES, MAX_FRAME_BYTES, MAX_LOGIN_FRAME_BYTES};

/// The first byte says how the rest is cut into pieces: evenly, or into pieces of changing size.
///
/// What must hold: the cuts change neither the frames nor the error (FRAME-1); the codec keeps no more than it was given
/// (FRAME-4) and no byte is lost; a body within its limit decodes or is refused, in either direction.
pub fn frame_decoder(data: &[u8]) {
    let Some((&cut, stream)) = data.split_first() else { return };
    let whole = frames(stream, std::iter::repeat(stream.len()));
    let pieces = match cut {
        1..0x80 => frames(stream, std::iter::repeat(cut.into())),
        // Every step of a full-period generator: sizes of 1 to 32 in an order of its own for every `cut`.
        _ => frames(stream, (0u32..).map(|step| step.wrapping_mul(0x9e37_79b9).rotate_left(cut.into()) as usize % 32)),
    };
    assert_eq!(whole, pieces, "FRAME-1: boundaries of reads mean nothing");
    for body in whole.bodies {
        drop(frame::decode_client(body.clone()));
        drop(frame::decode_server(body));
    }
}

#[derive(Debug, PartialEq)]
struct Taken {
    bodies: Vec<bytes::Bytes>,
    error: Option<CodedError>,
}

/// Feeds the stream in pieces of these sizes (0 counts as 1). The first frame is under the limit before login, the rest
/// under the other.
fn frames(mut stream: &[u8], mut sizes: impl Iterator<Item = usize>) -> Taken {
    let given = stream.len();
    let mut taken = Taken { bodies: Vec::new(), error: None };
    let mut buffer = BytesMut::new();
    while !stream.is_empty() {
        let (piece, rest) = stream.split_at(sizes.next().unwrap_or(1).clamp(1, stream.len()));
        stream = rest;
        buffer.extend_from_slice(piece);
        loop {
            let limit = if taken.bodies.is_empty() { MAX_LOGIN_FRAME_BYTES } else { MAX_FRAME_BYTES };
            match frame::take(&mut buffer, limit) {
                Ok(Some(body)) => {
                    assert!(!body.is_empty() && body.len() <= limit, "FRAME-2, FRAME-3");
                    taken.bodies.push(body);
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(error.code.closes());
                    taken.error = Some(error);
                    return taken;
                }
            }
        }
        let reserved = buffer.capacity();
        assert!(reserved <= 2 * given + 64, "FRAME-4: {reserved} bytes for {given} that came");
    }
    let inside: usize = taken.bodies.iter().map(|body| body.len() + LENGTH_PREFIX_BYTES).sum();
    assert_eq!(inside + buffer.len(), given, "no byte is lost or made");
    if let Some(prefix) = buffer.first_chunk() {
        assert!(buffer.len() < LENGTH_PREFIX_BYTES + u32::from_be_bytes(*prefix) as usize, "a whole frame was left");
    }
    taken
}
