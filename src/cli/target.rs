//! Which server, which app, and as whom: the flags that every client command takes, and how they become a connection.

use std::path::PathBuf;

use clap::Args;
use postrider_client::name;
use postrider_client::{Client, Error, ErrorCode, Events, Login, Options, StateStore, Trust};

use super::contexts::{Context, Contexts};
use super::devices::{self, Chosen};
use super::exit::{Exit, Failure, exit_of, is_forgotten};
use super::home::Home;

/// The app of a server that is named by `--server` alone.
const DEFAULT_APP: &str = "dev";

/// Where to connect. `--server` stands alone; without it the flags change what the context says.
#[derive(Args, Clone, Debug, Default)]
pub struct TargetFlags {
    /// The server, as host:port; needs --ca
    #[arg(long, value_name = "ADDR", help_heading = "Server")]
    pub server: Option<String>,
    /// A PEM file with the certificate authority to trust
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub ca: Option<PathBuf>,
    /// The app on that server
    #[arg(long, value_name = "NAME", help_heading = "Server")]
    pub app: Option<String>,
    /// A saved context, instead of the current one
    #[arg(long, value_name = "NAME", env = "POSTRIDER_CONTEXT", hide_env_values = true, help_heading = "Server")]
    pub context: Option<String>,
}

impl TargetFlags {
    /// What the flags and the saved contexts say.
    ///
    /// # Errors
    /// When they do not say enough, with what is missing.
    pub fn resolve(&self, contexts: &Contexts) -> Result<Context, Failure> {
        let base = match (&self.context, &self.server) {
            (Some(name), _) => Some(contexts.load(name)?),
            (None, Some(_)) => None,
            (None, None) => contexts.current().map(|name| contexts.load(&name)).transpose()?,
        };
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let ca = self.ca.as_ref().map(absolute);
        match (base, &self.server) {
            (Some(base), server) => Ok(Context {
                server: server.clone().unwrap_or(base.server),
                ca: ca.unwrap_or(base.ca),
                app: self.app.clone().unwrap_or(base.app),
            }),
            (None, Some(server)) => {
                let ca = ca.ok_or_else(|| {
                    Failure::usage("--server needs --ca FILE; a server's own is <its data directory>/tls/ca.pem")
                })?;
                let app = self.app.clone().unwrap_or_else(|| DEFAULT_APP.to_owned());
                Ok(Context { server: server.clone(), ca, app })
            }
            (None, None) => Err(Failure::usage(
                "no server is known; start one here with `postrider serve`, or give --server ADDR --ca FILE",
            )),
        }
    }
}

/// As whom.
#[derive(Args, Clone, Debug)]
pub struct UserFlags {
    /// The user
    #[arg(long, value_name = "NAME")]
    pub user: String,
    /// The device; without it the first of the user's devices here that no other process uses
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// If the server does not know this device any more, drop its state here and go on as a new device
    #[arg(long)]
    pub forget: bool,
}

/// A client that is connected, and as which device.
pub struct Connected {
    /// The handle.
    pub client: Client,
    /// What happens.
    pub events: Events,
    /// The device's name.
    pub device: String,
}

/// Chooses the device, opens its state and connects. `shape` has the last word on the options.
///
/// # Errors
/// [`Failure`] with what to do.
pub async fn connect(
    target: &TargetFlags,
    user: &UserFlags,
    shape: impl Fn(Options) -> Options,
) -> Result<Connected, Failure> {
    let home = Home::find()?;
    let context = target.resolve(&Contexts::of(&home))?;
    let mut chosen = choose(&home, &context, user)?;
    let mut may_forget = user.forget;
    loop {
        let Chosen { name: device, directory, mut state, fresh } = chosen;
        let has_key = state.load()?.key.is_some();
        let login = if has_key { Login::DeviceKey } else { Login::Open };
        let options = shape(options(&context, &user.user, &device).login(login));
        let error = match Client::connect(options, state).await {
            Ok((client, events)) => return Ok(Connected { client, events, device }),
            Err(error) => error,
        };
        let gone = is_forgotten(&error) || (has_key && error.code() == Some(ErrorCode::LoginFailed));
        if gone && std::mem::take(&mut may_forget) {
            devices::forget(&directory)?;
            chosen = devices::named(directory.parent().unwrap_or(&directory), &device)?;
            continue;
        }
        // What never logged in is no device: the next command must not take it for one.
        if fresh && exit_of(&error) == Exit::Login {
            devices::forget(&directory)?;
        }
        return Err(explain(error, &user.user, &device));
    }
}

/// Options that every command of ours has in common.
#[must_use]
pub fn options(context: &Context, user: &str, device: &str) -> Options {
    Options::new(&context.server, &context.app, user)
        .device(device)
        .trust(Trust::CaFile(context.ca.clone()))
        .agent(concat!("postrider/", env!("CARGO_PKG_VERSION")))
}

/// A client's error with what this command line can do about it.
#[must_use]
pub fn explain(error: Error, user: &str, device: &str) -> Failure {
    let exit = exit_of(&error);
    let words = match error.code() {
        Some(code @ (ErrorCode::DeviceExpired | ErrorCode::CursorAhead)) => format!(
            "the server does not know device {device} of {user} ({code}): it was revoked or expired, or the server's \
             data is not what it was; repeat the command with --forget to drop its state here and go on as a new device"
        ),
        Some(ErrorCode::MethodNotAllowed) => format!(
            "the app does not let {user} log in by name; get a code from the operator (`postrider user add {user}`) or \
             from another device (`postrider device link --user {user}`), then `postrider enroll --user {user} --code CODE`"
        ),
        Some(ErrorCode::LoginFailed) => format!(
            "the server does not let {user} in as device {device}: the user is unknown, or the device was revoked or \
             expired; with --forget its state here is dropped, --device NAME chooses another device, and `postrider \
             enroll` makes one with a new code"
        ),
        Some(ErrorCode::Replaced) => format!(
            "another process has logged in as device {device} of {user} and taken over; give each its own --device NAME"
        ),
        _ => error.to_string(),
    };
    Failure::new(exit, words)
}

fn choose(home: &Home, context: &Context, user: &UserFlags) -> Result<Chosen, Failure> {
    name::check("the user's name", &user.user).map_err(|bad| Failure::usage(bad.detail))?;
    let directory = home.devices(&context.server, &context.app, &user.user);
    match &user.device {
        Some(device) => {
            name::check("the device's name", device).map_err(|bad| Failure::usage(bad.detail))?;
            devices::named(&directory, device)
        }
        None => devices::first_free(&directory),
    }
}

#[cfg(test)]
mod tests {
    use postrider_client::CodedError;

    use super::*;

    fn contexts() -> (tempfile::TempDir, Contexts) {
        let root = tempfile::tempdir().unwrap();
        let contexts = Contexts::of(&Home::at(root.path()));
        let context = |server: &str| Context { server: server.into(), ca: "/local.pem".into(), app: "shop".into() };
        contexts.save("local", &context("local:1")).unwrap();
        contexts.save("far", &context("far:2")).unwrap();
        (root, contexts)
    }

    fn flags(server: Option<&str>, ca: Option<&str>, app: Option<&str>, context: Option<&str>) -> TargetFlags {
        let own = |text: Option<&str>| text.map(str::to_owned);
        TargetFlags { server: own(server), ca: ca.map(PathBuf::from), app: own(app), context: own(context) }
    }

    #[test]
    fn without_flags_the_current_context_says_where() {
        let (_root, contexts) = contexts();
        let resolved = flags(None, None, None, None).resolve(&contexts).unwrap();
        assert_eq!((resolved.server.as_str(), resolved.app.as_str()), ("local:1", "shop"));
        let resolved = flags(None, None, Some("dev"), Some("far")).resolve(&contexts).unwrap();
        assert_eq!((resolved.server.as_str(), resolved.app.as_str()), ("far:2", "dev"));
    }

    #[test]
    fn a_server_named_by_flag_has_nothing_from_the_current_context() {
        let (_root, contexts) = contexts();
        let resolved = flags(Some("x:3"), Some("/x.pem"), None, None).resolve(&contexts).unwrap();
        assert_eq!(resolved, Context { server: "x:3".into(), ca: "/x.pem".into(), app: "dev".into() });
        let failure = flags(Some("x:3"), None, None, None).resolve(&contexts).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("--ca FILE"), "{}", failure.message);
    }

    #[test]
    fn without_anything_the_way_to_start_is_told() {
        let root = tempfile::tempdir().unwrap();
        let failure = flags(None, None, None, None).resolve(&Contexts::of(&Home::at(root.path()))).unwrap_err();
        assert!(failure.message.contains("`postrider serve`"), "{}", failure.message);
    }

    #[test]
    fn a_lost_device_is_told_with_the_way_on() {
        let error = Error::Server((&CodedError::new(ErrorCode::CursorAhead)).into());
        let failure = explain(error, "alice", "cli-1");
        assert_eq!(failure.exit, Exit::Login);
        assert!(failure.message.contains("--forget") && !failure.message.contains('\n'));
    }
}
