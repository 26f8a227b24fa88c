//! TLS over one socket, with no buffer at rest.
//!
//! rustls's unbuffered API leaves the buffers to us. Input is read into a buffer that the connections of a thread share,
//! decrypted there, and only a record that is not complete is kept by its connection; output is encrypted into another
//! shared buffer and written from there, and only what the kernel does not take is kept. What is kept is bounded by one
//! record of input and by one shared buffer of output.
//!
//! Invariants: what is in `unsent` goes before anything that is encrypted later. `received` begins where rustls has
//! discarded up to and is handed to it each time, because it remembers places in it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus};
use rustls::{Error, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use super::exporter::{self, Exported};

/// Bytes of one read; also what one wake-up may bring.
const READ_BYTES: usize = 64 * 1024;

/// The longest record: header, 2^14 bytes and what encryption may add to them (RFC 8446, 5.2). Also bounds a message of
/// the handshake.
const MAX_RECORD_BYTES: usize = 5 + 16 * 1024 + 256;

/// What is encrypted at once, in bytes: some full records.
const WRITE_BYTES: usize = 48 * 1024;

/// What encryption adds to a full record, rounded up.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// Kept output up to this size is written together with what comes next, which saves a write; more is written first.
const WRITTEN_TOGETHER_BYTES: usize = 4 * 1024;

/// How long a closing connection goes on listening after its last record.
const LINGER: Duration = Duration::from_secs(1);

thread_local! {
    static READING: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
    static WRITING: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The server's side of one TLS connection.
pub struct TlsStream {
    socket: TcpStream,
    tls: UnbufferedServerConnection,
    /// The beginning of a record that is not complete.
    received: Vec<u8>,
    /// Encrypted, and not yet taken by the kernel.
    unsent: BytesMut,
    ended: Option<Ended>,
}

/// Why nothing more is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The client said so.
    Closed,
    /// TLS was violated, and the client was told.
    Broken,
}

impl TlsStream {
    /// A stream whose handshake is to be driven: [`readable`](Self::readable), [`hear`](Self::hear),
    /// [`flush`](Self::flush), until it is no more [`is_handshaking`](Self::is_handshaking).
    ///
    /// # Errors
    /// When the configuration is unusable.
    pub fn new(config: Arc<ServerConfig>, socket: TcpStream) -> io::Result<Self> {
        let tls = UnbufferedServerConnection::new(config).map_err(broken)?;
        Ok(Self { socket, tls, received: Vec::new(), unsent: BytesMut::new(), ended: None })
    }

    /// The same stream, which is to be used on `runtime` from now on.
    ///
    /// # Errors
    /// When the system cannot watch another socket. The connection is closed.
    pub fn move_to(self, runtime: &Handle) -> io::Result<Self> {
        let socket = self.socket.into_std()?;
        let _there = runtime.enter();
        Ok(Self { socket: TcpStream::from_std(socket)?, ..self })
    }

    /// Whether the handshake is under way.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Whether the expensive part of the handshake is still to come.
    #[must_use]
    pub fn awaits_key_exchange(&self) -> bool {
        self.tls.negotiated_key_exchange_group().is_none()
    }

    /// The application protocol that was agreed upon.
    #[must_use]
    pub fn alpn_protocol(&self) -> Option<&[u8]> {
        self.tls.alpn_protocol()
    }

    /// Returns when something has arrived.
    ///
    /// # Errors
    /// The socket's.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// A step of the handshake: takes what has arrived, without waiting, and returns what the connection exports when
    /// that is known. The answer is kept until it is flushed or written; the client's first data may be behind its
    /// handshake.
    ///
    /// # Errors
    /// As [`poll_read`](Self::poll_read); `UnexpectedEof` also when the client closed in good order.
    pub async fn hear(&mut self, plaintext: &mut BytesMut) -> io::Result<Option<Exported>> {
        let step = |cx: &mut Context<'_>| Poll::Ready(exporter::during(|| self.poll_receive(cx, plaintext)));
        let (heard, exported) = poll_fn(step).await;
        match heard {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) if self.ended.is_some() && self.is_handshaking() => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Poll::Ready(Ok(())) | Poll::Pending => Ok(exported),
        }
    }

    /// Writes what is kept.
    ///
    /// # Errors
    /// The socket's.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Reads what has arrived, up to 64 KiB, and appends it, decrypted, to `plaintext`. Ready with `true` when
    /// something was appended; with `false` when the client has closed its side.
    ///
    /// # Errors
    /// The socket's; `UnexpectedEof` when it ended without the client having said so; `InvalidData` when TLS was
    /// violated. What came before is appended first.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, plaintext: &mut BytesMut) -> Poll<io::Result<bool>> {
        let before = plaintext.len();
        loop {
            match self.ended {
                Some(Ended::Closed) => return Poll::Ready(Ok(false)),
                Some(Ended::Broken) => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                None => {}
            }
            let received = ready!(self.poll_receive(cx, plaintext));
            if plaintext.len() > before {
                return Poll::Ready(Ok(true));
            }
            received?;
        }
    }

    /// Encrypts `data` and writes it with everything that was kept. Ready when the kernel has all of it. Pending, some of
    /// it may be taken off `data` and kept, encrypted.
    ///
    /// # Errors
    /// The socket's; `InvalidData` when the connection can send no more.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, data: &mut BytesMut) -> Poll<io::Result<()>> {
        while !data.is_empty() {
            if self.unsent.len() > WRITTEN_TOGETHER_BYTES {
                ready!(self.poll_flush(cx))?;
            }
            WRITING.with_borrow_mut(|records| -> io::Result<()> {
                records.clear();
                records.extend_from_slice(&self.unsent);
                let chunk = data.len().min(WRITE_BYTES);
                self.encrypt(&data[..chunk], records)?;
                data.advance(chunk);
                let written = match Pin::new(&mut self.socket).poll_write(cx, records) {
                    Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                    Poll::Ready(written) => written?,
                    Poll::Pending => 0,
                };
                self.unsent = BytesMut::from(&records[written..]);
                Ok(())
            })?;
        }
        self.poll_flush(cx)
    }

    /// Encrypts and writes all of `data`.
    ///
    /// # Errors
    /// As [`poll_write`](Self::poll_write).
    pub async fn write_all(&mut self, mut data: BytesMut) -> io::Result<()> {
        poll_fn(|cx| self.poll_write(cx, &mut data)).await
    }

    /// Closes so that the last record arrives: a socket closed over unread input is reset, and the reset may overtake what
    /// was written. So what the client still says is read and dropped until it closes, too, or a second is over (CONN-11).
    ///
    /// # Errors
    /// The socket's.
    pub async fn hang_up(&mut self) -> io::Result<()> {
        self.say_close()?;
        self.flush().await?;
        poll_fn(|cx| Pin::new(&mut self.socket).poll_shutdown(cx)).await?;
        let drained = poll_fn(|cx| self.poll_drain(cx));
        tokio::time::timeout(LINGER, drained).await.unwrap_or(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.unsent))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(written);
        }
        self.unsent = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// One read of the socket. Ready when it brought something, complete or not.
    fn poll_receive(&mut self, cx: &mut Context<'_>, plaintext: &mut BytesMut) -> Poll<io::Result<()>> {
        READING.with_borrow_mut(|scratch| {
            let held = self.received.len();
            let mut buffer = ReadBuf::new(&mut scratch[held..]);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
            let read = buffer.filled().len();
            if read == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            scratch[..held].copy_from_slice(&self.received);
            Poll::Ready(self.decrypt(&mut scratch[..held + read], plaintext))
        })
    }

    /// Takes `records` in and keeps the beginning of one that is not complete.
    fn decrypt(&mut self, records: &mut [u8], plaintext: &mut BytesMut) -> io::Result<()> {
        let mut used = 0;
        let outcome = loop {
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(&mut records[used..]);
            let step = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                    match traffic.next_record() {
                        None => break Ok(true),
                        Some(Ok(record)) => {
                            discard += record.discard;
                            plaintext.extend_from_slice(record.payload);
                        }
                        Some(Err(error)) => break Err(error),
                    }
                },
                Ok(ConnectionState::EncodeTlsData(mut record)) => put(&mut record, &mut self.unsent).map(|()| true),
                Ok(ConnectionState::TransmitTlsData(kept)) => {
                    kept.done();
                    Ok(true)
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.ended = Some(Ended::Closed);
                    Ok(false)
                }
                Ok(ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake | ConnectionState::Closed) => {
                    Ok(false)
                }
                Ok(_) => Err(Error::General("early data, which was not offered".into())),
                Err(error) => Err(error),
            };
            used += discard;
            match step {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let rest = &mut records[used..];
        let outcome = match outcome {
            Ok(()) if self.ended.is_none() && rest.len() > MAX_RECORD_BYTES => {
                Err(Error::General("a message of the handshake is too long".into()))
            }
            outcome => outcome,
        };
        if let Err(error) = outcome {
            self.ended = Some(Ended::Broken);
            self.tell_alert(rest);
            return Err(broken(error));
        }
        let rest = if self.ended.is_some() { &[] } else { &*rest };
        if !(rest.is_empty() && self.received.is_empty()) {
            self.received = rest.to_vec();
        }
        Ok(())
    }

    /// After an error: the alert that says so goes out if the kernel takes it at once. `rest` is what rustls has not
    /// discarded; it is not looked at again.
    fn tell_alert(&mut self, rest: &mut [u8]) {
        while self.tls.wants_write() {
            match self.tls.process_tls_records(rest).state {
                Ok(ConnectionState::EncodeTlsData(mut record)) => {
                    if put(&mut record, &mut self.unsent).is_err() {
                        break;
                    }
                }
                _ => break,
            }
        }
        self.received = Vec::new();
        // The connection is over either way.
        drop(self.socket.try_write(&self.unsent));
    }

    /// Appends the records of `data` to `records`, and what TLS itself has to say before it.
    fn encrypt(&mut self, data: &[u8], records: &mut Vec<u8>) -> io::Result<()> {
        loop {
            // Nothing is complete in `received`, so nothing is discarded and no data comes from it.
            match self.tls.process_tls_records(&mut self.received).state.map_err(broken)? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let end = records.len();
                    let mut room = data.len() + (data.len() / (16 * 1024) + 1) * RECORD_OVERHEAD_BYTES;
                    loop {
                        records.resize(end + room, 0);
                        match traffic.encrypt(data, &mut records[end..]) {
                            Ok(length) => {
                                records.truncate(end + length);
                                return Ok(());
                            }
                            Err(EncryptError::InsufficientSize(size)) if size.required_size > room => {
                                room = size.required_size;
                            }
                            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
                        }
                    }
                }
                ConnectionState::EncodeTlsData(mut record) => {
                    let mut encoded = BytesMut::new();
                    put(&mut record, &mut encoded).map_err(broken)?;
                    records.extend_from_slice(&encoded);
                }
                ConnectionState::TransmitTlsData(kept) => kept.done(),
                ConnectionState::PeerClosed => self.ended = Some(Ended::Closed),
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    /// Keeps `close_notify` to be flushed, if it was not said before.
    fn say_close(&mut self) -> io::Result<()> {
        loop {
            match self.tls.process_tls_records(&mut self.received).state.map_err(broken)? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let mut record = [0; 2 * RECORD_OVERHEAD_BYTES];
                    let length = traffic
                        .queue_close_notify(&mut record)
                        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                    self.unsent.extend_from_slice(&record[..length]);
                    return Ok(());
                }
                ConnectionState::EncodeTlsData(mut record) => put(&mut record, &mut self.unsent).map_err(broken)?,
                ConnectionState::TransmitTlsData(kept) => kept.done(),
                ConnectionState::PeerClosed => self.ended = Some(Ended::Closed),
                _ => return Ok(()),
            }
        }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        READING.with_borrow_mut(|scratch| {
            loop {
                let mut buffer = ReadBuf::new(scratch);
                ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
                if buffer.filled().is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
        })
    }
}

/// Appends a record that rustls has ready.
fn put<Data>(record: &mut EncodeTlsData<'_, Data>, out: &mut BytesMut) -> Result<(), Error> {
    let Err(EncodeError::InsufficientSize(size)) = record.encode(&mut []) else { return Ok(()) };
    let end = out.len();
    out.resize(end + size.required_size, 0);
    record.encode(&mut out[end..]).map(drop).map_err(|error| Error::General(error.to_string()))
}

fn broken(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests;
