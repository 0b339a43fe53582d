//! The socket calls that differ: both modules have the same names, and `server` knows only these.

#[cfg(unix)]
mod native;
#[cfg(unix)]
pub use native::*;

#[cfg(target_os = "wasi")]
mod wasmedge;
#[cfg(target_os = "wasi")]
pub use wasmedge::*;

/// What to wait for on one file descriptor. A hangup or an error counts as ready: the next call tells which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    Read,
    Write,
}

/// One file descriptor to wait for; `token` comes back when it is ready.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    pub token: usize,
    pub descriptor: std::os::fd::RawFd,
    pub interest: Interest,
}
