//! `postrider status`: how the server that runs here is.

use clap::Args;

use crate::admin::Status;
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
    let (admin, _) = operator.admin()?;
    let status = admin.status().await?;
    if operator.json {
        print::json(&status)?;
    } else {
        show(&status)?;
    }
    Ok(Exit::Ok)
}

fn show(status: &Status) -> std::io::Result<()> {
    let Status { version, pid, uptime_s, listen, data, connections, max_connections, apps } = status;
    print::line(&format!("postrider {version}, process {pid}, up for {}", duration(*uptime_s)))?;
    print::line(&format!("listens on   {}", listen.join(", ")))?;
    print::line(&format!("data         {data}"))?;
    print::line(&format!("connections  {connections} of {max_connections}"))?;
    for app in apps {
        print::line(&format!("app          {}: {} users", print::escape(&app.name), app.users))?;
    }
    Ok(())
}

/// The two largest units.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_their_two_largest_units() {
        let texts = [0, 61, 3_600, 90_000].map(duration);
        assert_eq!(texts, ["0 s", "1 min 1 s", "1 h 0 min", "1 d 1 h"]);
    }
}
