//! `postrider store restore`: a data directory from a backup.

use std::path::PathBuf;

use clap::Args;

use super::{Progress, answer, salt, show_contents};
use crate::app::store_tools;
use crate::cli::exit::{Exit, Failure};
use crate::cli::invocation::{self, quote};
use crate::cli::print;

/// Arguments of `store restore`.
#[derive(Args, Debug)]
pub struct Restore {
    /// The backup; it is not changed
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// The data directory to make: it does not exist, or is empty
    #[arg(value_name = "DIR")]
    to: PathBuf,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// [`Failure`], as every command.
pub fn run(Restore { from, to, json }: &Restore) -> Result<Exit, Failure> {
    let progress = Progress::start("reading rows");
    let found = store_tools::restore(from, to, salt(), &mut |rows| progress.at(rows))?;
    drop(progress);
    answer(*json, &found, |found| {
        show_contents(found)?;
        let to = quote(&to.display().to_string());
        print::line("What came after the backup is gone. Devices that have seen more are told so: see --forget.")?;
        print::line(&format!("next           {} serve --data {to}", invocation::postrider()))
    })?;
    Ok(Exit::Ok)
}
