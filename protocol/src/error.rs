//! Coded errors: what one side tells the other, and what the session returns when the peer breaks a rule.

use crate::wire;

include!("generated/errors.rs");

impl ErrorCode {
    /// The code with this number, if this version knows it (ERR-3: an unknown code is judged by its flags).
    #[must_use]
    pub fn from_number(number: u32) -> Option<ErrorCode> {
        ErrorCode::ALL.iter().copied().find(|code| code.number() == number)
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One coded error with what is particular to this occurrence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct CodedError {
    /// Which error.
    pub code: ErrorCode,
    /// What went wrong this time, for a person; never a secret, never message content.
    pub detail: String,
    /// Wait at least this many milliseconds before trying again; 0 for no advice.
    pub retry_after_ms: u32,
}

impl CodedError {
    /// An error whose detail is the code's own meaning.
    #[must_use]
    pub fn new(code: ErrorCode) -> Self {
        Self::with(code, code.meaning())
    }

    /// An error with a detail of its own.
    #[must_use]
    pub fn with(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_after_ms: 0 }
    }

    /// The same error, advising to wait.
    #[must_use]
    pub fn after_ms(mut self, retry_after_ms: u32) -> Self {
        self.retry_after_ms = retry_after_ms;
        self
    }

    /// The error as the wire carries it, flags included (ERR-2).
    #[must_use]
    pub fn to_wire(&self) -> wire::Error {
        wire::Error {
            code: self.code.number(),
            name: self.code.name().to_owned(),
            detail: self.detail.clone(),
            retry: self.code.retry(),
            closes: self.code.closes(),
            retry_after_ms: self.retry_after_ms,
        }
    }
}

impl From<ErrorCode> for CodedError {
    fn from(code: ErrorCode) -> Self {
        Self::new(code)
    }
}
