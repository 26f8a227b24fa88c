//! The bodies of the fuzz targets: each takes any bytes and panics when something that must hold does not.

use std::time::Duration;

use bytes::BytesMut;
use postrider_protocol::error::CodedError;
use postrider_protocol::frame;
use postrider_protocol::limits::{LENGTH_PREFIX_BYTES, MAX_FRAME_BYTES, MAX_LOGIN_FRAME_BYTES};
use postrider_protocol::session::server::{AwaitingHello, AwaitingProof, Session};
use postrider_protocol::wire::ClientFrame;
use prost::Message;

/// Any bytes as what a peer sends: the first byte says how the rest is cut into pieces.
///
/// What must hold: the codec neither panics nor keeps more than it was given; the cuts change nothing; a frame within its
/// limit decodes to the same value after encoding it again; no session panics on a frame that decodes.
pub fn frame_decoder(data: &[u8]) {
    let Some((&cut, stream)) = data.split_first() else { return };
    let whole = frames(stream, stream.len().max(1));
    let pieces = frames(stream, usize::from(cut).max(1));
    assert_eq!(whole, pieces, "FRAME-1: boundaries of reads mean nothing");
    for body in whole.bodies {
        same_again(&frame::decode_client(body.clone().into()), frame::decode_client);
        same_again(&frame::decode_server(body.clone().into()), frame::decode_server);
        if let Ok(frame) = frame::decode_client(body.into()) {
            no_session_panics(&frame);
        }
    }
}

#[derive(Debug, PartialEq)]
struct Taken {
    bodies: Vec<Vec<u8>>,
    error: Option<CodedError>,
}

/// Feeds the stream in pieces of `size` bytes. The first frame is under the limit before login, the rest under the other.
fn frames(stream: &[u8], size: usize) -> Taken {
    let mut taken = Taken { bodies: Vec::new(), error: None };
    let mut buffer = BytesMut::new();
    for piece in stream.chunks(size) {
        buffer.extend_from_slice(piece);
        loop {
            let limit = if taken.bodies.is_empty() { MAX_LOGIN_FRAME_BYTES } else { MAX_FRAME_BYTES };
            match frame::take(&mut buffer, limit) {
                Ok(Some(body)) => {
                    assert!(!body.is_empty() && body.len() <= limit, "FRAME-2, FRAME-3");
                    taken.bodies.push(body.to_vec());
                }
                Ok(None) => break,
                Err(error) => {
                    taken.error = Some(error);
                    return taken;
                }
            }
        }
        let reserved = buffer.capacity();
        assert!(reserved <= 2 * stream.len() + 64, "FRAME-4: {reserved} bytes for {} that came", stream.len());
    }
    let inside: usize = taken.bodies.iter().map(|body| body.len() + LENGTH_PREFIX_BYTES).sum();
    assert_eq!(inside + buffer.len(), stream.len(), "no byte is lost or made");
    taken
}

fn same_again<F>(decoded: &Result<F, CodedError>, decode: fn(bytes::Bytes) -> Result<F, CodedError>)
where
    F: Message + PartialEq + std::fmt::Debug,
{
    let Ok(frame) = decoded else { return };
    let again = decode(frame.encode_to_vec().into()).expect("what was encoded decodes");
    assert_eq!(&again, frame);
}

fn no_session_panics(frame: &ClientFrame) {
    // Refusals are answers like others here; what counts is that each call returns.
    drop(AwaitingHello::new().handle_frame(frame.clone()));
    drop(AwaitingProof::challenge([0; 32]).0.handle_frame(frame.clone()));
    let mut session = Session::new(7, Duration::from_secs(1), Duration::ZERO);
    session.handle_delivered(1_000);
    drop(session.handle_frame(frame.clone(), Duration::from_secs(1)));
    assert!(session.confirmed() <= 1_000, "DLVR-5");
}
