//! `postrider device`: a user's devices. `list` and `revoke` are the operator's, `link` is the user's own.

use clap::{Args, Subcommand};
use postrider_client::LinkCode;
use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::invocation::{self, quote};
use crate::cli::operator::{AppFlag, OperatorFlags};
use crate::cli::print;
use crate::cli::target::{self, TargetFlags, UserFlags};

/// A user's devices.
#[derive(Subcommand, Debug)]
pub enum DeviceCommand {
    /// List a user's devices (for operators)
    List(List),
    /// Revoke a device: its key is good no more, and what waited for it alone is gone (for operators)
    Revoke(Revoke),
    /// Make a one-time code that enrols another device of yours
    Link(Link),
}

/// Whose devices.
#[derive(Args, Debug)]
pub struct List {
    /// The user's name
    user: String,
    #[command(flatten)]
    app: AppFlag,
    #[command(flatten)]
    operator: OperatorFlags,
}

/// Which device.
#[derive(Args, Debug)]
pub struct Revoke {
    /// The user's name
    user: String,
    /// The device's name
    device: String,
    #[command(flatten)]
    app: AppFlag,
    #[command(flatten)]
    operator: OperatorFlags,
}

/// As whom.
#[derive(Args, Debug)]
pub struct Link {
    #[command(flatten)]
    user: UserFlags,
    #[command(flatten)]
    target: TargetFlags,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// [`Failure`], as every command.
pub async fn run(command: DeviceCommand) -> Result<Exit, Failure> {
    match command {
        DeviceCommand::List(list) => show(list).await?,
        DeviceCommand::Revoke(Revoke { user, device, app, operator }) => {
            let admin = operator.admin()?;
            admin.revoke_device(&app.choose(&admin).await?, &user, &device).await?;
            if operator.json {
                print::json(&json!({ "user": user, "device": device, "revoked": true }))?;
            } else {
                print::line(&format!("device  {} of {}  (revoked)", print::escape(&device), print::escape(&user)))?;
            }
        }
        DeviceCommand::Link(link) => make_code(link).await?,
    }
    Ok(Exit::Ok)
}

async fn show(List { user, app, operator }: List) -> Result<(), Failure> {
    let admin = operator.admin()?;
    let devices = admin.list_devices(&app.choose(&admin).await?, &user).await?;
    if operator.json {
        return Ok(devices.iter().try_for_each(print::json)?);
    }
    let row = |device: &crate::admin::Device| {
        let login = if device.has_key { "device key" } else { "open" };
        let name = print::escape(&device.name).into_owned();
        [name, login.to_owned(), print::moment(device.linked), print::moment(device.seen)]
    };
    let rows: Vec<_> = devices.iter().map(row).collect();
    Ok(print::table(["DEVICE", "LOGIN", "LINKED", "SEEN"], &rows)?)
}

async fn make_code(Link { user, target, json }: Link) -> Result<(), Failure> {
    // Messages that arrive meanwhile are left for a command that shows them.
    let connected = target::connect(&target, &user, |options| options.manual_confirm()).await?;
    let made = connected.client.link_device().await;
    drop(connected.client.close().await);
    let LinkCode { code, expires_in } = made.map_err(|error| match error {
        postrider_client::Error::Server(_) => Failure::new(Exit::Refused, error.to_string()),
        other => target::explain(other, &user.user, &connected.device),
    })?;
    if json {
        let line = json!({ "user": user.user, "code": code, "expires_in_s": expires_in.as_secs() });
        return Ok(print::json(&line)?);
    }
    print::line(&format!("code  {code}  (once, within {})", print::duration(expires_in.as_secs())))?;
    let (postrider, user) = (invocation::postrider(), quote(&user.user));
    Ok(print::line(&format!("next  on the other device: {postrider} enroll --user {user} --code {code}"))?)
}
