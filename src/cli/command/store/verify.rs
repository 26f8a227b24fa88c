//! `postrider store verify`: whether a store is sound.

use clap::Args;

use super::{Directory, Progress, answer, salt, show_contents};
use crate::app::store_tools::{self, Verified};
use crate::cli::exit::{Exit, Failure};
use crate::cli::print;

/// Arguments of `store verify`.
#[derive(Args, Debug)]
pub struct Verify {
    #[command(flatten)]
    directory: Directory,
}

/// Runs it.
///
/// # Errors
/// [`Failure`], as every command.
pub fn run(Verify { directory }: &Verify) -> Result<Exit, Failure> {
    let progress = Progress::start("reading rows");
    let found = store_tools::verify(&directory.path()?, salt(), &mut |rows| progress.at(rows))?;
    drop(progress);
    answer(directory.json, &found, show)?;
    Ok(if found.problem_count == 0 { Exit::Ok } else { Exit::Failed })
}

fn show(found: &Verified) -> std::io::Result<()> {
    show_contents(found)?;
    for problem in &found.problems {
        print::line(&format!("problem        {}", print::escape(problem)))?;
    }
    if found.problem_count == 0 {
        return print::line("every row is what was written, and they fit together");
    }
    let count = found.problem_count;
    print::line(&format!("{count} problems: restore a backup, or save what is sound with `postrider store salvage`"))
}
