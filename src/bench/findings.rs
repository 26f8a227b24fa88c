//! What the generator processes of a run found, summed up; and what the run knows of its server at the same moments.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::audit::Audit;
use super::meter::{Meter, Percentiles, Phase, Recorded};
use super::report::{Report, microseconds_each, per_second};

/// A moment of a run that all its processes pass together. In the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Mark {
    /// What is measured begins.
    Begin,
    /// `connect`: all are connected. `offline`: all is stored. `reconnect`: the first storm begins.
    First,
    /// `reconnect`: the first storm is over.
    Second,
    /// `reconnect`: the second storm begins.
    Third,
    /// What is measured ends.
    End,
}

/// What one generator process had counted when it passed a mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Messages done.
    pub messages: u64,
    /// Messages that recipients took.
    pub received: u64,
    /// The process's CPU time, if it is known.
    pub cpu: Option<Duration>,
}

/// What the server had used when a mark was passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// By the run's clock.
    pub at: Duration,
    /// CPU time of all its processes, if it is known.
    pub cpu: Option<Duration>,
    /// Resident memory of all its processes, if it is known.
    pub rss: Option<u64>,
}

/// What generator processes found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Findings {
    /// At each mark.
    pub counted: BTreeMap<Mark, Counted>,
    /// Latencies of each phase.
    pub latencies: BTreeMap<Phase, Recorded>,
    /// The generator's own part of them.
    pub lags: BTreeMap<Phase, Recorded>,
    /// How long logins took, of each phase that has any.
    pub logins: BTreeMap<Phase, Recorded>,
    /// Connections that were made in each of those.
    pub connected: BTreeMap<Phase, u64>,
    /// Of them, those whose TLS session resumed an earlier one.
    pub resumed: BTreeMap<Phase, u64>,
    /// Connections that came back by themselves.
    pub returns: u64,
    /// Logins that failed and were tried again.
    pub retries: u64,
    /// Messages that were due while messages were measured, and were never sent.
    pub unsent: u64,
    /// Whether all adds up.
    pub audit: Audit,
    /// What to know.
    pub notes: Vec<String>,
}

impl Findings {
    /// Adds another process's.
    pub fn merge(&mut self, other: Self) {
        for (mark, counted) in other.counted {
            let sum = self.counted.entry(mark).or_default();
            sum.messages += counted.messages;
            sum.received += counted.received;
            sum.cpu = sum.cpu.map_or(counted.cpu, |cpu| counted.cpu.map(|more| cpu + more));
        }
        for (sums, more) in
            [(&mut self.latencies, other.latencies), (&mut self.lags, other.lags), (&mut self.logins, other.logins)]
        {
            more.into_iter().for_each(|(phase, recorded)| sums.entry(phase).or_default().merge(recorded));
        }
        for (sums, more) in [(&mut self.connected, other.connected), (&mut self.resumed, other.resumed)] {
            more.into_iter().for_each(|(phase, count)| *sums.entry(phase).or_default() += count);
        }
        self.returns += other.returns;
        self.retries += other.retries;
        self.unsent += other.unsent;
        self.audit.merge(&other.audit);
        for note in other.notes {
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
    }

    /// Takes over what the meter has.
    pub fn read(&mut self, meter: &Meter) {
        for phase in Phase::ALL {
            self.latencies.insert(phase, meter.latencies(phase));
            self.lags.insert(phase, meter.lags(phase));
        }
        (self.returns, self.retries) = meter.returns_and_retries();
    }
}

/// A run that is over: everything that a report is made of.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// By the generator.
    pub by_generator: Findings,
    /// Of the server, at each mark.
    pub of_server: BTreeMap<Mark, Used>,
}

/// What lies between two marks.
#[derive(Clone, Copy, Debug)]
pub struct Between {
    /// How long it took.
    pub took: Duration,
    /// Messages done.
    pub messages: u64,
    /// Messages that recipients took.
    pub received: u64,
    /// The server's CPU time.
    pub server_cpu: Option<Duration>,
    /// The generator's.
    pub own_cpu: Option<Duration>,
}

impl Found {
    /// What lies between two marks that were passed.
    #[must_use]
    pub fn between(&self, from: Mark, to: Mark) -> Between {
        let counted = |mark| self.by_generator.counted.get(&mark).copied().unwrap_or_default();
        let (before, after) = (counted(from), counted(to));
        let (used, later) = (self.used(from), self.used(to));
        let grown = |before: Option<Duration>, after: Option<Duration>| Some(after?.saturating_sub(before?));
        Between {
            took: later.at.saturating_sub(used.at),
            messages: after.messages.saturating_sub(before.messages),
            received: after.received.saturating_sub(before.received),
            server_cpu: grown(used.cpu, later.cpu),
            own_cpu: grown(before.cpu, after.cpu),
        }
    }

    /// What the server had used at a mark.
    #[must_use]
    pub fn used(&self, mark: Mark) -> Used {
        self.of_server.get(&mark).copied().unwrap_or_default()
    }

    /// Latencies of a phase.
    #[must_use]
    pub fn latencies(&self, phase: Phase) -> Option<Percentiles> {
        self.by_generator.latencies.get(&phase)?.percentiles()
    }

    /// Logins of a phase.
    #[must_use]
    pub fn logins(&self, phase: Phase) -> Option<Percentiles> {
        self.by_generator.logins.get(&phase)?.percentiles()
    }

    /// Connections made in a phase.
    #[must_use]
    pub fn connected(&self, phase: Phase) -> u64 {
        self.by_generator.connected.get(&phase).copied().unwrap_or_default()
    }

    /// Of them, those whose TLS session resumed an earlier one.
    #[must_use]
    pub fn resumed(&self, phase: Phase) -> u64 {
        self.by_generator.resumed.get(&phase).copied().unwrap_or_default()
    }

    /// What every report has, of the interval between [`Mark::Begin`] and [`Mark::End`].
    #[must_use]
    pub fn report(&self, scenario: &'static str, connections: u64) -> Report {
        let whole = self.between(Mark::Begin, Mark::End);
        let Findings { returns, retries, unsent, audit, notes, .. } = &self.by_generator;
        let told = |count: u64| Some(count).filter(|count| *count > 0);
        Report {
            scenario,
            connections,
            duration_s: whole.took.as_secs_f64(),
            server_rss_bytes: self.used(Mark::End).rss,
            returns: told(*returns),
            login_retries: told(*retries),
            unsent: told(*unsent),
            audit: *audit,
            notes: notes.clone(),
            ..Report::default()
        }
    }

    /// The same for messages: how many, how fast, what they cost.
    #[must_use]
    pub fn report_of_messages(&self, scenario: &'static str, connections: u64) -> Report {
        let Between { took, messages, server_cpu, own_cpu, .. } = self.between(Mark::Begin, Mark::End);
        Report {
            messages: Some(messages),
            messages_per_s: per_second(messages, took),
            server_cpu_us_per_message: microseconds_each(server_cpu, messages),
            generator_cpu_us_per_message: microseconds_each(own_cpu, messages),
            latency_ms: self.latencies(Phase::Main),
            generator_lag_ms: self.by_generator.lags.get(&Phase::Main).and_then(Recorded::percentiles),
            ..self.report(scenario, connections)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(messages: u64, cpu: u64) -> Counted {
        Counted { messages, received: 2 * messages, cpu: Some(Duration::from_secs(cpu)) }
    }

    #[test]
    fn what_several_processes_counted_adds_up_between_two_marks() {
        let of = |begin, end| Findings {
            counted: [(Mark::Begin, begin), (Mark::End, end)].into(),
            connected: [(Phase::Main, 3)].into(),
            notes: vec!["same".into()],
            ..Findings::default()
        };
        let mut all = Findings::default();
        all.merge(of(counted(10, 1), counted(110, 2)));
        all.merge(of(counted(20, 1), counted(220, 4)));
        let used = |at, cpu| Used { at: Duration::from_secs(at), cpu: Some(Duration::from_secs(cpu)), rss: None };
        let of_server = [(Mark::Begin, used(5, 3)), (Mark::End, used(15, 6))].into();
        let found = Found { by_generator: all, of_server };
        let Between { took, messages, received, server_cpu, own_cpu } = found.between(Mark::Begin, Mark::End);
        let seconds = [Some(took), server_cpu, own_cpu].map(|time| time.unwrap().as_secs());
        assert_eq!((messages, received, seconds), (300, 600, [10, 3, 4]));
        assert_eq!((found.connected(Phase::Main), found.by_generator.notes.len()), (6, 1));
        let report = found.report_of_messages("pairs", 4);
        assert_eq!((report.messages_per_s, report.server_cpu_us_per_message), (Some(30.0), Some(10_000.0)));
    }
}
