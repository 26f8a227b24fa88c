//! What was found.

use serde::Serialize;

/// The findings of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Who was judged: `server` or `client`.
    pub subject: &'static str,
    /// Where it is, or where it came to.
    pub address: String,
    /// What it calls itself, such as `postrider/0.1.0`; empty if it never said.
    pub name: String,
    /// How many findings are of each kind.
    #[serde(flatten)]
    pub counts: Counts,
    /// One after the other, in the order of the specification's sections.
    pub findings: Vec<Finding>,
}

/// How many findings are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Kept, as far as was tried.
    pub kept: usize,
    /// Broken: a MUST.
    pub broken: usize,
    /// Advice not taken: a SHOULD.
    pub advice: usize,
    /// Not tried.
    pub skipped: usize,
}

/// One thing that was tried.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// Its heading.
    pub group: &'static str,
    /// What must be so, in a sentence.
    pub name: String,
    /// The requirements it stands for.
    pub requirements: Vec<&'static str>,
    /// How it went.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// How one thing went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It was so each time.
    Kept {
        /// How often it was seen; 1 for a check of a server.
        times: u32,
    },
    /// A MUST was broken.
    Broken(Fault),
    /// A SHOULD was not followed.
    Advice(Fault),
    /// It could not be tried.
    Skipped {
        /// Why not, and what to do about it.
        reason: String,
    },
}

/// What was wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// What should have come.
    pub expected: String,
    /// What came instead.
    pub came: String,
}

impl Report {
    /// A report; counts the findings.
    #[must_use]
    pub fn new(subject: &'static str, address: String, name: String, findings: Vec<Finding>) -> Self {
        let mut counts = Counts::default();
        for finding in &findings {
            *match &finding.outcome {
                Outcome::Kept { .. } => &mut counts.kept,
                Outcome::Broken(_) => &mut counts.broken,
                Outcome::Advice(_) => &mut counts.advice,
                Outcome::Skipped { .. } => &mut counts.skipped,
            } += 1;
        }
        Self { subject, address, name, counts, findings }
    }

    /// Whether no requirement was found broken.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.counts.broken == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_its_findings_and_is_one_flat_object() {
        let finding = |outcome| Finding { group: "g", name: "n".into(), requirements: vec!["TLS-1"], outcome };
        let fault = Fault { expected: "this".into(), came: "that".into() };
        let findings = vec![finding(Outcome::Kept { times: 2 }), finding(Outcome::Broken(fault))];
        let report = Report::new("server", "h:1".into(), String::new(), findings);
        assert_eq!(report.counts, Counts { kept: 1, broken: 1, ..Counts::default() });
        assert!(!report.is_clean());
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["broken"], &json["findings"][1]["outcome"]), (&1.into(), &"broken".into()));
        assert_eq!(json["findings"][1]["came"], "that");
    }
}
