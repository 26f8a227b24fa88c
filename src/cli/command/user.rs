//! `postrider user`: users of the server that runs here.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::admin::{Added, Code};
use crate::cli::exit::{Exit, Failure};
use crate::cli::invocation::{self, quote};
use crate::cli::operator::{AppFlag, OperatorFlags};
use crate::cli::print;

/// Users of the server that runs here.
#[derive(Subcommand, Debug)]
pub enum UserCommand {
    /// Make a user, and print a one-time code to enrol a device with; for a user there is, another code
    Add(One),
    /// List the users
    List(All),
    /// Remove a user, with devices and everything undelivered; senders are told what expired
    Remove(One),
}

/// One user.
#[derive(Args, Debug)]
pub struct One {
    /// The user's name
    name: String,
    #[command(flatten)]
    all: All,
}

/// Every user of an app.
#[derive(Args, Debug)]
pub struct All {
    #[command(flatten)]
    app: AppFlag,
    #[command(flatten)]
    operator: OperatorFlags,
}

/// Runs it.
///
/// # Errors
/// [`Failure`], as every command.
pub async fn run(command: UserCommand) -> Result<Exit, Failure> {
    match command {
        UserCommand::Add(One { name, all }) => add(&name, &all).await?,
        UserCommand::List(all) => list(&all).await?,
        UserCommand::Remove(One { name, all: All { app, operator } }) => {
            let admin = operator.admin()?;
            admin.remove_user(&app.choose(&admin).await?, &name).await?;
            if operator.json {
                print::json(&json!({ "user": name, "removed": true }))?;
            } else {
                print::line(&format!("user  {}  (removed)", print::escape(&name)))?;
            }
        }
    }
    Ok(Exit::Ok)
}

async fn add(name: &str, All { app, operator }: &All) -> Result<(), Failure> {
    let admin = operator.admin()?;
    let added = admin.add_user(&app.choose(&admin).await?, name).await?;
    let Added { user, created, code } = added;
    if operator.json {
        let (code, expires_in_s) = code.map(|code| (code.code, code.expires_in_s)).unzip();
        let line = json!({ "user": user, "created": created, "code": code, "expires_in_s": expires_in_s });
        return Ok(print::json(&line)?);
    }
    print::line(&format!("user  {}{}", print::escape(&user), if created { "" } else { "  (was there already)" }))?;
    if let Some(Code { code, expires_in_s }) = code {
        print::line(&format!("code  {code}  (once, within {})", print::duration(expires_in_s.into())))?;
        print::line(&format!("next  {} enroll --user {} --code {code}", invocation::postrider(), quote(&user)))?;
    } else {
        print::line(&format!(
            "next  {} chat --user {}  (open login needs no code)",
            invocation::postrider(),
            quote(&user)
        ))?;
    }
    Ok(())
}

async fn list(All { app, operator }: &All) -> Result<(), Failure> {
    let admin = operator.admin()?;
    let users = admin.all_users(&app.choose(&admin).await?).await?;
    if operator.json {
        return Ok(users.iter().try_for_each(print::json)?);
    }
    let row = |user: &crate::admin::User| {
        [print::escape(&user.name).into_owned(), user.devices.to_string(), user.inbox_entries.to_string()]
    };
    let rows: Vec<_> = users.iter().map(row).collect();
    Ok(print::table(["USER", "DEVICES", "IN INBOX"], &rows)?)
}
