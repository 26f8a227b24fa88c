//! Bounds on a report's figures, as a command line gives them.

use std::str::FromStr;

use serde_json::Value;

/// The figures that thresholds may name; the percentiles by `.p50`, `.p99`, `.p999` and `.max`.
pub const FIGURES: &[&str] = &[
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
    "unsent",
    "first_latency_ms",
    "last_latency_ms",
    "spike_latency_ms",
    "logins_per_message",
    "storm_full_s",
    "storm_full_login_ms",
    "storm_full_latency_ms",
    "storm_resumed_s",
    "storm_resumed_login_ms",
    "storm_resumed_latency_ms",
    "connects_per_s",
    "connect_ms",
    "resumed",
    "server_cpu_us_per_connect",
    "server_cpu_us_per_resumed",
    "generator_cpu_us_per_connect",
    "returns",
    "login_retries",
    "kills",
    "longest_restart_s",
    "server_rss_bytes",
    "rss_bytes_per_connection",
    "server_rss_growth_bytes_per_hour",
    "server_data_bytes",
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
    pub(super) fn missed(&self, figures: &Value) -> Option<String> {
        let Self { figure, above, bound } = self;
        let Some(found) = figures.pointer(&format!("/{}", figure.replace('.', "/"))).and_then(Value::as_f64) else {
            return Some(format!("{figure} is bounded by {bound}, and not known in this run"));
        };
        let missed = if *above { found > *bound } else { found < *bound };
        let words = if *above { "above" } else { "below" };
        missed.then(|| format!("{figure} is {found}, {words} {bound}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_understood_or_refused() {
        let threshold: Threshold = "latency_ms.p99 > 50".parse().unwrap();
        assert_eq!(threshold, Threshold { figure: "latency_ms.p99".into(), above: true, bound: 50.0 });
        assert!("messages_per_s<1e5".parse::<Threshold>().is_ok());
        for wrong in ["", "messages_per_s", "messages_per_s<", "mesages_per_s<1", "latency_ms>1", "messages.p99>1"] {
            assert!(wrong.parse::<Threshold>().is_err(), "{wrong}");
        }
    }
}
