//! What was acked is there: a server that is stopped under load without being asked, again and again, and an auditor who
//! counts. How to let it run for longer is in CONTRIBUTING.md.

use crate::support::{Image, Kill, Outcome, ServerProcess, Verdict, seed, survive};

/// How often it happens: as the variable says, or else so many times.
fn cycles(variable: &str, otherwise: u32) -> u32 {
    std::env::var(variable).map_or(otherwise, |cycles| cycles.parse().unwrap())
}

fn judge(outcome: &Outcome) {
    println!("{outcome}");
    assert_eq!(outcome.verdict, Verdict::default());
    assert!(outcome.totals.acked >= outcome.cycles as usize);
}

/// SEND-7: what was acked is there after `kill -9`; SEND-4, SEND-9: and what was not acked is asked for again.
#[test]
fn a_server_killed_under_load_loses_nothing_doubles_nothing_and_keeps_the_order() {
    judge(&survive(ServerProcess::start(""), &mut Kill, cycles("POSTRIDER_CRASH_CYCLES", 50), seed()));
}

#[test]
#[ignore = "mounts a disk image and cuts its power, which takes root; CONTRIBUTING.md says how to run it"]
fn a_server_whose_disk_loses_power_under_load_loses_nothing_that_was_acked() {
    let mut image = match Image::make() {
        Ok(image) => image,
        Err(reason) => return println!("no power is cut: {reason}"),
    };
    let server = ServerProcess::start_on(&image.mount().join("data"), "");
    let outcome = survive(server, &mut image, cycles("POSTRIDER_POWER_CUTS", 5), seed());
    println!("{image}");
    judge(&outcome);
    image.must_have_lost_what_was_not_synced();
}
