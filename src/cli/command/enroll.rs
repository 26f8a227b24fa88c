//! `postrider enroll`: makes this machine a device of a user, with a key of its own.

use clap::Args;
use postrider_client::name;
use postrider_client::{Client, ErrorCode, Login, StateStore};
use serde_json::json;

use crate::cli::contexts::Contexts;
use crate::cli::devices::{self, Chosen};
use crate::cli::exit::{Exit, Failure, exit_of};
use crate::cli::home::Home;
use crate::cli::print;
use crate::cli::target::{TargetFlags, explain, options};

/// Enrols this machine as a device, with a one-time code.
#[derive(Args, Debug)]
pub struct Enroll {
    /// The user
    #[arg(long, value_name = "NAME")]
    user: String,
    /// The one-time code, from `user add` or from `device link`
    #[arg(long, value_name = "CODE")]
    code: String,
    /// What to call the device; without it the next of cli-1, cli-2, …
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
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
pub async fn run(Enroll { user, code, device, target, json }: Enroll) -> Result<Exit, Failure> {
    name::check("the user's name", &user).map_err(|bad| Failure::usage(bad.detail))?;
    let home = Home::find()?;
    let context = target.resolve(&Contexts::of(&home))?;
    let directory = home.devices(&context.server, &context.app, &user);
    let Chosen { name, directory, mut state, fresh } = match &device {
        Some(device) => {
            name::check("the device's name", device).map_err(|bad| Failure::usage(bad.detail))?;
            devices::named(&directory, device)?
        }
        None => devices::next_new(&directory)?,
    };
    if state.load()?.device_id != 0 {
        return Err(Failure::usage(format!("device {name} of {user} is in use here already; choose another --device")));
    }
    // Messages that arrive meanwhile are left for a command that shows them.
    let options = options(&context, &user, &name).login(Login::Enroll { code }).manual_confirm();
    let client = match Client::connect(options, state).await {
        Ok((client, _)) => client,
        Err(error) => {
            // The server never knew this key: nothing is lost with it.
            if fresh && exit_of(&error) == Exit::Login {
                devices::forget(&directory)?;
            }
            return Err(match error.code() {
                Some(ErrorCode::LoginFailed) => Failure::new(Exit::Login, refused(&user, &name)),
                _ => explain(error, &user, &name),
            });
        }
    };
    client.close().await?;
    if json {
        print::json(&json!({ "user": user, "device": name, "enrolled": true }))?;
    } else {
        print::line(&format!("device {name} of {user} is enrolled; commands as {user} use its key from now on"))?;
    }
    Ok(Exit::Ok)
}

fn refused(user: &str, device: &str) -> String {
    format!(
        "the server does not take the code for {user}: it is not right, was used, or is too old, or {user} has a device \
         {device} already; ask for another code, or choose another --device NAME"
    )
}
