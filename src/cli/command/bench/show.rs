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
    rows(report).iter().try_for_each(|(name, figure)| print::line(&format!("{name:<12} {figure}")))
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
    row("of it ours", report.generator_lag_ms.map(percentiles));
    row("server CPU", each(report.server_cpu_us_per_message).map(|each| format!("{each} a message")));
    row("own CPU", each(report.generator_cpu_us_per_message).map(|each| format!("{each} a message")));
    row("memory", memory(report));
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
    format!("{scenario}: {connections} connections{pairs}{window}{rate}{size}")
}

fn with_cpu(rate: Option<f64>, us: Option<f64>) -> Option<String> {
    let cpu = us.map(|us| format!(", {us} µs of the server's CPU each")).unwrap_or_default();
    rate.map(|rate| format!("{rate:.0}/s{cpu}"))
}

fn percentiles(Percentiles { p50, p99, p999, max }: Percentiles) -> String {
    format!("p50 {p50} ms, p99 {p99} ms, p99.9 {p999} ms, max {max} ms")
}

fn memory(report: &Report) -> Option<String> {
    let mebibytes = report.server_rss_bytes? as f64 / f64::from(1 << 20);
    let each = report.rss_bytes_per_connection.map(|each| format!(", {:.1} KiB a connection", each / 1024.0));
    Some(format!("{mebibytes:.1} MiB{}", each.unwrap_or_default()))
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
