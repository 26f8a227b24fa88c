//! The requirements on clients, and what was seen of each.

use std::collections::BTreeMap;

use crate::conformance::report::{Fault, Finding, Outcome};
use crate::conformance::requirement;

/// A requirement on clients.
struct Rule {
    id: &'static str,
    /// What to do so that it is tried, or how to try it without us.
    unseen: &'static str,
    /// A SHOULD: not following it is no fault.
    advice: bool,
}

const fn must(id: &'static str, unseen: &'static str) -> Rule {
    Rule { id, unseen, advice: false }
}

const fn should(id: &'static str, unseen: &'static str) -> Rule {
    Rule { id, unseen, advice: true }
}

const BY_KEY: &str = "the client logged in by name; let it enrol with the code";
const NO_SEND: &str = "the client sent nothing; let it answer each message with the same text";
const ENDED: &str = "the client was gone before; start it again when it ends, or wait longer with --patience";
const BY_HAND: &str = "the wire does not show it";

/// Every requirement that a client can be seen to keep, or must be tried otherwise; in the order of the specification.
const RULES: &[(&str, &[Rule])] = &[
    ("TLS", &[must("TLS-1", ENDED), must("TLS-2", ENDED), must("TLS-3", ENDED), must("TLS-4", ENDED)]),
    (
        "Frames",
        &[
            must("FRAME-1", ENDED),
            must("FRAME-2", ENDED),
            must("FRAME-3", ENDED),
            must("FRAME-5", ENDED),
            must("FRAME-7", ENDED),
            must("LIMIT-2", ENDED),
            must("LIMIT-3", ENDED),
        ],
    ),
    (
        "Versions",
        &[must("VER-1", ENDED), must("VER-2", ENDED), must("VER-3", ENDED), must("VER-4", ENDED), must("VER-5", ENDED)],
    ),
    (
        "Login",
        &[
            must("LOGIN-1", ENDED),
            must("LOGIN-5", BY_KEY),
            must("LOGIN-6", BY_KEY),
            must("LOGIN-10", BY_KEY),
            must("LOGIN-12", ENDED),
            must("LOGIN-16", ENDED),
            must("LOGIN-18", ENDED),
            must("LOGIN-20", "the client asked for no code; let it send LinkDevice"),
        ],
    ),
    (
        "Sending",
        &[
            must("SEND-1", NO_SEND),
            must("SEND-3", NO_SEND),
            must("SEND-6", NO_SEND),
            must("SEND-8", "the wire does not show it: kill the client between Send and Ack, and start it again; it must send the same again"),
            must("SEND-9", NO_SEND),
        ],
    ),
    (
        "Delivery",
        &[
            must("DLVR-3", NO_SEND),
            must("DLVR-4", "the wire does not show it: kill the client right after it confirmed; it must have what it confirmed"),
            must("DLVR-5", ENDED),
            must("DLVR-7", ENDED),
            should("DLVR-10", ENDED),
        ],
    ),
    (
        "Receipts",
        &[
            must("RCPT-2", ENDED),
            must("RCPT-4", "the wire does not show whether a person has seen it: mark nothing read that was only received"),
            must("RCPT-6", "the client marked nothing as read"),
            should("RCPT-10", "the client marked nothing as read before a connection broke"),
        ],
    ),
    (
        "Connections",
        &[
            must("CONN-1", ENDED),
            must("CONN-4", ENDED),
            should("CONN-5", ENDED),
            must("CONN-6", "the client said no Goodbye; let it end in order"),
            must("CONN-8", ENDED),
            must("CONN-10", ENDED),
        ],
    ),
    (
        "Errors and content",
        &[
            must("ERR-3", ENDED),
            must("ERR-5", BY_HAND),
            must("SYNC-8", "the wire does not show it: after DEVICE_EXPIRED the client forgets its state and tells its user what was unanswered"),
            should("CONTENT-2", BY_HAND),
            must("CONTENT-3", ENDED),
        ],
    ),
];

/// Watches one client.
#[derive(Debug, Default)]
pub struct Referee {
    kept: BTreeMap<&'static str, u32>,
    wrong: BTreeMap<&'static str, Fault>,
    act: &'static str,
}

impl Referee {
    /// What happens now, for the report.
    pub fn act(&mut self, act: &'static str) {
        self.act = act;
    }

    /// A requirement was put to the test, and kept.
    pub fn kept(&mut self, id: &'static str) {
        *self.kept.entry(id).or_default() += 1;
    }

    /// A requirement was not kept. The first time is told.
    pub fn broken(&mut self, id: &'static str, expected: impl Into<String>, came: impl Into<String>) {
        let came = format!("{} (while we {})", came.into(), self.act);
        self.wrong.entry(id).or_insert_with(|| Fault { expected: expected.into(), came });
    }

    /// Kept if it holds, or broken; `came` is asked only then.
    pub fn judge(&mut self, id: &'static str, holds: bool, expected: &str, came: impl FnOnce() -> String) {
        if holds { self.kept(id) } else { self.broken(id, expected, came()) }
    }

    /// Whether nothing was seen at all.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.kept.is_empty() && self.wrong.is_empty()
    }

    /// How it all went.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (group, rules) in RULES {
            for Rule { id, unseen, advice } in *rules {
                let outcome = match (self.wrong.get(id), self.kept.get(id)) {
                    (Some(fault), _) if *advice => Outcome::Advice(fault.clone()),
                    (Some(fault), _) => Outcome::Broken(fault.clone()),
                    (None, Some(times)) => Outcome::Kept { times: *times },
                    (None, None) => Outcome::Skipped { reason: (*unseen).to_owned() },
                };
                let name = requirement::sentence(id).unwrap_or_default();
                findings.push(Finding { group, name, requirements: vec![id], outcome });
            }
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_exists_once_and_every_shortfall_is_reported() {
        let mut referee = Referee::default();
        referee.act("wait");
        referee.kept("SEND-1");
        referee.broken("SEND-1", "2", "3");
        referee.broken("SEND-1", "5", "6");
        referee.broken("CONN-5", "a new connection", "none");
        referee.kept("TLS-1");
        let findings = referee.findings();
        let mut ids = std::collections::BTreeSet::new();
        for finding in &findings {
            assert!(!finding.name.is_empty() && ids.insert(finding.requirements[0]), "{:?}", finding.requirements);
        }
        let of = |id| &findings.iter().find(|finding| finding.requirements == [id]).unwrap().outcome;
        assert!(matches!(of("SEND-1"), Outcome::Broken(fault) if fault.came == "3 (while we wait)"));
        assert!(matches!(of("CONN-5"), Outcome::Advice(_)));
        assert_eq!(of("TLS-1"), &Outcome::Kept { times: 1 });
        assert!(matches!(of("TLS-2"), Outcome::Skipped { .. }));
    }
}
