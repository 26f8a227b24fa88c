//! `postrider bench`: loads a server, and says what it can do and whether all adds up.

mod arguments;
mod show;

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

use crate::bench::dial::DialError;
use crate::bench::live::Live;
use crate::bench::report::Report;
use crate::bench::servers::{Chaos, Choice};
use crate::bench::{self, BenchError, Options, Target, worker};
use crate::cli::contexts::Contexts;
use crate::cli::exit::{Exit, Failure};
use crate::cli::home::Home;
use crate::cli::print;
use crate::cli::signals::Signals;
use crate::clock::Clock;
use arguments::{Common, Job};

pub use arguments::Bench;

/// How often the progress line is drawn anew.
const TICK: Duration = Duration::from_millis(500);

/// Runs it.
///
/// # Errors
/// [`Failure`], as every command; a fault or a missed threshold is told in the report.
pub async fn run(bench: Bench) -> Result<Exit, Failure> {
    let (scenario, common) = match bench.into_job() {
        Job::Run(scenario, common) => (scenario, common),
        Job::Worker => return Ok(if worker::serve(Clock::system()).await { Exit::Ok } else { Exit::Other }),
    };
    let mut signals = Signals::listen()?;
    tokio::select! {
        report = measure(scenario, &common) => conclude(report?, &common),
        // Dropping the run ends its servers and its processes, too.
        _ = signals.next() => Ok(Exit::Interrupted),
    }
}

async fn measure(scenario: bench::scenario::Scenario, common: &Common) -> Result<Report, Failure> {
    let executable = std::env::current_exe().map_err(|error| Failure::other(format!("cannot find myself: {error}")))?;
    let server = if common.spawn {
        Choice::Own {
            place: common.spawn_dir.clone().unwrap_or_else(std::env::temp_dir),
            config: common.config.clone(),
            chaos: common.chaos.map(|_| Chaos { every: common.chaos_every }),
        }
    } else {
        let context = common.target.resolve(&Contexts::of(&Home::find()?))?;
        let target = Target { server: context.server, ca: context.ca, app: context.app };
        Choice::There { target, pid: common.server_pid }
    };
    let options = Options {
        server,
        scenario,
        logins_at_once: common.login_concurrency,
        logins_per_s: common.login_rate,
        spread: common.spread(),
        executable,
    };
    let live = Arc::new(Live::default());
    let run = bench::run(options, Clock::system(), Arc::clone(&live));
    tokio::select! {
        report = run => Ok(report?),
        never = progress(&live) => match never {},
    }
}

/// Draws how it goes on stderr, where that is a terminal.
async fn progress(live: &Live) -> std::convert::Infallible {
    let drawn = std::io::stderr().is_terminal();
    let target = if drawn { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target).with_finish(ProgressFinish::AndClear);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    let (mut phase, mut before) = (String::new(), 0);
    loop {
        tokio::time::sleep(TICK).await;
        let doing = live.doing();
        let count = doing.count();
        let since = if doing.phase == phase { before } else { 0 };
        let rate = count.saturating_sub(since) as f64 / TICK.as_secs_f64();
        bar.set_message(format!("{}: {count} {}, {rate:.0}/s", doing.phase, doing.unit));
        bar.tick();
        (phase, before) = (doing.phase, count);
    }
}

fn conclude(mut report: Report, common: &Common) -> Result<Exit, Failure> {
    report.judge(&common.fail_if);
    if common.json {
        print::json(&report)?;
    } else {
        show::show(&report)?;
    }
    for failure in &report.failures {
        print::complain(&format!("postrider: {failure}"));
    }
    Ok(if report.failures.is_empty() { Exit::Ok } else { Exit::Failed })
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        let exit = match &error {
            BenchError::Dial { error: DialError::Refused(_) | DialError::Protocol(_), .. } => Exit::Login,
            BenchError::Dial { .. } => Exit::Unreachable,
            BenchError::Spawn(_) | BenchError::Worker(_) => Exit::Other,
            BenchError::Limit(_) | BenchError::Ca { .. } | BenchError::Server { .. } | BenchError::NoProcess(_) => {
                Exit::Usage
            }
        };
        Failure::new(exit, error.to_string())
    }
}
