//! The environment, checked once at the start.

/// The port when `PORT` is not set: the one that most systems declare.
pub const DEFAULT_PORT: u16 = 8080;
/// The buckets of the latency histogram when `LATENCY_BUCKETS_MS` is not set.
const DEFAULT_BUCKETS_MS: [f64; 8] = [1.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 1000.0];

#[derive(Debug, PartialEq)]
pub struct Config {
    /// `PORT`: where the service listens, on all addresses.
    pub port: u16,
    /// `SYSTEM`: the system that this instance stands in for.
    pub system: String,
    /// `METRICS_PORT`: where Prometheus asks; nowhere, when it is not set.
    pub metrics_port: Option<u16>,
    /// `LATENCY_BUCKETS_MS`: upper bounds of the latency histogram's buckets in milliseconds, ascending.
    pub latency_buckets_ms: Vec<f64>,
}

impl Config {
    /// The defaults, for a system.
    pub fn of(system: &str) -> Self {
        let latency_buckets_ms = DEFAULT_BUCKETS_MS.to_vec();
        Self { port: DEFAULT_PORT, system: system.to_owned(), metrics_port: None, latency_buckets_ms }
    }

    /// Reads the variables through `get`; the error names the variable and the way out.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut config = Self::of(&system(get("SYSTEM"))?);
        if let Some(port) = port("PORT", get("PORT"), &DEFAULT_PORT.to_string())? {
            config.port = port;
        }
        config.metrics_port = port("METRICS_PORT", get("METRICS_PORT"), "no metrics")?;
        if config.metrics_port == Some(config.port) {
            return Err(format!("METRICS_PORT is {}, which is the service's own: give it another", config.port));
        }
        if let Some(bounds) = buckets(get("LATENCY_BUCKETS_MS"))? {
            config.latency_buckets_ms = bounds;
        }
        Ok(config)
    }
}

fn port(name: &str, value: Option<String>, unset: &str) -> Result<Option<u16>, String> {
    let Some(value) = value else {
        return Ok(None);
    };
    match value.parse() {
        // A user without capabilities can't bind the ports below.
        Ok(port) if port >= 1024 => Ok(Some(port)),
        _ => Err(format!("{name} is {value:?}: give a number from 1024 to 65535, or leave it unset for {unset}")),
    }
}

fn buckets(value: Option<String>) -> Result<Option<Vec<f64>>, String> {
    let Some(value) = value else {
        return Ok(None);
    };
    let bounds: Option<Vec<f64>> = value.split(',').map(|bound| bound.trim().parse().ok()).collect();
    match bounds {
        Some(bounds)
            if bounds[0] > 0.0 && bounds.is_sorted_by(|a, b| a < b) && bounds.iter().all(|b| b.is_finite()) =>
        {
            Ok(Some(bounds))
        }
        _ => Err(format!(
            "LATENCY_BUCKETS_MS is {value:?}: give ascending milliseconds such as 1,5,20, or leave it unset"
        )),
    }
}

fn system(value: Option<String>) -> Result<String, String> {
    let Some(value) = value else {
        return Err("SYSTEM is not set: give the name of the system, e.g. SYSTEM=examination-system".to_owned());
    };
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edges = value.starts_with('-') || value.ends_with('-');
    if value.is_empty() || value.len() > 63 || edges || !value.chars().all(allowed) {
        return Err(format!("SYSTEM is {value:?}: give 1 to 63 of a-z, 0-9 and '-', without '-' at the ends"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(port: Option<&str>, system: Option<&str>) -> Result<Config, String> {
        reading(&[("PORT", port), ("SYSTEM", system)])
    }

    fn reading(given: &[(&str, Option<&str>)]) -> Result<Config, String> {
        Config::from_env(|name| {
            assert!(
                ["PORT", "SYSTEM", "METRICS_PORT", "LATENCY_BUCKETS_MS"].contains(&name),
                "nothing declares {name}"
            );
            given.iter().find(|(key, _)| *key == name)?.1.map(str::to_owned)
        })
    }

    #[test]
    fn takes_what_is_set() {
        let config = from(Some("9000"), Some("iot-data-processor")).unwrap();
        assert_eq!(config, Config { port: 9000, ..Config::of("iot-data-processor") });
    }

    #[test]
    fn metrics_are_told_where_and_how() {
        let given = [("SYSTEM", Some("x")), ("METRICS_PORT", Some("9100")), ("LATENCY_BUCKETS_MS", Some("0.5, 20,30"))];
        let config = reading(&given).unwrap();
        assert_eq!(config.metrics_port, Some(9100));
        assert_eq!(config.latency_buckets_ms, [0.5, 20.0, 30.0]);
    }

    #[test]
    fn bad_metrics_settings_are_refused_by_name() {
        for (name, bad) in [
            ("METRICS_PORT", "80"),
            ("METRICS_PORT", "8080"),
            ("LATENCY_BUCKETS_MS", ""),
            ("LATENCY_BUCKETS_MS", "20,20"),
            ("LATENCY_BUCKETS_MS", "0,20"),
            ("LATENCY_BUCKETS_MS", "20,inf"),
            ("LATENCY_BUCKETS_MS", "NaN"),
            ("LATENCY_BUCKETS_MS", "20ms"),
        ] {
            let error = reading(&[("SYSTEM", Some("x")), (name, Some(bad))]).unwrap_err();
            assert!(error.starts_with(&format!("{name} is ")), "{bad}: {error}");
        }
    }

    #[test]
    fn the_port_has_a_default() {
        assert_eq!(from(None, Some("x")).unwrap().port, DEFAULT_PORT);
    }

    #[test]
    fn bad_ports_are_refused_by_name() {
        for bad in ["", "0", "80", "1023", "65536", "http", " 8080", "-1"] {
            let error = from(Some(bad), Some("x")).unwrap_err();
            assert!(error.starts_with(&format!("PORT is {bad:?}")), "{error}");
        }
    }

    #[test]
    fn a_missing_system_is_refused_by_name() {
        assert!(from(None, None).unwrap_err().starts_with("SYSTEM is not set"));
    }

    #[test]
    fn bad_systems_are_refused_by_name() {
        let long = "a".repeat(64);
        for bad in ["", "Exam", "a_b", "a b", "-a", "a-", "a\n", long.as_str()] {
            let error = from(None, Some(bad)).unwrap_err();
            assert!(error.starts_with(&format!("SYSTEM is {bad:?}")), "{error}");
        }
    }
}
