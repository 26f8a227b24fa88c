//! The requirements on clients, and what was seen of each.

use std::collections::BTreeMap;

use crate::conformance::report::{Fault, Finding, Outcome};

/// A requirement on clients.
struct Rule {
    id: &'static str,
    /// What it asks of a client, in a few words.
    name: &'static str,
    /// What to do so that it is tried, or how to try it without us.
    unseen: &'static str,
    /// A SHOULD: not following it is no fault.
    advice: bool,
}

const fn must(id: &'static str, name: &'static str, unseen: &'static str) -> Rule {
    Rule { id, name, unseen, advice: false }
}

const fn should(id: &'static str, name: &'static str, unseen: &'static str) -> Rule {
    Rule { id, name, unseen, advice: true }
}

const BY_KEY: &str = "the client logged in by name; let it enrol with the code";
const NO_SEND: &str = "the client sent nothing; let it answer each message with the same text";
const ENDED: &str = "the client was gone before; start it again when it ends, or wait longer with --patience";
const BY_HAND: &str = "the wire does not show it";

/// Every requirement that a client can be seen to keep, or must be tried otherwise; in the order of the specification.
const RULES: &[(&str, &[Rule])] = &[
    (
        "TLS",
        &[
            must("TLS-1", "TLS 1.3 is used", ENDED),
            must("TLS-2", "The ALPN name is offered, and a server that does not agree to it hears nothing", ENDED),
            must("TLS-3", "A server that cannot be verified hears nothing", ENDED),
            must("TLS-4", "No early data is sent, also where the server would take it", ENDED),
        ],
    ),
    (
        "Frames",
        &[
            must("FRAME-1", "Frames in any pieces are read right, and written right", ENDED),
            must("FRAME-2", "A length of 0 ends the connection, and the client comes back", ENDED),
            must("FRAME-3", "A length above 1 MiB ends the connection, and the client comes back", ENDED),
            must("FRAME-5", "What is no protobuf ends the connection, and the client comes back", ENDED),
            must("FRAME-7", "A frame has at most one body", ENDED),
            must("LIMIT-2", "Frames stay within 8 KiB before Welcome and max_frame_bytes after it", ENDED),
            must("LIMIT-3", "A frame of nearly 1 MiB is taken", ENDED),
        ],
    ),
    (
        "Versions",
        &[
            must("VER-1", "The version is 1", ENDED),
            must("VER-2", "Unknown fields are ignored", ENDED),
            must("VER-3", "Frames of an unknown kind are ignored", ENDED),
            must("VER-4", "Entries of an unknown kind are confirmed", ENDED),
            must("VER-5", "Nothing is sent that version 1 does not have", ENDED),
        ],
    ),
    (
        "Login",
        &[
            must("LOGIN-1", "Hello comes first, and once", ENDED),
            must("LOGIN-5", "A Challenge is answered by Proof", BY_KEY),
            must("LOGIN-6", "The signature is right: key, bytes and this TLS connection", BY_KEY),
            must("LOGIN-10", "An enrolment whose answer was lost is made again with the same key", BY_KEY),
            must("LOGIN-12", "device_id is what Welcome gave, or 0 without state", ENDED),
            must("LOGIN-16", "The cursor is neither below what was confirmed nor above what was delivered", ENDED),
            must("LOGIN-18", "Nothing is sent while the login is being answered", ENDED),
            must("LOGIN-20", "One LinkDevice waits at a time", "the client asked for no code; let it send LinkDevice"),
        ],
    ),
    (
        "Sending",
        &[
            must("SEND-1", "Messages are numbered 1, 2, 3 … without gaps", NO_SEND),
            must("SEND-3", "A refused message uses its send_id up, and the next has the next one", NO_SEND),
            must("SEND-6", "No more than send_window messages wait for answers", NO_SEND),
            must(
                "SEND-8",
                "A message is on stable storage before it is sent",
                "the wire does not show it: kill the client between Send and Ack, and start it again; it must send the same again",
            ),
            must("SEND-9", "After a break, what has no answer comes again first, in order and unchanged", NO_SEND),
        ],
    ),
    (
        "Delivery",
        &[
            must("DLVR-3", "Entries that come again are dropped, and confirmed again", NO_SEND),
            must(
                "DLVR-4",
                "What is confirmed is on stable storage",
                "the wire does not show it: kill the client right after it confirmed; it must have what it confirmed",
            ),
            must("DLVR-5", "Only what this connection delivered is confirmed", ENDED),
            must("DLVR-7", "Entries of an unknown kind count as taken", ENDED),
            should("DLVR-10", "Confirmations come soon", ENDED),
        ],
    ),
    (
        "Receipts",
        &[
            must("RCPT-2", "Receipts may come again and go back", ENDED),
            must(
                "RCPT-4",
                "Read means read",
                "the wire does not show whether a person has seen it: mark nothing read that was only received",
            ),
            must(
                "RCPT-6",
                "A Read comes with the confirmation that covers it, or after it",
                "the client marked nothing as read",
            ),
            should(
                "RCPT-10",
                "After a break the last Read comes again, before the messages",
                "the client marked nothing as read before a connection broke",
            ),
        ],
    ),
    (
        "Connections",
        &[
            must("CONN-1", "Something is sent in every idle_timeout_ms", ENDED),
            must("CONN-4", "After REPLACED the client stays away", ENDED),
            should("CONN-5", "A dead line is noticed and given up", ENDED),
            must("CONN-6", "Nothing follows Goodbye", "the client said no Goodbye; let it end in order"),
            must("CONN-8", "retry_after_ms is waited for", ENDED),
            must("CONN-10", "After an end without a word nothing is taken for answered", ENDED),
        ],
    ),
    (
        "Errors and content",
        &[
            must("ERR-3", "An unknown error is judged by its flags", ENDED),
            must("ERR-5", "detail is shown and never read", BY_HAND),
            must(
                "SYNC-8",
                "After DEVICE_EXPIRED the client starts as a new device",
                "the wire does not show it: after DEVICE_EXPIRED the client forgets its state and tells its user what was unanswered",
            ),
            must(
                "SYNC-9",
                "A server that has forgotten what it acked is taken for DEVICE_EXPIRED",
                "the wire does not show it: highest_send_id below what was answered makes the client forget its state",
            ),
            should("CONTENT-2", "Text is put into Content", BY_HAND),
            must("CONTENT-3", "Any content is survived and confirmed", ENDED),
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
            for Rule { id, name, unseen, advice } in *rules {
                let outcome = match (self.wrong.get(id), self.kept.get(id)) {
                    (Some(fault), _) if *advice => Outcome::Advice(fault.clone()),
                    (Some(fault), _) => Outcome::Broken(fault.clone()),
                    (None, Some(times)) => Outcome::Kept { times: *times },
                    (None, None) => Outcome::Skipped { reason: (*unseen).to_owned() },
                };
                findings.push(Finding { group, name: (*name).to_owned(), requirements: vec![id], outcome });
            }
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::requirement;

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
            let id = finding.requirements[0];
            assert!(requirement::sentence(id).is_some() && ids.insert(id), "{id}");
        }
        let of = |id| &findings.iter().find(|finding| finding.requirements == [id]).unwrap().outcome;
        assert!(matches!(of("SEND-1"), Outcome::Broken(fault) if fault.came == "3 (while we wait)"));
        assert!(matches!(of("CONN-5"), Outcome::Advice(_)));
        assert_eq!(of("TLS-1"), &Outcome::Kept { times: 1 });
        assert!(matches!(of("TLS-2"), Outcome::Skipped { .. }));
    }
}
