//! `postrider store stats`: where the bytes are.

use clap::Args;

use super::{Directory, Progress, answer, salt, size};
use crate::app::store_tools::{self, FileStats, Stats as Found, TableStats};
use crate::cli::exit::{Exit, Failure};
use crate::cli::print;

/// Arguments of `store stats`.
#[derive(Args, Debug)]
pub struct Stats {
    #[command(flatten)]
    directory: Directory,
}

/// Runs it.
///
/// # Errors
/// [`Failure`], as every command.
pub fn run(Stats { directory }: &Stats) -> Result<Exit, Failure> {
    let progress = Progress::start("reading rows");
    let found = store_tools::stats(&directory.path()?, salt(), &mut |rows| progress.at(rows))?;
    drop(progress);
    answer(directory.json, &found, show)?;
    Ok(Exit::Ok)
}

fn show(Found { tables, row_bytes, complete, files, dead_share }: &Found) -> std::io::Result<()> {
    let rows: Vec<_> = tables
        .iter()
        .map(|TableStats { app, table, rows, bytes }| {
            let app = app.as_deref().map_or("-".into(), |app| print::escape(app).into_owned());
            [app, (*table).to_owned(), rows.to_string(), size(*bytes)]
        })
        .collect();
    print::table(["APP", "TABLE", "ROWS", "BYTES"], &rows)?;
    print::line("")?;
    for FileStats { of, files, bytes } in files {
        print::line(&format!("{of:<8} {} in {files} files", size(*bytes)))?;
    }
    print::line(&format!("rows     {}", size(*row_bytes)))?;
    let percent = dead_share * 100.0;
    print::line(&format!(
        "dead     {percent:.0} % of sled's files. It needs up to twice what the rows take: what is above that, \
         `postrider store compact` gives back"
    ))?;
    if !complete {
        print::line("There is too little space to move what the journal holds to sled: its rows are not counted.")?;
    }
    Ok(())
}
