//! What is said while an opening takes long.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

/// How often.
const PAUSE: Duration = Duration::from_secs(1);

/// Does `work`. While it goes on, `say` is called now and then with the time it has taken so far, on another thread, with the
/// log of this one.
pub(super) fn telling<T>(say: impl Fn(Duration) + Send, work: impl FnOnce() -> T) -> T {
    let log = tracing::dispatcher::get_default(Clone::clone);
    let (finished, wait) = sync_channel::<()>(0);
    thread::scope(|scope| {
        scope.spawn(move || {
            tracing::dispatcher::with_default(&log, || {
                let mut taken = Duration::ZERO;
                while wait.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                    taken += PAUSE;
                    say(taken);
                }
            });
        });
        let done = work();
        drop(finished);
        done
    })
}
