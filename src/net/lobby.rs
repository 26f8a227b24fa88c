//! Where connections come and go: threads of their own, of low priority.
//!
//! A storm is thousands of accepts, key exchanges, logins and ends, all ready to run at once. On the threads that serve
//! who is logged in they would stand in front of every message. Here they stand in nobody's way: the system gives a core to
//! these threads when the others leave it.

use std::io;

use tokio::runtime::{self, Handle, Runtime};

/// How much these threads stand back (see nice(7)): of a core that the others fill they still get a quarter, so that
/// logins go on, whatever the load.
const NICENESS: i32 = 5;

/// The lobby of a server. Who is in it when it is dropped is gone.
pub struct Lobby {
    /// There until it is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Lobby {
    /// A thread for each core.
    ///
    /// # Errors
    /// When the system has no threads for it.
    pub fn open() -> io::Result<Self> {
        let stand_back = || lower_priority(NICENESS);
        let runtime = runtime::Builder::new_multi_thread()
            .thread_name("lobby")
            .on_thread_start(stand_back)
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// To put something there.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Lobby {
    fn drop(&mut self) {
        // To wait for its tasks is not allowed on a thread of a runtime, and not needed.
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// Of the calling thread. Where the system has no such thing for a thread, or refuses, all are equal.
fn lower_priority(by: i32) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, by) {
        tracing::debug!(%error, "logins run at the same priority as messages");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = by;
}
