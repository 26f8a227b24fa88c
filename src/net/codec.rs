//! The frame codec at the server's edge, as tokio-util knows codecs.

use bytes::BytesMut;
use postrider_protocol::error::CodedError;
use postrider_protocol::frame;
use postrider_protocol::wire::{ClientFrame, ServerFrame};
use tokio_util::codec::{Decoder, Encoder};

/// Client frames in, server frames out.
#[derive(Clone, Copy, Debug)]
pub struct FrameCodec {
    /// Bytes of the largest frame body taken; login raises it.
    pub max_frame_bytes: usize,
}

/// Why decoding ended: the peer's mistake, or the socket's.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The peer broke a rule of FRAME.
    #[error(transparent)]
    Coded(#[from] CodedError),
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Decoder for FrameCodec {
    type Item = ClientFrame;
    type Error = CodecError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<ClientFrame>, CodecError> {
        let Some(body) = frame::take(buffer, self.max_frame_bytes)? else { return Ok(None) };
        Ok(Some(frame::decode_client(body)?))
    }
}

impl Encoder<ServerFrame> for FrameCodec {
    type Error = CodecError;

    fn encode(&mut self, frame: ServerFrame, out: &mut BytesMut) -> Result<(), CodecError> {
        frame::put(&frame, out);
        Ok(())
    }
}
