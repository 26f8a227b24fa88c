//! A server of the run's own: the same executable, on a free port and a temporary directory, gone when dropped.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{BenchError, Target};

/// From the start of the process to its first line.
const PATIENCE: Duration = Duration::from_secs(60);

/// The app of a server without configuration.
const APP: &str = "dev";

/// A running server. Dropping it kills it, and removes its data.
#[derive(Debug)]
pub struct SpawnedServer {
    child: Child,
    /// Held open: a server whose output nobody reads is not disturbed.
    output: Option<BufReader<ChildStdout>>,
    directory: TempDir,
    address: Option<SocketAddr>,
}

impl SpawnedServer {
    /// Starts `executable serve` with its data in a new directory below `place`, and with this configuration if one is
    /// given. It takes nothing from the environment.
    ///
    /// # Errors
    /// [`BenchError::Spawn`]; nothing is left running.
    pub async fn start(executable: &Path, place: &Path, config: Option<&Path>) -> Result<Self, BenchError> {
        let failed = |error: std::io::Error| BenchError::Spawn(error.to_string());
        let directory = tempfile::Builder::new().prefix("postrider-bench-").tempdir_in(place).map_err(failed)?;
        let log = File::create(directory.path().join("log")).map_err(failed)?;
        let mut command = Command::new(executable);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("POSTRIDER_") {
                command.env_remove(name);
            }
        }
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data", "data"])
            .current_dir(directory.path())
            .env("POSTRIDER_HOME", directory.path().join("home"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        if let Some(config) = config {
            command.arg("--config").arg(std::path::absolute(config).map_err(failed)?);
        }
        let child = command.spawn().map_err(failed)?;
        let mut server = Self { child, output: None, directory, address: None };
        server.await_greeting().await?;
        Ok(server)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How to reach it.
    #[must_use]
    pub fn target(&self) -> Target {
        let server = self.address.map(|address| address.to_string()).unwrap_or_default();
        Target { server, ca: self.data().join("tls/ca.pem"), app: APP.into() }
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
        self.address = address_in(&line);
        self.output = Some(output);
        if self.address.is_some() { Ok(()) } else { Err(BenchError::Spawn(self.last_words())) }
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
        // Its data is not needed any more, so neither is an orderly stop. It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
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
        let error = SpawnedServer::start(Path::new("/bin/false"), place.path(), None).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot start a server: it ended without a word");
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
