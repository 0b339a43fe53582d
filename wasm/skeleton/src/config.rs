//! The environment, checked once at the start.

/// The port when `PORT` is not set: the one that most systems declare.
pub const DEFAULT_PORT: u16 = 8080;

#[derive(Debug, PartialEq, Eq)]
pub struct Config {
    /// `PORT`: where the service listens, on all addresses.
    pub port: u16,
    /// `SYSTEM`: the system that this instance stands in for.
    pub system: String,
}

impl Config {
    /// Reads the variables through `get`; the error names the variable and the way out.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        Ok(Self { port: port(get("PORT"))?, system: system(get("SYSTEM"))? })
    }
}

fn port(value: Option<String>) -> Result<u16, String> {
    let Some(value) = value else {
        return Ok(DEFAULT_PORT);
    };
    match value.parse() {
        // A user without capabilities can't bind the ports below.
        Ok(port) if port >= 1024 => Ok(port),
        _ => Err(format!("PORT is {value:?}: give a number from 1024 to 65535, or leave it unset for {DEFAULT_PORT}")),
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
        Config::from_env(|name| match name {
            "PORT" => port.map(str::to_owned),
            "SYSTEM" => system.map(str::to_owned),
            other => panic!("reads {other}, which nothing declares"),
        })
    }

    #[test]
    fn takes_what_is_set() {
        let config = from(Some("9000"), Some("iot-data-processor")).unwrap();
        assert_eq!(config, Config { port: 9000, system: "iot-data-processor".to_owned() });
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
