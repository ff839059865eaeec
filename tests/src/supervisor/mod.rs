//! The process that owns a platform's programs.
//!
//! As root it is the first process of namespaces of its own (process ids, mounts, network), so that its end, however it
//! comes, ends every program, mount and interface with it. It restarts nothing: a program that ends by itself is
//! reported with its last log lines.

pub mod client;
pub mod daemon;
mod isolation;
mod launch;
mod protocol;
pub mod record;
mod table;

pub use launch::ids;

/// The name of the control socket in the state folder.
const SOCKET: &str = "control.sock";

/// Every process of a platform carries its id in this environment variable, and those that overwrite their environment
/// (Redis) are in the [`record`]: so none is ever lost.
pub const MARKER: &str = "AGENT_READY_PLATFORM";

/// The path by which a socket in a deep folder is short enough for `sockaddr_un` (108 bytes).
fn short_path(folder: &std::fs::File) -> std::path::PathBuf {
    use std::os::fd::AsRawFd as _;
    std::path::PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()))
}
