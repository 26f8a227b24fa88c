//! The one binary: arguments in, one command run.

use std::process::ExitCode;

/// What a storm of connections took goes back to the system soon after it; the system's own allocator keeps it.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    postrider::cli::run()
}
