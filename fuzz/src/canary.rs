//! A target that must fail: whether the fuzzer, and the smoke run, find what there is to find.

use postrider_protocol::frame;

/// A decoder that takes what arrives in one read for whole frames: the classical mistake that the frame codec exists to
/// avoid. Bytes that are cut as [`frame_decoder`](crate::frame_decoder) cuts them find it out.
pub fn canary(data: &[u8]) {
    let Some((&cut, stream)) = data.split_first() else { return };
    let whole = frame_at_a_time(stream, stream.len().max(1));
    assert_eq!(frame_at_a_time(stream, usize::from(cut).max(1)), whole, "found, as it must be");
}

/// The tokens of all pings.
fn frame_at_a_time(stream: &[u8], size: usize) -> Vec<u64> {
    let mut tokens = Vec::new();
    for piece in stream.chunks(size) {
        let mut piece = bytes::BytesMut::from(piece);
        while let Ok(Some(body)) = frame::take(&mut piece, 64) {
            if let Ok(frame) = frame::decode_client(body)
                && let Some(postrider_protocol::wire::client_frame::Body::Ping(ping)) = frame.body
            {
                tokens.push(ping.token);
            }
        }
    }
    tokens
}
