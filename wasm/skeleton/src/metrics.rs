//! How many requests there were, how they ended and how long they took, in the text format that Prometheus reads.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::config::Config;
use crate::platform;

// Which system it is, Prometheus knows from where it asks: a label of the same name would only be in the way.

/// The content type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub struct Metrics {
    /// Upper bounds of the buckets, in milliseconds and ascending.
    bounds: Vec<f64>,
    /// One more than the bounds: the last bucket has none. Not cumulative: that is made when they are written.
    buckets: Vec<u64>,
    seconds: f64,
    by_code: BTreeMap<u16, u64>,
}

impl Metrics {
    pub fn new(config: &Config) -> Self {
        let bounds = config.latency_buckets_ms.clone();
        let buckets = vec![0; bounds.len() + 1];
        Self { bounds, buckets, seconds: 0.0, by_code: BTreeMap::new() }
    }

    /// Counts one answered request.
    pub fn observe(&mut self, status: u16, took: Duration) {
        let seconds = took.as_secs_f64();
        let place = self.bounds.partition_point(|bound| *bound < seconds * 1000.0);
        self.buckets[place] += 1;
        self.seconds += seconds;
        *self.by_code.entry(status).or_default() += 1;
    }

    pub fn exposition(&self) -> String {
        let mut text = String::with_capacity(2048);
        self.write(&mut text).expect("a String takes everything");
        text
    }

    fn write(&self, to: &mut String) -> std::fmt::Result {
        writeln!(to, "# HELP edgefleet_service_info Which service answers, and on what.")?;
        writeln!(to, "# TYPE edgefleet_service_info gauge")?;
        let (service, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        let platform = platform::NAME;
        writeln!(
            to,
            "edgefleet_service_info{{service=\"{service}\",version=\"{version}\",platform=\"{platform}\"}} 1"
        )?;
        writeln!(to, "# HELP edgefleet_requests_total Answered requests by status code, probes left out.")?;
        writeln!(to, "# TYPE edgefleet_requests_total counter")?;
        for (code, count) in &self.by_code {
            writeln!(to, "edgefleet_requests_total{{code=\"{code}\"}} {count}")?;
        }
        self.write_histogram(to)
    }

    fn write_histogram(&self, to: &mut String) -> std::fmt::Result {
        let name = "edgefleet_request_duration_seconds";
        writeln!(to, "# HELP {name} From a whole request read to its response handed over, probes left out.")?;
        writeln!(to, "# TYPE {name} histogram")?;
        let mut below = 0;
        for (bound, count) in self.bounds.iter().zip(&self.buckets) {
            below += count;
            writeln!(to, "{name}_bucket{{le=\"{}\"}} {below}", bound / 1000.0)?;
        }
        let all: u64 = self.buckets.iter().sum();
        writeln!(to, "{name}_bucket{{le=\"+Inf\"}} {all}")?;
        writeln!(to, "{name}_sum {}", self.seconds)?;
        writeln!(to, "{name}_count {all}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(&Config { latency_buckets_ms: vec![2.5, 20.0], ..Config::of("demo") })
    }

    fn value(text: &str, series: &str) -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
    }

    #[test]
    fn a_request_on_a_bound_belongs_to_its_bucket() {
        let mut metrics = metrics();
        for micros in [2_500, 2_501, 20_000, 90_000] {
            metrics.observe(200, Duration::from_micros(micros));
        }
        let text = metrics.exposition();
        let bucket = |le: &str| value(&text, &format!("edgefleet_request_duration_seconds_bucket{{le=\"{le}\"}}"));
        assert_eq!([bucket("0.0025"), bucket("0.02"), bucket("+Inf")], [1.0, 3.0, 4.0]);
        assert_eq!(value(&text, "edgefleet_request_duration_seconds_count"), 4.0);
        let sum = value(&text, "edgefleet_request_duration_seconds_sum");
        assert!((sum - 0.115_001).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn requests_are_counted_by_code() {
        let mut metrics = metrics();
        for status in [200, 404, 200] {
            metrics.observe(status, Duration::ZERO);
        }
        let text = metrics.exposition();
        assert_eq!(value(&text, "edgefleet_requests_total{code=\"200\"}"), 2.0);
        assert_eq!(value(&text, "edgefleet_requests_total{code=\"404\"}"), 1.0);
    }

    #[test]
    fn before_the_first_request_there_is_a_histogram_of_nothing() {
        let text = metrics().exposition();
        assert_eq!(value(&text, "edgefleet_request_duration_seconds_count"), 0.0);
        assert!(text.contains("edgefleet_service_info{service=\"skeleton\","), "{text}");
        assert!(text.ends_with('\n'));
    }
}
