//! What can go wrong, and what to do about it.

use std::time::Duration;

use postrider_protocol::error::{CodedError, ErrorCode};
use postrider_protocol::wire;

use crate::StateError;

/// Why a client cannot connect, or has stopped. Each is one line that says what is wrong and what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing answers at the address.
    #[error("cannot reach {server}: {detail}; check that the server runs there and the address is right")]
    Unreachable {
        /// host:port.
        server: String,
        /// What the operating system said.
        detail: String,
    },
    /// The server's certificate is not one we trust for that name.
    #[error("the certificate of {server} is not trusted: {detail}; give the CA file that belongs to this server")]
    Untrusted {
        /// host:port.
        server: String,
        /// Why not.
        detail: String,
    },
    /// Something answers, but not a Postrider server.
    #[error("{server} does not speak Postrider: {detail}; check the address and the port")]
    NotPostrider {
        /// host:port.
        server: String,
        /// What it did.
        detail: String,
    },
    /// The connection broke.
    #[error("the connection to {server} was lost: {detail}")]
    Lost {
        /// host:port.
        server: String,
        /// How.
        detail: String,
    },
    /// The server took too long.
    #[error("{server} did not finish the login within {} s; it may be overloaded", .timeout.as_secs_f32())]
    Timeout {
        /// host:port.
        server: String,
        /// [`Options::connect_timeout`](crate::Options::connect_timeout).
        timeout: Duration,
    },
    /// The server said no.
    #[error("{0}")]
    Server(ServerError),
    /// The options cannot be right.
    #[error("{0}")]
    Options(String),
    /// The client's own state cannot be used.
    #[error("{0}")]
    State(#[from] StateError),
    /// [`Client::close`](crate::Client::close) gave up waiting. The messages are in the client's state, and are sent
    /// when it connects again.
    #[error("{0} messages have no answer yet; they are kept and sent on the next connection")]
    Unanswered(usize),
    /// The client is closed, or has stopped; the events say why.
    #[error("the client is closed")]
    Closed,
}

impl Error {
    /// Whether trying again, as it is, can only fail again.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Error::Unreachable { .. } | Error::Lost { .. } | Error::Timeout { .. } | Error::Unanswered(_) => false,
            Error::Server(error) => !error.retry,
            Error::Untrusted { .. }
            | Error::NotPostrider { .. }
            | Error::Options(_)
            | Error::State(_)
            | Error::Closed => true,
        }
    }

    /// The server's error code, if it is one that this version knows.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        if let Error::Server(error) = self { ErrorCode::from_number(error.code) } else { None }
    }
}

/// A coded error of the server; SPEC.md lists them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// The number, such as 200.
    pub code: u32,
    /// The name, such as `LOGIN_FAILED`.
    pub name: String,
    /// What went wrong this time.
    pub detail: String,
    /// Whether the same request may succeed later.
    pub retry: bool,
    /// How long to wait before that, at least.
    pub retry_after: Duration,
}

impl std::fmt::Display for ServerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.code)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail.trim_end_matches('.'))?;
        }
        match ErrorCode::from_number(self.code) {
            Some(code) => write!(f, ". {}", code.remedy()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ServerError {}

impl From<wire::Error> for ServerError {
    fn from(error: wire::Error) -> Self {
        let retry_after = Duration::from_millis(error.retry_after_ms.into());
        Self { code: error.code, name: error.name, detail: error.detail, retry: error.retry, retry_after }
    }
}

impl From<&CodedError> for ServerError {
    fn from(error: &CodedError) -> Self {
        error.to_wire().into()
    }
}

/// Why a message was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The server refused it for good. To try again is to send it anew.
    #[error("refused: {name} ({code}): {detail}")]
    Refused {
        /// The message's own number.
        send_id: u64,
        /// The error's number.
        code: u32,
        /// The error's name.
        name: String,
        /// What went wrong.
        detail: String,
        /// Whether sending it anew may succeed later.
        retry: bool,
        /// How long to wait before that, at least.
        retry_after: Duration,
    },
    /// It is above the server's limit; nothing was sent.
    #[error("{detail}")]
    TooLarge {
        /// How large it is, and what the limit is.
        detail: String,
    },
    /// The client was closed or stopped first. A message that was durably queued by then is sent when the client
    /// connects again; [`Event::Answered`](crate::Event::Answered) then tells how it went.
    #[error("the client was closed before there was an answer")]
    Closed,
}

impl SendError {
    pub(crate) fn refused(send_id: u64, error: wire::Error) -> Self {
        let ServerError { code, name, detail, retry, retry_after } = error.into();
        Self::Refused { send_id, code, name, detail, retry, retry_after }
    }
}
