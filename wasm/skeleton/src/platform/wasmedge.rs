//! WasmEdge: its socket calls, which are extensions of WASI preview 1, and poll_oneoff.

use std::io;
use std::time::Duration;

use wasmedge_wasi_socket::wasi_poll as wasi;
use wasmedge_wasi_socket::{Ipv4Addr, Shutdown};
pub use wasmedge_wasi_socket::{TcpListener as Listener, TcpStream as Stream};

use super::{Interest, Wait};

pub const NAME: &str = "wasm32-wasip1";

/// The token of the timer among the subscriptions.
const TIMER: u64 = u64::MAX;

pub fn listen(port: u16) -> io::Result<Listener> {
    Listener::bind((Ipv4Addr::UNSPECIFIED, port), true)
}

pub fn accept(listener: &Listener) -> io::Result<Stream> {
    // Not Listener::accept, which also asks for the peer's address: one call more for each connection.
    listener.as_ref().accept(true).map(Stream::new)
}

/// Tells the peer that nothing more will be sent.
pub fn finish(stream: &Stream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)
}

/// Puts the tokens of what is ready into `ready`; none when the time is over.
pub fn wait(waits: &[Wait], timeout: Duration, ready: &mut Vec<usize>) -> io::Result<()> {
    ready.clear();
    let mut subscriptions = Vec::with_capacity(waits.len() + 1);
    subscriptions.push(timer(timeout));
    subscriptions.extend(waits.iter().map(descriptor));
    let mut events = vec![wasi::Event::empty(); subscriptions.len()];
    // SAFETY: both pointers are those of vectors with room for as many as the count says.
    let count = unsafe { wasi::poll(subscriptions.as_ptr(), events.as_mut_ptr(), subscriptions.len()) }?;
    ready.extend(events[..count].iter().filter(|e| e.userdata != TIMER).map(|e| e.userdata as usize));
    Ok(())
}

/// Relative and monotonic: a clock that is set does not stretch the wait.
fn timer(timeout: Duration) -> wasi::Subscription {
    wasi::Subscription {
        userdata: TIMER,
        u: wasi::SubscriptionU {
            tag: wasi::EVENTTYPE_CLOCK,
            u: wasi::SubscriptionUU {
                clock: wasi::SubscriptionClock {
                    id: wasi::CLOCKID_MONOTONIC,
                    timeout: u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX),
                    precision: 0,
                    flags: 0,
                },
            },
        },
    }
}

fn descriptor(wait: &Wait) -> wasi::Subscription {
    let target = wasi::SubscriptionFdReadwrite { file_descriptor: wait.descriptor as wasi::Fd };
    let (tag, u) = match wait.interest {
        Interest::Read => (wasi::EVENTTYPE_FD_READ, wasi::SubscriptionUU { fd_read: target }),
        Interest::Write => (wasi::EVENTTYPE_FD_WRITE, wasi::SubscriptionUU { fd_write: target }),
    };
    wasi::Subscription { userdata: wait.token as u64, u: wasi::SubscriptionU { tag, u } }
}
