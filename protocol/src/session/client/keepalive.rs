//! Who has been silent for how long: when to ping, and when the peer is gone.

use std::time::Duration;

/// Pings go out after this part of the idle timeout, so that two may be late before the server closes (CONN-1).
const PINGS_PER_IDLE_TIMEOUT: u32 = 3;

#[derive(Debug)]
pub(super) struct Keepalive {
    idle_timeout: Duration,
    last_sent: Duration,
    /// Since when the peer owes us something: the later of the first frame that wants an answer and the last frame of
    /// the peer's.
    waiting_since: Option<Duration>,
    ping_wanted: bool,
    ping_waiting: bool,
    last_token: u64,
    paused: bool,
}

impl Keepalive {
    pub(super) fn new(idle_timeout: Duration, now: Duration) -> Self {
        Self {
            idle_timeout,
            last_sent: now,
            waiting_since: None,
            ping_wanted: false,
            ping_waiting: false,
            last_token: 0,
            paused: false,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let ping = (!self.ping_wanted).then(|| self.ping_due());
        ping.into_iter().chain(self.dead_at()).min()
    }

    /// Wants a ping when one is due; true when the peer is to be given up.
    pub(super) fn handle_timeout(&mut self, now: Duration) -> bool {
        if !self.ping_wanted && now >= self.ping_due() {
            self.ping_wanted = true;
            self.ping_waiting = true;
            // From now, not from when it is written: a peer that takes no bytes is as silent as one that sends none.
            self.waiting_since.get_or_insert(now);
        }
        self.dead_at().is_some_and(|dead| now >= dead)
    }

    pub(super) fn take_ping(&mut self) -> Option<u64> {
        if !std::mem::take(&mut self.ping_wanted) {
            return None;
        }
        self.last_token += 1;
        Some(self.last_token)
    }

    pub(super) fn handle_pong(&mut self) {
        self.ping_waiting = false;
    }

    pub(super) fn handle_sent(&mut self, expects_answers: bool, now: Duration) {
        self.last_sent = now;
        if self.waiting_since.is_none() && (expects_answers || self.ping_waiting) {
            self.waiting_since = Some(now);
        }
    }

    /// Any frame proves that the peer lives.
    pub(super) fn handle_received(&mut self, expects_answers: bool, now: Duration) {
        self.waiting_since = (expects_answers || self.ping_waiting).then_some(now);
    }

    pub(super) fn set_paused(&mut self, paused: bool, now: Duration) {
        if self.paused && !paused && self.waiting_since.is_some() {
            self.waiting_since = Some(now);
        }
        self.paused = paused;
    }

    /// A ping goes out when nothing else does, and when something else does and is not answered: a message waits for the
    /// peer's disk, a ping does not. Who goes on sending would otherwise give up a peer that lives.
    fn ping_due(&self) -> Duration {
        let unasked = self.waiting_since.filter(|_| !self.ping_waiting);
        let since = unasked.map_or(self.last_sent, |since| since.min(self.last_sent));
        since + self.idle_timeout / PINGS_PER_IDLE_TIMEOUT
    }

    fn dead_at(&self) -> Option<Duration> {
        if self.paused {
            return None;
        }
        self.waiting_since.map(|since| since + self.idle_timeout)
    }
}
