//! A server that runs: on a port and in a directory of its own, with a certificate as Postrider makes it for itself.
//! What is started here is stopped here, and nothing else.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use postrider::clock::Clock;
use postrider::net::certificate;
use postrider_protocol::limits;
use tempfile::TempDir;

use super::{Peer, Program};
use crate::link::Dialer;
use crate::wire::xmpp::{DOMAIN, PASSWORD};

/// From the start of a process until it takes connections.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether it does.
const GLANCE: Duration = Duration::from_millis(20);

/// Ports below those that outgoing connections use: the same one must be free again after a kill.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Makes accounts, then says that it is ready. An account that is there is left as it is.
const REGISTER: &str = r#"
    {ok, Users} = file:read_file("users"),
    Names = binary:split(Users, <<"\n">>, [global, trim_all]),
    [ejabberd_auth:try_register(Name, <<"localhost">>, <<"x">>) || Name <- Names],
    ok = file:write_file("ready", <<>>).
"#;

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The machine.
    #[error("cannot prepare its directory: {0}")]
    Io(#[from] io::Error),
    /// The certificate.
    #[error("cannot make its certificate: {0}")]
    Certificate(String),
    /// It ended, or does not listen.
    #[error("it does not start: {0}")]
    Silent(String),
}

/// A server that runs. Dropping it kills it, and removes its data.
pub struct Running {
    peer: &'static Peer,
    postrider: PathBuf,
    child: Child,
    port: u16,
    ca: PathBuf,
    directory: TempDir,
}

impl Running {
    /// Starts it in a new directory below `place`, with accounts for these users if it wants accounts, and waits until
    /// it takes connections.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub async fn start(
        peer: &'static Peer,
        postrider: &Path,
        place: &Path,
        users: &[String],
        clock: &Clock,
    ) -> Result<Self, StartError> {
        let directory = tempfile::Builder::new().prefix("postrider-peers-").tempdir_in(place)?;
        let port = free_port(clock)?;
        let now_s = i64::try_from(clock.wall_ms() / 1000).unwrap_or(i64::MAX);
        let tls = certificate::find_or_make(&directory.path().join("tls"), &["localhost".into()], now_s)
            .map_err(|error| StartError::Certificate(error.to_string()))?;
        if let Some((name, text)) = peer.configuration {
            let text = text
                .replace("@DIR@", &directory.path().to_string_lossy())
                .replace("@PORT@", &port.to_string())
                .replace("@CERTIFICATE@", &tls.server.certificate.to_string_lossy())
                .replace("@KEY@", &tls.server.key.to_string_lossy());
            fs::write(directory.path().join(file_name(name)), text)?;
        }
        match peer.program {
            Program::Ejabberd => fs::write(directory.path().join("users"), users.join("\n"))?,
            Program::Prosody => write_accounts(directory.path(), users)?,
            Program::Postrider | Program::Nats | Program::JetStream | Program::Mosquitto => {}
        }
        let ca = match peer.program {
            Program::Postrider => directory.path().join("data/tls/ca.pem"),
            _ => tls.ca,
        };
        let child = spawn(peer, postrider, directory.path(), port)?;
        let mut running = Self { peer, postrider: postrider.to_owned(), child, port, ca, directory };
        running.await_connections(clock).await?;
        Ok(running)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes connections to it.
    ///
    /// # Errors
    /// When its CA cannot be read.
    pub fn dialer(&self, clock: &Clock) -> io::Result<Dialer> {
        let (alpn, greets) = match self.peer.program {
            Program::Postrider => (Some(limits::ALPN), false),
            Program::Nats | Program::JetStream => (None, true),
            Program::Mosquitto => (None, false),
            Program::Ejabberd | Program::Prosody => (Some(&b"xmpp-client"[..]), false),
        };
        Dialer::new(self.port, &self.ca, alpn, greets, clock.clone())
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Starts it again on what is left in its directory; says how long it took until it took connections.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start_again(&mut self, clock: &Clock) -> Result<Duration, StartError> {
        let start = clock.elapsed();
        self.child = spawn(self.peer, &self.postrider, self.directory.path(), self.port)?;
        self.await_connections(clock).await?;
        Ok(clock.elapsed().saturating_sub(start))
    }

    async fn await_connections(&mut self, clock: &Clock) -> Result<(), StartError> {
        let (start, address) = (clock.elapsed(), SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)));
        let ready = self.directory.path().join("ready");
        loop {
            let is_ready = self.peer.program != Program::Ejabberd || ready.exists();
            if is_ready && TcpStream::connect(address).is_ok() {
                return Ok(());
            }
            let ended = self.child.try_wait()?.is_some();
            if ended || clock.elapsed().saturating_sub(start) > PATIENCE {
                return Err(StartError::Silent(self.last_words()));
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// The end of its log.
    fn last_words(&self) -> String {
        let log = fs::read(self.directory.path().join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its data is not needed any more, so neither is an orderly stop. It may have ended by itself.
        drop(self.kill());
    }
}

fn spawn(peer: &Peer, postrider: &Path, directory: &Path, port: u16) -> io::Result<Child> {
    let configuration = peer.configuration.map_or_else(PathBuf::new, |(name, _)| directory.join(file_name(name)));
    let mut command = match peer.program {
        Program::Postrider => {
            let mut command = Command::new(postrider);
            command.args(["serve", "--data", "data", "--listen"]).arg(format!("127.0.0.1:{port}"));
            command.env("POSTRIDER_HOME", directory.join("home"));
            command
        }
        Program::Nats | Program::JetStream => {
            let mut command = Command::new("nats-server");
            command.arg("-c").arg(&configuration);
            command
        }
        Program::Mosquitto => {
            let mut command = Command::new("mosquitto");
            command.arg("-c").arg(&configuration);
            command
        }
        Program::Ejabberd => {
            // As its own script does it, but without the network of Erlang nodes, whose name server would stay behind.
            let _ = fs::remove_file(directory.join("ready"));
            let mut command = Command::new("erl");
            command.args(["-noinput", "+K", "true", "+P", "250000"]);
            // Its schedulers do not spin while they have nothing to do: on a machine that others use, that is the better.
            command.args(["+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"]);
            command.args(["-mnesia", "dir", "\"mnesia\"", "-s", "ejabberd", "-eval", REGISTER]);
            command.env("ERL_LIBS", "/usr/lib/x86_64-linux-gnu:/usr/lib/aarch64-linux-gnu");
            command.env("EJABBERD_CONFIG_PATH", &configuration);
            command.env("EJABBERD_LOG_PATH", directory.join("ejabberd.log"));
            command.env("ERL_CRASH_DUMP", "/dev/null").env("HOME", directory);
            command
        }
        Program::Prosody => {
            let mut command = Command::new("prosody");
            command.arg("--config").arg(&configuration).arg("-F");
            command
        }
    };
    // Debian has the servers where only administrators look.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    let log = File::options().create(true).append(true).open(directory.join("log"))?;
    command.current_dir(directory).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
}

fn file_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// Prosody's own files: one for each account.
fn write_accounts(directory: &Path, users: &[String]) -> io::Result<()> {
    let accounts = directory.join("data").join(DOMAIN).join("accounts");
    fs::create_dir_all(&accounts)?;
    let account = format!("return {{ [\"password\"] = \"{PASSWORD}\" }};\n");
    users.iter().try_for_each(|user| fs::write(accounts.join(format!("{user}.dat")), &account))
}

fn free_port(clock: &Clock) -> io::Result<u16> {
    let ports = u32::from(PORTS.end - PORTS.start - 1);
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..100 {
        let port = PORTS.start + u16::try_from(clock.random_up_to(ports)).unwrap_or_default();
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::super::PEERS;
    use super::*;

    #[test]
    fn every_configuration_asks_only_for_what_is_filled_in() {
        for (name, text) in PEERS.iter().filter_map(|peer| peer.configuration) {
            let asked: Vec<&str> = text.split('@').skip(1).step_by(2).collect();
            assert!(asked.contains(&"PORT"), "{name}");
            let known = ["DIR", "PORT", "CERTIFICATE", "KEY"];
            assert!(asked.iter().all(|word| known.contains(word)), "{name}: {asked:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_does_not_start_is_told_with_its_last_words_and_leaves_nothing() {
        let (place, clock) = (tempfile::tempdir().unwrap(), Clock::system());
        let started = Running::start(&PEERS[0], Path::new("/bin/false"), place.path(), &[], &clock).await;
        assert_eq!(started.err().unwrap().to_string(), "it does not start: it said nothing");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
