//! What a run found: one object, whose names are a promise to scripts.

use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::audit::Audit;
use super::meter::Percentiles;

/// What a run found. A figure that does not apply, or cannot be known here, is not there.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Which scenario.
    pub scenario: &'static str,
    /// Pairs of a sender and a recipient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairs: Option<u32>,
    /// Messages in flight per pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// Messages or connections a second that were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Connections that were held at once.
    pub connections: u64,
    /// Bytes of a message's content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// The measured interval, in seconds.
    pub duration_s: f64,
    /// Messages done in the interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    /// Those, a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_per_s: Option<f64>,
    /// The server's CPU time per message, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_us_per_message: Option<f64>,
    /// The generator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator_cpu_us_per_message: Option<f64>,
    /// From when a message was meant to be sent until its sender was told delivered; `offline`: until acked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<Percentiles>,
    /// The part of it before the generator sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator_lag_ms: Option<Percentiles>,
    /// Messages acked a second while their recipients were away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored_per_s: Option<f64>,
    /// The server's CPU time for each of them, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_us_per_stored: Option<f64>,
    /// Messages delivered a second when their recipients came, logins included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drained_per_s: Option<f64>,
    /// The server's CPU time for each of them, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_us_per_drained: Option<f64>,
    /// TCP, TLS and login, a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connects_per_s: Option<f64>,
    /// From when a connection was meant to be made until its login was through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_ms: Option<Percentiles>,
    /// Of the connections, those whose TLS session resumed an earlier one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed: Option<u64>,
    /// The server's CPU time per connection, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_us_per_connect: Option<f64>,
    /// The server's resident memory at the end of the interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_rss_bytes: Option<u64>,
    /// What it grew by, per idle connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_bytes_per_connection: Option<f64>,
    /// Whether all adds up, over the whole run.
    #[serde(flatten)]
    pub audit: Audit,
    /// What to know when reading the figures.
    pub notes: Vec<String>,
    /// Faults, and thresholds that were missed; empty when all is well.
    pub failures: Vec<String>,
}

impl Report {
    /// Adds what the audit and the thresholds find to the failures.
    pub fn judge(&mut self, thresholds: &[Threshold]) {
        self.failures.extend(self.audit.faults());
        // A report is numbers, strings and lists: JSON can hold it.
        let figures = serde_json::to_value(&*self).unwrap_or_default();
        self.failures.extend(thresholds.iter().filter_map(|threshold| threshold.missed(&figures)));
    }
}

/// The figures that thresholds may name; the percentiles by `.p50`, `.p99`, `.p999` and `.max`.
const FIGURES: &[&str] = &[
    "messages",
    "messages_per_s",
    "server_cpu_us_per_message",
    "generator_cpu_us_per_message",
    "latency_ms",
    "generator_lag_ms",
    "stored_per_s",
    "server_cpu_us_per_stored",
    "drained_per_s",
    "server_cpu_us_per_drained",
    "connects_per_s",
    "connect_ms",
    "server_cpu_us_per_connect",
    "server_rss_bytes",
    "rss_bytes_per_connection",
];

const PERCENTILES: &[&str] = &["p50", "p99", "p999", "max"];

/// A bound on a figure, as in `latency_ms.p99>50`: what must not be.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    figure: String,
    above: bool,
    bound: f64,
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = text.find(['<', '>']).ok_or("say FIGURE>NUMBER or FIGURE<NUMBER, such as latency_ms.p99>50")?;
        let (figure, above) = (text[..at].trim().to_owned(), text[at..].starts_with('>'));
        let bound = text[at + 1..].trim().parse::<f64>().ok().filter(|bound| bound.is_finite());
        let bound = bound.ok_or_else(|| format!("`{}` is not a number", &text[at + 1..]))?;
        let (name, part) = figure.split_once('.').map_or((figure.as_str(), None), |(name, part)| (name, Some(part)));
        let fits = FIGURES.contains(&name)
            && match part {
                Some(part) => name.ends_with("_ms") && PERCENTILES.contains(&part),
                None => !name.ends_with("_ms"),
            };
        if !fits {
            let names = FIGURES.join(", ");
            return Err(format!("`{figure}` is no figure: {names}; those in _ms with .{}", PERCENTILES.join(" or .")));
        }
        Ok(Self { figure, above, bound })
    }
}

impl Threshold {
    /// What is wrong, in a line. A figure that is not known is wrong: nobody would notice.
    fn missed(&self, figures: &Value) -> Option<String> {
        let Self { figure, above, bound } = self;
        let Some(found) = figures.pointer(&format!("/{}", figure.replace('.', "/"))).and_then(Value::as_f64) else {
            return Some(format!("{figure} is bounded by {bound}, and not known in this run"));
        };
        let missed = if *above { found > *bound } else { found < *bound };
        let words = if *above { "above" } else { "below" };
        missed.then(|| format!("{figure} is {found}, {words} {bound}"))
    }
}

/// So many in that time, a second.
#[must_use]
pub fn per_second(count: u64, time: Duration) -> Option<f64> {
    (!time.is_zero()).then(|| tenths(count as f64 / time.as_secs_f64()))
}

/// That CPU time over so many, in microseconds.
#[must_use]
pub fn microseconds_each(cpu: Option<Duration>, count: u64) -> Option<f64> {
    let cpu = cpu.filter(|_| count > 0)?;
    Some((cpu.as_secs_f64() * 1e8 / count as f64).round() / 100.0)
}

/// To one digit behind the point.
#[must_use]
pub fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report in which nothing is missing.
    fn full() -> Report {
        let percentiles = Some(Percentiles { p50: 1.0, p99: 2.0, p999: 3.0, max: 4.0 });
        Report {
            scenario: "pairs",
            pairs: Some(2),
            window: Some(3),
            rate: Some(4.0),
            connections: 4,
            size: Some(100),
            duration_s: 10.0,
            messages: Some(100),
            messages_per_s: Some(10.0),
            server_cpu_us_per_message: Some(1.0),
            generator_cpu_us_per_message: Some(1.0),
            latency_ms: percentiles,
            generator_lag_ms: percentiles,
            stored_per_s: Some(1.0),
            server_cpu_us_per_stored: Some(1.0),
            drained_per_s: Some(1.0),
            server_cpu_us_per_drained: Some(1.0),
            connects_per_s: Some(1.0),
            connect_ms: percentiles,
            resumed: Some(0),
            server_cpu_us_per_connect: Some(1.0),
            server_rss_bytes: Some(1),
            rss_bytes_per_connection: Some(1.0),
            ..Report::default()
        }
    }

    #[test]
    fn the_object_has_the_names_that_scripts_rely_on() {
        let json = serde_json::to_value(full()).unwrap();
        for name in FIGURES.iter().chain(&["lost", "duplicated", "reordered", "sent", "acked", "failures", "notes"]) {
            assert!(json.get(name).is_some(), "{name}");
        }
        assert_eq!(json["latency_ms"], serde_json::json!({"p50": 1.0, "p99": 2.0, "p999": 3.0, "max": 4.0}));
        let empty = serde_json::to_value(Report::default()).unwrap();
        assert!(FIGURES.iter().all(|name| empty.get(name).is_none()), "{empty}");
        assert_eq!(empty["lost"], 0);
    }

    #[test]
    fn thresholds_are_understood_or_refused() {
        let threshold: Threshold = "latency_ms.p99 > 50".parse().unwrap();
        assert_eq!(threshold, Threshold { figure: "latency_ms.p99".into(), above: true, bound: 50.0 });
        assert!("messages_per_s<1e5".parse::<Threshold>().is_ok());
        for wrong in ["", "messages_per_s", "messages_per_s<", "mesages_per_s<1", "latency_ms>1", "messages.p99>1"] {
            assert!(wrong.parse::<Threshold>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_threshold_that_is_missed_or_cannot_be_held_is_a_failure() {
        let judged = |report: Report, threshold: &str| {
            let mut report = report;
            report.judge(&[threshold.parse().unwrap()]);
            report.failures
        };
        assert_eq!(judged(full(), "latency_ms.p99>1.5"), ["latency_ms.p99 is 2.0, above 1.5".replace("2.0", "2")]);
        assert!(judged(full(), "latency_ms.p99>2").is_empty());
        assert_eq!(judged(full(), "messages_per_s<11").len(), 1);
        assert_eq!(judged(Report::default(), "messages_per_s<1").len(), 1);
        let lossy = Report { audit: Audit { lost: 2, ..Audit::default() }, ..full() };
        assert_eq!(judged(lossy, "messages_per_s<1"), ["2 acked messages were lost"]);
    }
}
