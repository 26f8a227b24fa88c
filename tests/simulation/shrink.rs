//! A smaller plan that breaks the same clause: for people to read.

use crate::plan::Plan;
use crate::world::{self, Setup};

/// Runs that are spent on it.
const MAX_RUNS: u64 = 400;

/// With fewer actions everything else comes at other moments: so often a smaller plan is tried with other luck.
const LUCK: u64 = 4;

/// Leaves out what is not needed: halves, then quarters, then single actions. The same for the same plan.
pub fn shrink(plan: &Plan, setup: Setup) -> Plan {
    let Some(fault) = world::run(plan, setup).fault else { return plan.clone() };
    let mut runs = 0;
    let mut failing = |plan: Plan| {
        (0..LUCK).map(|luck| Plan { luck: plan.luck ^ luck, ..plan.clone() }).find(|plan| {
            runs += 1;
            runs <= MAX_RUNS && world::run(plan, setup).fault.is_some_and(|found| found.clause == fault.clause)
        })
    };
    let mut best = plan.clone();
    let mut chunk = best.actions.len().div_ceil(2).max(1);
    loop {
        let (mut at, before) = (0, best.actions.len());
        while at < best.actions.len() {
            let mut smaller = best.clone();
            let end = (at + chunk).min(smaller.actions.len());
            smaller.actions.drain(at..end);
            match failing(smaller) {
                Some(smaller) => best = smaller,
                None => at += chunk,
            }
        }
        if chunk == 1 && best.actions.len() == before {
            return best;
        }
        chunk = (chunk / 2).max(1);
    }
}
