//! `postrider store compact`: space back.

use clap::Args;

use super::{Directory, Progress, answer, salt, size};
use crate::app::store_tools::{self, Compacted};
use crate::cli::exit::{Exit, Failure};
use crate::cli::print;

/// Arguments of `store compact`.
#[derive(Args, Debug)]
pub struct Compact {
    #[command(flatten)]
    directory: Directory,
}

/// Runs it.
///
/// # Errors
/// [`Failure`], as every command.
pub fn run(Compact { directory }: &Compact) -> Result<Exit, Failure> {
    let progress = Progress::start("reading rows");
    let done = store_tools::compact(&directory.path()?, salt(), &mut |rows| progress.at(rows))?;
    drop(progress);
    answer(directory.json, &done, |Compacted { rows, before_bytes, after_bytes }| {
        print::line(&format!("rows    {rows}"))?;
        print::line(&format!("before  {}", size(*before_bytes)))?;
        print::line(&format!("after   {}", size(*after_bytes)))
    })?;
    Ok(Exit::Ok)
}
