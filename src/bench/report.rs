//! What a run found: one object, whose names are a promise to scripts.

use std::time::Duration;

use serde::Serialize;

use super::audit::Audit;
use super::meter::Percentiles;
use super::threshold::Threshold;

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
    /// Messages a second that were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// `connect`: users who had logged in before. `mixed`: users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<u32>,
    /// `fanout`: senders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub senders: Option<u32>,
    /// `fanout`: recipients of each sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipients: Option<u32>,
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
    /// From when a message was meant to be sent until its sender was told delivered; `offline`, `mixed`: until acked.
    /// `reconnect`: of those who stay connected, before the first storm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<Percentiles>,
    /// The part of it before the generator sent. `reconnect`: in the first storm.
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
    /// Messages that were due in the interval and never sent, because their sender was not connected or had no room. They
    /// are in `latency_ms`, as late as the end of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsent: Option<u64>,
    /// `soak`: `latency_ms` of the first tenth of the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_latency_ms: Option<Percentiles>,
    /// `soak`: and of the last tenth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_latency_ms: Option<Percentiles>,
    /// `mixed`: `latency_ms` of the jump at noon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spike_latency_ms: Option<Percentiles>,
    /// `mixed`: how often somebody came, for each message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logins_per_message: Option<f64>,
    /// `reconnect`: from when all had dropped until all were back, with full TLS handshakes, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storm_full_s: Option<f64>,
    /// `reconnect`: how long each needed for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storm_full_login_ms: Option<Percentiles>,
    /// `reconnect`: `latency_ms` of those who stayed connected, meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storm_full_latency_ms: Option<Percentiles>,
    /// `reconnect`: `storm_full_s` with resumed TLS sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storm_resumed_s: Option<f64>,
    /// `reconnect`: how long each needed for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storm_resumed_login_ms: Option<Percentiles>,
    /// `reconnect`: `latency_ms` of those who stayed connected, meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storm_resumed_latency_ms: Option<Percentiles>,
    /// TCP, TLS and login, a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connects_per_s: Option<f64>,
    /// From when a connection was meant to be made until its login was through. `mixed`: of those who come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_ms: Option<Percentiles>,
    /// Of the connections, those whose TLS session resumed an earlier one. `reconnect`: in the second storm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed: Option<u64>,
    /// The server's CPU time per connection that is made, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_us_per_connect: Option<f64>,
    /// `reconnect`: the same with resumed TLS sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_us_per_resumed: Option<f64>,
    /// The generator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator_cpu_us_per_connect: Option<f64>,
    /// Connections that came back by themselves, after a break or an absence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returns: Option<u64>,
    /// Logins that failed and were tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login_retries: Option<u64>,
    /// `--chaos`: how often a server was killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kills: Option<u64>,
    /// `--chaos`: the longest from a kill until the server listened again, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_restart_s: Option<f64>,
    /// The server's resident memory at the end of the interval; of all servers, where the run had several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_rss_bytes: Option<u64>,
    /// What it grew by, per idle connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_bytes_per_connection: Option<f64>,
    /// `soak`: what it grows by an hour, by the later half of the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_rss_growth_bytes_per_hour: Option<f64>,
    /// `--spawn`: what the server's data takes on the disk at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_data_bytes: Option<u64>,
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

/// What memory grows by an hour, by the straight line that fits the later half of these best; in bytes. `None` where
/// there are too few for a line.
#[must_use]
pub fn growth_per_hour(looks: &[(Duration, u64)]) -> Option<f64> {
    let later = &looks[looks.len() / 2..];
    let (first, count) = (later.first()?.0, later.len() as f64);
    let point = |&(at, bytes): &(Duration, u64)| ((at - first).as_secs_f64() / 3600.0, bytes as f64);
    let (hours, bytes) = later.iter().map(point).fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
    let mean = (hours / count, bytes / count);
    let (mut above, mut below) = (0.0, 0.0);
    for (hours, bytes) in later.iter().map(point) {
        above += (hours - mean.0) * (bytes - mean.1);
        below += (hours - mean.0) * (hours - mean.0);
    }
    (below > 0.0).then(|| (above / below).round())
}

/// To one digit behind the point.
#[must_use]
pub fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::threshold::FIGURES;

    /// A report in which nothing is missing.
    fn full() -> Report {
        let percentiles = Some(Percentiles { p50: 1.0, p99: 2.0, p999: 3.0, max: 4.0 });
        Report {
            scenario: "pairs",
            pairs: Some(2),
            window: Some(3),
            rate: Some(4.0),
            users: Some(4),
            senders: Some(1),
            recipients: Some(3),
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
            unsent: Some(1),
            first_latency_ms: percentiles,
            last_latency_ms: percentiles,
            spike_latency_ms: percentiles,
            logins_per_message: Some(0.1),
            storm_full_s: Some(1.0),
            storm_full_login_ms: percentiles,
            storm_full_latency_ms: percentiles,
            storm_resumed_s: Some(1.0),
            storm_resumed_login_ms: percentiles,
            storm_resumed_latency_ms: percentiles,
            connects_per_s: Some(1.0),
            connect_ms: percentiles,
            resumed: Some(0),
            server_cpu_us_per_connect: Some(1.0),
            server_cpu_us_per_resumed: Some(1.0),
            generator_cpu_us_per_connect: Some(1.0),
            returns: Some(1),
            login_retries: Some(1),
            kills: Some(1),
            longest_restart_s: Some(1.0),
            server_rss_bytes: Some(1),
            rss_bytes_per_connection: Some(1.0),
            server_rss_growth_bytes_per_hour: Some(1.0),
            server_data_bytes: Some(1),
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
    fn every_field_is_in_the_documentation() {
        let text = include_str!("../../benches/README.md");
        let json = serde_json::to_value(full()).unwrap();
        let missing = json.as_object().unwrap().keys().filter(|name| !text.contains(&format!("`{name}`")));
        assert_eq!(missing.collect::<Vec<_>>(), Vec::<&String>::new());
    }

    #[test]
    fn growth_is_that_of_the_later_half() {
        let at = |minute: u64, bytes: u64| (Duration::from_secs(60 * minute), bytes);
        let warm: Vec<_> = (0..10).map(|minute| at(minute, 1000 * minute)).collect();
        let steady = (10..20).map(|minute| at(minute, 9_000 + 2 * minute));
        let all: Vec<_> = warm.into_iter().chain(steady).collect();
        assert_eq!(growth_per_hour(&all), Some(120.0));
        assert_eq!((growth_per_hour(&[]), growth_per_hour(&[at(1, 1)])), (None, None));
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
