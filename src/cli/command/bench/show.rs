//! The report, for people.

use std::io;

use crate::bench::meter::Percentiles;
use crate::bench::report::Report;
use crate::cli::print;

/// Prints it.
///
/// # Errors
/// When stdout cannot be written.
pub fn show(report: &Report) -> io::Result<()> {
    rows(report).iter().try_for_each(|(name, figure)| print::line(&format!("{name:<14} {figure}")))
}

fn rows(report: &Report) -> Vec<(&'static str, String)> {
    let Report { audit, .. } = report;
    let each = |us: Option<f64>| us.map(|us| format!("{us} µs"));
    let mut rows = vec![("scenario", scenario(report))];
    let mut row = |name, figure: Option<String>| rows.extend(figure.map(|figure| (name, figure)));
    row("messages", report.messages_per_s.map(|rate| format!("{rate:.0}/s in {:.1} s", report.duration_s)));
    row("stored", with_cpu(report.stored_per_s, report.server_cpu_us_per_stored));
    row("drained", with_cpu(report.drained_per_s, report.server_cpu_us_per_drained));
    row("connects", with_cpu(report.connects_per_s, report.server_cpu_us_per_connect));
    row("login", report.connect_ms.map(percentiles));
    row("latency", report.latency_ms.map(percentiles));
    row("at first", report.first_latency_ms.map(percentiles));
    row("at last", report.last_latency_ms.map(percentiles));
    row("in the jump", report.spike_latency_ms.map(percentiles));
    row("storm", report.storm_full_s.map(|s| format!("all back after {s} s, full handshakes")));
    row("· login", report.storm_full_login_ms.map(percentiles));
    row("· bystanders", report.storm_full_latency_ms.map(percentiles));
    row("storm", resumed_storm(report));
    row("· login", report.storm_resumed_login_ms.map(percentiles));
    row("· bystanders", report.storm_resumed_latency_ms.map(percentiles));
    row("of it ours", report.generator_lag_ms.map(percentiles));
    row("server CPU", each(report.server_cpu_us_per_message).map(|each| format!("{each} a message")));
    row("own CPU", each(report.generator_cpu_us_per_message).map(|each| format!("{each} a message")));
    row("memory", memory(report));
    row("not sent", report.unsent.map(|unsent| format!("{unsent} messages that were due")));
    row("kills", report.kills.map(|kills| killed(kills, report.longest_restart_s)));
    row("came back", report.returns.map(|returns| format!("{returns} times")));
    row("logins", report.login_retries.map(|retries| format!("{retries} failed and were tried again")));
    let messages = format!(
        "{} sent, {} acked, {} received, {} told delivered; lost {}, duplicated {}, reordered {}",
        audit.sent, audit.acked, audit.received, audit.delivered, audit.lost, audit.duplicated, audit.reordered
    );
    row("audit", (audit.sent > 0).then_some(messages));
    rows.extend(report.notes.iter().map(|note| ("note", print::escape(note).into_owned())));
    rows
}

fn scenario(report: &Report) -> String {
    let Report { scenario, connections, pairs, window, rate, size, .. } = report;
    let part =
        |number: Option<String>, words: &str| number.map(|number| format!(", {number} {words}")).unwrap_or_default();
    let pairs = part(pairs.map(|pairs| pairs.to_string()), "pairs");
    let window = part(window.map(|window| window.to_string()), "in flight each");
    let rate = part(rate.map(|rate| rate.to_string()), "a second");
    let size = part(size.map(|size| size.to_string()), "bytes a message");
    let users = part(report.users.map(|users| users.to_string()), "users");
    let fanout = report.senders.zip(report.recipients);
    let fanout = part(fanout.map(|(senders, each)| format!("{senders} to {each}")), "recipients each");
    format!("{scenario}: {connections} connections{users}{fanout}{pairs}{window}{rate}{size}")
}

fn with_cpu(rate: Option<f64>, us: Option<f64>) -> Option<String> {
    let cpu = us.map(|us| format!(", {us} µs of the server's CPU each")).unwrap_or_default();
    rate.map(|rate| format!("{rate:.0}/s{cpu}"))
}

fn percentiles(Percentiles { p50, p99, p999, max }: Percentiles) -> String {
    format!("p50 {p50} ms, p99 {p99} ms, p99.9 {p999} ms, max {max} ms")
}

fn resumed_storm(report: &Report) -> Option<String> {
    let cpu = report.server_cpu_us_per_resumed.map(|us| format!(", {us} µs of the server's CPU each"));
    let resumed = report.resumed.unwrap_or_default();
    let words = |s| format!("all back after {s} s, {resumed} resumed{}", cpu.unwrap_or_default());
    report.storm_resumed_s.map(words)
}

fn killed(kills: u64, longest: Option<f64>) -> String {
    let longest = longest.filter(|_| kills > 0).map(|s| format!(", the longest restart took {s:.2} s"));
    format!("{kills}{}", longest.unwrap_or_default())
}

fn memory(report: &Report) -> Option<String> {
    let mebibytes = report.server_rss_bytes? as f64 / f64::from(1 << 20);
    let each = report.rss_bytes_per_connection.map(|each| format!(", {:.1} KiB a connection", each / 1024.0));
    let growth = report.server_rss_growth_bytes_per_hour;
    let growth = growth.map(|bytes| format!(", {:+.1} MiB an hour", bytes / f64::from(1 << 20)));
    let disk = report.server_data_bytes.map(|bytes| format!("; {:.1} MiB on disk", bytes as f64 / f64::from(1 << 20)));
    let words = [each, growth, disk].map(Option::unwrap_or_default).concat();
    Some(format!("{mebibytes:.1} MiB{words}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_shown() {
        let report = Report { scenario: "connect", connections: 5, connects_per_s: Some(2.0), ..Report::default() };
        assert_eq!(rows(&report), [("scenario", "connect: 5 connections".into()), ("connects", "2/s".into())]);
    }
}
