//! What the service answers.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::config::Config;
use crate::http::{Request, Response};
use crate::metrics::{self, Metrics};
use crate::platform;

/// The largest `/work?n=`: about 10 ms of one core ahead of time, and a bound on what one request can cost.
pub const MAX_WORK: u32 = 30;
const DEFAULT_WORK: u32 = 20;
const MAX_NONCE: usize = 64;

/// The kubelet asks there every few seconds: counted with the others, it would hide what users see.
const PROBES: [&str; 2] = ["/healthz", "/readyz"];

pub struct Service {
    system: String,
    started: Instant,
    metrics: Metrics,
}

/// Whose requests come in at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Users,
    Metrics,
}

impl Service {
    pub fn new(config: &Config) -> Self {
        Self { system: config.system.clone(), started: Instant::now(), metrics: Metrics::new(config) }
    }

    /// Whether a request is one of those that the metrics are about.
    pub fn counts(&self, door: Door, request: &Request<'_>) -> bool {
        door == Door::Users && !PROBES.contains(&request.path)
    }

    /// A request that counts has been answered.
    pub fn answered(&mut self, status: u16, took: Duration) {
        self.metrics.observe(status, took);
    }

    pub fn respond(&self, door: Door, request: &Request<'_>) -> Response {
        match door {
            Door::Users => self.respond_to_users(request),
            Door::Metrics => self.respond_to_prometheus(request),
        }
    }

    fn respond_to_prometheus(&self, request: &Request<'_>) -> Response {
        match (request.path, request.method) {
            ("/metrics", "GET" | "HEAD") => {
                let body = self.metrics.exposition().into_bytes();
                Response { status: 200, content_type: metrics::CONTENT_TYPE, body }
            }
            ("/metrics", _) => Response::method_not_allowed(),
            _ => Response::error(404, "not /metrics"),
        }
    }

    fn respond_to_users(&self, request: &Request<'_>) -> Response {
        match (request.path, request.method) {
            ("/" | "/healthz" | "/readyz" | "/work", "GET" | "HEAD") => {}
            ("/" | "/healthz" | "/readyz" | "/work", _) => return Response::method_not_allowed(),
            _ => return Response::error(404, "not one of /, /healthz, /readyz, /work"),
        }
        match request.path {
            "/" => self.identity(request),
            "/work" => work(request),
            // There is no back end to wait for: a service that answers is ready.
            _ => Response::text(200, "ok"),
        }
    }

    /// Who answers. The caller's nonce shows that the answer was made for this request.
    fn identity(&self, request: &Request<'_>) -> Response {
        let nonce = request.parameter("nonce");
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        if nonce.is_some_and(|n| n.is_empty() || n.len() > MAX_NONCE || !n.chars().all(plain)) {
            return Response::error(400, "nonce: 1 to 64 of A-Z, a-z, 0-9, '-', '.', '_', '~'");
        }
        Response::json(
            200,
            &json!({
                "service": env!("CARGO_PKG_NAME"),
                "version": env!("CARGO_PKG_VERSION"),
                "skeleton": true,
                "system": self.system,
                "platform": platform::NAME,
                "nonce": nonce,
                "uptime_seconds": self.started.elapsed().as_secs_f64(),
            }),
        )
    }
}

/// Work for the processor, of a size that the caller chooses.
fn work(request: &Request<'_>) -> Response {
    let n = match request.parameter("n") {
        None => DEFAULT_WORK,
        Some(text) => match text.parse() {
            Ok(n) if n <= MAX_WORK => n,
            _ => return Response::error(400, &format!("n: a number from 0 to {MAX_WORK}")),
        },
    };
    let begin = Instant::now();
    let result = fib(black_box(n));
    Response::json(200, &json!({ "n": n, "fib": result, "microseconds": begin.elapsed().as_micros() as u64 }))
}

/// Recursive on purpose: it is calls and additions that an interpreter is slow at.
fn fib(n: u32) -> u32 {
    if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo() -> Service {
        Service::new(&Config::of("demo"))
    }

    fn get(target: &str) -> (u16, serde_json::Value) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let response = demo().respond(Door::Users, &Request { method: "GET", path, query });
        (response.status, serde_json::from_slice(&response.body).unwrap_or_default())
    }

    #[test]
    fn identity_says_that_it_is_a_skeleton_and_echoes_the_nonce() {
        let (status, body) = get("/?nonce=a1-._~");
        assert_eq!(status, 200);
        assert_eq!(body["service"], "skeleton");
        assert_eq!(body["system"], "demo");
        assert_eq!(body["skeleton"], true);
        assert_eq!(body["platform"], "native");
        assert_eq!(body["nonce"], "a1-._~");
        assert!(body["uptime_seconds"].as_f64().unwrap() >= 0.0);
    }

    #[test]
    fn identity_without_nonce_says_so() {
        assert!(get("/").1["nonce"].is_null());
    }

    #[test]
    fn a_nonce_that_is_none_is_refused() {
        let long = format!("/?nonce={}", "a".repeat(65));
        for bad in ["/?nonce=", "/?nonce=a%20b", "/?nonce=<b>", long.as_str()] {
            let (status, body) = get(bad);
            assert_eq!(status, 400, "{bad}");
            assert!(body["error"].as_str().unwrap().starts_with("nonce:"), "{body}");
        }
    }

    #[test]
    fn work_is_done_and_bounded() {
        assert_eq!(get("/work").1["fib"], 6765);
        assert_eq!(get("/work?n=10").1["fib"], 55);
        for bad in ["/work?n=31", "/work?n=-1", "/work?n=", "/work?n=x"] {
            assert_eq!(get(bad).0, 400, "{bad}");
        }
    }

    #[test]
    fn probes_answer() {
        assert_eq!(get("/healthz").0, 200);
        assert_eq!(get("/readyz").0, 200);
    }

    #[test]
    fn other_paths_and_methods_are_refused() {
        assert_eq!(get("/nothing").0, 404);
        let post = Request { method: "POST", path: "/", query: "" };
        assert_eq!(demo().respond(Door::Users, &post).status, 405);
        let elsewhere = Request { method: "POST", path: "/nothing", query: "" };
        assert_eq!(demo().respond(Door::Users, &elsewhere).status, 404);
    }

    #[test]
    fn metrics_have_a_door_of_their_own() {
        let ask = |door, method, path| demo().respond(door, &Request { method, path, query: "" }).status;
        assert_eq!(ask(Door::Metrics, "GET", "/metrics"), 200);
        assert_eq!(ask(Door::Metrics, "POST", "/metrics"), 405);
        assert_eq!(ask(Door::Metrics, "GET", "/"), 404);
        assert_eq!(ask(Door::Users, "GET", "/metrics"), 404);
    }

    #[test]
    fn probes_and_prometheus_do_not_count() {
        let counts = |door, path| demo().counts(door, &Request { method: "GET", path, query: "" });
        assert!(counts(Door::Users, "/") && counts(Door::Users, "/nothing"));
        assert!(!counts(Door::Users, "/healthz") && !counts(Door::Users, "/readyz"));
        assert!(!counts(Door::Metrics, "/metrics"));
    }
}
