//! How a command ends: its exit code, and for a failure one line that says what is wrong and what to do.

use std::process::ExitCode;

use postrider_client::ErrorCode;
use postrider_client::{Error, StateError};

use super::print;
use crate::admin::client::AdminError;
use crate::app::store_tools::ToolError;
use crate::config::ConfigError;

/// What the exit code means to a script. The numbers are a promise; [`EXIT_CODES`] is their table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Something else went wrong.
    Other = 1,
    /// The arguments, the configuration or a context are not right.
    Usage = 2,
    /// The server could not be reached.
    Unreachable = 3,
    /// A message or request was refused.
    Refused = 4,
    /// The login failed, or the server ended it with an error that no retry mends.
    Login = 5,
    /// `--timeout` passed.
    TimedOut = 6,
    /// A load test found a fault, or a figure out of bounds; a requirement of the specification was broken; or a store is
    /// damaged, or not wholly salvaged.
    Failed = 7,
    /// The server stopped because its store could not write any more.
    StoreFailed = 8,
    /// SIGINT came before the work was done.
    Interrupted = 130,
}

/// The table in `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0    done; also when listen or chat was ended by SIGINT or SIGTERM
  1    something else went wrong
  2    the arguments, the configuration or a context are not right
  3    cannot connect to the server
  4    refused: at least one message, or the request
  5    login failed, or the server ended the session for good
  6    timed out (--timeout)
  7    bench: a fault in what was delivered, or a figure out of bounds (--fail-if);
       conformance: a requirement was broken;
       store: damage was found, or not everything was salvaged
  8    serve: the store could not write any more (see store.on_failure)
  130  interrupted (send, before every answer was there; bench)";

/// A command that did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    /// The code to exit with.
    pub exit: Exit,
    /// One line: what is wrong; what to do. Empty when everything has been said.
    pub message: String,
}

impl Failure {
    /// A failure with its line.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// Wrong arguments, configuration or context.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// What is none of the others.
    pub fn other(message: impl Into<String>) -> Self {
        Self::new(Exit::Other, message)
    }

    /// A failure that has been told already.
    #[must_use]
    pub fn told(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// Says it on stderr, in one line.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            print::complain(&format!("postrider: {}", self.message));
        }
        ExitCode::from(self.exit as u8)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::usage(error.to_string())
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        let exit = match &error {
            AdminError::NoServer(_) => Exit::Unreachable,
            AdminError::Fault(fault) if fault.code < 500 => Exit::Refused,
            _ => Exit::Other,
        };
        Failure::new(exit, error.to_string())
    }
}

impl From<ToolError> for Failure {
    fn from(error: ToolError) -> Self {
        let exit = match &error {
            ToolError::Refused(_) => Exit::Refused,
            error if error.is_damage() => Exit::Failed,
            _ => Exit::Other,
        };
        Failure::new(exit, error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::new(exit_of(&error), error.to_string())
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Failure::other(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    /// For writing to stdout: that its reader is gone needs no words.
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::told(Exit::Other),
            _ => Failure::other(format!("cannot write the output: {error}")),
        }
    }
}

/// What a client's error means to a script.
#[must_use]
pub fn exit_of(error: &Error) -> Exit {
    match error {
        Error::Server(said) if said.retry => Exit::Unreachable,
        Error::Server(_) => Exit::Login,
        Error::Unreachable { .. }
        | Error::Untrusted { .. }
        | Error::NotPostrider { .. }
        | Error::Lost { .. }
        | Error::Timeout { .. } => Exit::Unreachable,
        Error::Options(_) => Exit::Usage,
        Error::Unanswered(_) => Exit::TimedOut,
        _ => Exit::Other,
    }
}

/// Whether the server no longer knows the device, so that only its state's loss helps.
#[must_use]
pub fn is_forgotten(error: &Error) -> bool {
    matches!(error.code(), Some(ErrorCode::DeviceExpired | ErrorCode::CursorAhead))
}

#[cfg(test)]
mod tests {
    use postrider_client::CodedError;

    use super::*;

    fn server_says(code: ErrorCode) -> Error {
        Error::Server((&CodedError::new(code)).into())
    }

    #[test]
    fn the_table_lists_every_code() {
        let codes = [
            Exit::Ok,
            Exit::Other,
            Exit::Usage,
            Exit::Unreachable,
            Exit::Refused,
            Exit::Login,
            Exit::TimedOut,
            Exit::Failed,
            Exit::StoreFailed,
            Exit::Interrupted,
        ];
        let listed: Vec<u8> =
            EXIT_CODES.lines().skip(1).filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
        assert_eq!(listed, codes.map(|code| code as u8));
    }

    #[test]
    fn each_kind_of_error_has_its_code() {
        let unreachable = Error::Unreachable { server: "h:1".into(), detail: "refused".into() };
        assert_eq!(exit_of(&unreachable), Exit::Unreachable);
        assert_eq!(exit_of(&server_says(ErrorCode::LoginFailed)), Exit::Login);
        assert_eq!(exit_of(&server_says(ErrorCode::Replaced)), Exit::Login);
        assert_eq!(exit_of(&server_says(ErrorCode::Overloaded)), Exit::Unreachable);
        assert_eq!(exit_of(&Error::Options("bad".into())), Exit::Usage);
    }

    #[test]
    fn a_lost_device_is_told_from_other_refusals() {
        assert!(is_forgotten(&server_says(ErrorCode::DeviceExpired)));
        assert!(is_forgotten(&server_says(ErrorCode::CursorAhead)));
        assert!(!is_forgotten(&server_says(ErrorCode::LoginFailed)));
    }

    #[test]
    fn a_reader_that_is_gone_needs_no_words() {
        let failure = Failure::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert!(failure.message.is_empty());
    }
}
