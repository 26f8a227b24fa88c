//! The checks on a server. Each has users of its own, named anew for every run, and leaves their messages behind: run it
//! against a server whose data may have them.
//!
//! # Layout
//! - [`world`]: the server under test, and how its peers come to be
//! - [`peer`]: a client that says anything, and what it expects
//! - `dial`: TLS, as wanted or wrong on purpose
//! - the rest: checks, one file a heading of the report

mod bounds;
mod delivery;
mod devices;
mod dial;
mod frames;
mod keepalive;
mod keys;
mod login;
mod login_state;
pub mod peer;
mod receipts;
mod sending;
mod sending_again;
mod transport;
pub mod world;

use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream;

use super::ConformanceError;
use super::report::{Fault, Finding, Outcome, Report};
use super::requirement::Only;
use crate::clock::Clock;
use world::World;

/// Checks that run at once. Some do nothing but wait.
const AT_ONCE: usize = 8;

/// A server to be checked.
#[derive(Clone, Debug)]
pub struct Options {
    /// host:port.
    pub server: String,
    /// A PEM file with the CA to trust.
    pub ca: PathBuf,
    /// An app, best one that allows open login.
    pub app: String,
    /// A user and a fresh enrolment code for it, where the operator gave one.
    pub code: Option<(String, String)>,
    /// How long an answer may take.
    pub patience: Duration,
    /// How long a timeout of the server's is waited for; one that is longer is not checked.
    pub longest_wait: Duration,
    /// Which checks to run.
    pub only: Only,
}

/// Why a check did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotKept {
    /// A MUST was broken.
    Broken(Fault),
    /// A SHOULD was not followed.
    Advice(Fault),
    /// It cannot be tried here; why, and what to do.
    Skipped(String),
}

/// How a check ended.
pub type Verdict = Result<(), NotKept>;

/// One thing to try.
pub struct Check {
    /// Its heading.
    pub group: &'static str,
    /// What must be so.
    pub name: &'static str,
    /// The requirements it stands for.
    pub requirements: &'static [&'static str],
    run: for<'a> fn(&'a World) -> BoxFuture<'a, Verdict>,
}

/// A table of checks: the function, what must be so, and the requirements.
macro_rules! checks {
    ($group:literal: $($function:ident => $name:literal [$($id:literal),+];)+) => {
        pub(super) const CHECKS: &[super::Check] = &[$(super::Check {
            group: $group,
            name: $name,
            requirements: &[$($id),+],
            run: |world| Box::pin($function(world)),
        }),+];
    };
}
use checks;

/// Every check, in the order of the report.
pub fn catalogue() -> impl Iterator<Item = &'static Check> {
    let rooms = [
        transport::CHECKS,
        frames::CHECKS,
        bounds::CHECKS,
        login::CHECKS,
        login_state::CHECKS,
        keys::CHECKS,
        sending::CHECKS,
        sending_again::CHECKS,
        delivery::CHECKS,
        receipts::CHECKS,
        devices::CHECKS,
        keepalive::CHECKS,
    ];
    rooms.into_iter().flatten()
}

/// Runs every check. `progress` hears each name as it ends.
///
/// # Errors
/// [`ConformanceError`], when there is no server to check.
pub async fn run(
    options: Options,
    clock: Clock,
    progress: &(dyn Fn(&'static str) + Sync),
) -> Result<Report, ConformanceError> {
    let address = options.server.clone();
    let world = World::new(options, clock).await?;
    let world = &world;
    let name = world.reach().await?;
    let wanted = catalogue().filter(|check| world.options.only.covers(check.requirements));
    let judged = stream::iter(wanted).map(|check| async move {
        let verdict = (check.run)(world).await;
        progress(check.name);
        Finding {
            group: check.group,
            name: check.name.to_owned(),
            requirements: check.requirements.to_vec(),
            outcome: match verdict {
                Ok(()) => Outcome::Kept { times: 1 },
                Err(NotKept::Broken(fault)) => Outcome::Broken(fault),
                Err(NotKept::Advice(fault)) => Outcome::Advice(fault),
                Err(NotKept::Skipped(reason)) => Outcome::Skipped { reason },
            },
        }
    });
    let findings = judged.buffered(AT_ONCE).collect().await;
    Ok(Report::new("server", address, name, findings))
}

/// A broken MUST.
fn broken(expected: impl Into<String>, came: impl Into<String>) -> NotKept {
    NotKept::Broken(Fault { expected: expected.into(), came: came.into() })
}

/// Broken unless it holds; `came` is asked only then.
fn must(holds: bool, expected: &str, came: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(broken(expected, came())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::requirement;

    #[test]
    fn every_check_is_a_sentence_of_its_own_about_requirements_that_exist() {
        let mut names = std::collections::BTreeSet::new();
        for check in catalogue() {
            assert!(names.insert(check.name), "{} twice", check.name);
            for id in check.requirements {
                assert!(requirement::sentence(id).is_some(), "{}: no {id}", check.name);
            }
        }
        assert!(names.len() >= 50, "{}", names.len());
    }
}
