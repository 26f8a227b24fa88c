//! What a client keeps across its own restarts: small, durable, pluggable.

mod file;
mod record;

use bytes::Bytes;

pub use file::FileState;

use crate::To;

/// Where a client keeps its [`Saved`] state. [`FileState`] is the one for most programs; implement this to keep the
/// state beside the application's own data.
///
/// The methods may block: the client calls them away from the async threads, one at a time.
pub trait StateStore: Send + 'static {
    /// Everything that was committed, or [`Saved::default`] the first time.
    ///
    /// # Errors
    /// When the state cannot be read, or is damaged.
    fn load(&mut self) -> Result<Saved, StateError>;

    /// Applies the changes in order, all or none, and returns once they are on stable storage. Only a batch made of
    /// [`Change::Answered`] alone may stay volatile until the next one: losing it costs a repetition, never a message.
    ///
    /// # Errors
    /// When they are not durable. The client then stops; it does not try again.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StateError>;

    /// Whether the methods never block, so that the client may call them wherever it is.
    fn in_memory(&self) -> bool {
        false
    }
}

/// The state of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Whose state this is; `None` before the first login.
    pub owner: Option<Owner>,
    /// The server's id of this device; 0 before the first login.
    pub device_id: u64,
    /// The device's Ed25519 key as PKCS#8, once there is one. Secret.
    pub key: Option<Key>,
    /// The highest inbox position the application has taken.
    pub cursor: u64,
    /// The highest `send_id` ever used.
    pub highest_send_id: u64,
    /// Messages without an answer, in order of their `send_id`.
    pub unanswered: Vec<QueuedSend>,
}

/// Whom a state belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The app.
    pub app: String,
    /// The user.
    pub user: String,
    /// The device's name.
    pub device: String,
}

/// A device's private key, PKCS#8. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(pub Vec<u8>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(secret)")
    }
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedSend {
    /// The message's own number.
    pub send_id: u64,
    /// Whom it goes to.
    pub to: To,
    /// What it says.
    pub content: Bytes,
}

/// One change of a [`Saved`] state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The state belongs to this device.
    Owner(Owner),
    /// The server's id of the device.
    DeviceId(u64),
    /// The device's key.
    Key(Key),
    /// The application has taken everything up to this position.
    Cursor(u64),
    /// Ids up to this one are used.
    HighestSendId(u64),
    /// A message waits for its answer; uses its `send_id`.
    Queued(QueuedSend),
    /// The message with this `send_id` has its answer.
    Answered(u64),
}

impl Saved {
    /// What a change means. Applying it a second time changes nothing, except that `Queued` after `Answered` of the same
    /// id would bring the message back.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Owner(owner) => self.owner = Some(owner.clone()),
            Change::DeviceId(id) => self.device_id = *id,
            Change::Key(key) => self.key = Some(key.clone()),
            Change::Cursor(position) => self.cursor = self.cursor.max(*position),
            Change::HighestSendId(id) => self.highest_send_id = self.highest_send_id.max(*id),
            Change::Queued(send) => {
                self.highest_send_id = self.highest_send_id.max(send.send_id);
                if let Err(index) = self.unanswered.binary_search_by_key(&send.send_id, |queued| queued.send_id) {
                    self.unanswered.insert(index, send.clone());
                }
            }
            Change::Answered(send_id) => {
                if let Ok(index) = self.unanswered.binary_search_by_key(send_id, |queued| queued.send_id) {
                    self.unanswered.remove(index);
                }
            }
        }
    }
}

/// State that lives as long as the process: for tests and programs that need nothing kept. Each start is a device
/// without state to the server, which then continues where that device's last connection was.
#[derive(Clone, Debug, Default)]
pub struct MemoryState {
    saved: Saved,
}

impl MemoryState {
    /// Empty state.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl StateStore for MemoryState {
    fn load(&mut self) -> Result<Saved, StateError> {
        Ok(self.saved.clone())
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StateError> {
        changes.iter().for_each(|change| self.saved.apply(change));
        Ok(())
    }

    fn in_memory(&self) -> bool {
        true
    }
}

/// Why a state cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Another process, or another client in this one, has the state open.
    #[error("the client state in {dir} is in use by another process; use another device, or end that process")]
    InUse {
        /// The state's directory.
        dir: String,
    },
    /// The state was written for another device.
    #[error("the client state belongs to {found}, not to {wanted}; use a directory of its own for each device")]
    WrongOwner {
        /// app/user/device in the state.
        found: String,
        /// app/user/device in the options.
        wanted: String,
    },
    /// The state is damaged. It is never guessed at: a wrong guess could lose or repeat messages.
    #[error("{path} is damaged at byte {offset}: {detail}; move the directory away to log in as a new device")]
    Damaged {
        /// The file.
        path: String,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong.
        detail: String,
    },
    /// The operating system, or a store of the application's own, said no.
    #[error("cannot {action}: {detail}")]
    Io {
        /// What was tried, with the path.
        action: String,
        /// What went wrong.
        detail: String,
    },
}
