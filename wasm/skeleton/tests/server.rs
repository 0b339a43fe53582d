//! The server over real sockets, on loopback.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use skeleton::config::Config;
use skeleton::routes::Service;
use skeleton::server::{MAX_CONNECTIONS, Patience, Server};

const SOON: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(30);

/// A server of its own for each test; its thread ends with the test process.
fn start(patience: Patience) -> SocketAddr {
    start_with_metrics(patience).0
}

/// The same, and where it tells its metrics.
fn start_with_metrics(patience: Patience) -> (SocketAddr, SocketAddr) {
    let (listener, address) = listen();
    let (metrics, metrics_address) = listen();
    let mut server = Server::new(listener, Service::new(&Config::of("demo")), patience).with_metrics(metrics);
    thread::spawn(move || server.run());
    (address, metrics_address)
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn patient() -> Patience {
    Patience { head: LONG, idle: LONG, response: LONG, farewell: LONG }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

fn request(target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: demo\r\n{headers}\r\n")
}

/// One response from a connection that stays open: its head and as many bytes as that announces.
fn receive(stream: &mut TcpStream) -> String {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
    let head = String::from_utf8(seen).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    head + std::str::from_utf8(&body).unwrap()
}

fn ask(stream: &mut TcpStream, target: &str) -> String {
    stream.write_all(request(target, "").as_bytes()).unwrap();
    receive(stream)
}

/// True when the server has closed or reset the connection.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn one_connection_carries_many_requests() {
    let mut stream = connect(start(patient()));
    for nonce in ["one", "two", "three"] {
        let response = ask(&mut stream, &format!("/?nonce={nonce}"));
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(response.contains(&format!("\"nonce\":\"{nonce}\"")), "{response}");
    }
}

#[test]
fn requests_are_counted_and_probes_are_not() {
    let (address, metrics) = start_with_metrics(patient());
    let mut stream = connect(address);
    for target in ["/", "/healthz", "/work?n=25", "/readyz", "/nothing"] {
        ask(&mut stream, target);
    }
    let text = ask(&mut connect(metrics), "/metrics");
    assert!(text.contains("\r\nContent-Type: text/plain; version=0.0.4"), "{text}");
    assert!(text.contains("edgefleet_requests_total{code=\"200\"} 2\n"), "{text}");
    assert!(text.contains("edgefleet_requests_total{code=\"404\"} 1\n"), "{text}");
    assert!(text.contains("edgefleet_request_duration_seconds_count 3\n"), "{text}");
}

#[test]
fn refused_requests_count() {
    let (address, metrics) = start_with_metrics(patient());
    let mut stream = connect(address);
    stream.write_all(b"no HTTP at all\r\n\r\n").unwrap();
    assert!(receive(&mut stream).starts_with("HTTP/1.1 400 "));
    let text = ask(&mut connect(metrics), "/metrics");
    assert!(text.contains("code=\"400\"} 1\n"), "{text}");
}

#[test]
fn requests_sent_together_are_all_answered_in_order_even_when_the_client_stops_sending() {
    let mut stream = connect(start(patient()));
    let all: String = (0..20).map(|n| request(&format!("/work?n={n}"), "")).collect();
    stream.write_all(all.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    for n in 0..20 {
        let response = receive(&mut stream);
        assert!(response.ends_with(&format!("\"n\":{n}}}\n")), "{response}");
    }
    assert!(is_closed(&mut stream));
}

#[test]
fn a_request_in_pieces_is_put_together() {
    let mut stream = connect(start(patient()));
    for byte in request("/healthz", "").bytes() {
        stream.write_all(&[byte]).unwrap();
    }
    assert!(receive(&mut stream).ends_with("ok\n"));
}

#[test]
fn a_refused_request_is_answered_before_the_connection_closes() {
    let mut stream = connect(start(patient()));
    // More than fits into the server's buffer, so that a careless close would reset the connection.
    let body = "x".repeat(200_000);
    let head = format!("POST / HTTP/1.1\r\nHost: demo\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 405 "), "{response}");
    assert!(response.contains("\r\nConnection: close\r\n"), "{response}");
}

#[test]
fn the_connection_closes_when_the_client_asks() {
    let mut stream = connect(start(patient()));
    stream.write_all(request("/", "Connection: close\r\n").as_bytes()).unwrap();
    assert!(receive(&mut stream).contains("\r\nConnection: close\r\n"));
    assert!(is_closed(&mut stream));
}

#[test]
fn a_head_without_end_is_refused() {
    let mut stream = connect(start(patient()));
    let head = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(10_000));
    stream.write_all(head.as_bytes()).unwrap();
    assert!(receive(&mut stream).starts_with("HTTP/1.1 431 "));
}

#[test]
fn stuck_clients_do_not_hold_up_the_others() {
    let address = start(patient());
    let silent: Vec<TcpStream> = (0..50).map(|_| connect(address)).collect();
    let halfway: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = connect(address);
            stream.write_all(b"GET / HTTP/1.1\r\nHost: de").unwrap();
            stream
        })
        .collect();
    // Asks for much and takes nothing.
    let mut greedy = connect(address);
    greedy.set_write_timeout(Some(SOON)).unwrap();
    let many = request("/", "").repeat(1000);
    while greedy.write_all(many.as_bytes()).is_ok() {}

    let begin = Instant::now();
    let mut stream = connect(address);
    assert!(ask(&mut stream, "/healthz").ends_with("ok\n"));
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    drop((silent, halfway, greedy));
}

#[test]
fn a_client_that_trickles_its_request_is_cut_off() {
    let mut stream = connect(start(Patience { head: SOON, ..patient() }));
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(5) {
        // Each byte would restart a deadline that counted from the last one.
        if stream.write_all(b"G").is_err() {
            return;
        }
        thread::sleep(SOON / 6);
    }
    panic!("still connected after {:?}", begin.elapsed());
}

#[test]
fn a_client_that_sends_nothing_is_cut_off_at_first_and_between_requests() {
    let mut silent = connect(start(Patience { head: SOON, ..patient() }));
    assert!(is_closed(&mut silent));
    let mut idle = connect(start(Patience { idle: SOON, ..patient() }));
    ask(&mut idle, "/healthz");
    assert!(is_closed(&mut idle));
}

#[test]
fn a_client_that_takes_no_response_is_cut_off() {
    let mut greedy = connect(start(Patience { response: SOON, ..patient() }));
    greedy.set_write_timeout(Some(LONG)).unwrap();
    let many = request("/", "").repeat(1000);
    let begin = Instant::now();
    while greedy.write_all(many.as_bytes()).is_ok() {}
    assert!(begin.elapsed() < LONG / 2, "{:?}", begin.elapsed());
}

#[test]
fn when_all_places_are_taken_the_longest_waiting_client_gives_way() {
    let address = start(patient());
    let mut first = connect(address);
    ask(&mut first, "/healthz");
    thread::sleep(Duration::from_millis(20));
    let mut others: Vec<TcpStream> = (1..MAX_CONNECTIONS).map(|_| connect(address)).collect();
    ask(others.last_mut().unwrap(), "/healthz");
    assert!(ask(&mut connect(address), "/healthz").ends_with("ok\n"));
    assert!(is_closed(&mut first));
    assert!(ask(&mut others[MAX_CONNECTIONS - 2], "/healthz").ends_with("ok\n"));
}
