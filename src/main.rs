//! The one binary: arguments in, one command run.

use std::process::ExitCode;

fn main() -> ExitCode {
    postrider::cli::run()
}
