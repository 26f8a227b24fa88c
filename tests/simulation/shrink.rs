//! A smaller plan that breaks the same clause: for people to read.

use crate::plan::Plan;
use crate::world::{self, Setup};

/// Runs that are spent on it.
const MAX_RUNS: usize = 300;

/// Leaves out what is not needed: halves, then quarters, then single actions.
pub fn shrink(plan: &Plan, setup: Setup) -> Plan {
    let Some(fault) = world::run(plan, setup).fault else { return plan.clone() };
    let fails = |plan: &Plan| world::run(plan, setup).fault.is_some_and(|found| found.clause == fault.clause);
    let (mut best, mut runs) = (plan.clone(), 0);
    let mut chunk = best.actions.len().div_ceil(2).max(1);
    loop {
        let (mut at, before) = (0, best.actions.len());
        while at < best.actions.len() && runs < MAX_RUNS {
            let mut smaller = best.clone();
            let end = (at + chunk).min(smaller.actions.len());
            smaller.actions.drain(at..end);
            runs += 1;
            if fails(&smaller) {
                best = smaller;
            } else {
                at += chunk;
            }
        }
        if chunk == 1 && (best.actions.len() == before || runs >= MAX_RUNS) {
            return best;
        }
        chunk = (chunk / 2).max(1);
    }
}
