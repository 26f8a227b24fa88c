//! The servers of a run: one that is there, or some of its own; and what becomes of those that are to be killed.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::findings::Mark;
use super::preflight::Toward;
use super::process::Process;
use super::spawn::{SpawnedServer, Spawning};
use super::watch::Watch;
use super::{BenchError, Target};
use crate::clock::Clock;

/// Where the load is to go.
#[derive(Clone, Debug)]
pub enum Choice {
    /// To a server that is there.
    There {
        /// Where.
        target: Target,
        /// Its process, if it is on this machine.
        pid: Option<u32>,
    },
    /// To servers of the run's own.
    Own {
        /// Where their temporary directories are made.
        place: PathBuf,
        /// Their configuration, if it is not the default one.
        config: Option<PathBuf>,
        /// When they are killed, if they are.
        chaos: Option<Chaos>,
    },
}

/// Servers are killed at random moments, and start again.
#[derive(Clone, Copy, Debug)]
pub struct Chaos {
    /// From one kill to the next, on average.
    pub every: Duration,
}

/// Those that are running.
pub enum Servers {
    /// One that is there.
    There(Target),
    /// Those of the run's own. They end with this.
    Own(Vec<SpawnedServer>),
}

/// What came of killing servers.
#[derive(Debug, Default)]
pub struct Toll {
    kills: AtomicU64,
    longest_restart_us: AtomicU64,
}

impl Choice {
    /// What the preflight needs to know.
    ///
    /// # Errors
    /// When the name has no address, or there is no such process.
    pub async fn toward(&self) -> Result<Toward, BenchError> {
        match self {
            Self::Own { .. } => Ok(Toward::Own),
            Self::There { target, pid } => {
                let process = match pid {
                    Some(pid) => Some(Process::of(*pid).ok_or(BenchError::NoProcess(*pid))?),
                    None => None,
                };
                Ok(Toward::There(target.resolve().await?, process.and_then(Process::open_files_limit)))
            }
        }
    }

    /// When servers are killed, if they are.
    #[must_use]
    pub fn chaos(&self) -> Option<Chaos> {
        match self {
            Self::Own { chaos, .. } => *chaos,
            Self::There { .. } => None,
        }
    }

    /// Starts as many as that, where they are the run's own.
    ///
    /// # Errors
    /// When one does not start.
    pub async fn start(self, executable: PathBuf, count: u32, clock: &Clock) -> Result<(Servers, Watch), BenchError> {
        match self {
            Self::There { target, pid } => {
                let process = pid.and_then(Process::of);
                Ok((Servers::There(target), Watch::new(process.into_iter().collect(), clock.clone())))
            }
            Self::Own { place, config, chaos } => {
                let spawning = Spawning { executable, place, config, starts_again: chaos.is_some() };
                let mut servers = Vec::new();
                for _ in 0..count {
                    servers.push(SpawnedServer::start(spawning.clone(), clock).await?);
                }
                let processes = servers.iter().filter_map(|server| Process::of(server.pid())).collect();
                Ok((Servers::Own(servers), Watch::new(processes, clock.clone())))
            }
        }
    }
}

impl Servers {
    /// Where the `index`th generator process connects to.
    #[must_use]
    pub fn target(&self, index: u32) -> Target {
        match self {
            Self::There(target) => target.clone(),
            Self::Own(servers) => servers[index as usize % servers.len()].target(),
        }
    }

    /// Whether data lies in memory, where a sync costs nothing.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        matches!(self, Self::Own(servers) if servers.iter().any(SpawnedServer::is_in_memory))
    }

    /// What their data takes on the disk, in bytes; `None` where that is not known.
    #[must_use]
    pub fn data_bytes(&self) -> Option<u64> {
        match self {
            Self::There(_) => None,
            Self::Own(servers) => Some(servers.iter().map(SpawnedServer::data_bytes).sum()),
        }
    }

    /// Kills one after the other, at random moments while the run measures, and starts each again. Goes on until it is
    /// dropped, but kills none once the run has ended.
    ///
    /// # Errors
    /// When one does not start again: that is a fault of the server.
    pub async fn kill_now_and_then(
        &mut self,
        chaos: Chaos,
        watch: &Watch,
        toll: &Toll,
        clock: &Clock,
    ) -> Result<Infallible, BenchError> {
        let Self::Own(servers) = self else { return std::future::pending().await };
        watch.passed(Mark::Begin).await;
        loop {
            let ms = u32::try_from(chaos.every.as_millis()).unwrap_or(u32::MAX);
            tokio::time::sleep(chaos.every / 2 + Duration::from_millis(clock.random_up_to(ms).into())).await;
            if watch.last() >= Some(Mark::End) {
                return std::future::pending().await;
            }
            let last = u32::try_from(servers.len() - 1).unwrap_or(0);
            let server = &mut servers[clock.random_up_to(last) as usize];
            watch.ends(server.pid());
            let killed = clock.elapsed();
            server.kill();
            server.start_again().await?;
            watch.begins(server.pid());
            let took = clock.elapsed().saturating_sub(killed);
            toll.kills.fetch_add(1, Ordering::Relaxed);
            let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            toll.longest_restart_us.fetch_max(us, Ordering::Relaxed);
        }
    }
}

impl Toll {
    /// How often one was killed, and the longest that one took from there until it was there again.
    #[must_use]
    pub fn of_kills(&self) -> (u64, Duration) {
        let longest = Duration::from_micros(self.longest_restart_us.load(Ordering::Relaxed));
        (self.kills.load(Ordering::Relaxed), longest)
    }
}
