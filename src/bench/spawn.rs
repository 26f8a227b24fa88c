//! A server of the run's own: the same executable, on a free port and a temporary directory, gone when dropped.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::preflight;
use super::{BenchError, Target};
use crate::clock::Clock;

/// From the start of the process to its first line.
const PATIENCE: Duration = Duration::from_secs(60);

/// The app of a server without configuration.
const APP: &str = "dev";

/// Ports that are tried for a server that is to start again on its own.
const PORTS_TRIED: u32 = 100;

/// How to start one.
#[derive(Clone, Debug)]
pub struct Spawning {
    /// The executable.
    pub executable: PathBuf,
    /// Where its temporary directory is made.
    pub place: PathBuf,
    /// Its configuration, if it is not the default one.
    pub config: Option<PathBuf>,
    /// It will be killed and started again: its port is one that no outgoing connection is given meanwhile.
    pub starts_again: bool,
}

/// A running server. Dropping it kills it, and removes its data.
#[derive(Debug)]
pub struct SpawnedServer {
    spawning: Spawning,
    child: Child,
    /// Held open: a server whose output nobody reads is not disturbed.
    output: Option<BufReader<ChildStdout>>,
    directory: TempDir,
    address: SocketAddr,
}

impl SpawnedServer {
    /// Starts `executable serve` with its data in a new directory. It takes nothing from the environment.
    ///
    /// # Errors
    /// [`BenchError::Spawn`]; nothing is left running.
    pub async fn start(spawning: Spawning, clock: &Clock) -> Result<Self, BenchError> {
        let failed = |error: std::io::Error| BenchError::Spawn(error.to_string());
        let directory =
            tempfile::Builder::new().prefix("postrider-bench-").tempdir_in(&spawning.place).map_err(failed)?;
        let address =
            SocketAddr::from((Ipv4Addr::LOCALHOST, if spawning.starts_again { lasting_port(clock) } else { 0 }));
        let child = spawning.launch(directory.path(), address).map_err(failed)?;
        let mut server = Self { spawning, child, output: None, directory, address };
        server.await_greeting().await?;
        Ok(server)
    }

    /// Kills it with SIGKILL, wherever it is.
    pub fn kill(&mut self) {
        // It may have ended by itself: it is gone all the same.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Starts again on the same data and port.
    ///
    /// # Errors
    /// [`BenchError::Spawn`], with its last words.
    pub async fn start_again(&mut self) -> Result<(), BenchError> {
        let launched = self.spawning.launch(self.directory.path(), self.address);
        self.child = launched.map_err(|error| BenchError::Spawn(error.to_string()))?;
        self.await_greeting().await
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How to reach it.
    #[must_use]
    pub fn target(&self) -> Target {
        Target { server: self.address.to_string(), ca: self.data().join("tls/ca.pem"), app: APP.into() }
    }

    /// Whether its data lies in memory, where a sync costs nothing.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        #[cfg(target_os = "linux")]
        let tmpfs = rustix::fs::statfs(self.directory.path()).is_ok_and(|stat| stat.f_type == 0x0102_1994);
        #[cfg(not(target_os = "linux"))]
        let tmpfs = false;
        tmpfs
    }

    /// What its data takes on the disk, in bytes.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        let (mut bytes, mut folders) = (0, vec![self.data()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                    Ok(metadata) => bytes += metadata.len(),
                    Err(_) => {}
                }
            }
        }
        bytes
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The first line says where it listens.
    async fn await_greeting(&mut self) -> Result<(), BenchError> {
        let Some(stdout) = self.child.stdout.take() else { return Err(BenchError::Spawn("it has no output".into())) };
        let reading = tokio::task::spawn_blocking(move || {
            let (mut output, mut line) = (BufReader::new(stdout), String::new());
            let read = output.read_line(&mut line);
            read.map(|_| (output, line))
        });
        let silent = || BenchError::Spawn(format!("it said nothing within {} s", PATIENCE.as_secs()));
        // What is not read in time ends when dropping this kills the server.
        let read = tokio::time::timeout(PATIENCE, reading).await.map_err(|_| silent())?;
        let Ok(Ok((output, line))) = read else { return Err(silent()) };
        self.output = Some(output);
        self.address = address_in(&line).ok_or_else(|| BenchError::Spawn(self.last_words()))?;
        Ok(())
    }

    /// The end of its log, which says why it did not start.
    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let last = log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it ended without a word");
        last.trim_start_matches("postrider: ").to_owned()
    }
}

impl Drop for SpawnedServer {
    fn drop(&mut self) {
        // Its data is not needed any more, so neither is an orderly stop.
        self.kill();
    }
}

impl Spawning {
    fn launch(&self, directory: &Path, address: SocketAddr) -> std::io::Result<Child> {
        // The log of a server that was killed stays: what comes next is added to it.
        let log = File::options().create(true).append(true).open(directory.join("log"))?;
        let mut command = Command::new(&self.executable);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("POSTRIDER_") {
                command.env_remove(name);
            }
        }
        command
            .args(["serve", "--listen", &address.to_string(), "--data", "data"])
            .current_dir(directory)
            .env("POSTRIDER_HOME", directory.join("home"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        if let Some(config) = &self.config {
            command.arg("--config").arg(std::path::absolute(config)?);
        }
        command.spawn()
    }
}

/// A free port below those that the system gives to outgoing connections; 0 if none is found.
fn lasting_port(clock: &Clock) -> u16 {
    let below = preflight::first_outgoing_port().min(32_768);
    let low = below / 2;
    let port = |_| low + u16::try_from(clock.random_up_to(u32::from(below - low - 1))).unwrap_or(0);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (0..PORTS_TRIED).map(port).find(is_free).unwrap_or(0)
}

fn address_in(greeting: &str) -> Option<SocketAddr> {
    greeting.split_whitespace().find_map(|word| word.trim_end_matches(',').parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_the_greeting() {
        let greeting = "postrider 0.1.0 listens on 127.0.0.1:40123, [::1]:40123 (TLS 1.3)\n";
        assert_eq!(address_in(greeting), Some("127.0.0.1:40123".parse().unwrap()));
        assert_eq!(address_in("postrider: no\n"), None);
    }

    #[tokio::test]
    async fn a_server_that_does_not_start_is_told_with_its_last_words_and_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let (executable, place) = (PathBuf::from("/bin/false"), place.path().to_path_buf());
        let spawning = Spawning { executable, place: place.clone(), config: None, starts_again: true };
        let error = SpawnedServer::start(spawning, &Clock::system()).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot start a server: it ended without a word");
        assert_eq!(std::fs::read_dir(place).unwrap().count(), 0);
    }
}
