//! Bytes to request and response to bytes. No socket in here.

use std::time::SystemTime;

/// The longest request head; a longer one is answered with 431.
pub const MAX_HEAD: usize = 8 * 1024;
const MAX_HEADERS: usize = 64;

#[derive(Debug, PartialEq, Eq)]
pub struct Request<'b> {
    pub method: &'b str,
    pub path: &'b str,
    pub query: &'b str,
}

impl Request<'_> {
    /// The raw value of a query parameter; the values this service takes need no percent encoding.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find_map(|(key, value)| (key == name).then_some(value))
    }
}

/// What a connection's bytes hold so far.
#[derive(Debug)]
pub enum Parsed<'b> {
    /// Not yet a whole head.
    Incomplete,
    Complete {
        request: Request<'b>,
        /// Bytes that the request took.
        length: usize,
        keep_alive: bool,
    },
    /// Answer this and close: where the next request would start is not known.
    Refused(Response),
}

pub fn parse(input: &[u8]) -> Parsed<'_> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    match head.parse(input) {
        Ok(httparse::Status::Complete(length)) => complete(&head, length),
        Ok(httparse::Status::Partial) if input.len() < MAX_HEAD => Parsed::Incomplete,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            Parsed::Refused(Response::error(431, "the request's head is too large"))
        }
        Err(error) => Parsed::Refused(Response::error(400, &format!("not HTTP/1.x: {error}"))),
    }
}

fn complete<'b>(head: &httparse::Request<'_, 'b>, length: usize) -> Parsed<'b> {
    let (Some(method), Some(target), Some(minor)) = (head.method, head.path, head.version) else {
        return refuse("the request line is incomplete");
    };
    let count = |name: &str| head.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name)).count();
    if minor == 1 && count("host") != 1 {
        return refuse("an HTTP/1.1 request has exactly one Host header");
    }
    // Nothing here reads a body, and one that is skipped wrongly would be taken for the next request.
    let empty_body =
        head.headers.iter().filter(|h| h.name.eq_ignore_ascii_case("content-length")).all(|h| h.value == b"0");
    if !empty_body || count("transfer-encoding") != 0 {
        return match method {
            "GET" | "HEAD" => refuse("no request here has a body"),
            _ => Parsed::Refused(Response::method_not_allowed()),
        };
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if !path.starts_with('/') {
        return refuse("the target is not a path");
    }
    let keep_alive = minor == 1 && !asks_to_close(head.headers);
    Parsed::Complete { request: Request { method, path, query }, length, keep_alive }
}

fn asks_to_close(headers: &[httparse::Header<'_>]) -> bool {
    headers
        .iter()
        .filter(|h| h.name.eq_ignore_ascii_case("connection"))
        .flat_map(|h| h.value.split(|byte| *byte == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"))
}

fn refuse<'b>(why: &str) -> Parsed<'b> {
    Parsed::Refused(Response::error(400, why))
}

#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

impl Response {
    pub fn text(status: u16, body: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: format!("{body}\n").into_bytes() }
    }

    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self { status, content_type: "application/json", body: format!("{body}\n").into_bytes() }
    }

    pub fn error(status: u16, why: &str) -> Self {
        Self::json(status, &serde_json::json!({ "error": why }))
    }

    pub fn method_not_allowed() -> Self {
        Self::error(405, "only GET and HEAD are answered here")
    }

    /// Appends the bytes to send. A HEAD request gets the same head and no body.
    pub fn write(&self, output: &mut Vec<u8>, now: SystemTime, keep_alive: bool, head_only: bool) {
        let head = format!(
            "HTTP/1.1 {status} {reason}\r\nDate: {date}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{allow}{close}\r\n",
            status = self.status,
            reason = reason(self.status),
            date = httpdate::fmt_http_date(now),
            content_type = self.content_type,
            length = self.body.len(),
            allow = if self.status == 405 { "Allow: GET, HEAD\r\n" } else { "" },
            close = if keep_alive { "" } else { "Connection: close\r\n" },
        );
        output.extend_from_slice(head.as_bytes());
        if !head_only {
            output.extend_from_slice(&self.body);
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        other => unreachable!("status {other} is not one that this service sends"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "Host: a\r\n\r\n";

    fn accepted(input: &str) -> (String, String, String, usize, bool) {
        match parse(input.as_bytes()) {
            Parsed::Complete { request, length, keep_alive } => {
                let Request { method, path, query } = request;
                (method.to_owned(), path.to_owned(), query.to_owned(), length, keep_alive)
            }
            other => panic!("{input:?} gives {other:?}"),
        }
    }

    fn refused(input: &str) -> (u16, String) {
        match parse(input.as_bytes()) {
            Parsed::Refused(response) => (response.status, String::from_utf8(response.body).unwrap()),
            other => panic!("{input:?} gives {other:?}"),
        }
    }

    #[test]
    fn a_request_is_taken_apart() {
        let input = format!("GET /work?n=5&x=1 HTTP/1.1\r\n{HOST}GET /next");
        let (method, path, query, length, keep_alive) = accepted(&input);
        assert_eq!((method.as_str(), path.as_str(), query.as_str()), ("GET", "/work", "n=5&x=1"));
        assert_eq!(&input[length..], "GET /next");
        assert!(keep_alive);
    }

    #[test]
    fn parameters_are_found_by_their_whole_name() {
        let request = Request { method: "GET", path: "/", query: "an=1&n=2&n=3&flag" };
        assert_eq!(request.parameter("n"), Some("2"));
        assert_eq!(request.parameter("flag"), None);
        assert_eq!(request.parameter("missing"), None);
    }

    #[test]
    fn a_head_in_pieces_is_waited_for() {
        let whole = format!("GET / HTTP/1.1\r\n{HOST}");
        for end in 0..whole.len() {
            assert!(matches!(parse(&whole.as_bytes()[..end]), Parsed::Incomplete), "{end} bytes");
        }
    }

    #[test]
    fn a_head_without_end_is_refused() {
        let endless = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(MAX_HEAD));
        assert_eq!(refused(&endless).0, 431);
        let many = format!("GET / HTTP/1.1\r\n{}{HOST}", "X: 1\r\n".repeat(MAX_HEADERS));
        assert_eq!(refused(&many).0, 431);
    }

    #[test]
    fn the_connection_closes_when_asked_and_for_http_1_0() {
        assert!(!accepted(&format!("GET / HTTP/1.1\r\nConnection: x, Close\r\n{HOST}")).4);
        assert!(!accepted("GET / HTTP/1.0\r\n\r\n").4);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (input, why) in [
            ("\x16\x03\x01 hello\r\n\r\n".to_owned(), "not HTTP/1.x"),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), "exactly one Host"),
            (format!("GET / HTTP/1.1\r\nHost: b\r\n{HOST}"), "exactly one Host"),
            (format!("GET http://a/ HTTP/1.1\r\n{HOST}"), "not a path"),
            (format!("GET / HTTP/1.1\r\nContent-Length: 3\r\n{HOST}"), "has a body"),
            (format!("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{HOST}"), "has a body"),
        ] {
            let (status, body) = refused(&input);
            assert_eq!(status, 400, "{input:?}");
            assert!(body.contains(why), "{input:?} gives {body:?}");
        }
    }

    #[test]
    fn another_method_with_a_body_is_refused_for_its_method() {
        assert_eq!(refused(&format!("POST / HTTP/1.1\r\nContent-Length: 3\r\n{HOST}abc")).0, 405);
    }

    #[test]
    fn an_empty_body_is_none() {
        accepted(&format!("GET / HTTP/1.1\r\nContent-Length: 0\r\n{HOST}"));
    }

    fn written(response: &Response, keep_alive: bool, head_only: bool) -> String {
        let mut output = Vec::new();
        response.write(&mut output, SystemTime::UNIX_EPOCH, keep_alive, head_only);
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn a_response_says_its_length_and_whether_it_closes() {
        let text = written(&Response::text(200, "ok"), true, false);
        assert_eq!(
            text,
            "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n\r\nok\n"
        );
        assert!(written(&Response::text(200, "ok"), false, false).contains("\r\nConnection: close\r\n"));
        assert!(written(&Response::method_not_allowed(), true, false).contains("\r\nAllow: GET, HEAD\r\n"));
    }

    #[test]
    fn a_head_response_has_the_length_and_no_body() {
        let text = written(&Response::text(200, "ok"), true, true);
        assert!(text.contains("Content-Length: 3") && text.ends_with("\r\n\r\n"), "{text}");
    }
}
