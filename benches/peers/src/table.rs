//! What is told at the end: one table for people, one object for scripts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use postrider::bench::audit::Audit;
use postrider::bench::report::Report;
use serde::Serialize;

use crate::peer::Peer;
use crate::scenario::{SCENARIOS, Scenario};

/// Everything that was found.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The machine's processors.
    pub cores: usize,
    /// A server each.
    pub peers: Vec<Row>,
}

/// One server.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub peer: &'static str,
    /// Its version.
    pub version: String,
    /// Its configuration, in a few words.
    pub configuration: &'static str,
    /// The file with it, if it has one.
    pub file: Option<&'static str>,
    /// What each scenario found, by its name.
    pub scenarios: BTreeMap<String, Outcome>,
}

/// What a scenario found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Its figures.
    Report(Box<Report>),
    /// Why there are none, and need not be.
    Skipped(String),
    /// Why there are none.
    Failed(String),
}

impl Row {
    /// Of this server, with nothing found yet.
    #[must_use]
    pub fn new(peer: &Peer, version: String) -> Self {
        let file = peer.configuration.map(|(file, _)| file);
        Self { peer: peer.name, version, configuration: peer.summary, file, scenarios: BTreeMap::new() }
    }

    fn report(&self, scenario: Scenario) -> Option<&Report> {
        match self.scenarios.get(&scenario.name())? {
            Outcome::Report(report) => Some(report),
            Outcome::Skipped(_) | Outcome::Failed(_) => None,
        }
    }
}

impl Comparison {
    /// As Markdown: the table, a column for each server, then what to know when reading it.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut text = String::new();
        let mut line = |heading: &str, cell: &dyn Fn(&Row) -> String| {
            let cells: Vec<String> = self.peers.iter().map(cell).collect();
            // Writing to a string does not fail.
            let _ = writeln!(text, "| {heading} | {} |", cells.join(" | "));
        };
        line("", &|row| row.peer.to_owned());
        line("---", &|_| "---".to_owned());
        line("version", &|row| row.version.clone());
        line("configuration", &configuration);
        let asked = |scenario: &&Scenario| self.peers.iter().any(|row| row.scenarios.contains_key(&scenario.name()));
        for scenario in SCENARIOS.iter().filter(asked) {
            for (index, heading) in headings(*scenario).iter().enumerate() {
                let figure =
                    |row: &Row| row.report(*scenario).map(|report| figures(*scenario, report).swap_remove(index));
                line(heading, &|row| figure(row).unwrap_or_else(|| "–".to_owned()));
            }
        }
        for note in self.peers.iter().flat_map(notes) {
            let _ = write!(text, "\n- {note}");
        }
        text
    }
}

fn configuration(row: &Row) -> String {
    row.file.map_or_else(|| row.configuration.to_owned(), |file| format!("{} (`{file}`)", row.configuration))
}

/// What a scenario's figures are called.
fn headings(scenario: Scenario) -> Vec<String> {
    match scenario {
        Scenario::Connect => {
            vec!["resident KiB per idle connection".into(), "connects/s".into(), "server CPU µs per connect".into()]
        }
        Scenario::Pairs { pairs, window } => {
            let figures = ["messages/s", "server CPU µs per message", "p50 / p99 ms"];
            figures.map(|figure| format!("{pairs}×{window}: {figure}")).into()
        }
        Scenario::Rate { pairs, rate } => vec![format!("{rate} messages/s over {pairs} pairs: p50 / p99 ms")],
        Scenario::Offline => vec!["stored/s for users who are away".into(), "drained/s when they come".into()],
        Scenario::Kill => vec!["acked, and lost by kill -9".into()],
    }
}

/// The same number of figures, in the same order.
fn figures(scenario: Scenario, report: &Report) -> Vec<String> {
    let whole = |figure: Option<f64>| figure.map_or("–".to_owned(), thousands);
    let fine = |figure: Option<f64>| figure.map_or("–".to_owned(), |figure| format!("{figure:.1}"));
    let latency = report.latency_ms.map_or("–".to_owned(), |latency| {
        let ms = |ms: f64| if ms < 10.0 { format!("{ms:.2}") } else { thousands(ms) };
        format!("{} / {}", ms(latency.p50), ms(latency.p99))
    });
    match scenario {
        Scenario::Connect => vec![
            fine(report.rss_bytes_per_connection.map(|bytes| bytes / 1024.0)),
            whole(report.connects_per_s),
            whole(report.server_cpu_us_per_connect),
        ],
        Scenario::Pairs { .. } => {
            vec![whole(report.messages_per_s), fine(report.server_cpu_us_per_message), latency]
        }
        Scenario::Rate { .. } => vec![latency],
        Scenario::Offline => vec![whole(report.stored_per_s), whole(report.drained_per_s)],
        Scenario::Kill => {
            let Audit { lost, acked, .. } = report.audit;
            vec![format!("{} of {}", thousands(lost as f64), thousands(acked as f64))]
        }
    }
}

/// An outcome in a line.
#[must_use]
pub fn in_short(scenario: Scenario, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Report(report) => {
            let figures = headings(scenario).into_iter().zip(figures(scenario, report));
            figures.map(|(heading, figure)| format!("{heading} {figure}")).collect::<Vec<_>>().join(", ")
        }
        Outcome::Skipped(why) => format!("skipped: {why}"),
        Outcome::Failed(why) => format!("failed: {why}"),
    }
}

/// What went wrong, and what is not as it looks, a line each.
fn notes(row: &Row) -> Vec<String> {
    let mut notes = Vec::new();
    for scenario in SCENARIOS {
        let name = scenario.name();
        let mut note = |words: &str| notes.push(format!("{}, {name}: {words}", row.peer));
        match row.scenarios.get(&name) {
            Some(Outcome::Report(report)) => {
                // The lost are a column of their own there.
                let lost = *scenario == Scenario::Kill;
                report
                    .failures
                    .iter()
                    .filter(|failure| !(lost && failure.ends_with("were lost")))
                    .for_each(|f| note(f));
                report.notes.iter().for_each(|words| note(words));
            }
            Some(Outcome::Skipped(why)) => note(why),
            Some(Outcome::Failed(why)) => note(&format!("failed: {why}")),
            None => {}
        }
    }
    notes
}

/// A whole number, its thousands apart.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::PEERS;

    #[test]
    fn every_figure_has_its_line_with_a_cell_for_every_server() {
        let mut found = Row::new(&PEERS[0], "1".into());
        for scenario in SCENARIOS {
            found.scenarios.insert(scenario.name(), Outcome::Report(Box::default()));
            assert_eq!(headings(*scenario).len(), figures(*scenario, &Report::default()).len());
        }
        let comparison = Comparison { cores: 2, peers: vec![found, Row::new(&PEERS[1], "2".into())] };
        let text = comparison.to_markdown();
        assert!(
            text.lines().count() > SCENARIOS.len() && text.lines().all(|line| line.matches('|').count() == 4),
            "{text}"
        );
        assert!(text.contains("| acked, and lost by kill -9 | 0 of 0 | – |"), "{text}");
    }

    #[test]
    fn what_a_kill_lost_is_a_figure_and_other_faults_are_notes() {
        let mut row = Row::new(&PEERS[0], "1".into());
        let mut report = Report {
            audit: Audit { acked: 50_000, lost: 49_123, duplicated: 2, ..Audit::default() },
            ..Report::default()
        };
        report.judge(&[]);
        row.scenarios.insert(Scenario::Kill.name(), Outcome::Report(Box::new(report)));
        let mut stored = Report { audit: Audit { lost: 3, ..Audit::default() }, ..Report::default() };
        stored.judge(&[]);
        row.scenarios.insert(Scenario::Offline.name(), Outcome::Report(Box::new(stored)));
        row.scenarios.insert(Scenario::Connect.name(), Outcome::Failed("why".into()));
        let text = Comparison { cores: 2, peers: vec![row] }.to_markdown();
        assert!(text.contains("lost by kill -9 | 49,123 of 50,000 |"), "{text}");
        let notes: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("- postrider, ")).collect();
        let expected =
            ["connect: failed: why", "offline: 3 acked messages were lost", "kill: 2 messages were delivered again"];
        assert_eq!(notes, expected);
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0.0, 999.4, 1000.0, 1_234_567.0].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
