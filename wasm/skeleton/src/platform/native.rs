//! Linux: `std::net` and poll(2).

use std::io;
use std::net::Shutdown;
use std::time::Duration;

pub use std::net::{TcpListener as Listener, TcpStream as Stream};

use super::{Interest, Wait};

pub const NAME: &str = "native";

pub fn listen(port: u16) -> io::Result<Listener> {
    let listener = Listener::bind(("0.0.0.0", port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

pub fn accept(listener: &Listener) -> io::Result<Stream> {
    let (stream, _) = listener.accept()?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Tells the peer that nothing more will be sent.
pub fn finish(stream: &Stream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)
}

/// Puts the tokens of what is ready into `ready`; none when the time is over.
pub fn wait(waits: &[Wait], timeout: Duration, ready: &mut Vec<usize>) -> io::Result<()> {
    ready.clear();
    let mut polled: Vec<libc::pollfd> = waits
        .iter()
        .map(|wait| libc::pollfd {
            fd: wait.descriptor,
            events: match wait.interest {
                Interest::Read => libc::POLLIN,
                Interest::Write => libc::POLLOUT,
            },
            revents: 0,
        })
        .collect();
    // Rounded up: a wait that ends a moment too early would spin until the deadline.
    let milliseconds = i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX);
    // SAFETY: the pointer and the count are those of `polled`, which outlives the call.
    let count = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, milliseconds) };
    if count < 0 {
        return Err(io::Error::last_os_error());
    }
    ready.extend(waits.iter().zip(&polled).filter(|(_, p)| p.revents != 0).map(|(wait, _)| wait.token));
    Ok(())
}
