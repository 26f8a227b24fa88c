//! Frames and bytes over any stream, right or wrong.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use postrider_protocol::error::CodedError;
use postrider_protocol::frame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// One end of a connection.
pub struct Link<S> {
    stream: S,
    inbound: BytesMut,
}

/// Why there is no next frame.
#[derive(Debug)]
pub enum NoFrame {
    /// The peer closed its side in order; true with TLS `close_notify`.
    End,
    /// The connection broke.
    Broken(io::Error),
    /// What came is no frame.
    Malformed(CodedError),
    /// Nothing came in time.
    Silence,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    /// Over this stream.
    #[must_use]
    pub fn new(stream: S) -> Self {
        Self { stream, inbound: BytesMut::new() }
    }

    /// The stream.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Writes these bytes.
    ///
    /// # Errors
    /// The stream's.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next frame's body, of at most `max` bytes. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`NoFrame`].
    pub async fn next(&mut self, max: usize, patience: Duration) -> Result<Bytes, NoFrame> {
        let next = async {
            loop {
                if let Some(body) = frame::take(&mut self.inbound, max).map_err(NoFrame::Malformed)? {
                    return Ok(body);
                }
                match self.stream.read_buf(&mut self.inbound).await {
                    Ok(0) => return Err(NoFrame::End),
                    Ok(_) => {}
                    Err(error) => return Err(NoFrame::Broken(error)),
                }
            }
        };
        tokio::time::timeout(patience, next).await.unwrap_or(Err(NoFrame::Silence))
    }

    /// Bytes that have come and are no whole frame yet.
    #[must_use]
    pub fn leftover(&self) -> usize {
        self.inbound.len()
    }

    /// Says that nothing more comes, and lets go.
    pub async fn close(mut self) {
        // A peer that is gone already needs no goodbye.
        drop(self.stream.shutdown().await);
    }
}
