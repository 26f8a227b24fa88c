//! Criterion for the time, a counting allocator for the allocations; both for one message.

use std::alloc::System;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

/// Counts what every thread of this program allocates.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Calls that warm up, and calls whose allocations are counted.
const CALLS: u64 = 100;

/// Measures `call`, each time on what `prepare` has made; what `prepare` does, and the end of what `call` gives back,
/// count for nothing. A call is `messages` messages, and all figures are for one of them.
pub fn measure<T, R>(
    criterion: &mut Criterion,
    name: &str,
    messages: u64,
    mut prepare: impl FnMut() -> T,
    mut call: impl FnMut(T) -> R,
) {
    let (mut allocations, mut bytes, mut reported) = (0, 0, false);
    criterion.bench_function(name, |bencher| {
        if !reported {
            for counted in [false, true] {
                for _ in 0..CALLS {
                    let input = prepare();
                    let region = Region::new(ALLOCATOR);
                    let output = call(black_box(input));
                    let change = region.change();
                    drop(black_box(output));
                    if counted {
                        allocations += change.allocations + change.reallocations;
                        bytes += change.bytes_allocated;
                    }
                }
            }
            let of_one = |total: usize| total as f64 / (CALLS * messages) as f64;
            println!("{name}: {:.2} allocations, {:.0} bytes a message", of_one(allocations), of_one(bytes));
            reported = true;
        }
        bencher.iter_custom(|iterations| {
            let calls = iterations.div_ceil(messages);
            let mut time = Duration::ZERO;
            for _ in 0..calls {
                let input = prepare();
                let started = Instant::now();
                let output = call(black_box(input));
                time += started.elapsed();
                drop(black_box(output));
            }
            time.mul_f64(iterations as f64 / (calls * messages) as f64)
        });
    });
}
