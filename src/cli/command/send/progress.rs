//! How far the sending of many lines has got, on stderr where that is a terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A line that is drawn anew a few times a second, or nothing.
pub struct Progress {
    bar: ProgressBar,
    /// Bytes of the messages that are on their way, oldest first; empty where the whole is not known.
    bytes: Option<std::collections::VecDeque<usize>>,
}

impl Progress {
    /// Starts the clock; draws only when `wanted`, stderr is a terminal and stdin is not.
    pub fn start(wanted: bool) -> Self {
        let drawn = wanted && std::io::stderr().is_terminal() && !std::io::stdin().is_terminal();
        let whole = rustix::fs::fstat(std::io::stdin())
            .ok()
            .filter(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file())
            .and_then(|stat| u64::try_from(stat.st_size).ok());
        let target = if drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(whole, target);
        let template = match whole {
            Some(_) => "{bar:30} {percent}% {msg} {elapsed} (left: {eta})",
            None => "{spinner} {msg} {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        if drawn {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self { bar, bytes: (drawn && whole.is_some()).then(std::collections::VecDeque::new) }
    }

    /// A message of so many bytes is on its way.
    pub fn submitted(&mut self, bytes: usize) {
        if let Some(waiting) = &mut self.bytes {
            waiting.push_back(bytes);
        }
    }

    /// The oldest message on its way has its answer, the `count`th.
    pub fn answered(&mut self, count: u64) {
        if let Some(bytes) = self.bytes.as_mut().and_then(|waiting| waiting.pop_front()) {
            self.bar.inc(bytes as u64);
        }
        if count.is_multiple_of(64) {
            self.bar.set_message(format!("{count} answered"));
        }
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.bar.elapsed()
    }

    /// Clears the line.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
