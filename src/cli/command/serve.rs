//! `postrider serve`: runs the server, and says where it is and what to type next.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use toml::Value;

use crate::app::{RunError, Server, StopSignals};
use crate::cli::contexts::{Context, Contexts, LOCAL};
use crate::cli::exit::{Exit, Failure};
use crate::cli::home::Home;
use crate::cli::invocation::{self, quote};
use crate::cli::operator::data_flag;
use crate::cli::print;
use crate::config::{self, Config, LogFormat, LoginMethod, Override};
use crate::telemetry;

/// A server that is to take as many connections as it can, and has room for fewer, warns of it.
const FEW_CONNECTIONS: usize = 10_000;

/// Run the server
#[derive(Args, Debug)]
pub struct Serve {
    /// The data directory; made if it does not exist
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where to listen, as IP:PORT; may be given more than once
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// The configuration, instead of ./postrider.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How log lines look
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

/// Runs it.
///
/// # Errors
/// [`Failure`], as every command.
pub async fn run(serve: Serve) -> Result<Exit, Failure> {
    let config = config::load(serve.config.as_deref(), &serve.overrides())?.config;
    telemetry::start(&config.log).map_err(Failure::usage)?;
    let server = Server::start(config.clone()).await.map_err(|error| Failure::other(error.to_string()))?;
    let contexts = Home::find().map(|home| Contexts::of(&home));
    let saved = contexts.and_then(|contexts| save_local(&contexts, &config, server.addresses(), server.ca()));
    let failed = |error: RunError| Failure::new(exit_of(&error), error.to_string());
    let signals = StopSignals::listen().map_err(failed)?;
    greet(&config, &server, &saved)?;
    server.run_until_signal(signals).await.map_err(failed)?;
    Ok(Exit::Ok)
}

impl Serve {
    fn overrides(&self) -> Vec<Override> {
        let mut flags: Vec<Override> = self.data.iter().map(|data| data_flag(data)).collect();
        if !self.listen.is_empty() {
            let value = Value::from(self.listen.clone());
            flags.push(Override { key: "listen.address", flag: "--listen", value });
        }
        if let Some(format) = self.log_format {
            let value = Value::try_from(format).unwrap_or_else(|_| Value::from("auto"));
            flags.push(Override { key: "log.format", flag: "--log-format", value });
        }
        flags
    }
}

fn exit_of(error: &RunError) -> Exit {
    match error {
        RunError::StoreFailed(_) => Exit::StoreFailed,
        _ => Exit::Other,
    }
}

/// What became of the context for the server that runs here.
#[derive(Debug, PartialEq, Eq)]
enum Saved {
    /// Clients here find the server by themselves; whether without `--context`, too.
    Local {
        /// Whether clients use it when nothing is said.
        current: bool,
        /// Where it led before, if that was another server.
        moved_from: Option<String>,
    },
    /// The certificate is the operator's: whom clients trust is theirs to say.
    OwnCertificate,
}

fn save_local(
    contexts: &Contexts,
    config: &Config,
    addresses: &[SocketAddr],
    ca: Option<&Path>,
) -> Result<Saved, Failure> {
    let (Some(address), Some(app)) = (addresses.first(), config.app.first()) else {
        return Err(Failure::other("the server has no address"));
    };
    let Some(ca) = ca else { return Ok(Saved::OwnCertificate) };
    let context = Context { server: reachable(*address).to_string(), ca: ca.to_owned(), app: app.name.clone() };
    let before = contexts.load(LOCAL).ok().filter(|before| *before != context);
    contexts.save(LOCAL, &context)?;
    let current = contexts.current().as_deref() == Some(LOCAL);
    Ok(Saved::Local { current, moved_from: before.map(|before| before.server) })
}

/// An address that a client on this machine can connect to.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn greet(config: &Config, server: &Server, saved: &Result<Saved, Failure>) -> std::io::Result<()> {
    let addresses: Vec<_> = server.addresses().iter().map(ToString::to_string).collect();
    print::line(&format!("postrider {} listens on {} (TLS 1.3)", env!("CARGO_PKG_VERSION"), addresses.join(", ")))?;
    let new = if server.first_run() { "   (new)" } else { "" };
    print::line(&format!("data         {}{new}", server.data().display()))?;
    let found = match saved {
        Ok(Saved::Local { .. }) => format!("   (clients here find it by themselves: context \"{LOCAL}\")"),
        _ => String::new(),
    };
    let certificate = server.ca().or(config.tls.certificate.as_deref()).map(absolute).unwrap_or_default();
    print::line(&format!("certificate  {}{found}", certificate.display()))?;
    for note in server.notes() {
        print::line(&format!("warning      {note}"))?;
    }
    if let Some(warning) = few_connections(config, server.max_connections()) {
        print::line(&format!("warning      {warning}"))?;
    }
    if let Ok(Saved::Local { moved_from: Some(before), .. }) = saved {
        print::line(&format!("note         context \"{LOCAL}\" leads here now; it led to {before}"))?;
    }
    if let Err(failure) = saved {
        print::line(&format!("warning      the context \"{LOCAL}\" is not saved: {}", failure.message))?;
    }
    print::line(&format!("next         {}", next(config, saved, &invocation::postrider())))
}

/// A warning where the limit of open files is what will keep clients out.
fn few_connections(config: &Config, room: usize) -> Option<String> {
    let wanted = match config.listen.max_connections {
        0 => FEW_CONNECTIONS,
        wanted => wanted as usize,
    };
    (room < wanted).then(|| {
        format!("the limit of open files leaves room for {room} connections; `ulimit -n` before starting raises it")
    })
}

/// The exact command to type next, in another terminal.
fn next(config: &Config, saved: &Result<Saved, Failure>, postrider: &str) -> String {
    let open = config.app.first().is_some_and(|app| app.allows(LoginMethod::Open));
    match saved {
        _ if !open => {
            let data = if config.data == Config::default().data {
                String::new()
            } else {
                format!(" --data {}", quote(&absolute(&config.data).display().to_string()))
            };
            format!("{postrider} user add alice{data}")
        }
        Ok(Saved::Local { current: true, .. }) => format!("{postrider} chat --user alice"),
        Ok(Saved::Local { current: false, .. }) => format!("{postrider} chat --user alice --context {LOCAL}"),
        _ => format!("{postrider} chat --user alice --server ADDR --ca FILE"),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::App;

    fn contexts() -> (tempfile::TempDir, Contexts) {
        let root = tempfile::tempdir().unwrap();
        let contexts = Contexts::of(&Home::at(root.path()));
        (root, contexts)
    }

    #[test]
    fn the_local_context_leads_to_the_running_server() {
        let (_root, contexts) = contexts();
        let config = Config { data: "/d".into(), ..Config::default() };
        let saved =
            save_local(&contexts, &config, &["0.0.0.0:7333".parse().unwrap()], Some(Path::new("/d/tls/ca.pem")))
                .unwrap();
        assert_eq!(saved, Saved::Local { current: true, moved_from: None });
        let moved =
            save_local(&contexts, &config, &["127.0.0.1:7444".parse().unwrap()], Some(Path::new("/d/tls/ca.pem")));
        assert_eq!(moved.unwrap(), Saved::Local { current: true, moved_from: Some("127.0.0.1:7333".into()) });
        save_local(&contexts, &config, &["0.0.0.0:7333".parse().unwrap()], Some(Path::new("/d/tls/ca.pem"))).unwrap();
        let context = contexts.load(LOCAL).unwrap();
        assert_eq!(context, Context { server: "127.0.0.1:7333".into(), ca: "/d/tls/ca.pem".into(), app: "dev".into() });
    }

    #[test]
    fn another_current_context_stays_and_the_next_command_says_so() {
        let (_root, contexts) = contexts();
        let work = Context { server: "w:1".into(), ca: "/w".into(), app: "dev".into() };
        contexts.save("work", &work).unwrap();
        let saved =
            save_local(&contexts, &Config::default(), &["127.0.0.1:1".parse().unwrap()], Some(Path::new("/ca")));
        assert_eq!(contexts.current().as_deref(), Some("work"));
        let command = next(&Config::default(), &saved, "postrider");
        assert_eq!(command, "postrider chat --user alice --context local");
    }

    #[test]
    fn the_next_command_fits_how_the_server_was_started_and_how_users_log_in() {
        let current = Ok(Saved::Local { current: true, moved_from: None });
        let command = next(&Config::default(), &current, "cargo run --release --");
        assert_eq!(command, "cargo run --release -- chat --user alice");
        let app = App { login: vec![LoginMethod::DeviceKey], ..App::development() };
        let config = Config { app: vec![app], data: "/d".into(), ..Config::default() };
        assert_eq!(next(&config, &current, "postrider"), "postrider user add alice --data /d");
    }

    #[test]
    fn little_room_for_connections_is_warned_of() {
        let mut config = Config::default();
        assert!(few_connections(&config, 960).is_some_and(|warning| warning.contains("960")));
        assert_eq!(few_connections(&config, FEW_CONNECTIONS), None);
        config.listen.max_connections = 100;
        assert_eq!(few_connections(&config, 100), None);
        assert!(few_connections(&config, 99).is_some());
    }

    #[test]
    fn flags_become_the_topmost_layer() {
        let serve = Serve {
            data: Some("/d".into()),
            listen: vec!["127.0.0.1:1".into(), "[::1]:2".into()],
            config: None,
            log_format: Some(LogFormat::Json),
        };
        let config = config::load::compose(None, &[], &serve.overrides()).unwrap().config;
        assert_eq!((config.data, config.listen.address.len()), ("/d".into(), 2));
        assert_eq!(config.log.format, LogFormat::Json);
    }
}
