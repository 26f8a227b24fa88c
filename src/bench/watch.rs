//! The run's eye on its servers: what they had used at each mark, also of those that were killed meanwhile.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::findings::{Mark, Used};
use super::process::Process;
use crate::clock::Clock;

/// Watches the processes of a run's servers.
pub struct Watch {
    clock: Clock,
    seen: Mutex<Seen>,
    passed: watch::Sender<Option<Mark>>,
}

#[derive(Default)]
struct Seen {
    /// Whether anything is known of them.
    known: bool,
    servers: Vec<Process>,
    /// CPU time of those that are no more.
    spent: Duration,
    marks: BTreeMap<Mark, Used>,
}

impl Watch {
    /// These; none when they are not known.
    #[must_use]
    pub fn new(servers: Vec<Process>, clock: Clock) -> Self {
        let seen = Mutex::new(Seen { known: !servers.is_empty(), servers, ..Seen::default() });
        Self { clock, seen, passed: watch::Sender::new(None) }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What all of them have used by now.
    #[must_use]
    pub fn used(&self) -> Used {
        let seen = self.seen();
        let known = seen.known;
        let cpu: Duration = seen.servers.iter().filter_map(|server| server.cpu()).sum();
        let rss: u64 = seen.servers.iter().filter_map(|server| server.rss()).sum();
        Used { at: self.clock.elapsed(), cpu: known.then_some(seen.spent + cpu), rss: known.then_some(rss) }
    }

    /// Everybody has come to this mark.
    pub fn pass(&self, mark: Mark) {
        let used = self.used();
        self.seen().marks.insert(mark, used);
        self.passed.send_replace(Some(mark));
    }

    /// Until this mark or a later one was passed.
    pub async fn passed(&self, mark: Mark) {
        // The sender is ours: it does not go away.
        drop(self.passed.subscribe().wait_for(|passed| passed.is_some_and(|passed| passed >= mark)).await);
    }

    /// The last mark that was passed.
    #[must_use]
    pub fn last(&self) -> Option<Mark> {
        *self.passed.borrow()
    }

    /// This server is about to be killed.
    pub fn ends(&self, pid: u32) {
        let mut seen = self.seen();
        let Some(index) = seen.servers.iter().position(|server| server.pid() == pid) else { return };
        let server = seen.servers.remove(index);
        seen.spent += server.cpu().unwrap_or_default();
    }

    /// This one is there in its place.
    pub fn begins(&self, pid: u32) {
        let process = Process::of(pid);
        self.seen().servers.extend(process);
    }

    /// What was used at each mark.
    #[must_use]
    pub fn marks(&self) -> BTreeMap<Mark, Used> {
        self.seen().marks.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_servers_time_still_counts_when_another_has_taken_its_place() {
        let own = Process::own().unwrap();
        let spun = Clock::system();
        while own.cpu().unwrap() < Duration::from_millis(50) {
            assert!(spun.elapsed() < Duration::from_secs(60));
        }
        let watch = Watch::new(vec![own], Clock::system());
        watch.pass(Mark::Begin);
        watch.ends(own.pid());
        let gone = watch.used();
        assert!(gone.cpu.unwrap() >= Duration::from_millis(50) && gone.rss == Some(0));
        watch.begins(own.pid());
        assert!(watch.used().cpu.unwrap() >= 2 * Duration::from_millis(50));
        watch.passed(Mark::Begin).await;
        assert_eq!((watch.last(), watch.marks().len()), (Some(Mark::Begin), 1));
    }
}
