//! What an operator does to a running server: HTTP with JSON on a unix socket in the data directory that only the
//! directory's owner can open. Whoever can open it may do everything here, so there is no further login.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`Status`] |
//! | `GET /v1/apps/{app}/users?after=NAME&limit=N` | [`UserPage`], in the order of names |
//! | `POST /v1/apps/{app}/users` with [`NewUser`] | [`Added`] |
//! | `DELETE /v1/apps/{app}/users/{user}` | nothing (204) |
//! | `POST /v1/apps/{app}/users/{user}/code` | [`Code`] |
//! | `GET /v1/apps/{app}/users/{user}/devices` | a list of [`Device`] |
//! | `DELETE /v1/apps/{app}/users/{user}/devices/{device}` | nothing (204) |
//! | `POST /v1/backup` with [`NewBackup`] | [`BackedUp`], when it is made |
//!
//! Every failure answers [`FaultBody`]. Names in paths are percent-encoded.
//!
//! # Layout
//! - [`http`]: requests ↔ [`Operator`]
//! - [`socket`]: the socket's place, rights and length limit
//! - [`client`]: the other end, for our own commands
//! - [`operator`]: [`Operator`] on a store

pub mod client;
pub mod http;
pub mod operator;
pub mod socket;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

pub use http::serve;
pub use operator::{Host, StoreOperator, Vitals};
pub use socket::{SOCKET_NAME, bind};

/// Users in one [`UserPage`], at most, and unless asked otherwise.
pub const PAGE_USERS: usize = 1_000;

/// What can be asked of a running server: all that this module sees of it.
pub trait Operator: Send + Sync + 'static {
    /// How the server is.
    fn status(&self) -> BoxFuture<'_, Result<Status, Fault>>;
    /// Makes a user, if there is none of that name, and a code to enrol a device with.
    fn add_user<'a>(&'a self, app: &'a str, user: &'a str) -> BoxFuture<'a, Result<Added, Fault>>;
    /// Another code for a user there is.
    fn add_code<'a>(&'a self, app: &'a str, user: &'a str) -> BoxFuture<'a, Result<Code, Fault>>;
    /// Users whose names come after `after`, `limit` at most.
    fn list_users<'a>(&'a self, app: &'a str, after: &'a str, limit: usize) -> BoxFuture<'a, Result<UserPage, Fault>>;
    /// Removes a user with devices, inbox and codes, and ends their connections.
    fn remove_user<'a>(&'a self, app: &'a str, user: &'a str) -> BoxFuture<'a, Result<(), Fault>>;
    /// A user's devices, oldest first.
    fn list_devices<'a>(&'a self, app: &'a str, user: &'a str) -> BoxFuture<'a, Result<Vec<Device>, Fault>>;
    /// Revokes a device and ends its connection: it can never log in again, and what waited for it alone is gone.
    fn revoke_device<'a>(&'a self, app: &'a str, user: &'a str, device: &'a str) -> BoxFuture<'a, Result<(), Fault>>;
    /// Backs up the store, while it works, to a directory that does not exist.
    fn back_up<'a>(&'a self, to: &'a str) -> BoxFuture<'a, Result<BackedUp, Fault>>;
}

/// The body of a request to back up the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewBackup {
    /// The directory to make, as the server's machine names it; absolute.
    pub to: String,
}

/// A backup was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackedUp {
    /// Rows that were copied.
    pub rows: u64,
    /// Segments of the journal that go with them.
    pub segments: u32,
    /// Bytes in all.
    pub bytes: u64,
}

/// How the server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The server's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Whole seconds since it started.
    pub uptime_s: u64,
    /// The addresses it listens on.
    pub listen: Vec<String>,
    /// Its data directory, absolute.
    pub data: String,
    /// Connections that are open now, logged in or not.
    pub connections: u64,
    /// How many it would take.
    pub max_connections: u64,
    /// Whether its store takes what is sent.
    pub store: StoreStatus,
    /// The apps it serves.
    pub apps: Vec<AppStatus>,
}

/// Whether the store takes what is sent, in [`Status`]. Reads and logins go on in any case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum StoreStatus {
    /// It does.
    Writing,
    /// Not before the disk has space.
    Full {
        /// For a person.
        why: String,
    },
    /// Not before the server is restarted.
    Failed {
        /// For a person.
        why: String,
    },
}

/// An app in [`Status`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStatus {
    /// Its name.
    pub name: String,
    /// How many users it has.
    pub users: u64,
}

/// The body of a request to make a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// 1–64 bytes without control characters (NAME-1).
    pub name: String,
}

/// A user was made, or was there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// The user's name.
    pub user: String,
    /// Whether it is new.
    pub created: bool,
    /// For enrolling a device; none where the app's login methods have no use for one.
    pub code: Option<Code>,
}

/// A one-time code that enrols one device.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// What to type. A secret: whoever has it can become the user.
    pub code: String,
    /// Seconds until it is no longer good.
    pub expires_in_s: u32,
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Code").field("expires_in_s", &self.expires_in_s).finish_non_exhaustive()
    }
}

/// Users, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserPage {
    /// The users.
    pub users: Vec<User>,
    /// Whether there are more after the last of these.
    pub more: bool,
}

/// A user as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its name.
    pub name: String,
    /// How many devices it has.
    pub devices: usize,
    /// Entries in its inbox: what at least one device has not confirmed.
    pub inbox_entries: u64,
}

/// A device as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: u64,
    /// Whether it was enrolled with a key.
    pub has_key: bool,
    /// The highest position it has confirmed.
    pub cursor: u64,
    /// Positions it lies behind the inbox's newest; positions are not contiguous, so this is no count of messages.
    pub behind: u64,
    /// When it was made, in milliseconds since 1970.
    pub linked: u64,
    /// When it last logged in or confirmed, in milliseconds since 1970.
    pub seen: u64,
}

/// Why a request was not done. `code` is the HTTP status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No such app.
    #[error("the server has no app named {0:?}")]
    UnknownApp(String),
    /// No such user in the app.
    #[error("there is no user named {0:?}")]
    UnknownUser(String),
    /// The user has no such device.
    #[error("there is no device named {0:?}")]
    UnknownDevice(String),
    /// Codes are of no use in this app.
    #[error("app {0:?} does not allow login by device key, so codes are of no use in it")]
    CodesNotAllowed(String),
    /// The request is not one of the table above.
    #[error("{0}")]
    BadRequest(String),
    /// A name no user can have (NAME-1).
    #[error("{0}")]
    BadName(String),
    /// The backup cannot be made there, or not now.
    #[error("{0}")]
    BackupRefused(String),
    /// The store cannot be written or read.
    #[error("{0}")]
    StoreUnavailable(String),
    /// The server failed; its log says how.
    #[error("the server failed: {0}")]
    Internal(String),
}

impl Fault {
    /// The HTTP status and the name that programs go by.
    #[must_use]
    pub fn code_and_name(&self) -> (u16, &'static str) {
        match self {
            Fault::UnknownApp(_) => (404, "UNKNOWN_APP"),
            Fault::UnknownUser(_) => (404, "UNKNOWN_USER"),
            Fault::UnknownDevice(_) => (404, "UNKNOWN_DEVICE"),
            Fault::CodesNotAllowed(_) => (409, "CODES_NOT_ALLOWED"),
            Fault::BadRequest(_) => (400, "BAD_REQUEST"),
            Fault::BadName(_) => (400, "BAD_NAME"),
            Fault::BackupRefused(_) => (409, "BACKUP_REFUSED"),
            Fault::StoreUnavailable(_) => (503, "STORE_UNAVAILABLE"),
            Fault::Internal(_) => (500, "INTERNAL"),
        }
    }
}

/// A [`Fault`] as it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultBody {
    /// The HTTP status.
    pub code: u16,
    /// What programs go by.
    pub name: String,
    /// What is wrong, for a person.
    pub detail: String,
}

impl From<&Fault> for FaultBody {
    fn from(fault: &Fault) -> Self {
        let (code, name) = fault.code_and_name();
        Self { code, name: name.to_owned(), detail: fault.to_string() }
    }
}
