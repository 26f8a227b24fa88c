//! What the store can do, without a network in front of it. See `README.md` above this directory.
//!
//! # Layout
//! - `arguments`: what can be asked for
//! - `appends`, `reads`, `restart`, `churn`, `users`: one file a scenario
//! - `load`: producers that wait for their acks; `people`: who they are
//! - `rivals`: what the store is held against, on the same disk and in the same run
//! - `meter`: processor time, and bytes on disk

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod appends;
mod arguments;
mod churn;
mod load;
mod meter;
mod people;
mod reads;
mod restart;
mod rivals;
mod users;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use serde_json::{Map, Value, to_value};

use arguments::{Arguments, Scenario};

fn main() -> ExitCode {
    let Arguments { scenario, directory, json, .. } = Arguments::parse();
    let scenarios = scenario.map_or_else(Scenario::short_ones, |scenario| vec![scenario]);
    let mut report = Map::new();
    let mut failed = false;
    for scenario in scenarios {
        let name = scenario.name();
        let figures = run(scenario, &directory, !json, &mut failed);
        report.insert(name.into(), figures);
    }
    if json {
        println!("{}", Value::Object(report));
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs one scenario, in a new directory of its own, and prints its figures if they are to be read by a person.
fn run(scenario: Scenario, parent: &Path, print: bool, failed: &mut bool) -> Value {
    match scenario {
        Scenario::Appends(what) => to_value(appends::run(&what, parent, print)),
        Scenario::Reads(what) => to_value(reads::run(&what, parent, print)),
        Scenario::Restart(what) => to_value(restart::run(&what, parent, print)),
        Scenario::Churn(what) => {
            let figures = churn::run(&what, parent, print);
            *failed |= !figures.is_sound();
            to_value(figures)
        }
        Scenario::Users(what) => to_value(users::run(&what, parent, print)),
        Scenario::Fill(what) => restart::fill(&what, parent),
    }
    .unwrap()
}
