//! One thread, many connections. Nothing here waits for a single client: sockets never block, every state has a
//! deadline, and one connection gets one answer a turn.

use std::convert::Infallible;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant, SystemTime};

use crate::http::{self, MAX_HEAD, Parsed};
use crate::platform::{self, Interest, Listener, Stream, Wait};
use crate::routes::{Door, Service};

/// Beyond this the connection that has waited longest for a request gives way to the new one.
pub const MAX_CONNECTIONS: usize = 256;

/// How long a client may take for each thing.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From accepting, or from the first byte of a later request, to the end of its head.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// To take a response.
    pub response: Duration,
    /// To read the last response before the connection is gone.
    pub farewell: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(5),
            idle: Duration::from_secs(60),
            response: Duration::from_secs(10),
            farewell: Duration::from_secs(1),
        }
    }
}

pub struct Server {
    /// Where connections come in, and whose.
    doors: Vec<(Listener, Door)>,
    service: Service,
    patience: Patience,
    connections: Vec<Option<Connection>>,
    /// When accepting goes on after it failed for want of a resource.
    accept_again: Instant,
}

/// From here on tokens are those of the doors, in their order; a connection's is its place in the table.
const DOORS: usize = usize::MAX / 2;
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Server {
    pub fn new(listener: Listener, service: Service, patience: Patience) -> Self {
        let (doors, connections) = (vec![(listener, Door::Users)], Vec::new());
        Self { doors, service, patience, connections, accept_again: Instant::now() }
    }

    /// The same, with a port where Prometheus asks.
    pub fn with_metrics(mut self, listener: Listener) -> Self {
        self.doors.push((listener, Door::Metrics));
        self
    }

    /// Serves until waiting itself fails.
    pub fn run(&mut self) -> io::Result<Infallible> {
        let (mut waits, mut ready) = (Vec::new(), Vec::new());
        loop {
            let timeout = self.plan(&mut waits, Instant::now());
            match platform::wait(&waits, timeout, &mut ready) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                Err(_) => continue,
                Ok(()) => self.turn(&ready),
            }
        }
    }

    /// What to wait for, and for how long at most.
    fn plan(&self, waits: &mut Vec<Wait>, now: Instant) -> Duration {
        waits.clear();
        let mut timeout = LONGEST_WAIT;
        if self.accept_again <= now {
            for (number, (listener, _)) in self.doors.iter().enumerate() {
                let descriptor = listener.as_raw_fd();
                waits.push(Wait { token: DOORS + number, descriptor, interest: Interest::Read });
            }
        } else {
            timeout = self.accept_again - now;
        }
        for (token, connection) in self.open() {
            let descriptor = connection.stream.as_raw_fd();
            waits.push(Wait { token, descriptor, interest: connection.interest() });
            timeout = timeout.min(connection.left(now));
        }
        timeout
    }

    fn open(&self) -> impl Iterator<Item = (usize, &Connection)> {
        self.connections.iter().enumerate().filter_map(|(token, slot)| Some((token, slot.as_ref()?)))
    }

    fn turn(&mut self, ready: &[usize]) {
        let now = Instant::now();
        for token in ready {
            if let Some(Some(connection)) = self.connections.get_mut(*token) {
                connection.due = true;
            }
        }
        for slot in &mut self.connections {
            let Some(connection) = slot else { continue };
            // A reset by the peer is the end of this connection and nothing else.
            let open = connection.advance(&mut self.service, &self.patience, now).unwrap_or(false);
            if !open || connection.deadline <= now {
                *slot = None;
            }
        }
        for number in 0..self.doors.len() {
            if ready.contains(&(DOORS + number)) {
                self.accept(number, now);
            }
        }
    }

    /// Takes what has queued up at a door, so that a burst does not wait one turn each.
    fn accept(&mut self, number: usize, now: Instant) {
        for _ in 0..MAX_CONNECTIONS {
            let Some(token) = self.free_slot() else { return };
            let (listener, door) = &self.doors[number];
            match platform::accept(listener) {
                Ok(stream) => self.connections[token] = Some(Connection::new(stream, *door, now, &self.patience)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(error) => {
                    // No descriptors or no memory: the listener stays ready, so without a pause this would spin.
                    eprintln!("skeleton: can't accept a connection, pausing: {error}");
                    self.accept_again = now + ACCEPT_PAUSE;
                    return;
                }
            }
        }
    }

    /// A place for a new connection; when all are taken, that of the one that has waited longest for a request.
    fn free_slot(&mut self) -> Option<usize> {
        if let Some(token) = self.connections.iter().position(Option::is_none) {
            return Some(token);
        }
        if self.connections.len() < MAX_CONNECTIONS {
            self.connections.push(None);
            return Some(self.connections.len() - 1);
        }
        let waiting = self.open().filter(|(_, connection)| connection.state == State::Receiving && !connection.due);
        let (token, _) = waiting.min_by_key(|(_, connection)| connection.since)?;
        self.connections[token] = None;
        Some(token)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waits for a whole request head.
    Receiving,
    /// Has output that the client has not yet taken.
    Responding,
    /// The last response is out: what still comes in is dropped until the client has closed. To close at once would
    /// reset the connection, and the client might never see the response.
    Leaving,
}

struct Connection {
    stream: Stream,
    door: Door,
    state: State,
    /// When the state began, and when the client must have brought it to an end.
    since: Instant,
    deadline: Instant,
    /// There is something to do in this turn: the socket is ready, or a further request has already been read.
    due: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    /// The response in `output` is this connection's last.
    last: bool,
    /// The status of the response in `output` and when its request was there, if it is one that counts.
    counted: Option<(u16, Instant)>,
}

impl Connection {
    fn new(stream: Stream, door: Door, now: Instant, patience: &Patience) -> Self {
        Self {
            stream,
            door,
            state: State::Receiving,
            since: now,
            deadline: now + patience.head,
            due: false,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            last: false,
            counted: None,
        }
    }

    fn interest(&self) -> Interest {
        match self.state {
            State::Receiving | State::Leaving => Interest::Read,
            State::Responding => Interest::Write,
        }
    }

    /// How long this connection can be left alone.
    fn left(&self, now: Instant) -> Duration {
        if self.due { Duration::ZERO } else { self.deadline.saturating_duration_since(now) }
    }

    fn enter(&mut self, state: State, now: Instant, patience: Duration) {
        self.state = state;
        self.since = now;
        self.deadline = now + patience;
    }

    /// Goes as far as it can without waiting, by one answer at most; false when the connection is over.
    fn advance(&mut self, service: &mut Service, patience: &Patience, now: Instant) -> io::Result<bool> {
        if !std::mem::take(&mut self.due) {
            return Ok(true);
        }
        if self.state == State::Leaving {
            return self.drop_input();
        }
        if self.state == State::Receiving && !self.answer(service, patience, now) {
            if !self.receive(patience, now)? {
                return Ok(false);
            }
            self.answer(service, patience, now);
        }
        if self.state == State::Responding {
            self.send(service, patience, now)?;
        }
        Ok(true)
    }

    /// Reads what is there; false when the client has closed.
    fn receive(&mut self, patience: &Patience, now: Instant) -> io::Result<bool> {
        let begins = self.input.is_empty();
        let mut chunk = [0; MAX_HEAD];
        // Never empty: an input that is full is either answered or refused before it comes to this.
        let room = MAX_HEAD - self.input.len();
        let Some(count) = unless_it_would_block(self.stream.read(&mut chunk[..room]))? else {
            return Ok(true);
        };
        self.input.extend_from_slice(&chunk[..count]);
        if begins && count > 0 {
            self.enter(State::Receiving, now, patience.head);
        }
        Ok(count > 0)
    }

    /// Answers the request at the front of the input; false when there is no whole one yet.
    fn answer(&mut self, service: &Service, patience: &Patience, now: Instant) -> bool {
        let (response, length, keep_alive, head_only, counts) = match http::parse(&self.input) {
            Parsed::Incomplete => return false,
            Parsed::Refused(response) => (response, self.input.len(), false, false, self.door == Door::Users),
            Parsed::Complete { request, length, keep_alive } => {
                let counts = service.counts(self.door, &request);
                (service.respond(self.door, &request), length, keep_alive, request.method == "HEAD", counts)
            }
        };
        // From the turn's begin: what waited for others of the same turn has waited.
        self.counted = counts.then_some((response.status, now));
        response.write(&mut self.output, SystemTime::now(), keep_alive, head_only);
        self.input.drain(..length);
        self.last = !keep_alive;
        self.enter(State::Responding, now, patience.response);
        true
    }

    /// Sends what the client takes, and goes on to the next state when it has taken all.
    fn send(&mut self, service: &mut Service, patience: &Patience, now: Instant) -> io::Result<()> {
        while self.sent < self.output.len() {
            let Some(count) = unless_it_would_block(self.stream.write(&self.output[self.sent..]))? else {
                return Ok(());
            };
            if count == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            self.sent += count;
        }
        self.output.clear();
        self.sent = 0;
        if let Some((status, asked)) = self.counted.take() {
            service.answered(status, asked.elapsed());
        }
        if self.last {
            platform::finish(&self.stream)?;
            self.enter(State::Leaving, now, patience.farewell);
        } else if self.input.is_empty() {
            self.enter(State::Receiving, now, patience.idle);
        } else {
            self.due = true;
            self.enter(State::Receiving, now, patience.head);
        }
        Ok(())
    }

    /// False when the client has closed.
    fn drop_input(&mut self) -> io::Result<bool> {
        let mut chunk = [0; MAX_HEAD];
        let count = unless_it_would_block(self.stream.read(&mut chunk))?;
        Ok(count != Some(0))
    }
}

fn unless_it_would_block(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}
