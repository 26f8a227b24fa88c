//! The frame codec: a 4-byte big-endian length, then that many bytes (FRAME-1).
//!
//! Incremental: it looks at what has arrived and takes a whole frame or nothing. A length prefix is checked against the
//! limit before anything else happens and never makes the codec reserve memory (FRAME-4): the buffer grows only with
//! bytes that the peer really sent.

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;

use crate::error::{CodedError, ErrorCode};
use crate::limits::LENGTH_PREFIX_BYTES;
use crate::wire::{ClientFrame, ServerFrame};

/// Takes the next frame's body off the front of `buffer`, or `None` while it is incomplete.
///
/// `max` is the limit in force, in bytes of body.
///
/// # Errors
/// `FRAME_EMPTY` for a zero length (FRAME-2), `FRAME_TOO_LARGE` above `max` (FRAME-3); both before the body arrives.
pub fn take(buffer: &mut BytesMut, max: usize) -> Result<Option<Bytes>, CodedError> {
    let Some(length) = peek_length(buffer, max)? else { return Ok(None) };
    if buffer.len() < LENGTH_PREFIX_BYTES + length {
        return Ok(None);
    }
    buffer.advance(LENGTH_PREFIX_BYTES);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// The length of the next frame's body, or `None` while the prefix is incomplete. Errors as [`take`].
pub fn peek_length(buffer: &[u8], max: usize) -> Result<Option<usize>, CodedError> {
    let Some(prefix) = buffer.first_chunk::<LENGTH_PREFIX_BYTES>() else { return Ok(None) };
    let length = u32::from_be_bytes(*prefix) as usize;
    if length == 0 {
        return Err(ErrorCode::FrameEmpty.into());
    }
    if length > max {
        let detail = format!("a frame of {length} bytes; the limit here is {max}");
        return Err(CodedError::with(ErrorCode::FrameTooLarge, detail));
    }
    Ok(Some(length))
}

/// Decodes the body of a client's frame. Content is a view into `body`, not a copy.
///
/// # Errors
/// `BAD_FRAME` when it is not protobuf of that shape (FRAME-5).
pub fn decode_client(body: Bytes) -> Result<ClientFrame, CodedError> {
    ClientFrame::decode(body).map_err(|error| bad_frame(&error))
}

/// Decodes the body of a server's frame. Content is a view into `body`, not a copy.
///
/// # Errors
/// `BAD_FRAME` when it is not protobuf of that shape (FRAME-5).
pub fn decode_server(body: Bytes) -> Result<ServerFrame, CodedError> {
    ServerFrame::decode(body).map_err(|error| bad_frame(&error))
}

fn bad_frame(error: &prost::DecodeError) -> CodedError {
    CodedError::with(ErrorCode::BadFrame, error.to_string())
}

/// Appends one frame, length first.
///
/// The caller keeps bodies within the limits; a body of 4 GiB or more cannot be written and is a caller's bug.
pub fn put(frame: &impl Message, out: &mut BytesMut) {
    let length = frame.encoded_len();
    let prefix = u32::try_from(length).expect("frames are bounded far below 4 GiB");
    out.reserve(LENGTH_PREFIX_BYTES + length);
    out.extend_from_slice(&prefix.to_be_bytes());
    frame.encode_raw(out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Ping, client_frame};

    fn ping(token: u64) -> ClientFrame {
        ClientFrame { received: 0, body: Some(client_frame::Body::Ping(Ping { token })) }
    }

    #[test]
    fn a_frame_of_length_zero_is_refused_before_anything_else() {
        let error = take(&mut BytesMut::from(&[0, 0, 0, 0, 1][..]), 10).expect_err("FRAME-2");
        assert_eq!(error.code, ErrorCode::FrameEmpty);
    }

    #[test]
    fn a_length_above_the_limit_is_refused_on_its_four_bytes_alone() {
        let mut buffer = BytesMut::from(&11u32.to_be_bytes()[..]);
        let capacity = buffer.capacity();
        assert_eq!(take(&mut buffer, 10).expect_err("FRAME-3").code, ErrorCode::FrameTooLarge);
        assert_eq!(take(&mut BytesMut::from(&[0xff; 4][..]), 10).expect_err("FRAME-3").code, ErrorCode::FrameTooLarge);
        assert_eq!(buffer.capacity(), capacity, "FRAME-4: no memory on the word of a length");
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_frames(
            tokens in proptest::collection::vec(any::<u64>(), 1..20),
            cuts in proptest::collection::vec(1usize..9, 1..200),
        ) {
            let mut stream = BytesMut::new();
            for &token in &tokens {
                put(&ping(token), &mut stream);
            }
            let mut buffer = BytesMut::new();
            let mut seen = Vec::new();
            let mut cuts = cuts.into_iter().cycle();
            while !stream.is_empty() {
                let cut = cuts.next().expect("endless").min(stream.len());
                buffer.extend_from_slice(&stream.split_to(cut));
                while let Some(body) = take(&mut buffer, 64).expect("well-formed") {
                    seen.push(decode_client(body).expect("well-formed"));
                }
            }
            prop_assert_eq!(seen, tokens.into_iter().map(ping).collect::<Vec<_>>());
            prop_assert!(buffer.is_empty());
        }
    }
}
