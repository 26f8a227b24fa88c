//! What a process costs: its CPU time and its memory, as the kernel counts them. Linux only; elsewhere nothing is known.

use std::time::Duration;

/// A process, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(u32);

impl Process {
    /// That of a pid; `None` when there is none, or the system does not tell.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let process = Self(pid);
        process.cpu().map(|_| process)
    }

    /// This one.
    #[must_use]
    pub fn own() -> Option<Self> {
        Self::of(std::process::id())
    }

    /// Its number.
    #[must_use]
    pub fn pid(self) -> u32 {
        self.0
    }

    /// The files it may have open at once; `None` when that is not known, or without limit.
    #[must_use]
    pub fn open_files_limit(self) -> Option<u64> {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.0)).ok()?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        // Soft and hard: a server of ours raises the one to the other.
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// CPU time since it started, in user and kernel mode, of all its threads.
    #[must_use]
    pub fn cpu(self) -> Option<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        let ticks = cpu_ticks(&stat)?;
        Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
    }

    /// Resident memory, in bytes.
    #[must_use]
    pub fn rss(self) -> Option<u64> {
        // The roll-up is exact; the status, which others may read too, is what the kernel has at hand.
        let read = |file: &str, field: &str| {
            let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.0)).ok()?;
            kibibytes(&text, field)
        };
        read("smaps_rollup", "Rss:").or_else(|| read("status", "VmRSS:")).map(|kib| kib * 1024)
    }
}

/// Fields 14 and 15, user and kernel time; the name before them, in brackets, may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11).map(str::parse::<u64>);
    Some(fields.next()?.ok()? + fields.next()?.ok()?)
}

fn kibibytes(text: &str, field: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "42 (a) b) c) S 1 42 42 0 -1 4194560 1 2 3 4 70 30 9 9 20 0 4 0 100 1 1";
        assert_eq!(cpu_ticks(stat), Some(100));
        assert_eq!(cpu_ticks("42 (a) S 1"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_known_and_takes_memory() {
        let own = Process::own().unwrap();
        assert!(own.rss().unwrap() > 1 << 20 && own.cpu().is_some());
        assert!(own.open_files_limit().is_none_or(|limit| limit > 0));
        assert_eq!(Process::of(u32::MAX), None);
    }
}
