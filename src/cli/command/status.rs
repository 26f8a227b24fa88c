//! `postrider status`: how the server that runs here is.

use clap::Args;

use crate::admin::{Status, StoreStatus};
use crate::cli::exit::{Exit, Failure};
use crate::cli::operator::OperatorFlags;
use crate::cli::print;

/// How the server that runs here is.
#[derive(Args, Debug)]
pub struct StatusCommand {
    #[command(flatten)]
    operator: OperatorFlags,
}

/// Runs it.
///
/// # Errors
/// [`Failure`], as every command.
pub async fn run(StatusCommand { operator }: StatusCommand) -> Result<Exit, Failure> {
    let status = operator.admin()?.status().await?;
    if operator.json {
        print::json(&status)?;
    } else {
        show(&status)?;
    }
    Ok(Exit::Ok)
}

fn show(status: &Status) -> std::io::Result<()> {
    let Status { version, pid, uptime_s, listen, data, connections, max_connections, store, apps } = status;
    print::line(&format!("postrider {version}, process {pid}, up for {}", print::duration(*uptime_s)))?;
    print::line(&format!("listens on   {}", listen.join(", ")))?;
    print::line(&format!("data         {data}"))?;
    print::line(&format!("connections  {connections} of {max_connections}"))?;
    match store {
        StoreStatus::Writing => {}
        StoreStatus::Full { why } => print::line(&format!("store        takes no messages: the disk is full: {why}"))?,
        StoreStatus::Failed { why } => print::line(&format!("store        takes no messages: {why}"))?,
    }
    for app in apps {
        print::line(&format!("app          {}: {} users", print::escape(&app.name), app.users))?;
    }
    Ok(())
}
